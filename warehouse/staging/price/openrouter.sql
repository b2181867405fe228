-- OpenRouter's answer to GET /api/v1/models ({"data": [{"id", "pricing": {"prompt": "0.000002", ..}}]}): one row per quoted price.
--
-- Prices are strings, USD per unit. A negative one means "depends on where the call is routed": no price, though the model is
-- kept. A zero is a price on prompt, completion and request; elsewhere it means that there is no such charge or no meter apart
-- (reasoning billed as completion, a cache nobody offers), so it must not make those tokens free.
with feed as (
    select filename as landing_file, json
    from read_json_objects($files, format = 'unstructured', maximum_object_size = 33554432, filename = true)
),
entry as (
    select landing_file, unnest(json_extract(json, '$.data[*]')) as entry
    from feed
),
model as (
    select *
    from (
        select
            landing_file,
            entry ->> '$.id' as feed_model,
            json_extract(entry, '$.pricing') as pricing,
            case
                when (entry ->> '$.architecture.modality') like '%->%text%' then 'chat'
                when (entry ->> '$.architecture.modality') like '%->%image%' then 'image_generation'
                when (entry ->> '$.architecture.modality') like '%->embeddings' then 'embedding'
            end as mode,
            try_cast(entry ->> '$.context_length' as bigint) as context_window_tokens,
            try_cast(entry ->> '$.top_provider.max_completion_tokens' as bigint) as max_output_tokens,
            try_cast(entry ->> '$.expiration_date' as date) as deprecation_day,
            -- seconds since 1970; what is no such number until 2100 says nothing
            case when try_cast(entry ->> '$.created' as bigint) between 1 and 4102444800
                then cast(make_timestamp(try_cast(entry ->> '$.created' as bigint) * 1000000) as date) end as listed_day,
            (entry ->> '$.hugging_face_id').nullif('') as hugging_face_id
        from entry
    ) as listed
    where feed_model is not null
    qualify row_number() over (partition by landing_file, feed_model order by cast(pricing as varchar)) = 1
),
quoted as (
    select
        landing_file,
        feed_model,
        unnest(json_keys(pricing)) as field,
        unnest(json_extract(pricing, '$.*')) as value
    from model
),
meter (field, token_class, unit) as (
    values
        ('prompt', 'input_uncached', 'token'),
        ('completion', 'output_text', 'token'),
        ('internal_reasoning', 'reasoning', 'token'),
        ('input_cache_read', 'cache_read', 'token'),
        ('input_cache_write', 'cache_write_5m', 'token'),
        ('audio', 'input_audio', 'token'),
        ('audio_output', 'output_audio', 'token'),
        ('input_audio_cache', 'cache_read_audio', 'token'),
        ('image_token', 'input_image', 'token'),
        ('image_output', 'output_image', 'token'),
        ('image', 'image_in', 'image'),
        ('request', 'request', 'request'),
        ('web_search', 'web_search', 'query')
),
price as (
    select
        landing_file,
        feed_model,
        coalesce(meter.token_class, 'unknown:' || field) as token_class,
        coalesce(meter.unit, 'unknown') as unit,
        try_cast(value ->> '$' as decimal(24, 15)) as price_usd_per_unit
    from quoted
    left join meter using (field)
    where field != 'discount'
    qualify row_number() over (partition by landing_file, feed_model, field order by cast(value as varchar) desc) = 1
)
select
    model.landing_file,
    model.feed_model,
    'openrouter' as provider_alias,
    cast(null as varchar) as region,
    case when price.token_class is not null then 'standard' end as service_tier,
    price.token_class,
    case when price.token_class is not null then cast(0 as bigint) end as context_above_tokens,
    price.unit,
    price.price_usd_per_unit,
    cast(null as varchar) as price_condition,
    cast(null as timestamp) as valid_from,
    cast(null as timestamp) as valid_to,
    model.mode,
    model.context_window_tokens,
    model.max_output_tokens,
    model.deprecation_day,
    cast(null as date) as release_day,
    model.listed_day,
    model.hugging_face_id,
    case when model.hugging_face_id is not null then true end as is_open_weights,
    cast(null as varchar) as price_note
from model
left join (
    select * from price
    where price_usd_per_unit > 0
        or (price_usd_per_unit = 0 and token_class in ('input_uncached', 'output_text', 'request'))
) as price using (landing_file, feed_model)
