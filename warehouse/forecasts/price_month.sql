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
    -- A list that is read for the first time tells of models that are years old; where it says since when it has them, that counts.
    select
        feed, feed_model, min(quoted_at) as first_at,
        least(min(quoted_at), coalesce(min(cast(listed_day as timestamp)), min(quoted_at))) as since_at
    from core.price_quote
    group by feed, feed_model
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
        first_listed.since_at as first_listed_at,
        -- Never changed since we have known of it: since it has been listed.
        case when sheet.since_at > first_listed.first_at then sheet.since_at else least(sheet.since_at, first_listed.since_at) end as unchanged_since_at,
        regexp_extract(model_name, '^[a-z-]+') as line_name,
        regexp_extract(model_name, '^[a-z]+') as family_word,
        -- anthropic/claude-3-haiku on an aggregator's list, bedrock/... on another: who makes or sells it
        coalesce(nullif(regexp_extract(lower(feed_model), '^~?([^/]+)/', 1), ''), provider_name, '') as owner_name,
        model_family(model_name) as family_name
    from sheet
    join first_listed using (feed, feed_model)
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
tally as (
    -- Months seen and changes in them, up to and with the row's own month: of the sheet, its owner, its family on this list, the list.
    select
        *,
        sum(cast(has_changed as integer)) over sheet as own_changes, count(has_changed) over sheet as own_months,
        sum(cast(has_changed as integer)) over owner as owner_changes, count(has_changed) over owner as owner_months,
        sum(cast(has_changed as integer)) over family as family_changes, count(has_changed) over family as family_months,
        sum(cast(has_changed as integer)) over list as feed_changes, count(has_changed) over list as feed_months
    from moved
    window
        sheet as (partition by feed, feed_model order by month_no desc),
        owner as (partition by feed, owner_name order by month_no desc),
        family as (partition by feed, family_word order by month_no desc),
        list as (partition by feed order by month_no desc)
),
list_rate as (
    select *, (coalesce(feed_changes, 0) + 1) / (feed_months + 60.0) as feed_change_share from tally
),
rate as (
    -- Empirical Bayes: what a group did so far, on the way to what the larger group did (by 20 model-months, 6 for a single model).
    select
        *,
        (coalesce(owner_changes, 0) + 20 * feed_change_share) / (owner_months + 20) as owner_change_share,
        (coalesce(family_changes, 0) + 20 * feed_change_share) / (family_months + 20) as family_change_share
    from list_rate
),
family as (
    select month_no, family_name, median(log_price) as median_log_price
    from moved
    group by month_no, family_name
),
line as (
    -- The newest of the same line at the same seller.
    select month_no, feed, provider_name, line_name, max(first_listed_at) as newest_at
    from moved
    group by month_no, feed, provider_name, line_name
),
open_weights as (
    -- A fact that holds for all time, once any list has told it.
    select model_name, true as is_open
    from core.price_quote
    where is_open_weights or hugging_face_id is not null
    group by model_name
)
select
    rate.moment_at, rate.month_no, rate.feed, rate.feed_model, rate.provider_name, rate.provider_kind, rate.model_name, rate.mode,
    rate.input_usd_per_mtok, rate.output_usd_per_mtok, rate.log_price, rate.log_ratio, rate.has_changed, rate.will_change,
    ln(1 + date_diff('day', rate.first_listed_at, rate.moment_at)) as log_age_days,
    greatest(0, ln(1 + date_diff('day', rate.first_listed_at, rate.moment_at)) - ln(120)) as log_old_days,
    greatest(0, ln(1 + greatest(0, date_diff('day', rate.unchanged_since_at, rate.moment_at))) - ln(120)) as log_settled_days,
    cast(coalesce(rate.mode, 'chat') = 'chat' as integer) as is_chat,
    -- A name that says how many parameters there are is one of weights that anybody may serve.
    cast(coalesce(open_weights.is_open, false) or regexp_matches(lower(rate.feed_model), '(^|[^a-z0-9.])([0-9]+x)?[0-9]+([.][0-9]+)?b([^a-z0-9]|$)') as integer)
        as is_open_weights,
    least(4, greatest(-3, rate.log_price)) as log_price_level,
    least(3, greatest(-1, ln(greatest(rate.output_usd_per_mtok, 1e-9) / greatest(rate.input_usd_per_mtok, 1e-9)))) as log_output_ratio,
    ln(rate.owner_change_share) as log_owner_share,
    ln(rate.family_change_share) as log_family_share,
    ln((coalesce(rate.own_changes, 0) + 6 * rate.owner_change_share) / (rate.own_months + 6)) as log_own_share,
    ln(rate.feed_change_share) as log_feed_share,
    abs(rate.log_price - family.median_log_price) as gap_to_family,
    cast(line.newest_at > rate.first_listed_at as integer) as has_newer_sibling,
    coalesce(least(24, greatest(0, date_diff('day', cast(rate.moment_at as date), rate.deprecation_day) / 30.0)), 24) as months_to_deprecation
from rate
-- Outer joins, though all find their row: their order is kept, and any other is a hundred times slower.
left join family on family.month_no = rate.month_no and family.family_name = rate.family_name
left join line
    on line.month_no = rate.month_no and line.feed = rate.feed and line.provider_name is not distinct from rate.provider_name
    and line.line_name = rate.line_name
left join open_weights on open_weights.model_name = rate.model_name
order by month_no desc, feed, feed_model
