-- models.dev's api.json ({"<provider>": {"models": {"<model>": {"cost": {"input": 1.25, ..}}}}}): one row per quoted price.
--
-- Prices are USD per million tokens. Context tiers stand under cost.tiers; the older cost.context_over_200k says the same of one
-- threshold and counts only where tiers does not have it. experimental.modes.<mode>.cost is the price of another service tier.
with feed as (
    select filename as landing_file, json
    from read_json_objects($files, format = 'unstructured', maximum_object_size = 33554432, filename = true)
),
provider as (
    select
        landing_file,
        unnest(json_keys(json)) as provider_alias,
        unnest(json_extract(json, '$.*')) as provider
    from feed
),
model as (
    select
        landing_file,
        provider_alias,
        provider_alias || '/' || model_id as feed_model,
        model,
        coalesce(model ->> '$.modalities.output[0]', 'text') as output_modality
    from (
        select
            landing_file,
            provider_alias,
            unnest(json_keys(provider, '$.models')) as model_id,
            unnest(json_extract(provider, '$.models.*')) as model
        from provider
    ) as listed
    where json_type(model) = 'OBJECT'
    qualify row_number() over (partition by landing_file, provider_alias, model_id order by cast(model as varchar) desc) = 1
),
cost as (
    select landing_file, feed_model, json_extract(model, '$.cost') as cost, 'standard' as service_tier, 0 as context_above_tokens, 0 as preference
    from model
    union all
    select landing_file, feed_model, cost, 'standard', try_cast(cost ->> '$.tier.size' as bigint), 0
    from (
        select landing_file, feed_model, unnest(json_extract(model, '$.cost.tiers[*]')) as cost
        from model
    ) as tier
    where coalesce(cost ->> '$.tier.type', 'context') = 'context'
    union all
    select
        landing_file, feed_model, unnest(json_extract(model, '$.cost.*')), 'standard',
        unnest([1000 * cast(regexp_extract(name, '^context_over_([0-9]+)k$', 1).nullif('') as bigint) for name in json_keys(model, '$.cost')]), 1
    from model
    union all
    select
        landing_file, feed_model, json_extract(unnest(json_extract(model, '$.experimental.modes.*')), '$.cost'),
        unnest(json_keys(model, '$.experimental.modes')), 0, 0
    from model
),
quoted as (
    select
        landing_file, feed_model, service_tier, context_above_tokens, preference,
        unnest(json_keys(cost)) as field,
        unnest(json_extract(cost, '$.*')) as value
    from cost
    where context_above_tokens is not null and json_type(cost) = 'OBJECT'
),
meter (field, token_class) as (
    values
        ('input', 'input_uncached'),
        ('output', 'output_text'),
        ('reasoning', 'reasoning'),
        ('cache_read', 'cache_read'),
        ('cache_write', 'cache_write_5m'),
        ('input_audio', 'input_audio'),
        ('output_audio', 'output_audio')
),
price as (
    select
        landing_file,
        feed_model,
        service_tier,
        coalesce(meter.token_class, 'unknown:' || field) as token_class,
        context_above_tokens,
        case when meter.token_class is null then 'unknown' else 'token' end as unit,
        cast(try_cast(value ->> '$' as decimal(24, 15)) * cast(0.000001 as decimal(7, 6)) as decimal(24, 15)) as price_usd_per_unit
    from quoted
    left join meter using (field)
    where try_cast(value ->> '$' as decimal(24, 15)) is not null
    qualify row_number() over (
        partition by landing_file, feed_model, service_tier, field, context_above_tokens order by preference, cast(value as varchar) desc
    ) = 1
)
select
    model.landing_file,
    model.feed_model,
    model.provider_alias,
    cast(null as varchar) as region,
    price.service_tier,
    price.token_class,
    cast(price.context_above_tokens as bigint) as context_above_tokens,
    price.unit,
    price.price_usd_per_unit,
    cast(null as varchar) as price_condition,
    cast(null as timestamp) as valid_from,
    cast(null as timestamp) as valid_to,
    case output_modality when 'text' then 'chat' when 'image' then 'image_generation' when 'audio' then 'audio_speech' end as mode,
    try_cast(model.model ->> '$.limit.context' as bigint) as context_window_tokens,
    try_cast(model.model ->> '$.limit.output' as bigint) as max_output_tokens,
    cast(null as date) as deprecation_day,
    -- some releases are known to the month only
    try_cast(rpad(model.model ->> '$.release_date', 10, '-01') as date) as release_day,
    cast(null as date) as listed_day,
    cast(null as varchar) as hugging_face_id,
    try_cast(model.model ->> '$.open_weights' as boolean) as is_open_weights,
    cast(null as varchar) as price_note
from model
left join price using (landing_file, feed_model)
