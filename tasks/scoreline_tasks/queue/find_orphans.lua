-- Find requests that nobody has: they were delivered, and their consumer was deleted with its list of them.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] the consumer that gets them, ARGV[3] milliseconds for which
-- they seem to be idle, so that a rescue takes them over; ARGV[4] between how many of the oldest that somebody has, and
-- how many of them at the most
-- Returns how many there were.
--
-- Entries leave a lane when they are answered, so sooner or later the oldest ones are those that nobody has. Only their
-- bodies are read: a delivered entry between two neighbours of the list of those that somebody has is one of them.
local most, last = tonumber(ARGV[4])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
  if facts.name == ARGV[1] then last = facts['last-delivered-id'] end
end
if not last or last == '0-0' then return 0 end
local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', most)
local from, found = '-', 0
for i = 1, #held + 1 do
  local to = held[i] and '(' .. held[i][1] or last
  -- Behind a list that is not complete there may be others that somebody has.
  while found < most and (held[i] or #held < most) do
    local entry = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)[1]
    if not entry then break end
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry[1], 'IDLE', ARGV[3], 'FORCE', 'JUSTID')
    from, found = '(' .. entry[1], found + 1
  end
  if held[i] then from = '(' .. held[i][1] end
end
return found
