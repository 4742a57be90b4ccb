#!lua flags=allow-oom
-- Run a command that a server whose memory is full would refuse.
--
-- KEYS[1] the command's only key; ARGV[1] what stands before the key, such as "XGROUP CREATE", then what
--   stands after it
-- Returns the command's reply.
--
-- Whoever may queue a request may run this script, too: it adds nothing to a stream, and nothing large.
local command, bytes = {}, 0
for word in string.gmatch(ARGV[1], '%S+') do command[#command + 1] = word end
command[#command + 1] = KEYS[1]
for i = 2, #ARGV do
  command[#command + 1] = ARGV[i]
  bytes = bytes + #ARGV[i]
end
if string.upper(command[1]) == 'XADD' or bytes > 1048576 then return redis.error_reply('OOM the server is full') end
return redis.call(unpack(command))
