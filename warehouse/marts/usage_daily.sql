-- marts.usage_daily: tokens and cost by token class, by day and by all that a price or its use can depend on.
--
-- What looks back over months or years (price_index, spend_variance, ...) reads this instead of single calls.
select
    cast(started_at as date) as usage_day,
    provider_name, model_name, price_tier(service_tier) as service_tier, served_region, context_above_tokens,
    tenant, workload, traffic_kind, cost_status,
    count(*) as call_count,
    count(*) filter (where status = 'error') as error_count,
    count(*) filter (where retry_count > 0) as retried_count,
    count(*) filter (where cost_status <> 'not_billed' and (input_tokens > 0 or output_tokens > 0 or list_cost_usd > 0)) as charged_count,
    sum(input_uncached_tokens) as input_uncached_tokens,
    sum(cache_read_tokens) as cache_read_tokens,
    sum(cache_write_5m_tokens) as cache_write_5m_tokens,
    sum(cache_write_1h_tokens) as cache_write_1h_tokens,
    sum(input_media_tokens) as input_media_tokens,
    sum(output_text_tokens) as output_text_tokens,
    sum(reasoning_tokens) as reasoning_tokens,
    sum(output_media_tokens) as output_media_tokens,
    sum(input_uncached_cost_usd) as input_uncached_cost_usd,
    sum(cache_read_cost_usd) as cache_read_cost_usd,
    sum(cache_write_cost_usd) as cache_write_cost_usd,
    sum(cache_write_1h_cost_usd) as cache_write_1h_cost_usd,
    sum(input_media_cost_usd) as input_media_cost_usd,
    sum(output_text_cost_usd) as output_text_cost_usd,
    sum(reasoning_cost_usd) as reasoning_cost_usd,
    sum(output_media_cost_usd) as output_media_cost_usd,
    sum(request_cost_usd) as request_cost_usd,
    sum(list_cost_usd) as list_cost_usd
from marts.call_cost
where started_at >= $from_day and started_at < $to_day
group by
    cast(started_at as date), provider_name, model_name, price_tier(service_tier), served_region, context_above_tokens,
    tenant, workload, traffic_kind, cost_status
