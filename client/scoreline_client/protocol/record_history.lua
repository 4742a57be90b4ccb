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
    point[0] = text
    if point[1] and tonumber(point[1]) <= now_s then return point, math.floor(point[1] / step) end
    redis.call('LPOP', ring)
  end
end

local _, noted = newest(KEYS[3], tonumber(ARGV[2]))
if noted == math.floor(now_s / ARGV[2]) then return 0 end

local seen = {}
for i = 1, 2 do
  local waiting, oldest_ms = 0, 0
  if redis.call('XLEN', KEYS[i]) > 0 then
    local entries, pending, _, untaken = unpack(lane_state(KEYS[i], ARGV[1]))
    -- Also where an entry was deleted that a worker has.
    waiting = math.max(0, entries - pending)
    if untaken ~= '' then oldest_ms = math.max(0, now_ms - tonumber(string.match(untaken, '^%d+'))) end
  end
  seen[#seen + 1], seen[#seen + 2] = waiting, oldest_ms
end

for i = 1, 2 do
  local ring, step = KEYS[2 + i], tonumber(ARGV[1 + i])
  local slot = math.floor(now_s / step)
  local point = {slot * step, unpack(seen)}
  local before, at
  if i == 2 then before, at = newest(ring, step) end -- a short step is a new one
  if at == slot then
    for n = 2, 5 do point[n] = math.max(point[n], tonumber(before[n])) end
  end
  for n = 1, 5 do point[n] = string.format('%.0f', point[n]) end
  local text = '[' .. table.concat(point, ',') .. ']'
  if at ~= slot then
    local length, most = redis.call('LPUSH', ring, text), tonumber(ARGV[3 + i])
    if length > most then redis.call('LTRIM', ring, 0, most - 1) end
    if i == 2 then
      for n = 3, 4 do redis.call('EXPIRE', KEYS[n], ARGV[6]) end
    end
  elseif text ~= before[0] then
    redis.call('LSET', ring, 0, text)
  end
end
return 1
