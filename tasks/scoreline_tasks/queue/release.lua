#!lua flags=allow-oom
-- Release the entries of a dead process's consumer to the next rescue, and delete that consumer.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] the dead process's consumer, ARGV[3] the
--   consumer that holds its entries meanwhile, ARGV[4] milliseconds after which entries that are not renewed are taken over
-- Returns how many entries it released.
local released = 0
while true do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 500, ARGV[2])
  if #pending == 0 then break end
  local ids = {}
  for i, entry in ipairs(pending) do ids[i] = entry[1] end
  -- As if they had not been renewed for that long. What is no longer in the stream is forgotten by this, too.
  local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, unpack(ids)}
  for _, word in ipairs({'IDLE', ARGV[4], 'JUSTID'}) do claim[#claim + 1] = word end
  redis.call(unpack(claim))
  released = released + #pending
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return released
