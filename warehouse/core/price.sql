-- core.price: the price book. One row: a price, the time for which it holds (valid_from, valid_to) and the time during which we
-- believed so (known_from, known_to). Both are half open; null is "without end". For one price_key no two rows overlap in both.
--
-- Made from all quotes at once, so the order in which snapshots arrive does not matter.
--   A change at t splits the old row: known [t1, t) valid without end; known from t on, valid until t. The new row is known from t.
--   An undated quote says nothing about the time before it: valid_from is the first snapshot that had it, never earlier.
--   A dated quote (genai-prices) is taken at its word, for the past and for the future; 1970-01-01 is "always before".
--   A price that its feed drops while it still lists the model ends at that snapshot.
--   A model that its feed drops keeps its last prices, as old calls and stragglers must still be costed; delisted_at says since when.
--   A suspect quote (core.price_suspect) is no news: what was believed before carries on, and where that is nothing, so does that.
with listing as materialized (
    -- every snapshot of a feed that lists the model, numbered; with or without a price
    select
        feed, feed_model, quoted_at,
        row_number() over (partition by feed, feed_model order by quoted_at) as listing_no,
        count(*) over (partition by feed, feed_model) as listings
    from (select distinct feed, feed_model, quoted_at from core.price_quote) as seen
),
delisting as (
    -- when the feed went on without the model
    select last_listed.feed, last_listed.feed_model, min(snapshot.quoted_at) as delisted_at
    from (select feed, feed_model, max(quoted_at) as quoted_at from listing group by feed, feed_model) as last_listed
    join (select distinct feed, quoted_at from listing) as snapshot
        on snapshot.feed = last_listed.feed and snapshot.quoted_at > last_listed.quoted_at
    group by last_listed.feed, last_listed.feed_model
),
series as materialized (
    -- unknown keys are for people to look at, not for costing. The provider is that of the latest snapshot: a feed's own
    -- correction of it is no change of price
    select
        price_key, any_value(feed) as feed, any_value(feed_model) as feed_model, any_value(model_name) as model_name,
        arg_max(provider_name, (quoted_at, landing_file)) as provider_name, any_value(region) as region,
        any_value(service_tier) as service_tier, any_value(token_class) as token_class,
        any_value(context_above_tokens) as context_above_tokens, any_value(unit) as unit, any_value(price_condition) as price_condition,
        min(quoted_at) as first_quoted_at, count(distinct quoted_at) as statements,
        bool_or(valid_from is not null or valid_to is not null) as is_dated
    from core.price_quote
    where token_class is not null and price_usd_per_unit is not null and not starts_with(token_class, 'unknown:')
    group by price_key
),
naming as (
    select feed, feed_model, substr(arg_max(price_note, (quoted_at, landing_file)), 7) as name_clause
    from core.price_quote
    where starts_with(price_note, 'names ')
    group by feed, feed_model
),
gap as materialized (
    -- series that some snapshot left out although it lists the model
    select series.price_key
    from series
    join listing using (feed, feed_model)
    where listing.quoted_at = series.first_quoted_at and statements != listings - listing_no + 1
),
ending as materialized (
    -- the first snapshot of each such gap
    select last_said.price_key, listing.quoted_at
    from (
        select *, lead(listing_no) over (partition by price_key order by listing_no) as next_listing_no
        from (
            select distinct price_quote.price_key, listing.feed, listing.feed_model, listing.listing_no
            from core.price_quote as price_quote
            join listing using (feed, feed_model, quoted_at)
            where price_quote.price_usd_per_unit is not null and price_quote.price_key in (select price_key from gap)
        ) as said
    ) as last_said
    join listing using (feed, feed_model)
    where listing.listing_no = last_said.listing_no + 1
        and (next_listing_no is null or next_listing_no > last_said.listing_no + 1)
),
good as (
    select price_key, quoted_at, valid_from, valid_to, price_usd_per_unit, landing_file
    from core.price_quote
    where price_usd_per_unit is not null and quote_id not in (select quote_id from core.price_suspect)
),
amount as (
    -- undated: one amount a snapshot; should two snapshots be of one moment, the dearer
    select price_key, quoted_at, max(price_usd_per_unit) as price_usd_per_unit, min(landing_file) as landing_file
    from good
    where price_key in (select price_key from series where not is_dated)
    group by price_key, quoted_at
    union all
    select price_key, quoted_at, null, null
    from ending
    where price_key in (select price_key from series where not is_dated)
),
schedule as (
    -- dated: all amounts of a snapshot with their days
    select
        price_key, quoted_at, min(landing_file) as landing_file,
        list(
            {'valid_from': valid_from, 'valid_to': valid_to, 'price_usd_per_unit': price_usd_per_unit}
            order by valid_from nulls first, valid_to, price_usd_per_unit
        ) as schedule
    from good
    where price_key in (select price_key from series where is_dated)
    group by price_key, quoted_at
    union all
    select price_key, quoted_at, null, [{'valid_from': null, 'valid_to': null, 'price_usd_per_unit': null}]
    from ending
    where price_key in (select price_key from series where is_dated)
),
changed as (
    select price_key, quoted_at, landing_file, [{'valid_from': null, 'valid_to': null, 'price_usd_per_unit': price_usd_per_unit}] as schedule
    from (
        select
            *,
            lag(quoted_at) over (partition by price_key order by quoted_at) as before_at,
            lag(price_usd_per_unit) over (partition by price_key order by quoted_at) as before_usd
        from amount
    ) as told
    where before_at is null or before_usd is distinct from price_usd_per_unit
    union all
    select price_key, quoted_at, landing_file, schedule
    from (
        select *, lag(schedule) over (partition by price_key order by quoted_at) as before_schedule
        from schedule
    ) as told
    where before_schedule is distinct from schedule
),
news as materialized (
    select
        *,
        row_number() over (partition by price_key order by quoted_at) as news_no,
        lead(quoted_at) over (partition by price_key order by quoted_at) as next_news_at
    from changed
),
claim as (
    select
        price_key, news_no, quoted_at as known_from, next_news_at, landing_file,
        coalesce(part.valid_from, quoted_at) as valid_from, coalesce(part.valid_to, timestamp '9999-01-01') as valid_to,
        part.price_usd_per_unit
    from (select * exclude (schedule), unnest(schedule) as part from news) as news
    where coalesce(part.valid_from, quoted_at) < coalesce(part.valid_to, timestamp '9999-01-01')
),
edge as (
    select price_key, valid_from as from_at, lead(valid_from) over (partition by price_key order by valid_from) as to_at
    from (
        select price_key, valid_from from claim
        union
        select price_key, valid_to from claim where valid_to < timestamp '9999-01-01'
    ) as bound
),
covered as (
    -- which news had the last word on each stretch of time, and until which later news
    select *, lead(news_no) over (partition by price_key, from_at order by news_no) as until_news_no
    from (
        select edge.price_key, from_at, to_at, claim.news_no, claim.price_usd_per_unit, claim.landing_file
        from edge
        join claim on claim.price_key = edge.price_key and claim.valid_from <= edge.from_at and claim.valid_to > edge.from_at
        -- a schedule that contradicts itself: the claim that starts later, then the dearer, holds
        qualify row_number() over (
            partition by edge.price_key, from_at, claim.news_no order by claim.valid_from desc, claim.price_usd_per_unit desc nulls last
        ) = 1
    ) as said
),
belief as (
    -- the whole book as believed after each news; a stretch with no price is only there to part its neighbours
    select
        covered.price_key, news.news_no, news.quoted_at as known_from, news.next_news_at as known_to, from_at, to_at,
        covered.price_usd_per_unit, covered.landing_file, covered.news_no as source_news_no
    from covered
    join news
        on news.price_key = covered.price_key
        and news.news_no >= covered.news_no
        and (covered.until_news_no is null or news.news_no < covered.until_news_no)
),
stretch as (
    -- neighbouring stretches of the same source and price are one
    select
        *,
        sum(is_start) over (partition by price_key, news_no order by from_at) as stretch_no
    from (
        select
            *,
            case
                when lag(to_at) over same = from_at
                    and lag(source_news_no) over same = source_news_no
                    and lag(price_usd_per_unit) over same is not distinct from price_usd_per_unit
                    then 0
                else 1
            end as is_start
        from belief
        window same as (partition by price_key, news_no order by from_at)
    ) as marked
),
page as (
    select
        price_key, news_no, any_value(known_from) as known_from, any_value(known_to) as known_to, min(from_at) as valid_from,
        case when bool_or(to_at is null) then null else max(to_at) end as valid_to, any_value(price_usd_per_unit) as price_usd_per_unit,
        min(landing_file) as landing_file
    from stretch
    group by price_key, news_no, stretch_no
    having any_value(price_usd_per_unit) is not null
),
kept as (
    -- a row lives on through news that leave it as it was
    select
        *,
        sum(is_start) over (partition by price_key, valid_from, valid_to, price_usd_per_unit order by news_no) as life_no
    from (
        select
            *,
            case
                when lag(news_no) over (partition by price_key, valid_from, valid_to, price_usd_per_unit order by news_no) = news_no - 1 then 0
                else 1
            end as is_start
        from page
    ) as marked
),
life as (
    select
        price_key, valid_from, valid_to, price_usd_per_unit,
        min(known_from) as known_from,
        case when bool_or(known_to is null) then null else max(known_to) end as known_to,
        arg_min(landing_file, news_no) as landing_file
    from kept
    group by price_key, valid_from, valid_to, price_usd_per_unit, life_no
)
select
    md5(concat(life.price_key, '|', valid_from, '|', coalesce(valid_to, timestamp '9999-01-01'), '|', known_from)) as price_id,
    life.price_key,
    series.feed,
    series.provider_name,
    series.feed_model,
    series.model_name,
    naming.name_clause,
    series.region,
    series.service_tier,
    series.token_class,
    series.context_above_tokens,
    series.unit,
    series.price_condition,
    life.price_usd_per_unit,
    life.valid_from,
    life.valid_to,
    life.known_from,
    life.known_to,
    case when life.valid_to is null and life.known_to is null then delisting.delisted_at end as delisted_at,
    life.landing_file
from life
join series using (price_key)
left join delisting using (feed, feed_model)
left join naming using (feed, feed_model)
