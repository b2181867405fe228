-- LiteLLM's model_prices_and_context_window.json: one row per quoted price of every model in $files.
--
-- A price key is read by its grammar, never from a list of whole keys:
--     stem [_above_<n>[k]_tokens] [_above_<n>hr] [_<service tier>]     (suffixes in any order)
-- A cost key whose stem nobody has taught us comes out as token_class 'unknown:<key>', so that a promise can count it.
--
-- A number goes JSON text -> double -> shortest text -> decimal. That is exact up to 15 significant digits; list prices have
-- fewer than ten. Duplicate keys (a model twice, or a price twice within a model) are read key by key: of two values of one
-- price the later wins, as in LiteLLM itself, and price_note says so; a price that only the earlier one has is kept.
--
-- Not prices, left out on purpose: sentences, nulls, lists, and the *_dbu_* / *_db_* keys (Databricks units, not USD).
with feed as (
    select filename as landing_file, json
    from read_json_objects($files, format = 'unstructured', maximum_object_size = 33554432, filename = true)
),
stem (stem, token_class, unit, preference) as (
    -- preference: where a feed names one price in two ways, the lower number is believed
    values
        ('input_cost_per_token', 'input_uncached', 'token', 0),
        ('output_cost_per_token', 'output_text', 'token', 0),
        ('cache_read_input_token_cost', 'cache_read', 'token', 0),
        ('input_cost_per_token_cache_hit', 'cache_read', 'token', 1),
        ('explicit_cache_read_input_token_cost', 'cache_read_explicit', 'token', 0),
        ('cache_creation_input_token_cost', 'cache_write_5m', 'token', 0),
        ('output_cost_per_reasoning_token', 'reasoning', 'token', 0),
        ('citation_cost_per_token', 'citation', 'token', 0),
        ('input_cost_per_audio_token', 'input_audio', 'token', 0),
        ('output_cost_per_audio_token', 'output_audio', 'token', 0),
        ('cache_read_input_audio_token_cost', 'cache_read_audio', 'token', 0),
        ('cache_creation_input_audio_token_cost', 'cache_write_audio', 'token', 0),
        ('input_cost_per_image_token', 'input_image', 'token', 0),
        ('output_cost_per_image_token', 'output_image', 'token', 0),
        ('cache_read_input_image_token_cost', 'cache_read_image', 'token', 0),
        ('cache_creation_input_image_token_cost', 'cache_write_image', 'token', 0),
        ('input_cost_per_video_token', 'input_video', 'token', 0),
        ('output_cost_per_video_token', 'output_video', 'token', 0),
        ('computer_use_input_cost_per_1k_tokens', 'computer_use_input', 'token', 0),
        ('computer_use_output_cost_per_1k_tokens', 'computer_use_output', 'token', 0),
        ('input_cost_per_image', 'image_in', 'image', 0),
        ('output_cost_per_image', 'image_out', 'image', 0),
        ('cost_per_image', 'image_out', 'image', 1),
        ('input_cost_per_pixel', 'pixel_in', 'pixel', 0),
        ('output_cost_per_pixel', 'pixel_out', 'pixel', 0),
        ('input_cost_per_character', 'character_in', 'character', 0),
        ('output_cost_per_character', 'character_out', 'character', 0),
        ('cost_per_second', 'second', 'second', 0),
        ('input_cost_per_second', 'second_in', 'second', 0),
        ('output_cost_per_second', 'second_out', 'second', 0),
        ('input_cost_per_audio_per_second', 'audio_second_in', 'second', 0),
        ('output_cost_per_audio_per_second', 'audio_second_out', 'second', 0),
        ('input_cost_per_video_per_second', 'video_second_in', 'second', 0),
        ('output_cost_per_video_per_second', 'video_second_out', 'second', 0),
        ('input_cost_per_request', 'request', 'request', 0),
        ('input_cost_per_query', 'query', 'query', 0),
        ('input_cost_per_text_message', 'message', 'message', 0),
        ('search_context_cost_per_query', 'web_search', 'query', 0),
        ('google_maps_grounding_cost_per_query', 'maps_grounding', 'query', 0),
        ('code_interpreter_cost_per_session', 'code_interpreter', 'session', 0),
        ('file_search_cost_per_1k_calls', 'file_search', 'call', 0),
        ('file_search_cost_per_gb_per_day', 'file_search_storage', 'gb_day', 0),
        ('vector_store_cost_per_gb_per_day', 'vector_store', 'gb_day', 0),
        ('ocr_cost_per_page', 'page', 'page', 0),
        ('annotation_cost_per_page', 'page_annotation', 'page', 0),
        ('ocr_cost_per_credit', 'credit', 'credit', 0),
        ('guardrail_cost_per_unit', 'guardrail', 'guardrail_unit', 0)
),
entry as (
    -- keys and values side by side keep duplicate keys, and are far quicker than json_each on a document of megabytes
    select *
    from (
        select
            landing_file,
            unnest(json_keys(json)) as feed_model,
            unnest(json_extract(json, '$.*')) as entry,
            unnest(range(len(json_keys(json)))) as entry_no
        from feed
    ) as listed
    where json_type(entry) = 'OBJECT' and feed_model not in ('sample_spec', 'fallback_generalizations')
),
model as (
    -- facts of a model listed twice: the later entry's, as for prices
    select
        landing_file,
        feed_model,
        coalesce(
            arg_max(entry ->> '$.litellm_provider', entry_no),
            -- the entries of 2023 name no provider
            case
                when contains(feed_model, '/') then split_part(feed_model, '/', 1)
                when regexp_matches(feed_model, '^(gpt-|text-davinci|text-embedding-ada|ft:gpt|o1|dall-e|whisper)') then 'openai'
                when regexp_matches(feed_model, '^claude') then 'anthropic'
                when regexp_matches(feed_model, '^command') then 'cohere'
                when regexp_matches(feed_model, '-bison') then 'palm'
                when regexp_matches(feed_model, '^together-ai') then 'together_ai'
            end
        ) as provider_alias,
        coalesce(
            regexp_extract(feed_model, '^bedrock/([a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-[0-9]+)/', 1).nullif(''),
            regexp_extract(feed_model, '^azure(?:_ai)?/(eu|us|global)(?:-standard)?/', 1).nullif(''),
            regexp_extract(feed_model, '^(?:bedrock/|bedrock_converse/)?(us-gov|us|eu|apac|ap|jp|au|ca|sa|me|global)\.[a-z0-9-]+\.', 1).nullif('')
        ) as region,
        -- what a key says a price depends on: a commitment, or size and quality of an image
        coalesce(
            regexp_extract(feed_model, '/([0-9]+-month-commitment)/', 1).nullif(''),
            replace(
                regexp_extract(feed_model, '(?:^|/)((?:(?:hd|standard|low|medium|high|auto)/)?(?:[0-9]+|max)-x-(?:[0-9]+|max)(?:/[0-9a-z]+-steps)?)/', 1).nullif(''),
                '/', ' '
            )
        ) as key_condition,
        arg_max(case json_type(entry, '$.mode') when 'ARRAY' then entry ->> '$.mode[0]' else entry ->> '$.mode' end, entry_no) as mode,
        arg_max(
            coalesce(try_cast(entry ->> '$.max_input_tokens' as bigint), try_cast(entry ->> '$.max_tokens' as bigint)), entry_no
        ) as context_window_tokens,
        arg_max(try_cast(entry ->> '$.max_output_tokens' as bigint), entry_no) as max_output_tokens,
        arg_max(try_cast(entry ->> '$.deprecation_date' as date), entry_no) as deprecation_day
    from entry
    group by landing_file, feed_model
),
field as (
    select *, json_type(value) as type
    from (
        select
            landing_file,
            feed_model,
            entry_no,
            unnest(json_keys(entry)) as field,
            unnest(json_extract(entry, '$.*')) as value,
            100 * unnest(range(len(json_keys(entry)))) as field_no
        from entry
    ) as listed
    where (regexp_matches(field, 'cost|price|pricing') and not regexp_matches(field, '_dbu?_cost_'))
        or field = 'provider_specific_entry'
        or contains(field, 'uplift_multiplier')
),
quoted as (
    select landing_file, feed_model, field, value, entry_no, field_no, 0 as nesting, 0 as floor_tokens, cast(null as varchar) as condition
    from field
    where type not in ('OBJECT', 'ARRAY', 'NULL') and field != 'provider_specific_entry' and not contains(field, 'uplift_multiplier')
    union all by name
    -- {"search_context_size_low": 0.005, ...}; medium is what a call gets that names no size
    select
        landing_file, feed_model, field, part.value, entry_no, field_no + part.id as field_no, 0 as nesting, 0 as floor_tokens,
        case when not ends_with(part.key, '_medium') then replace(part.key, '_', ' ') end as condition
    from field, json_each(field.value) as part
    where field.type = 'OBJECT' and field.field not in ('off_peak_pricing', 'provider_specific_entry')
    union all by name
    -- [{"range": [32000, 128000], "input_cost_per_token": ..}, ..]
    select
        landing_file, feed_model, part.key as field, part.value, entry_no, field_no + part.id as field_no, 1 as nesting,
        coalesce(cast(try_cast(tier.value ->> '$.range[0]' as decimal(18, 1)) as bigint), 0) as floor_tokens,
        'max results ' || (tier.value ->> '$.max_results_range[0]') || '-' || (tier.value ->> '$.max_results_range[1]') as condition
    from field, json_each(field.value) as tier, json_each(tier.value) as part
    where field.field = 'tiered_pricing' and field.type = 'ARRAY' and tier.type = 'OBJECT' and contains(part.key, 'cost')
    union all by name
    -- {"hours_utc": "16:30-00:30", "input_cost_per_token": ..} or the rates under "rates", the hours under "windows"
    select
        landing_file, feed_model, part.key as field, part.value, entry_no, field_no + part.id as field_no, 0 as nesting, 0 as floor_tokens,
        -- Plain hours read as genai-prices' times of day do, which call_cost can apply; windows by weekday are kept as they are.
        case
            when field.value ->> '$.windows' is null and regexp_full_match(field.value ->> '$.hours_utc', '[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}')
                then 'daily ' || replace(field.value ->> '$.hours_utc', '-', ':00+00:00-') || ':00+00:00'
            else 'off peak ' || coalesce(field.value ->> '$.hours_utc', '') || coalesce(field.value ->> '$.windows', '')
                || coalesce(' ' || (field.value ->> '$.weekday_timezone'), '')
        end as condition
    from field,
        json_each(coalesce(json_extract(field.value, '$.rates'), field.value)) as part
    where field.field = 'off_peak_pricing' and field.type = 'OBJECT' and contains(part.key, 'cost')
),
spelled as (
    select
        field,
        regexp_replace(regexp_replace(field, '_above_[0-9]+k?_tokens', ''), '_above_[0-9]+hr', '') as bare,
        cast(regexp_extract(field, '_above_([0-9]+)k?_tokens', 1).nullif('') as bigint)
        * case when regexp_matches(field, '_above_[0-9]+k_tokens') then 1000 else 1 end as above_tokens,
        regexp_extract(field, '_above_([0-9]+)hr', 1).nullif('') as ttl_hours
    from (select distinct field from quoted) as seen
),
grammar as (
    -- once per distinct key: the longest stem, and what follows it
    select
        field, above_tokens, ttl_hours, stem.token_class, stem.unit, stem.preference,
        substr(bare, length(stem.stem) + 2) as suffix
    from spelled
    left join stem on bare = stem.stem or starts_with(bare, stem.stem || '_')
    qualify row_number() over (partition by field order by length(stem.stem) desc nulls last) = 1
),
meaning as (
    select
        field,
        coalesce(above_tokens, 0) as above_tokens,
        coalesce(preference, 9) as preference,
        case
            when regexp_matches(suffix, '(^|_)batch(es|_requests)?$') then 'batch'
            when regexp_matches(suffix, '(^|_)(flex|priority)$') then regexp_extract(suffix, '(flex|priority)$', 1)
            when unit = 'token' and suffix != '' then suffix
            else 'standard'
        end as service_tier,
        case when unit != 'token' then replace(regexp_replace(suffix, '(^|_)(batch(es|_requests)?|flex|priority)$', ''), '_', ' ').nullif('') end
            as suffix_condition,
        case
            -- on tokens only one bare word can be a service tier; anything longer is something new
            when token_class is null or (unit = 'token' and not regexp_matches(suffix, '^([a-z]+|batch_requests)?$')) then 'unknown:' || field
            when token_class = 'cache_write_5m' and ttl_hours is not null then 'cache_write_' || ttl_hours || 'h'
            when ttl_hours is not null then 'unknown:' || field
            else token_class
        end as token_class,
        case when token_class is null then 'unknown' else unit end as unit,
        cast(case when contains(field, '_per_1k_') then 0.001 else 1 end as decimal(4, 3)) as units_per_quote
    from grammar
),
price as (
    select
        landing_file,
        feed_model,
        region,
        case when starts_with(token_class, 'unknown:') then 'standard' else service_tier end as service_tier,
        token_class,
        greatest(above_tokens, floor_tokens) as context_above_tokens,
        unit,
        -- a product, since a quotient of decimals would be a double
        cast(try_cast(value ->> '$' as decimal(24, 15)) * units_per_quote as decimal(24, 15)) as price_usd_per_unit,
        concat_ws(', ', key_condition, condition, suffix_condition).nullif('') as price_condition,
        nesting, preference, entry_no, field_no
    from quoted
    join meaning using (field)
    join model using (landing_file, feed_model)
    where try_cast(value ->> '$' as decimal(24, 15)) is not null
),
list_price as (
    select
        * exclude (nesting, preference, entry_no, field_no),
        case
            when count(*) over same > 1 and min(price_usd_per_unit) over same != max(price_usd_per_unit) over same
                then 'the feed gives this price twice, from ' || min(price_usd_per_unit) over same || ' to ' || max(price_usd_per_unit) over same
        end as price_note
    from price
    window same as (
        partition by landing_file, feed_model, region, service_tier, token_class, context_above_tokens, unit, price_condition
    )
    qualify row_number() over (
        partition by landing_file, feed_model, region, service_tier, token_class, context_above_tokens, unit, price_condition
        order by nesting, preference, entry_no desc, field_no desc
    ) = 1
),
uplift as (
    -- factors on all token prices of a model: data residency, regional endpoints, Anthropic's fast mode
    select landing_file, feed_model, field as factor_name, regexp_extract(field, '_uplift_multiplier_([a-z]+)$', 1).nullif('') as region,
        cast(null as varchar) as service_tier, try_cast(value ->> '$' as decimal(9, 6)) as factor, entry_no
    from field
    where contains(field, 'uplift_multiplier')
    union all by name
    select landing_file, feed_model, field || '.' || part.key as factor_name, case when length(part.key) = 2 then part.key end as region,
        case when part.key = 'fast' then 'fast' end as service_tier, try_cast(part.value ->> '$' as decimal(9, 6)) as factor, entry_no
    from field, json_each(field.value) as part
    where field.field = 'provider_specific_entry' and field.type = 'OBJECT' and (length(part.key) = 2 or part.key = 'fast')
),
uplifted as (
    select
        list_price.* replace (
            -- 'regional' is any single region, as opposed to the global endpoint
            case when uplift.service_tier is null then coalesce(uplift.region, 'regional') else list_price.region end as region,
            coalesce(uplift.service_tier, list_price.service_tier) as service_tier,
            cast(price_usd_per_unit * factor as decimal(24, 15)) as price_usd_per_unit,
            'list price x ' || factor || ' (' || factor_name || ')' as price_note
        )
    from list_price
    join (
        select * from uplift where factor is not null
        qualify row_number() over (partition by landing_file, feed_model, factor_name order by entry_no desc) = 1
    ) as uplift using (landing_file, feed_model)
    where unit = 'token'
        and not starts_with(token_class, 'unknown:')
        and (uplift.service_tier is null or list_price.service_tier = 'standard')
)
select
    model.landing_file,
    model.feed_model,
    model.provider_alias,
    coalesce(price.region, model.region) as region,
    price.service_tier,
    price.token_class,
    cast(price.context_above_tokens as bigint) as context_above_tokens,
    price.unit,
    price.price_usd_per_unit,
    price.price_condition,
    cast(null as timestamp) as valid_from,
    cast(null as timestamp) as valid_to,
    model.mode,
    model.context_window_tokens,
    model.max_output_tokens,
    model.deprecation_day,
    cast(null as date) as release_day,
    cast(null as date) as listed_day,
    cast(null as varchar) as hugging_face_id,
    cast(null as boolean) as is_open_weights,
    price.price_note
from model
left join (
    from list_price
    union all by name
    from uplifted
) as price using (landing_file, feed_model)
