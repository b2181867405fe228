-- genai-prices' data.json ([{"id": <provider>, "models": [{"id", "prices": {..} | [{"constraint", "prices"}, ..]}]}]): one row per price.
--
-- In a list of prices the last entry whose constraint holds wins, and the first holds where no other does. So an entry that
-- starts on a day ends at the earliest later start that a later entry names, and one that a later entry covers wholly never
-- holds. The entry before any named day holds since always, which is written as 1970-01-01, and so does a time of day beside named
-- days; a price that no date touches has valid_from null: known as of the snapshot. Times of day stand in price_condition, as do
-- request conditions other than tier.
-- Days start at midnight UTC. Prices are per million tokens or characters, per thousand counts, or per hour.
-- What names a model answers to (its `match`) goes along as price_note: `names {"or":[{"equals":..}, ..]}`.
with feed as (
    select filename as landing_file, json
    from read_json_objects($files, format = 'unstructured', maximum_object_size = 33554432, filename = true)
),
provider as (
    select landing_file, provider ->> '$.id' as provider_alias, json_extract(provider, '$.models') as models
    from (select landing_file, unnest(json_extract(json, '$[*]')) as provider from feed) as listed
),
model as materialized (
    select landing_file, provider_alias, provider_alias || '/' || (model ->> '$.id') as feed_model, model
    from (select landing_file, provider_alias, unnest(json_extract(models, '$[*]')) as model from provider) as listed
    qualify row_number() over (partition by landing_file, feed_model order by cast(model as varchar)) = 1
),
entry as (
    select landing_file, feed_model, 0 as entry_no, model as entry, cast(null as json) as applies_when
    from model
    where json_type(model, '$.prices') = 'OBJECT'
    union all
    select
        landing_file, feed_model,
        unnest(range(cast(json_array_length(model, '$.prices') as bigint))),
        unnest(json_extract(model, '$.prices[*]')),
        null
    from model
    where json_type(model, '$.prices') = 'ARRAY'
    union all
    -- overrides for a kind of request: price by price, the first that fits
    select
        landing_file, feed_model,
        unnest(range(cast(json_array_length(model, '$.price_variants') as bigint))),
        unnest(json_extract(model, '$.price_variants[*]')),
        json_extract(unnest(json_extract(model, '$.price_variants[*]')), '$.when')
    from model
),
dated as materialized (
    select
        landing_file, feed_model, entry_no, applies_when,
        json_extract(entry, '$.prices') as prices,
        entry ->> '$.constraint.start_time' is not null as is_time_of_day,
        -- null: since always
        case when entry_no > 0 or applies_when is not null then try_cast(entry ->> '$.constraint.start_date' as timestamp) end as starts_at,
        bool_or(entry_no > 0 and applies_when is null and entry ->> '$.constraint.start_date' is not null)
            over (partition by landing_file, feed_model) as has_days,
        'daily ' || start_clock || '-' || end_clock as time_of_day
    from (
        -- 16:30:00Z, 16:30 and 18:30:00+02:00 are all 16:30:00+00:00
        select
            *,
            coalesce(strftime(as_utc('2000-01-01T' || (entry ->> '$.constraint.start_time')), '%H:%M:%S+00:00'), entry ->> '$.constraint.start_time') as start_clock,
            coalesce(strftime(as_utc('2000-01-01T' || (entry ->> '$.constraint.end_time')), '%H:%M:%S+00:00'), entry ->> '$.constraint.end_time') as end_clock
        from entry
    ) as entry
),
span as (
    -- what a later entry of the list takes away from an earlier one
    select
        earlier.landing_file, earlier.feed_model, earlier.entry_no,
        any_value(earlier.prices) as prices,
        any_value(earlier.time_of_day) as time_of_day,
        any_value(earlier.starts_at) as starts_at,
        min(later.starts_at) as ends_at,
        any_value(earlier.is_time_of_day and earlier.has_days) as is_beside_days,
        coalesce(bool_or(
            later.entry_no is not null and coalesce(later.starts_at, timestamp '1970-01-01') <= coalesce(earlier.starts_at, timestamp '1970-01-01')
        ), false) as is_covered
    from dated as earlier
    left join dated as later
        on later.landing_file = earlier.landing_file
        and later.feed_model = earlier.feed_model
        and later.entry_no > earlier.entry_no
        and later.applies_when is null
        and not later.is_time_of_day
    where earlier.applies_when is null
    group by earlier.landing_file, earlier.feed_model, earlier.entry_no
),
override as (
    -- among overrides for one kind of request it is the other way round: the first that holds wins, and only for the prices it names
    select
        landing_file, feed_model, entry_no, cast(applies_when as varchar) as applies_when, time_of_day, starts_at,
        unnest(json_keys(prices)) as field,
        unnest(json_extract(prices, '$.*')) as value
    from dated
    where applies_when is not null
),
override_span as (
    select
        later.landing_file, later.feed_model, later.entry_no, later.applies_when, later.time_of_day, later.field,
        any_value(later.value) as value,
        any_value(later.starts_at) as starts_at,
        min(earlier.starts_at) as ends_at,
        coalesce(bool_or(
            earlier.entry_no is not null and coalesce(earlier.starts_at, timestamp '1970-01-01') <= coalesce(later.starts_at, timestamp '1970-01-01')
        ), false) as is_covered
    from override as later
    left join override as earlier
        on earlier.landing_file = later.landing_file
        and earlier.feed_model = later.feed_model
        and earlier.applies_when = later.applies_when
        and earlier.time_of_day is not distinct from later.time_of_day
        and earlier.field = later.field
        and earlier.entry_no < later.entry_no
    group by later.landing_file, later.feed_model, later.entry_no, later.applies_when, later.time_of_day, later.field
),
quoted as (
    select
        landing_file, feed_model, entry_no, applies_when, time_of_day, field, value,
        case when starts_at is null and (ends_at is not null or is_beside_days) then timestamp '1970-01-01' else starts_at end as valid_from,
        ends_at as valid_to
    from (
        select
            * exclude (prices), cast(null as varchar) as applies_when,
            unnest(json_keys(prices)) as field,
            unnest(json_extract(prices, '$.*')) as value
        from span
        union all by name
        from override_span
    ) as every
    where not is_covered
),
tiered as (
    select * exclude (value), 0 as context_above_tokens, coalesce(value ->> '$.base', value ->> '$') as amount
    from quoted
    union all by name
    select
        * exclude (value, tier), cast(tier ->> '$.start' as bigint) as context_above_tokens, tier ->> '$.price' as amount
    from (
        select *, unnest(json_extract(value, '$.tiers[*]')) as tier
        from quoted
        where json_type(value) = 'OBJECT'
    ) as tier
),
meter (field, token_class, unit, usd_per_quote) as (
    values
        ('input_mtok', 'input_uncached', 'token', cast(0.000001 as decimal(16, 15))),
        ('input_text_mtok', 'input_uncached', 'token', 0.000001),
        ('output_mtok', 'output_text', 'token', 0.000001),
        ('output_text_mtok', 'output_text', 'token', 0.000001),
        ('cache_read_mtok', 'cache_read', 'token', 0.000001),
        ('cache_text_read_mtok', 'cache_read', 'token', 0.000001),
        ('cache_write_mtok', 'cache_write_5m', 'token', 0.000001),
        ('cache_write_5m_mtok', 'cache_write_5m', 'token', 0.000001),
        ('cache_write_1h_mtok', 'cache_write_1h', 'token', 0.000001),
        ('input_audio_mtok', 'input_audio', 'token', 0.000001),
        ('output_audio_mtok', 'output_audio', 'token', 0.000001),
        ('cache_audio_read_mtok', 'cache_read_audio', 'token', 0.000001),
        ('cache_audio_write_mtok', 'cache_write_audio', 'token', 0.000001),
        ('input_image_mtok', 'input_image', 'token', 0.000001),
        ('output_image_mtok', 'output_image', 'token', 0.000001),
        ('cache_image_read_mtok', 'cache_read_image', 'token', 0.000001),
        ('cache_image_write_mtok', 'cache_write_image', 'token', 0.000001),
        ('input_video_mtok', 'input_video', 'token', 0.000001),
        ('output_video_mtok', 'output_video', 'token', 0.000001),
        ('output_reasoning_mtok', 'reasoning', 'token', 0.000001),
        ('output_citation_mtok', 'citation', 'token', 0.000001),
        ('input_mchars', 'character_in', 'character', 0.000001),
        ('requests_kcount', 'request', 'request', 0.001),
        ('web_searches_kcount', 'web_search', 'query', 0.001),
        ('storage_searches_kcount', 'file_search', 'call', 0.001),
        ('input_text_messages_kcount', 'message', 'message', 0.001),
        ('input_document_kpages', 'page', 'page', 0.001),
        ('input_annotated_document_kpages', 'page_annotation', 'page', 0.001),
        ('audio_hours', 'audio_second', 'second', 0.000277777777778),
        ('input_audio_hours', 'audio_second_in', 'second', 0.000277777777778),
        ('output_audio_hours', 'audio_second_out', 'second', 0.000277777777778)
),
price as (
    select
        landing_file,
        feed_model,
        case when (applies_when ->> '$.route') like '%/%' then split_part(applies_when ->> '$.route', '/', 2) end as region,
        coalesce(
            applies_when ->> '$.processing', applies_when ->> '$.service_tier', applies_when ->> '$.speed', 'standard'
        ) as service_tier,
        coalesce(meter.token_class, 'unknown:' || field) as token_class,
        context_above_tokens,
        coalesce(meter.unit, 'unknown') as unit,
        cast(try_cast(amount as decimal(18, 12)) * coalesce(usd_per_quote, 1) as decimal(24, 15)) as price_usd_per_unit,
        concat_ws(
            ', ', time_of_day, 'search type ' || (applies_when ->> '$.search_type'),
            -- a kind of request we do not know is kept apart whole
            case
                when applies_when is not null
                    and len(list_filter(json_keys(applies_when), lambda name: name in ('route', 'processing', 'service_tier', 'speed', 'search_type'))) = 0
                    then applies_when
            end
        ).nullif('') as price_condition,
        valid_from,
        valid_to
    from tiered
    left join meter using (field)
    where try_cast(amount as decimal(18, 12)) is not null
    qualify row_number() over (
        partition by landing_file, feed_model, applies_when, time_of_day, valid_from, token_class, field, context_above_tokens
        order by entry_no, amount
    ) = 1
)
select
    model.landing_file,
    model.feed_model,
    model.provider_alias,
    price.region,
    price.service_tier,
    price.token_class,
    cast(price.context_above_tokens as bigint) as context_above_tokens,
    price.unit,
    price.price_usd_per_unit,
    price.price_condition,
    price.valid_from,
    price.valid_to,
    cast(null as varchar) as mode,
    try_cast(model.model ->> '$.context_window' as bigint) as context_window_tokens,
    cast(null as bigint) as max_output_tokens,
    cast(null as date) as deprecation_day,
    cast(null as date) as release_day,
    cast(null as date) as listed_day,
    cast(null as varchar) as hugging_face_id,
    cast(null as boolean) as is_open_weights,
    'names ' || (model.model ->> '$.match') as price_note
from model
left join price using (landing_file, feed_model)
