-- Anthropic messages, request and response pairs. input_tokens leave out what the cache read and wrote; output includes thinking.
select call_no, [inference_id] as inference_ids, to_json({
    'timestamp': strftime(started_at, '%Y-%m-%dT%H:%M:%S.%gZ'), 'latency_ms': latency_ms, 'ttft_ms': case when is_streaming then ttft_ms end, 'workload_id': workload, 'client_id': tenant,
    'request': {'model': request_model, 'max_tokens': 8192, 'stream': is_streaming, 'system': system_text(workload_no),
        'messages': list_filter(messages(workload_no, is_hard, earlier_text_key, text_key), lambda message: message.role <> 'system'),
        'metadata': {'user_id': user_id, 'tenant': tenant, 'team': team, 'session_id': session_id, 'trace_id': trace_id}},
    'response': {'id': native_id, 'type': 'message', 'role': 'assistant', 'model': response_model,
        'content': list_concat([to_json({'type': 'text', 'text': answer_text(workload_no, text_key)})], case when tool_call_count > 0 then
            [to_json({'type': 'tool_use', 'id': 'toolu_' || hex16(call_key, 'tool'), 'name': 'look_up', 'input': {'reference': 7}})] else [] end),
        'stop_reason': case finish_reason when 'stop' then 'end_turn' when 'length' then 'max_tokens' when 'tool_calls' then 'tool_use' else 'refusal' end,
        'usage': {'input_tokens': input_uncached_tokens, 'cache_creation_input_tokens': cache_write_tokens, 'cache_read_input_tokens': cache_read_tokens,
            'cache_creation': {'ephemeral_5m_input_tokens': cache_write_5m_tokens, 'ephemeral_1h_input_tokens': cache_write_1h_tokens},
            'output_tokens': output_tokens, 'output_tokens_details': {'thinking_tokens': reasoning_tokens},
            'server_tool_use': {'web_search_requests': web_search_requests, 'web_fetch_requests': 0}, 'service_tier': service_tier}}}) as line
from simulate_call
where format = 'anthropic'
