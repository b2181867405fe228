-- TensorZero ModelInference rows. Counts are as the provider reports them: OpenAI and Mistral include the cached part, Anthropic does not.
select call_no, [inference_id] as inference_ids, to_json({
    'id': native_id, 'inference_id': uuid7(call_key, 'inference', started_at), 'model_name': request_model, 'model_provider_name': feed_provider,
    'input_tokens': case when feed_provider = 'anthropic' then input_uncached_tokens else input_tokens end, 'output_tokens': output_tokens,
    'provider_cache_read_input_tokens': cache_read_tokens, 'provider_cache_write_input_tokens': cache_write_tokens,
    'cost': cast(true_cost_usd as varchar), 'response_time_ms': latency_ms, 'ttft_ms': case when first_token_at is not null then ttft_ms end,
    'finish_reason': case finish_reason when 'tool_calls' then 'tool_call' else finish_reason end, 'cached': false,
    'timestamp': strftime(finished_at, '%Y-%m-%d %H:%M:%S')}) as line
from simulate_call
where format = 'tensorzero'
