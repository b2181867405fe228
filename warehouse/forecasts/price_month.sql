-- What a forecast of price changes learns from: every listed model at the origin and a month, two months, ... before it.
--
-- A row is a model on a price list ("sheet") at a moment: its price as it was then believed, what was known of it, and whether the
-- price had changed one month later (null: not known at the origin, or no longer listed). Bound: $origin_at, over a price book
-- that holds nothing later. Prices are base list prices of text tokens, input and output blended 3:1; free models are left out.
with moment as (
    select cast($origin_at as timestamp) - to_months(cast(month_no as integer)) as moment_at, month_no
    from generate_series(0, 59) as g (month_no)
    where cast($origin_at as timestamp) - to_months(cast(month_no as integer)) >= (select min(quoted_at) from core.price_quote)
),
snapshot as (
    select moment.moment_at, moment.month_no, seen.feed, max(seen.quoted_at) as quoted_at
    from moment
    join (select distinct feed, quoted_at from core.price_quote) as seen
        -- A list that was not read for longer says nothing of the moment.
        on seen.quoted_at <= moment.moment_at and seen.quoted_at > moment.moment_at - interval 45 day
    group by moment.moment_at, moment.month_no, seen.feed
),
feed_start as (
    select feed, min(quoted_at) as first_at from core.price_quote group by feed
),
listing as (
    select
        snapshot.moment_at, snapshot.month_no, snapshot.feed, quote.feed_model, any_value(quote.provider_name) as provider_name,
        any_value(quote.provider_kind) as provider_kind, any_value(quote.model_name) as model_name, any_value(quote.mode) as mode,
        any_value(quote.deprecation_day) as deprecation_day
    from snapshot
    join core.price_quote as quote on quote.feed = snapshot.feed and quote.quoted_at = snapshot.quoted_at
    group by snapshot.moment_at, snapshot.month_no, snapshot.feed, quote.feed_model
),
first_listed as (
    select feed, feed_model, min(quoted_at) as first_at from core.price_quote group by feed, feed_model
),
price as (
    select
        feed, feed_model, token_class, cast(price_usd_per_unit as double) * 1000000 as usd_per_mtok, valid_from, valid_to, known_from, known_to,
        -- Said to have held always: since we have known of it.
        case when valid_from < timestamp '2000-01-01' then known_from else valid_from end as since_at
    from core.price
    where service_tier = 'standard' and region is null and price_condition is null and context_above_tokens = 0 and unit = 'token'
        and token_class in ('input_uncached', 'output_text')
),
sheet as (
    select
        listing.moment_at, listing.month_no, listing.feed, listing.feed_model, any_value(listing.provider_name) as provider_name,
        any_value(listing.provider_kind) as provider_kind, any_value(listing.model_name) as model_name, any_value(listing.mode) as mode,
        any_value(listing.deprecation_day) as deprecation_day,
        max(usd_per_mtok) filter (where token_class = 'input_uncached') as input_usd_per_mtok,
        max(usd_per_mtok) filter (where token_class = 'output_text') as output_usd_per_mtok,
        max(since_at) as since_at
    from listing
    join price
        on price.feed = listing.feed and price.feed_model = listing.feed_model
        and price.valid_from <= listing.moment_at and (price.valid_to is null or price.valid_to > listing.moment_at)
        and price.known_from <= listing.moment_at and (price.known_to is null or price.known_to > listing.moment_at)
    group by listing.moment_at, listing.month_no, listing.feed, listing.feed_model
    having input_usd_per_mtok + output_usd_per_mtok > 0
),
blended as (
    select
        sheet.*,
        ln((3 * input_usd_per_mtok + output_usd_per_mtok) / 4) as log_price,
        first_listed.first_at as first_listed_at,
        first_listed.first_at = feed_start.first_at as is_first_list,
        regexp_extract(model_name, '^[a-z-]+') as line_name,
        model_family(model_name) as family_name
    from sheet
    join first_listed using (feed, feed_model)
    join feed_start using (feed)
),
moved as (
    -- Half a permille is rounding, not a price.
    select
        now_seen.*,
        abs(now_seen.log_price - before.log_price) > 0.0005
            or abs(now_seen.input_usd_per_mtok - before.input_usd_per_mtok) > 0.0005 * before.input_usd_per_mtok as has_changed,
        now_seen.log_price - before.log_price as log_ratio,
        abs(later.log_price - now_seen.log_price) > 0.0005
            or abs(later.input_usd_per_mtok - now_seen.input_usd_per_mtok) > 0.0005 * now_seen.input_usd_per_mtok as will_change
    from blended as now_seen
    left join blended as before
        on before.feed = now_seen.feed and before.feed_model = now_seen.feed_model and before.month_no = now_seen.month_no + 1
    left join blended as later
        on later.feed = now_seen.feed and later.feed_model = now_seen.feed_model and later.month_no = now_seen.month_no - 1
),
rate as (
    -- What the provider did so far, on the way to what its whole list did: 30 model-months count as much as its own.
    select
        *,
        (provider_changes + 30 * (feed_changes + 1) / (feed_months + 60)) / (provider_months + 30) as provider_change_share,
        (feed_changes + 1) / (feed_months + 60) as feed_change_share,
        (feed_recent_changes + 2 * (feed_changes + 1) / (feed_months + 60) * 60) / (feed_recent_months + 120) as feed_recent_share
    from (
        select
            feed, provider_name, month_no,
            sum(changes) over own as provider_changes, sum(months) over own as provider_months,
            sum(changes) over recent as recent_changes, sum(months) over recent as recent_months,
            sum(feed_changes) over own as feed_changes, sum(feed_months) over own as feed_months,
            sum(feed_changes) over recent as feed_recent_changes, sum(feed_months) over recent as feed_recent_months
        from (
            select
                feed, provider_name, month_no,
                count(*) filter (where has_changed) as changes, count(has_changed) as months,
                sum(count(*) filter (where has_changed)) over (partition by feed, month_no) as feed_changes,
                sum(count(has_changed)) over (partition by feed, month_no) as feed_months
            from moved
            group by feed, provider_name, month_no
        ) as counted
        window
            own as (partition by feed, provider_name order by month_no desc rows between unbounded preceding and current row),
            recent as (partition by feed, provider_name order by month_no desc rows between 2 preceding and current row)
    ) as summed
),
rival as (
    select
        month_no, model_name, count(*) as seller_count, min(log_price) as lowest_log_price, median(log_price) as median_log_price,
        count(*) filter (where has_changed) as changed_count
    from moved
    group by month_no, model_name
),
family as (
    select month_no, family_name, median(log_price) as median_log_price, count(*) filter (where has_changed) as changed_count, count(*) as sheet_count
    from moved
    group by month_no, family_name
),
line as (
    -- The newest of the same line at the same seller.
    select month_no, feed, provider_name, line_name, max(first_listed_at) as newest_at, min(log_price) as lowest_log_price
    from moved
    group by month_no, feed, provider_name, line_name
)
select
    moved.moment_at, moved.month_no, moved.feed, moved.feed_model, moved.provider_name, moved.provider_kind, moved.model_name, moved.mode,
    moved.input_usd_per_mtok, moved.output_usd_per_mtok, moved.log_price, moved.log_ratio, moved.has_changed, moved.will_change,
    ln(1 + date_diff('day', moved.first_listed_at, moved.moment_at)) as log_age_days,
    ln(1 + greatest(0, date_diff('day', moved.since_at, moved.moment_at))) as log_unchanged_days,
    cast(moved.since_at > moved.first_listed_at as integer) as has_ever_changed,
    cast(moved.is_first_list as integer) as is_first_list,
    cast(coalesce(moved.has_changed, false) as integer) as changed_last_month,
    ln(rate.provider_change_share) as log_provider_share,
    ln((rate.recent_changes + 10 * rate.provider_change_share) / (rate.recent_months + 10)) as log_recent_share,
    ln(rate.feed_change_share) as log_feed_share,
    ln(rate.feed_recent_share) as log_feed_recent_share,
    least(5, moved.log_price - rival.lowest_log_price) as gap_to_cheapest,
    moved.log_price - rival.median_log_price as gap_to_median,
    abs(moved.log_price - family.median_log_price) as gap_to_family,
    cast(rival.changed_count > coalesce(cast(moved.has_changed as integer), 0) as integer) as has_rival_changed,
    cast(family.changed_count > coalesce(cast(moved.has_changed as integer), 0) as integer) as has_family_changed,
    ln(rival.seller_count) as log_sellers,
    cast(line.newest_at > moved.first_listed_at as integer) as has_newer_sibling,
    ln(1 + date_diff('day', line.newest_at, moved.moment_at)) as log_newest_days,
    cast(moved.deprecation_day is not null as integer) as has_deprecation_day,
    coalesce(least(24, greatest(0, date_diff('day', cast(moved.moment_at as date), moved.deprecation_day) / 30.0)), 24) as months_to_deprecation
from moved
-- Outer joins, though all find their row: their order is kept, and any other is a hundred times slower.
left join rate on rate.feed = moved.feed and rate.provider_name is not distinct from moved.provider_name and rate.month_no = moved.month_no
left join rival on rival.month_no = moved.month_no and rival.model_name = moved.model_name
left join family on family.month_no = moved.month_no and family.family_name = moved.family_name
left join line
    on line.month_no = moved.month_no and line.feed = moved.feed and line.provider_name is not distinct from moved.provider_name
    and line.line_name = moved.line_name
order by month_no desc, feed, feed_model
