-- marts.sovereignty: what could be self-hosted, and when it would pay.
with hour as (
    select
        cast(started_at as date) as usage_day, extract(hour from started_at) as usage_hour, provider_name, model_name,
        count(*) as call_count, sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) as used_tokens, sum(list_cost_usd) as list_cost_usd
    from marts.call_cost
    where started_at >= $from_day and started_at < $to_day
    group by cast(started_at as date), extract(hour from started_at), provider_name, model_name
),
day as (
    select usage_day, provider_name, model_name, sum(call_count) as call_count, sum(used_tokens) as used_tokens, max(used_tokens) as peak_hour_tokens,
        sum(list_cost_usd) as list_cost_usd
    from hour
    group by usage_day, provider_name, model_name
),
audited as (
    select usage_day, provider_name, model_name(coalesce(response_model, request_model)) as model_name, sum(audited_count) as audited_count
    from (
        select cast(started_at as date) as usage_day, provider_name, request_model, response_model,
            count(*) filter (where provider_name is not null and response_model is not null and served_region is not null and finished_at is not null
                and coalesce(tenant, team, user_id) is not null) as audited_count
        from core.inference
        where started_at >= $from_day and started_at < $to_day
        group by cast(started_at as date), provider_name, request_model, response_model
    ) as pair
    group by usage_day, provider_name, model_name(coalesce(response_model, request_model))
),
weights as (
    select model_name, bool_or(is_open_weights) as is_open_weights from core.model group by model_name
),
plan as (
    select seen.model_name, way.gpu_name, cast(way.gpu_count as bigint) as gpu_count, cast(way.tokens_per_s as double) as tokens_per_s,
        cast(rent.rent_usd_per_gpu_hour as decimal(18, 6)) as rent_usd_per_gpu_hour,
        case when way.source = rent.source then way.source else way.source || ', rent: ' || rent.source end as plan_source,
        row_number() over (partition by seen.model_name order by cast(way.line_no as bigint)) as place
    from (select distinct model_name from day) as seen
    join weights on weights.model_name = seen.model_name and weights.is_open_weights
    join reference.self_hosting as way on regexp_matches(seen.model_name, way.model_pattern)
    join reference.gpu_rent as rent on rent.gpu_name = way.gpu_name
),
planned as (
    select
        day.*, weights.is_open_weights, coalesce(audited.audited_count, 0) as audited_count,
        plan.gpu_name, plan.gpu_count, plan.tokens_per_s as replica_tokens_per_s, plan.plan_source,
        plan.gpu_count * 24 * plan.rent_usd_per_gpu_hour as replica_cost_usd,
        greatest(1, cast(ceil(peak_hour_tokens / 3600 / plan.tokens_per_s) as bigint)) as peak_replica_count
    from day
    left join audited
        on audited.usage_day = day.usage_day and audited.provider_name is not distinct from day.provider_name
        and audited.model_name is not distinct from day.model_name
    left join weights on weights.model_name = day.model_name
    left join plan on plan.place = 1 and plan.model_name = day.model_name
)
select
    *,
    audited_count / call_count as audit_share,
    case when gpu_name is not null then peak_replica_count end as replica_count,
    peak_replica_count * replica_cost_usd as self_hosted_cost_usd,
    list_cost_usd - peak_replica_count * replica_cost_usd as self_hosted_saving_usd,
    case when gpu_name is not null then used_tokens / (peak_replica_count * replica_tokens_per_s * 86400) end as utilisation_share,
    replica_cost_usd * used_tokens / nullif(list_cost_usd, 0) / (replica_tokens_per_s * 86400) as break_even_utilisation_share,
    replica_cost_usd * used_tokens / nullif(list_cost_usd, 0) as break_even_tokens
from planned
