-- What forecasts.miss is made of: by how much was a forecast of spend wrong so far, and why? Every cent of it is given to one cause.
--
-- A forecast of cost stands for the use of the four weeks before its origin, scaled: so many calls, that mix, those tokens a call and prices.
-- What came is set against it. Within a part (tenant, workload, provider, model) the cost of a token class is a product:
--   calls of all parts × the part's share of them × its tokens a call × the class's share of those tokens × price
-- and the miss is split over the factors by the log-mean Divisia index as in marts.spend_variance (LMDI-I; Ang 2005): effect = L(c1, c0) ·
-- ln(x1 / x0). Where a factor is zero on one side, the outermost that is takes the whole (Ang and Liu 2007). A part whose cost has no classes,
-- or that was forecast without ever having been used, is all in `unexplained_usd`.
-- Bound: $origin_at, $to_day (the day after the last that came); over forecasts.spend and marts.usage_daily.
with told as (
    select tenant, workload, provider_name, model_name, cast(sum(forecast_usd) as double) as forecast_usd, count(*) as day_count
    from forecasts.spend
    where level = 'part' and origin_at = $origin_at and usage_day < cast($to_day as date)
    group by tenant, workload, provider_name, model_name
),
used as (
    select
        usage_day >= cast($origin_at as date) as has_come, tenant, workload, provider_name, model_name,
        cast(sum(charged_count) as double) as calls,
        cast(sum(input_uncached_tokens) as double) as input_uncached, cast(sum(cache_read_tokens) as double) as cache_read,
        cast(sum(coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0)) as double) as cache_write,
        cast(sum(input_media_tokens) as double) as input_media, cast(sum(output_text_tokens) as double) as output_text,
        cast(sum(reasoning_tokens) as double) as reasoning, cast(sum(output_media_tokens) as double) as output_media,
        cast(sum(input_uncached_cost_usd) as double) as input_uncached_usd, cast(sum(cache_read_cost_usd) as double) as cache_read_usd,
        cast(sum(cache_write_cost_usd) as double) as cache_write_usd, cast(sum(input_media_cost_usd) as double) as input_media_usd,
        cast(sum(output_text_cost_usd) as double) as output_text_usd, cast(sum(reasoning_cost_usd) as double) as reasoning_usd,
        cast(sum(output_media_cost_usd) as double) as output_media_usd, cast(sum(request_cost_usd) as double) as request_usd,
        cast(sum(list_cost_usd) as double) as list_cost_usd
    from marts.usage_daily
    where usage_day >= cast($origin_at as date) - interval 28 day and usage_day < cast($to_day as date) and cost_status in ('priced', 'estimated', 'partial', 'free')
    group by usage_day >= cast($origin_at as date), tenant, workload, provider_name, model_name
),
part as (
    select
        coalesce(told.tenant, came.tenant) as tenant, coalesce(told.workload, came.workload) as workload,
        coalesce(told.provider_name, came.provider_name) as provider_name, coalesce(told.model_name, came.model_name) as model_name,
        coalesce(told.forecast_usd, 0) as forecast_usd, coalesce(came.list_cost_usd, 0) as list_cost_usd,
        row_number() over (order by told.tenant, told.workload, told.provider_name, told.model_name, came.tenant, came.workload, came.provider_name, came.model_name) as part_no
    from told
    full join (select * from used where has_come) as came
        on came.tenant is not distinct from told.tenant and came.workload is not distinct from told.workload
        and came.provider_name is not distinct from told.provider_name and came.model_name is not distinct from told.model_name
),
side as (
    -- 0 is what was forecast: the use before, times what makes its cost the forecast's.
    select
        part.part_no, used.has_come, case when used.has_come then 1.0 when used.list_cost_usd > 0 then part.forecast_usd / used.list_cost_usd else 0 end as times,
        used.*
    from part
    join used
        on used.tenant is not distinct from part.tenant and used.workload is not distinct from part.workload
        and used.provider_name is not distinct from part.provider_name and used.model_name is not distinct from part.model_name
),
line as (
    select
        part_no, has_come, token_class, calls * times as calls,
        times * coalesce(case token_class
            when 'input_uncached' then input_uncached when 'cache_read' then cache_read when 'cache_write' then cache_write when 'input_media' then input_media
            when 'output_text' then output_text when 'reasoning' then reasoning when 'output_media' then output_media else calls end, 0) as tokens,
        times * coalesce(case token_class
            when 'input_uncached' then input_uncached_usd when 'cache_read' then cache_read_usd when 'cache_write' then cache_write_usd
            when 'input_media' then input_media_usd when 'output_text' then output_text_usd when 'reasoning' then reasoning_usd
            when 'output_media' then output_media_usd else request_usd end, 0) as usd
    from side
    cross join (
        values ('input_uncached'), ('cache_read'), ('cache_write'), ('input_media'), ('output_text'), ('reasoning'), ('output_media'), ('request')
    ) as class (token_class)
),
pair as (
    select
        part_no, token_class,
        coalesce(sum(case when not has_come then calls end), 0) as calls0, coalesce(sum(case when has_come then calls end), 0) as calls1,
        coalesce(sum(case when not has_come then tokens end), 0) as tokens0, coalesce(sum(case when has_come then tokens end), 0) as tokens1,
        coalesce(sum(case when not has_come then usd end), 0) as usd0, coalesce(sum(case when has_come then usd end), 0) as usd1
    from line
    group by part_no, token_class
),
whole as (
    select
        pair.*,
        -- A fee has calls, not tokens.
        case when token_class = 'request' then calls0 else sum(case when token_class <> 'request' then tokens0 end) over (partition by part_no) end as all_tokens0,
        case when token_class = 'request' then calls1 else sum(case when token_class <> 'request' then tokens1 end) over (partition by part_no) end as all_tokens1,
        sum(case when token_class = 'request' then calls0 end) over () as all_calls0, sum(case when token_class = 'request' then calls1 end) over () as all_calls1
    from pair
),
weighed as (
    select
        *,
        case when usd0 > 0 and usd1 > 0 then case when abs(usd1 - usd0) < 1e-9 * usd0 then (usd0 + usd1) / 2 else (usd1 - usd0) / ln(usd1 / usd0) end end as log_mean,
        case
            when (usd0 > 0) = (usd1 > 0) then null
            when least(all_calls0, all_calls1) = 0 then 'volume'
            when least(calls0, calls1) = 0 then 'mix'
            when least(all_tokens0, all_tokens1) = 0 then 'tokens'
            when least(tokens0, tokens1) = 0 then 'class'
            else 'price'
        end as jump
    from whole
    where usd0 > 0 or usd1 > 0
),
effect as (
    select
        part_no,
        sum(case when jump = 'volume' then usd1 - usd0 when log_mean > 0 then log_mean * ln(all_calls1 / all_calls0) else 0 end) as volume,
        sum(case when jump = 'mix' then usd1 - usd0 when log_mean > 0 then log_mean * ln((calls1 / all_calls1) / (calls0 / all_calls0)) else 0 end) as mix,
        sum(case when jump = 'tokens' then usd1 - usd0 when log_mean > 0 then log_mean * ln((all_tokens1 / calls1) / (all_tokens0 / calls0)) else 0 end) as tokens,
        sum(case when jump = 'class' then usd1 - usd0 when log_mean > 0 then log_mean * ln((tokens1 / all_tokens1) / (tokens0 / all_tokens0)) else 0 end) as class,
        sum(case when jump = 'price' then usd1 - usd0 when log_mean > 0 then log_mean * ln((usd1 / tokens1) / (usd0 / tokens0)) else 0 end) as price
    from weighed
    group by part_no
),
told_by_cent as (
    select
        part.part_no, tenant, workload, provider_name, model_name,
        cast(forecast_usd as decimal(38, 12)) as forecast_usd, cast(list_cost_usd as decimal(38, 12)) as list_cost_usd,
        cast(coalesce(price, 0) as decimal(38, 12)) as price_effect_usd, cast(coalesce(mix, 0) as decimal(38, 12)) as mix_effect_usd,
        cast(coalesce(volume, 0) as decimal(38, 12)) as volume_effect_usd, cast(coalesce(tokens, 0) as decimal(38, 12)) as tokens_per_call_effect_usd,
        cast(coalesce(class, 0) as decimal(38, 12)) as token_class_effect_usd
    from part
    left join effect on effect.part_no = part.part_no
)
select
    cast($origin_at as timestamp) as origin_at, cast($to_day as date) as to_day, tenant, workload, provider_name, model_name,
    forecast_usd, list_cost_usd, list_cost_usd - forecast_usd as miss_usd,
    price_effect_usd, mix_effect_usd, volume_effect_usd, tokens_per_call_effect_usd, token_class_effect_usd,
    list_cost_usd - forecast_usd - price_effect_usd - mix_effect_usd - volume_effect_usd - tokens_per_call_effect_usd - token_class_effect_usd as unexplained_usd
from told_by_cent
order by tenant, workload, provider_name, model_name
