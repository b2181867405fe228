-- OpenAI request and response pairs (chat completions, a quarter of them the responses API) and batch output lines.
-- Prompt counts include the cached part, completion counts include reasoning. Only successful calls have a record.
with body as (
    select *, case when native_id like 'resp_%' then
        to_json({'id': native_id, 'object': 'response', 'created_at': epoch_ms(finished_at) // 1000, 'model': response_model,
            'service_tier': case service_tier when 'standard' then 'default' else service_tier end,
            'status': case when finish_reason in ('stop', 'tool_calls') then 'completed' else 'incomplete' end,
            'incomplete_details': {'reason': case finish_reason when 'length' then 'max_output_tokens' when 'content_filter' then 'content_filter' end},
            'output': [{'type': 'message', 'role': 'assistant', 'content': [{'type': 'output_text', 'text': answer_text(workload_no, text_key)}]}],
            'usage': {'input_tokens': input_tokens, 'input_tokens_details': {'cached_tokens': cache_read_tokens, 'cache_write_tokens': cache_write_tokens},
                'output_tokens': output_tokens, 'output_tokens_details': {'reasoning_tokens': reasoning_tokens}, 'total_tokens': input_tokens + output_tokens}})
        else to_json({'id': native_id, 'object': 'chat.completion', 'created': epoch_ms(finished_at) // 1000, 'model': response_model,
            'service_tier': case service_tier when 'standard' then 'default' else service_tier end,
            'choices': [{'index': 0, 'finish_reason': finish_reason, 'message': {'role': 'assistant', 'content': answer_text(workload_no, text_key),
                'tool_calls': tool_calls(call_key, tool_call_count), 'refusal': null}}],
            'usage': {'prompt_tokens': input_tokens, 'completion_tokens': output_tokens, 'total_tokens': input_tokens + output_tokens,
                'prompt_tokens_details': {'cached_tokens': cache_read_tokens, 'cache_write_tokens': cache_write_tokens, 'audio_tokens': 0},
                'completion_tokens_details': {'reasoning_tokens': reasoning_tokens, 'audio_tokens': 0}}})
        end as response
    from simulate_call
    where format = 'openai'
)
select call_no, [inference_id] as inference_ids, case when service_tier = 'batch' then
    to_json({'id': 'batch_req_' || hex16(call_key, 'batch'), 'custom_id': workload || '-' || call_no,
        'response': {'status_code': 200, 'request_id': hex16(call_key, 'request'), 'body': response}, 'error': null})
    else to_json({'timestamp': epoch_ms(started_at) // 1000, 'latency_ms': latency_ms, 'ttft_ms': case when is_streaming then ttft_ms end, 'workload_id': workload, 'client_id': tenant,
        'request': {'model': request_model,
            'messages': case when native_id like 'chatcmpl%' then messages(workload_no, is_hard, earlier_text_key, text_key) end,
            'input': case when native_id like 'resp_%' then messages(workload_no, is_hard, earlier_text_key, text_key) end,
            'temperature': 0.2, 'stream': is_streaming, 'service_tier': case service_tier when 'standard' then 'auto' else service_tier end,
            'user': user_id, 'metadata': {'tenant': tenant, 'team': team, 'session_id': session_id, 'trace_id': trace_id}},
        'response': response}) end as line
from body
