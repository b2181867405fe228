-- marts.price_change: every published change of a list price, as known now.
--
-- The first snapshot of a feed is no change, whatever it lists. A price that its feed corrects is a change here, as the feed
-- does not say which it was. Suspect quotes are not published, so they are not here.
with book as (
    select
        *,
        min(known_from) over (partition by price_key, valid_from, price_usd_per_unit) as first_known_at
    from core.price
),
now_known as (
    select
        *,
        lag(price_usd_per_unit) over in_time as before_usd,
        lag(valid_to) over in_time as before_to,
        lead(valid_from) over in_time as next_from
    from book
    where known_to is null
    window in_time as (partition by price_key order by valid_from)
),
span as (
    -- Where one row follows another at the same price (a feed forgot an old date, or took back what it had announced) nothing changed.
    select *, lag(since_at) over in_time as before_from
    from (
        select *, max(case when is_change then valid_from end) over in_time as since_at
        from (select *, (before_to = valid_from and before_usd = price_usd_per_unit) is distinct from true as is_change from now_known) as marked
        window in_time as (partition by price_key order by valid_from)
    ) as dated
    window in_time as (partition by price_key order by valid_from)
),
feed_start as (
    select feed, min(known_from) as first_known_at from core.price group by feed
),
model_start as (
    select feed, feed_model, min(valid_from) as first_valid_at from core.price group by feed, feed_model
),
change as (
    select
        price_key, feed, valid_from as changed_at, first_known_at, provider_name, feed_model, model_name, region, service_tier,
        token_class, context_above_tokens, unit, price_condition, landing_file,
        -- after a gap in which there was no price, the price is new
        case when before_to = valid_from then before_usd end as old_usd_per_unit,
        price_usd_per_unit as new_usd_per_unit,
        -- 1970 is no day of a change but "always before"
        date_diff('day', nullif(before_from, timestamp '1970-01-01'), valid_from) as days_since_last_change
    from span
    where is_change
    union all
    select
        price_key, feed, valid_to as changed_at, known_from as first_known_at, provider_name, feed_model, model_name, region, service_tier,
        token_class, context_above_tokens, unit, price_condition, landing_file,
        price_usd_per_unit as old_usd_per_unit,
        null as new_usd_per_unit,
        date_diff('day', nullif(since_at, timestamp '1970-01-01'), valid_to) as days_since_last_change
    from span
    where valid_to is not null and next_from is distinct from valid_to
)
select
    md5(concat(price_key, '|', changed_at, '|', coalesce(cast(new_usd_per_unit as varchar), 'ended'))) as price_change_id,
    cast(changed_at as date) as change_day,
    changed_at,
    change.first_known_at,
    change.first_known_at < changed_at as is_announced,
    feed,
    provider_name,
    feed_model,
    model_name,
    region,
    service_tier,
    token_class,
    context_above_tokens,
    unit,
    price_condition,
    old_usd_per_unit,
    new_usd_per_unit,
    case when old_usd_per_unit > 0 then cast(new_usd_per_unit as double) / cast(old_usd_per_unit as double) end as new_to_old_ratio,
    case
        when new_usd_per_unit is null then 'ended'
        when old_usd_per_unit is null then 'new'
        when new_usd_per_unit > old_usd_per_unit then 'up'
        else 'down'
    end as direction,
    days_since_last_change,
    changed_at = model_start.first_valid_at as is_new_model,
    landing_file
from change
join feed_start using (feed)
join model_start using (feed, feed_model)
where changed_at > feed_start.first_known_at or (new_usd_per_unit is not null and old_usd_per_unit is not null) or new_usd_per_unit is null
