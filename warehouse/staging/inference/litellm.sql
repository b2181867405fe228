-- LiteLLM StandardLoggingPayload: one JSON object a call, as its S3/GCS/Azure and file loggers write them.
-- prompt_tokens include cache reads and writes (also for Anthropic and Bedrock, which LiteLLM adds in);
-- completion_tokens include reasoning. Answers from LiteLLM's own cache are noted gateway_cache_hit. Calls for batches, files and
-- the like are context. Key names: litellm/types/utils.py, StandardLoggingPayload.
with raw as (
    select *
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        id: 'VARCHAR', litellm_call_id: 'VARCHAR', trace_id: 'VARCHAR', session_id: 'VARCHAR', call_type: 'VARCHAR', stream: 'VARCHAR',
        response_cost: 'VARCHAR', cost_breakdown: 'JSON', status: 'VARCHAR', custom_llm_provider: 'VARCHAR',
        prompt_tokens: 'VARCHAR', completion_tokens: 'VARCHAR', total_tokens: 'VARCHAR',
        startTime: 'VARCHAR', endTime: 'VARCHAR', completionStartTime: 'VARCHAR',
        model: 'VARCHAR', model_id: 'VARCHAR', model_group: 'VARCHAR', api_base: 'VARCHAR', metadata: 'JSON',
        cache_hit: 'VARCHAR', request_tags: 'VARCHAR', end_user: 'VARCHAR', messages: 'VARCHAR', response: 'JSON', error_str: 'VARCHAR',
        error_information: 'JSON', model_parameters: 'JSON', hidden_params: 'JSON',
        model_map_information: 'JSON'})
),
read_out as (
    select *,
        json_extract_string(metadata, ['$.user_api_key_org_id', '$.user_api_key_team_id', '$.user_api_key_end_user_id', '$.user_api_key_user_id',
            '$.attempted_retries', '$.routing_decision.policy', '$.usage_object', '$.spend_logs_metadata.workload_id', '$.requester_metadata.session_id',
            '$.routing_decision.candidates', '$.routing_decision.propensity']) as m,
        json_extract_string(response, ['$.model', '$.choices[0].finish_reason', '$.usage', '$.choices[0].message.tool_calls']) as r,
        case when json_type(model_map_information, '$.model_map_value') = 'OBJECT' then json_extract_string(model_map_information, '$.model_map_key') end as map_key
    from raw
),
counted as (
    select *,
        as_utc("startTime") as started_at, as_utc("endTime") as finished_at, as_utc("completionStartTime") as first_at, as_usd(response_cost) as cost,
        as_count(json_extract_string(error_information, '$.error_code')) as http,
        usage_given(prompt_tokens, completion_tokens, total_tokens, coalesce(u[1], u[2]), coalesce(u[3], u[4]), u[7], cache_write_1h := u[10],
            input_audio := u[5], input_image := u[6], output_audio := u[8], output_image := u[9], web_search := u[11]) as usage
    from (
        select *,
            -- `try`: a usage object may be any text.
            try(json_extract_string(coalesce(given(m[7]), r[3], '{}'), ['$.prompt_tokens_details.cached_tokens', '$.cache_read_input_tokens',
                '$.cache_creation_input_tokens', '$.prompt_tokens_details.cache_creation_tokens', '$.prompt_tokens_details.audio_tokens',
                '$.prompt_tokens_details.image_tokens', '$.completion_tokens_details.reasoning_tokens', '$.completion_tokens_details.audio_tokens',
                '$.completion_tokens_details.image_tokens', '$.prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens',
                '$.server_tool_use.web_search_requests'])) as u
        from read_out)
)
select
    landing_file,
    case when litellm_is_errand(call_type, total_tokens) then 'context' else 'call' end as record_kind,
    coalesce(
        used.unreadable,
        unreadable('startTime', "startTime", started_at),
        unreadable('endTime', "endTime", finished_at),
        unreadable('response_cost', response_cost, cost)) as unreadable,
    -- What both of LiteLLM's formats know of a call; the start may be cut to milliseconds.
    'litellm:' || answer_id(given(id), lower(custom_llm_provider) like 'ollama%', epoch_ms(started_at) // 1000, concat_ws('|', prompt_tokens, completion_tokens)) as inference_id,
    finished_at as version_at,
    litellm_operation(call_type) as operation_name,
    lower(given(custom_llm_provider)) as provider_name,
    coalesce(given(model_group), given(model)) as request_model,
    litellm_model(given(r[1]), given(map_key), given(model_group), given(model)) as response_model,
    json_extract_string(cost_breakdown, '$.vertex_location') as served_region,
    coalesce(json_extract_string(cost_breakdown, '$.service_tier'), case when call_type like '%batch%' then 'batch' end) as service_tier,
    given(api_base) as server_address,
    try_cast(stream as boolean) as is_streaming,
    used.* exclude (usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    case when lower(cache_hit) = 'true' then 'gateway_cache_hit' else used.usage_note end as usage_note,
    started_at,
    case when "completionStartTime" <> "endTime" then first_at end as first_token_at,
    finished_at,
    case when status = 'failure' or given(error_str) is not null then 'error' else 'ok' end as status,
    case when http between 100 and 599 then http end as http_status,
    given(json_extract_string(error_information, '$.error_class')) as error_type,
    r[2] as finish_reason,
    try(json_array_length(r[4])) as tool_call_count,
    as_count(m[5]) as retry_count,
    coalesce(given(m[1]), given(end_user)) as tenant,
    given(m[2]) as team,
    coalesce(given(m[3]), given(m[4]), given(end_user)) as user_id,
    coalesce(given(session_id), given(m[9])) as session_id,
    given(trace_id) as trace_id,
    given(m[8]) as workload,
    given(request_tags) as tags,
    m[6] as routing_policy,
    m[10] as routing_candidates,
    try_cast(m[11] as double) as routing_propensity,
    cost as reported_cost_usd,
    messages as input_messages,
    json_extract(model_parameters, '$.tools')::varchar as tool_definitions,
    response as output_messages,
    model_parameters as request_params
from with_given_usage('counted')
