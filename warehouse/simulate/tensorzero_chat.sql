-- TensorZero ChatInference rows, one for each ModelInference row here. Input and output are strings that hold JSON.
select call_no, to_json({
    'id': trace_id, 'function_name': workload, 'variant_name': request_model,
    'episode_id': session_id, 'timestamp': strftime(started_at, '%Y-%m-%d %H:%M:%S'),
    'processing_time_ms': latency_ms, 'ttft_ms': case when first_token_at is not null then ttft_ms end,
    'input': cast(to_json({'system': system_text(workload_no), 'messages': [{'role': 'user', 'content': [
        {'type': 'text', 'text': user_text(workload_no, is_hard, text_key)}]}]}) as varchar),
    'output': cast(to_json([{'type': 'text', 'text': answer_text(workload_no, text_key)}]) as varchar),
    'inference_params': '{"chat_completion":{"temperature":0.2}}',
    'tags': {'user_id': user_id, 'tenant': tenant, 'team': team, 'traffic': traffic_kind}}) as line
from simulate_call
where format = 'tensorzero'
