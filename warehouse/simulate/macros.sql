-- Randomness and text of the simulator. A draw is a hash of a key and a named stream, so it depends on the seed and
-- the call alone: not on the thread, the chunk or the order in which rows are made. $seed is put in as a number.

-- Uniform in [0, 1), independent for every (key, stream).
create or replace macro draw(key, stream) as
    cast(hash(xor(key, hash(stream, $seed))) >> 11 as double) / 9007199254740992;

-- Standard normal (Box–Muller from the two halves of one hash).
create or replace macro draw_normal(key, stream) as
    sqrt(-2 * ln((cast(hash(xor(key, hash(stream, $seed))) >> 32 as double) + 1) / 4294967297))
    * cos(2 * pi() * cast(hash(xor(key, hash(stream, $seed))) & 4294967295 as double) / 4294967296);

-- Whole number in 1..n.
create or replace macro draw_number(key, stream, n) as 1 + cast(floor(draw(key, stream) * n) as integer);

-- 16 hex digits, different for different keys of one stream (the hash of 64 bits is one to one).
create or replace macro hex16(key, stream) as format('{:016x}', hash(xor(key, hash(stream, $seed))));

-- RFC 9562 layout: version 4 from a key; version 7 from a key and a time.
create or replace macro uuid4(key, stream) as
    hex16(key, stream)[1:8] || '-' || hex16(key, stream)[9:12] || '-4' || hex16(key, stream)[13:15]
    || '-a' || hex16(key, stream || ' low')[2:4] || '-' || hex16(key, stream || ' low')[5:16];
create or replace macro uuid7(key, stream, moment) as
    format('{:012x}', epoch_ms(moment))[1:8] || '-' || format('{:012x}', epoch_ms(moment))[9:12] || '-7' || hex16(key, stream)[1:3]
    || '-b' || hex16(key, stream)[4:6] || '-0' || hex16(key, stream)[6:16];

create or replace macro text_hash(key) as hash(xor(key, hash('text', $seed)));
create or replace macro noun(h) as getvariable('phrase_noun')[1 + cast(h & 63 as integer)];

-- One phrase of a workload; lists hold the phrases of all workloads, n for each.
create or replace macro phrase(list, n, workload_no, h, shift) as
    list[(workload_no - 1) * n + 1 + cast((h >> shift) & 1023 as integer) % n];

-- Null where the run leaves content out, or where there is no key.
create or replace macro user_text(workload_no, is_hard, key) as
    case when key is not null and getvariable('with_content') then
        phrase(getvariable('phrase_ask'), 4, workload_no, text_hash(key), 0)
        || ' ' || phrase(getvariable('phrase_subject'), 8, workload_no, text_hash(key), 4)
        || '. ' || phrase(getvariable('phrase_burden'), 8, workload_no, text_hash(key) >> 1 << 1 | cast(is_hard as ubigint), 0)
        || ' ' || phrase(getvariable('phrase_detail'), 5, workload_no, text_hash(key), 12)
        || ' Reference ' || ((text_hash(key) >> 20) & 1048575) || ': ' || noun(text_hash(key) >> 40) || ', '
        || noun(text_hash(key) >> 46) || ', ' || noun(text_hash(key) >> 52) || '.'
    end;

create or replace macro answer_text(workload_no, key) as
    case when key is not null and getvariable('with_content') then
        phrase(getvariable('phrase_reply'), 4, workload_no, text_hash(key), 3)
        || ' ' || phrase(getvariable('phrase_body'), 4, workload_no, text_hash(key), 7)
        || ' ' || phrase(getvariable('phrase_close'), 4, workload_no, text_hash(key), 11)
        || ' (' || noun(text_hash(key) >> 40) || ', ' || noun(text_hash(key) >> 46) || ')'
    end;

create or replace macro system_text(workload_no) as
    case when getvariable('with_content') then getvariable('phrase_instruction')[workload_no] end;

-- Seconds after midnight for a uniform u: traffic of people peaks at 14:00 UTC, that of machines is nearly flat.
create or replace macro second_of_day(u, swing) as
    86400 * ((u - swing / (2 * pi()) * sin(2 * pi() * (u - 0.58)) + 1) % 1);

-- What a model of some ability makes of a task of some difficulty, both in 0..1.
create or replace macro success_share(ability, difficulty) as 1 / (1 + exp(-9 * (ability - difficulty + 0.12)));

-- Odds that a provider fails a call; a few hours in a hundred are incidents.
create or replace macro failure_share(base, arm, hour_no) as
    case when draw(xor(hash(arm), cast(hour_no as ubigint)), 'incident') < 0.015 then 0.30 else base end;

-- The messages of a request in the chat dialect: system prompt, the turn before, the new turn.
create or replace macro messages(workload_no, is_hard, earlier_key, key) as
    case
        when not getvariable('with_content') then null
        when earlier_key is null then [
            {'role': 'system', 'content': system_text(workload_no)}, {'role': 'user', 'content': user_text(workload_no, is_hard, key)}]
        else [
            {'role': 'system', 'content': system_text(workload_no)},
            {'role': 'user', 'content': user_text(workload_no, is_hard, earlier_key)},
            {'role': 'assistant', 'content': answer_text(workload_no, earlier_key)},
            {'role': 'user', 'content': user_text(workload_no, is_hard, key)}]
    end;

create or replace macro tool_calls(call_key, n) as
    case when n > 0 then [{'id': 'call_' || hex16(call_key, 'tool'), 'type': 'function',
        'function': {'name': 'look_up', 'arguments': '{"reference": 7}'}}] end;

-- OTLP/JSON attributes; null where there is no value.
create or replace macro text_attribute(k, v) as case when v is not null then to_json({'key': k, 'value': {'stringValue': v}}) end;
create or replace macro int_attribute(k, v) as case when v is not null then to_json({'key': k, 'value': {'intValue': cast(v as varchar)}}) end;
create or replace macro double_attribute(k, v) as case when v is not null then to_json({'key': k, 'value': {'doubleValue': v}}) end;
create or replace macro texts_attribute(k, v) as
    case when v is not null then to_json({'key': k, 'value': {'arrayValue': {'values': [{'stringValue': v}]}}}) end;
