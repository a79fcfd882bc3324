#!lua name=tradingbot_v1

-- One function is one atomic step. An error inside a function leaves its earlier writes standing, therefore every
-- function checks all it can before its first write. Payloads are passed through as they are; numbers stay below
-- 2^53 and are written with %.0f.

local COMMIT_TTL_MS = 10 * 60 * 1000
-- Lua hands at most some 8,000 values to one call; what would need more is refused before anything is written.
local MAX_VALUES = 7900
local MODE_RANK = { NORMAL = 0, REDUCE_ONLY = 1, HALT = 2 }
-- What names this very text; put in when it is loaded.
local DIGEST = '@DIGEST@'

local function text_of(number)
    return string.format('%.0f', number)
end

-- The number that a field holds in digits alone; nil when it is absent or anything else.
local function whole(text)
    return text and string.match(text, '^%d+$') and tonumber(text) or nil
end

local function type_of(key)
    local reply = redis.call('TYPE', key)
    return reply.ok or reply
end

local function need_type(key, wanted)
    local found = type_of(key)
    if found ~= 'none' and found ~= wanted then
        error({ err = 'WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. wanted })
    end
end

local function need_right(...)
    if not redis.acl_check_cmd(...) then
        local call = { ... }
        error({ err = 'NOPERM this user may not ' .. call[1] .. ' ' .. call[2] })
    end
end

local function need_size(key, count)
    if count > MAX_VALUES then
        error({ err = 'ERR too much for one step: ' .. count .. ' values for ' .. key .. ', at most ' .. MAX_VALUES })
    end
end

-- ---------------------------------------------------------------- modes

-- The same arithmetic as tradingbot.domain.modes.effective_mode. The mode keys are read undeclared: declaring a key
-- would need the right to write it.
local function effective_mode(file_mode)
    local spec = redis.call('HGET', 'ctl.mode.spec', 'mode') or file_mode
    local breaker = redis.call('HGET', 'ctl.mode.breaker', 'mode') or 'HALT'
    local person = redis.call('HGET', 'ctl.mode.person', 'mode') or 'NORMAL'
    local till = whole(redis.call('HGET', 'ctl.mode.person', 'until_generation'))
    if till and (whole(redis.call('HGET', 'ctl.mode.spec', 'generation')) or 0) >= till then
        person = 'NORMAL'
    end
    local mode, source = spec, 'spec'
    for _, each in ipairs({ { person, 'person' }, { breaker, 'breaker' } }) do
        if (MODE_RANK[each[1]] or 2) > (MODE_RANK[mode] or 2) then
            mode, source = each[1], each[2]
        end
    end
    return mode, source
end

-- ---------------------------------------------------------------- token buckets

-- Tokens in a bucket now, and the time to note with them. Time never runs backwards here.
local function level_of(key, now_ms, capacity, refill_per_s)
    local kept = redis.call('HMGET', key, 'tokens', 'at_ms')
    local tokens = tonumber(kept[1] or capacity)
    local at_ms = tonumber(kept[2] or now_ms)
    local elapsed_ms = math.max(0, now_ms - at_ms)
    return math.min(capacity, tokens + elapsed_ms * refill_per_s / 1000), math.max(at_ms, now_ms)
end

local function keep_level(key, tokens, at_ms)
    redis.call('HSET', key, 'tokens', string.format('%.17g', tokens), 'at_ms', text_of(at_ms))
end

-- Capacity, refill per second and reserve of a bucket: the caller's own or, where the operator has divided what
-- several bots share, those of this bot's share per minute, with the reserve in the same proportion. An amount above
-- the share waits until that much has come in. Read undeclared, like the mode keys. The same arithmetic as
-- tradingbot.bus.buckets.under_share.
local function under_share(key, amount, capacity, refill_per_s, reserve)
    local per_min = whole(redis.call('HGET', 'ctl.limits', (string.gsub(key, '^bucket:', ''))) or nil)
    if not per_min or per_min == 0 then
        return capacity, refill_per_s, reserve, ''
    end
    local kept_back = math.max(0, math.min(reserve * per_min / capacity, per_min - amount))
    return math.max(per_min, amount), per_min / 60, kept_back, text_of(per_min)
end

-- Milliseconds until `missing` tokens have come in.
local function wait_ms_for(missing, refill_per_s)
    return math.ceil(missing / refill_per_s * 1000)
end

-- ---------------------------------------------------------------- the parts of a commit

-- Each part has check(step, part), which returns verdict and detail to refuse the whole step, and write(step, part).
local parts = {}

parts.state = {
    check = function(step, part)
        local version = redis.call('HGET', part.key, 'version') or '0'
        if version ~= part.args[1] then
            return 'SUPERSEDED', 'state is at version ' .. version .. ', not ' .. part.args[1]
        end
        need_right('HSET', part.key, 'version', '0')
    end,
    write = function(step, part)
        step.version = tonumber(part.args[1]) + 1
        redis.call('HSET', part.key, 'version', text_of(step.version), 'value', part.args[2])
    end,
}

parts.ack = {
    last = true,
    check = function(step, part)
        local group, id = part.args[1], part.args[2]
        need_type(part.key, 'stream')
        need_right('XACK', part.key, group, id)
        local pending = redis.pcall('XPENDING', part.key, group, id, id, 1)
        if pending.err then
            if string.find(pending.err, 'NOGROUP', 1, true) then
                return 'SUPERSEDED', 'no group ' .. group .. ' on ' .. part.key
            end
            error({ err = pending.err })
        end
        local owner = pending[1] and pending[1][2] or 'nobody'
        if owner ~= step.service then
            return 'SUPERSEDED', 'entry ' .. id .. ' of ' .. part.key .. ' is pending with ' .. owner
        end
    end,
    write = function(step, part)
        redis.call('XACK', part.key, part.args[1], part.args[2])
    end,
}

parts.mode = {
    check = function(step, part)
        local mode, source = effective_mode(part.args[2])
        if (MODE_RANK[mode] or 2) > MODE_RANK[part.args[1]] then
            return 'MODE', mode .. ' by ' .. source
        end
    end,
    write = function() end,
}

parts.take = {
    check = function(step, part)
        need_type(part.key, 'hash')
        need_right('HSET', part.key, 'tokens', '0')
        local amount = tonumber(part.args[1])
        local capacity, refill_per_s, reserve = under_share(part.key, amount, tonumber(part.args[2]),
            tonumber(part.args[3]), tonumber(part.args[4]))
        local level = step.levels[part.key]
        if not level then
            local tokens, at_ms = level_of(part.key, step.now_ms, capacity, refill_per_s)
            level = { tokens = tokens, at_ms = at_ms }
            step.levels[part.key] = level
        end
        if level.tokens - amount < reserve then
            local wait_ms = wait_ms_for(amount + reserve - level.tokens, refill_per_s)
            return 'RATE_LIMITED', part.key .. ' in ' .. text_of(wait_ms) .. ' ms'
        end
        level.tokens = level.tokens - amount
    end,
    write = function(step, part)
        local level = step.levels[part.key]
        keep_level(part.key, level.tokens, level.at_ms)
    end,
}

-- args: index of the nonce key, ttl_ms ('' = none), least nonce, life of the record in ms, field, value, …
parts.stamp = {
    check = function(step, part)
        need_type(part.key, 'hash')
        need_right('HSET', part.key, 'nonce', '0')
        local nonce_key = step.keys[tonumber(part.args[1])]
        need_type(nonce_key, 'string')
        need_right('SET', nonce_key, '0')
        local last = tonumber(redis.call('GET', nonce_key) or 0)
        if not last then
            error({ err = 'WRONGTYPE ' .. nonce_key .. ' is not a number' })
        end
        step.nonce = math.max(last + 1, step.now_ms, tonumber(part.args[3]))
    end,
    write = function(step, part)
        redis.call('SET', step.keys[tonumber(part.args[1])], text_of(step.nonce))
        local expires = ''
        if part.args[2] ~= '' then
            step.expires_after = step.now_ms + tonumber(part.args[2])
            expires = text_of(step.expires_after)
        end
        redis.call('HSET', part.key, 'nonce', text_of(step.nonce), 'expires_after', expires,
            'lease_token', step.token, unpack(part.args, 5))
        redis.call('PEXPIRE', part.key, part.args[4])
    end,
}

parts.add = {
    check = function(step, part)
        need_type(part.key, 'stream')
        need_right('XADD', part.key, '*', 'p', '')
    end,
    write = function(step, part)
        local id = redis.call('XADD', part.key, 'MAXLEN', '~', part.args[1], '*', 'p', part.args[2])
        step.ids[#step.ids + 1] = id
    end,
}

-- args: life in ms ('' = for ever), field, value, …
parts.hash = {
    check = function(step, part)
        if #part.args < 3 then
            error({ err = 'ERR no fields to set in ' .. part.key })
        end
        need_type(part.key, 'hash')
        need_right('HSET', part.key, 'f', '')
    end,
    write = function(step, part)
        redis.call('HSET', part.key, unpack(part.args, 2))
        if part.args[1] ~= '' then
            redis.call('PEXPIRE', part.key, part.args[1])
        end
    end,
}

parts.value = {
    check = function(step, part)
        need_type(part.key, 'string')
        need_right('SET', part.key, '')
    end,
    write = function(step, part)
        if part.args[1] ~= '' then
            redis.call('SET', part.key, part.args[2], 'PX', part.args[1])
        else
            redis.call('SET', part.key, part.args[2])
        end
    end,
}

parts.sadd = {
    check = function(step, part)
        need_type(part.key, 'set')
        need_right('SADD', part.key, '')
    end,
    write = function(step, part)
        redis.call('SADD', part.key, unpack(part.args))
    end,
}

parts.srem = {
    check = function(step, part)
        need_type(part.key, 'set')
        need_right('SREM', part.key, '')
    end,
    write = function(step, part)
        redis.call('SREM', part.key, unpack(part.args))
    end,
}

parts.delete = {
    check = function(step, part)
        need_right('DEL', part.key)
    end,
    write = function(step, part)
        redis.call('DEL', part.key)
    end,
}

-- ---------------------------------------------------------------- commit

-- Each part comes as: name, index of its key, number of arguments, arguments.
local function read_parts(step, argv, first)
    local read = {}
    local at = first
    while at <= #argv do
        local count = tonumber(argv[at + 2])
        local part = { kind = parts[argv[at]], key = step.keys[tonumber(argv[at + 1])], args = {} }
        if not part.kind then
            error({ err = 'ERR unknown part ' .. argv[at] })
        end
        need_size(part.key or argv[at], count)
        for offset = 1, count do
            part.args[offset] = argv[at + 2 + offset]
        end
        read[#read + 1] = part
        at = at + 3 + count
    end
    return read
end

-- The answer of this very commit when it has been made before, by this very holder of the lease.
local function earlier_answer(step)
    need_type(step.record_key, 'hash')
    need_right('HSET', step.record_key, 'answer', '')
    local kept = redis.call('HMGET', step.record_key, 'commit_id', 'token', 'answer')
    if kept[1] == step.commit_id and kept[2] == step.token then
        return kept[3]
    end
end

local function answer_of(step)
    local words = { step.version and text_of(step.version) or '-', step.nonce and text_of(step.nonce) or '-',
        step.expires_after and text_of(step.expires_after) or '-' }
    for _, id in ipairs(step.ids) do
        words[#words + 1] = id
    end
    return table.concat(words, ' ')
end

local function keep_answer(step, answer)
    redis.call('HSET', step.record_key, 'commit_id', step.commit_id, 'token', step.token, 'answer', answer)
    if not step.has_state then
        redis.call('PEXPIRE', step.record_key, COMMIT_TTL_MS)
    end
end

local function check_all(step)
    local holder = redis.call('GET', step.keys[1]) or 'nobody'
    if holder ~= step.token then
        return 'SUPERSEDED', 'the lease is held by ' .. holder .. ', not ' .. step.token
    end
    for _, part in ipairs(step.parts) do
        local verdict, detail = part.kind.check(step, part)
        if verdict then
            return verdict, detail
        end
    end
end

-- keys: lease, record of the commit (the state's key, or a key of its own), then those of the parts.
-- args: commit id, service, lease token, now in ms, '1' when the record is the state's key, then the parts.
-- Answers {verdict, detail, 'version nonce expires_after entry-id …'}.
local function commit(keys, argv)
    local step = { keys = keys, commit_id = argv[1], service = argv[2], token = argv[3], now_ms = tonumber(argv[4]),
        has_state = argv[5] == '1', record_key = keys[2], levels = {}, ids = {} }
    local earlier = earlier_answer(step)
    if earlier then
        return { 'DONE', 'again', earlier }
    end
    step.parts = read_parts(step, argv, 6)
    local verdict, detail = check_all(step)
    if verdict then
        return { verdict, detail, '' }
    end
    for _, part in ipairs(step.parts) do
        if not part.kind.last then
            part.kind.write(step, part)
        end
    end
    local answer = answer_of(step)
    keep_answer(step, answer)
    for _, part in ipairs(step.parts) do
        if part.kind.last then
            part.kind.write(step, part)
        end
    end
    return { 'DONE', '', answer }
end

-- ---------------------------------------------------------------- leases

-- keys: lease, counter; args: life in ms. Answers the new token, or minus the ms that the holder has left.
local function acquire_lease(keys, argv)
    local left_ms = redis.call('PTTL', keys[1])
    if left_ms ~= -2 then
        return -math.max(1, left_ms)
    end
    local token = redis.call('INCR', keys[2])
    redis.call('SET', keys[1], text_of(token), 'PX', argv[1])
    return token
end

-- keys: lease; args: token, life in ms. Answers 1 while the token holds it.
local function renew_lease(keys, argv)
    if redis.call('GET', keys[1]) ~= argv[1] then
        return 0
    end
    return redis.call('PEXPIRE', keys[1], argv[2])
end

-- keys: lease; args: token.
local function free_lease(keys, argv)
    if redis.call('GET', keys[1]) ~= argv[1] then
        return 0
    end
    return redis.call('DEL', keys[1])
end

-- ---------------------------------------------------------------- control

local function is_older(kept_generation, kept_uid, generation, uid)
    return kept_generation and kept_uid == uid and tonumber(generation) < tonumber(kept_generation)
end

-- keys: ctl.commands, the command's marker, and for HALT, REDUCE_ONLY, RESUME the source's mode key;
-- args: bound of the stream, life of the marker in ms, payload, generation, uid, then the mode key's fields.
-- Answers {'DONE', entry id} or {'STALE', the generation that is there}. The same again changes nothing while the
-- source's key is there.
local function control(keys, argv)
    local known = redis.call('GET', keys[2])
    local mode_key = keys[3]
    -- A mode key that somebody deleted is written again: a HALT that its marker alone remembers halts nobody.
    if known and (not mode_key or type_of(mode_key) ~= 'none') then
        return { 'DONE', known }
    end
    need_type(keys[1], 'stream')
    need_right('XADD', keys[1], '*', 'p', '')
    need_right('SET', keys[2], '')
    if mode_key then
        need_size(mode_key, #argv)
        need_type(mode_key, 'hash')
        need_right('HSET', mode_key, 'mode', '')
        need_right('DEL', mode_key)
        local kept = redis.call('HMGET', mode_key, 'generation', 'uid')
        if argv[4] ~= '' and is_older(kept[1], kept[2] or '', argv[4], argv[5]) then
            return { 'STALE', kept[1] }
        end
        redis.call('DEL', mode_key)
        redis.call('HSET', mode_key, unpack(argv, 6))
    end
    local id = redis.call('XADD', keys[1], 'MAXLEN', '~', argv[1], '*', 'p', argv[3])
    redis.call('SET', keys[2], id, 'PX', argv[2])
    return { 'DONE', id }
end

-- keys: ctl.params or ctl.params.person; args: generation, uid, values as JSON, expected version ('' = any).
-- Answers {'DONE', version}, {'STALE', generation} or {'CONFLICT', version}. The same again changes nothing.
local function params(keys, argv)
    need_type(keys[1], 'hash')
    local kept = redis.call('HMGET', keys[1], 'version', 'generation', 'uid', 'values')
    local version = kept[1] or '0'
    if argv[4] ~= '' and argv[4] ~= version then
        return { 'CONFLICT', version }
    end
    if is_older(kept[2], kept[3] or '', argv[1], argv[2]) then
        return { 'STALE', kept[2] }
    end
    if kept[2] == argv[1] and kept[3] == argv[2] and kept[4] == argv[3] then
        return { 'DONE', version }
    end
    local next_version = text_of(tonumber(version) + 1)
    redis.call('HSET', keys[1], 'version', next_version, 'generation', argv[1], 'uid', argv[2], 'values', argv[3])
    return { 'DONE', next_version }
end

-- ---------------------------------------------------------------- budgets and dead letters

-- keys: bucket; args: now in ms, amount, capacity, refill per second, reserve, '1' to be told the share.
-- Answers {ms to wait (0 = taken), tokens left} and, when asked, the share per minute in force ('' = the caller's own).
local function take(keys, argv)
    need_type(keys[1], 'hash')
    local amount = tonumber(argv[2])
    local capacity, refill_per_s, reserve, share = under_share(keys[1], amount, tonumber(argv[3]), tonumber(argv[4]),
        tonumber(argv[5]))
    local tokens, at_ms = level_of(keys[1], tonumber(argv[1]), capacity, refill_per_s)
    local wait_ms = 0
    if tokens - amount < reserve then
        wait_ms = math.max(1, wait_ms_for(amount + reserve - tokens, refill_per_s))
    else
        tokens = tokens - amount
        keep_level(keys[1], tokens, at_ms)
    end
    return { text_of(wait_ms), string.format('%.17g', tokens), argv[6] and share }
end

-- keys: dead-letter stream, audit stream, and to re-inject the original stream;
-- args: entry id, audit payload, bound of audit, bound of the original stream, payload.
-- Answers the new entry's id, '' when only dropped, false when the dead letter is not there.
local function resolve_dead_letter(keys, argv)
    need_type(keys[1], 'stream')
    need_right('XDEL', keys[1], argv[1])
    for at = 2, #keys do
        need_type(keys[at], 'stream')
        need_right('XADD', keys[at], '*', 'p', '')
    end
    if #redis.call('XRANGE', keys[1], argv[1], argv[1]) == 0 then
        return false
    end
    local id = ''
    if keys[3] then
        id = redis.call('XADD', keys[3], 'MAXLEN', '~', argv[4], '*', 'p', argv[5])
    end
    redis.call('XADD', keys[2], 'MAXLEN', '~', argv[3], '*', 'p', argv[2])
    redis.call('XDEL', keys[1], argv[1])
    return id
end

-- ---------------------------------------------------------------- reading

local function held(key)
    local kind = type_of(key)
    if kind == 'hash' then
        return redis.call('HGETALL', key)
    elseif kind == 'string' then
        return redis.call('GET', key)
    elseif kind == 'stream' then
        return redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    end
    return false
end

-- args: names of keys, read undeclared because declaring one would need the right to write it.
-- Answers {the library's digest, {what each key held at one moment}}: a hash whole, a string, a stream's newest entry.
local function read(keys, argv)
    local found = {}
    for at, key in ipairs(argv) do
        found[at] = held(key)
    end
    return { DIGEST, found }
end

redis.register_function('tb_commit_v1', commit)
redis.register_function('tb_lease_acquire_v1', acquire_lease)
redis.register_function('tb_lease_renew_v1', renew_lease)
redis.register_function('tb_lease_free_v1', free_lease)
redis.register_function('tb_control_v1', control)
redis.register_function('tb_params_v1', params)
redis.register_function('tb_take_v1', take)
redis.register_function('tb_dead_letter_v1', resolve_dead_letter)
-- A full server still answers what only reads.
redis.register_function{ function_name = 'tb_read_v1', callback = read, flags = { 'no-writes' } }
