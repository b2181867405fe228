-- LMArena's ratings, wide: one row a day (first column, yyyymmdd, without a name), one column a model; 0.0 and nothing are "not rated".
with board as (
    -- Files of other days have other models; `columns` takes whatever there is.
    select filename, columns('^(column0*|day|date)$') as rated_on, columns(lambda name: not regexp_matches(name, '^(column0*|day|date|filename)$'))
    from read_csv($files, header = true, all_varchar = true, union_by_name = true, filename = true, hive_partitioning = false, max_line_size = 8388608)
),
rated as (
    unpivot board on columns(* exclude (filename, rated_on)) into name rated_name value rating
)
select
    filename as landing_file,
    'overall' as scale,
    rated_name,
    cast(strptime(regexp_replace(rated_on, '[^0-9]', '', 'g'), '%Y%m%d') as date) as rated_day,
    cast(rating as double) as rating
from rated
where cast(rating as double) <> 0
