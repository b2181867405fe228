-- A catalogue of models with arena ratings (overall, hard prompts, coding) as of the day it was fetched; its prices are not used.
with catalogue as (
    select filename, model, overall, hard, coding
    from read_csv($files, header = true, all_varchar = true, union_by_name = true, filename = true, hive_partitioning = false)
),
rated as (
    unpivot catalogue on overall, hard, coding into name scale value rating
)
select
    filename as landing_file,
    scale,
    trim(model) as rated_name,
    cast(null as date) as rated_day,
    cast(rating as double) as rating
from rated
where try_cast(rating as double) > 0 and trim(model) <> ''
