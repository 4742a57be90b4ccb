-- Find orphans: entries that were delivered to a consumer which was then deleted, with its list of pending entries.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] the consumer that gets the orphans, ARGV[3] milliseconds for
-- which they seem to be idle, so that a rescue takes them over; ARGV[4] between how many of the oldest pending entries
-- to look, and how many orphans to find at the most
-- Returns how many it found.
--
-- Entries leave a lane when they are answered, so sooner or later the oldest ones are the orphans. Only their bodies
-- are read: a delivered entry between two neighbours of the list of pending entries is an orphan.
local most, last = tonumber(ARGV[4])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
  if facts.name == ARGV[1] then last = facts['last-delivered-id'] end
end
if not last or last == '0-0' then return 0 end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', most)
local from, count = '-', 0
for i = 1, #pending + 1 do
  local to = pending[i] and '(' .. pending[i][1] or last
  -- Behind a list that is not complete there may be more pending entries.
  while count < most and (pending[i] or #pending < most) do
    local entry = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)[1]
    if not entry then break end
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry[1], 'IDLE', ARGV[3], 'FORCE', 'JUSTID')
    from, count = '(' .. entry[1], count + 1
  end
  if pending[i] then from = '(' .. pending[i][1] end
end
return count
