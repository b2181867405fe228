-- Calls that a recipe speaks of, with all that the gates on calls ask; `refusal` says why one may not be used.
with consent as (
    -- The rule that names most binds, as a whole: what it leaves blank is taken from no other. Of equals, a no, then the one without a licence.
    select placed.tenant, placed.workload, arg_min({'is_allowed': rule.is_allowed, 'licence': rule.licence}, {'rank': rule.rank, 'licence': coalesce(rule.licence, '')}) as binding
    from (select distinct tenant, workload from core.inference) as placed
    join (
        select *, -2 * (case when tenant is null then 0 else 1 end) - 2 * (case when workload is null then 0 else 1 end)
            - (case when is_allowed then 0 else 1 end) as rank
        from (select nullif(tenant, '') as tenant, nullif(workload, '') as workload, lower(trim(is_allowed)) = 'yes' as is_allowed, nullif(trim(licence), '') as licence from reference.training_consent) as given
    ) as rule on (rule.tenant is null or rule.tenant = placed.tenant) and (rule.workload is null or rule.workload = placed.workload)
    group by placed.tenant, placed.workload
),
called as (
    select
        i.inference_id, i.started_at, i.source, i.tenant, i.workload, i.request_model, i.provider_name,
        thread_of(i.source, i.session_id, i.trace_id, i.inference_id) as conversation,
        i.finish_reason, i.status,
        coalesce(i.input_uncached_tokens, 0) + coalesce(i.cache_read_tokens, 0) + coalesce(i.cache_write_5m_tokens, 0) + coalesce(i.cache_write_1h_tokens, 0) as input_tokens,
        i.output_text_tokens,
        o.outcome_share, o.confidence_share, o.outcome_status, coalesce(o.is_matured, false) as is_matured, coalesce(o.is_conflicting, false) as is_conflicting,
        consent.binding.is_allowed as has_consent, consent.binding.licence as licence, lower(trim(terms.is_allowed)) = 'yes' as has_terms,
        region.jurisdiction
    from core.inference as i
    left join marts.call_outcome as o on o.inference_id = i.inference_id and o.started_at = i.started_at
    left join consent on consent.tenant is not distinct from i.tenant and consent.workload is not distinct from i.workload
    left join reference.provider_terms as terms on terms.provider_name = i.provider_name
    left join reference.region as region on region.region = i.served_region
    where ($from_day is null or i.started_at >= cast($from_day as date)) and ($until_day is null or i.started_at < cast($until_day as date))
      and ($sources is null or array_contains($sources, i.source)) and ($tenants is null or array_contains($tenants, i.tenant))
      and ($workloads is null or array_contains($workloads, i.workload)) and ($environments is null or array_contains($environments, i.environment))
      and ($models is null or array_contains($models, i.request_model))
      and is_generation(i.operation_name)
)
select *,
    case
        when status <> 'ok' then 'not answered'
        when has_consent is not null and not has_consent then 'consent refused'
        when $consent_is_required and has_consent is null then 'no consent known'
        when $licences is not null and not coalesce(array_contains($licences, licence), false) then 'licence not allowed'
        when $jurisdictions is not null and not coalesce(array_contains($jurisdictions, jurisdiction), false) then 'served elsewhere or unknown where'
        when coalesce(provider_name = $trains_provider, false) then null
        when has_terms is not null and not has_terms then 'provider terms forbid'
        when $is_distillation and has_terms is null then 'provider terms not known to allow distillation'
    end as refusal
from called
