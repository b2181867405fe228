-- marts.residency: did data stay where its policy allows?
--
-- Judged by served_region alone: where a call was sent says nothing about where a cross-region service ran it.
with call as (
    select
        cast(started_at as date) as usage_day, provider_name, tenant, team, environment, lower(request_region) as request_region,
        lower(served_region) as served_region, coalesce(usage_note = 'gateway_cache_hit', false) as is_not_sent,
        count(*) as call_count, count(*) filter (where status = 'error') as error_count,
        sum(coalesce(input_uncached_tokens, 0) + coalesce(cache_read_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
            + coalesce(cache_write_1h_tokens, 0) + coalesce(input_audio_tokens, 0) + coalesce(input_image_tokens, 0)) as input_tokens
    from core.inference
    where started_at >= $from_day and started_at < $to_day
    group by cast(started_at as date), provider_name, tenant, team, environment, lower(request_region), lower(served_region),
        coalesce(usage_note = 'gateway_cache_hit', false)
),
bound as (
    select whose.tenant, whose.team, whose.environment, rule.policy, rule.allowed,
        row_number() over (
            partition by whose.tenant, whose.team, whose.environment
            order by cast(rule.tenant is null as integer) + cast(rule.team is null as integer) + cast(rule.environment is null as integer), rule.policy
        ) as place
    from (select distinct tenant, team, environment from call) as whose
    join reference.residency_policy as rule
        on (rule.tenant is null or rule.tenant = whose.tenant) and (rule.team is null or rule.team = whose.team)
        and (rule.environment is null or rule.environment = whose.environment)
)
select
    call.*, bound.policy, bound.allowed, region.jurisdiction,
    case
        when is_not_sent then 'not_sent'
        when bound.policy is null then 'no_policy'
        when list_contains(string_split(lower(bound.allowed), ' '), served_region) then 'inside'
        when region.jurisdiction is null then 'unknown_region'
        when list_contains(string_split(lower(bound.allowed), ' '), region.jurisdiction) then 'inside'
        else 'outside'
    end as verdict
from call
left join bound
    on bound.place = 1 and bound.tenant is not distinct from call.tenant and bound.team is not distinct from call.team
    and bound.environment is not distinct from call.environment
left join reference.region as region on region.region = call.served_region
