-- Langfuse observations. Usage keys are additive: input and output leave out what the other keys count.
select call_no, [inference_id] as inference_ids, to_json({
    'id': native_id, 'trace_id': trace_id, 'project_id': 'simulated', 'environment': 'production', 'type': 'GENERATION',
    'parent_observation_id': null, 'start_time': strftime(started_at, '%Y-%m-%d %H:%M:%S.%g'), 'end_time': strftime(finished_at, '%Y-%m-%d %H:%M:%S.%g'),
    'completion_start_time': strftime(first_token_at, '%Y-%m-%d %H:%M:%S.%g'),
    'name': workload, 'level': case when status = 'ok' then 'DEFAULT' else 'ERROR' end, 'status_message': error_type,
    'provided_model_name': response_model, 'model_parameters': '{"temperature":0.2}',
    'usage_details': case when status = 'ok' then {'input': input_uncached_tokens, 'cache_read_input_tokens': cache_read_tokens,
        'cache_creation_input_tokens': cache_write_tokens, 'output': output_text_tokens, 'output_reasoning_tokens': reasoning_tokens,
        'total': input_tokens + output_tokens} end,
    'cost_details': case when status = 'ok' then {'input': cast(input_cost_usd as double), 'cache_read_input_tokens': cast(cache_read_cost_usd as double),
        'cache_creation_input_tokens': cast(cache_write_cost_usd as double), 'output': cast(output_cost_usd as double), 'total': cast(true_cost_usd as double)} end,
    'total_cost': cast(true_cost_usd as double), 'latency': latency_ms / 1000,
    'time_to_first_token': case when first_token_at is not null then ttft_ms / 1000 end,
    'input': cast(to_json(messages(workload_no, is_hard, earlier_text_key, text_key)) as varchar),
    'output': cast(to_json({'role': 'assistant', 'content': answer_text(workload_no, text_key), 'finish_reason': finish_reason}) as varchar),
    'metadata': {'provider': provider_name, 'team': team, 'routing': {'policy': routing_policy,
        'candidates': cast(getvariable('candidates')[pool_id] as json), 'propensity': routing_propensity}},
    'created_at': strftime(finished_at, '%Y-%m-%d %H:%M:%S.%g'), 'updated_at': strftime(finished_at, '%Y-%m-%d %H:%M:%S.%g')}) as line
from simulate_call
where format = 'langfuse'
