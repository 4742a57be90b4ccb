-- Queue requests, the first ones, as many as the lane takes.
--
-- KEYS[1] the lane's stream, then for each request its job record's key (the stream once more for a
--   request that is no job)
-- ARGV[1] how many entries the lane may hold, then for each request: milliseconds that its job record
--   stays, how many callers share it, how many fields and values it has, and those
-- Returns for how many callers there is still room, and the ids of the entries of those requests that
--   were queued.
--
-- A job's record is "<lane's key> <entry id>": what cancelling needs to find the entry.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local queued = {0}
local arg = 2
for key = 2, #KEYS do
  local callers = tonumber(ARGV[arg + 1])
  if callers > room then break end
  room = room - callers
  local last = arg + 2 + ARGV[arg + 2]
  local entry = redis.call('XADD', KEYS[1], '*', unpack(ARGV, arg + 3, last))
  if KEYS[key] ~= KEYS[1] then
    redis.call('SET', KEYS[key], KEYS[1] .. ' ' .. entry, 'PX', ARGV[arg])
  end
  queued[#queued + 1] = entry
  arg = last + 1
end
queued[1] = math.max(room, 0)
return queued
