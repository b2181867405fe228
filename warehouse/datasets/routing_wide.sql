-- datasets.routing_wide: prompts that two or more models answered, crossed with the models of their workload.
with answered as (
    select
        log.prompt_key, log.action, log.provider_name, log.workload, log.prompt, log.inference_id, log.started_at, log.reward, log.list_cost_usd, log.latency_ms, parts.split,
        coalesce(log.session_id is not null and min(log.started_at) over (partition by log.prompt_key, log.source, log.session_id) < log.started_at, false) as is_asked_again,
        count(distinct log.action) filter (where parts.split <> 'straddling') over (partition by log.prompt_key) >= 2 as is_in_one_split
    from datasets.routing_log as log
    join datasets.routing_split as parts on parts.inference_id = log.inference_id
    where log.prompt_key is not null and log.prompt is not null and log.is_matured and log.reward is not null
),
-- A prompt that is asked every week straddles: its answers of other parts are left out, and those of its own part are what is seen
-- of it. Where that leaves no two models, all of them stand here as straddling.
kept as (
    select *, row_number() over (partition by prompt_key, action order by started_at, inference_id) as nth
    from answered
    where split <> 'straddling' or not is_in_one_split
),
shared as (
    select prompt_key, min(workload) as workload, min(prompt) as prompt, case when bool_and(is_in_one_split) then min(split) else 'straddling' end as split
    from kept
    group by prompt_key
    having count(distinct action) >= 2
),
model as (
    select distinct shared.workload, kept.action
    from shared join kept on kept.prompt_key = shared.prompt_key
),
observed as (
    select prompt_key, action, count(*) as answer_count, avg(reward) as reward,
        max(case when nth = 1 then inference_id end) as inference_id, max(case when nth = 1 then started_at end) as started_at,
        max(case when nth = 1 then provider_name end) as provider_name, max(case when nth = 1 then list_cost_usd end) as list_cost_usd, max(case when nth = 1 then latency_ms end) as latency_ms,
        min(case when is_asked_again then 1 else 0 end) = 1 as is_asked_again
    from kept
    group by prompt_key, action
)
select
    shared.prompt_key, model.action, observed.prompt_key is not null as is_observed, shared.workload, shared.prompt, shared.split,
    observed.provider_name, observed.inference_id, observed.started_at, coalesce(observed.answer_count, 0) as answer_count, observed.reward, observed.list_cost_usd, observed.latency_ms,
    answer_text(content.output_messages) as response, observed.is_asked_again
from shared
join model on model.workload is not distinct from shared.workload
left join observed on observed.prompt_key = shared.prompt_key and observed.action = model.action
left join core.inference_content as content on content.inference_id = observed.inference_id and content.started_at = observed.started_at
