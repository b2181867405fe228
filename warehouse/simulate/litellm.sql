-- LiteLLM StandardLoggingPayload. Prompt tokens include what the cache read and wrote; completion tokens include reasoning.
select call_no, [inference_id] as inference_ids, to_json({
    'id': native_id, 'trace_id': trace_id, 'session_id': session_id,
    'call_type': 'acompletion', 'stream': is_streaming, 'response_cost': cast(true_cost_usd as double),
    'cost_breakdown': {'service_tier': case when service_tier <> 'standard' then service_tier end,
        'input_cost': cast(input_cost_usd as double), 'output_cost': cast(output_cost_usd as double)},
    'status': case when status = 'ok' then 'success' else 'failure' end, 'custom_llm_provider': litellm_provider,
    'total_tokens': input_tokens + output_tokens, 'prompt_tokens': input_tokens, 'completion_tokens': output_tokens,
    'startTime': epoch_ms(started_at) / 1000, 'endTime': epoch_ms(finished_at) / 1000,
    'completionStartTime': epoch_ms(coalesce(first_token_at, finished_at)) / 1000, 'response_time': latency_ms / 1000,
    'model': request_model, 'model_group': request_model,
    'request_tags': ['traffic:' || traffic_kind], 'end_user': user_id,
    'metadata': {'user_api_key_org_id': tenant, 'user_api_key_team_id': team,
        'attempted_retries': retry_count, 'spend_logs_metadata': {'workload_id': workload},
        'routing_decision': {'policy': routing_policy, 'candidates': cast(getvariable('candidates')[pool_id] as json), 'propensity': routing_propensity},
        'usage_object': {'prompt_tokens_details': {'cached_tokens': cache_read_tokens, 'cache_creation_token_details':
                case when cache_write_1h_tokens > 0 then {'ephemeral_1h_input_tokens': cache_write_1h_tokens} end},
            'completion_tokens_details': {'reasoning_tokens': reasoning_tokens}, 'cache_creation_input_tokens': cache_write_tokens,
            'server_tool_use': case when web_search_requests > 0 then {'web_search_requests': web_search_requests} end}},
    'messages': messages(workload_no, is_hard, earlier_text_key, text_key),
    'response': case when status = 'ok' then {'model': response_model,
        'choices': [{'index': 0, 'finish_reason': finish_reason, 'message': {'role': 'assistant', 'content': answer_text(workload_no, text_key),
            'tool_calls': tool_calls(call_key, tool_call_count)}}]} end,
    'model_parameters': {'temperature': 0.2}, 'error_str': error_type,
    'error_information': case when status = 'error' then {'error_code': cast(http_status as varchar), 'error_class': error_type,
        'llm_provider': litellm_provider} end}) as line
from simulate_call
where format = 'litellm'
