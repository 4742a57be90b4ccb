#!lua flags=allow-oom
-- Renew the lease of a bulk job, and count the jobs that are alive.
--
-- KEYS[1] the jobs by the time at which their lease ends; ARGV[1] the job, ARGV[2] milliseconds
-- Returns 1 if the lease was still there and 0 if it is a new one, and how many jobs are alive.
--
-- The time is the server's. The key goes with the last lease, so that nothing stays of jobs whose
-- clients died. allow-oom: a full server must not take the work of those who wait for room.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local new = redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {1 - new, redis.call('ZCARD', KEYS[1])}
