#!lua flags=allow-oom
-- Run a command that a server whose memory is full would refuse.
--
-- KEYS[1] the command's only key; ARGV[1] what stands before the key, such as "XGROUP CREATE", then what
--   stands after it
-- Returns the command's reply.
local command = {}
for word in string.gmatch(ARGV[1], '%S+') do command[#command + 1] = word end
command[#command + 1] = KEYS[1]
for i = 2, #ARGV do command[#command + 1] = ARGV[i] end
return redis.call(unpack(command))
