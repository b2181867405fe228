-- Helicone requests. prompt_tokens include the cached part (total_tokens says so); reasoning is not told apart.
select call_no, [inference_id] as inference_ids, to_json({
    'request_id': native_id, 'response_id': uuid4(call_key, 'response'),
    'request_created_at': strftime(started_at, '%Y-%m-%dT%H:%M:%S.%gZ'), 'response_created_at': strftime(finished_at, '%Y-%m-%dT%H:%M:%S.%gZ'),
    'response_status': http_status, 'request_path': '/v1/chat/completions', 'request_user_id': user_id,
    'provider': case feed_provider when 'google' then 'GOOGLE' when 'mistral' then 'MISTRAL' else 'OPENAI' end,
    'model': response_model, 'request_model': request_model, 'response_model': case when status = 'ok' then response_model end,
    'prompt_tokens': case when status = 'ok' then input_tokens end, 'prompt_cache_read_tokens': case when status = 'ok' then cache_read_tokens end,
    'prompt_cache_write_tokens': case when status = 'ok' then cache_write_tokens end, 'completion_tokens': case when status = 'ok' then output_tokens end,
    'total_tokens': case when status = 'ok' then input_tokens + output_tokens end,
    'delay_ms': latency_ms, 'time_to_first_token': case when first_token_at is not null then ttft_ms end, 'costUSD': cast(true_cost_usd as double),
    'feedback_rating': f.value_number = 1, 'feedback_id': f.feedback_id, 'feedback_created_at': strftime(f.given_at, '%Y-%m-%dT%H:%M:%SZ'),
    'country_code': 'DE', 'properties': {'Helicone-Session-Id': session_id, 'tenant': tenant, 'team': team, 'workload': workload},
    'request_body': {'model': request_model, 'messages': messages(workload_no, is_hard, earlier_text_key, text_key), 'stream': is_streaming},
    'response_body': case when status = 'ok' then to_json({'choices': [{'index': 0, 'finish_reason': finish_reason, 'message': {'role': 'assistant',
            'content': answer_text(workload_no, text_key), 'tool_calls': tool_calls(call_key, tool_call_count)}}]})
        else to_json({'error': {'type': error_type, 'code': http_status}}) end}) as line
from simulate_call c
left join (select call_key, feedback_id, value_number, given_at from simulate_feedback where channel = 'helicone') f using (call_key)
where format = 'helicone'
