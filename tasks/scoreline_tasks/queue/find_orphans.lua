-- Find requests that nobody has: they were delivered, and their consumer was deleted with its list of them.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] the consumer that gets them, ARGV[3] milliseconds for which
-- they seem to be idle, so that a rescue takes them over; ARGV[4] how many of the oldest entries are looked at
-- Returns how many there were.
--
-- Entries leave a lane when they are answered, so sooner or later the oldest ones are those that nobody has.
local last
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
  if facts.name == ARGV[1] then last = facts['last-delivered-id'] end
end
if not last or last == '0-0' then return 0 end
local found = 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', last, 'COUNT', ARGV[4])) do
  local id = entry[1]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'FORCE', 'JUSTID')
    found = found + 1
  end
end
return found
