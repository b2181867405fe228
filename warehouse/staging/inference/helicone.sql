-- Helicone request export, one request a line.
-- Tokens come from the usage in response_body where it counts any. Without it they come from Helicone's own columns, which are
-- inclusive or exclusive of the cache by provider and by age: as Anthropic and Bedrock count (cache apart) for these two, as OpenAI
-- counts (cache inside) for the rest, unless the cache is larger than the whole or the total tells otherwise (usage_note). A row that counts
-- reasoning was written since Helicone keeps cache and reasoning apart (getPromptTokens and getCompletionTokens in its HandlerContext.ts).
with lines as (
    select landing_file,
        from_json(json, '{
            "request_id": "VARCHAR", "request_created_at": "VARCHAR", "response_created_at": "VARCHAR", "response_status": "VARCHAR",
            "provider": "VARCHAR", "model": "VARCHAR", "request_model": "VARCHAR", "response_model": "VARCHAR",
            "prompt_tokens": "VARCHAR", "completion_tokens": "VARCHAR", "total_tokens": "VARCHAR",
            "prompt_cache_read_tokens": "VARCHAR", "prompt_cache_write_tokens": "VARCHAR",
            "prompt_audio_tokens": "VARCHAR", "completion_audio_tokens": "VARCHAR", "reasoning_tokens": "VARCHAR",
            "delay_ms": "VARCHAR", "time_to_first_token": "VARCHAR", "costUSD": "VARCHAR", "cost_usd": "VARCHAR", "cost": "VARCHAR",
            "request_user_id": "VARCHAR", "request_path": "VARCHAR", "target_url": "VARCHAR",
            "prompt_id": "VARCHAR", "prompt_version": "VARCHAR", "cache_reference_id": "VARCHAR",
            "properties": "JSON", "request_properties": "JSON", "request_body": "JSON", "response_body": "JSON"}') as l
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
opened as (
    select *,
        unwrapped(l.request_body) as request,
        unwrapped(l.response_body) as response,
        coalesce(unwrapped(l.properties), unwrapped(l.request_properties)) as properties
    from lines
),
answered as (
    select *,
        response_keys(response) as r,
        request_content(request) as asked,
        from_json(request, '{"model": "VARCHAR", "stream": "VARCHAR", "user": "VARCHAR"}') as q,
        metadata_keys(properties) as m,
        from_json(properties, '{"Helicone-Session-Id": "VARCHAR", "Helicone-Session-Name": "VARCHAR",
            "Helicone-Prompt-Id": "VARCHAR"}') as p
    from opened
),
bodies as (
    select * exclude (said), usage_texts(said) as counted
    from (select *, usage_keys(body_usage) as said from (select *, usage_in(r, null) as body_usage from answered))
),
read_out as (
    select *,
        -- A body may say nothing where its usage belongs, or something else (`meta`), or -1 for what was not counted.
        coalesce(
            case when coalesce(nullif(given(counted.input), '-1'), nullif(given(counted.output), '-1'), nullif(given(counted.total), '-1')) is not null
                then body_usage end,
            case when lower(l.provider) in ('anthropic', 'aws', 'bedrock') or as_count(l.reasoning_tokens) > 0 then to_json({
                'input_tokens': nullif(l.prompt_tokens, '-1'), 'total_tokens': nullif(l.total_tokens, '-1'),
                'output_tokens': coalesce((as_count(nullif(l.completion_tokens, '-1')) + greatest(as_count(l.reasoning_tokens), 0))::varchar,
                    nullif(l.completion_tokens, '-1')),
                'cache_read_input_tokens': coalesce(l.prompt_cache_read_tokens, '0'),
                'cache_creation_input_tokens': coalesce(l.prompt_cache_write_tokens, '0'),
                'input_tokens_details': {'audio_tokens': l.prompt_audio_tokens},
                'completion_tokens_details': {'audio_tokens': l.completion_audio_tokens,
                    'reasoning_tokens': case when as_count(l.reasoning_tokens) > 0 then l.reasoning_tokens end}})
            else to_json({
                'prompt_tokens': nullif(l.prompt_tokens, '-1'), 'completion_tokens': nullif(l.completion_tokens, '-1'), 'total_tokens': nullif(l.total_tokens, '-1'),
                'prompt_tokens_details': {'cached_tokens': l.prompt_cache_read_tokens, 'cache_write_tokens': l.prompt_cache_write_tokens,
                    'audio_tokens': l.prompt_audio_tokens},
                'completion_tokens_details': {'audio_tokens': l.completion_audio_tokens, 'reasoning_tokens': l.reasoning_tokens}})
            end) as usage,
        as_utc(l.request_created_at) as start_at,
        coalesce(after_ms(as_utc(l.request_created_at), l.delay_ms), as_utc(l.response_created_at)) as end_at,
        as_count(l.response_status) as http,
        -- In `cost`, which Helicone's API gives, zero means that no price was known.
        coalesce(l."costUSD", l.cost_usd, case when as_usd(l.cost) is distinct from 0 then l.cost end) as cost_text
    from bodies
),
timed as (
    -- Helicone's own statuses are negative: cancelled, timed out, blocked; -2 is still running.
    select *, coalesce(http >= 400 or (http < 0 and http <> -2), false) or error_in(r.error) is not null as is_failed
    from with_usage('read_out')
)
select
    landing_file,
    'call' as record_kind,
    coalesce(
        used.unreadable,
        unreadable('request_created_at', l.request_created_at, start_at),
        unreadable('response_created_at', l.response_created_at, as_utc(l.response_created_at)),
        unreadable('response_status', l.response_status, http),
        unreadable('delay_ms', l.delay_ms, try_cast(l.delay_ms as double)),
        unreadable('costUSD', cost_text, as_usd(cost_text))) as unreadable,
    'helicone:' || native_id(l.request_id) as inference_id,
    greatest(start_at, end_at, as_utc(l.response_created_at)) as version_at,
    case when coalesce(l.request_path, l.target_url) like '%embed%' or r.object = 'list' then 'embeddings'
         when r.object = 'text_completion' then 'text_completion'
         when r."usageMetadata" is not null or coalesce(l.request_path, l.target_url) like '%generateContent%' then 'generate_content'
         when l.request_id is not null then 'chat' end as operation_name,
    lower(given(l.provider)) as provider_name,
    coalesce(given(l.request_model), given(q.model), given(l.model)) as request_model,
    coalesce(given(l.response_model), given(r.model), given(r."modelVersion"), given(l.model)) as response_model,
    used.region as served_region,
    coalesce(tier_name(r.service_tier), tier_name(used.service_tier)) as service_tier,
    given(l.target_url) as server_address,
    try_cast(q.stream as boolean) as is_streaming,
    used.* exclude (web_search_requests, usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    coalesce(used.web_search_requests, web_searches_in(r)) as web_search_requests,
    -- The request whose answer Helicone kept and gave again; all zeros: none.
    case when regexp_matches(l.cache_reference_id, '[1-9a-fA-F]') then 'gateway_cache_hit' else used.usage_note end as usage_note,
    start_at as started_at,
    after_ms(start_at, l.time_to_first_token) as first_token_at,
    end_at as finished_at,
    case when is_failed then 'error' else 'ok' end as status,
    case when http between 100 and 599 then http end as http_status,
    case when is_failed then coalesce(
        error_class([json_extract_string(r.error, '$.type'), json_extract_string(r.error, '$.code'),
            case http when -3 then 'cancelled' else http::varchar end]),
        'error') end as error_type,
    coalesce(r.choices[1].finish_reason, r.stop_reason, r.candidates[1]."finishReason", r.incomplete_details.reason) as finish_reason,
    case when not is_failed and (r.choices is not null or r.content is not null or r.output is not null or r.candidates is not null)
        then tool_calls_in(r) end as tool_call_count,
    metadata_tenant(m) as tenant,
    metadata_team(m) as team,
    coalesce(given(l.request_user_id), metadata_user(m), given(q.user)) as user_id,
    coalesce(given(p."Helicone-Session-Id"), metadata_session(m)) as session_id,
    metadata_trace(m) as trace_id,
    coalesce(metadata_workload(m), given(p."Helicone-Session-Name")) as workload,
    metadata_environment(m) as environment,
    coalesce(given(l.prompt_id), given(p."Helicone-Prompt-Id")) as prompt_name,
    given(l.prompt_version) as prompt_version,
    given(properties::varchar) as tags,
    as_usd(cost_text) as reported_cost_usd,
    coalesce(asked.messages, asked.input, asked.contents, asked.prompt)::varchar as input_messages,
    coalesce(asked.system, asked.instructions, asked."systemInstruction")::varchar as system_instructions,
    coalesce(asked.tools, asked.functions)::varchar as tool_definitions,
    case when r.object is distinct from 'list' then response::varchar end as output_messages,
    request_params_of(request) as request_params
from timed
