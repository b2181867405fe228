-- core.price_suspect: quotes that look like a slip of the unit, with the reason. core.price leaves them out and carries on with
-- the last good price; a quote is no longer suspect once its level is confirmed, so the table is a verdict, not a fate.
--
-- A slip is a level (a run of equal quotes of one price) that is, by a factor of 90 or more,
--   own      off the last good level of the same price,
--   sibling  off the median of what other entries and feeds ask for the same model and token class, or
--   entry    at its first sight, and is the larger of input and output where these differ a thousandfold, or
--   ceiling  dearer than anything ever sold: 0.01 USD a token (the dearest list price so far is 0.0006), 1 USD a web search (0.05) or a
--            request (0.035), 10 USD a unit of anything else (0.22 an image). A call costed at such a price would also be more than a
--            column of costs holds, and stop the costing of all others.
-- Why 90: slips are thousandfold (per 1,000 for per 1) or hundredfold (cents), or such a slip on top of a small true change: the
-- cut of gemini-1.5-flash on Vertex AI of 2024-10 was quoted per 1,000 and came out at 1/107 to 1/320 of the price before. True
-- changes of one list price in the three years of history stay below 40. Below 90 nothing is held back; from or to zero neither.
-- Why 1,000 within an entry: honest output prices reach 150 to 200 times the input price, for audio and for cheap routed input.
--
-- A level is confirmed, and good from then on, when
--   witnesses agree: at least two within a factor of 3 of it, or all there are, and their median within a factor of 10; or
--   it has stood for 56 days and no median of witnesses is a factor of 10 or more off it (twice the longest slip that its feed
--   took back itself). A slip that nobody takes back and witnesses speak against is never published.
-- A witness is another entry's or feed's latest price for the same model, token class, tier and context, or else for the same
-- family of models, at that moment. From the same feed and provider it counts only if it did not jump by 90 itself and is older:
-- one hand slips in all its rows at once.
with recursive quote as (
    -- a schedule has several prices at once: each of its segments is a price of its own
    select quote_id, price_key, coalesce(valid_from, timestamp '1970-01-01') as segment, quoted_at, price_usd_per_unit
    from core.price_quote
    where price_usd_per_unit > 0 and not starts_with(token_class, 'unknown:')
),
step as (
    select *
    from (
        select *, lag(price_usd_per_unit) over (partition by price_key, segment order by quoted_at, quote_id) as before_usd
        from quote
    ) as told
    where before_usd is null or before_usd != price_usd_per_unit
),
level as materialized (
    select
        step.price_key, step.segment, price_quote.feed, price_quote.provider_name, price_quote.feed_model, price_quote.model_name,
        price_quote.region, price_quote.service_tier, price_quote.token_class, price_quote.context_above_tokens, price_quote.unit,
        coalesce(price_quote.price_condition, '') as condition,
        regexp_replace(regexp_replace(model_family(model_name), '-(exp|preview|experimental)$', ''), '-(001|002|latest)$', '') as family,
        step.price_usd_per_unit,
        step.quoted_at as starts_at,
        coalesce(
            lead(step.quoted_at) over (partition by step.price_key, step.segment order by step.quoted_at, quote_id), timestamp '9999-01-01'
        ) as ends_at,
        row_number() over (partition by step.price_key, step.segment order by step.quoted_at, quote_id) as level_no,
        (unit = 'token' and step.price_usd_per_unit >= 0.01)
        or (token_class in ('web_search', 'request') and step.price_usd_per_unit >= 1)
        or step.price_usd_per_unit >= 10 as is_above_ceiling,
        coalesce(greatest(step.price_usd_per_unit, before_usd) >= 90 * least(step.price_usd_per_unit, before_usd) and before_usd > 0, false) as is_jump
    from step
    join core.price_quote using (quote_id)
),
spread as (
    select price_key, segment, max(price_usd_per_unit) >= 90 * min(price_usd_per_unit) as is_wide
    from level
    group by price_key, segment
),
first_witness as (
    select
        level.price_key, level.segment, level.level_no,
        median(peer.price_usd_per_unit) as witness_usd
    from level
    join level as peer
        on peer.model_name = level.model_name
        and peer.token_class = level.token_class
        and peer.service_tier = level.service_tier
        and peer.context_above_tokens = level.context_above_tokens
        and peer.unit = level.unit
        and peer.condition = level.condition
        and (peer.feed != level.feed or peer.feed_model != level.feed_model)
        and peer.starts_at <= level.starts_at
        and peer.ends_at > level.starts_at
    where peer.feed != level.feed
        or peer.provider_name != level.provider_name
        or (peer.starts_at < level.starts_at and not peer.is_jump)
    group by level.price_key, level.segment, level.level_no
),
other_side as (
    -- input against output of one entry
    select level.price_key, level.segment, max(other.price_usd_per_unit) as other_usd
    from level
    join level as other
        on other.feed = level.feed
        and other.feed_model = level.feed_model
        and other.segment = level.segment
        and other.starts_at <= level.starts_at
        and other.ends_at > level.starts_at
        and other.service_tier = level.service_tier
        and other.context_above_tokens = level.context_above_tokens
        and other.region is not distinct from level.region
        and other.condition = level.condition
        and other.token_class = case level.token_class when 'input_uncached' then 'output_text' else 'input_uncached' end
    where level.level_no = 1 and level.token_class in ('input_uncached', 'output_text')
    group by level.price_key, level.segment
),
doubt as materialized (
    -- every level of a price of which any could be a slip
    select
        level.*,
        witness_usd,
        coalesce(greatest(level.price_usd_per_unit, witness_usd) >= 90 * least(level.price_usd_per_unit, witness_usd), false) as is_off_siblings,
        coalesce(level.level_no = 1 and level.price_usd_per_unit >= 1000 * other_usd, false) as is_off_entry
    from level
    join spread using (price_key, segment)
    left join first_witness using (price_key, segment, level_no)
    left join other_side using (price_key, segment)
    qualify bool_or(
        is_wide
        or is_above_ceiling
        or coalesce(greatest(level.price_usd_per_unit, witness_usd) >= 90 * least(level.price_usd_per_unit, witness_usd), false)
        or coalesce(level.level_no = 1 and level.price_usd_per_unit >= 1000 * other_usd, false)
    ) over (partition by price_key, segment)
),
testimony as (
    -- at every quote of a level in doubt, what the witnesses of that moment say
    select
        doubt.price_key, doubt.segment, doubt.level_no, doubt.starts_at, doubt.price_usd_per_unit, doubt.is_above_ceiling, quote.quoted_at,
        -- the same model if anybody sells it, else its family
        coalesce(median(peer.price_usd_per_unit) filter (where peer.model_name = doubt.model_name), median(peer.price_usd_per_unit)) as median_usd,
        count(distinct (peer.feed, peer.provider_name, peer.feed_model)) filter (where
            peer.price_usd_per_unit between doubt.price_usd_per_unit / 3 and doubt.price_usd_per_unit * 3
        ) as agreeing,
        count(distinct (peer.feed, peer.provider_name, peer.feed_model)) as witnesses
    from doubt
    join quote
        on quote.price_key = doubt.price_key
        and quote.segment = doubt.segment
        and quote.quoted_at >= doubt.starts_at
        and quote.quoted_at < doubt.ends_at
    left join level as peer
        on peer.family = doubt.family
        and peer.token_class = doubt.token_class
        and peer.service_tier = doubt.service_tier
        and peer.context_above_tokens = doubt.context_above_tokens
        and peer.unit = doubt.unit
        and peer.condition = doubt.condition
        and (peer.feed != doubt.feed or peer.feed_model != doubt.feed_model)
        and peer.starts_at <= quote.quoted_at
        and peer.ends_at > quote.quoted_at
        and (
            peer.feed != doubt.feed
            or peer.provider_name != doubt.provider_name
            or (peer.starts_at < quote.quoted_at and not peer.is_jump)
        )
    group by all
),
confirmation as materialized (
    select price_key, segment, level_no, min(quoted_at) as confirmed_at
    from testimony
    where not is_above_ceiling and ((
            agreeing >= least(2, greatest(witnesses, 1))
            and greatest(median_usd, price_usd_per_unit) < 10 * least(median_usd, price_usd_per_unit)
        )
        or (
            quoted_at >= starts_at + interval 56 days
            and (median_usd is null or greatest(median_usd, price_usd_per_unit) < 10 * least(median_usd, price_usd_per_unit))
        ))
    group by price_key, segment, level_no
),
judged as (
    -- level after level, each against the last good one
    select
        price_key, segment, level_no, starts_at, ends_at, price_usd_per_unit, witness_usd, confirmed_at,
        case when is_above_ceiling then 'ceiling' when is_off_siblings then 'sibling' when is_off_entry then 'entry' end as slip,
        cast(null as decimal(24, 15)) as last_good_usd
    from doubt left join confirmation using (price_key, segment, level_no)
    where level_no = 1
    union all
    select
        next.price_key, next.segment, next.level_no, next.starts_at, next.ends_at, next.price_usd_per_unit, next.witness_usd,
        confirmation.confirmed_at,
        case
            when next.is_above_ceiling then 'ceiling'
            when greatest(next.price_usd_per_unit, good.usd) >= 90 * least(next.price_usd_per_unit, good.usd) then 'own'
            when next.is_off_siblings then 'sibling'
        end as slip,
        good.usd as last_good_usd
    from judged
    join doubt as next
        on next.price_key = judged.price_key and next.segment = judged.segment and next.level_no = judged.level_no + 1
    left join confirmation
        on confirmation.price_key = next.price_key and confirmation.segment = next.segment and confirmation.level_no = next.level_no
    cross join lateral (
        select case
            when judged.slip is null or judged.confirmed_at is not null then judged.price_usd_per_unit
            else judged.last_good_usd
        end as usd
    ) as good
)
select
    price_quote.quote_id,
    price_quote.price_key,
    price_quote.feed,
    price_quote.quoted_at,
    price_quote.provider_name,
    price_quote.feed_model,
    price_quote.model_name,
    price_quote.service_tier,
    price_quote.token_class,
    price_quote.context_above_tokens,
    price_quote.unit,
    price_quote.price_usd_per_unit,
    judged.last_good_usd as last_good_usd_per_unit,
    cast(judged.witness_usd as decimal(24, 15)) as sibling_usd_per_unit,
    judged.slip,
    case judged.slip
        when 'ceiling' then 'price is above anything ever sold in this unit'
        when 'own' then 'price is 90 times or more off its own last good price'
        when 'sibling' then 'price is 90 times or more off what others ask for the same model'
        when 'entry' then 'price is 1,000 times or more the other of input and output at its first sight'
    end as reason,
    price_quote.landing_file
from judged
join quote
    on quote.price_key = judged.price_key
    and quote.segment = judged.segment
    and quote.quoted_at >= judged.starts_at
    and quote.quoted_at < coalesce(judged.confirmed_at, judged.ends_at)
    and quote.quoted_at < judged.ends_at
join core.price_quote on price_quote.quote_id = quote.quote_id
where judged.slip is not null
