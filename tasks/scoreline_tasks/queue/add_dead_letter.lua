#!lua flags=allow-oom
-- Add a dead letter, the copy of a request or record that was given up, and drop the oldest ones.
--
-- KEYS[1] the dead letters; ARGV[1] milliseconds that they are kept, ARGV[2] how many there may be, ARGV[3] how
--   many bytes those behind the oldest may hold together, then the letter's fields and values
-- Returns its id. Its field `total` counts the bytes of all letters up to it, also of those that are gone.
local function total_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'total' then return tonumber(entry[2][i + 1]) or 0 end
  end
  return 0
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local total = last and total_of(last) or 0
local add = {'XADD', KEYS[1], '*'}
for i = 4, #ARGV do
  add[#add + 1] = ARGV[i]
  total = total + #ARGV[i]
end
add[#add + 1] = 'total'
add[#add + 1] = string.format('%.0f', total)
local id = redis.call(unpack(add))
local oldest = math.max(0, tonumber(string.match(id, '^%d+')) - tonumber(ARGV[1]))
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', oldest))
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[2])
while true do
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first[1] == id or total - total_of(first) <= tonumber(ARGV[3]) then break end
  redis.call('XDEL', KEYS[1], first[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return id
