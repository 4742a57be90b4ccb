#!lua flags=allow-oom
-- Mend a lane whose ids run ahead of the server's clock: whoever may XADD may choose an id, and all later ones follow it.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] milliseconds by which an id may be ahead
-- Returns how many entries have a new id, and how many were dropped; nothing where the lane needs no mending.
--
-- An entry that is not ahead keeps its id, by which its client knows it. What is in a worker's hand is read once more:
-- the first to answer wins. No request has so many fields that unpack fails; an entry that has is dropped.
local MOST_FIELDS = 1000
local AT_ONCE, FREED_BYTES = 16, 8 * 1024 * 1024
local time = redis.call('TIME')
local latest = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
local function is_ahead(id) return tonumber(string.match(id, '^%d+')) > latest end

local facts = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #facts, 2 do
  if facts[i] == 'last-generated-id' and not is_ahead(facts[i + 1]) then return {} end
end
-- Piece by piece, so that a lane is never twice in memory: here and in its stream.
local entries, written = {}, 0
while true do
  local piece = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', AT_ONCE)
  if #piece == 0 then break end
  for _, entry in ipairs(piece) do
    table.insert(entries, entry)
    redis.call('XDEL', KEYS[1], entry[1])
  end
end
redis.call('DEL', KEYS[1])
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
local moved, dropped = 0, 0
for i, entry in ipairs(entries) do
  local id, fields = entry[1], entry[2]
  entries[i] = false
  if #fields > 2 * MOST_FIELDS then
    dropped = dropped + 1
  else
    if is_ahead(id) then
      id = '*'
      moved = moved + 1
    end
    redis.call('XADD', KEYS[1], id, unpack(fields))
  end
  for _, value in ipairs(fields) do written = written + #value end
  if written > FREED_BYTES then
    entry, fields, written = nil, nil, 0
    collectgarbage()
  end
end
return {moved, dropped}
