-- marts.spend_daily: calls, tokens and cost by day and by all that spend is usually asked by.
select
    cast(started_at as date) as usage_day,
    source, provider_name, model_name, service_tier, tenant, team, workload, environment,
    count(*) as call_count,
    count(*) filter (where status = 'error') as error_count,
    sum(input_tokens) as input_tokens,
    sum(output_tokens) as output_tokens,
    sum(list_cost_usd) as list_cost_usd,
    sum(list_cost_then_usd) as list_cost_then_usd,
    sum(cache_read_cost_usd) as cache_read_cost_usd,
    sum(cache_write_cost_usd) as cache_write_cost_usd,
    sum(reported_cost_usd) as reported_cost_usd,
    count(*) filter (where cost_status = 'priced') as priced_count,
    count(*) filter (where cost_status in ('estimated', 'partial')) as estimated_count,
    count(*) filter (where cost_status in ('unpriced', 'no_usage')) as unpriced_count
from marts.call_cost
where started_at >= $from_day and started_at < $to_day
group by all
