-- Rows of LiteLLM_SpendLogs as exported to JSON: metadata is a string that holds JSON. Counts as in litellm.sql.
select call_no, [inference_id] as inference_ids, to_json({
    'request_id': native_id, 'call_type': 'acompletion', 'api_key': hex16(session_key, 'key'), 'spend': cast(true_cost_usd as double),
    'total_tokens': input_tokens + output_tokens, 'prompt_tokens': input_tokens, 'completion_tokens': output_tokens,
    'startTime': strftime(started_at, '%Y-%m-%dT%H:%M:%S.%gZ'), 'endTime': strftime(finished_at, '%Y-%m-%dT%H:%M:%S.%gZ'),
    'request_duration_ms': latency_ms, 'completionStartTime': strftime(coalesce(first_token_at, finished_at), '%Y-%m-%dT%H:%M:%S.%gZ'),
    'model': request_model, 'model_id': 'dep-' || arm, 'model_group': request_model, 'custom_llm_provider': litellm_provider,
    'user': user_id, 'end_user': user_id, 'team_id': team, 'organization_id': tenant, 'cache_hit': 'False', 'cache_key': 'Cache OFF',
    'request_tags': ['workload:' || workload, 'traffic:' || traffic_kind], 'session_id': session_id,
    'status': case when status = 'ok' then 'success' else 'failure' end,
    'messages': messages(workload_no, is_hard, earlier_text_key, text_key),
    'response': case when status = 'ok' then {'id': native_id, 'model': response_model, 'choices': [{'index': 0, 'finish_reason': finish_reason,
        'message': {'role': 'assistant', 'content': answer_text(workload_no, text_key), 'tool_calls': tool_calls(call_key, tool_call_count)}}]} end,
    'metadata': cast(to_json({'status': case when status = 'ok' then 'success' else 'failure' end, 'trace_id': trace_id,
        'attempted_retries': retry_count, 'user_api_key_org_id': tenant, 'user_api_key_team_id': team,
        'spend_logs_metadata': {'workload_id': workload},
        'error_information': case when status = 'error' then {'error_code': cast(http_status as varchar), 'error_class': error_type} end,
        'cost_breakdown': {'service_tier': case when service_tier <> 'standard' then service_tier end,
            'input_cost': cast(input_cost_usd as double), 'cache_read_cost': cast(cache_read_cost_usd as double),
            'cache_creation_cost': cast(cache_write_cost_usd as double), 'output_cost': cast(output_cost_usd as double),
            'total_cost': cast(true_cost_usd as double)},
        'routing_decision': {'policy': routing_policy, 'candidates': cast(getvariable('candidates')[pool_id] as json), 'propensity': routing_propensity},
        'usage_object': {'prompt_tokens': input_tokens, 'completion_tokens': output_tokens, 'total_tokens': input_tokens + output_tokens,
            'prompt_tokens_details': {'cached_tokens': cache_read_tokens, 'cache_creation_token_details': {
                'ephemeral_5m_input_tokens': cache_write_5m_tokens, 'ephemeral_1h_input_tokens': cache_write_1h_tokens}},
            'completion_tokens_details': {'reasoning_tokens': reasoning_tokens},
            'cache_read_input_tokens': cache_read_tokens, 'cache_creation_input_tokens': cache_write_tokens,
            'server_tool_use': {'web_search_requests': web_search_requests}}}) as varchar),
    'created_at': strftime(finished_at, '%Y-%m-%dT%H:%M:%SZ'), 'updated_at': strftime(finished_at, '%Y-%m-%dT%H:%M:%SZ')}) as line
from simulate_call
where format = 'litellm_spend'
