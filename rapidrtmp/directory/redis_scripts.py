"""
What is done in Redis or Valkey, one script each, so that none sees the half of another.

Of each name there are two hashes: ``lease`` has its owner and fence, and ends with time; ``last`` has those of the last
owner, for a day longer, without a node where it was given back. ``nodes`` is a sorted set of nodes by the time until
which they live. Times are the server's, in milliseconds.

A node that is not among them, because the server was started again empty, was away for long, or was itself, learns
nothing and is given nothing until it has entered again: what others own may not be there yet either.

Every answer is one text in JSON, with fences as texts: there are numbers in Lua that JSON would round.
"""

from __future__ import annotations

__all__ = ["CLAIM", "FIND", "LEAVE", "MOVE", "NAMES", "NODES", "RELEASE", "RENEW"]

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

#: KEYS[1] is ``nodes``, ARGV[1] this node's member of it.
_KNOWN = (
    _NOW
    + """
local until_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ms or tonumber(until_ms) < now then return '["unknown"]' end
"""
)

#: KEYS[2] is ``lease``, KEYS[3] ``last``; ARGV[2] the node, [3] its address, [4] the lease, [5] how long
#: ``last`` stays.
_TAKE = """
local function take(last)
    local fence = string.format('%.0f', math.max(tonumber(last[3] or 0) + 1, now))
    redis.call('HSET', KEYS[2], 'node', ARGV[2], 'address', ARGV[3], 'fence', fence)
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
    redis.call('HSET', KEYS[3], 'node', ARGV[2], 'address', ARGV[3], 'fence', fence)
    redis.call('PEXPIRE', KEYS[3], ARGV[5])
    return fence
end
"""

CLAIM = (
    _KNOWN
    + _TAKE
    + """
local owner = redis.call('HMGET', KEYS[2], 'node', 'address', 'fence')
if owner[1] then return cjson.encode({'owned', owner[1], owner[2], owner[3]}) end
local last = redis.call('HMGET', KEYS[3], 'node', 'address', 'fence')
local fence = take(last)
return cjson.encode({'taken', fence, last[1] or '', last[2] or '', last[3] or '0'})
"""
)

#: ARGV[6] is the node that has agreed.
MOVE = (
    _KNOWN
    + _TAKE
    + """
local owner = redis.call('HGET', KEYS[2], 'node')
local last = redis.call('HMGET', KEYS[3], 'node', 'address', 'fence')
if (owner or last[1]) ~= ARGV[6] then return '["changed"]' end
return cjson.encode({'taken', take(last)})
"""
)

FIND = (
    _KNOWN
    + """
local owner = redis.call('HMGET', KEYS[2], 'node', 'address', 'fence')
if not owner[1] then return '["free"]' end
return cjson.encode({'owned', owner[1], owner[2], owner[3]})
"""
)

#: ARGV[2] is the node.
RELEASE = """
local owner = redis.call('HGET', KEYS[2], 'node')
if (owner or redis.call('HGET', KEYS[3], 'node')) ~= ARGV[2] then return '["changed"]' end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[3], 'node', '', 'address', '')
return '["free"]'
"""

#: KEYS[2..] are ``lease`` and ``last`` of each name, ARGV[6..] the fence of each.
RENEW = (
    _NOW
    + """
local until_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
local known = until_ms and tonumber(until_ms) >= now
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[1])
local answer = {known and 'known' or 'unknown'}
for index = 6, #ARGV do
    local lease, last = KEYS[2 * index - 10], KEYS[2 * index - 9]
    local owner = redis.call('HGET', lease, 'node')
    if not owner then
        local before = redis.call('HGET', last, 'fence')
        if not before or tonumber(before) <= tonumber(ARGV[index]) then
            redis.call('HSET', lease, 'node', ARGV[2], 'address', ARGV[3], 'fence', ARGV[index])
            redis.call('HSET', last, 'node', ARGV[2], 'address', ARGV[3], 'fence', ARGV[index])
            owner = ARGV[2]
        end
    end
    if owner == ARGV[2] then
        redis.call('PEXPIRE', lease, ARGV[4])
        redis.call('PEXPIRE', last, ARGV[5])
    else
        answer[#answer + 1] = index - 6
    end
end
return cjson.encode(answer)
"""
)

#: ARGV[4] is a pattern that the keys of ``lease`` match, [5] how many bytes of them are not of the name.
NAMES = (
    _KNOWN
    + """
local answer, cursor = {'names'}, '0'
repeat
    local found = redis.call('SCAN', cursor, 'MATCH', ARGV[4], 'COUNT', 1000)
    cursor = found[1]
    for _, key in ipairs(found[2]) do answer[#answer + 1] = string.sub(key, ARGV[5] + 1) end
until cursor == '0'
return cjson.encode(answer)
"""
)

NODES = (
    _KNOWN
    + """
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
table.insert(nodes, 1, 'nodes')
return cjson.encode(nodes)
"""
)

LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
return '["left"]'
"""
