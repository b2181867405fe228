-- marts.serving_quality: how well each provider served each model in each hour.
--
-- Failed calls have no latency here, whatever their source wrote: some write zero, and a mean over those makes the provider that
-- fails most look the fastest. A time before its own start is a clock fault and is left out as well.
with call as not materialized (
    select
        cast(started_at as date) as usage_day, cast(extract(hour from started_at) as bigint) as usage_hour,
        provider_name, request_model, response_model, coalesce(served_region, request_region) as region, service_tier,
        status, http_status, error_type, is_streaming,
        case when status = 'ok' and finished_at >= started_at then date_diff('microsecond', started_at, finished_at) / 1000.0 end as latency_ms,
        case when status = 'ok' and first_token_at >= started_at then date_diff('microsecond', started_at, first_token_at) / 1000.0 end as first_token_ms,
        coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) as output_tokens
    from core.inference
    where started_at >= $from_day and started_at < $to_day and usage_note is distinct from 'gateway_cache_hit'
),
named as materialized (
    select provider_name, request_model, response_model, coalesce(model_name(response_model), model_name(request_model)) as model_name
    from (select distinct provider_name, request_model, response_model from call) as asked
),
asked as materialized (
    -- The objective that names most of the call.
    select named.*, best.availability_target_share, best.first_token_target_ms, best.latency_target_ms, best.in_time_target_share
    from named
    left join (
        select
            named.provider_name, named.request_model, named.response_model,
            cast(aim.availability_target_share as double) as availability_target_share,
            cast(aim.first_token_target_ms as double) as first_token_target_ms,
            cast(aim.latency_target_ms as double) as latency_target_ms,
            cast(aim.in_time_target_share as double) as in_time_target_share,
            row_number() over (
                partition by named.provider_name, named.request_model, named.response_model
                order by aim.model_name is null, aim.provider_name is null) as place
        from named
        join reference.service_objective as aim
            on (aim.provider_name is null or aim.provider_name = named.provider_name)
            and (aim.model_name is null or aim.model_name = named.model_name)
    ) as best
        on best.place = 1 and best.provider_name is not distinct from named.provider_name
        and best.request_model is not distinct from named.request_model and best.response_model is not distinct from named.response_model
),
judged as (
    select
        call.*, asked.model_name, asked.availability_target_share, asked.in_time_target_share,
        case
            when call.status = 'ok' then 'ok'
            when call.http_status = 429 or (call.http_status is null and regexp_matches(lower(coalesce(call.error_type, '')), 'rate.?limit|throttl|too.?many')) then 'rate_limit'
            when call.http_status between 400 and 499 and call.http_status <> 408 then 'caller'
            else 'provider'
        end as outcome,
        case when call.first_token_ms <= call.latency_ms and call.output_tokens >= 2
             then (call.latency_ms - call.first_token_ms) / (call.output_tokens - 1) end as output_token_ms,
        case when asked.in_time_target_share is null then null
             when call.first_token_ms is not null and call.is_streaming is distinct from false then call.first_token_ms <= asked.first_token_target_ms
             else call.latency_ms <= asked.latency_target_ms end as is_in_time
    from call
    join asked
        on asked.provider_name is not distinct from call.provider_name
        and asked.request_model is not distinct from call.request_model and asked.response_model is not distinct from call.response_model
),
counted as (
    select
        usage_day, usage_hour, provider_name, model_name, region, service_tier,
        count(*) as call_count,
        count(*) filter (where outcome = 'ok') as ok_count,
        count(*) filter (where outcome = 'rate_limit') as rate_limit_count,
        count(*) filter (where outcome = 'provider') as provider_error_count,
        count(*) filter (where outcome = 'caller') as caller_error_count,
        count(latency_ms) as timed_count,
        count(first_token_ms) as first_token_count,
        quantile_cont(latency_ms, [0.5, 0.95, 0.99]) as latency,
        quantile_cont(first_token_ms, [0.5, 0.95, 0.99]) as first_token,
        quantile_cont(output_token_ms, [0.5, 0.95, 0.99]) as output_token,
        count(*) filter (where in_time_target_share is not null and (outcome in ('rate_limit', 'provider') or is_in_time is not null)) as judged_count,
        count(*) filter (where outcome = 'ok' and is_in_time) as in_time_count,
        max(availability_target_share) as availability_target_share,
        max(in_time_target_share) as in_time_target_share
    from judged
    group by usage_day, usage_hour, provider_name, model_name, region, service_tier
)
select
    *,
    latency[1] as latency_p50_ms, latency[2] as latency_p95_ms, latency[3] as latency_p99_ms,
    first_token[1] as first_token_p50_ms, first_token[2] as first_token_p95_ms, first_token[3] as first_token_p99_ms,
    output_token[1] as output_token_p50_ms, output_token[2] as output_token_p95_ms, output_token[3] as output_token_p99_ms,
    ok_count / nullif(call_count - caller_error_count, 0) as availability_share,
    rate_limit_count / call_count as rate_limit_share,
    (call_count - ok_count) / call_count as error_share,
    (1 - ok_count / nullif(call_count - caller_error_count, 0)) / nullif(1 - availability_target_share, 0) as availability_burn_ratio,
    in_time_count / nullif(judged_count, 0) as in_time_share,
    (1 - in_time_count / nullif(judged_count, 0)) / nullif(1 - in_time_target_share, 0) as in_time_burn_ratio
from counted
