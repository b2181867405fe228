-- OpenAI-style logs, one call a line, in any of the shapes they are kept in:
--   {"timestamp": …, "request": {…}, "response": {…}}        a pair; with workload_id and client_id the NVIDIA flywheel record
--   {"id": "chatcmpl-…", "object": "chat.completion", …}     a bare response: chat, legacy completion, embeddings, Responses API
--   {"id": "batch_req_…", "custom_id": …, "response": {"status_code", "body"}, "error"}    a line of a batch output or error file
-- The response may be any provider's (OpenAI-compatible servers, Anthropic, Gemini), or the events of a stream, as a list or as the text that was
-- sent; usage.sql joins these and reads the tokens. request and response may be JSON text. Beside them a line may say, where the response does not:
--   when     timestamp | started_at | start_time | created_at; finished_at | end_time, or latency_ms | duration_ms; ttft_ms
--   how      status_code, error, api_base | base_url | url, provider, cost_usd
--   for whom tenant, team, user_id, session_id, trace_id, environment, metadata {the same names}; so may request.metadata
-- Without any time there is `created`, in whole seconds, which is when the answer was made.
with lines as (
    select landing_file, json as line,
        from_json(json, '{
            "id": "VARCHAR", "custom_id": "VARCHAR", "object": "VARCHAR", "request": "JSON", "response": "JSON", "error": "JSON",
            "method": "VARCHAR", "type": "VARCHAR", "choices": [{"finish_reason": "VARCHAR"}], "output": [{"type": "VARCHAR"}],
            "candidates": [{"finishReason": "VARCHAR"}],
            "timestamp": "VARCHAR", "started_at": "VARCHAR", "start_time": "VARCHAR", "created_at": "VARCHAR",
            "finished_at": "VARCHAR", "end_time": "VARCHAR", "latency_ms": "VARCHAR", "duration_ms": "VARCHAR", "ttft_ms": "VARCHAR",
            "updated_at": "VARCHAR", "status_code": "VARCHAR", "api_base": "VARCHAR", "base_url": "VARCHAR", "url": "VARCHAR",
            "provider": "VARCHAR", "cost_usd": "VARCHAR", "workload_id": "VARCHAR", "client_id": "VARCHAR",
            "tenant": "VARCHAR", "team": "VARCHAR", "user_id": "VARCHAR", "session_id": "VARCHAR", "trace_id": "VARCHAR",
            "environment": "VARCHAR", "metadata": "JSON"}') as l
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
opened as (
    select *,
        unwrapped(l.request) as request,
        case when is_bare then line else unwrapped(l.response) end as answer
    from (
        select *,
            -- The line itself is the response, and its `id` and `error` are the response's own.
            l.request is null and l.response is null and l.custom_id is null
                and (coalesce(l.object, l.type, l.error::varchar) is not null
                    or l.choices is not null or l.output is not null or l.candidates is not null) as is_bare
        from lines)
),
answered as (
    select *, response_keys(case when starts_with(answer::varchar, '{') then answer end) as h from opened
),
-- An HTTP capture keeps the response body apart from its status.
unboxed as (
    select * replace (coalesce(unwrapped(h.body), answer) as answer) from answered
),
joined as (
    select *, starts_with(answer::varchar, '[') as is_stream, case when h.body is null and not is_stream then h else response_keys(response) end as r
    from with_whole_answer('unboxed')
),
read_out as (
    select *,
        usage_in(r, response) as usage,
        request_content(request) as asked,
        from_json(request, '{
            "model": "VARCHAR", "stream": "VARCHAR", "service_tier": "VARCHAR", "user": "VARCHAR", "safety_identifier": "VARCHAR",
            "conversation": "JSON", "prompt": "JSON", "messages": [{"role": "VARCHAR"}],
            "metadata": "JSON"}') as q
    from joined
),
judged as (
    select *,
        metadata_keys(l.metadata) as lm,
        metadata_keys(q.metadata) as qm,
        coalesce(error_in(r.error), error_in(l.error)) as failure,
        as_count(coalesce(l.status_code, h.status_code, case when regexp_full_match(h.status, '[1-5][0-9]{2}') then h.status end))
            as answered_status,
        coalesce(l.timestamp, l.started_at, l.start_time, case when not is_bare then l.created_at end, r.created, r.created_at)
            as start_text,
        coalesce(l.finished_at, l.end_time, r.completed_at) as end_text,
        coalesce(l.latency_ms, l.duration_ms) as latency_text,
        coalesce(l.api_base, l.base_url, l.url) as server,
        -- A batch line is answered without its request; a line of a batch's *input* file was never answered.
        l.custom_id is not null as is_batch,
        l.custom_id is not null and l.method is not null and l.response is null or l.object = 'batch' as is_context,
        r.choices is not null or r.output is not null or r.candidates is not null or r.object is not null or r.type is not null
            as is_answer,
        lower(coalesce(r.model, r."modelVersion", q.model)) as model_text
    from with_usage('read_out')
),
timed as (
    select *,
        as_utc(start_text) as start_at,
        coalesce(as_utc(end_text), after_ms(as_utc(start_text), latency_text)) as end_at,
        coalesce(answered_status, as_count(json_extract_string(failure, '$.code'))) as http,
        failure is not null or coalesce(answered_status >= 400 or r.status in ('failed', 'cancelled'), false)
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
    'openai:' || coalesce(
        answer_id(native_id(r.id), r.system_fingerprint = 'fp_ollama', coalesce(as_count(r.created)::varchar, start_text), coalesce(request, response)::varchar),
        native_id(r."responseId"), case when not is_bare then native_id(l.id) end, native_id(l.custom_id),
        -- What has no id of its own: a failed call, embeddings, some compatible servers.
        case when is_failed or is_answer or request is not null
            then 'sha256:' || left(sha256(concat_ws('|', start_text, request::varchar, coalesce(response, failure)::varchar)), 32) end)
        as inference_id,
    greatest(as_utc(l.updated_at), end_at, start_at, as_utc(r.created), as_utc(r.created_at)) as version_at,
    case
        when r.object in ('list', 'embedding') or l.url like '%/embeddings%' then 'embeddings'
        when r.object = 'text_completion' then 'text_completion'
        when r."usageMetadata" is not null or r.candidates is not null then 'generate_content'
        when is_answer then 'chat'
        when q.prompt is not null and q.messages is null then 'text_completion'
        when request is not null then 'chat'
    end as operation_name,
    -- Only what gives itself away: "OpenAI-compatible" is not OpenAI, and a wrong name is a wrong price.
    coalesce(
        lower(given(l.provider)),
        case when server like '%azure%' then 'azure' when server like '%openrouter.ai%' then 'openrouter'
             when server like '%api.openai.com%' then 'openai' when server like '%api.anthropic.com%' then 'anthropic'
             when server like '%bedrock%' then 'bedrock' when server like '%aiplatform.googleapis.com%' then 'vertex_ai'
             when server like '%googleapis.com%' then 'gemini' when server like '%api.groq.com%' then 'groq'
             when server like '%mistral.ai%' then 'mistral' when server like '%deepseek.com%' then 'deepseek'
             when server like '%api.x.ai%' then 'xai' when server like '%perplexity.ai%' then 'perplexity'
             when server like '%together%' then 'together_ai' when server like '%fireworks.ai%' then 'fireworks_ai'
             when server like '%cerebras.ai%' then 'cerebras' when server like '%cohere%' then 'cohere' end,
        used.provider,
        case when r.provider is not null and starts_with(r.id, 'gen-') then 'openrouter'
             when r.prompt_filter_results is not null or r.choices[1].content_filter_results is not null then 'azure'
             when r.x_groq is not null then 'groq'
             when r."usageMetadata" is not null then 'gemini'
             when r.type = 'message' then 'anthropic' end,
        -- A model name without a slash, of a family that only its maker serves under that name through this API.
        case when regexp_matches(model_text, '^(ft:)?(gpt-[0-9]|o[0-9](-|$)|chatgpt-|text-embedding-(3|ada)|davinci|babbage)')
                 then 'openai'
             when starts_with(model_text, 'claude-') then 'anthropic'
             when starts_with(model_text, 'gemini-') then 'gemini'
             when starts_with(model_text, 'grok-') then 'xai'
             when model_text in ('deepseek-chat', 'deepseek-reasoner') then 'deepseek' end) as provider_name,
    given(q.model) as request_model,
    coalesce(given(r.model), given(r."modelVersion")) as response_model,
    used.region as served_region,
    case when is_batch then 'batch' else coalesce(tier_name(r.service_tier), tier_name(used.service_tier)) end as service_tier,
    given(server) as server_address,
    coalesce(try_cast(q.stream as boolean), case when is_stream then true end) as is_streaming,
    used.* exclude (web_search_requests, usage_note, reported_cost_usd, provider, service_tier, region, unreadable),
    coalesce(used.web_search_requests, web_searches_in(r)) as web_search_requests,
    used.usage_note,
    start_at as started_at,
    after_ms(start_at, l.ttft_ms) as first_token_at,
    end_at as finished_at,
    case when is_failed then 'error' else 'ok' end as status,
    case when http between 100 and 599 then http end as http_status,
    case when is_failed then coalesce(
        error_class([json_extract_string(failure, '$.type'), json_extract_string(failure, '$.code'), http::varchar, r.status]),
        'error') end as error_type,
    coalesce(r.choices[1].finish_reason, r.incomplete_details.reason, r.stop_reason, r.candidates[1]."finishReason",
        case when r.object = 'response' then r.status end) as finish_reason,
    case when is_answer and not is_failed then tool_calls_in(r) end as tool_call_count,
    coalesce(given(l.tenant), metadata_tenant(lm), metadata_tenant(qm), given(l.client_id)) as tenant,
    coalesce(given(l.team), metadata_team(lm), metadata_team(qm)) as team,
    coalesce(given(l.user_id), metadata_user(lm), metadata_user(qm), given(q.safety_identifier), given(q.user)) as user_id,
    coalesce(given(l.session_id), metadata_session(lm), metadata_session(qm), given(r.conversation.id),
        native_id(json_extract_string(q.conversation, '$'))) as session_id,
    coalesce(given(l.trace_id), metadata_trace(lm), metadata_trace(qm)) as trace_id,
    coalesce(given(l.workload_id), metadata_workload(lm), metadata_workload(qm)) as workload,
    coalesce(given(l.environment), metadata_environment(lm), metadata_environment(qm)) as environment,
    coalesce(given(r.prompt.id), given(json_extract_string(q.prompt, '$.id'))) as prompt_name,
    coalesce(given(r.prompt.version), given(json_extract_string(q.prompt, '$.version'))) as prompt_version,
    given(coalesce(q.metadata, l.metadata)::varchar) as tags,
    coalesce(as_usd(l.cost_usd), used.reported_cost_usd) as reported_cost_usd,
    coalesce(asked.messages, asked.input, asked.contents, asked.prompt)::varchar as input_messages,
    coalesce(asked.instructions, asked.system, asked."systemInstruction", asked.system_instruction)::varchar as system_instructions,
    coalesce(asked.tools, asked.functions)::varchar as tool_definitions,
    -- Embeddings are no message. Events of which nothing could be made are kept as they are.
    case when r.object = 'list' then null
         when is_stream and coalesce(greatest(len(r.choices), len(r.content), len(r.output), len(r.candidates)), 0) = 0 then answer
         else response end::varchar as output_messages,
    request_params_of(request) as request_params
from timed
