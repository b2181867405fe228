-- Langfuse scores: blob export (snake_case), API (camelCase), the scores and corrections inside a trace, or those of an
-- ingestion batch. A score of an observation that the window shows to be no generation goes to its trace.
-- reads: window
-- Scores of a dataset run are about no call and stay context. Source EVAL is an evaluator, ANNOTATION a person; a score
-- sent over the API is a user's when its name says so (user_feedback, Langfuse's own example), else unknown.
with lines as (
    select json, landing_file, row_number() over () as landing_row,
        json_transform(json, '{"batch": [{"type": "VARCHAR", "body": "JSON"}], "data": ["JSON"], "trace": {"scores": ["JSON"], "corrections": ["JSON"]},
            "observations": ["JSON"], "scores": ["JSON"], "corrections": ["JSON"]}') as whole
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
parts as (
    select landing_file, landing_row, unnest(coalesce(nullif(list_filter(
        coalesce(list_transform(list_filter(whole.batch, lambda b: starts_with(b.type, 'score')), lambda b: b.body), [])
            || coalesce(whole.data, []) || coalesce(whole.trace.scores, []) || coalesce(whole.trace.corrections, [])
            || coalesce(whole.scores, []) || coalesce(whole.corrections, []) || coalesce(whole.observations, [])
            || case when whole.batch is null and whole.data is null and whole.trace is null then [json] else [] end,
        lambda r: json_type(r) = 'OBJECT'), []), [null])) as part
    from lines
),
read_out as (
    select landing_file, landing_row,
        json_transform(part, '{"id": "VARCHAR", "type": "VARCHAR", "trace_id": "VARCHAR", "traceId": "VARCHAR", "observation_id": "VARCHAR",
            "observationId": "VARCHAR", "session_id": "VARCHAR", "sessionId": "VARCHAR", "dataset_run_id": "VARCHAR", "datasetRunId": "VARCHAR",
            "name": "VARCHAR", "value": "VARCHAR", "source": "VARCHAR", "comment": "VARCHAR", "data_type": "VARCHAR", "dataType": "VARCHAR",
            "string_value": "VARCHAR", "stringValue": "VARCHAR", "longStringValue": "VARCHAR", "author_user_id": "VARCHAR", "authorUserId": "VARCHAR",
            "timestamp": "VARCHAR", "created_at": "VARCHAR", "createdAt": "VARCHAR", "updated_at": "VARCHAR", "updatedAt": "VARCHAR",
            "start_time": "VARCHAR", "startTime": "VARCHAR"}') as o
    from parts
),
records as materialized (
    select landing_file, landing_row, o.id as id, upper(o.type) as type, o.name as name, o.source as source, o.comment as comment,
        coalesce(o.start_time, o."startTime") is not null as is_observation,
        coalesce(given(o.trace_id), given(o."traceId")) as trace_id,
        coalesce(given(o.observation_id), given(o."observationId")) as observation_id,
        coalesce(given(o.session_id), given(o."sessionId")) as session_id,
        coalesce(given(o.dataset_run_id), given(o."datasetRunId")) as dataset_run_id,
        upper(coalesce(given(o.data_type), given(o."dataType"))) as data_type,
        o.value as value,
        coalesce(given(o.string_value), given(o."stringValue"), given(o."longStringValue")) as string_value,
        coalesce(given(o.author_user_id), given(o."authorUserId")) as author,
        coalesce(given(o."timestamp"), given(o.created_at), given(o."createdAt")) as given_text,
        coalesce(given(o.updated_at), given(o."updatedAt")) as changed_text
    from read_out
),
others as (select id from records where is_observation and type not in ('GENERATION', 'EMBEDDING') and id is not null group by id),
signals as (
    select s.*,
        case when data_type in ('BOOLEAN', 'CATEGORICAL', 'NUMERIC', 'CORRECTION', 'TEXT')
                 then case data_type when 'BOOLEAN' then 'boolean' when 'CATEGORICAL' then 'category' when 'CORRECTION' then 'correction' when 'TEXT' then 'text' else 'number' end
             when lower(value) in ('true', 'false') then 'boolean'
             when try_cast(value as double) is not null then 'number'
             when coalesce(value, string_value) is not null then 'category' end as kind,
        case when lower(coalesce(value, string_value)) in ('true', 'false') then cast(cast(coalesce(value, string_value) as boolean) as double)
             else try_cast(value as double) end as number,
        observation_id is not null and n.id is null as is_about_call
    from records as s
    left join others as n on n.id = s.observation_id
)
select
    landing_file,
    landing_row,
    case when is_observation or name is null or coalesce(value, string_value, data_type) is null
             or (dataset_run_id is not null and coalesce(trace_id, observation_id, session_id) is null) then 'context'
         else 'signal' end as record_kind,
    coalesce(
        unreadable('timestamp', given_text, as_utc(given_text)),
        case when kind in ('number', 'boolean') then unreadable('value', value, number) end) as unreadable,
    'langfuse:' || coalesce(given(id), left(sha256(nullif(concat_ws('|', trace_id, observation_id, session_id, name, value, string_value, given_text), '')), 32)) as feedback_id,
    coalesce(as_utc(changed_text), as_utc(given_text)) as version_at,
    case when is_about_call then 'call' when trace_id is not null then 'trace' when session_id is not null then 'session' end as target_kind,
    case when is_about_call then 'langfuse:' || observation_id else coalesce(trace_id, session_id) end as target_id,
    trace_id,
    given(name) as name,
    kind,
    case when kind in ('number', 'boolean') then number end as value_number,
    case when kind in ('category', 'text', 'correction') then coalesce(string_value, value) end as value_text,
    case upper(source) when 'EVAL' then 'evaluator' when 'ANNOTATION' then 'user' else case when name ilike '%user%' then 'user' end end as rater_kind,
    case when upper(source) = 'EVAL' then name else author end as rater_id,
    given(comment) as comment,
    as_utc(given_text) as given_at
from signals
