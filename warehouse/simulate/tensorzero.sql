-- TensorZero ModelInference rows. input_tokens include what the cache read and wrote: the gateway adds it in for every provider.
select call_no, [inference_id] as inference_ids, to_json({
    'id': native_id, 'inference_id': trace_id, 'model_name': request_model, 'model_provider_name': feed_provider,
    'input_tokens': input_tokens, 'output_tokens': output_tokens,
    'provider_cache_read_input_tokens': cache_read_tokens, 'provider_cache_write_input_tokens': cache_write_tokens,
    'cost': cast(true_cost_usd as varchar), 'response_time_ms': latency_ms, 'ttft_ms': case when first_token_at is not null then ttft_ms end,
    'finish_reason': case finish_reason when 'tool_calls' then 'tool_call' else finish_reason end, 'cached': false,
    'timestamp': strftime(finished_at, '%Y-%m-%d %H:%M:%S')}) as line
from simulate_call
where format = 'tensorzero'
