-- The truth about each call of a chunk, beside the place it was written to. lands_in says what becomes of the line:
-- a spoilt line belongs in quarantine, every other call in core.inference, once. A failed call has no tokens and costs nothing.
select
    c.inference_id, c.format, c.tenant, c.team, c.user_id, c.session_id, c.turn_no, c.trace_id, c.workload, c.traffic_kind,
    c.provider_name, c.feed_provider, c.request_model, c.response_model, c.request_region, c.served_region, c.service_tier, c.is_streaming,
    c.started_at, c.first_token_at, c.finished_at, c.latency_ms, c.ttft_ms,
    c.input_uncached_tokens, c.cache_read_tokens, c.cache_write_5m_tokens, c.cache_write_1h_tokens, cast(0 as bigint) as input_audio_tokens,
    cast(0 as bigint) as input_image_tokens, c.output_text_tokens, c.reasoning_tokens, cast(0 as bigint) as output_audio_tokens,
    cast(0 as bigint) as output_image_tokens, c.web_search_requests, c.true_cost_usd,
    c.status, c.http_status, c.error_type, c.finish_reason, c.tool_call_count, c.retry_count, c.is_reask,
    c.difficulty, c.success, c.routing_policy, getvariable('candidates')[c.pool_id] as routing_candidates, c.routing_propensity,
    p.file, p.line, p.dirt_kind, p.lands_in
from simulate_call c
join simulate_place p using (inference_id)
order by c.call_no
