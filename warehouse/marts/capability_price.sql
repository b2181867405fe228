-- marts.capability_price: month by month, the cheapest list price at which a model at least as capable as a yardstick could be had.
--
-- Every model that a leaderboard rates is a yardstick: "what does it cost to have at least gpt-4-0314". Ratings are those of the
-- board's last snapshot, as boards move their whole scale from time to time: a model's ability does not change, what we know of
-- it does. Prices are list prices in force at the end of the month as known now, input and output of one sheet blended 3:1;
-- free ones are left out, as they come with limits. Quotes held back (core.price_suspect) are not in core.price.
with moment as (
    select month_day, least(cast(month_day + interval 1 month as timestamp), known_at) as as_of_at
    from (
        select cast(unnest(generate_series(date_trunc('month', first_at), known_at, interval 1 month)) as date) as month_day, known_at
        from (
            -- 1970 is "always before", which is no month to start from
            select (select min(greatest(valid_from, known_from)) from core.price) as first_at, (select max(last_listed_at) from core.model) as known_at
        ) as span
        where first_at is not null
    ) as month
    where month_day < known_at
),
quote as (
    select
        feed, provider_name, feed_model, model_name, token_class, price_usd_per_unit,
        -- Said to have held always: nobody could buy it before some list first had it.
        case when valid_from < timestamp '2000-01-01' then min(known_from) over (partition by price_key) else valid_from end as valid_from,
        least(coalesce(valid_to, timestamp '9999-01-01'), coalesce(delisted_at, timestamp '9999-01-01')) as valid_to,
        known_to
    from core.price
    where service_tier = 'standard' and region is null and price_condition is null and context_above_tokens = 0 and unit = 'token'
      and token_class in ('input_uncached', 'output_text')
),
sheet as (
    select
        moment.month_day, moment.as_of_at, quote.feed, quote.provider_name, quote.feed_model, any_value(quote.model_name) as model_name,
        max(price_usd_per_unit) filter (where token_class = 'input_uncached') * 1000000 as input_usd_per_mtok,
        max(price_usd_per_unit) filter (where token_class = 'output_text') * 1000000 as output_usd_per_mtok
    from moment
    join quote on quote.valid_from <= moment.as_of_at and quote.valid_to > moment.as_of_at and quote.known_to is null
    group by moment.month_day, moment.as_of_at, quote.feed, quote.provider_name, quote.feed_model
    having input_usd_per_mtok > 0 and output_usd_per_mtok > 0
),
-- What a name on a price list stood for at the time.
meant as (
    select
        sheet.*, coalesce(alias.model_name, sheet.model_name) as priced_model
    from sheet
    left join (
        select alias, model_name, coalesce(valid_from, date '1970-01-01') as from_day,
            coalesce(lead(valid_from) over (partition by alias order by valid_from nulls first), date '9999-01-01') as to_day
        from model_alias
    ) as alias on alias.alias = sheet.model_name and alias.from_day <= sheet.as_of_at and alias.to_day > sheet.as_of_at
),
-- A slip of the unit below the gate's factor of 90 would still set the cheapest price of all: what is ten times cheaper than the
-- middle of what all others ask for the very same model at that moment is not believed. (True offers seen: up to seven times.)
believed as (
    select cheap.month_day, cheap.as_of_at, cheap.feed, cheap.provider_name, cheap.feed_model, cheap.priced_model,
        any_value(cheap.input_usd_per_mtok) as input_usd_per_mtok, any_value(cheap.output_usd_per_mtok) as output_usd_per_mtok
    from meant as cheap
    left join meant as other
        on other.month_day = cheap.month_day and other.priced_model = cheap.priced_model
        and (other.provider_name <> cheap.provider_name or other.feed <> cheap.feed)
    group by cheap.month_day, cheap.as_of_at, cheap.feed, cheap.provider_name, cheap.feed_model, cheap.priced_model
    having coalesce(median(3 * other.input_usd_per_mtok + other.output_usd_per_mtok), 0)
        < 10 * any_value(3 * cheap.input_usd_per_mtok + cheap.output_usd_per_mtok)
),
board as (
    select source, scale, model_name, min(rating) as rating
    from (
        select *, max(rated_day) over (partition by source, scale) as last_day from core.capability
    ) as history
    where rated_day = last_day
    group by source, scale, model_name
),
-- A rating holds for the model of that very name; a name without a date or number (or `-latest`) may be any release of its
-- family, so the lowest rated of them counts.
rated_name as (
    select source, scale, model_name as name, rating, 0 as is_family from board
    union all
    select source, scale, model_family(model_name), min(rating), 1
    from board
    where model_family(model_name) <> model_name
    group by source, scale, model_family(model_name)
),
name_rating as (
    select source, scale, name, arg_min(rating, is_family) as rating
    from rated_name
    group by source, scale, name
),
offer as (
    select
        exact.source, exact.scale, exact.rating, believed.month_day, believed.as_of_at, believed.feed, believed.provider_name, believed.feed_model,
        believed.priced_model as model_name, input_usd_per_mtok, output_usd_per_mtok,
        cast((3 * input_usd_per_mtok + output_usd_per_mtok) / 4 as decimal(18, 9)) as price_usd_per_mtok,
        kind.provider_kind
    from believed
    join name_rating as exact on exact.name = regexp_replace(believed.priced_model, '-latest$', '')
    left join (select provider_name, min(provider_kind) as provider_kind from provider group by provider_name) as kind
        on kind.provider_name = believed.provider_name
),
scoped as (
    select *, 'any' as seller_scope from offer
    union all
    select *, 'first_party' from offer where provider_kind = 'first_party'
),
-- One offer a price: the most capable, then by name.
setter as (
    select *
    from scoped
    qualify row_number() over (
        partition by source, scale, seller_scope, month_day, price_usd_per_mtok
        order by rating desc, provider_name, model_name, feed, feed_model
    ) = 1
),
frontier as (
    -- From the most capable offer down: the cheapest so far is the cheapest at or above that rating.
    select distinct
        source, scale, seller_scope, month_day, rating,
        min(price_usd_per_mtok) over down as price_usd_per_mtok,
        lead(rating) over (partition by source, scale, seller_scope, month_day order by rating desc) as next_rating
    from (
        select source, scale, seller_scope, month_day, rating, min(price_usd_per_mtok) as price_usd_per_mtok
        from setter
        group by source, scale, seller_scope, month_day, rating
    ) as step
    window down as (partition by source, scale, seller_scope, month_day order by rating desc rows between unbounded preceding and current row)
),
priced as (
    -- The yardstick's price is that of the least capable offer that still reaches it.
    select
        frontier.source, frontier.scale, yardstick.model_name as capability_model, yardstick.rating as capability_rating,
        frontier.seller_scope, frontier.month_day, frontier.price_usd_per_mtok
    from board as yardstick
    join frontier
        on frontier.source = yardstick.source and frontier.scale = yardstick.scale
        and frontier.rating >= yardstick.rating and (frontier.next_rating < yardstick.rating or frontier.next_rating is null)
),
fitted as (
    select
        *,
        count(*) over history as fit_months,
        regr_slope(ln(cast(price_usd_per_mtok as double)), date_diff('day', date '2020-01-01', month_day) / 365.25) over history as slope
    from priced
    window history as (
        partition by source, scale, capability_model, seller_scope order by month_day rows between unbounded preceding and current row
    )
)
select
    fitted.source, fitted.scale, fitted.capability_model, fitted.capability_rating, fitted.seller_scope, fitted.month_day, setter.as_of_at,
    fitted.price_usd_per_mtok, setter.input_usd_per_mtok, setter.output_usd_per_mtok,
    setter.provider_name, setter.model_name, setter.rating, setter.feed, setter.feed_model,
    fitted.fit_months,
    case when fitted.fit_months >= 6 then exp(-slope) end as yearly_factor,
    case when fitted.fit_months >= 6 and slope < 0 then ln(2) / -slope * 365.25 end as half_life_days
from fitted
join setter
    on setter.source = fitted.source and setter.scale = fitted.scale and setter.seller_scope = fitted.seller_scope
    and setter.month_day = fitted.month_day and setter.price_usd_per_mtok = fitted.price_usd_per_mtok
    and setter.rating >= fitted.capability_rating
