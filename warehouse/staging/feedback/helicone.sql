-- Signals in a Helicone request export: the user's rating (feedback_rating) and each entry of `scores`, a number, a boolean or
-- {"value": …}. A request with neither is context. Scores have no time of their own and take that of the answer they judge; a
-- rating without its time takes it too.
with lines as (
    select landing_file, row_number() over () as landing_row,
        from_json(json, '{
            "request_id": "VARCHAR", "request_created_at": "VARCHAR", "response_created_at": "VARCHAR", "request_user_id": "VARCHAR",
            "feedback_id": "VARCHAR", "feedback_rating": "VARCHAR", "feedback_created_at": "VARCHAR", "scores": "JSON"}') as l
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
listed as (
    select landing_file, landing_row, l,
        coalesce(as_utc(l.response_created_at), as_utc(l.request_created_at)) as answered_at,
        case when starts_with(unwrapped(l.scores)::varchar, '{') then unwrapped(l.scores) end as scores
    from lines
),
signals as (
    select landing_file, landing_row, l, answered_at,
        'user_rating' as name, l.feedback_rating as value, 'user' as rater_kind, given(l.request_user_id) as rater_id,
        native_id(l.feedback_id) as native, l.feedback_created_at as at_text
    from listed
    where given(l.feedback_rating) is not null
    union all
    select landing_file, landing_row, l, answered_at,
        entry.key, coalesce(json_extract_string(unwrapped(entry.value), '$.value'), json_extract_string(entry.value, '$')),
        'evaluator', null, null, null
    from listed, lateral (select key, value from json_each(scores)) as entry
    -- Helicone keeps the rating among the scores, too.
    where not (entry.key = 'helicone-score-feedback' and given(l.feedback_rating) is not null)
),
read_out as (
    select *,
        'helicone:' || native_id(l.request_id) as target_id,
        case when lower(value) in ('true', 'false') then 'boolean' else 'number' end as kind,
        case lower(value) when 'true' then 1 when 'false' then 0
            else case when isfinite(try_cast(value as double)) then try_cast(value as double) end end as value_number,
        coalesce(as_utc(at_text), answered_at) as given_at
    from signals
)
select
    landing_file,
    landing_row,
    'signal' as record_kind,
    coalesce(unreadable('value', value, value_number), unreadable('feedback_created_at', at_text, as_utc(at_text))) as unreadable,
    'helicone:' || coalesce(native, left(sha256(concat_ws('|', target_id, name)), 32)) as feedback_id,
    given_at as version_at,
    'call' as target_kind,
    target_id,
    name,
    kind,
    value_number::double as value_number,
    rater_kind,
    rater_id,
    given_at
from read_out
union all by name
select landing_file, landing_row, 'context' as record_kind
from listed
where landing_row not in (select landing_row from signals)
