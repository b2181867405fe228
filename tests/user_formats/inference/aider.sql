-- aider's analytics log, as an example of a format of one's own: each message_send event is a call, all others are context.
-- The log has no id of a call. It is made of the event's own fields and its rank among equal events of the file (two can
-- fall in one second), so that reading the file again, or a longer version of it, gives the same ids.
-- prompt_tokens are taken whole: the log does not tell the cache. Times are whole seconds; the event is written when the
-- answer is there, so the call started at the message_send_starting event just before it, where there is one (newer versions).
-- A session runs from one launch of the program to the next.
with raw as (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        event: 'VARCHAR', properties: 'VARCHAR', user_id: 'VARCHAR', "time": 'VARCHAR'})
),
read_out as (
    select *, json_extract_string(case when json_valid(properties) then properties end, [
        '$.main_model', '$.prompt_tokens', '$.completion_tokens', '$.cost', '$.total_cost', '$.edit_format', '$.aider_version']) as p
    from raw
),
sequenced as (
    select *,
        row_number() over (partition by landing_file, event, user_id, "time", p[1], p[2], p[3], p[4], p[5] order by landing_row) as nth,
        last_value(case when event = 'launched' then "time" end ignore nulls) over history as launched,
        lag(event) over history as event_before,
        lag("time") over history as time_before
    from read_out
    window history as (partition by landing_file, user_id order by landing_row)
)
select
    landing_file,
    landing_row,
    case when event <> 'message_send' then 'context' else 'call' end as record_kind,
    coalesce(
        unreadable('prompt_tokens', p[2], as_count(p[2])),
        unreadable('completion_tokens', p[3], as_count(p[3])),
        unreadable('cost', p[4], as_usd(p[4])),
        unreadable('time', "time", as_utc("time"))) as unreadable,
    case when event = 'message_send' then 'aider:' || left(sha256(concat_ws('|', user_id, "time", p[1], p[2], p[3], p[4], p[5], nth)), 32) end as inference_id,
    as_utc("time") as version_at,
    'chat' as operation_name,
    -- LiteLLM's names: the provider before the first slash, none for the best known.
    lower(case when contains(p[1], '/') then split_part(p[1], '/', 1)
        when regexp_matches(p[1], '^claude') then 'anthropic'
        when regexp_matches(p[1], '^(gpt|o[0-9]|chatgpt)') then 'openai'
        when regexp_matches(p[1], '^deepseek') then 'deepseek' end) as provider_name,
    nullif(p[1], 'None') as request_model,
    as_count(p[2]) as input_uncached_tokens,
    as_count(p[3]) as output_text_tokens,
    case when event_before = 'message_send_starting' then as_utc(time_before) else as_utc("time") end as started_at,
    case when event_before = 'message_send_starting' then as_utc("time") end as finished_at,
    'ok' as status,
    user_id,
    left(sha256(user_id || '|' || launched), 32) as session_id,
    p[6] as workload,
    json_object('aider_version', p[7])::varchar as tags,
    as_usd(p[4]) as reported_cost_usd
from sequenced
