-- TensorZero: rows of its BooleanMetricFeedback, FloatMetricFeedback, CommentFeedback and DemonstrationFeedback tables.
-- reads: window
-- A target may be an inference or an episode; the rows of the window tell which. An inference's signal goes to its last
-- model inference (that which answered). An inference that the window does not hold is kept as a trace, whose id it is.
with rows as materialized (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        id: 'VARCHAR', target_id: 'VARCHAR', target_type: 'VARCHAR', metric_name: 'VARCHAR', value: 'VARCHAR', tags: 'VARCHAR',
        "timestamp": 'VARCHAR', inference_id: 'VARCHAR', episode_id: 'VARCHAR', function_name: 'VARCHAR', model_name: 'VARCHAR', "key": 'VARCHAR'})
),
answers as (
    -- UUIDv7 sort by time.
    select inference_id, max(id) as id from rows where model_name is not null and inference_id is not null and id is not null group by inference_id
),
episodes as (select episode_id from rows where episode_id is not null group by episode_id),
signals as (
    select r.*,
        coalesce(given(r.target_id), given(r.inference_id)) as target,
        case when r.metric_name is not null then case when lower(r.value) in ('true', 'false') then 'boolean' else 'number' end
             when r.target_id is not null then 'text' else 'correction' end as kind,
        case when json_valid(r.tags) then r.tags end as labels,
        coalesce(as_utc(given(r."timestamp")), case when regexp_full_match(r.id, '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7.*')
             then make_timestamp(cast('0x' || left(replace(r.id, '-', ''), 12) as bigint) * 1000) end) as given_at
    from rows as r
)
select
    s.landing_file,
    s.landing_row,
    case when s.model_name is null and s.function_name is null and s."key" is null then 'signal' else 'context' end as record_kind,
    coalesce(
        unreadable('timestamp', s."timestamp", as_utc(s."timestamp")),
        case when s.kind = 'number' then unreadable('value', s.value, try_cast(s.value as double)) end) as unreadable,
    'tensorzero:' || coalesce(given(s.id), left(sha256(nullif(concat_ws('|', s.target, s.metric_name, s.value, s."timestamp"), '')), 32)) as feedback_id,
    s.given_at as version_at,
    case when a.id is not null then 'call'
         when e.episode_id is not null or lower(s.target_type) = 'episode' then 'session'
         when s.target is not null then 'trace' end as target_kind,
    case when a.id is not null then 'tensorzero:' || a.id else s.target end as target_id,
    case when e.episode_id is null and lower(s.target_type) is distinct from 'episode' then s.target end as trace_id,
    coalesce(given(s.metric_name), case s.kind when 'text' then 'comment' else 'demonstration' end) as name,
    s.kind as kind,
    case when s.kind = 'boolean' then cast(try_cast(s.value as boolean) as double) when s.kind = 'number' then try_cast(s.value as double) end as value_number,
    case when s.kind in ('text', 'correction') then s.value end as value_text,
    case when json_extract_string(s.labels, '$."tensorzero::human_feedback"') = 'true' then 'user'
         when json_extract_string(s.labels, '$."tensorzero::evaluator_inference_id"') is not null then 'evaluator'
         when json_extract_string(s.labels, '$.user_id') is not null then 'user' end as rater_kind,
    coalesce(json_extract_string(s.labels, '$.user_id'), json_extract_string(s.labels, '$.author')) as rater_id,
    s.given_at
from signals as s
left join answers as a on a.inference_id = s.target
left join episodes as e on e.episode_id = s.target
