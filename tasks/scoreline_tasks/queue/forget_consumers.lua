-- Remove consumers of dead processes from a lane's group. One that still holds requests stays: to
-- delete it would drop them.
--
-- KEYS[1] the lane's stream; ARGV[1] the group, ARGV[2] idle milliseconds after which one is dead,
-- ARGV[3] the only one to look at, or an empty string for all
-- Returns how many were removed.
local removed = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end -- no drain has made the lane's group yet
for _, consumer in ipairs(consumers) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  local meant = ARGV[3] == '' or ARGV[3] == facts.name
  if meant and facts.pending == 0 and facts.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts.name)
    removed = removed + 1
  end
end
return removed
