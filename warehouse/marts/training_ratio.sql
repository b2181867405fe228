-- marts.training_ratio: inference spend over a model version's life against its training or fine-tuning spend, where recorded.
with used as (
    select model_name, usage_day, sum(call_count) as call_count, sum(list_cost_usd) as list_cost_usd
    from marts.spend_daily
    where model_name is not null
    group by model_name, usage_day
),
trained as (
    select model_name(model_name) as model_name, sum(cast(spend_usd as decimal(38, 12))) as training_cost_usd
    from reference.training_spend
    group by model_name(model_name)
),
so_far as (
    select *, sum(list_cost_usd) over (partition by model_name order by usage_day) as inference_cost_usd from used
),
life as (
    select so_far.model_name, min(usage_day) as first_usage_day, max(usage_day) as last_usage_day, sum(call_count) as call_count,
        sum(list_cost_usd) as inference_cost_usd, min(usage_day) filter (where so_far.inference_cost_usd >= training_cost_usd) as overtaken_day
    from so_far
    left join trained on trained.model_name = so_far.model_name
    group by so_far.model_name
)
select
    coalesce(life.model_name, trained.model_name) as model_name, first_usage_day, last_usage_day, coalesce(call_count, 0) as call_count,
    inference_cost_usd, training_cost_usd, overtaken_day,
    cast(inference_cost_usd as double) / nullif(cast(training_cost_usd as double), 0) as inference_to_training_ratio
from life
full join trained on trained.model_name = life.model_name
