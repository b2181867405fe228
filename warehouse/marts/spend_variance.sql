-- marts.spend_variance: why did list spend change between two periods? Every cent of the change is given to one cause.
--
-- Within a tenant's workload, the cost of a token class of a model is a product:
--   answered calls × charged calls per answered call × the model's share of them × its tier's share × its context band's share
--   × tokens per call (input or output) × the class's share of those tokens × price
-- and its change is split over the factors by the log-mean Divisia index, additive, first form (LMDI-I; Ang, "The LMDI approach
-- to decomposition analysis", Energy Policy 2005): effect = L(c1, c0) · ln(x1 / x0), L the logarithmic mean. Nothing is left over.
-- Where a factor is zero on one side, the limit holds (Ang and Liu, "Handling zero values in the LMDI approach", 2007): the
-- outermost factor that is zero has the whole change. No small number stands in for nothing.
-- A model that nobody at all used before is new, one that nobody uses any more is retired; else its coming and going is mix.
--
-- Table `period` says what is compared with what: months and weeks of what is built (pipelines/economy/periods.py), or what `flywheel explain` asks.
with span as (
    select period_day as from_day, period_to as to_day from period
    union
    select previous_from, previous_to from period
),
-- Between two neighbouring bounds all days belong to the same periods: summed up once, then each period adds up its pieces.
bound as (
    select from_day as bound_day from span
    union
    select to_day from span
),
piece as (
    select day.usage_day, max(bound_day) as piece_day
    from (select distinct usage_day from marts.usage_daily) as day
    join bound on bound_day <= day.usage_day
    where day.usage_day < (select max(bound_day) from bound)
    group by day.usage_day
),
used_piece as (
    -- Unknown is not zero: calls of unknown cost stay out on both sides, and are counted by marts.usage_daily.
    select
        piece_day, tenant, workload, provider_name, model_name, service_tier, coalesce(context_above_tokens, 0) as band,
        cast(sum(call_count - error_count) as double) as answered,
        cast(sum(charged_count) as double) as charged,
        cast(sum(case when cost_status <> 'not_billed' then input_uncached_tokens end) as double) as input_uncached,
        cast(sum(case when cost_status <> 'not_billed' then cache_read_tokens end) as double) as cache_read,
        cast(sum(case when cost_status <> 'not_billed' then cache_write_5m_tokens end) as double) as cache_write_5m,
        cast(sum(case when cost_status <> 'not_billed' then cache_write_1h_tokens end) as double) as cache_write_1h,
        cast(sum(case when cost_status <> 'not_billed' then input_media_tokens end) as double) as input_media,
        cast(sum(case when cost_status <> 'not_billed' then output_text_tokens end) as double) as output_text,
        cast(sum(case when cost_status <> 'not_billed' then reasoning_tokens end) as double) as reasoning,
        cast(sum(case when cost_status <> 'not_billed' then output_media_tokens end) as double) as output_media,
        sum(input_uncached_cost_usd) as input_uncached_usd,
        sum(cache_read_cost_usd) as cache_read_usd,
        sum(cache_write_cost_usd - coalesce(cache_write_1h_cost_usd, 0)) as cache_write_5m_usd,
        sum(cache_write_1h_cost_usd) as cache_write_1h_usd,
        sum(input_media_cost_usd) as input_media_usd,
        sum(output_text_cost_usd) as output_text_usd,
        sum(reasoning_cost_usd) as reasoning_usd,
        sum(output_media_cost_usd) as output_media_usd,
        sum(request_cost_usd) as request_usd
    from marts.usage_daily
    join piece using (usage_day)
    where cost_status not in ('unpriced', 'no_usage')
    group by piece_day, tenant, workload, provider_name, model_name, service_tier, coalesce(context_above_tokens, 0)
),
used as (
    select from_day, to_day, used_piece.*
    from used_piece
    join span on piece_day >= from_day and piece_day < to_day
),
sided as (
    select period.period_kind, period.period_day, 1 as side, used.* from period join used on used.from_day = period.period_day and used.to_day = period.period_to
    union all
    select period.period_kind, period.period_day, 0, used.* from period join used on used.from_day = period.previous_from and used.to_day = period.previous_to
),
-- Both sides next to each other; 0 is the period before.
pair as (
    select
        period_kind, period_day, tenant, workload, provider_name, model_name, service_tier, band,
        coalesce(sum(case when side = 0 then answered end), 0) as answered0, coalesce(sum(case when side = 0 then charged end), 0) as band0,
        coalesce(sum(case when side = 1 then answered end), 0) as answered1, coalesce(sum(case when side = 1 then charged end), 0) as band1,
        coalesce(sum(case when side = 0 then input_uncached end), 0) as input_uncached0, coalesce(sum(case when side = 1 then input_uncached end), 0) as input_uncached1,
        coalesce(sum(case when side = 0 then cache_read end), 0) as cache_read0, coalesce(sum(case when side = 1 then cache_read end), 0) as cache_read1,
        coalesce(sum(case when side = 0 then cache_write_5m end), 0) as cache_write_5m0, coalesce(sum(case when side = 1 then cache_write_5m end), 0) as cache_write_5m1,
        coalesce(sum(case when side = 0 then cache_write_1h end), 0) as cache_write_1h0, coalesce(sum(case when side = 1 then cache_write_1h end), 0) as cache_write_1h1,
        coalesce(sum(case when side = 0 then input_media end), 0) as input_media0, coalesce(sum(case when side = 1 then input_media end), 0) as input_media1,
        coalesce(sum(case when side = 0 then output_text end), 0) as output_text0, coalesce(sum(case when side = 1 then output_text end), 0) as output_text1,
        coalesce(sum(case when side = 0 then reasoning end), 0) as reasoning0, coalesce(sum(case when side = 1 then reasoning end), 0) as reasoning1,
        coalesce(sum(case when side = 0 then output_media end), 0) as output_media0, coalesce(sum(case when side = 1 then output_media end), 0) as output_media1,
        coalesce(sum(case when side = 0 then input_uncached_usd end), 0) as input_uncached_usd0, coalesce(sum(case when side = 1 then input_uncached_usd end), 0) as input_uncached_usd1,
        coalesce(sum(case when side = 0 then cache_read_usd end), 0) as cache_read_usd0, coalesce(sum(case when side = 1 then cache_read_usd end), 0) as cache_read_usd1,
        coalesce(sum(case when side = 0 then cache_write_5m_usd end), 0) as cache_write_5m_usd0, coalesce(sum(case when side = 1 then cache_write_5m_usd end), 0) as cache_write_5m_usd1,
        coalesce(sum(case when side = 0 then cache_write_1h_usd end), 0) as cache_write_1h_usd0, coalesce(sum(case when side = 1 then cache_write_1h_usd end), 0) as cache_write_1h_usd1,
        coalesce(sum(case when side = 0 then input_media_usd end), 0) as input_media_usd0, coalesce(sum(case when side = 1 then input_media_usd end), 0) as input_media_usd1,
        coalesce(sum(case when side = 0 then output_text_usd end), 0) as output_text_usd0, coalesce(sum(case when side = 1 then output_text_usd end), 0) as output_text_usd1,
        coalesce(sum(case when side = 0 then reasoning_usd end), 0) as reasoning_usd0, coalesce(sum(case when side = 1 then reasoning_usd end), 0) as reasoning_usd1,
        coalesce(sum(case when side = 0 then output_media_usd end), 0) as output_media_usd0, coalesce(sum(case when side = 1 then output_media_usd end), 0) as output_media_usd1,
        coalesce(sum(case when side = 0 then request_usd end), 0) as request_usd0, coalesce(sum(case when side = 1 then request_usd end), 0) as request_usd1
    from sided
    group by period_kind, period_day, tenant, workload, provider_name, model_name, service_tier, band
),
-- The sums that the factors are made of.
summed_up as (
    select
        *,
        input_uncached0 + cache_read0 + cache_write_5m0 + cache_write_1h0 + input_media0 as input0,
        input_uncached1 + cache_read1 + cache_write_5m1 + cache_write_1h1 + input_media1 as input1,
        output_text0 + reasoning0 + output_media0 as output0,
        output_text1 + reasoning1 + output_media1 as output1,
        sum(band0) over same_tier as tier0, sum(band1) over same_tier as tier1,
        sum(band0) over same_model as model0, sum(band1) over same_model as model1,
        sum(band0) over same_cell as cell0, sum(band1) over same_cell as cell1,
        sum(band0) over anybody as anybody0, sum(band1) over anybody as anybody1,
        sum(answered0) over same_cell as cell_answered0, sum(answered1) over same_cell as cell_answered1
    from pair
    window
        same_tier as (partition by period_kind, period_day, tenant, workload, provider_name, model_name, service_tier),
        same_model as (partition by period_kind, period_day, tenant, workload, provider_name, model_name),
        same_cell as (partition by period_kind, period_day, tenant, workload),
        anybody as (partition by period_kind, period_day, provider_name, model_name)
),
line as (
    select
        summed_up.*, token_class, part,
        case part when 'input' then input0 when 'output' then output0 else band0 end as part0,
        case part when 'input' then input1 when 'output' then output1 else band1 end as part1,
        case token_class
            when 'input_uncached' then input_uncached0
            when 'cache_read' then cache_read0
            when 'cache_write_5m' then cache_write_5m0
            when 'cache_write_1h' then cache_write_1h0
            when 'input_media' then input_media0
            when 'output_text' then output_text0
            when 'reasoning' then reasoning0
            when 'output_media' then output_media0
            else band0
        end as tokens0,
        case token_class
            when 'input_uncached' then input_uncached1
            when 'cache_read' then cache_read1
            when 'cache_write_5m' then cache_write_5m1
            when 'cache_write_1h' then cache_write_1h1
            when 'input_media' then input_media1
            when 'output_text' then output_text1
            when 'reasoning' then reasoning1
            when 'output_media' then output_media1
            else band1
        end as tokens1,
        case token_class
            when 'input_uncached' then input_uncached_usd0
            when 'cache_read' then cache_read_usd0
            when 'cache_write_5m' then cache_write_5m_usd0
            when 'cache_write_1h' then cache_write_1h_usd0
            when 'input_media' then input_media_usd0
            when 'output_text' then output_text_usd0
            when 'reasoning' then reasoning_usd0
            when 'output_media' then output_media_usd0
            else request_usd0
        end as usd0,
        case token_class
            when 'input_uncached' then input_uncached_usd1
            when 'cache_read' then cache_read_usd1
            when 'cache_write_5m' then cache_write_5m_usd1
            when 'cache_write_1h' then cache_write_1h_usd1
            when 'input_media' then input_media_usd1
            when 'output_text' then output_text_usd1
            when 'reasoning' then reasoning_usd1
            when 'output_media' then output_media_usd1
            else request_usd1
        end as usd1
    from summed_up
    cross join (
        values ('input_uncached', 'input'), ('cache_read', 'input'), ('cache_write_5m', 'input'), ('cache_write_1h', 'input'), ('input_media', 'input'),
            ('output_text', 'output'), ('reasoning', 'output'), ('output_media', 'output'), ('request', 'request')
    ) as class (token_class, part)
),
weighed as (
    select
        *,
        -- Where a side has no answered call at all, what was charged stands for the volume.
        case when least(cell_answered0, cell_answered1) > 0 then cell_answered0 else cell0 end as volume0,
        case when least(cell_answered0, cell_answered1) > 0 then cell_answered1 else cell1 end as volume1,
        case
            when c0 > 0 and c1 > 0 then case when abs(c1 - c0) < 1e-9 * c0 then (c0 + c1) / 2 else (c1 - c0) / ln(c1 / c0) end
        end as log_mean,
        -- The outermost factor that is zero where the cost is.
        case
            when (c0 > 0) = (c1 > 0) then null
            when (c0 > 0 and cell1 = 0) or (c1 > 0 and cell0 = 0) then 'volume'
            when c1 > 0 and model0 = 0 then case when anybody0 = 0 then 'new_model' else 'mix' end
            when c0 > 0 and model1 = 0 then case when anybody1 = 0 then 'retired_model' else 'mix' end
            when (c0 > 0 and tier1 = 0) or (c1 > 0 and tier0 = 0) then 'tier'
            when (c0 > 0 and band1 = 0) or (c1 > 0 and band0 = 0) then 'context'
            when (c0 > 0 and part1 = 0) or (c1 > 0 and part0 = 0) then case part when 'input' then 'prompt' when 'output' then 'verbosity' else 'fee' end
            when (c0 > 0 and tokens1 = 0) or (c1 > 0 and tokens0 = 0) then case part when 'input' then 'cache' when 'output' then 'reasoning' else 'fee' end
            else case part when 'request' then 'fee' else 'price' end
        end as jump
    from (select *, cast(usd0 as double) as c0, cast(usd1 as double) as c1 from line where usd0 > 0 or usd1 > 0) as costed
),
effect as (
    select
        period_kind, period_day, tenant, workload, provider_name, model_name, c0, c1, usd0, usd1,
        case when jump = 'volume' then c1 - c0 when log_mean > 0 then log_mean * ln(volume1 / volume0) else 0 end as volume,
        case when log_mean > 0 then log_mean * ln((cell1 / volume1) / (cell0 / volume0)) else 0 end as retry,
        case when jump = 'mix' then c1 - c0 when log_mean > 0 then log_mean * ln((model1 / cell1) / (model0 / cell0)) else 0 end as mix,
        case when jump = 'new_model' then c1 - c0 else 0 end as new_model,
        case when jump = 'retired_model' then c1 - c0 else 0 end as retired_model,
        case when jump = 'tier' then c1 - c0 when log_mean > 0 then log_mean * ln((tier1 / model1) / (tier0 / model0)) else 0 end as tier,
        case when jump = 'context' then c1 - c0 when log_mean > 0 then log_mean * ln((band1 / tier1) / (band0 / tier0)) else 0 end as context,
        case when jump = 'prompt' then c1 - c0 when log_mean > 0 and part = 'input' then log_mean * ln((part1 / band1) / (part0 / band0)) else 0 end as prompt,
        case when jump = 'cache' then c1 - c0 when log_mean > 0 and part = 'input' then log_mean * ln((tokens1 / part1) / (tokens0 / part0)) else 0 end as cache,
        case when jump = 'verbosity' then c1 - c0 when log_mean > 0 and part = 'output' then log_mean * ln((part1 / band1) / (part0 / band0)) else 0 end as verbosity,
        case when jump = 'reasoning' then c1 - c0 when log_mean > 0 and part = 'output' then log_mean * ln((tokens1 / part1) / (tokens0 / part0)) else 0 end as reasoning,
        case when jump = 'price' then c1 - c0 when log_mean > 0 and part <> 'request' then log_mean * ln((c1 / tokens1) / (c0 / tokens0)) else 0 end as price,
        case when jump = 'fee' then c1 - c0 when log_mean > 0 and part = 'request' then log_mean * ln((c1 / tokens1) / (c0 / tokens0)) else 0 end as fee,
        -- What "price change at old volume, volume change at old price" leaves unexplained.
        case when tokens0 > 0 and tokens1 > 0 then (c1 / tokens1 - c0 / tokens0) * (tokens1 - tokens0) else 0 end as cross_term
    from weighed
),
summed as (
    select
        period_kind, period_day, tenant, workload, provider_name, model_name,
        sum(usd1) as list_cost_usd, sum(usd0) as previous_cost_usd, sum(usd1) - sum(usd0) as change_usd,
        sum(price) as price, sum(volume) as volume, sum(mix) as mix, sum(new_model) as new_model, sum(retired_model) as retired_model,
        sum(tier) as tier, sum(context) as context, sum(prompt) as prompt, sum(cache) as cache, sum(verbosity) as verbosity,
        sum(reasoning) as reasoning, sum(retry) as retry, sum(fee) as fee, sum(cross_term) as cross_term
    from effect
    group by period_kind, period_day, tenant, workload, provider_name, model_name
)
select
    cast(date_trunc('month', summed.period_day) as date) as month_day,
    summed.period_kind, summed.period_day, period.period_to as period_end_day, period.previous_from as previous_day, period.previous_to as previous_end_day, period.is_complete,
    tenant, workload, provider_name, model_name,
    list_cost_usd, previous_cost_usd, change_usd,
    price as price_effect_usd, volume as volume_effect_usd, mix as mix_effect_usd, new_model as new_model_effect_usd,
    retired_model as retired_model_effect_usd, tier as tier_effect_usd, context as context_effect_usd, prompt as prompt_effect_usd,
    cache as cache_effect_usd, verbosity as verbosity_effect_usd, reasoning as reasoning_effect_usd, retry as retry_effect_usd,
    fee as fee_effect_usd,
    cast(change_usd as double) - (price + volume + mix + new_model + retired_model + tier + context + prompt + cache + verbosity + reasoning + retry + fee)
        as residual_usd,
    cross_term as naive_residual_usd
from summed
join period on period.period_kind = summed.period_kind and period.period_day = summed.period_day
