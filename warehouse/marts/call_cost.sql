-- marts.call_cost: every call with its list cost, at the prices in force when it was made.
--
-- Two answers stand side by side. `list_cost_usd` uses what is known now: corrections and late news included.
-- `list_cost_then_usd` uses only what had been published when the call started, as a bill checked that day would.
--
-- Few distinct things are asked for, however many calls there are. For each the price sheet is chosen once, per stretch of
-- time in which no price of it changes; calls then meet the prices of both answers in a single join by their time and context band.
-- Tiers re-rate the whole request, so the band is chosen by the call's own input, never by a sum.
--
-- What is marked as materialized holds for any day of a build, and is worked out once for all of them (`day_by_day` in the contract).
with asked as materialized (
    select
        provider_name, request_model, response_model, service_tier, served_region,
        row_number() over (order by provider_name, request_model, response_model, service_tier, served_region) as asked_id,
        price_tier(service_tier) as tier,
        coalesce(model_name(response_model), model_name(request_model)) as model_name,
        -- What was asked for may be a gateway's own word for another model: it stands for the one that answered only where both are of one family.
        response_model is null or model_family(model_name(response_model)) = model_family(model_name(request_model)) as is_as_asked
    from (
        select distinct provider_name, request_model, response_model, service_tier, served_region
        from core.inference
        where started_at >= $from_day and started_at < $to_day
    ) as seen
),
-- 1. Which price sheets could it be? By name, provider and place. Of names: as answered, as asked; as the feed's own clause for a model
-- has it; without their date. Last, what was asked for where another model answered.
named as (
    select asked_id, model_name(response_model) as model_name, 1 as name_rank from asked where response_model is not null
    union all select asked_id, model_name(request_model), case when is_as_asked then 2 else 8 end from asked where request_model is not null
    union all select asked_id, model_family(model_name(response_model)), 6 from asked where response_model is not null
    union all select asked_id, model_family(model_name(request_model)), case when is_as_asked then 7 else 10 end from asked where request_model is not null
),
best_name as (
    select asked_id, model_name, min(name_rank) as name_rank from named group by asked_id, model_name
),
spelled as (
    select asked_id, 3 as name_rank, unnest(model_spellings(response_model)) as name from asked where response_model is not null
    union all
    select asked_id, case when is_as_asked then 4 else 9 end, unnest(model_spellings(request_model)) from asked where request_model is not null
),
provider_kind as (
    select provider_name, min(provider_kind) as provider_kind from provider group by provider_name
),
listed as (
    select * from core.price
    where (price_condition is null or regexp_matches(price_condition, '^daily [0-9:]{8}[+]00:00-[0-9:]{8}[+]00:00$'))
      and token_class in (
          'input_uncached', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'input_audio', 'input_image',
          'output_text', 'reasoning', 'output_audio', 'output_image', 'request', 'web_search')
),
sheet as (
    select distinct
        price.feed, price.provider_name, price.feed_model, price.model_name, price.region, price.name_clause, kind.provider_kind,
        -- us.amazon.nova-pro-v1:0, azure/eu/gpt-4o; not where a region costs a model's price times a factor.
        regexp_matches('/' || lower(price.feed_model), '/' || lower(price.region) || '[./-]') as is_named_for_region
    from listed as price
    left join provider_kind as kind on kind.provider_name = price.provider_name
),
seller as (
    select asked.asked_id, asked.provider_name as asked_provider_name, seller.provider_name, seller.provider_kind
    from asked
    left join provider_kind as own on own.provider_name = asked.provider_name
    join (select distinct provider_name, provider_kind from sheet) as seller
        on asked.provider_name = seller.provider_name
        -- Who is not said, or sells others' models: the maker's price is the best guess, and is called a guess.
        or asked.provider_name is null
        or (coalesce(own.provider_kind, 'aggregator') in ('cloud_platform', 'aggregator') and seller.provider_kind = 'first_party')
),
clause as (
    select feed, provider_name, feed_model, part, (json_keys(part))[1] as word, json_extract_string(part, '$.*')[1] as text
    from (
        select feed, provider_name, feed_model, unnest(clause_parts(name_clause)) as part
        from (select distinct feed, provider_name, feed_model, name_clause from sheet where name_clause is not null) as told
    ) as parts
),
fits_whole as (
    select spelled.asked_id, spelled.name_rank, clause.feed, clause.provider_name, clause.feed_model, clause.provider_name = seller.asked_provider_name as is_own
    from spelled
    join seller using (asked_id)
    join clause on clause.provider_name = seller.provider_name and clause.word = 'equals' and lower(clause.text) = spelled.name
),
fits_part as (
    -- Tried one by one, so only for names that the seller does not have whole.
    select tried.asked_id, tried.name_rank, clause.feed, clause.provider_name, clause.feed_model
    from (
        select spelled.*, seller.provider_name
        from spelled
        join seller using (asked_id)
        anti join (select * from fits_whole where is_own) as settled on settled.asked_id = spelled.asked_id and settled.name_rank = spelled.name_rank
    ) as tried
    join clause on clause.provider_name = tried.provider_name and clause.word <> 'equals'
        and case when clause.word = 'and' then part_fits(clause.part, tried.name) else word_fits(clause.word, clause.text, tried.name) end
),
fitting as (
    select asked_id, feed, provider_name, feed_model, min(name_rank) as name_rank
    from (from fits_whole select * exclude (is_own) union all from fits_part) as fits
    group by all
),
found as (
    select
        named.asked_id, sheet.*,
        -- Two sheets of a feed may be of one name (global., regional.): that which it says is meant goes first.
        case when named.name_rank < 3 and sheet.name_clause is not null and fitting.asked_id is null then 5 else named.name_rank end as name_rank
    from best_name as named
    join sheet on sheet.model_name = named.model_name
    left join fitting
        on fitting.asked_id = named.asked_id and fitting.feed = sheet.feed and fitting.provider_name = sheet.provider_name and fitting.feed_model = sheet.feed_model
    union all
    select fitting.asked_id, sheet.*, fitting.name_rank
    from fitting
    join sheet on sheet.feed = fitting.feed and sheet.provider_name = fitting.provider_name and sheet.feed_model = fitting.feed_model
),
admitted as (
    select
        asked.tier, seller.asked_provider_name, found.*,
        coalesce(is_feed_name(asked.response_model, found.feed_model), false) or coalesce(is_feed_name(asked.request_model, found.feed_model), false) as is_listed_so,
        coalesce(lower(found.region) = lower(asked.served_region), false) as is_there,
        coalesce(found.is_named_for_region and list_contains(price_zones(lower(asked.served_region), zone.jurisdiction), lower(found.region)), false) as is_around
    from asked
    join found on found.asked_id = asked.asked_id
    join seller on seller.asked_id = found.asked_id and seller.provider_name is not distinct from found.provider_name
    left join reference.region as zone on zone.region = lower(asked.served_region)
),
placed as (
    select
        *,
        -- What place is the price for? The one in the name that was asked for, the call's own, one that this lies in, anywhere; last, another.
        -- A name that the feed lists for anywhere does not mean the place around.
        case
            when region is null then 3
            when is_named_for_region and is_listed_so then 0
            when is_there then 1
            when is_around then case when bool_or(region is null and is_listed_so) over (partition by asked_id, provider_name, model_name) then 4 else 2 end
            else 5
        end as place_rank
    from admitted
),
candidate as (
    select
        placed.*,
        case when name_rank < 6 then 0 when name_rank < 8 then 1 else 2 end as doubt,
        asked_provider_name is distinct from provider_name or name_rank > 5 or place_rank = 5 as is_guess,
        row_number() over (
            partition by asked_id
            order by
                case when asked_provider_name = provider_name then 0 when provider_kind = 'first_party' then 1
                     when provider_kind = 'specialised' then 2 when provider_kind = 'cloud_platform' then 3 else 4 end,
                name_rank, place_rank, region is distinct from 'global', coalesce(feed.precedence, 999), placed.feed,
                not is_listed_so, length(feed_model), feed_model, provider_name, region
        ) as candidate_rank
    from placed
    left join feed_precedence as feed on feed.feed = placed.feed
    -- One for another place only where none fits.
    qualify place_rank < 5 or min(place_rank) over (partition by asked_id, provider_name, model_name) = 5
),
price as (
    select
        candidate.asked_id, candidate.candidate_rank, candidate.is_guess, candidate.doubt, price.price_id, price.token_class, price.context_above_tokens,
        price.price_usd_per_unit, price.valid_from, price.valid_to, price.known_from, price.known_to,
        price.service_tier = candidate.tier as is_own_tier,
        -- Prices for some hours of the day only: `daily 16:30:00+00:00-00:30:00+00:00`, UTC, which may pass midnight.
        cast(nullif(regexp_extract(price.price_condition, '^daily ([0-9:]{8})[+]00:00-', 1), '') as time) as daily_from,
        cast(nullif(regexp_extract(price.price_condition, '-([0-9:]{8})[+]00:00$', 1), '') as time) as daily_to,
        price.known_to is null and price.valid_from = min(price.valid_from) filter (where price.known_to is null)
            over (partition by candidate.asked_id, candidate.candidate_rank, price.price_key) as is_first
    from candidate
    join listed as price
        on price.feed = candidate.feed and price.feed_model = candidate.feed_model
        and price.provider_name is not distinct from candidate.provider_name and price.region is not distinct from candidate.region
    where price.service_tier in (candidate.tier, 'standard')
),
-- 2. Stretches of time in which nothing about those sheets changes.
edge as (
    select asked_id, cast($from_day as timestamp) as edge_at from asked
    union select asked_id, valid_from from price where valid_from > $from_day and valid_from < $to_day
    union select asked_id, valid_to from price where valid_to > $from_day and valid_to < $to_day
    union select asked_id, known_from from price where known_from > $from_day and known_from < $to_day
    union select asked_id, known_to from price where known_to > $from_day and known_to < $to_day
    union
    select asked_id, edge_at
    from (
        select asked_id, cast(day as date) + daily_from as edge_at from price, (select unnest(generate_series(cast($from_day as timestamp), cast($to_day as timestamp), interval 1 day)) as day) as days
        where daily_from is not null
        union
        select asked_id, cast(day as date) + daily_to from price, (select unnest(generate_series(cast($from_day as timestamp), cast($to_day as timestamp), interval 1 day)) as day) as days
        where daily_to is not null
    ) as hour
    where edge_at > $from_day and edge_at < $to_day
),
stretch as (
    select asked_id, edge_at as from_at,
        coalesce(lead(edge_at) over (partition by asked_id order by edge_at), cast($to_day as timestamp)) as to_at
    from edge
),
in_force as (
    select stretch.from_at, stretch.to_at, 'now' as basis, 0 as guess, price.*
    from stretch join price on price.asked_id = stretch.asked_id
    where price.known_to is null and price.valid_from <= stretch.from_at and (price.valid_to is null or price.valid_to > stretch.from_at)
    union all
    -- Before its first sight a price is carried back, as a guess: better than none for logs older than the first price list.
    select stretch.from_at, stretch.to_at, 'now', 1, price.*
    from stretch join price on price.asked_id = stretch.asked_id
    where price.is_first and price.valid_from > stretch.from_at
    union all
    select stretch.from_at, stretch.to_at, 'then', 0, price.*
    from stretch join price on price.asked_id = stretch.asked_id
    where price.known_from <= stretch.from_at and (price.known_to is null or price.known_to > stretch.from_at)
      and price.valid_from <= stretch.from_at and (price.valid_to is null or price.valid_to > stretch.from_at)
),
chosen as (
    -- One sheet for all token classes: classes of different sheets do not belong together. The model's own, even if first seen
    -- later, before that of its family: a release may cost other than the one before. Another model's, which was asked for, last.
    select * from in_force
    where daily_from is null
       or (daily_from < daily_to and cast(from_at as time) >= daily_from and cast(from_at as time) < daily_to)
       or (daily_from > daily_to and (cast(from_at as time) >= daily_from or cast(from_at as time) < daily_to))
    qualify dense_rank() over (partition by asked_id, from_at, basis order by doubt, guess, candidate_rank) = 1
),
-- 3. Rates by context band.
band as (
    select asked_id, from_at, basis, context_above_tokens as above_tokens,
        lead(context_above_tokens) over (partition by asked_id, from_at, basis order by context_above_tokens) as up_to_tokens
    from (
        select distinct asked_id, from_at, basis, context_above_tokens from chosen
        union select distinct asked_id, from_at, basis, cast(0 as bigint) from chosen
    ) as threshold
),
rate as (
    select chosen.*, band.above_tokens, band.up_to_tokens
    from chosen
    join band
        on band.asked_id = chosen.asked_id and band.from_at = chosen.from_at and band.basis = chosen.basis
        and chosen.context_above_tokens <= band.above_tokens
    -- The call's own tier first, then the band's own price, then the hour's; a class without one keeps its base price.
    qualify row_number() over (
        partition by chosen.asked_id, chosen.from_at, chosen.basis, band.above_tokens, chosen.token_class
        order by chosen.is_own_tier desc, chosen.context_above_tokens desc, chosen.daily_from is null, chosen.price_id) = 1
),
flat as (
    select
        asked_id, from_at, to_at, basis, above_tokens, up_to_tokens,
        max(price_usd_per_unit) filter (where token_class = 'input_uncached') as input_uncached,
        max(price_usd_per_unit) filter (where token_class = 'cache_read') as cache_read,
        max(price_usd_per_unit) filter (where token_class = 'cache_write_5m') as cache_write_5m,
        max(price_usd_per_unit) filter (where token_class = 'cache_write_1h') as cache_write_1h,
        max(price_usd_per_unit) filter (where token_class = 'input_audio') as input_audio,
        max(price_usd_per_unit) filter (where token_class = 'input_image') as input_image,
        max(price_usd_per_unit) filter (where token_class = 'output_text') as output_text,
        max(price_usd_per_unit) filter (where token_class = 'reasoning') as reasoning,
        max(price_usd_per_unit) filter (where token_class = 'output_audio') as output_audio,
        max(price_usd_per_unit) filter (where token_class = 'output_image') as output_image,
        max(price_usd_per_unit) filter (where token_class = 'request') as request,
        max(price_usd_per_unit) filter (where token_class = 'web_search') as web_search,
        max(price_usd_per_unit) = 0 as is_free,
        -- A guess: carried back in time, another provider's or place's, the family's, or (for a tier that has prices of no kind) the standard tier's.
        max(guess) = 1 or bool_or(is_guess) or not bool_or(is_own_tier) as is_estimate,
        string_agg(price_id, ',' order by token_class) as price_ids
    from rate
    group by asked_id, from_at, to_at, basis, above_tokens, up_to_tokens
),
-- Where a class has no price of its own it is billed as the class it belongs to.
charged as (
    select
        asked_id, from_at, to_at, basis, above_tokens, coalesce(up_to_tokens, 9223372036854775807) as up_to_tokens,
        cast(input_uncached as decimal(18, 15)) as input_uncached,
        cast(coalesce(cache_read, input_uncached) as decimal(18, 15)) as cache_read,
        cast(coalesce(cache_write_5m, input_uncached) as decimal(18, 15)) as cache_write_5m,
        cast(coalesce(cache_write_1h, cache_write_5m, input_uncached) as decimal(18, 15)) as cache_write_1h,
        cast(coalesce(input_audio, input_uncached) as decimal(18, 15)) as input_audio,
        cast(coalesce(input_image, input_uncached) as decimal(18, 15)) as input_image,
        cast(output_text as decimal(18, 15)) as output_text,
        cast(coalesce(reasoning, output_text) as decimal(18, 15)) as reasoning,
        cast(coalesce(output_audio, output_text) as decimal(18, 15)) as output_audio,
        cast(coalesce(output_image, output_text) as decimal(18, 15)) as output_image,
        cast(coalesce(request, 0) as decimal(18, 15)) as request,
        cast(web_search as decimal(18, 15)) as web_search,
        case when is_free then 'free' when is_estimate then 'estimated' else 'priced' end as status,
        price_ids
    from flat
),
-- 4. One card a band of either answer. What was known then is looked up apart, for the few calls where it differs.
card as materialized (
    select
        part.asked_id, part.from_at, part.to_at,
        -- A band takes requests with more tokens than its threshold; the base band takes empty ones too.
        case when part.above_tokens = 0 then -1 else part.above_tokens end as above_tokens, part.up_to_tokens,
        now.above_tokens as context_above_tokens, now.price_ids, past.price_ids as price_ids_then, coalesce(now.status, 'unpriced') as status,
        past.price_ids is null as is_unpriced_then,
        -- Not null only where there is something to work out again.
        case when past.price_ids <> now.price_ids or now.price_ids is null then past.asked_id end as past_asked_id,
        past.from_at as past_from_at, past.above_tokens as past_above_tokens,
        now.input_uncached, now.cache_read, now.cache_write_5m, now.cache_write_1h,
        now.input_audio, now.input_image, now.output_text, now.reasoning,
        now.output_audio, now.output_image, now.web_search, now.request
    from (
        select asked_id, from_at, to_at, above_tokens,
            coalesce(lead(above_tokens) over (partition by asked_id, from_at order by above_tokens), 9223372036854775807) as up_to_tokens
        from (select distinct asked_id, from_at, to_at, above_tokens from charged) as threshold
    ) as part
    left join charged as now
        on now.basis = 'now' and now.asked_id = part.asked_id and now.from_at = part.from_at
        and now.above_tokens <= part.above_tokens and part.above_tokens < now.up_to_tokens
    left join charged as past
        on past.basis = 'then' and past.asked_id = part.asked_id and past.from_at = part.from_at
        and past.above_tokens <= part.above_tokens and part.above_tokens < past.up_to_tokens
),
past_card as materialized (
    select past.*
    from charged as past
    join (select distinct past_asked_id, past_from_at, past_above_tokens from card where past_asked_id is not null) as other
        on other.past_asked_id = past.asked_id and other.past_from_at = past.from_at and other.past_above_tokens = past.above_tokens
    where past.basis = 'then'
),
call as (
    select
        *,
        coalesce(input_uncached_tokens, 0) + coalesce(cache_read_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
            + coalesce(cache_write_1h_tokens, 0) + coalesce(input_audio_tokens, 0) + coalesce(input_image_tokens, 0) as input_tokens,
        coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) + coalesce(output_audio_tokens, 0)
            + coalesce(output_image_tokens, 0) as output_tokens,
        case
            when usage_note = 'gateway_cache_hit' then 'not_billed'
            when coalesce(input_uncached_tokens, output_text_tokens, cache_read_tokens, reasoning_tokens, input_audio_tokens,
                    input_image_tokens, output_audio_tokens, output_image_tokens, cache_write_5m_tokens, cache_write_1h_tokens) is null
                then case when status = 'error' then 'not_billed' else 'no_usage' end
        end as unbilled_as
    from core.inference
    where started_at >= $from_day and started_at < $to_day
),
costed as (
    select
        call.*, asked.model_name,
        -- Few and known, where those of the calls are read anew from every row.
        asked.provider_name as asked_provider_name, asked.request_model as asked_request_model, asked.service_tier as asked_service_tier, asked.served_region as asked_region,
        card.context_above_tokens, card.price_ids, card.price_ids_then, card.status as card_status, card.is_unpriced_then, card.past_asked_id,
        cast(cast(call.input_uncached_tokens as decimal(9, 0)) * card.input_uncached as decimal(18, 12)) as input_uncached_cost_usd,
        cast(cast(call.cache_read_tokens as decimal(9, 0)) * card.cache_read as decimal(18, 12)) as cache_read_cost_usd,
        cast(cast(call.cache_write_5m_tokens as decimal(9, 0)) * card.cache_write_5m as decimal(18, 12)) as cache_write_5m_cost_usd,
        cast(cast(call.cache_write_1h_tokens as decimal(9, 0)) * card.cache_write_1h as decimal(18, 12)) as cache_write_1h_cost_usd,
        cast(cast(call.input_audio_tokens as decimal(9, 0)) * card.input_audio as decimal(18, 12)) as input_audio_cost_usd,
        cast(cast(call.input_image_tokens as decimal(9, 0)) * card.input_image as decimal(18, 12)) as input_image_cost_usd,
        cast(cast(call.output_text_tokens as decimal(9, 0)) * card.output_text as decimal(18, 12)) as output_text_cost_usd,
        cast(cast(call.reasoning_tokens as decimal(9, 0)) * card.reasoning as decimal(18, 12)) as reasoning_cost_usd,
        cast(cast(call.output_audio_tokens as decimal(9, 0)) * card.output_audio as decimal(18, 12)) as output_audio_cost_usd,
        cast(cast(call.output_image_tokens as decimal(9, 0)) * card.output_image as decimal(18, 12)) as output_image_cost_usd,
        cast(card.request + coalesce(cast(call.web_search_requests as decimal(9, 0)) * card.web_search, 0) as decimal(18, 12)) as request_cost_usd,
        (call.input_uncached_tokens > 0 and card.input_uncached is null) or (call.cache_read_tokens > 0 and card.cache_read is null) or (call.cache_write_5m_tokens > 0 and card.cache_write_5m is null)
                or (call.cache_write_1h_tokens > 0 and card.cache_write_1h is null) or (call.input_audio_tokens > 0 and card.input_audio is null) or (call.input_image_tokens > 0 and card.input_image is null)
                or (call.output_text_tokens > 0 and card.output_text is null) or (call.reasoning_tokens > 0 and card.reasoning is null) or (call.output_audio_tokens > 0 and card.output_audio is null)
                or (call.output_image_tokens > 0 and card.output_image is null) or (call.web_search_requests > 0 and card.web_search is null) as is_partial,
        past.status as past_status,
        -- Only where the two answers differ is there anything to work out.
        case when past.asked_id is null then null else
            coalesce(cast(cast(call.input_uncached_tokens as decimal(9, 0)) * past.input_uncached as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.cache_read_tokens as decimal(9, 0)) * past.cache_read as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.cache_write_5m_tokens as decimal(9, 0)) * past.cache_write_5m as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.cache_write_1h_tokens as decimal(9, 0)) * past.cache_write_1h as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.input_audio_tokens as decimal(9, 0)) * past.input_audio as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.input_image_tokens as decimal(9, 0)) * past.input_image as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.output_text_tokens as decimal(9, 0)) * past.output_text as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.reasoning_tokens as decimal(9, 0)) * past.reasoning as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.output_audio_tokens as decimal(9, 0)) * past.output_audio as decimal(18, 12)), 0)
            + coalesce(cast(cast(call.output_image_tokens as decimal(9, 0)) * past.output_image as decimal(18, 12)), 0)
            + coalesce(cast(past.request + coalesce(cast(call.web_search_requests as decimal(9, 0)) * past.web_search, 0) as decimal(18, 12)), 0)
        end as past_cost_usd,
        case when past.asked_id is null then null else
            (call.input_uncached_tokens > 0 and past.input_uncached is null) or (call.cache_read_tokens > 0 and past.cache_read is null) or (call.cache_write_5m_tokens > 0 and past.cache_write_5m is null)
                or (call.cache_write_1h_tokens > 0 and past.cache_write_1h is null) or (call.input_audio_tokens > 0 and past.input_audio is null) or (call.input_image_tokens > 0 and past.input_image is null)
                or (call.output_text_tokens > 0 and past.output_text is null) or (call.reasoning_tokens > 0 and past.reasoning is null) or (call.output_audio_tokens > 0 and past.output_audio is null)
                or (call.output_image_tokens > 0 and past.output_image is null) or (call.web_search_requests > 0 and past.web_search is null)
        end as is_partial_then
    from call
    join asked
        on asked.provider_name is not distinct from call.provider_name and asked.request_model is not distinct from call.request_model
        and asked.response_model is not distinct from call.response_model and asked.service_tier is not distinct from call.service_tier
        and asked.served_region is not distinct from call.served_region
    left join card
        on card.asked_id = asked.asked_id and card.from_at <= call.started_at and call.started_at < card.to_at
        and card.above_tokens < call.input_tokens and call.input_tokens <= card.up_to_tokens
    left join past_card as past
        on past.asked_id = card.past_asked_id and past.from_at = card.past_from_at and past.above_tokens = card.past_above_tokens
),
judged as (
    select *,
        unbilled_as is null as is_billed,
        coalesce(unbilled_as, case when card_status is null or card_status = 'unpriced' then 'unpriced' when is_partial then 'partial' else card_status end) as cost_status,
        coalesce(unbilled_as, case
            when card_status is null or is_unpriced_then then 'unpriced' when past_asked_id is null and is_partial then 'partial' when past_asked_id is null then card_status
            when is_partial_then then 'partial' else past_status end) as cost_status_then,
        coalesce(input_uncached_cost_usd, 0)
        + coalesce(cache_read_cost_usd, 0)
        + coalesce(cache_write_5m_cost_usd, 0)
        + coalesce(cache_write_1h_cost_usd, 0)
        + coalesce(input_audio_cost_usd, 0)
        + coalesce(input_image_cost_usd, 0)
        + coalesce(output_text_cost_usd, 0)
        + coalesce(reasoning_cost_usd, 0)
        + coalesce(output_audio_cost_usd, 0)
        + coalesce(output_image_cost_usd, 0)
        + coalesce(request_cost_usd, 0) as now_cost_usd
    from costed
)
select
    inference_id, started_at, source, asked_provider_name as provider_name, model_name, asked_request_model as request_model, asked_service_tier as service_tier,
    asked_region as served_region, tenant, team, workload, environment,
    traffic_kind, retry_count, status,
    case when unbilled_as is distinct from 'no_usage' then input_tokens end as input_tokens,
    case when unbilled_as is distinct from 'no_usage' then output_tokens end as output_tokens,
    input_uncached_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    coalesce(input_audio_tokens + input_image_tokens, input_audio_tokens, input_image_tokens) as input_media_tokens,
    output_text_tokens, reasoning_tokens,
    coalesce(output_audio_tokens + output_image_tokens, output_audio_tokens, output_image_tokens) as output_media_tokens,
    context_above_tokens,
    case when is_billed then input_uncached_cost_usd end as input_uncached_cost_usd,
    case when is_billed then cache_read_cost_usd end as cache_read_cost_usd,
    case when is_billed then coalesce(cache_write_5m_cost_usd + cache_write_1h_cost_usd, cache_write_5m_cost_usd, cache_write_1h_cost_usd) end as cache_write_cost_usd,
    case when is_billed then cache_write_1h_cost_usd end as cache_write_1h_cost_usd,
    case when is_billed then coalesce(input_audio_cost_usd + input_image_cost_usd, input_audio_cost_usd, input_image_cost_usd) end as input_media_cost_usd,
    case when is_billed then output_text_cost_usd end as output_text_cost_usd,
    case when is_billed then reasoning_cost_usd end as reasoning_cost_usd,
    case when is_billed then coalesce(output_audio_cost_usd + output_image_cost_usd, output_audio_cost_usd, output_image_cost_usd) end as output_media_cost_usd,
    case when is_billed then request_cost_usd end as request_cost_usd,
    case when cost_status = 'not_billed' then 0 when cost_status not in ('no_usage', 'unpriced') then now_cost_usd end as list_cost_usd,
    cost_status,
    price_ids,
    case when cost_status_then = 'not_billed' then 0 when cost_status_then in ('no_usage', 'unpriced') then null
         when past_asked_id is null then now_cost_usd else past_cost_usd end as list_cost_then_usd,
    cost_status_then,
    price_ids_then,
    reported_cost_usd
from judged
