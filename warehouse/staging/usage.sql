-- Readers of provider bodies: one for the `usage` of every provider we know, whatever its key names and whatever it counts
-- twice, and the small words around it. Loaded after macros.sql. The macros named usage_… are steps of with_usage.
-- Proof over real bodies: tests/benchmarks/token_answer_key.py.

-- JSON → the object or array in it, also when it was logged as text ("{\"model\": …}"); the text of a stream (lines of "data: {…}") → the
-- array of its events; anything else → null.
create or replace macro unwrapped(body) as
    case
        when starts_with(body::varchar, '{') or starts_with(body::varchar, '[') then body
        when regexp_matches(json_extract_string(body, '$'), '^\s*[\[{]') then try_cast(json_extract_string(body, '$') as json)
        when regexp_matches(json_extract_string(body, '$'), '(?s)^\s*(data:|(event|id|retry)?:.*\ndata:)') then cast('[' || coalesce(array_to_string(
            list_filter(regexp_extract_all(json_extract_string(body, '$'), '(?m)^data: ?(\{.*)$', 1), lambda e: json_valid(e)), ','), '') || ']' as json)
    end;

-- An id as the source gave it; an object or a list where an id belongs is none.
create or replace macro native_id(text) as
    case when not starts_with(trim(text), '{') and not starts_with(trim(text), '[') then given(text) end;

-- Ollama draws the ids of its answers, chatcmpl-<n> and cmpl-<n>, from 999 numbers: other answers have the same.
create or replace macro is_drawn_id(id) as regexp_full_match(id, '(chat)?cmpl-[0-9]{1,3}');

-- The id of an answer; one that Ollama drew tells answers apart only together with when it was made and what was asked.
create or replace macro answer_id(id, is_ollama, made, asked) as
    case when is_ollama and is_drawn_id(id) then concat_ws(':', id, made, left(sha256(asked), 12)) else id end;

-- What a body says went wrong; servers also write false, "" and {} for nothing.
create or replace macro error_in(error) as case when given(error::varchar) <> 'false' then error end;

-- The first of some texts that is a class name and not a sentence: messages may quote prompts.
create or replace macro error_class(texts) as
    list_filter(texts, lambda text: regexp_full_match(text, '[A-Za-z0-9_.:#-]{1,80}') and text <> 'null')[1];

-- Service tier in one vocabulary: what a provider calls default or on demand is standard.
create or replace macro tier_name(text) as
    case when lower(text) in ('default', 'on_demand') then 'standard' when lower(text) <> 'auto' then lower(given(text)) end;

-- LiteLLM's call types (acompletion, aimage_generation, rerank, …) → operation names; what is no word of its own is chat.
create or replace macro litellm_operation(call_type) as
    case when call_type like '%embedding%' then 'embeddings' when call_type like '%text_completion%' then 'text_completion'
         when call_type like '%generate_content%' then 'generate_content' when call_type like '%image%' then 'image_generation'
         when given(call_type) is not null
             then coalesce(nullif(regexp_extract(call_type, 'transcription|speech|moderation|rerank|search|ocr|video'), ''), 'chat') end;

-- Whether LiteLLM logged something else than a model call: without tokens, handling batches, files, tools and the like.
create or replace macro litellm_is_errand(call_type, total_tokens) as
    coalesce(regexp_matches(call_type, 'mcp|file|batch|list|assistant|thread|vector_store|fine_tun|health|container|retrieve|delete|cancel'), false)
        and as_count(total_tokens) is not distinct from 0;

-- The model behind a LiteLLM call. Where the answer names only what an admin chose (the group, the deployment), the entry of LiteLLM's price
-- map that it was priced as tells more; the same name with a provider before it does not.
create or replace macro litellm_model(answered, map_key, model_group, model) as
    coalesce(case when coalesce(answered, model) in (model_group, model) and not ends_with(map_key, coalesce(answered, model)) then map_key end,
        answered, model);

