-- Queue requests, the first ones, as many as the lane takes.
--
-- KEYS[1] the lane's stream, KEYS[2] how many more callers than entries wait there, then for each request its
--   job record's key (the stream once more for a request that is no job)
-- ARGV[1] how many callers may wait in the lane, ARGV[2] how many share an entry at the most, then for each
--   request: milliseconds that its job record stays, how many callers share it, how many fields and values it
--   has, and those
-- Returns for how many callers there is still room, and the ids of the entries of those requests that
--   are queued.
--
-- A job's record is "<lane's key> <entry id>": what cancelling needs to find the entry. A job that has one is
-- queued already, by an attempt whose reply got lost.
-- KEYS[2] is read only where it may decide. Workers of earlier releases do not count it down; it never counts for
-- more than the entries can hold, and begins anew with the first entry of an empty lane.
local limit, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local entries = redis.call('XLEN', KEYS[1])
local room = limit - entries
if (entries + #KEYS - 1) * most > limit then
  local more = tonumber(redis.call('GET', KEYS[2]) or 0)
  room = room - math.max(0, math.min(more, entries * (most - 1)))
end
local queued = {0}
local more, arg = 0, 3
for key = 3, #KEYS do
  local callers, last = tonumber(ARGV[arg + 1]), arg + 2 + ARGV[arg + 2]
  local is_job = KEYS[key] ~= KEYS[1]
  local record = is_job and redis.call('GET', KEYS[key])
  local entry
  if record then
    entry = string.match(record, '[^ ]+$')
  else
    if callers > room then break end
    room = room - callers
    more = more + callers - 1
    entry = redis.call('XADD', KEYS[1], '*', unpack(ARGV, arg + 3, last))
    if is_job then redis.call('SET', KEYS[key], KEYS[1] .. ' ' .. entry, 'PX', ARGV[arg]) end
  end
  queued[#queued + 1] = entry
  arg = last + 1
end
if more > 0 then
  if entries == 0 then
    redis.call('SET', KEYS[2], more, 'PX', 86400000)
  else
    redis.call('INCRBY', KEYS[2], more)
  end
end
queued[1] = math.max(room, 0)
return queued
