-- OpenTelemetry GenAI over OTLP/JSON: one ExportTraceServiceRequest or ExportLogsServiceRequest a line, as file
-- exporters and collectors write them. Spans of model calls are calls; other spans, logs and metrics are context.
-- reads: window
-- records: resourceSpans[].scopeSpans[].spans[], resourceLogs[].scopeLogs[].logRecords[]
-- Reads today's gen_ai.* conventions, their older names, Traceloop / OpenLLMetry, OpenInference, the Vercel AI SDK's and OpenRouter's. Content comes from
-- the span, its events, or the log event gen_ai.client.inference.operation.details of that span, in any file of the window.
-- Input counts hold the cache and output counts the reasoning, unless usage.sql finds otherwise (usage_note).
-- A call whose direct child is a counted call is a second instrumentation of the same call: context, or it is paid twice.
-- Not in the conventions but read where set: tenant.id, team.id, routing.policy, routing.candidates, routing.propensity.
with requests as (
    select landing_file, row_number() over () as landing_row,
        -- An attribute's value is an object with one key, its type; as a map it reads the same whatever the type.
        json_transform("resourceSpans", '[{
            "resource": {"attributes": [{"key": "VARCHAR", "value": "MAP(VARCHAR, VARCHAR)"}]},
            "scopeSpans": [{"spans": [{
                "traceId": "VARCHAR", "spanId": "VARCHAR", "parentSpanId": "VARCHAR",
                "startTimeUnixNano": "VARCHAR", "endTimeUnixNano": "VARCHAR", "status": {"code": "VARCHAR"},
                "attributes": [{"key": "VARCHAR", "value": "MAP(VARCHAR, VARCHAR)"}],
                "events": [{"name": "VARCHAR", "timeUnixNano": "VARCHAR",
                    "attributes": [{"key": "VARCHAR", "value": "MAP(VARCHAR, VARCHAR)"}]}]}]}]}]') as resources,
        coalesce(json_type("resourceSpans"), json_type("resourceLogs"), json_type("resourceMetrics")) is not distinct from 'ARRAY' as is_otlp
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        "resourceSpans": 'JSON', "resourceLogs": 'JSON', "resourceMetrics": 'JSON'})
),
-- One list of names and values a span: its own attributes win over those of its events, and these over its resource's.
-- Made before the spans are unnested, where it costs least. A line without spans keeps one row, so that all are accounted for.
per_span as (
    select landing_file, landing_row, is_otlp, unnest(coalesce(nullif(spans, []), [null])) as span
    from (
        select landing_file, landing_row, is_otlp,
            flatten(list_transform(resources, lambda r: flatten(list_transform(r."scopeSpans", lambda s: list_transform(s.spans, lambda p: {
                'raw_ids': [p."traceId", p."spanId", p."parentSpanId"],
                'start_text': p."startTimeUnixNano",
                'end_text': p."endTimeUnixNano",
                'status_code': p.status.code,
                'first_token_text': list_filter(p.events, lambda e: regexp_matches(lower(e.name), 'first.?(token|chunk)'))[1]."timeUnixNano",
                'names': coalesce(list_transform(p.attributes, lambda x: x.key), [])
                    || coalesce(flatten(list_transform(list_filter(p.events, lambda e: starts_with(e.name, 'gen_ai.') or e.name = 'exception'),
                        lambda e: list_transform(e.attributes, lambda x: x.key))), [])
                    || coalesce(list_transform(r.resource.attributes, lambda x: x.key), []),
                'found': coalesce(list_transform(p.attributes, lambda x: map_values(x.value)[1]), [])
                    || coalesce(flatten(list_transform(list_filter(p.events, lambda e: starts_with(e.name, 'gen_ai.') or e.name = 'exception'),
                        lambda e: list_transform(e.attributes, lambda x: map_values(x.value)[1]))), [])
                    || coalesce(list_transform(r.resource.attributes, lambda x: map_values(x.value)[1]), [])}))))) as spans
        from requests)
),
named as (
    select landing_file, landing_row, is_otlp, span, span.names as names,
        -- ["stop"] rather than {"values": [{"stringValue": "stop"}]}; what is nested deeper keeps OTLP's own form here.
        list_transform(span.found, lambda t: case when starts_with(t, '{"values":[') then regexp_replace(regexp_extract(t, '^.{10}(.*)}$', 1, 's'),
            '\{"(?:string|bool|double|int)Value":("(?:[^"\\]|\\.)*"|[^"{}\[\],]+)\}', '\1', 'g') else t end) as texts,
        list_distinct(names) as distinct_names
    from per_span
),
keyed as (
    select landing_file, landing_row, is_otlp, span,
        -- A map refuses a name given twice; the first wins.
        case when len(distinct_names) = len(names) then map(names, texts)
             else map(distinct_names, list_transform(distinct_names, lambda n: texts[list_position(names, n)])) end as a,
        list_transform(span.raw_ids, lambda i: otlp_id(i)) as ids,
        -- Where the Vercel AI SDK had no attributes for a cache.
        json_extract_string(case when json_valid(a['ai.response.providerMetadata']) then a['ai.response.providerMetadata'] end,
            ['$.anthropic.cacheCreationInputTokens', '$.bedrock.usage.cacheWriteInputTokens', '$.anthropic.cacheReadInputTokens']) as ai_metadata
    from named
),
read_out as (
    select landing_file, landing_row, is_otlp, span is not null as is_span,
        ids[1] as trace_id, ids[2] as span_id, ids[3] as parent_span_id,
        span.start_text as start_text, span.end_text as end_text,
        regexp_matches(span.status_code, '^(2|STATUS_CODE_ERROR)$') as has_error_status,
        nullif(lower(coalesce(a['gen_ai.operation.name'], a['llm.request.type'])), 'unknown') as operation,
        upper(a['openinference.span.kind']) as openinference_kind,
        lower(a['traceloop.span.kind']) as traceloop_kind,
        -- In OpenRouter's Broadcast gen_ai.provider.name is who made the model; OpenRouter sold it.
        provider_word(coalesce(case when a['trace.metadata.openrouter.provider_name'] is not null then 'openrouter' end,
            a['gen_ai.provider.name'], a['gen_ai.system'], a['llm.provider'], a['llm.system'])) as provider_name,
        coalesce(a['gen_ai.request.model'], a['llm.request.model'], a['llm.model_name'], a['embedding.model_name']) as request_model,
        coalesce(a['gen_ai.response.model'], a['llm.response.model']) as response_model,
        a['aws.bedrock.region'] as request_region,
        coalesce(a['openai.response.service_tier'], a['gen_ai.openai.response.service_tier'], a['gen_ai.response.service_tier'],
            nullif(coalesce(a['openai.request.service_tier'], a['gen_ai.openai.request.service_tier'], a['gen_ai.request.service_tier']), 'auto')) as service_tier,
        coalesce(a['server.address'], a['gen_ai.openai.api_base'], a['llm.openai.api_base']) as server_address,
        coalesce(a['gen_ai.request.stream'], a['gen_ai.request.is_stream'], a['llm.is_streaming'], a['gen_ai.is_streaming']) as streaming_text,
        coalesce(a['gen_ai.usage.input_tokens'], a['gen_ai.usage.prompt_tokens'], a['llm.token_count.prompt'], a['llm.usage.prompt_tokens']) as input_text,
        coalesce(a['gen_ai.usage.output_tokens'], a['gen_ai.usage.completion_tokens'], a['llm.token_count.completion'],
            a['llm.usage.completion_tokens']) as output_text,
        coalesce(a['gen_ai.usage.total_tokens'], a['llm.usage.total_tokens'], a['llm.token_count.total'], a['ai.usage.totalTokens']) as total_text,
        coalesce(a['gen_ai.usage.cache_read.input_tokens'], a['gen_ai.usage.cache_read_input_tokens'], a['gen_ai.usage.cached_input_tokens'],
            a['gen_ai.usage.input_tokens.cached'], a['llm.token_count.prompt_details.cache_read'], a['ai.usage.inputTokenDetails.cacheReadTokens'],
            a['ai.usage.cachedInputTokens'], ai_metadata[3], a['gen_ai.usage.details.cache_read_tokens'], a['gen_ai.usage.details.cached_tokens'],
            a['gen_ai.usage.details.cache_read_input_tokens'], a['gen_ai.usage.details.cached_content_tokens']) as cache_read_text,
        coalesce(a['gen_ai.usage.cache_write.input_tokens'], a['gen_ai.usage.cache_creation.input_tokens'],
            a['gen_ai.usage.cache_creation_input_tokens'], a['gen_ai.usage.input_tokens.cache_write'], a['llm.token_count.prompt_details.cache_write'],
            a['ai.usage.inputTokenDetails.cacheWriteTokens'], ai_metadata[1], ai_metadata[2], a['gen_ai.usage.details.cache_write_tokens'],
            a['gen_ai.usage.details.cache_creation_input_tokens']) as cache_write_text,
        -- Version 5 of the Vercel AI SDK counts as Anthropic and Bedrock do; later ones count all input, and say what no cache served.
        coalesce(regexp_matches(a['ai.model.provider'], 'anthropic|bedrock'), false)
            and a['ai.usage.inputTokenDetails.noCacheTokens'] is null and coalesce(a['ai.usage.cachedInputTokens'], ai_metadata[1], ai_metadata[2]) is not null
            as cache_is_apart,
        coalesce(a['gen_ai.usage.reasoning.output_tokens'], a['gen_ai.usage.reasoning_tokens'], a['gen_ai.usage.output_tokens.reasoning'],
            a['llm.token_count.completion_details.reasoning'], a['ai.usage.outputTokenDetails.reasoningTokens'], a['ai.usage.reasoningTokens'],
            a['gen_ai.usage.details.reasoning_tokens'], a['gen_ai.usage.details.thoughts_tokens'],
            a['gen_ai.usage.details.thinking_tokens']) as reasoning_text,
        coalesce(a['gen_ai.usage.audio.input_tokens'], a['llm.token_count.prompt_details.audio'],
            a['gen_ai.usage.details.input_audio_tokens']) as input_audio_text,
        coalesce(a['gen_ai.usage.image.input_tokens'], a['llm.token_count.prompt_details.image']) as input_image_text,
        coalesce(a['gen_ai.usage.audio.output_tokens'], a['llm.token_count.completion_details.audio'],
            a['gen_ai.usage.details.output_audio_tokens']) as output_audio_text,
        coalesce(a['gen_ai.usage.image.output_tokens'], a['llm.token_count.completion_details.image']) as output_image_text,
        coalesce(a['gen_ai.usage.cost.amount'], a['llm.cost.total'], a['gen_ai.usage.cost'], a['gen_ai.cost.total_cost'],
            a['gen_ai.usage.total_cost'], a['operation.cost']) as cost_text,
        upper(coalesce(a['gen_ai.usage.cost.currency'], 'USD')) as cost_currency,
        -- Seconds by the conventions; the AI SDK says milliseconds.
        coalesce(try_cast(coalesce(a['gen_ai.response.time_to_first_chunk'], a['gen_ai.server.time_to_first_token'],
            a['gen_ai.response.time_to_first_token']) as double) * 1e6, try_cast(a['ai.response.msToFirstChunk'] as double) * 1e3) as first_chunk_us,
        span.first_token_text as first_token_text,
        as_count(coalesce(a['http.response.status_code'], a['http.status_code'])) as http,
        coalesce(a['error.type'], a['exception.type']) as error_class,
        coalesce(a['gen_ai.response.finish_reasons'], a['gen_ai.response.finish_reason'], a['llm.finish_reason'], a['llm.response.finish_reason'],
            a['gen_ai.completion.0.finish_reason']) as finish_reasons,
        case when starts_with(a['gen_ai.output.messages'], '[') and json_valid(a['gen_ai.output.messages'])
             then len(list_filter(json_extract_string(a['gen_ai.output.messages'], '$[*].parts[*].type'), lambda t: t = 'tool_call'))
             when a['gen_ai.completion.0.role'] is not null or a['llm.output_messages.0.message.role'] is not null
             then len(list_filter(map_keys(a), lambda k: regexp_matches(k, '^(gen_ai\.completion|llm\.output_messages)\.[0-9]+\..*tool_calls\.[0-9]+\..*name$')))
        end as tool_calls,
        coalesce(a['tenant.id'], a['tenant'], a['traceloop.association.properties.tenant_id'], a['traceloop.association.properties.tenant'],
            a['traceloop.association.properties.customer_id'], a['metadata.user_api_key_org_id']) as tenant,
        coalesce(a['team.id'], a['traceloop.association.properties.team_id'], a['metadata.user_api_key_team_id']) as team,
        coalesce(a['user.id'], a['enduser.id'], a['gen_ai.user.id'], a['traceloop.association.properties.user_id'], a['gen_ai.request.user'],
            a['llm.user'], a['ai.telemetry.metadata.userId']) as user_id,
        coalesce(a['gen_ai.conversation.id'], a['session.id'], a['traceloop.association.properties.session_id'],
            a['traceloop.association.properties.conversation_id'], a['traceloop.association.properties.thread_id'],
            a['ai.telemetry.metadata.sessionId']) as session_id,
        coalesce(a['gen_ai.workflow.name'], a['traceloop.workflow.name'], a['gen_ai.agent.name'], a['agent.name'], a['service.name']) as workload,
        coalesce(a['deployment.environment.name'], a['deployment.environment'], a['gen_ai.environment']) as environment,
        coalesce(a['gen_ai.prompt.name'], a['llm.prompt_template.name'], a['traceloop.prompt.key']) as prompt_name,
        coalesce(a['gen_ai.prompt.version'], a['llm.prompt_template.version'], a['traceloop.prompt.version']) as prompt_version,
        coalesce(a['gen_ai.agent.id'], a['gen_ai.agent.name'], a['agent.name']) is not null as in_agent,
        coalesce(a['tag.tags'], a['langfuse.trace.tags']) as tags,
        a['routing.policy'] as routing_policy,
        a['routing.candidates'] as routing_candidates,
        a['routing.propensity'] as propensity_text,
        -- What was said: plain JSON where the emitter has one, else put together from indexed attributes.
        a['gen_ai.input.messages'] as input_plain,
        a['gen_ai.output.messages'] as output_plain,
        a['gen_ai.system_instructions'] as system_plain,
        coalesce(a['gen_ai.tool.definitions'], a['llm.request.functions'], to_json(nullif(list_transform(
            list_filter(map_keys(a), lambda k: regexp_matches(k, '^llm\.tools\.[0-9]+\.tool\.json_schema$')), lambda k: a[k]), []))::varchar) as tools_plain,
        list_transform([{'head': 'gen_ai.prompt.', 'infix': '.'}, {'head': 'gen_ai.completion.', 'infix': '.'},
                {'head': 'llm.input_messages.', 'infix': '.message.'}, {'head': 'llm.output_messages.', 'infix': '.message.'}],
            lambda f: to_json(nullif(list_transform(
                list_sort(list_distinct(list_transform(list_filter(map_keys(a), lambda k: starts_with(k, f.head)),
                    lambda k: try_cast(split_part(k, '.', 3) as integer)))),
                lambda i: {
                    'role': a[f.head || i || f.infix || 'role'],
                    'content': coalesce(a[f.head || i || f.infix || 'content'], a[f.head || i || f.infix || 'contents.0.message_content.text']),
                    'tool_calls': nullif(list_transform(
                        list_filter(map_keys(a), lambda k: starts_with(k, f.head || i || f.infix || 'tool_calls.') and ends_with(k, '.name')),
                        lambda k: {'id': coalesce(a[regexp_replace(k, '(function\.)?name$', 'id')], a[regexp_replace(k, 'name$', 'id')]),
                            'type': 'function',
                            'function': {'name': a[k], 'arguments': a[regexp_replace(k, 'name$', 'arguments')]}}), [])}), []))::varchar) as indexed,
        coalesce(a['gen_ai.prompt'], a['input.value']) as input_fallback,
        coalesce(a['gen_ai.completion'], a['output.value']) as output_fallback,
        coalesce(a['llm.invocation_parameters'], a['gen_ai.request.parameters'], nullif(to_json(map_from_entries(list_transform(list_filter(
            list_transform(['temperature', 'max_tokens', 'top_p', 'top_k', 'seed', 'choice.count', 'stop_sequences', 'frequency_penalty',
                'presence_penalty', 'reasoning.level', 'previous_response.id'], lambda p: {'k': p, 'v': a['gen_ai.request.' || p]}),
            lambda e: e.v is not null), lambda e: {'k': e.k, 'v': e.v})))::varchar, '{}')) as request_params
    from keyed
),
spans as materialized (
    select *,
        as_utc(start_text) as started_at,
        as_utc(end_text) as finished_at,
        usage_given(input_text, output_text, total_text, cache_read_text, cache_write_text, reasoning_text, input_audio := input_audio_text,
            input_image := input_image_text, output_audio := output_audio_text, output_image := output_image_text,
            cache_is_apart := cache_is_apart) as usage,
        is_span and case
            when regexp_matches(operation, 'agent|tool|workflow|plan|retriev|memory|task|guardrail|evaluat') then false
            when openinference_kind is not null then openinference_kind in ('LLM', 'EMBEDDING')
            when traceloop_kind in ('workflow', 'task', 'agent', 'tool') then false
            when operation is not null then true
            else coalesce(request_model, response_model) is not null and coalesce(input_text, output_text) is not null
        end as is_model_call
    from read_out
),
counted_children as (
    select trace_id, parent_span_id from spans
    where is_model_call and as_count(input_text) is not null and parent_span_id is not null
    group by all
),
told as (
    select trace_id, span_id,
        max(given_at) as given_at,
        any_value(input_plain) as input_plain, any_value(output_plain) as output_plain,
        any_value(system_plain) as system_plain, any_value(tools_plain) as tools_plain
    from (
        select otlp_id(l."traceId") as trace_id, otlp_id(l."spanId") as span_id,
            greatest(as_utc(nullif(l."timeUnixNano", '0')), as_utc(nullif(l."observedTimeUnixNano", '0'))) as given_at,
            list_transform(['gen_ai.input.messages', 'gen_ai.output.messages', 'gen_ai.system_instructions', 'gen_ai.tool.definitions'],
                lambda n: list_filter(l.attributes, lambda x: x.key = n)[1].value) as found,
            list_transform(found, lambda v: coalesce(v."stringValue", cast(v."arrayValue"."values" as varchar), cast(v."kvlistValue" as varchar))) as t,
            t[1] as input_plain, t[2] as output_plain, t[3] as system_plain, t[4] as tools_plain
        from (
            select unnest(flatten(list_transform(flatten(list_transform(
                json_transform("resourceLogs", '[{"scopeLogs": [{"logRecords": [{"traceId": "VARCHAR", "spanId": "VARCHAR",
                    "eventName": "VARCHAR", "timeUnixNano": "VARCHAR", "observedTimeUnixNano": "VARCHAR",
                    "attributes": [{"key": "VARCHAR", "value": {"stringValue": "VARCHAR", "arrayValue": {"values": "JSON"}, "kvlistValue": "JSON"}}]}]}]}]'),
                lambda r: r."scopeLogs")), lambda s: s."logRecords"))) as l
            from read_json($files, format = 'newline_delimited', maximum_object_size = 16777216, columns = {"resourceLogs": 'JSON'})
            where "resourceLogs" is not null)
        where coalesce(l."eventName", list_filter(l.attributes, lambda x: x.key = 'event.name')[1].value."stringValue")
            = 'gen_ai.client.inference.operation.details')
    where span_id is not null
    group by all
),
joined as (
    select s.*, t.given_at, t.span_id is not null as is_told,
        s.is_model_call and c.parent_span_id is not null as is_wrapper,
        -- An event carries structured values in OTLP's own form, {"kvlistValue": {"values": [{"key": ..}]}}; made plain
        -- JSON from the inside out, done parts being bracketed by private-use letters so that a regex can tell them apart.
        list_transform([
                coalesce(s.input_plain, t.input_plain, s.indexed[1], s.indexed[3], s.input_fallback),
                coalesce(s.output_plain, t.output_plain, s.indexed[2], s.indexed[4], s.output_fallback),
                coalesce(s.system_plain, t.system_plain),
                coalesce(s.tools_plain, t.tools_plain)],
            lambda x: case when not regexp_matches(x, '^(\{"values":)?\[\{"(kvlist|array|string)Value":') then x else translate(list_reduce(
                [x, 'scalar', 'entry', 'object', 'array', 'entry', 'object', 'array', 'entry', 'object', 'array', 'entry', 'object', 'array',
                 'entry', 'object', 'array', 'entry', 'object', 'array', 'entry', 'object', 'array'],
                lambda done, step: case step
                    when 'scalar' then regexp_replace(regexp_replace(done, '\{"intValue":"?(-?[0-9]+)"?\}', '\1', 'g'),
                        '\{"(?:string|bool|double)Value":("(?:[^"\\]|\\.)*"|[^"{}\[\],]+)\}', '\1', 'g')
                    when 'entry' then regexp_replace(done, '\{"key":("(?:[^"\\]|\\.)*"),"value":((?:"(?:[^"\\]|\\.)*"|[^"{}\[\]])*)\}', '\1:\2', 'g')
                    when 'object' then regexp_replace(done, '\{"kvlistValue":\{"values":\[((?:"(?:[^"\\]|\\.)*"|[^"{}\[\]])*)\]\}\}', chr(57344) || '\1' || chr(57345), 'g')
                    else regexp_replace(done, '\{"arrayValue":\{"values":\[((?:"(?:[^"\\]|\\.)*"|[^"{}\[\]])*)\]\}\}', chr(57346) || '\1' || chr(57347), 'g')
                end), chr(57344) || chr(57345) || chr(57346) || chr(57347), '{}[]') end) as said
    from spans as s
    left join counted_children as c on c.trace_id = s.trace_id and c.parent_span_id = s.span_id
    left join told as t on t.span_id = s.span_id and t.trace_id = s.trace_id
)
select
    landing_file,
    landing_row,
    case when is_otlp and (not is_model_call or is_wrapper) then 'context' else 'call' end as record_kind,
    coalesce(
        used.unreadable,
        unreadable('startTimeUnixNano', start_text, started_at),
        unreadable('endTimeUnixNano', end_text, finished_at),
        unreadable('cost', cost_text, as_usd(cost_text))) as unreadable,
    'otel:' || trace_id || ':' || span_id as inference_id,
    -- A span read with its content is newer than the same span read without.
    case when is_told then greatest(finished_at + interval 1 microsecond, given_at) else finished_at end as version_at,
    case when operation in ('embeddings', 'embedding') or openinference_kind = 'EMBEDDING' then 'embeddings'
         when operation in ('completion', 'text_completion') then 'text_completion'
         else coalesce(operation, 'chat') end as operation_name,
    given(provider_name) as provider_name,
    coalesce(given(request_model), given(response_model)) as request_model,
    given(response_model) as response_model,
    request_region,
    service_tier,
    server_address,
    try_cast(streaming_text as boolean) as is_streaming,
    used.* exclude (usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    used.usage_note,
    started_at,
    coalesce(as_utc(first_token_text), started_at + to_microseconds(cast(case when first_chunk_us between 0 and 6e11 then first_chunk_us end as bigint))) as first_token_at,
    finished_at,
    case when has_error_status or error_class is not null then 'error' else 'ok' end as status,
    case when http between 100 and 599 then http end as http_status,
    case when regexp_full_match(error_class, '[A-Za-z0-9_.:/-]{1,100}') then error_class when error_class is not null then '_OTHER' end as error_type,
    case when starts_with(finish_reasons, '[') and json_valid(finish_reasons) then json_extract_string(finish_reasons, '$[0]')
         else given(finish_reasons) end as finish_reason,
    cast(tool_calls as bigint) as tool_call_count,
    given(tenant) as tenant,
    given(team) as team,
    given(user_id) as user_id,
    given(session_id) as session_id,
    trace_id,
    parent_span_id as parent_id,
    given(workload) as workload,
    given(environment) as environment,
    given(prompt_name) as prompt_name,
    given(prompt_version) as prompt_version,
    case when in_agent then 'agent' end as traffic_kind,
    given(tags) as tags,
    routing_policy,
    routing_candidates,
    try_cast(propensity_text as double) as routing_propensity,
    case when cost_currency = 'USD' then as_usd(cost_text) end as reported_cost_usd,
    said[1] as input_messages,
    said[3] as system_instructions,
    said[4] as tool_definitions,
    said[2] as output_messages,
    request_params
from with_given_usage('joined')
