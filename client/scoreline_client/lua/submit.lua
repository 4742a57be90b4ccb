-- Queue requests, as many as the lane takes.
--
-- KEYS[1] the lane's stream, then for each request its job record's key (the stream once more for a
--   request that is no job)
-- ARGV[1] how many entries the lane may hold, then for each request: milliseconds that its job record
--   stays, how many fields and values it has, and those
-- Returns the ids of the entries of those that were queued, the first ones; the others were not.
--
-- A job's record is "<lane's key> <entry id>": what cancelling needs to find the entry.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local queued = {}
local arg = 2
for key = 2, #KEYS do
  if #queued >= room then break end
  local last = arg + 1 + ARGV[arg + 1]
  local entry = redis.call('XADD', KEYS[1], '*', unpack(ARGV, arg + 2, last))
  if KEYS[key] ~= KEYS[1] then
    redis.call('SET', KEYS[key], KEYS[1] .. ' ' .. entry, 'PX', ARGV[arg])
  end
  queued[#queued + 1] = entry
  arg = last + 1
end
return queued
