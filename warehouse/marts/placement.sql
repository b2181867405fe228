-- marts.placement: where calls came from, where they were served, and where they would best be.
--
-- Only places that were used are compared, origin by origin and model by model: what a place never tried would do, no log tells.
with call as not materialized (
    select
        cast(started_at as date) as usage_day, provider_name, served_region, request_model, response_model, request_region, server_address, status,
        case when status = 'ok' and finished_at > started_at and lower(coalesce(service_tier, '')) <> 'batch'
                and coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) > 0
             then date_diff('microsecond', started_at, finished_at) / 1000.0 end as latency_ms,
        case when status = 'ok' and first_token_at >= started_at then date_diff('microsecond', started_at, first_token_at) / 1000.0 end as first_token_ms,
        coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) as output_tokens
    from core.inference
    where started_at >= $from_day and started_at < $to_day and usage_note is distinct from 'gateway_cache_hit'
),
asked as materialized (
    -- bedrock-runtime.eu-west-1.amazonaws.com, europe-west4-aiplatform.googleapis.com, swedencentral.api.cognitive.microsoft.com
    select request_model, response_model, request_region, server_address,
        coalesce(model_name(response_model), model_name(request_model)) as model_name,
        lower(coalesce(request_region, region.region)) as origin_region
    from (select distinct request_model, response_model, request_region, server_address from call) as pair
    left join reference.region as region
        on pair.request_region is null
        and region.region = nullif(regexp_extract(lower(pair.server_address), '(?:^|//|[.])([a-z]+-?[a-z]+-?[a-z]*-?[0-9]+|[a-z]+[0-9]?)(?:[.](?:api|amazonaws|inference)|-aiplatform)', 1), '')
),
pair as (
    select
        usage_day, asked.origin_region, provider_name, lower(served_region) as served_region, asked.model_name,
        count(*) as call_count, count(*) filter (where status = 'ok') as ok_count, count(latency_ms) as timed_count,
        quantile_cont(latency_ms, [0.5, 0.95]) as latency,
        quantile_cont(first_token_ms, 0.5) as first_token_p50_ms,
        quantile_cont(latency_ms / nullif(output_tokens, 0), 0.5) as answer_token_p50_ms
    from call
    join asked
        on asked.request_model is not distinct from call.request_model and asked.response_model is not distinct from call.response_model
        and asked.request_region is not distinct from call.request_region and asked.server_address is not distinct from call.server_address
    group by usage_day, asked.origin_region, provider_name, lower(served_region), asked.model_name
),
placed as (
    select usage_day, origin_region, model_name, provider_name, served_region, answer_token_p50_ms,
        row_number() over (partition by usage_day, origin_region, model_name order by answer_token_p50_ms, provider_name, served_region) as place_rank,
        count(*) over (partition by usage_day, origin_region, model_name) as place_count
    from pair
    where timed_count >= 20
)
select
    pair.*, latency[1] as latency_p50_ms, latency[2] as latency_p95_ms,
    pair.origin_region <> pair.served_region as is_cross_region,
    own.place_rank, best.provider_name as best_provider_name, best.served_region as best_served_region,
    case when own.place_rank is not null then latency[1] * (1 - best.answer_token_p50_ms / pair.answer_token_p50_ms) end as could_save_ms
from pair
left join placed as own
    on own.usage_day = pair.usage_day and own.origin_region is not distinct from pair.origin_region and own.model_name is not distinct from pair.model_name
    and own.provider_name is not distinct from pair.provider_name and own.served_region is not distinct from pair.served_region
left join placed as best
    on best.place_rank = 1 and best.place_count > 1 and best.usage_day = pair.usage_day
    and best.origin_region is not distinct from pair.origin_region and best.model_name is not distinct from pair.model_name
