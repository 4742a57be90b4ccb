#!lua flags=allow-oom
-- Let whoever rescues next have what the consumer of a dead process holds, and forget that consumer.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] the dead process's consumer, ARGV[3] who holds its
--   entries meanwhile, ARGV[4] milliseconds after which entries that are not renewed are taken over
-- Returns how many there are.
local released = 0
while true do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 500, ARGV[2])
  if #held == 0 then break end
  local ids = {}
  for i, one in ipairs(held) do ids[i] = one[1] end
  -- As if they had not been renewed for that long. What is no longer in the stream is forgotten by this, too.
  local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, unpack(ids)}
  for _, word in ipairs({'IDLE', ARGV[4], 'JUSTID'}) do claim[#claim + 1] = word end
  redis.call(unpack(claim))
  released = released + #held
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return released
