#!lua flags=allow-oom
-- Renew the lease of a bulk job, and count the jobs that are alive.
--
-- KEYS[1] the jobs by the time at which their lease ends; ARGV[1] the job, ARGV[2] milliseconds, 60,000
-- at the most
-- Returns 1 if the lease was still there and 0 if it is a new one, and how many jobs are alive.
--
-- The time is the server's. Members whose lease is over, or ends later than any lease can, are not counted;
-- workers remove them, and give the key a time to live. With the right to do so a caller could end
-- the leases of all others. allow-oom: a full server must not take the work of those who wait for room.
if #ARGV[1] > 64 then return redis.error_reply('ERR that is no name of a job') end
local longest = 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + math.min(tonumber(ARGV[2]), longest), ARGV[1])
local alive = redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), string.format('%.0f', now + longest))
return {(ends and tonumber(ends) > now) and 1 or 0, alive}
