-- Anthropic Messages API logs, one call a line, in any of the shapes they are kept in:
--   {"timestamp": …, "request": {…}, "response": {"type": "message" | "error", …}}    a pair
--   {"id": "msg_…", "type": "message", "usage": {…}, …}                               a bare message
--   {"custom_id": …, "result": {"type": "succeeded" | "errored" | "canceled" | "expired", "message" | "error"}}    a batch result
-- A message says nothing of time, so the line must: timestamp | started_at | start_time | created_at. Without one the call has no
-- started_at and is quarantined. A line may say besides:
--   when     finished_at | end_time, or latency_ms | duration_ms; ttft_ms; updated_at
--   how      status_code, error, api_base | base_url | url, cost_usd
--   for whom tenant, team, user_id, session_id, trace_id, environment, metadata {the same names}; request.metadata {user_id}
-- The response may be the events of a stream, as a list or as the text that was sent.
-- Tokens: input_tokens leaves out what the cache served or stored; output_tokens include thinking.
with lines as (
    select landing_file, json as line,
        from_json(json, '{
            "id": "VARCHAR", "custom_id": "VARCHAR", "type": "VARCHAR", "request": "JSON", "response": "JSON", "error": "JSON",
            "result": {"type": "VARCHAR", "message": "JSON", "error": "JSON"}, "params": {"model": "VARCHAR"},
            "timestamp": "VARCHAR", "started_at": "VARCHAR", "start_time": "VARCHAR", "created_at": "VARCHAR",
            "finished_at": "VARCHAR", "end_time": "VARCHAR", "latency_ms": "VARCHAR", "duration_ms": "VARCHAR", "ttft_ms": "VARCHAR",
            "updated_at": "VARCHAR", "status_code": "VARCHAR", "api_base": "VARCHAR", "base_url": "VARCHAR", "url": "VARCHAR",
            "cost_usd": "VARCHAR", "tenant": "VARCHAR", "team": "VARCHAR", "user_id": "VARCHAR", "session_id": "VARCHAR",
            "trace_id": "VARCHAR", "workload": "VARCHAR", "environment": "VARCHAR", "metadata": "JSON"}') as l
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
opened as (
    select *,
        unwrapped(l.request) as request,
        case when l.type in ('message', 'error') and l.response is null then line
             else coalesce(unwrapped(l.response), unwrapped(l.result.message), unwrapped(l.result.error)) end as answer
    from lines
),
answered as (
    select *, starts_with(answer::varchar, '[') as is_stream, response_keys(response) as r from with_whole_answer('opened')
),
read_out as (
    select *,
        usage_in(r, null) as usage,
        request_content(request) as asked,
        from_json(request, '{"model": "VARCHAR", "stream": "VARCHAR", "metadata": "JSON"}') as q
    from answered
),
judged as (
    select *,
        metadata_keys(l.metadata) as lm,
        metadata_keys(q.metadata) as qm,
        -- {"type": "error", "error": {"type": …}}, once or twice wrapped.
        coalesce(error_in(r.error), unwrapped(l.error), error_in(l.error)) as failure,
        coalesce(l.timestamp, l.started_at, l.start_time, l.created_at) as start_text,
        coalesce(l.finished_at, l.end_time) as end_text,
        coalesce(l.latency_ms, l.duration_ms) as latency_text,
        coalesce(l.api_base, l.base_url, l.url) as server,
        as_count(l.status_code) as http,
        l.result.type is not null as is_batch,
        -- A line of a batch's input file: asked, never answered.
        l.custom_id is not null and l.params.model is not null and l.result.type is null as is_context
    from with_usage('read_out')
),
timed as (
    select *,
        as_utc(start_text) as start_at,
        coalesce(as_utc(end_text), after_ms(as_utc(start_text), latency_text)) as end_at,
        failure is not null or coalesce(http >= 400 or l.result.type <> 'succeeded', false)
            or (request is not null and answer is null) as is_failed
    from judged
)
select
    landing_file,
    case when is_context then 'context' else 'call' end as record_kind,
    coalesce(
        used.unreadable,
        unreadable('timestamp', start_text, start_at),
        unreadable('end time', end_text, as_utc(end_text)),
        unreadable('latency_ms', latency_text, try_cast(latency_text as double)),
        unreadable('cost_usd', l.cost_usd, as_usd(l.cost_usd))) as unreadable,
    'anthropic:' || coalesce(
        native_id(r.id), native_id(r.request_id), case when l.response is not null or is_batch then native_id(l.id) end,
        native_id(l.custom_id),
        case when is_failed or r.type is not null or request is not null
            then 'sha256:' || left(sha256(concat_ws('|', start_text, request::varchar, coalesce(response, failure)::varchar)), 32) end)
        as inference_id,
    greatest(as_utc(l.updated_at), end_at, start_at) as version_at,
    case when request is not null or r.type is not null or is_batch then 'chat' end as operation_name,
    -- The id of a message tells the cloud that served it.
    case when starts_with(r.id, 'msg_bdrk_') or server like '%bedrock%' then 'bedrock'
         when starts_with(r.id, 'msg_vrtx_') or server like '%aiplatform.googleapis.com%' then 'vertex_ai'
         when server like '%azure%' then 'azure'
         when request is not null or r.type is not null or is_batch then 'anthropic' end as provider_name,
    given(q.model) as request_model,
    given(r.model) as response_model,
    used.region as served_region,
    case when is_batch then 'batch' else tier_name(used.service_tier) end as service_tier,
    given(server) as server_address,
    coalesce(try_cast(q.stream as boolean), case when is_stream then true end) as is_streaming,
    used.* exclude (usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    used.usage_note,
    start_at as started_at,
    after_ms(start_at, l.ttft_ms) as first_token_at,
    end_at as finished_at,
    case when is_failed then 'error' else 'ok' end as status,
    case when http between 100 and 599 then http end as http_status,
    case when is_failed then coalesce(
        error_class([json_extract_string(failure, '$.error.type'), nullif(json_extract_string(failure, '$.type'), 'error'), http::varchar,
            nullif(l.result.type, 'errored')]),
        'error') end as error_type,
    r.stop_reason as finish_reason,
    case when r.content is not null and not is_failed then tool_calls_in(r) end as tool_call_count,
    coalesce(given(l.tenant), metadata_tenant(lm), metadata_tenant(qm)) as tenant,
    coalesce(given(l.team), metadata_team(lm), metadata_team(qm)) as team,
    coalesce(given(l.user_id), metadata_user(lm), metadata_user(qm)) as user_id,
    coalesce(given(l.session_id), metadata_session(lm), metadata_session(qm)) as session_id,
    coalesce(given(l.trace_id), metadata_trace(lm), metadata_trace(qm)) as trace_id,
    coalesce(given(l.workload), metadata_workload(lm), metadata_workload(qm)) as workload,
    coalesce(given(l.environment), metadata_environment(lm), metadata_environment(qm)) as environment,
    -- request.metadata of this API holds a user id and nothing else.
    given(l.metadata::varchar) as tags,
    coalesce(as_usd(l.cost_usd), used.reported_cost_usd) as reported_cost_usd,
    asked.messages::varchar as input_messages,
    asked.system::varchar as system_instructions,
    asked.tools::varchar as tool_definitions,
    -- Events of which nothing could be made are kept as they are.
    case when is_stream and coalesce(len(r.content), 0) = 0 then answer else response end::varchar as output_messages,
    request_params_of(request) as request_params
from timed
