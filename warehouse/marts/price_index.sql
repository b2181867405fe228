-- marts.price_index: what a unit of inference costs us over time, the mix held fixed. The levels come from
-- pipelines/economy/index_numbers.py (temp table price_index_level), as multilateral indices are beyond plain SQL.
select
    token_class,
    month_day,
    item_count,
    list_cost_usd,
    geks_tornqvist,
    geks_tornqvist / lag(geks_tornqvist) over (partition by token_class order by month_day) - 1 as month_change_share,
    geks_tornqvist / lag(geks_tornqvist, 12) over (partition by token_class order by month_day) - 1 as year_change_share,
    laspeyres,
    paasche,
    sqrt(laspeyres * paasche) as fisher,
    chained_tornqvist,
    matched_share,
    splice_spread as splice_spread_share
from price_index_level
