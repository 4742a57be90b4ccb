#!lua flags=allow-oom
-- Take over entries that their consumer has not renewed, the oldest first.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] the consumer that takes them over, ARGV[3] milliseconds since the
--   last renewal, ARGV[4] how many at the most, ARGV[5] how many bytes they may hold together
-- Returns the entries. A single one may hold more bytes; those that are no longer in the stream are forgotten.
local ids, bytes = {}, 0
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local entry = redis.call('XRANGE', KEYS[1], pending[1], pending[1])[1]
  if entry then
    for _, field in ipairs(entry[2]) do bytes = bytes + #field end
    if #ids > 0 and bytes > tonumber(ARGV[5]) then break end
  end
  ids[#ids + 1] = pending[1]
end
if #ids == 0 then return {} end
return redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], unpack(ids))
