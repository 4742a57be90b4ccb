#!lua flags=no-writes
-- What is in a lane: entries, how many of them are a worker's, and the ids of the oldest and the oldest untaken one.
--
-- KEYS[1] the lane's stream; ARGV[1] the group
-- Returns both counts and both ids; '' where there is no such entry.
--
-- Ids alone leave the server: a chunk has a megabyte. The group's lag is of no use: it is unknown once an entry was
-- deleted that nobody had read.
local lane = KEYS[1]
local oldest = redis.call('XRANGE', lane, '-', '+', 'COUNT', 1)[1]
local pending, after = 0, '-'
local groups = redis.pcall('XINFO', 'GROUPS', lane)
for _, group in ipairs(groups.err and {} or groups) do
  local fact = {}
  for i = 1, #group, 2 do fact[group[i]] = group[i + 1] end
  if fact['name'] == ARGV[1] then
    pending, after = fact['pending'], '(' .. fact['last-delivered-id']
  end
end
local untaken = redis.call('XRANGE', lane, after, '+', 'COUNT', 1)[1]
return { redis.call('XLEN', lane), pending, oldest and oldest[1] or '', untaken and untaken[1] or '' }
