-- marts.reconciliation: does the warehouse hold what the sources gave? Rows and reported spend, source by source.
with told as (
    select
        source, target_table, count(*) as file_count, sum(byte_count) as byte_count, sum(line_count) as line_count, sum(record_count) as record_count,
        sum(context_count) as context_count, sum(duplicate_count) as duplicate_count, sum(quarantined_count) as quarantined_count,
        sum(kept_count) - sum(superseded_count) - sum(coalesce(expired_count, 0)) as expected_rows, sum(reported_cost_usd) as reported_cost_usd,
        sum(superseded_count) as superseded_count
    from core.landing_file
    group by source, target_table
),
held as (
    select source, 'core.inference' as target_table, count(*) as row_count, sum(reported_cost_usd) as held_cost_usd from core.inference group by source
    union all
    select source, 'core.feedback', count(*), null from core.feedback group by source
    union all
    select feed, 'core.price_quote', count(*), null from core.price_quote group by feed
    union all
    select source, 'core.capability', count(*), null from core.capability group by source
),
listed as (
    select source, sum(list_cost_usd) as list_cost_usd from marts.call_cost group by source
)
select
    told.source, told.target_table, file_count, byte_count, line_count, record_count, context_count, duplicate_count, superseded_count,
    quarantined_count, expected_rows, coalesce(row_count, 0) as row_count, coalesce(row_count, 0) - expected_rows as row_difference,
    case when told.target_table = 'core.inference' then told.reported_cost_usd end as reported_cost_usd,
    case when told.target_table = 'core.inference' then coalesce(held_cost_usd, 0) end as held_cost_usd,
    case when told.target_table = 'core.inference' then list_cost_usd end as list_cost_usd,
    case when told.target_table = 'core.inference' and told.reported_cost_usd > 0
         then cast(list_cost_usd / told.reported_cost_usd as double) end as list_to_reported_ratio
from told
left join held on held.source = told.source and held.target_table = told.target_table
left join listed on listed.source = told.source
