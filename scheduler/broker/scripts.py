"""What happens inside Redis in one go. Each script may be sent twice: the second time it finds nothing left to do.

All scripts leave alone what is not of the type they expect: garbage in one key never stops the others.
"""

from __future__ import annotations

# Put jobs into the sorted set, whatever was known of them before.
# KEYS  1 the sorted set   2 the mark that it was filled
# ARGV  1 job prefix   2 the time, ISO   3 wake channel   4 "force" or ""   then for each job: id, due, queue, data
# A job that is queued or under way already is left alone unless forced. Answers how many were put in.
REGISTER = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local earliest, put = nil, 0
for i = 5, #ARGV, 4 do
  local id, due, queue, data = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = ARGV[1] .. id
  local status = redis.pcall('HGET', key, 'status')
  if type(status) == 'table' then status = false end
  if ARGV[4] == 'force' or (status ~= 'queued' and status ~= 'started') then
    redis.call('DEL', key)
    redis.call('HSET', key, 'data', data, 'origin', queue, 'status', 'scheduled', 'created_at', ARGV[2],
               'timeout', '604800', 'description', id)
    redis.call('ZADD', KEYS[1], due, id)
    put = put + 1
    if not earliest or tonumber(due) < earliest then earliest = tonumber(due) end
  end
end
redis.call('SET', KEYS[2], ARGV[2])
if earliest and (not head or earliest < tonumber(head)) then redis.call('PUBLISH', ARGV[3], tostring(earliest)) end
return put
"""

# Move due jobs from the sorted set to their queues.
# KEYS  1 the sorted set   2 the set of queues   3 the handover set
# ARGV  1 how many at most   2 job prefix   3 queue prefix   4 the time, ISO
# Phase 1 only reads, so that an error leaves nothing half done; phase 2 only writes what cannot fail on a type.
# Due is what the server's own clock says: hosts need not agree on the time.
# Answers: the next score ('' for none), the server's time, how many were looked at, dropped, handed over; then the ids
# of those moved.
DISPATCH = """
local t = redis.call('TIME')
local now = t[1] .. '.' .. string.format('%06d', t[2])
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
kind = redis.call('TYPE', KEYS[3]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[3]) end
kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'set' and kind ~= 'none' then redis.call('DEL', KEYS[2]) end
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local usable, names, by_queue, hand, moved, dropped = {}, {}, {}, {}, {}, 0
for i = 1, #ids do
  local id = ids[i]
  local job = redis.pcall('HMGET', ARGV[2] .. id, 'origin', 'status')
  local queue = not job.err and job[1]
  if queue and queue ~= '' and usable[queue] == nil then
    local list = redis.call('TYPE', ARGV[3] .. queue).ok
    usable[queue] = list == 'list' or list == 'none'
    names[#names + 1] = queue
    by_queue[queue] = {}
  end
  if not queue or queue == '' or not usable[queue] or not string.match(id, '^task%-%d+%-%d+$') then
    hand[#hand + 1] = now
    hand[#hand + 1] = id
  elseif job[2] ~= 'scheduled' and job[2] ~= 'created' then
    dropped = dropped + 1
  else
    local list = by_queue[queue]
    list[#list + 1] = id
    moved[#moved + 1] = id
  end
end
local function in_chunks(command, key, list)
  for s = 1, #list, 4000 do redis.call(command, key, unpack(list, s, math.min(s + 3999, #list))) end
end
for i = 1, #names do
  local list = by_queue[names[i]]
  if #list > 0 then
    redis.call('SADD', KEYS[2], ARGV[3] .. names[i])
    in_chunks('RPUSH', ARGV[3] .. names[i], list)
  end
end
for i = 1, #moved do redis.call('HSET', ARGV[2] .. moved[i], 'status', 'queued', 'enqueued_at', ARGV[4]) end
in_chunks('ZADD', KEYS[3], hand)
in_chunks('ZREM', KEYS[1], ids)
local following = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {following[2] or '', now, #ids, dropped, #hand / 2, unpack(moved)}
"""

# Take jobs out, wherever they wait.
# KEYS  1 the sorted set   2 the handover set
# ARGV  1 job prefix   2 queue prefix   then for each job: id, queue.   Answers how many were found.
WITHDRAW = """
local found = 0
for i = 3, #ARGV, 2 do
  local id, key = ARGV[i], ARGV[1] .. ARGV[i]
  local waiting = redis.pcall('ZREM', KEYS[1], id)
  redis.pcall('ZREM', KEYS[2], id)
  local status = redis.pcall('HGET', key, 'status')
  local queued = 0
  if waiting ~= 1 and status == 'queued' then queued = redis.pcall('LREM', ARGV[2] .. ARGV[i + 1], 0, id) end
  if status ~= 'started' then redis.call('DEL', key) end
  if waiting == 1 or (type(queued) == 'number' and queued > 0) then found = found + 1 end
end
return found
"""

# Finish the job a worker has done and take the next one, so that no job is ever in nobody's hands.
# KEYS  1 the queue   2 jobs under way   3 the worker's hash
# ARGV  1 job prefix   2 worker's name   3 the time, ISO   4 unix seconds at which RQ may think the next one abandoned
#       5 id of the job done ('' for none)   6 its status   7 "take" or ""
# Answers the id of the job taken, or nil.
FINISH_AND_TAKE = """
local known = redis.call('TYPE', KEYS[3]).ok == 'hash'
if ARGV[5] ~= '' then
  local key = ARGV[1] .. ARGV[5]
  redis.pcall('ZREM', KEYS[2], ARGV[5] .. ':1')
  if redis.pcall('HGET', key, 'status') == 'started' then -- else it waits again already, put off by the worker itself
    redis.call('HSET', key, 'status', ARGV[6], 'ended_at', ARGV[3])
    redis.call('EXPIRE', key, 300)
  end
  if known then
    redis.call('HDEL', KEYS[3], 'current_job')
    redis.call('HSET', KEYS[3], 'state', 'idle')
    redis.call('HINCRBY', KEYS[3], ARGV[6] == 'finished' and 'successful_job_count' or 'failed_job_count', 1)
  end
end
if ARGV[7] ~= 'take' then return false end
local id = redis.pcall('LPOP', KEYS[1])
if type(id) ~= 'string' then return false end
local key = ARGV[1] .. id
if redis.call('TYPE', key).ok == 'hash' then
  redis.call('HSET', key, 'status', 'started', 'started_at', ARGV[3], 'worker_name', ARGV[2])
  redis.call('PERSIST', key)
end
redis.pcall('ZADD', KEYS[2], ARGV[4], id .. ':1')
if known then redis.call('HSET', KEYS[3], 'state', 'busy', 'current_job', id) end
return id
"""
