"""Demand elasticity: what was paid and used by day in → one answer a horizon, or the reason why there is none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.economy import build, draw
from tests.support.pricebook import connection


def test_from_daily_use_to_the_answer():
    """Ten models over sixteen weeks; three are cut by half and used one and a half times as much from that week on."""
    con = connection()
    draw(con, "marts.price_paid", [])
    con.execute("""
        insert into marts.price_paid by name
        select date '2026-01-05' + cast(7 * week + day as integer) as usage_day, 'p' as provider_name, 'm' || model as model_name, 'standard' as service_tier,
            0 as context_above_tokens, token_class, tokens as priced_tokens,
            tokens * usd * (1 + model) * case when is_cut then 0.5 else 1 end as list_cost_usd
        from (
            select *, model < 3 and week >= 6 + model as is_cut,
                round(1000000 * (1 + model) * case when is_cut then 1.5 else 1 end * (1 + week / 50) * (1 + (model * 7 + week * 3) % 5 / 1000)) as tokens
            from range(10) as m (model), range(16) as w (week), (values (0), (6)) as d (day), (values ('input_uncached', 1e-6), ('output_text', 5e-6)) as c (token_class, usd)
        ) as use""")
    build(con, "marts.demand_elasticity")
    now, later = con.execute("select identification, elasticity, naive_elasticity, changed_model_count, week_count from marts.demand_elasticity order by horizon_weeks").fetchall()
    expected = np.log(1.5) / np.log(0.5)
    assert now[0] == later[0] == "identified"
    assert now[1] == pytest.approx(expected, abs=0.02)
    assert later[1] == pytest.approx(expected, abs=0.05)
    assert now[2] > 0
    assert now[3] == 3


def test_no_use_says_so():
    con = connection()
    draw(con, "marts.price_paid", [])
    build(con, "marts.demand_elasticity")
    assert con.execute("select horizon_weeks, identification, reason, week_count, naive_elasticity from marts.demand_elasticity").fetchall() == [
        (horizon, "not identified", "0 weeks to compare, 8 are needed", 0, None) for horizon in (0, 3)]


def test_use_without_a_change_of_price_says_so():
    con = connection()
    draw(con, "marts.price_paid", [])
    con.execute("""
        insert into marts.price_paid by name
        select date '2026-01-05' + cast(day as integer) as usage_day, 'p' as provider_name, 'm' || model as model_name, 'standard' as service_tier,
            0 as context_above_tokens, 'output_text' as token_class, 1000 + day as priced_tokens, (1000 + day) * (1 + model) as list_cost_usd
        from range(5) as m (model), range(100) as d (day)""")
    build(con, "marts.demand_elasticity")
    assert con.execute("select distinct identification, elasticity, price_change_count from marts.demand_elasticity").fetchall() == [("not identified", None, 0)]
    assert "price of 0 models changed" in con.execute("select min(reason) from marts.demand_elasticity").fetchone()[0]
