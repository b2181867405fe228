-- marts.confusion: what the clusters and tests of pipelines/learn/confusion.py found (temp tables confusion_call, confusion_member and
-- confusion_cell), with what the calls of each cell cost and a few of them to look at. Clusters and their tests are no select.
with held as (
    select call.month_day, member.cluster_id, cast(null as varchar) as model_name, call.inference_id, call.thread, call.list_cost_usd, call.failure_share, call.sampled_share
    from confusion_call as call join confusion_member as member on member.inference_id = call.inference_id
    union all
    select call.month_day, member.cluster_id, call.model_name, call.inference_id, call.thread, call.list_cost_usd, call.failure_share, call.sampled_share
    from confusion_call as call join confusion_member as member on member.inference_id = call.inference_id
    where call.model_name is not null
),
-- The surest failures, one a thread.
ranked as (
    select month_day, cluster_id, model_name, inference_id, failure_share,
        row_number() over (partition by month_day, cluster_id, model_name order by failure_share desc, inference_id) as nth
    from (
        select *, row_number() over (partition by month_day, cluster_id, model_name, thread order by failure_share desc, inference_id) as nth_of_thread
        from held
        where failure_share >= 0.5
    ) as one
    where nth_of_thread = 1
),
example as (
    select month_day, cluster_id, model_name, to_json(list(inference_id order by nth)) as example_ids
    from ranked
    where nth <= 5
    group by month_day, cluster_id, model_name
),
paid as (
    select month_day, cluster_id, model_name, sum(list_cost_usd) as list_cost_usd, sum(cast(list_cost_usd as double) * failure_share) as failed_cost_usd, max(sampled_share) as sampled_share
    from held
    group by month_day, cluster_id, model_name
)
select
    cell.month_day, cell.cluster_id, cell.model_name, cell.label, cell.verdict,
    cell.call_count, cell.judged_count, cell.thread_count,
    cell.failure_share, cell.failure_share_low, cell.failure_share_high, cell.usual_failure_share, cell.failure_share / cell.usual_failure_share as lift,
    cell.chance_share, cell.false_discovery_share,
    cell.better_model_name, cell.better_failure_share, cell.better_false_discovery_share,
    paid.list_cost_usd, paid.failed_cost_usd, example.example_ids, paid.sampled_share
from confusion_cell as cell
join paid on paid.month_day = cell.month_day and paid.cluster_id = cell.cluster_id and paid.model_name is not distinct from cell.model_name
left join example on example.month_day = cell.month_day and example.cluster_id = cell.cluster_id and example.model_name is not distinct from cell.model_name
where cell.month_day >= $from_day and cell.month_day < $to_day
