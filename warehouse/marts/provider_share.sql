-- marts.provider_share: who has how much of our calls, tokens and spend, month by month, and what it would cost to leave.
--
-- An equivalent is the same model sold by another provider, at its standard list price at the end of the month; a class without a
-- price of its own is billed as the class it belongs to. Spend without one is locked in: leaving means another model.
-- Months before a feed's first list are judged by that list, as their calls are costed by it.
with month as (
    select
        cast(date_trunc('month', usage_day) as date) as month_day, provider_name, model_name,
        sum(call_count) as call_count,
        sum(coalesce(input_uncached_tokens, 0) + coalesce(cache_read_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
            + coalesce(cache_write_1h_tokens, 0) + coalesce(input_media_tokens, 0)) as input_tokens,
        sum(coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) + coalesce(output_media_tokens, 0)) as output_tokens,
        sum(list_cost_usd) as list_cost_usd,
        sum(case when cost_status in ('unpriced', 'no_usage') then call_count else 0 end) as unpriced_count,
        -- What another provider would charge for: the tokens that were charged here.
        sum(case when list_cost_usd > 0 then coalesce(input_uncached_tokens, 0) + coalesce(input_media_tokens, 0) else 0 end) as plain,
        sum(case when list_cost_usd > 0 then coalesce(cache_read_tokens, 0) else 0 end) as read,
        sum(case when list_cost_usd > 0 then coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0) else 0 end) as written,
        sum(case when list_cost_usd > 0 then coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) + coalesce(output_media_tokens, 0) else 0 end) as said
    from marts.usage_daily
    where usage_day >= $from_day and usage_day < $to_day
    group by date_trunc('month', usage_day), provider_name, model_name
),
end_of as (
    select distinct month_day, cast(month_day + interval 1 month as timestamp) as end_at from month
),
feed_start as (
    select feed, min(known_from) as first_known_at from core.price group by feed
),
-- Only what is sold under a name that we use. What the first list has may have been sold for as long as anyone knows.
quote as (
    select
        feed, provider_name, feed_model, model_name, token_class, price_usd_per_unit, valid_to, delisted_at,
        case when valid_from > first_known_at then valid_from else timestamp '1970-01-01' end as valid_from
    from core.price
    join feed_start using (feed)
    where known_to is null and service_tier = 'standard' and region is null and price_condition is null and context_above_tokens = 0
      and unit = 'token' and token_class in ('input_uncached', 'cache_read', 'cache_write_5m', 'output_text') and provider_name is not null
      and model_name in (select model_name from month)
),
sheet as (
    select
        end_of.month_day, feed, provider_name, feed_model, model_name,
        max(case when token_class = 'input_uncached' then price_usd_per_unit end) as plain_usd,
        max(case when token_class = 'cache_read' then price_usd_per_unit end) as read_usd,
        max(case when token_class = 'cache_write_5m' then price_usd_per_unit end) as written_usd,
        max(case when token_class = 'output_text' then price_usd_per_unit end) as said_usd
    from end_of
    join quote on quote.valid_from < end_of.end_at and (quote.valid_to is null or quote.valid_to >= end_of.end_at)
        and (quote.delisted_at is null or quote.delisted_at >= end_of.end_at)
    group by end_of.month_day, feed, provider_name, feed_model, model_name
),
elsewhere as (
    select
        month.month_day, month.provider_name, month.model_name,
        min(cast(month.plain * plain_usd + month.read * coalesce(read_usd, plain_usd) + month.written * coalesce(written_usd, plain_usd)
            + month.said * said_usd as decimal(38, 12))) as elsewhere_cost_usd
    from month
    join sheet on sheet.month_day = month.month_day and sheet.model_name = month.model_name and sheet.provider_name <> month.provider_name
    where month.list_cost_usd > 0 and plain_usd > 0 and said_usd > 0
    group by month.month_day, month.provider_name, month.model_name
),
provider_month as (
    select
        month.month_day, month.provider_name,
        sum(call_count) as call_count, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens,
        coalesce(sum(month.list_cost_usd), 0) as list_cost_usd, sum(unpriced_count) as unpriced_count,
        coalesce(sum(case when elsewhere_cost_usd <= month.list_cost_usd then month.list_cost_usd end), 0) as free_to_leave_cost_usd,
        coalesce(sum(case when elsewhere_cost_usd is not null then month.list_cost_usd end), 0) as sold_elsewhere_cost_usd,
        coalesce(sum(elsewhere_cost_usd - month.list_cost_usd), 0) as leaving_cost_usd
    from month
    left join elsewhere
        on elsewhere.month_day = month.month_day and elsewhere.provider_name = month.provider_name and elsewhere.model_name = month.model_name
    group by month.month_day, month.provider_name
),
shared as (
    select
        *,
        cast(call_count as double) / sum(call_count) over same_month as call_share,
        cast(input_tokens + output_tokens as double) / nullif(sum(input_tokens + output_tokens) over same_month, 0) as token_share,
        cast(list_cost_usd as double) / nullif(cast(sum(list_cost_usd) over same_month as double), 0) as cost_share
    from provider_month
    window same_month as (partition by month_day)
)
select
    shared.month_day, shared.provider_name, kind.provider_kind, call_count, input_tokens, output_tokens, list_cost_usd, unpriced_count,
    call_share, token_share, cost_share,
    sum(cost_share) over (partition by month_day, provider_kind) as kind_cost_share,
    sum(cost_share * cost_share) over (partition by month_day) as spend_hhi,
    sum(call_share * call_share) over (partition by month_day) as call_hhi,
    cast(free_to_leave_cost_usd as double) / nullif(cast(list_cost_usd as double), 0) as free_to_leave_share,
    cast(list_cost_usd - sold_elsewhere_cost_usd as double) / nullif(cast(list_cost_usd as double), 0) as locked_in_share,
    sold_elsewhere_cost_usd, leaving_cost_usd
from shared
left join (select provider_name, min(provider_kind) as provider_kind from provider group by provider_name) as kind
    on kind.provider_name = shared.provider_name
