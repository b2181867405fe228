-- core.price_quote: what each feed said in each snapshot, under our names of providers and models.
--
-- Reads staging.price (the rows of warehouse/staging/price/<feed>.sql with that name as feed), staging.price_file (landing_file,
-- quoted_at: when the snapshot was taken) and provider (schemas/reference/provider.csv).
with model as (
    -- once a name, not once a row
    select feed_model, model_name(feed_model) as model_name
    from (select distinct feed_model from staging.price) as listed
),
named as (
    select
        price.*,
        price_file.quoted_at,
        coalesce(word.provider_name, stem.provider_name, lower(price.provider_alias)) as provider_name,
        coalesce(word.provider_kind, stem.provider_kind) as provider_kind,
        model.model_name,
        -- the series of a price through time
        md5(concat(
            price.feed, '|', price.feed_model, '|', coalesce(region, ''), '|', coalesce(service_tier, ''), '|', coalesce(token_class, ''),
            '|', coalesce(context_above_tokens, 0), '|', coalesce(unit, ''), '|', coalesce(price_condition, '')
        )) as price_key
    from staging.price as price
    join staging.price_file as price_file using (landing_file)
    join model using (feed_model)
    left join provider as word on word.alias = lower(price.provider_alias)
    -- vertex_ai-language-models, fireworks_ai-embedding-models: the word before the dash
    left join provider as stem on stem.alias = split_part(lower(price.provider_alias), '-', 1)
)
select
    md5(concat(price_key, '|', quoted_at, '|', coalesce(valid_from, timestamp '1970-01-01'), '|', landing_file)) as quote_id,
    price_key,
    feed,
    quoted_at,
    provider_name,
    provider_kind,
    provider_alias,
    feed_model,
    model_name,
    region,
    service_tier,
    token_class,
    context_above_tokens,
    unit,
    price_condition,
    price_usd_per_unit,
    valid_from,
    valid_to,
    mode,
    context_window_tokens,
    max_output_tokens,
    deprecation_day,
    release_day,
    listed_day,
    hugging_face_id,
    is_open_weights,
    price_note,
    landing_file
from named
