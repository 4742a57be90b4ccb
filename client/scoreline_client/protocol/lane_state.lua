-- What is in a lane: entries, how many of them are a worker's, and the ids of the oldest and the oldest untaken one;
-- '' where there is no such entry. A function that scripts begin with.
--
-- Ids alone leave the server: a chunk has a megabyte. The group's lag is of no use: it is unknown once an entry was
-- deleted that nobody had read.
local function lane_state(lane, group)
  local entries = redis.call('XLEN', lane)
  local pending, after = 0, '-'
  local groups = redis.pcall('XINFO', 'GROUPS', lane)
  for _, each in ipairs(groups.err and {} or groups) do
    local fact = {}
    for i = 1, #each, 2 do fact[each[i]] = each[i + 1] end
    if fact['name'] == group then
      pending, after = fact['pending'], '(' .. fact['last-delivered-id']
    end
  end
  if entries == 0 then return { 0, pending, '', '' } end
  local oldest = redis.call('XRANGE', lane, '-', '+', 'COUNT', 1)[1]
  local untaken = redis.call('XRANGE', lane, after, '+', 'COUNT', 1)[1]
  return { entries, pending, oldest and oldest[1] or '', untaken and untaken[1] or '' }
end
