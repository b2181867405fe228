-- datasets.routing_split: groups and time. routing_group is made by pipelines/splits.py: connected components are no select.
-- Borders lie between calls in the order of time, at 70 % and 80 % of them; a group on both sides of one is used in none.
with placed as (
    select grouped.inference_id, grouped.group_key, log.started_at,
        row_number() over (order by log.started_at, log.inference_id) - 1 as place,
        count(*) over () as call_count
    from routing_group as grouped
    join datasets.routing_log as log on log.inference_id = grouped.inference_id
),
parted as (
    select *, case when place < 0.7 * call_count then 'train' when place < 0.8 * call_count then 'validation' else 'test' end as part
    from placed
)
select inference_id, started_at, group_key,
    case when min(part) over (partition by group_key) = max(part) over (partition by group_key) then part else 'straddling' end as split
from parted
