-- Note how old the oldest request is that nobody has taken, and how many there are, in each lane. Behind
-- lane_state.lua, whose function it calls.
--
-- KEYS[1] and KEYS[2] the lanes, KEYS[3] and KEYS[4] the rings of short and long steps
-- ARGV[1] the consumer group; ARGV[2] and ARGV[3] the rings' steps in seconds, ARGV[4] and ARGV[5] how many points
--   each keeps, ARGV[6] how long the rings stay, in seconds
-- Returns 1, or 0 if another process has noted this step.
--
-- A point is a JSON array: the step's beginning (Unix seconds by the server's clock), then requests and milliseconds
-- for each lane. A ring's first point is the newest. A long step has the most of its short ones. Lanes without a
-- group are as they are before the first worker: all waits. allow-oom: the rings are bounded, and a full server is
-- what an operator wants to see.
local time = redis.call('TIME')
local now_s, now_ms = tonumber(time[1]), time[1] * 1000 + math.floor(time[2] / 1000)

-- The newest point of a ring and its step; those of a clock that was ahead are dropped.
local function newest(ring, step)
  while true do
    local text = redis.call('LINDEX', ring, 0)
    if not text then return nil, -1 end
    local point = {string.match(text, '^%[(%d+),(%d+),(%d+),(%d+),(%d+)%]$')}
    if point[1] and tonumber(point[1]) <= now_s then return point, math.floor(point[1] / step) end
    redis.call('LPOP', ring)
  end
end

local _, noted = newest(KEYS[3], tonumber(ARGV[2]))
if noted == math.floor(now_s / ARGV[2]) then return 0 end

local seen = {}
for i = 1, 2 do
  local entries, pending, _, untaken = unpack(lane_state(KEYS[i], ARGV[1]))
  local oldest_ms = untaken ~= '' and math.max(0, now_ms - tonumber(string.match(untaken, '^%d+'))) or 0
  -- Also where an entry was deleted that a worker has.
  seen[#seen + 1], seen[#seen + 2] = math.max(0, entries - pending), oldest_ms
end

for i = 1, 2 do
  local ring, step = KEYS[2 + i], tonumber(ARGV[1 + i])
  local slot = math.floor(now_s / step)
  local point = {slot * step, unpack(seen)}
  local before, at = newest(ring, step)
  if at == slot then
    for n = 2, 5 do point[n] = math.max(point[n], tonumber(before[n])) end
  end
  for n = 1, 5 do point[n] = string.format('%.0f', point[n]) end
  local text = '[' .. table.concat(point, ',') .. ']'
  if at == slot then
    redis.call('LSET', ring, 0, text)
  else
    redis.call('LPUSH', ring, text)
    redis.call('LTRIM', ring, 0, ARGV[3 + i] - 1)
  end
  redis.call('EXPIRE', ring, ARGV[6])
end
return 1
