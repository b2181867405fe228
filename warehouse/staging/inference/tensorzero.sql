-- TensorZero: rows of its ChatInference, JsonInference and ModelInference tables as ClickHouse prints them
-- (JSONEachRow), one kind a file or mixed; feedback and tag rows are context. A call is one model inference: an
-- inference that was retried, or fell back to another model, has several.
-- reads: window
-- Function, variant, episode and tags come from the inference, where the window holds it. trace_id is the inference's
-- id, session_id the episode's. input_tokens hold the cache, as the gateway adds it in for every provider.
-- Ids are UUIDv7: a model inference gets its own when its answer is there (newer gateways: when it is asked), so that
-- its start is its id's time less its duration, but not before the start of its inference.
with rows as materialized (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        id: 'VARCHAR', inference_id: 'VARCHAR', function_name: 'VARCHAR', variant_name: 'VARCHAR', episode_id: 'VARCHAR',
        "timestamp": 'VARCHAR', processing_time_ms: 'VARCHAR', ttft_ms: 'VARCHAR', "input": 'VARCHAR', "output": 'VARCHAR',
        inference_params: 'VARCHAR', tool_params: 'VARCHAR', dynamic_tools: 'VARCHAR', tags: 'VARCHAR',
        model_name: 'VARCHAR', model_provider_name: 'VARCHAR', input_tokens: 'VARCHAR', output_tokens: 'VARCHAR',
        provider_cache_read_input_tokens: 'VARCHAR', provider_cache_write_input_tokens: 'VARCHAR', "cost": 'VARCHAR',
        response_time_ms: 'VARCHAR', finish_reason: 'VARCHAR', cached: 'VARCHAR', "system": 'VARCHAR', input_messages: 'VARCHAR',
        target_id: 'VARCHAR', metric_name: 'VARCHAR', value: 'VARCHAR', "key": 'VARCHAR'})
),
inferences as (
    select id, arg_max(struct_pack(function_name, variant_name, episode_id, tags, "input", "output", inference_params, tool_params, dynamic_tools,
            "timestamp", ttft_ms), landing_row) as i
    from rows
    where model_name is null and function_name is not null and episode_id is not null and id is not null and "key" is null
    group by id
),
calls as (
    select r.*, j.i as i,
        case when json_valid(j.i.tags) then j.i.tags end as labels,
        case when regexp_full_match(r.id, '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7.*')
             then make_timestamp(cast('0x' || left(replace(r.id, '-', ''), 12) as bigint) * 1000) end as id_at,
        coalesce(case when regexp_full_match(r.inference_id, '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7.*')
             then make_timestamp(cast('0x' || left(replace(r.inference_id, '-', ''), 12) as bigint) * 1000) end,
             as_utc(given(j.i."timestamp"))) as inference_started_at,
        to_milliseconds(case when as_count(r.response_time_ms) between 0 and 604800000 then as_count(r.response_time_ms) end) as took
    from rows as r
    left join inferences as j on j.id = r.inference_id
),
timed as (
    select *,
        coalesce(greatest(coalesce(id_at, as_utc(given("timestamp"))) - coalesce(took, interval 0 second), inference_started_at),
            inference_started_at) as started_at,
        as_count(input_tokens) as input_total,
        as_count(provider_cache_read_input_tokens) as cache_read,
        -- DeepSeek's cache misses are logged as writes; it bills them as plain input.
        case when model_provider_name <> 'deepseek' then as_count(provider_cache_write_input_tokens) end as cache_write,
        coalesce(cache_read, 0) + coalesce(cache_write, 0) > input_total as exclusive
    from calls
)
select
    landing_file,
    landing_row,
    case when given(model_name) is not null or given(model_provider_name) is not null then 'call'
         when episode_id is not null or target_id is not null or metric_name is not null or "key" is not null
             or (inference_id is not null and value is not null) then 'context'
         else 'call' end as record_kind,
    coalesce(
        unreadable('input_tokens', input_tokens, input_total),
        unreadable('output_tokens', output_tokens, as_count(output_tokens)),
        unreadable('response_time_ms', response_time_ms, as_count(response_time_ms)),
        unreadable('timestamp', "timestamp", as_utc("timestamp")),
        unreadable('cost', "cost", as_usd("cost"))) as unreadable,
    case when given(model_name) is not null or given(model_provider_name) is not null then 'tensorzero:' || given(id) end as inference_id,
    -- A model inference read with its inference is newer than the same one read without.
    case when i is not null then greatest(started_at + coalesce(took, interval 0 second), inference_started_at) + interval 1 microsecond
         else started_at + coalesce(took, interval 0 second) end as version_at,
    'chat' as operation_name,
    lower(given(model_provider_name)) as provider_name,
    given(model_name) as request_model,
    input_total - case when exclusive then 0 else coalesce(cache_read, 0) + coalesce(cache_write, 0) end as input_uncached_tokens,
    cache_read as cache_read_tokens,
    cache_write as cache_write_5m_tokens,
    as_count(output_tokens) as output_text_tokens,
    case when try_cast(cached as boolean) then 'gateway_cache_hit' when exclusive then 'exclusive_emitter' end as usage_note,
    started_at,
    started_at + to_milliseconds(case when as_count(ttft_ms) between 0 and 604800000 then as_count(ttft_ms) end) as first_token_at,
    started_at + took as finished_at,
    'ok' as status,
    given(finish_reason) as finish_reason,
    case when json_valid("output") and json_type("output") = 'ARRAY'
         then cast(len(list_filter(json_extract_string("output", '$[*].type'), lambda t: t = 'tool_call')) as bigint) end as tool_call_count,
    coalesce(json_extract_string(labels, '$.tenant'), json_extract_string(labels, '$.tenant_id'), json_extract_string(labels, '$.customer_id')) as tenant,
    coalesce(json_extract_string(labels, '$.team'), json_extract_string(labels, '$.team_id')) as team,
    json_extract_string(labels, '$.user_id') as user_id,
    i.episode_id as session_id,
    given(inference_id) as trace_id,
    i.function_name as workload,
    json_extract_string(labels, '$.environment') as environment,
    i.function_name as prompt_name,
    i.variant_name as prompt_version,
    given(i.tags) as tags,
    as_usd("cost") as reported_cost_usd,
    coalesce(given(input_messages), given(i."input")) as input_messages,
    given("system") as system_instructions,
    coalesce(given(i.tool_params), given(i.dynamic_tools)) as tool_definitions,
    coalesce(given("output"), given(i."output")) as output_messages,
    given(i.inference_params) as request_params
from timed
