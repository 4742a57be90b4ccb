-- Whether a request that was queued is lost: neither it nor an answer to it is there.
--
-- KEYS[1] the lane's stream, KEYS[2] the request's result; ARGV[1] the group, ARGV[2] the entry's id
-- Returns 1 if it is lost, else 0.
--
-- Without reading the entry: who may read one may read them all. What was handed to a worker is pending until it
-- leaves the lane; what was not comes after the last that was.
local function numbers(id)
  local ms, place = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(place)
end

if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local length = redis.call('XLEN', KEYS[1])
if length == 0 then return 1 end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
  if facts['name'] == ARGV[1] then
    if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) > 0 then return 0 end
    if length <= facts['pending'] then return 1 end
    local last_ms, last_place = numbers(facts['last-delivered-id'])
    local ms, place = numbers(ARGV[2])
    local was_handed_out = ms < last_ms or (ms == last_ms and place <= last_place)
    return was_handed_out and 1 or 0
  end
end
return 0
