#!lua flags=allow-oom
-- Cancel a job: its result is "cancelled" unless it has one already.
--
-- KEYS[1] its result, KEYS[2] the lane's stream, KEYS[3] the attempts hash
-- ARGV[1] the answer, ARGV[2] milliseconds that it stays, ARGV[3] the entry's id, ARGV[4] the job's id
-- Returns 1 if the job is cancelled, 0 if it was answered before.
--
-- An entry that a worker already has stays in that worker's hands; its answer comes too late. allow-oom: to cancel
-- makes room, so the answer is short.
if #ARGV[1] > 4096 then return redis.error_reply('ERR an answer that says "cancelled" is shorter') end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('XDEL', KEYS[2], ARGV[3])
redis.call('HDEL', KEYS[3], ARGV[4])
return 1
