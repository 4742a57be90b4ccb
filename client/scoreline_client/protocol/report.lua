-- Store a process's report, and add what the process has counted since the one before to the queue's totals.
--
-- KEYS[1] the report, KEYS[2] the names of processes, KEYS[3] the totals
-- ARGV[1] the process's name, ARGV[2] its report, ARGV[3] its time, ARGV[4] seconds that it stays, ARGV[5] the
--   number of these counts, ARGV[6] versions of which totals are kept, then for each count: model and version, the
--   rest of its field, and by how much it grows
-- Returns whether the counts were new.
--
-- Counts of which no reply arrived are sent again under their number, which the report holds: they count once.
-- The name is listed with the first report, and again now and then: a reader may have taken it for a dead one's.
-- What is in the hash by mistake keeps no report from being stored.
local report, processes, totals = KEYS[1], KEYS[2], KEYS[3]
local before = redis.call('SET', report, ARGV[2], 'EX', ARGV[4], 'GET')
local counted = tonumber(before and string.match(before, '"counted":(%d+)')) or 0
if not before or ARGV[5] % 5 == 0 then redis.call('ZADD', processes, ARGV[3], ARGV[1]) end
if tonumber(ARGV[5]) <= counted then return 0 end
if #ARGV < 7 then return 1 end

local NOBODY, IDLE_S = '|', 3600
local now = tonumber(redis.call('TIME')[1])

-- Under which model and version a version counts: where there are too many, one that has been idle makes room.
local function place(version)
  if version == NOBODY then return NOBODY end
  local seen = 'seen|' .. version
  if redis.call('HEXISTS', totals, seen) == 0 then
    local stored = redis.call('HGETALL', totals)
    local count, oldest, since = 0, nil, now - IDLE_S
    for i = 1, #stored, 2 do
      local other = string.match(stored[i], '^seen|([^|]*|[^|]*)$')
      if other then
        count = count + 1
        local at = tonumber(stored[i + 1]) or 0
        if at < since then oldest, since = other, at end
      end
    end
    if count >= tonumber(ARGV[6]) then
      if not oldest then return NOBODY end
      local start = oldest .. '|'
      redis.call('HDEL', totals, 'seen|' .. oldest)
      for i = 1, #stored, 2 do
        if string.sub(stored[i], 1, #start) == start then redis.call('HDEL', totals, stored[i]) end
      end
    end
  end
  redis.call('HSET', totals, seen, now)
  return version
end

local places = {}
for i = 7, #ARGV, 3 do
  local version = ARGV[i]
  places[version] = places[version] or place(version)
  redis.pcall('HINCRBY', totals, places[version] .. '|' .. ARGV[i + 1], ARGV[i + 2])
end
return 1
