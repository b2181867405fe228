-- LiteLLM SpendLogs: rows of its LiteLLM_SpendLogs table, one JSON object a row (metadata and request_tags may be
-- JSON or a string that holds JSON). Same ids as the StandardLoggingPayload of the same call (litellm.sql).
-- prompt_tokens include cache reads and writes, completion_tokens include reasoning. Answers from LiteLLM's own
-- cache are noted gateway_cache_hit; their cost stays as reported. Rows of MCP, file, batch and list calls are context.
with raw as (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        request_id: 'VARCHAR', call_type: 'VARCHAR', spend: 'VARCHAR',
        prompt_tokens: 'VARCHAR', completion_tokens: 'VARCHAR', total_tokens: 'VARCHAR',
        "startTime": 'VARCHAR', "endTime": 'VARCHAR', "completionStartTime": 'VARCHAR', request_duration_ms: 'VARCHAR',
        model: 'VARCHAR', model_group: 'VARCHAR', custom_llm_provider: 'VARCHAR', api_base: 'VARCHAR',
        "user": 'VARCHAR', end_user: 'VARCHAR', team_id: 'VARCHAR', organization_id: 'VARCHAR', agent_id: 'VARCHAR',
        metadata: 'VARCHAR', cache_hit: 'VARCHAR', request_tags: 'VARCHAR', messages: 'VARCHAR', response: 'VARCHAR',
        proxy_server_request: 'VARCHAR', session_id: 'VARCHAR', status: 'VARCHAR', created_at: 'VARCHAR', updated_at: 'VARCHAR'})
),
read_out as (
    select *,
        json_extract_string(case when json_valid(metadata) then metadata end, [
            '$.usage_object', '$.cost_breakdown', '$.status', '$.error_information.error_code', '$.error_information.error_class',
            '$.attempted_retries', '$.user_api_key_org_id', '$.user_api_key_team_id', '$.user_api_key_user_id',
            '$.user_api_key_end_user_id', '$.routing_decision.policy', '$.routing_decision.candidates',
            '$.routing_decision.propensity', '$.spend_logs_metadata.workload_id', '$.requester_metadata.session_id',
            '$.additional_usage_values', '$.trace_id', '$.model_map_information.model_map_key', '$.model_map_information.model_map_value']) as m,
        -- LiteLLM leaves {} here unless it is told to store prompts.
        case when given(response) is not null and json_valid(response) then response end as answer
    from raw
),
judged as (
    select *,
        case when json_valid(m[2]) then m[2] end as costs,
        as_count(m[4]) as http,
        lower(coalesce(given(status), m[3], '')) in ('failure', 'error', 'failed') as failed,
        -- A failed call's row holds zeros where nothing was counted.
        not (failed and coalesce(as_count(total_tokens), 0) = 0) as is_counted,
        json_extract_string(
            case when not is_counted then null when json_valid(m[1]) and given(m[1]) is not null then m[1] when json_valid(m[16]) then m[16] end, [
                '$.prompt_tokens_details.cached_tokens', '$.cache_read_input_tokens',
                '$.cache_creation_input_tokens', '$.prompt_tokens_details.cache_creation_tokens',
                '$.prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens',
                '$.prompt_tokens_details.audio_tokens', '$.prompt_tokens_details.image_tokens',
                '$.completion_tokens_details.reasoning_tokens', '$.completion_tokens_details.audio_tokens',
                '$.completion_tokens_details.image_tokens', '$.server_tool_use.web_search_requests',
                '$.prompt_tokens_details.web_search_requests']) as u
    from read_out
),
counted as (
    select *,
        usage_given(case when is_counted then prompt_tokens end, case when is_counted then completion_tokens end,
            case when is_counted then total_tokens end, coalesce(u[1], u[2]), coalesce(u[3], u[4]), u[8], cache_write_1h := u[5],
            input_audio := u[6], input_image := u[7], output_audio := u[9], output_image := u[10], web_search := coalesce(u[11], u[12])) as usage
    from judged
)
select
    landing_file,
    landing_row,
    case when litellm_is_errand(call_type, total_tokens) then 'context' else 'call' end as record_kind,
    coalesce(
        used.unreadable,
        unreadable('startTime', "startTime", as_utc("startTime")),
        unreadable('endTime', "endTime", as_utc("endTime")),
        unreadable('spend', spend, as_usd(spend)),
        case when given(metadata) is not null and not json_valid(metadata) then 'metadata cannot be read'
             when given(m[1]) is not null and not json_valid(m[1]) then 'usage_object cannot be read' end) as unreadable,
    -- What both of LiteLLM's formats know of a call; the start may be cut to milliseconds.
    'litellm:' || answer_id(given(request_id), lower(custom_llm_provider) like 'ollama%', epoch_ms(as_utc("startTime")) // 1000, concat_ws('|', prompt_tokens, completion_tokens)) as inference_id,
    coalesce(as_utc(given(updated_at)), as_utc(given(created_at)), as_utc(given("endTime"))) as version_at,
    litellm_operation(call_type) as operation_name,
    lower(given(custom_llm_provider)) as provider_name,
    coalesce(given(model_group), given(model)) as request_model,
    litellm_model(given(json_extract_string(answer, '$.model')), case when starts_with(m[19], '{') then given(m[18]) end, given(model_group), given(model))
        as response_model,
    json_extract_string(costs, '$.vertex_location') as served_region,
    coalesce(json_extract_string(costs, '$.service_tier'), case when call_type like '%batch%' then 'batch' end) as service_tier,
    given(api_base) as server_address,
    try_cast(json_extract_string(case when json_valid(proxy_server_request) then proxy_server_request end, '$.stream') as boolean) as is_streaming,
    used.* exclude (usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    case when lower(cache_hit) = 'true' then 'gateway_cache_hit' else used.usage_note end as usage_note,
    as_utc(given("startTime")) as started_at,
    -- LiteLLM repeats the end time when the answer was not streamed.
    case when as_utc(given("completionStartTime")) < as_utc(given("endTime")) then as_utc("completionStartTime") end as first_token_at,
    coalesce(as_utc(given("endTime")), as_utc(given("startTime")) + to_milliseconds(case when as_count(request_duration_ms) between 0 and 604800000 then as_count(request_duration_ms) end)) as finished_at,
    case when failed then 'error' else 'ok' end as status,
    case when http between 100 and 599 then http end as http_status,
    case when failed then coalesce(given(m[5]), given(m[4])) end as error_type,
    json_extract_string(answer, '$.choices[0].finish_reason') as finish_reason,
    case when answer is not null then coalesce(json_array_length(answer, '$.choices[0].message.tool_calls'), 0) end::bigint as tool_call_count,
    as_count(m[6]) as retry_count,
    coalesce(given(organization_id), given(m[7]), given(end_user)) as tenant,
    coalesce(given(team_id), given(m[8])) as team,
    coalesce(given(end_user), given(m[10]), given("user"), given(m[9])) as user_id,
    coalesce(given(session_id), given(m[15])) as session_id,
    given(m[17]) as trace_id,
    given(m[14]) as workload,
    case when given(agent_id) is not null then 'agent' end as traffic_kind,
    given(request_tags) as tags,
    given(m[11]) as routing_policy,
    given(m[12]) as routing_candidates,
    try_cast(m[13] as double) as routing_propensity,
    as_usd(spend) as reported_cost_usd,
    given(messages) as input_messages,
    json_extract(case when json_valid(proxy_server_request) then proxy_server_request end, '$.tools')::varchar as tool_definitions,
    answer as output_messages,
    given(proxy_server_request) as request_params
from with_given_usage('counted')
