-- marts.context_efficiency: what context cost, what caching saved and could still have saved.
--
-- Tokens come from the calls, money from their costs, repeated prefixes from their messages; each is summed by the same keys, and
-- the sums are stacked: no two tables of calls are joined for it.
-- A prefix of a prompt is known by the hashes of its messages so far (tools and system prompt first). It counts as repeated when the
-- same tenant sent the same to the same model at the same provider before on that UTC day: what was sent before midnight is forgotten.
-- Its tokens are its share of the prompt's characters. What would truly have been cached also depends on where the provider keeps it.
with call as not materialized (
    select
        inference_id, started_at, cast(started_at as date) as usage_day, provider_name, request_model, response_model, tenant, workload, service_tier,
        coalesce(input_uncached_tokens, 0) + coalesce(cache_read_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
            + coalesce(cache_write_1h_tokens, 0) + coalesce(input_audio_tokens, 0) + coalesce(input_image_tokens, 0) as input_tokens,
        coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) + coalesce(output_audio_tokens, 0)
            + coalesce(output_image_tokens, 0) as output_tokens,
        coalesce(input_uncached_tokens, 0) as input_uncached_tokens,
        coalesce(cache_read_tokens, 0) as cache_read_tokens,
        coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0) as cache_write_tokens,
        status = 'ok' and not coalesce(is_truncated(finish_reason) or is_withheld(finish_reason), false) as is_whole_answer
    from core.inference
    where started_at >= $from_day and started_at < $to_day and usage_note is distinct from 'gateway_cache_hit'
      and coalesce(input_uncached_tokens, output_text_tokens, cache_read_tokens, reasoning_tokens, input_audio_tokens, input_image_tokens,
          output_audio_tokens, output_image_tokens, cache_write_5m_tokens, cache_write_1h_tokens) is not null
),
asked as materialized (
    select request_model, response_model, coalesce(model_name(response_model), model_name(request_model)) as model_name
    from (select distinct request_model, response_model from call) as pair
),
-- 1. Tokens.
used as (
    select
        usage_day, provider_name, request_model, response_model, tenant, workload, service_tier, context_band(input_tokens) as context_above_tokens,
        count(*) as call_count, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(input_uncached_tokens) as input_uncached_tokens,
        sum(cache_read_tokens) as cache_read_tokens, sum(cache_write_tokens) as cache_write_tokens,
        count(*) filter (where is_whole_answer) as whole_answer_count
    from call
    group by usage_day, provider_name, request_model, response_model, tenant, workload, service_tier, context_band(input_tokens)
),
-- 2. Money, by the prices used: few sets of prices serve many calls.
paid as materialized (
    select
        cast(started_at as date) as usage_day, provider_name, model_name, tenant, workload, service_tier,
        context_band(input_tokens) as context_above_tokens, price_ids,
        sum(list_cost_usd) as list_cost_usd, sum(input_uncached_cost_usd) as input_uncached_cost_usd, sum(cache_read_cost_usd) as cache_read_cost_usd,
        sum(cache_write_cost_usd) as cache_write_cost_usd, sum(cache_write_1h_cost_usd) as cache_write_1h_cost_usd, sum(input_media_cost_usd) as input_media_cost_usd,
        sum(output_text_cost_usd) as output_text_cost_usd, sum(reasoning_cost_usd) as reasoning_cost_usd,
        coalesce(sum(input_uncached_tokens), 0) as input_uncached_tokens, coalesce(sum(cache_read_tokens), 0) as cache_read_tokens,
        coalesce(sum(cache_write_5m_tokens), 0) + coalesce(sum(cache_write_1h_tokens), 0) as cache_write_tokens,
        count(list_cost_usd) as priced_count, count(*) - count(list_cost_usd) as unpriced_count
    from marts.call_cost
    where started_at >= $from_day and started_at < $to_day and cost_status not in ('not_billed', 'no_usage')
    group by cast(started_at as date), provider_name, model_name, tenant, workload, service_tier, context_band(input_tokens), price_ids
),
price_used as (
    select card.usage_day, card.price_ids, price.*
    from (
        select usage_day, price_ids, unnest(string_split(price_ids, ',')) as price_id
        from (select distinct usage_day, price_ids from paid where price_ids is not null) as seen
    ) as card
    join core.price as price on price.price_id = card.price_id
),
base_price as (
    -- The same price without its threshold, on that day.
    select used.usage_day, used.price_ids, used.token_class, arg_max(base.price_usd_per_unit, base.valid_from) as price_usd_per_unit
    from price_used as used
    join core.price as base
        on base.feed = used.feed and base.feed_model = used.feed_model and base.provider_name is not distinct from used.provider_name
        and base.region is not distinct from used.region and base.service_tier = used.service_tier and base.token_class = used.token_class
    where used.context_above_tokens > 0 and base.context_above_tokens = 0 and base.known_to is null and base.price_condition is null
      and base.valid_from < used.usage_day + interval 1 day and (base.valid_to is null or base.valid_to > used.usage_day)
    group by used.usage_day, used.price_ids, used.token_class
),
rate as (
    select
        used.usage_day, used.price_ids,
        cast(max(used.price_usd_per_unit) filter (where used.token_class = 'input_uncached') as double) as input_uncached,
        cast(max(used.price_usd_per_unit) filter (where used.token_class = 'cache_read') as double) as cache_read,
        max(1 - base.price_usd_per_unit / nullif(used.price_usd_per_unit, 0)) filter (where used.token_class = 'input_uncached') as input_surcharge_share,
        max(1 - base.price_usd_per_unit / nullif(used.price_usd_per_unit, 0)) filter (where used.token_class = 'cache_read') as cache_read_surcharge_share,
        max(1 - base.price_usd_per_unit / nullif(used.price_usd_per_unit, 0)) filter (where used.token_class = 'cache_write_5m') as cache_write_5m_surcharge_share,
        max(1 - base.price_usd_per_unit / nullif(used.price_usd_per_unit, 0)) filter (where used.token_class = 'cache_write_1h') as cache_write_1h_surcharge_share,
        max(1 - base.price_usd_per_unit / nullif(used.price_usd_per_unit, 0)) filter (where used.token_class = 'output_text') as output_surcharge_share,
        max(1 - base.price_usd_per_unit / nullif(used.price_usd_per_unit, 0)) filter (where used.token_class = 'reasoning') as reasoning_surcharge_share,
        bool_or(used.token_class = 'cache_read') as has_cache_read, bool_or(used.token_class = 'cache_write_5m') as has_cache_write_5m,
        bool_or(used.token_class = 'cache_write_1h') as has_cache_write_1h, bool_or(used.token_class = 'reasoning') as has_reasoning
    from price_used as used
    left join base_price as base on base.usage_day = used.usage_day and base.price_ids = used.price_ids and base.token_class = used.token_class
    group by used.usage_day, used.price_ids
),
saved as (
    select
        usage_day, provider_name, model_name, tenant, workload, service_tier, context_above_tokens, list_cost_usd, priced_count, unpriced_count,
        coalesce(input_uncached_cost_usd, 0) + coalesce(cache_read_cost_usd, 0) + coalesce(cache_write_cost_usd, 0) + coalesce(input_media_cost_usd, 0) as input_cost_usd,
        -- The same tokens at the price of plain input against what they cost, each lifetime of a cache write at its own price.
        case when list_cost_usd is null then null when cache_read_tokens = 0 then 0 else cache_read_tokens * plain_usd - cache_read_cost_usd end as cache_saved_usd,
        case when list_cost_usd is null then null when cache_write_tokens = 0 then 0 else cache_write_cost_usd - cache_write_tokens * plain_usd end as cache_write_extra_usd,
        -- A class without a price of its own is billed, and surcharged, as the class it belongs to.
        coalesce(input_uncached_cost_usd, 0) * coalesce(input_surcharge_share, 0)
            + coalesce(cache_read_cost_usd, 0) * coalesce(case when has_cache_read then cache_read_surcharge_share else input_surcharge_share end, 0)
            + (coalesce(cache_write_cost_usd, 0) - coalesce(cache_write_1h_cost_usd, 0))
                * coalesce(case when has_cache_write_5m then cache_write_5m_surcharge_share else input_surcharge_share end, 0)
            + coalesce(cache_write_1h_cost_usd, 0) * coalesce(case when has_cache_write_1h then cache_write_1h_surcharge_share
                when has_cache_write_5m then cache_write_5m_surcharge_share else input_surcharge_share end, 0)
            + coalesce(output_text_cost_usd, 0) * coalesce(output_surcharge_share, 0)
            + coalesce(reasoning_cost_usd, 0) * coalesce(case when has_reasoning then reasoning_surcharge_share else output_surcharge_share end, 0) as length_surcharge_usd,
        -- What all the plain input would have cost less, had it been read from the cache.
        case when cache_read < input_uncached then input_uncached_cost_usd * (1 - cache_read / input_uncached) end as cache_gap_usd
    from (
        -- A price of which core.price has the row no more is what plain input was charged.
        select paid.*, rate.* exclude (usage_day, price_ids), coalesce(rate.input_uncached, input_uncached_cost_usd / nullif(input_uncached_tokens, 0)) as plain_usd
        from paid
        left join rate on rate.usage_day = paid.usage_day and rate.price_ids = paid.price_ids
    ) as card
),
-- 3. Prefixes. The texts are left behind at once: only their hashes and lengths go on.
piece as (
    select inference_id, started_at,
        list_concat([hash(tool_definitions), hash(system_instructions)], list_transform(texts, lambda t: hash(t))) as hashes,
        list_concat([coalesce(length(tool_definitions), 0), coalesce(length(system_instructions), 0)], list_transform(texts, lambda t: length(t))) as lengths
    from (
        -- Cut between objects, in any dialect, without parsing: a prompt may have megabytes. What closes the last message of one prompt
        -- is trimmed off, as in the next it closes nothing. A mark that tells the provider where to cache is no part of the text.
        select inference_id, started_at, tool_definitions, system_instructions,
            list_transform(string_split(replace(input_messages, '}, {', '},{'), '},{'), lambda t: trim(
                case when contains(t, '"cache_control"') then regexp_replace(t, ',? ?"cache_control": ?[{][^}]*[}]?', '', 'g') else t end, ' {}[]')) as texts
        from core.inference_content
        where started_at >= $from_day and started_at < $to_day and input_messages is not null
    ) as message
),
sent as materialized (
    select
        row_number() over () as call_no, hash(call.usage_day, provider_name, asked.model_name, tenant) as whose, call.started_at,
        call.usage_day, provider_name, asked.model_name, tenant, workload, service_tier, input_tokens, cache_read_tokens, input_uncached_tokens,
        hashes, lengths, list_sum(lengths) as text_length
    from call
    -- An id is a call's own on its day only.
    join piece on piece.inference_id = call.inference_id and piece.started_at = call.started_at
    join asked on asked.request_model is not distinct from call.request_model and asked.response_model is not distinct from call.response_model
),
prefix as (
    select call_no, whose, started_at, prefix_length,
        lag(started_at) over (partition by whose, prefix_hash order by started_at, call_no) as sent_before_at
    from (
        select call_no, whose, started_at, bit_xor(hash(piece_hash, piece_no)) over so_far as prefix_hash, sum(piece_length) over so_far as prefix_length
        from (
            select call_no, whose, started_at, unnest(hashes) as piece_hash, unnest(lengths) as piece_length, unnest(range(1, len(hashes) + 1)) as piece_no
            from sent
        ) as one
        window so_far as (partition by call_no order by piece_no)
    ) as growing
),
shared as (
    select call_no,
        max(prefix_length) as repeated_length,
        max(prefix_length) filter (where sent_before_at >= started_at - interval 5 minute) as recent_length
    from prefix
    where sent_before_at is not null
    group by call_no
),
repeated as (
    select
        sent.*,
        cast(floor(input_tokens * coalesce(repeated_length / nullif(text_length, 0), 0)) as bigint) as repeated_prefix_tokens,
        case when input_tokens * recent_length >= 1024 * text_length
             then cast(floor(input_tokens * (recent_length / text_length)) as bigint) else 0 end as cacheable_prefix_tokens
    from sent
    left join shared on shared.call_no = sent.call_no
),
stacked as (
    select
        usage_day, provider_name, model_name, tenant, workload, service_tier, context_above_tokens,
        call_count, input_tokens, output_tokens, input_uncached_tokens, cache_read_tokens, cache_write_tokens, whole_answer_count,
        null as list_cost_usd, null as input_cost_usd, null as priced_count, null as unpriced_count, null as cache_saved_usd, null as cache_write_extra_usd,
        null as length_surcharge_usd, null as cache_gap_usd,
        null as content_count, null as content_input_tokens, null as repeated_prefix_tokens, null as cacheable_prefix_tokens, null as missed_cache_tokens
    from used
    join asked on asked.request_model is not distinct from used.request_model and asked.response_model is not distinct from used.response_model
    union all
    select
        usage_day, provider_name, model_name, tenant, workload, service_tier, context_above_tokens,
        null, null, null, null, null, null, null,
        list_cost_usd, input_cost_usd, priced_count, unpriced_count, cache_saved_usd, cache_write_extra_usd, length_surcharge_usd, cache_gap_usd,
        null, null, null, null, null
    from saved
    union all
    select
        usage_day, provider_name, model_name, tenant, workload, service_tier, context_band(input_tokens),
        null, null, null, null, null, null, null,
        null, null, null, null, null, null, null, null,
        1, input_tokens, repeated_prefix_tokens, cacheable_prefix_tokens,
        greatest(0, least(cacheable_prefix_tokens - cache_read_tokens, input_uncached_tokens))
    from repeated
),
summed as (
    select
        usage_day, provider_name, model_name, tenant, workload, service_tier, context_above_tokens,
        coalesce(sum(call_count), 0) as call_count, coalesce(sum(input_tokens), 0) as input_tokens, coalesce(sum(output_tokens), 0) as output_tokens,
        sum(input_uncached_tokens) as input_uncached_tokens,
        coalesce(sum(cache_read_tokens), 0) as cache_read_tokens, coalesce(sum(cache_write_tokens), 0) as cache_write_tokens,
        coalesce(sum(whole_answer_count), 0) as whole_answer_count,
        sum(list_cost_usd) as list_cost_usd, sum(input_cost_usd) as input_cost_usd, sum(priced_count) as priced_count,
        coalesce(sum(unpriced_count), 0) as unpriced_count,
        sum(cache_saved_usd) as cache_saved_usd, sum(cache_write_extra_usd) as cache_write_extra_usd, sum(length_surcharge_usd) as length_surcharge_usd,
        sum(cache_gap_usd) as cache_gap_usd,
        coalesce(sum(content_count), 0) as content_count, coalesce(sum(content_input_tokens), 0) as content_input_tokens,
        coalesce(sum(repeated_prefix_tokens), 0) as repeated_prefix_tokens, coalesce(sum(cacheable_prefix_tokens), 0) as cacheable_prefix_tokens,
        coalesce(sum(missed_cache_tokens), 0) as missed_cache_tokens
    from stacked
    group by usage_day, provider_name, model_name, tenant, workload, service_tier, context_above_tokens
)
select
    *,
    cache_read_tokens / nullif(input_tokens, 0) as cache_hit_share,
    cache_saved_usd - cache_write_extra_usd as cache_net_saved_usd,
    case when content_count = 0 then null else missed_cache_tokens * cache_gap_usd / nullif(input_uncached_tokens, 0) end as missed_cache_usd,
    whole_answer_count / nullif(call_count, 0) as whole_answer_share,
    list_cost_usd / nullif(priced_count, 0) - lag(list_cost_usd / nullif(priced_count, 0)) over shorter as extra_cost_usd_per_call,
    whole_answer_count / nullif(call_count, 0) - lag(whole_answer_count / nullif(call_count, 0)) over shorter as extra_whole_answer_share
from summed
window shorter as (partition by usage_day, provider_name, model_name, tenant, workload, service_tier order by context_above_tokens)
