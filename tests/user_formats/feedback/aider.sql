-- aider's analytics log: what its users do after an answer, as implicit signals. command_undo is about the last call of
-- the session (its edit was taken back); message_send_exception and command_clear are about the session.
-- Ids of calls and sessions as in ../inference/aider.sql.
with raw as (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        event: 'VARCHAR', properties: 'VARCHAR', user_id: 'VARCHAR', "time": 'VARCHAR'})
),
read_out as (
    select *, json_extract_string(case when json_valid(properties) then properties end, [
        '$.main_model', '$.prompt_tokens', '$.completion_tokens', '$.cost', '$.total_cost', '$.exception']) as p
    from raw
),
ranked as (
    select *,
        row_number() over (partition by landing_file, event, user_id, "time", p[1], p[2], p[3], p[4], p[5] order by landing_row) as nth,
        last_value(case when event = 'launched' then "time" end ignore nulls) over (partition by landing_file, user_id order by landing_row) as launched
    from read_out
),
sequenced as (
    select *,
        left(sha256(user_id || '|' || launched), 32) as session_id,
        last_value(case when event = 'message_send'
            then 'aider:' || left(sha256(concat_ws('|', user_id, "time", p[1], p[2], p[3], p[4], p[5], nth)), 32) end ignore nulls)
            over (partition by landing_file, user_id, launched order by landing_row) as last_call
    from ranked
)
select
    landing_file,
    landing_row,
    case when event in ('command_undo', 'message_send_exception', 'command_clear') then 'signal' else 'context' end as record_kind,
    unreadable('time', "time", as_utc("time")) as unreadable,
    'aider:' || left(sha256(concat_ws('|', user_id, "time", event, nth)), 32) as feedback_id,
    as_utc("time") as version_at,
    case when event = 'command_undo' and last_call is not null then 'call' when session_id is not null then 'session' end as target_kind,
    case when event = 'command_undo' and last_call is not null then last_call else session_id end as target_id,
    case event when 'command_undo' then 'undo' when 'command_clear' then 'clear' when 'message_send_exception' then 'exception' end as name,
    case when event = 'message_send_exception' then 'category' else 'boolean' end as kind,
    case when event <> 'message_send_exception' then 1.0 end as value_number,
    -- The class of the exception; its message may quote what was said.
    case when event = 'message_send_exception' then coalesce(nullif(regexp_extract(p[6], '([A-Za-z]{1,60}(?:Error|Exception|Interrupt|Timeout))', 1), ''), 'unknown') end as value_text,
    'implicit' as rater_kind,
    user_id as rater_id,
    as_utc("time") as given_at
from sequenced
