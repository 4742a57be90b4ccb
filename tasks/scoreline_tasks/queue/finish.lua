#!lua flags=allow-oom
-- Give requests their answers: the first to finish wins, everyone else changes nothing.
--
-- KEYS[1] the lane's stream, KEYS[2] the attempts hash, KEYS[3] how many more callers than entries wait in the
--   lane, then for each request its result key and its caller's reply list (the result key once more for a
--   request that wants no reply)
-- ARGV[1] the group, then for each request its entry id, its own id, the answer ('' if it was stored just
--   before), what goes on the reply list ('' for the answer itself), milliseconds that its result stays,
--   milliseconds that the reply list does, and how many callers share it
-- Returns how many of them were first.
--
-- Attempts are forgotten by whoever brings an answer, first or not: who comes second may have counted
-- one after the first was done.
-- Where an answer should be stored and is not, the server had no memory for it: its request stays.
-- XACK comes first: it returns 1 for just one of all those that hold the entry, and a request that
-- was queued twice (a lost reply to XADD) finds its result in place. Where nobody holds it, since a consumer
-- or the group was deleted, whoever takes it out of the lane is the first. allow-oom: a full server refuses
-- new requests, but it must still take the answers to those that it has.
local won = 0
local tracked = redis.call('EXISTS', KEYS[2]) == 1
local replied, finished, extra = {}, {}, 0
local arg = 2
for key = 4, #KEYS, 2 do
  local entry, id, answer, note = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
  local result_ms, reply_ms, callers = ARGV[arg + 4], tonumber(ARGV[arg + 5]), tonumber(ARGV[arg + 6])
  arg = arg + 7
  local is_stored = answer ~= '' or redis.call('EXISTS', KEYS[key]) == 1
  if is_stored and tracked then redis.call('HDEL', KEYS[2], id) end
  local first = false
  if is_stored and redis.call('XACK', KEYS[1], ARGV[1], entry) == 1 then
    finished[#finished + 1] = entry
    first = true
  elseif is_stored then
    first = redis.call('XDEL', KEYS[1], entry) == 1
  end
  if first then
    extra = extra + callers - 1
    if answer == '' or redis.call('SET', KEYS[key], answer, 'NX', 'PX', result_ms) then
      won = won + 1
      local reply = KEYS[key + 1]
      if reply ~= KEYS[key] then
        if note == '' then note = answer end
        redis.call('RPUSH', reply, note)
        replied[reply] = math.max(replied[reply] or 0, reply_ms)
      end
    end
  end
end
if #finished > 0 then redis.call('XDEL', KEYS[1], unpack(finished)) end
for reply, reply_ms in pairs(replied) do
  redis.call('PEXPIRE', reply, reply_ms)
end
if extra > 0 and redis.call('DECRBY', KEYS[3], extra) <= 0 then redis.call('DEL', KEYS[3]) end
return won
