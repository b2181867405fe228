-- marts.outlook_scorecard: public predictions with a date, held against what is measured here, month by month.
--
-- Three measures:
--   frontier_price_change_share   mean over makers of the list price of their flagship of the time (newest model of frontier_line.csv,
--                                 3 parts input to 1 part output, standard tier), against the month of the baseline. Price lists, not bills.
--   standard_cost_usd_per_ktok    list cost by 1,000 tokens of this company's own calls in the standard tier, whatever the model.
--   specialised_token_share       share of this company's own tokens that specialised providers served.
with prediction as (
    select prediction_id, claim, measure, cast(is_market_claim as boolean) as is_market_claim, cast(baseline_day as date) as baseline_day,
        cast(due_day as date) as due_day, cast(target_from as double) as target_from, cast(target_to as double) as target_to
    from reference.outlook_prediction
),
-- 1. Flagships.
flagship_price as materialized (
    select price.provider_name, price.model_name, price.token_class, price.price_usd_per_unit, price.valid_from, price.valid_to,
        coalesce(feed.precedence, 999) as precedence, price.feed, price.feed_model
    from core.price as price
    join reference.frontier_line as line on line.provider_name = price.provider_name and regexp_matches(price.model_name, line.model_pattern)
    left join feed_precedence as feed on feed.feed = price.feed
    where price.known_to is null and price.token_class in ('input_uncached', 'output_text') and price.service_tier = 'standard'
      and price.context_above_tokens = 0 and price.region is null and price.price_condition is null and price.unit = 'token'
),
flagship as (
    -- A dated feed says "always" of a model's first price: then its release tells since when there is one.
    select priced.provider_name, priced.model_name,
        case when first_from > timestamp '1970-01-01' then least(first_from, coalesce(released_at, first_from)) else coalesce(released_at, first_listed_at) end as since_at
    from (select provider_name, model_name, min(valid_from) as first_from from flagship_price group by provider_name, model_name) as priced
    left join (
        select provider_name, model_name, cast(min(release_day) as timestamp) as released_at, min(first_listed_at) as first_listed_at
        from core.model
        group by provider_name, model_name
    ) as model on model.provider_name = priced.provider_name and model.model_name = priced.model_name
),
price_span as (
    select min(quoted.first_listed_at) as from_at, max(quoted.last_listed_at) as until_at from core.model as quoted
),
price_month as (
    select cast(month as date) as month_day, month + interval 1 month - interval 1 microsecond as end_at
    from (
        select unnest(generate_series(date_trunc('month', from_at), date_trunc('month', until_at), interval 1 month)) as month
        from price_span
        where from_at is not null
    ) as months
),
newest as (
    select month_day, provider_name, model_name, input_usd, output_usd,
        row_number() over (partition by month_day, provider_name order by since_at desc, 3 * input_usd + output_usd desc, model_name) as place
    from (
        select month.month_day, flagship.provider_name, flagship.model_name, flagship.since_at,
            arg_min(price.price_usd_per_unit, (price.precedence, price.feed, length(price.feed_model), price.feed_model)) filter (where price.token_class = 'input_uncached') as input_usd,
            arg_min(price.price_usd_per_unit, (price.precedence, price.feed, length(price.feed_model), price.feed_model)) filter (where price.token_class = 'output_text') as output_usd
        from price_month as month
        join flagship on flagship.since_at <= month.end_at
        join flagship_price as price
            on price.provider_name = flagship.provider_name and price.model_name = flagship.model_name
            and price.valid_from <= month.end_at and (price.valid_to is null or price.valid_to > month.end_at)
        group by month.month_day, flagship.provider_name, flagship.model_name, flagship.since_at
    ) as offered
    where input_usd > 0 and output_usd > 0
),
frontier as (
    select month_day, avg(cast(3 * input_usd + output_usd as double) / 4 * 1000000) as usd_per_mtok, count(*) as maker_count,
        string_agg(model_name, ', ' order by model_name) as models
    from newest
    where place = 1
    group by month_day
),
-- 2. Own calls.
spent as (
    select
        cast(date_trunc('month', usage_day) as date) as month_day,
        sum(call_count) as call_count,
        sum(list_cost_usd) filter (where unpriced_count = 0 and price_tier(service_tier) = 'standard') as standard_cost_usd,
        sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))
            filter (where unpriced_count = 0 and price_tier(service_tier) = 'standard') as standard_tokens,
        sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) filter (where kind.provider_kind = 'specialised') as specialised_tokens,
        sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) filter (where kind.provider_kind is not null) as known_tokens
    from marts.spend_daily as spend
    left join (select provider_name, min(provider_kind) as provider_kind from provider group by provider_name) as kind on kind.provider_name = spend.provider_name
    group by cast(date_trunc('month', usage_day) as date)
),
series as materialized (
    select prediction.prediction_id, frontier.month_day, frontier.usd_per_mtok / base.usd_per_mtok - 1 as value,
        concat(frontier.maker_count, ' makers'' flagships (', frontier.models, ') at ', round(frontier.usd_per_mtok, 2), ' USD by million tokens, ', round(base.usd_per_mtok, 2), ' in the baseline month') as basis
    from prediction
    join frontier as base on base.month_day = date_trunc('month', prediction.baseline_day)
    join frontier on frontier.month_day >= base.month_day
    where prediction.measure = 'frontier_price_change_share'
    union all
    select prediction_id, month_day, cast(standard_cost_usd as double) / nullif(standard_tokens, 0) * 1000, concat(call_count, ' own calls')
    from prediction, spent
    where measure = 'standard_cost_usd_per_ktok' and standard_tokens > 0 and standard_cost_usd is not null
    union all
    select prediction_id, month_day, coalesce(specialised_tokens, 0) / known_tokens, concat(call_count, ' own calls')
    from prediction, spent
    where measure = 'specialised_token_share' and known_tokens > 0
),
data_end as (
    select 'frontier_price_change_share' as measure, cast(until_at as date) as data_until_day from price_span
    union all
    select measure, (select max(usage_day) from marts.spend_daily)
    from (values ('standard_cost_usd_per_ktok'), ('specialised_token_share')) as own (measure)
),
judged as (
    select
        prediction.*, data_end.data_until_day, whole.measured_series, at_due.month_day as measured_day, at_due.value as measured_value, at_due.basis,
        case
            when at_due.value is null or is_market_claim then 'not_measurable'
            when data_end.data_until_day < due_day then 'open'
            -- Judged by the due month itself; an older month proves nothing.
            when at_due.month_day < date_trunc('month', due_day) then 'not_measurable'
            when at_due.value >= coalesce(target_from, at_due.value) and at_due.value <= coalesce(target_to, at_due.value) then 'met'
            else 'missed'
        end as status
    from prediction
    left join data_end on data_end.measure = prediction.measure
    left join (
        select series.prediction_id, max(month_day) as month_day, arg_max(value, month_day) as value, arg_max(basis, month_day) as basis
        from series
        join prediction on prediction.prediction_id = series.prediction_id and series.month_day <= prediction.due_day
        group by series.prediction_id
    ) as at_due on at_due.prediction_id = prediction.prediction_id
    left join (
        select prediction_id, string_agg(concat(left(cast(month_day as varchar), 7), '=', round(value, 6)), ', ' order by month_day) as measured_series
        from series
        group by prediction_id
    ) as whole on whole.prediction_id = prediction.prediction_id
)
select
    *,
    case
        when measured_value is null and data_until_day is null then 'no data for this measure'
        when measured_value is null and baseline_day is not null then concat('nothing measured in the baseline month, ', left(cast(baseline_day as varchar), 7))
        when measured_value is null then 'nothing measured up to the due day'
        else concat(
            case when is_market_claim then 'a claim about the market; here only: ' else '' end,
            round(measured_value, 6), ' in ', left(cast(measured_day as varchar), 7), '; ', basis,
            case when status = 'open' then concat('; data end on ', cast(data_until_day as varchar)) else '' end)
    end as evidence
from judged
