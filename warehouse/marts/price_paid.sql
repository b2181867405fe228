-- marts.price_paid: tokens, cost and price by day, model, tier, context band and token class, whoever used them.
--
-- What is compared over time is one such line: the same tokens of the same model, sold in the same way.
with used as (
    select
        usage_day, provider_name, model_name, service_tier, context_above_tokens,
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
        sum(cache_write_cost_usd) - coalesce(sum(cache_write_1h_cost_usd), 0) as cache_write_5m_cost_usd,
        sum(cache_write_1h_cost_usd) as cache_write_1h_cost_usd,
        sum(input_media_cost_usd) as input_media_cost_usd,
        sum(output_text_cost_usd) as output_text_cost_usd,
        sum(reasoning_cost_usd) as reasoning_cost_usd,
        sum(output_media_cost_usd) as output_media_cost_usd
    from marts.usage_daily
    where usage_day >= $from_day and usage_day < $to_day and cost_status in ('priced', 'estimated', 'partial', 'free')
    group by usage_day, provider_name, model_name, service_tier, context_above_tokens
),
line as (
    select
        usage_day, provider_name, model_name, service_tier, context_above_tokens, token_class,
        case token_class
            when 'input_uncached' then input_uncached_tokens when 'cache_read' then cache_read_tokens
            when 'cache_write_5m' then cache_write_5m_tokens when 'cache_write_1h' then cache_write_1h_tokens
            when 'input_media' then input_media_tokens when 'output_text' then output_text_tokens
            when 'reasoning' then reasoning_tokens when 'output_media' then output_media_tokens
        end as priced_tokens,
        case token_class
            when 'input_uncached' then input_uncached_cost_usd when 'cache_read' then cache_read_cost_usd
            when 'cache_write_5m' then cache_write_5m_cost_usd when 'cache_write_1h' then cache_write_1h_cost_usd
            when 'input_media' then input_media_cost_usd when 'output_text' then output_text_cost_usd
            when 'reasoning' then reasoning_cost_usd when 'output_media' then output_media_cost_usd
        end as list_cost_usd
    from used
    cross join (
        values ('input_uncached'), ('cache_read'), ('cache_write_5m'), ('cache_write_1h'), ('input_media'), ('output_text'), ('reasoning'), ('output_media')
    ) as class (token_class)
)
select
    *,
    cast(cast(list_cost_usd as double) / cast(priced_tokens as double) * 1000000 as decimal(18, 9)) as price_usd_per_mtok
from line
where priced_tokens > 0 and list_cost_usd is not null