-- What a request asked for besides its messages and tools, as JSON without nulls.
create or replace macro request_params_of(request) as
    given(json_merge_patch('{}', to_json(from_json(request, '{
        "temperature": "JSON", "top_p": "JSON", "top_k": "JSON", "n": "JSON", "seed": "JSON", "max_tokens": "JSON",
        "max_completion_tokens": "JSON", "max_output_tokens": "JSON", "stop": "JSON", "stop_sequences": "JSON",
        "presence_penalty": "JSON", "frequency_penalty": "JSON", "logprobs": "JSON", "top_logprobs": "JSON", "logit_bias": "JSON",
        "response_format": "JSON", "tool_choice": "JSON", "parallel_tool_calls": "JSON", "reasoning_effort": "JSON",
        "reasoning": "JSON", "thinking": "JSON", "text": "JSON", "verbosity": "JSON", "service_tier": "JSON", "dimensions": "JSON",
        "encoding_format": "JSON", "generationConfig": "JSON", "inferenceConfig": "JSON", "textGenerationConfig": "JSON"}')))::varchar);

-- A time some milliseconds after another; null when they make no sense.
create or replace macro after_ms(moment, ms) as
    case when try_cast(ms as double) between 0 and 1e10 and moment < timestamp '9999-01-01'
        then moment + to_microseconds(cast(try_cast(ms as double) * 1000 as bigint)) end;

-- A response body, of any provider, → a struct of what the staging selects read in it. One parse; keys of other shapes are null.
create or replace macro response_keys(body) as from_json(body, '{
    "id": "VARCHAR", "responseId": "VARCHAR", "request_id": "VARCHAR", "object": "VARCHAR", "type": "VARCHAR",
    "model": "VARCHAR", "modelVersion": "VARCHAR", "provider": "VARCHAR", "system_fingerprint": "VARCHAR", "created": "VARCHAR", "created_at": "VARCHAR", "completed_at": "VARCHAR",
    "service_tier": "VARCHAR", "status": "VARCHAR", "status_code": "VARCHAR", "body": "JSON", "error": "JSON", "message": {"usage": "JSON"},
    "choices": [{"finish_reason": "VARCHAR", "message": {"tool_calls": [{"type": "VARCHAR"}], "function_call": {"name": "VARCHAR"}},
        "content_filter_results": "VARCHAR"}],
    "output": [{"type": "VARCHAR", "action": {"type": "VARCHAR"}}], "content": [{"type": "VARCHAR"}],
    "candidates": [{"finishReason": "VARCHAR", "content": {"parts": [{"functionCall": {"name": "VARCHAR"}}]}}],
    "stop_reason": "VARCHAR", "stopReason": "VARCHAR", "incomplete_details": {"reason": "VARCHAR"},
    "prompt_filter_results": [{"prompt_index": "VARCHAR"}], "x_groq": {"id": "VARCHAR", "usage": "JSON"},
    "usage": "JSON", "usageMetadata": "JSON", "usage_metadata": "JSON", "response": {"usage": "JSON"}, "meta": "JSON",
    "amazon-bedrock-invocationMetrics": "JSON",
    "conversation": {"id": "VARCHAR"}, "prompt": {"id": "VARCHAR", "version": "VARCHAR"}}');

-- An object without its nulls, which json_merge_patch takes for "remove".
create or replace macro without_nulls(object) as json_merge_patch('{}', to_json(object));

create or replace macro joined_text(texts) as nullif(array_to_string(list_filter(texts, lambda text: text is not null), ''), '');

-- The events of a streamed answer, of any provider; what is no list of events gives null.
create or replace macro stream_events(answer) as from_json(case when starts_with(answer::varchar, '[') then answer end, '[{
    "type": "VARCHAR", "id": "VARCHAR", "object": "VARCHAR", "created": "JSON", "model": "VARCHAR", "provider": "VARCHAR",
    "service_tier": "VARCHAR", "error": "JSON", "code": "VARCHAR", "prompt_filter_results": "JSON", "x_groq": "JSON",
    "choices": [{"index": "VARCHAR", "finish_reason": "VARCHAR", "text": "VARCHAR", "delta": {"content": "VARCHAR", "refusal": "VARCHAR",
        "reasoning_content": "VARCHAR", "function_call": {"name": "VARCHAR", "arguments": "VARCHAR"},
        "tool_calls": [{"index": "VARCHAR", "id": "VARCHAR", "function": {"name": "VARCHAR", "arguments": "VARCHAR"}}]}}],
    "response": "JSON", "message": "JSON", "index": "VARCHAR", "content_block": "JSON",
    "delta": {"stop_reason": "VARCHAR", "text": "VARCHAR", "thinking": "VARCHAR", "signature": "VARCHAR", "partial_json": "VARCHAR"},
    "candidates": [{"finishReason": "VARCHAR", "content": {"parts": ["JSON"]}}], "usage": "JSON", "usageMetadata": "JSON",
    "contentBlockStart": {"contentBlockIndex": "VARCHAR", "start": {"toolUse": {"toolUseId": "VARCHAR", "name": "VARCHAR"}}},
    "contentBlockDelta": {"contentBlockIndex": "VARCHAR", "delta": {"text": "VARCHAR", "toolUse": {"input": "VARCHAR"}}},
    "messageStop": {"stopReason": "VARCHAR"}, "metadata": {"usage": "JSON", "metrics": "JSON"},
    "amazon-bedrock-invocationMetrics": "JSON"}]');

-- Pieces of tool calls → the calls. The first piece of each has its name and id, the others, of the same index, more of its arguments.
create or replace macro joined_tool_calls(pieces) as list_transform(
    list_sort(list_distinct(list_transform(list_filter(pieces, lambda piece: given(piece.name) is not null),
        lambda piece: {'choice': piece.choice, 'index': piece.index, 'id': piece.id, 'name': piece.name}))),
    lambda call: {'choice': call.choice, 'id': call.id, 'function': {'name': call.name, 'arguments': array_to_string(
        list_transform(list_filter(pieces, lambda piece: piece.choice = call.choice and piece.index = call.index
            and coalesce(piece.id = call.id, true) and piece.arguments is not null), lambda piece: piece.arguments), '')}});

-- The choices of all OpenAI chunks → whole choices.
create or replace macro joined_choices(choices, tool_calls) as nullif(list_transform(
    list_sort(list_distinct(list_transform(choices, lambda piece: piece.no))),
    lambda no: without_nulls({
        'index': no,
        'finish_reason': list_filter(choices, lambda piece: piece.no = no and given(piece.finish_reason) is not null)[-1].finish_reason,
        'text': joined_text(list_transform(choices, lambda piece: case when piece.no = no then piece.text end)),
        'message': {
            'role': 'assistant',
            'content': joined_text(list_transform(choices, lambda piece: case when piece.no = no then piece.delta.content end)),
            'refusal': joined_text(list_transform(choices, lambda piece: case when piece.no = no then piece.delta.refusal end)),
            'reasoning_content': joined_text(list_transform(choices, lambda piece: case when piece.no = no then piece.delta.reasoning_content end)),
            'tool_calls': nullif(list_transform(list_filter(tool_calls, lambda call: call.choice = no),
                lambda call: {'id': call.id, 'type': 'function', 'function': call.function}), [])}})), []);

-- Anthropic's content_block_start events, each with what content_block_delta events of the same index add → whole blocks.
create or replace macro joined_blocks(events) as nullif(list_transform(
    list_filter(events, lambda event: starts_with(event.content_block::varchar, '{')),
    lambda block: json_merge_patch(block.content_block, without_nulls({
        'text': joined_text(list_transform(events, lambda event: case when event.index = block.index then event.delta.text end)),
        'thinking': joined_text(list_transform(events, lambda event: case when event.index = block.index then event.delta.thinking end)),
        'signature': joined_text(list_transform(events, lambda event: case when event.index = block.index then event.delta.signature end)),
        'input': try_cast(joined_text(list_transform(events, lambda event: case when event.index = block.index then event.delta.partial_json end))
            as json)}))), []);

-- Pieces of a Converse answer (Bedrock: Nova, ConverseStream) → its blocks. Hidden reasoning is left out.
create or replace macro converse_blocks(pieces) as nullif(list_filter(list_transform(
    list_sort(list_distinct(list_transform(pieces, lambda piece: piece.index))),
    lambda index: without_nulls({
        'text': joined_text(list_transform(pieces, lambda piece: case when piece.index = index then piece.text end)),
        'toolUse': list_transform(list_filter(pieces, lambda piece: piece.index = index and piece.name is not null), lambda piece: {
            'toolUseId': piece.id, 'name': piece.name, 'input': coalesce(
                try_cast(joined_text(list_transform(pieces, lambda more: case when more.index = index then more.input end)) as json), '{}'::json)})[1]})),
    lambda block: block <> '{}'::json), []);

-- Every row of a table or CTE that has a JSON column `answer`, and beside it `response`: the answer as it would have come in one piece. The
-- list of the events of a stream, of any provider, becomes the body that they add up to: id and model are those of the first event that has
-- one, finish reason and usage of the last. Of events not known here it is the last. Nested projections, as a lambda in a lambda is slow to plan.
create or replace macro with_whole_answer(calls) as table
    select * exclude (events, choices, tool_calls, candidates, pieces), case when events is null then answer else json_merge_patch(
        coalesce(
            -- The Responses API repeats the whole response; Anthropic starts with the message, its usage so far included.
            list_filter(events, lambda event: starts_with(event.response::varchar, '{'))[-1].response,
            list_filter(events, lambda event: event.type = 'message_start' and starts_with(event.message::varchar, '{'))[1].message,
            list_filter(json_extract(answer, '$[*]'), lambda event: starts_with(event::varchar, '{'))[-1],
            '{}'::json),
        without_nulls({
            'id': list_filter(events, lambda event: given(event.id) is not null)[1].id,
            'model': list_filter(events, lambda event: given(event.model) is not null)[1].model,
            'object': replace(list_filter(events, lambda event: event.object is not null)[1].object, '.chunk', ''),
            'created': list_filter(events, lambda event: as_count(event.created::varchar) > 0)[1].created,
            'provider': list_filter(events, lambda event: event.provider is not null)[1].provider,
            'service_tier': list_filter(events, lambda event: event.service_tier is not null)[-1].service_tier,
            'prompt_filter_results': list_filter(events, lambda event: event.prompt_filter_results is not null)[1].prompt_filter_results,
            'x_groq': list_filter(events, lambda event: event.x_groq is not null)[-1].x_groq,
            'error': coalesce(list_filter(events, lambda event: event.error is not null)[-1].error,
                json_object('code', list_filter(events, lambda event: event.type = 'error')[-1].code)),
            'choices': joined_choices(choices, tool_calls),
            'content': joined_blocks(events),
            'stop_reason': list_filter(events, lambda event: event.delta.stop_reason is not null)[-1].delta.stop_reason,
            'candidates': case when len(candidates) > 0 then [{
                'finishReason': list_filter(candidates, lambda part: part."finishReason" is not null)[-1]."finishReason",
                'content': {'role': 'model', 'parts': flatten(list_transform(candidates, lambda part: part.content.parts))}}] end,
            'output': case when len(pieces) > 0 then {'message': {'role': 'assistant', 'content': coalesce(converse_blocks(pieces), [])}} end,
            'stopReason': list_filter(events, lambda event: event."messageStop"."stopReason" is not null)[-1]."messageStop"."stopReason",
            'metrics': list_filter(events, lambda event: event.metadata.metrics is not null)[-1].metadata.metrics,
            'usage': list_filter(list_transform(events, lambda event: coalesce(event.usage, event.metadata.usage)), lambda usage: given(usage::varchar) is not null)[-1],
            'usageMetadata': list_filter(events, lambda event: event."usageMetadata" is not null)[-1]."usageMetadata",
            'amazon-bedrock-invocationMetrics': list_filter(events, lambda event: event."amazon-bedrock-invocationMetrics" is not null)[-1]
                ."amazon-bedrock-invocationMetrics"})) end as response
    from (select *, joined_tool_calls(flatten(list_transform(choices, lambda choice: list_transform(
        -- OpenAI's older form of a tool call has no list.
        coalesce(choice.delta.tool_calls, [{'index': null::varchar, 'id': null::varchar, 'function': choice.delta.function_call}]), lambda call: {
        'choice': choice.no, 'index': coalesce(as_count(call.index), 0), 'id': given(call.id),
        'name': call.function.name, 'arguments': call.function.arguments})))) as tool_calls
    from (select *,
        flatten(list_transform(events, lambda event: list_transform(event.choices, lambda choice: {'no': coalesce(as_count(choice.index), 0),
            'finish_reason': choice.finish_reason, 'text': choice.text, 'delta': choice.delta}))) as choices,
        flatten(list_transform(events, lambda event: event.candidates)) as candidates,
        list_transform(list_filter(events, lambda event: coalesce(event."contentBlockStart" is not null or event."contentBlockDelta" is not null, false)), lambda event: {
            'index': coalesce(as_count(event."contentBlockStart"."contentBlockIndex"), as_count(event."contentBlockDelta"."contentBlockIndex"), 0),
            'id': event."contentBlockStart".start."toolUse"."toolUseId", 'name': event."contentBlockStart".start."toolUse".name,
            'text': event."contentBlockDelta".delta.text, 'input': event."contentBlockDelta".delta."toolUse".input}) as pieces
    from (select *, stream_events(answer) as events from query_table(calls))));

-- The usage of a body: under one of the known keys, or at its root (Ollama; Llama and Titan on Bedrock).
create or replace macro usage_in(response, body) as
    case
        when starts_with(response.usage::varchar, '{') then response.usage
        else coalesce(unwrapped(response."usageMetadata"), unwrapped(response.usage_metadata), unwrapped(response.response.usage),
            unwrapped(response.message.usage), unwrapped(response.x_groq.usage), unwrapped(response.meta),
            unwrapped(response."amazon-bedrock-invocationMetrics"), body)
    end;

-- Tool calls in an answer, whichever provider's: the model's own and those that the provider ran.
create or replace macro tool_calls_in(response) as
    cast(coalesce(
        list_sum(list_transform(response.choices, lambda choice:
            coalesce(len(choice.message.tool_calls), (choice.message.function_call is not null)::int))),
        len(list_filter(response.output, lambda item: item.type like '%\_call' escape '\')),
        len(list_filter(response.content, lambda part: part.type in ('tool_use', 'server_tool_use', 'mcp_tool_use'))),
        list_sum(list_transform(response.candidates, lambda candidate:
            len(list_filter(candidate.content.parts, lambda part: part."functionCall" is not null)))),
        0) as bigint);

-- Web searches in an answer of OpenAI's Responses API, which its usage leaves out; to open a page that was found costs nothing.
create or replace macro web_searches_in(response) as nullif(len(list_filter(response.output,
    lambda item: item.type = 'web_search_call' and coalesce(item.action.type, 'search') = 'search')), 0);

-- What was said in a request, of any provider.
create or replace macro request_content(request) as from_json(request, '{
    "messages": "JSON", "input": "JSON", "contents": "JSON", "prompt": "JSON", "inputText": "JSON",
    "instructions": "JSON", "system": "JSON", "systemInstruction": "JSON", "system_instruction": "JSON",
    "tools": "JSON", "toolConfig": {"tools": "JSON"}, "functions": "JSON"}');

-- Whom and what a call was for, by the names people give these in request metadata (an object of the caller's own making).
create or replace macro metadata_keys(metadata) as from_json(metadata, '{
    "tenant": "VARCHAR", "tenant_id": "VARCHAR", "tenantId": "VARCHAR", "customer": "VARCHAR", "customer_id": "VARCHAR",
    "team": "VARCHAR", "team_id": "VARCHAR", "teamId": "VARCHAR", "user_id": "VARCHAR", "userId": "VARCHAR",
    "session_id": "VARCHAR", "sessionId": "VARCHAR", "conversation_id": "VARCHAR", "conversationId": "VARCHAR", "thread_id": "VARCHAR",
    "trace_id": "VARCHAR", "traceId": "VARCHAR", "environment": "VARCHAR", "env": "VARCHAR",
    "workload": "VARCHAR", "workload_id": "VARCHAR", "feature": "VARCHAR"}');
create or replace macro metadata_tenant(m) as
    coalesce(given(m.tenant), given(m.tenant_id), given(m."tenantId"), given(m.customer), given(m.customer_id));
create or replace macro metadata_team(m) as coalesce(given(m.team), given(m.team_id), given(m."teamId"));
create or replace macro metadata_user(m) as coalesce(given(m.user_id), given(m."userId"));
create or replace macro metadata_session(m) as
    coalesce(given(m.session_id), given(m."sessionId"), given(m.conversation_id), given(m."conversationId"), given(m.thread_id));
create or replace macro metadata_trace(m) as coalesce(given(m.trace_id), given(m."traceId"));
create or replace macro metadata_environment(m) as coalesce(given(m.environment), given(m.env));
create or replace macro metadata_workload(m) as coalesce(given(m.workload), given(m.workload_id), given(m.feature));

-- `least` and `greatest` skip nulls; these keep them: what is unknown stays unknown.
create or replace macro at_most(value, ceiling) as case when value > ceiling then ceiling else value end;
create or replace macro at_least(value, floor) as case when value < floor then floor else value end;

-- Σ of the counts of some modalities in a Gemini list such as promptTokensDetails; null when there is no list.
create or replace macro modality_tokens(details, modalities) as
    case when details is not null then
        coalesce(try_cast(list_sum(list_transform(details, lambda part:
            case when list_contains(modalities, upper(part.modality)) then as_count(part."tokenCount") end)) as bigint), 0) end;

-- Σ of counts given as texts, zero where there are none.
create or replace macro sum_of_counts(texts) as coalesce(try_cast(list_sum(list_transform(texts, lambda text: as_count(text))) as bigint), 0);

-- Step 1. JSON → a struct of texts with every key that any provider uses; what is of another type than expected is null.
create or replace macro usage_keys(usage) as from_json(usage, '{
    "prompt_tokens": "VARCHAR", "completion_tokens": "VARCHAR", "total_tokens": "VARCHAR",
    "input_tokens": "VARCHAR", "output_tokens": "VARCHAR",
    "prompt_tokens_details": {"cached_tokens": "VARCHAR", "cache_write_tokens": "VARCHAR", "cache_creation_tokens": "VARCHAR",
        "audio_tokens": "VARCHAR", "image_tokens": "VARCHAR", "video_tokens": "VARCHAR",
        "cache_creation_token_details": {"ephemeral_1h_input_tokens": "VARCHAR"}},
    "input_tokens_details": {"cached_tokens": "VARCHAR", "cache_write_tokens": "VARCHAR", "cache_read_input_tokens": "VARCHAR",
        "audio_tokens": "VARCHAR", "image_tokens": "VARCHAR"},
    "input_token_details": {"cached_tokens": "VARCHAR", "cache_read": "VARCHAR", "cache_creation": "VARCHAR",
        "audio_tokens": "VARCHAR", "audio": "VARCHAR", "image_tokens": "VARCHAR", "ephemeral_1h_input_tokens": "VARCHAR",
        "cached_tokens_details": {"audio_tokens": "VARCHAR", "image_tokens": "VARCHAR"}},
    "completion_tokens_details": {"reasoning_tokens": "VARCHAR", "audio_tokens": "VARCHAR", "image_tokens": "VARCHAR"},
    "output_tokens_details": {"reasoning_tokens": "VARCHAR", "thinking_tokens": "VARCHAR", "image_tokens": "VARCHAR"},
    "output_token_details": {"reasoning": "VARCHAR", "audio_tokens": "VARCHAR", "audio": "VARCHAR"},
    "cached_tokens": "VARCHAR", "num_cached_tokens": "VARCHAR", "cached_prompt_text_tokens": "VARCHAR",
    "prompt_cache_hit_tokens": "VARCHAR", "reasoning_tokens": "VARCHAR", "citation_tokens": "VARCHAR",
    "cache_read_input_tokens": "VARCHAR", "cache_creation_input_tokens": "VARCHAR",
    "cache_creation": {"ephemeral_5m_input_tokens": "VARCHAR", "ephemeral_1h_input_tokens": "VARCHAR"},
    "server_tool_use": {"web_search_requests": "VARCHAR"}, "iterations": [{"type": "VARCHAR",
        "input_tokens": "VARCHAR", "output_tokens": "VARCHAR", "cache_read_input_tokens": "VARCHAR", "cache_creation_input_tokens": "VARCHAR",
        "cache_creation": {"ephemeral_1h_input_tokens": "VARCHAR"}}],
    "num_search_queries": "VARCHAR", "num_sources_used": "VARCHAR",
    "tool_calls_details": {"search_web": {"invocation": "VARCHAR"}},
    "inputTokens": "VARCHAR", "outputTokens": "VARCHAR", "totalTokens": "VARCHAR",
    "inputTokenCount": "VARCHAR", "outputTokenCount": "VARCHAR",
    "cacheReadInputTokens": "VARCHAR", "cacheReadInputTokenCount": "VARCHAR",
    "cacheWriteInputTokens": "VARCHAR", "cacheWriteInputTokenCount": "VARCHAR",
    "cacheDetails": [{"inputTokens": "VARCHAR", "ttl": "VARCHAR"}],
    "promptTokenCount": "VARCHAR", "candidatesTokenCount": "VARCHAR", "responseTokenCount": "VARCHAR",
    "thoughtsTokenCount": "VARCHAR", "toolUsePromptTokenCount": "VARCHAR", "cachedContentTokenCount": "VARCHAR",
    "totalTokenCount": "VARCHAR", "serviceTier": "VARCHAR",
    "promptTokensDetails": [{"modality": "VARCHAR", "tokenCount": "VARCHAR"}],
    "toolUsePromptTokensDetails": [{"modality": "VARCHAR", "tokenCount": "VARCHAR"}],
    "cacheTokensDetails": [{"modality": "VARCHAR", "tokenCount": "VARCHAR"}],
    "candidatesTokensDetails": [{"modality": "VARCHAR", "tokenCount": "VARCHAR"}],
    "prompt_token_count": "VARCHAR", "candidates_token_count": "VARCHAR", "thoughts_token_count": "VARCHAR",
    "tool_use_prompt_token_count": "VARCHAR", "cached_content_token_count": "VARCHAR", "total_token_count": "VARCHAR",
    "generation_token_count": "VARCHAR",
    "billed_units": {"input_tokens": "VARCHAR", "output_tokens": "VARCHAR"},
    "tokens": {"input_tokens": "VARCHAR", "output_tokens": "VARCHAR"},
    "prompt_eval_count": "VARCHAR", "eval_count": "VARCHAR",
    "inputTextTokenCount": "VARCHAR", "results": [{"tokenCount": "VARCHAR"}],
    "cost": "VARCHAR", "is_byok": "VARCHAR", "cost_details": {"upstream_inference_cost": "VARCHAR"},
    "service_tier": "VARCHAR", "speed": "VARCHAR", "inference_geo": "VARCHAR"}');

-- Tokens of the passes that compacted a conversation, which Anthropic bills with the call and leaves out of its counts.
create or replace macro compacted_tokens(passes) as {
    input: sum_of_counts(list_transform(passes, lambda part: part.input_tokens)),
    output: sum_of_counts(list_transform(passes, lambda part: part.output_tokens)),
    cache_read: sum_of_counts(list_transform(passes, lambda part: part.cache_read_input_tokens)),
    cache_write: sum_of_counts(list_transform(passes, lambda part: part.cache_creation_input_tokens)),
    cache_write_1h: sum_of_counts(list_transform(passes, lambda part: part.cache_creation.ephemeral_1h_input_tokens))};

-- Step 2. Many key names → one text for each count, and the traits that decide what a count includes.
create or replace macro usage_texts(said) as {
    input: coalesce(said.billed_units.input_tokens, said.prompt_tokens, said.input_tokens, said."promptTokenCount",
        said."inputTokens", said."inputTokenCount", said.tokens.input_tokens, said.prompt_token_count, said.prompt_eval_count,
        said."inputTextTokenCount"),
    tool_input: coalesce(said."toolUsePromptTokenCount", said.tool_use_prompt_token_count),
    output: coalesce(said.billed_units.output_tokens, said.completion_tokens, said.output_tokens, said."candidatesTokenCount",
        said."responseTokenCount", said."outputTokens", said."outputTokenCount", said.tokens.output_tokens,
        said.candidates_token_count, said.generation_token_count, said.eval_count, said.results[1]."tokenCount"),
    total: coalesce(said.total_tokens, said."totalTokenCount", said."totalTokens", said.total_token_count),
    -- Cohere bills its billed_units, net of what its cache served; its cached_tokens belong to the other count.
    cache_read: case when said.billed_units.input_tokens is null then coalesce(
        said.prompt_tokens_details.cached_tokens, said.input_tokens_details.cached_tokens,
        said.input_tokens_details.cache_read_input_tokens, said.input_token_details.cached_tokens, said.input_token_details.cache_read,
        said.cache_read_input_tokens, said."cacheReadInputTokens", said."cacheReadInputTokenCount", said."cachedContentTokenCount",
        said.cached_content_token_count, said.prompt_cache_hit_tokens, said.cached_tokens, said.cached_prompt_text_tokens) end,
    cache_write: coalesce(
        said.prompt_tokens_details.cache_write_tokens, said.input_tokens_details.cache_write_tokens,
        said.cache_creation_input_tokens, said.prompt_tokens_details.cache_creation_tokens, said.input_token_details.cache_creation,
        said."cacheWriteInputTokens", said."cacheWriteInputTokenCount"),
    cache_write_5m: said.cache_creation.ephemeral_5m_input_tokens,
    cache_write_1h: coalesce(said.cache_creation.ephemeral_1h_input_tokens,
        said.prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens,
        said.input_token_details.ephemeral_1h_input_tokens,
        list_filter(said."cacheDetails", lambda part: part.ttl = '1h')[1]."inputTokens"),
    input_audio: coalesce(said.prompt_tokens_details.audio_tokens, said.input_tokens_details.audio_tokens,
        said.input_token_details.audio_tokens, said.input_token_details.audio,
        (modality_tokens(said."promptTokensDetails", ['AUDIO'])
            + coalesce(modality_tokens(said."toolUsePromptTokensDetails", ['AUDIO']), 0))::varchar),
    input_image: coalesce(said.prompt_tokens_details.image_tokens, said.input_tokens_details.image_tokens,
        said.input_token_details.image_tokens,
        -- Gemini bills documents as the page images that it makes of them.
        (modality_tokens(said."promptTokensDetails", ['IMAGE', 'VIDEO', 'DOCUMENT'])
            + coalesce(modality_tokens(said."toolUsePromptTokensDetails", ['IMAGE', 'VIDEO', 'DOCUMENT']), 0))::varchar),
    input_video: said.prompt_tokens_details.video_tokens,
    cached_audio: coalesce(said.input_token_details.cached_tokens_details.audio_tokens,
        modality_tokens(said."cacheTokensDetails", ['AUDIO'])::varchar),
    cached_image: coalesce(said.input_token_details.cached_tokens_details.image_tokens,
        modality_tokens(said."cacheTokensDetails", ['IMAGE', 'VIDEO', 'DOCUMENT'])::varchar),
    reasoning: coalesce(said.completion_tokens_details.reasoning_tokens, said.output_tokens_details.reasoning_tokens,
        said.output_tokens_details.thinking_tokens, said.output_token_details.reasoning, said."thoughtsTokenCount",
        said.thoughts_token_count, said.reasoning_tokens),
    citation: said.citation_tokens,
    output_audio: coalesce(said.completion_tokens_details.audio_tokens, said.output_token_details.audio_tokens,
        said.output_token_details.audio, modality_tokens(said."candidatesTokensDetails", ['AUDIO'])::varchar),
    output_image: coalesce(said.completion_tokens_details.image_tokens, said.output_tokens_details.image_tokens,
        modality_tokens(said."candidatesTokensDetails", ['IMAGE', 'VIDEO', 'DOCUMENT'])::varchar),
    web_search: coalesce(said.server_tool_use.web_search_requests, said.num_search_queries,
        said.tool_calls_details.search_web.invocation, said.num_sources_used),
    -- Perplexity's cost is an object; OpenRouter's leaves out what the user's own key was charged upstream.
    cost: case when starts_with(said.cost, '{') then json_extract_string(said.cost, '$.total_cost') else said.cost end,
    upstream_cost: case when said.is_byok = 'true' then said.cost_details.upstream_inference_cost end,
    provider: case when coalesce(said.is_byok, said.cost_details.upstream_inference_cost) is not null then 'openrouter' end,
    service_tier: case when said.speed = 'fast' then 'fast' else coalesce(said.service_tier, said."serviceTier") end,
    region: case when said.inference_geo <> 'not_available' then said.inference_geo end,
    -- Anthropic and Bedrock leave what the cache served or stored out of their input count.
    cache_is_apart: coalesce(said.billed_units.input_tokens, said.prompt_tokens, said."promptTokenCount") is null
        and coalesce(said.cache_read_input_tokens, said.cache_creation_input_tokens, said."inputTokens", said."inputTokenCount")
            is not null,
    is_gemini: coalesce(said."promptTokenCount", said.prompt_token_count) is not null and said.generation_token_count is null,
    is_perplexity: coalesce(said.citation_tokens, said.num_search_queries) is not null,
    has_advisor: len(list_filter(said.iterations, lambda part: part.type = 'advisor_message')) > 0,
    has_engine_cache: as_count(said.num_cached_tokens) > 0,
    compacted: compacted_tokens(case when said.prompt_tokens is null then list_filter(said.iterations, lambda part: part.type = 'compaction') end)};

-- Step 2 where the source has a column or an attribute for each count, the parts inside the whole as OpenAI counts.
create or replace macro usage_given(input, output, total, cache_read, cache_write, reasoning, cache_write_1h := null, input_audio := null,
    input_image := null, output_audio := null, output_image := null, web_search := null, cache_is_apart := false) as {
    input: input, tool_input: null::varchar, output: output, total: total,
    cache_read: cache_read, cache_write: cache_write, cache_write_5m: null::varchar, cache_write_1h: cache_write_1h::varchar,
    input_audio: input_audio::varchar, input_image: input_image::varchar, input_video: null::varchar,
    cached_audio: null::varchar, cached_image: null::varchar,
    reasoning: reasoning, citation: null::varchar, output_audio: output_audio::varchar, output_image: output_image::varchar,
    web_search: web_search::varchar, cost: null::varchar, upstream_cost: null::varchar, provider: null::varchar, service_tier: null::varchar,
    region: null::varchar, cache_is_apart: cache_is_apart, is_gemini: false, is_perplexity: false, has_advisor: false, has_engine_cache: false,
    compacted: {input: 0, output: 0, cache_read: 0, cache_write: 0, cache_write_1h: 0}};

-- Step 3. Texts → counts.
create or replace macro usage_counts(said) as {
    said: said,
    input: as_count(said.input) + coalesce(as_count(said.tool_input), 0) + said.compacted.input,
    output: as_count(said.output) + said.compacted.output,
    total: as_count(said.total),
    cache_read: as_count(said.cache_read) + said.compacted.cache_read,
    cache_write: greatest(as_count(said.cache_write), as_count(said.cache_write_1h),
        as_count(said.cache_write_5m) + as_count(said.cache_write_1h)) + said.compacted.cache_write,
    cache_write_1h: as_count(said.cache_write_1h) + said.compacted.cache_write_1h,
    cached: coalesce(as_count(said.cache_read) + said.compacted.cache_read, 0) + coalesce(greatest(as_count(said.cache_write),
        as_count(said.cache_write_1h), as_count(said.cache_write_5m) + as_count(said.cache_write_1h)) + said.compacted.cache_write, 0),
    input_audio: at_least(as_count(said.input_audio) - coalesce(as_count(said.cached_audio), 0), 0),
    input_image: at_least(coalesce(as_count(said.input_image) + coalesce(as_count(said.input_video), 0), as_count(said.input_video))
        - coalesce(as_count(said.cached_image), 0), 0),
    reasoning: as_count(said.reasoning),
    citation: as_count(said.citation),
    output_audio: as_count(said.output_audio),
    output_image: as_count(said.output_image)};

-- Step 4. What the totals leave out.
create or replace macro usage_traits(n) as {
    n: n,
    -- A cache share larger than the whole, or a total that only adds up with the cache, means an emitter that left the
    -- cache out of its input count although its shape says otherwise.
    exclusive: n.said.cache_is_apart or n.cached > n.input
        or (n.cached > 0 and n.total = n.input + n.cached + n.output),
    -- Gemini's thoughts are inside candidates only if the total says so. x.ai and Perplexity count reasoning apart from
    -- completion_tokens; everybody else inside.
    reasoning_is_apart: case
        when n.said.is_gemini then n.output is null or n.total is distinct from n.input + n.output
        else n.reasoning > 0 and (n.said.is_perplexity or n.reasoning > n.output or n.total = n.input + n.output + n.reasoning) end};

-- Step 5. The whole input and output, everything included.
create or replace macro usage_totals(found) as {
    n: found.n,
    exclusive: found.exclusive,
    reasoning_is_apart: found.reasoning_is_apart,
    input: found.n.input + case when found.exclusive then found.n.cached else 0 end,
    output: case
        when found.n.output is not null then
            found.n.output + case when found.reasoning_is_apart then coalesce(found.n.reasoning, 0) else 0 end
            + coalesce(found.n.citation, 0)
        -- No output count: Gemini leaves out what is zero; of others the total tells (embeddings: nothing is left).
        when found.n.said.is_gemini and found.n.total is not null then coalesce(found.n.reasoning, 0)
        when found.n.said.output is null then found.n.total - found.n.input end};

-- Step 6. Totals → classes that do not overlap.
create or replace macro usage_classes(whole, n) as {
    input_uncached_tokens: whole.input - n.cached
        - at_most(coalesce(n.input_audio, 0) + coalesce(n.input_image, 0), whole.input - n.cached),
    cache_read_tokens: n.cache_read,
    cache_write_5m_tokens: n.cache_write - coalesce(n.cache_write_1h, 0),
    cache_write_1h_tokens: n.cache_write_1h,
    input_audio_tokens: at_most(n.input_audio, whole.input - n.cached),
    input_image_tokens: at_most(n.input_image, whole.input - n.cached - at_most(coalesce(n.input_audio, 0), whole.input - n.cached)),
    output_text_tokens: at_least(
        whole.output - coalesce(n.reasoning, 0) - coalesce(n.output_audio, 0) - coalesce(n.output_image, 0), 0),
    reasoning_tokens: n.reasoning,
    output_audio_tokens: n.output_audio,
    output_image_tokens: n.output_image,
    web_search_requests: as_count(n.said.web_search),
    usage_note: nullif(concat_ws(',',
        case when whole.exclusive and not n.said.cache_is_apart then 'exclusive_emitter' end,
        case when whole.reasoning_is_apart and not n.said.is_gemini then 'reasoning_apart' end,
        case when n.citation > 0 then 'citations_in_output' end,
        case when n.said.compacted.input > 0 then 'compaction_in_counts' end,
        -- An advisor model's tokens are billed but not part of these counts.
        case when n.said.has_advisor then 'advisor_apart' end,
        -- A cache hit inside the serving engine (Mistral, vLLM), which does not lower the bill.
        case when n.said.has_engine_cache then 'engine_cache_hit' end,
        case when coalesce(n.input_audio, 0) + coalesce(n.input_image, 0) > whole.input - n.cached then 'input_overlap' end,
        case when coalesce(n.reasoning, 0) + coalesce(n.output_audio, 0) + coalesce(n.output_image, 0) > whole.output
            then 'output_overlap' end,
        case when n.total not in (whole.input + whole.output, n.input + n.output, whole.input + n.output)
            then 'total_mismatch' end), ''),
    reported_cost_usd: try_cast(as_usd(n.said.cost) + coalesce(as_usd(n.said.upstream_cost), 0) as decimal(18, 12)),
    provider: n.said.provider,
    service_tier: n.said.service_tier,
    region: n.said.region,
    unreadable: coalesce(
        unreadable('input tokens', n.said.input, n.input),
        unreadable('output tokens', n.said.output, n.output),
        unreadable('cache read tokens', n.said.cache_read, n.cache_read),
        unreadable('cache write tokens', n.said.cache_write, as_count(n.said.cache_write)),
        unreadable('1h cache write tokens', n.said.cache_write_1h, n.cache_write_1h),
        unreadable('reasoning tokens', n.said.reasoning, n.reasoning),
        unreadable('audio input tokens', n.said.input_audio, n.input_audio),
        unreadable('image input tokens', n.said.input_image, n.input_image),
        unreadable('audio output tokens', n.said.output_audio, n.output_audio),
        unreadable('image output tokens', n.said.output_image, n.output_image),
        unreadable('usage cost', n.said.cost, as_usd(n.said.cost)),
        -- Before totals and shares hide it.
        case when least(n.input, n.output, n.total, n.cache_read, n.cache_write, n.reasoning) < 0 then 'a token count below zero' end)};

-- Every row of a table or CTE that has a JSON column `usage`, and beside it `used`: a struct of the classes, usage_note,
-- reported_cost_usd, provider (where it gives itself away), service_tier, region and unreadable. A class that the body does
-- not mention is null; the input classes and the output classes add up to the whole input and output. Steps are nested
-- projections, not nested macros, because a macro's argument is computed again wherever it is named.
create or replace macro with_usage(calls) as table
    select * exclude (read_usage), usage_classes(read_usage, read_usage.n) as used
    from (select * replace (usage_totals(read_usage) as read_usage)
    from (select * replace (usage_traits(read_usage) as read_usage)
    from (select * replace (usage_counts(read_usage) as read_usage)
    from (select * replace (usage_texts(read_usage) as read_usage)
    from (select *, usage_keys(usage) as read_usage from query_table(calls))))));

-- The same where column `usage` is made by usage_given: without the JSON, which costs the most.
create or replace macro with_given_usage(calls) as table
    select * exclude (read_usage), usage_classes(read_usage, read_usage.n) as used
    from (select * replace (usage_totals(read_usage) as read_usage)
    from (select * replace (usage_traits(read_usage) as read_usage)
    from (select * exclude (usage), usage_counts(usage) as read_usage from query_table(calls))));
