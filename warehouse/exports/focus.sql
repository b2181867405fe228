-- exports.focus: FinOps FOCUS 1.2 rows.
--
-- The grain is the price used: a SKU price is a row of core.price, so that quantity times unit price is the cost, to the last digit.
-- Four costs: list (price book), contracted (less the discount agreed with the provider), billed (what is invoiced) and effective (with
-- commitments spread over the usage of the day that they cover, in proportion to its cost).
with used as (
    select
        cast(cost.started_at as date) as usage_day, cost.source, cost.provider_name, cost.model_name, cost.service_tier, cost.tenant, cost.team,
        cost.workload, cost.environment, cost.cost_status, cost.price_ids,
        count(*) as call_count,
        sum(cost.input_uncached_tokens) as input_uncached, sum(cost.cache_read_tokens) as cache_read,
        sum(cost.cache_write_5m_tokens) as cache_write_5m, sum(cost.cache_write_1h_tokens) as cache_write_1h,
        sum(call.input_audio_tokens) as input_audio, sum(call.input_image_tokens) as input_image,
        sum(cost.output_text_tokens) as output_text, sum(cost.reasoning_tokens) as reasoning,
        sum(call.output_audio_tokens) as output_audio, sum(call.output_image_tokens) as output_image,
        sum(call.web_search_requests) as web_search
    from marts.call_cost as cost
    -- Few calls use what call_cost does not tell apart. An id may come again on another day, as another call.
    left join (
        select inference_id, started_at, input_audio_tokens, input_image_tokens, output_audio_tokens, output_image_tokens, web_search_requests
        from core.inference
        where started_at >= $from_day and started_at < $to_day
          and coalesce(input_audio_tokens, input_image_tokens, output_audio_tokens, output_image_tokens, web_search_requests) > 0
    ) as call on call.inference_id = cost.inference_id and call.started_at = cost.started_at
    where cost.started_at >= $from_day and cost.started_at < $to_day and cost.cost_status in ('priced', 'estimated', 'partial', 'free')
    group by cast(cost.started_at as date), cost.source, cost.provider_name, cost.model_name, cost.service_tier, cost.tenant, cost.team,
        cost.workload, cost.environment, cost.cost_status, cost.price_ids
),
consumed as (
    select * exclude (input_uncached, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image, output_text, reasoning, output_audio,
            output_image, web_search, call_count, class),
        class.token_class, class.quantity, class.meter
    from (
        select *, unnest([
            {'token_class': 'input_uncached', 'quantity': input_uncached, 'meter': 'Input Tokens'},
            {'token_class': 'cache_read', 'quantity': cache_read, 'meter': 'Cached Input Tokens'},
            {'token_class': 'cache_write_5m', 'quantity': cache_write_5m, 'meter': 'Cache Write Tokens'},
            {'token_class': 'cache_write_1h', 'quantity': cache_write_1h, 'meter': 'Cache Write Tokens 1 Hour'},
            {'token_class': 'input_audio', 'quantity': input_audio, 'meter': 'Audio Input Tokens'},
            {'token_class': 'input_image', 'quantity': input_image, 'meter': 'Image Input Tokens'},
            {'token_class': 'output_text', 'quantity': output_text, 'meter': 'Output Tokens'},
            {'token_class': 'reasoning', 'quantity': reasoning, 'meter': 'Reasoning Tokens'},
            {'token_class': 'output_audio', 'quantity': output_audio, 'meter': 'Audio Output Tokens'},
            {'token_class': 'output_image', 'quantity': output_image, 'meter': 'Image Output Tokens'},
            {'token_class': 'web_search', 'quantity': web_search, 'meter': 'Web Searches'},
            {'token_class': 'request', 'quantity': call_count, 'meter': 'Requests'}]) as class
        from used
    ) as unpivoted
    where class.quantity > 0
),
-- Where a class has no price of its own it is billed as the class it belongs to: the same line of succession as in marts.call_cost.
succession (token_class, priced_as, place) as (
    values ('input_uncached', 'input_uncached', 1), ('cache_read', 'cache_read', 1), ('cache_read', 'input_uncached', 2),
        ('cache_write_5m', 'cache_write_5m', 1), ('cache_write_5m', 'input_uncached', 2),
        ('cache_write_1h', 'cache_write_1h', 1), ('cache_write_1h', 'cache_write_5m', 2), ('cache_write_1h', 'input_uncached', 3),
        ('input_audio', 'input_audio', 1), ('input_audio', 'input_uncached', 2), ('input_image', 'input_image', 1), ('input_image', 'input_uncached', 2),
        ('output_text', 'output_text', 1), ('reasoning', 'reasoning', 1), ('reasoning', 'output_text', 2),
        ('output_audio', 'output_audio', 1), ('output_audio', 'output_text', 2), ('output_image', 'output_image', 1), ('output_image', 'output_text', 2),
        ('web_search', 'web_search', 1), ('request', 'request', 1)
),
named as (
    select price_ids, unnest(string_split(price_ids, ',')) as price_id from (select distinct price_ids from used) as seen
),
-- Cards that name a price which the book does not have (any more). Their usage stays, without a price, and the contract refuses it.
torn as (
    select distinct price_ids from named where price_id not in (select price_id from core.price)
),
sku as (
    select card.price_ids, succession.token_class, price.price_id, price.price_key, concat_ws('/', price.provider_name, price.feed_model, price.token_class) as sku_id,
        price.price_usd_per_unit, price.provider_name, price.model_name,
        price.service_tier, price.region, price.context_above_tokens,
        row_number() over (partition by card.price_ids, succession.token_class order by succession.place) as place
    from named as card
    join core.price as price on price.price_id = card.price_id
    join succession on succession.priced_as = price.token_class
    where card.price_ids not in (select price_ids from torn)
),
maker as (
    select model_name, min(provider_name) as provider_name from core.model where provider_kind = 'first_party' group by model_name
),
listed as (
    select
        consumed.usage_day, consumed.source, coalesce(consumed.provider_name, sku.provider_name, 'unknown') as provider_name, consumed.model_name,
        consumed.service_tier, consumed.tenant, consumed.team, consumed.workload, consumed.environment, consumed.cost_status,
        consumed.token_class, consumed.meter, sku.price_id, sku.price_key, sku.sku_id, sku.region, sku.service_tier as price_tier, sku.context_above_tokens,
        sku.model_name as price_model_name,
        consumed.token_class not in ('web_search', 'request') as is_tokens,
        sum(cast(consumed.quantity as decimal(24, 0))) as quantity,
        min(cast(sku.price_usd_per_unit as decimal(24, 15))) as unit_usd
    from consumed
    left join sku on sku.place = 1 and sku.price_ids = consumed.price_ids and sku.token_class = consumed.token_class
    where sku.price_id is not null or consumed.price_ids in (select price_ids from torn)
    group by consumed.usage_day, consumed.source, coalesce(consumed.provider_name, sku.provider_name, 'unknown'), consumed.model_name,
        consumed.service_tier, consumed.tenant, consumed.team, consumed.workload, consumed.environment, consumed.cost_status,
        consumed.token_class, consumed.meter, sku.price_id, sku.price_key, sku.sku_id, sku.region, sku.service_tier, sku.context_above_tokens, sku.model_name
),
discount as (
    select provider_name, nullif(trim(model_name), '') as model_name, cast(from_day as date) as from_day, cast(until_day as date) as until_day,
        cast(discount_share as decimal(9, 6)) as discount_share
    from reference.contract_discount
),
contracted as (
    select listed.*,
        case when is_tokens then cast(quantity / 1000000 as decimal(38, 12)) else cast(quantity as decimal(38, 12)) end as pricing_quantity,
        cast(case when is_tokens then unit_usd * 1000000 else unit_usd end as decimal(24, 12)) as list_unit_price,
        cast(case when is_tokens then unit_usd * 1000000 else unit_usd end * (1 - coalesce(
            (select max(discount_share) from discount where discount.provider_name = listed.provider_name and discount.model_name = listed.model_name
                and discount.from_day <= listed.usage_day and (discount.until_day is null or discount.until_day > listed.usage_day)),
            (select max(discount_share) from discount where discount.provider_name = listed.provider_name and discount.model_name is null
                and discount.from_day <= listed.usage_day and (discount.until_day is null or discount.until_day > listed.usage_day)), 0)) as decimal(24, 12)) as contracted_unit_price
    from listed
),
-- Several commitments at a provider cover in the order of their ids, each what those before it leave. What one covers is the same share of
-- all the provider's usage of the day.
day as (
    select unnest(generate_series(cast($from_day as timestamp), cast($to_day as timestamp) - interval 1 day, interval 1 day)) as day_at
),
commitment as (
    select cast(day_at as date) as usage_day, provider_name, commitment_id, commitment_name,
        cast(fee_usd_per_day as decimal(24, 6)) as fee_usd, cast(discount_share as decimal(9, 6)) as discount_share
    from reference.commitment, day
    where cast(from_day as date) <= day_at and (until_day is null or cast(until_day as date) > day_at)
),
wanted as (
    select usage_day, provider_name, sum(cast(pricing_quantity * contracted_unit_price as decimal(38, 12))) as contracted_usd
    from contracted
    group by usage_day, provider_name
),
covered as (
    -- By shares of the usage: this commitment covers from one to the other.
    select *, coalesce(lag(to_share) over earlier, 0) as from_share,
        fee_usd - cast(contracted_usd * (1 - discount_share) * (to_share - coalesce(lag(to_share) over earlier, 0)) as decimal(38, 12)) as unused_usd
    from (
        select commitment.*, coalesce(wanted.contracted_usd, 0) as contracted_usd,
            -- A discount of all of it covers all.
            cast(least(1, sum(coalesce(fee_usd / nullif(1 - discount_share, 0), wanted.contracted_usd, 0)) over earlier / nullif(wanted.contracted_usd, 0)) as decimal(18, 12)) as to_share
        from commitment
        left join wanted on wanted.usage_day = commitment.usage_day and wanted.provider_name = commitment.provider_name
        window earlier as (partition by commitment.usage_day, commitment.provider_name order by commitment_id)
    ) as reached
    window earlier as (partition by usage_day, provider_name order by commitment_id)
),
split as (
    -- Rows under commitments are parted: what each of them covers and the rest.
    select contracted.*, covered.commitment_id, covered.commitment_name, covered.discount_share,
        cast(pricing_quantity * to_share as decimal(38, 12)) - cast(pricing_quantity * from_share as decimal(38, 12)) as part_quantity, true as is_covered
    from contracted
    join covered on covered.usage_day = contracted.usage_day and covered.provider_name = contracted.provider_name
    where to_share > from_share
    union all
    select contracted.*, null, null, null,
        pricing_quantity - coalesce(cast(pricing_quantity * share.to_share as decimal(38, 12)), 0), false
    from contracted
    left join (select usage_day, provider_name, max(to_share) as to_share from covered group by usage_day, provider_name) as share
        on share.usage_day = contracted.usage_day and share.provider_name = contracted.provider_name
    where share.to_share is null or share.to_share < 1
),
charge as (
    select
        usage_day, 'Usage' as charge_category, 'Usage-Based' as charge_frequency, provider_name, source, model_name, service_tier, tenant, team, workload,
        environment, cost_status, token_class, meter, price_id as x_price_id, price_key as sku_price_id, sku_id, region, price_tier, context_above_tokens, price_model_name,
        part_quantity as pricing_quantity,
        case when is_tokens then '1000000 Tokens' else 'Requests' end as pricing_unit,
        case when is_tokens then part_quantity * 1000000 else part_quantity end as consumed_quantity,
        case when is_tokens then 'Tokens' else 'Requests' end as consumed_unit,
        list_unit_price, contracted_unit_price,
        cast(part_quantity * list_unit_price as decimal(38, 12)) as list_cost,
        cast(part_quantity * contracted_unit_price as decimal(38, 12)) as contracted_cost,
        case when is_covered then 0 else cast(part_quantity * contracted_unit_price as decimal(38, 12)) end as billed_cost,
        case when is_covered then cast(part_quantity * contracted_unit_price as decimal(38, 12)) * (1 - discount_share)
             else cast(part_quantity * contracted_unit_price as decimal(38, 12)) end as effective_cost,
        commitment_id, commitment_name, case when is_covered then 'Used' end as commitment_status,
        case when is_covered then cast(part_quantity * contracted_unit_price as decimal(38, 12)) * (1 - discount_share) end as commitment_quantity,
        concat(coalesce(model_name, 'unknown model'), ' at ', provider_name, ': ', lower(meter)) as description
    from split
    where part_quantity > 0
    union all
    select
        usage_day, 'Purchase', 'Recurring', provider_name, null, null, null, null, null, null, null, null, null, 'Commitment', null, commitment_id, commitment_id,
        null, null, null, null, fee_usd, 'USD', null, null, 1, 1, fee_usd, fee_usd, fee_usd, 0, commitment_id, commitment_name, null, fee_usd,
        concat('Fee of ', commitment_name, ' for the day')
    from covered
    union all
    select
        usage_day, 'Usage', 'Usage-Based', provider_name, null, null, null, null, null, null, null, null, null, 'Commitment', null, commitment_id, commitment_id,
        null, null, null, null, unused_usd, 'USD', null, null, 0, 0, 0, 0, 0, unused_usd, commitment_id, commitment_name, 'Unused',
        unused_usd, concat('Part of ', commitment_name, ' that no usage of the day took up')
    from covered
    where to_share = 1 and unused_usd > 0
)
select
    charge.*,
    'USD' as pricing_currency, 'USD' as billing_currency,
    case when commitment_status is not null then 'Committed' else 'Standard' end as pricing_category,
    charge.provider_name as billing_account_id, null as billing_account_name,
    date_trunc('month', cast(usage_day as timestamp)) as billing_period_start,
    date_trunc('month', cast(usage_day as timestamp)) + interval 1 month as billing_period_end,
    null as charge_class, description as charge_description,
    cast(usage_day as timestamp) as charge_period_start, cast(usage_day as timestamp) + interval 1 day as charge_period_end,
    commitment_id as commitment_discount_id, commitment_name as commitment_discount_name,
    case when commitment_id is not null then 'Daily Spend' end as commitment_discount_type,
    case when commitment_id is not null then 'Spend' end as commitment_discount_category,
    commitment_status as commitment_discount_status, commitment_quantity as commitment_discount_quantity,
    case when commitment_id is not null then 'USD' end as commitment_discount_unit,
    coalesce(maker.provider_name, charge.provider_name) as publisher_name, charge.provider_name as invoice_issuer_name,
    concat(charge.provider_name, ' model inference') as service_name,
    'AI and Machine Learning' as service_category, 'Generative AI' as service_subcategory,
    region as region_id, region as region_name, meter as sku_meter,
    case when price_model_name is not null then cast(to_json({'x_Model': price_model_name, 'x_ServiceTier': price_tier, 'x_ContextAboveTokens': context_above_tokens}) as varchar) end as sku_price_details,
    tenant as sub_account_id, tenant as sub_account_name,
    concat('{', concat_ws(',', '"team":' || cast(to_json(team) as varchar), '"workload":' || cast(to_json(workload) as varchar),
        '"environment":' || cast(to_json(environment) as varchar)), '}') as tags,
    source as x_source, charge.model_name as x_model_name, service_tier as x_service_tier, token_class as x_token_class, cost_status as x_cost_status
from charge
left join maker on maker.model_name = charge.model_name
