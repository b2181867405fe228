-- AWS Bedrock model invocation log (schemaType ModelInvocationLog), one call a line, as delivered to S3 or CloudWatch.
-- Tokens: the counts of the log leave out what the cache served or stored; they are read from the body's usage where it has one
-- (Converse, Claude, Nova), which also splits cache writes by lifetime, else from the log. Bodies over 100 KB are logged as an
-- S3 path of their own, which is not followed: such a call has its numbers and no content.
-- `timestamp` is when the request came; metrics.latencyMs or invocationLatency give its end.
with lines as (
    select landing_file,
        from_json(json, '{
            "schemaType": "VARCHAR", "timestamp": "VARCHAR", "requestId": "VARCHAR", "operation": "VARCHAR", "modelId": "VARCHAR",
            "region": "VARCHAR", "inferenceRegion": "VARCHAR", "errorCode": "VARCHAR", "status": "VARCHAR", "accountId": "VARCHAR",
            "serviceTier": "VARCHAR", "performanceConfig": {"latency": "VARCHAR"}, "requestMetadata": "JSON",
            "input": {"inputBodyJson": "JSON", "inputTokenCount": "VARCHAR", "cacheReadInputTokenCount": "VARCHAR",
                "cacheWriteInputTokenCount": "VARCHAR", "cacheReadInputTokens": "VARCHAR", "cacheWriteInputTokens": "VARCHAR"},
            "output": {"outputBodyJson": "JSON", "outputTokenCount": "VARCHAR"}}') as l
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
opened as (
    select *,
        unwrapped(l.input."inputBodyJson") as request,
        unwrapped(l.output."outputBodyJson") as answer
    from lines
),
-- A streamed InvokeModel answer is the list of its events.
answered as (
    select *,
        starts_with(answer::varchar, '[') as is_events,
        response_keys(response) as r,
        from_json(response, '{
            "metrics": {"latencyMs": "VARCHAR"}, "results": [{"completionReason": "VARCHAR"}],
            "output": {"message": {"content": [{"toolUse": {"name": "VARCHAR"}}]}}, "serviceTier": {"type": "VARCHAR"},
            "amazon-bedrock-invocationMetrics": {"invocationLatency": "VARCHAR", "firstByteLatency": "VARCHAR"}}') as b,
        from_json(request, '{"serviceTier": {"type": "VARCHAR"}, "messages": [{"role": "VARCHAR"}]}') as q,
        request_content(request) as asked,
        metadata_keys(l."requestMetadata") as m
    from with_whole_answer('opened')
),
read_out as (
    select *,
        -- The log tells what the body leaves out: Converse bodies have been seen without their cache counts.
        json_merge_patch(
            to_json({
                'inputTokenCount': l.input."inputTokenCount",
                'outputTokenCount': l.output."outputTokenCount",
                'cacheReadInputTokenCount': coalesce(l.input."cacheReadInputTokenCount", l.input."cacheReadInputTokens"),
                'cacheWriteInputTokenCount': coalesce(l.input."cacheWriteInputTokenCount", l.input."cacheWriteInputTokens")}),
            -- Of a stream the log has the final counts; only its first event splits cache writes by lifetime.
            coalesce(case when is_events then json_object('cache_creation', json_extract(r.usage, '$.cache_creation')) else unwrapped(r.usage) end,
                '{}'::json)) as usage,
        as_utc(l.timestamp) as start_at,
        coalesce(b.metrics."latencyMs", b."amazon-bedrock-invocationMetrics"."invocationLatency") as latency_text,
        b."amazon-bedrock-invocationMetrics"."firstByteLatency" as first_byte_text,
        l.operation like '%Stream' as is_streaming,
        -- arn:aws:bedrock:…:inference-profile/eu.anthropic.claude-… → anthropic.claude-…
        -- A profile of the account's own hides its model.
        case when not regexp_matches(l."modelId", ':(application-inference-profile|provisioned-model|custom-model|imported-model)') then
            regexp_replace(regexp_replace(l."modelId", '^arn:.*/', ''),
                '^(us-gov|us|eu|apac|global|jp|au|ca|sa|uk|me|af|in|kr)\.([a-z0-9]+\.)', '\2') end as model,
        regexp_matches(l."modelId", '(^|/)(us-gov|us|eu|apac|global|jp|au|ca|sa|uk|me|af|in|kr)\.[a-z0-9]+\.|application-inference-profile')
            as is_cross_region
    from answered
)
select
    landing_file,
    case when l."schemaType" <> 'ModelInvocationLog' then 'context' else 'call' end as record_kind,
    coalesce(
        used.unreadable,
        -- The log's own counts are judged even where the body's go before them.
        unreadable('inputTokenCount', l.input."inputTokenCount", as_count(l.input."inputTokenCount")),
        unreadable('outputTokenCount', l.output."outputTokenCount", as_count(l.output."outputTokenCount")),
        case when least(as_count(l.input."inputTokenCount"), as_count(l.output."outputTokenCount")) < 0 then 'a token count below zero' end,
        unreadable('timestamp', l.timestamp, start_at),
        unreadable('latency', latency_text, try_cast(latency_text as double))) as unreadable,
    'bedrock:' || native_id(l."requestId") as inference_id,
    coalesce(after_ms(start_at, latency_text), start_at) as version_at,
    case when l."modelId" like '%embed%' then 'embeddings'
         when l.operation like 'Converse%' or q.messages is not null then 'chat'
         when l.operation is not null then 'text_completion' end as operation_name,
    case when l."requestId" is not null then 'bedrock' end as provider_name,
    given(l."modelId") as request_model,
    coalesce(given(model), given(r.model)) as response_model,
    given(l.region) as request_region,
    -- A model called in its own region runs there; where a cross-region profile ran is only known if the log says so.
    coalesce(given(l."inferenceRegion"), case when not is_cross_region then given(l.region) end) as served_region,
    coalesce(
        case when l."performanceConfig".latency = 'optimized' then 'optimized' end,
        tier_name(l."serviceTier"), tier_name(b."serviceTier".type), tier_name(q."serviceTier".type), tier_name(used.service_tier))
        as service_tier,
    is_streaming,
    used.* exclude (usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    used.usage_note,
    start_at as started_at,
    case when is_streaming then after_ms(start_at, first_byte_text) end as first_token_at,
    after_ms(start_at, latency_text) as finished_at,
    case when given(l."errorCode") is not null then 'error' else 'ok' end as status,
    case when regexp_full_match(l.status, '[1-5][0-9]{2}') then as_count(l.status) end as http_status,
    case when given(l."errorCode") is not null then coalesce(error_class([l."errorCode"]), 'error') end as error_type,
    coalesce(r."stopReason", r.stop_reason, r.choices[1].finish_reason, b.results[1]."completionReason") as finish_reason,
    case when given(l."errorCode") is null then coalesce(
        len(list_filter(b.output.message.content, lambda part: part."toolUse" is not null)),
        case when coalesce(r.content is not null, false) or r.choices is not null then tool_calls_in(r) end) end as tool_call_count,
    metadata_tenant(m) as tenant,
    metadata_team(m) as team,
    metadata_user(m) as user_id,
    metadata_session(m) as session_id,
    metadata_trace(m) as trace_id,
    metadata_workload(m) as workload,
    metadata_environment(m) as environment,
    given(l."requestMetadata"::varchar) as tags,
    coalesce(asked.messages, asked.prompt, asked."inputText")::varchar as input_messages,
    asked.system::varchar as system_instructions,
    coalesce(asked."toolConfig".tools, asked.tools)::varchar as tool_definitions,
    -- Events of which nothing could be made are kept as they are.
    case when is_events and coalesce(len(r.content), len(b.output.message.content), 0) = 0 then answer else response end::varchar as output_messages,
    request_params_of(request) as request_params
from with_usage('read_out')
