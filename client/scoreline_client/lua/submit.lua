-- Queue requests, as many as the lane takes.
--
-- KEYS[1] the lane's stream, then for each request its job record's key (the stream once more for a
--   request that is no job)
-- ARGV[1] how many entries the lane may hold, ARGV[2] fields of each request times two,
--   then for each request: milliseconds that its job record stays, and its fields and values
-- Returns how many were queued, the first ones; the others were not.
--
-- A job's record is "<lane's key> <entry id>": what cancelling needs to find the entry.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local width = tonumber(ARGV[2])
local queued = 0
local arg = 3
for key = 2, #KEYS do
  if queued >= room then break end
  local entry = redis.call('XADD', KEYS[1], '*', unpack(ARGV, arg + 1, arg + width))
  if KEYS[key] ~= KEYS[1] then
    redis.call('SET', KEYS[key], KEYS[1] .. ' ' .. entry, 'PX', ARGV[arg])
  end
  queued = queued + 1
  arg = arg + 1 + width
end
return queued
