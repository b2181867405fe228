-- Feedback in plain JSON lines, for whoever has no feedback product. One signal a line:
--   {"target": {"call": "openai:chatcmpl-9f1"}, "name": "thumbs", "value": true, "at": "2026-11-20T09:05:00Z"}
-- target   {"call": id} | {"session": id} | {"trace": id}, or flat: inference_id | session_id | trace_id. A call is named as in
--          core.inference, `<system>:<id>`; {"call": "chatcmpl-9f1", "system": "openai"} is the same. With several, the call counts.
-- name     what is judged: thumbs, task_success, helpfulness, … (alias: metric)
-- value    true | false, a number, or text; or instead "correction": the answer that should have been given, text or JSON
-- kind     boolean | number | category | text, where the value does not tell; text of one line and up to 64 characters is a category
-- at       when it was given (aliases: given_at, timestamp, created_at): ISO 8601 or epoch
-- Optional: id (a later line with the same id replaces it), updated_at, comment, trace_id,
--          rater {"kind": user | evaluator | rule | implicit, "id": …}, or just its id, or flat rater_kind, rater_id | user_id
-- A value of no such kind, an unknown rater kind, or a value beside a correction is unreadable, and the line is quarantined.
with lines as (
    select landing_file,
        from_json(json, '{
            "id": "VARCHAR", "target": {"call": "VARCHAR", "inference_id": "VARCHAR", "session": "VARCHAR", "session_id": "VARCHAR",
                "trace": "VARCHAR", "trace_id": "VARCHAR", "system": "VARCHAR"},
            "inference_id": "VARCHAR", "session_id": "VARCHAR", "trace_id": "VARCHAR",
            "name": "VARCHAR", "metric": "VARCHAR", "kind": "VARCHAR", "value": "JSON", "correction": "JSON", "comment": "VARCHAR",
            "rater": "JSON", "rater_kind": "VARCHAR", "rater_id": "VARCHAR", "user_id": "VARCHAR",
            "at": "VARCHAR", "given_at": "VARCHAR", "timestamp": "VARCHAR", "created_at": "VARCHAR", "updated_at": "VARCHAR"}') as l
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
read_out as (
    select *,
        coalesce(native_id(l.target."call"), native_id(l.target.inference_id), native_id(l.inference_id)) as call_id,
        coalesce(native_id(l.target."session"), native_id(l.target.session_id), native_id(l.session_id)) as session_id,
        coalesce(native_id(l.target.trace), native_id(l.target.trace_id), native_id(l.trace_id)) as trace_id,
        coalesce(given(l.name), given(l.metric)) as name,
        json_type(l.value) as value_type,
        json_extract_string(l.value, '$') as value_text,
        json_extract_string(l.correction, '$') as correction_text,
        coalesce(l.rater_kind, json_extract_string(unwrapped(l.rater), '$.kind')) as rater_kind_text,
        coalesce(given(l.rater_id), given(json_extract_string(unwrapped(l.rater), '$.id')),
            case when json_type(l.rater) in ('VARCHAR', 'UBIGINT', 'BIGINT') then given(json_extract_string(l.rater, '$')) end,
            given(l.user_id)) as rater_id,
        coalesce(l.at, l.given_at, l.timestamp, l.created_at) as at_text
    from lines
),
judged as (
    select *,
        case
            when correction_text is not null then 'correction'
            when lower(l.kind) in ('boolean', 'number', 'category', 'text') then lower(l.kind)
            when l.kind is not null then null
            when value_type = 'BOOLEAN' or lower(value_text) in ('true', 'false') then 'boolean'
            when value_type in ('UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT', 'UHUGEINT') then 'number'
            when value_type = 'VARCHAR' and length(value_text) <= 64 and not contains(value_text, chr(10)) then 'category'
            when value_type = 'VARCHAR' then 'text'
        end as kind,
        -- A boolean may be asked for as 1 or 0; a number must be finite.
        case when lower(value_text) in ('true', '1', '1.0') then 1 when lower(value_text) in ('false', '0', '0.0') then 0 end as as_boolean,
        case when isfinite(try_cast(value_text as double)) then try_cast(value_text as double) end as as_number,
        case lower(rater_kind_text)
            when 'user' then 'user' when 'human' then 'user'
            when 'evaluator' then 'evaluator' when 'model' then 'evaluator' when 'judge' then 'evaluator'
            when 'rule' then 'rule' when 'code' then 'rule' when 'implicit' then 'implicit' end as rater_kind
    from read_out
),
valued as (
    select *,
        case when call_id is not null then 'call' when session_id is not null then 'session' when trace_id is not null then 'trace' end
            as target_kind,
        coalesce(
            case when l.target.system is not null and not starts_with(call_id, l.target.system || ':')
                then l.target.system || ':' || call_id else call_id end,
            session_id, trace_id) as target_id,
        case kind when 'boolean' then as_boolean when 'number' then as_number end as value_number,
        case when kind in ('category', 'text') and value_type not in ('OBJECT', 'ARRAY') then value_text
             when kind = 'correction' then correction_text end as signal_text
    from judged
)
select
    landing_file,
    'signal' as record_kind,
    coalesce(
        case when l.value is not null and l.correction is not null then 'value and correction in one signal' end,
        case when kind is null and l.kind is not null then 'kind cannot be read' end,
        case when value_number is null and given(signal_text) is null and (name is not null or target_id is not null)
            then 'value cannot be read' end,
        unreadable('rater kind', rater_kind_text, rater_kind),
        unreadable('at', at_text, as_utc(at_text)),
        unreadable('updated_at', l.updated_at, as_utc(l.updated_at))) as unreadable,
    case when target_id is not null and name is not null then 'feedback:' || coalesce(
        native_id(l.id),
        -- Several raters may say the same at the same time. A person's id stays out: whoever can guess it could find it in an unkeyed hash.
        left(sha256(concat_ws('|', target_kind, target_id, name, coalesce(value_text, correction_text), as_utc(at_text),
            rater_kind, case when rater_kind <> 'user' then rater_id end)), 32))
        end as feedback_id,
    coalesce(as_utc(l.updated_at), as_utc(at_text)) as version_at,
    target_kind,
    target_id,
    trace_id,
    name,
    kind,
    value_number::double as value_number,
    signal_text as value_text,
    rater_kind,
    rater_id,
    given(l.comment) as comment,
    as_utc(at_text) as given_at
from valued
