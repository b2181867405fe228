-- marts.demand_elasticity: how use responded to price. The estimate comes from pipelines/economy/elasticity.py (temp table
-- elasticity), as a regression with clustered errors is beyond plain SQL.
select
    horizon_weeks,
    case when reason is null then 'identified' else 'not identified' end as identification,
    reason,
    elasticity,
    standard_error as elasticity_standard_error,
    low as elasticity_low,
    high as elasticity_high,
    price_change_count,
    changed_model_count,
    model_count,
    week_count,
    naive_elasticity
from elasticity
