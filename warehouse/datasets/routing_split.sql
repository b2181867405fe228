-- datasets.routing_split: groups and time. routing_group is made by pipelines/splits.py: connected components are no select.
-- Borders lie between calls in the order of time, at 70 % and 80 % of those that are matured (young ones cannot be used yet).
-- A group that lies on both sides of a border belongs to its first part or, by its hash in 7 cases of 16, to its last one; its other
-- calls are used in no split. A test then meets only what training has never seen, and later; and prompts that never end, as
-- templates do, are left for both.
with placed as (
    select grouped.inference_id, grouped.group_key, log.started_at,
        row_number() over (order by log.started_at, log.inference_id) as place,
        sum(case when log.is_matured then 1 else 0 end) over (order by log.started_at, log.inference_id rows between unbounded preceding and current row) as matured_before,
        greatest(1, sum(case when log.is_matured then 1 else 0 end) over ()) as matured_count
    from routing_group as grouped
    join datasets.routing_log as log on log.inference_id = grouped.inference_id
),
parted as (
    select *, case when matured_before <= 0.7 * matured_count then 'train' when matured_before <= 0.8 * matured_count then 'validation' else 'test' end as part
    from placed
),
owned as (
    select *,
        case when substring(md5(group_key), 1, 1) < '9' then first_value(part) over whole_group else last_value(part) over whole_group end as group_part
    from parted
    window whole_group as (partition by group_key order by place rows between unbounded preceding and unbounded following)
)
select inference_id, started_at, group_key, case when part = group_part then part else 'straddling' end as split
from owned
