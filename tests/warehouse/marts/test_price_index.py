"""Price index: what was paid in → levels by month, the first 1."""

from __future__ import annotations

import pytest

from tests.support.economy import build, draw
from tests.support.pricebook import connection


def test_a_model_that_comes_cheap_and_one_that_is_cut():
    """By hand: `a` halves its price in November, `b` comes in November and stays. The index knows only the cut, by a's shares."""
    con = connection()
    day = {"provider_name": "p", "service_tier": "standard", "context_above_tokens": 0, "token_class": "output_text"}
    draw(con, "marts.price_paid", [
        day | {"usage_day": "2026-10-03", "model_name": "a", "priced_tokens": 100, "list_cost_usd": 100},
        day | {"usage_day": "2026-11-03", "model_name": "a", "priced_tokens": 100, "list_cost_usd": 50},
        day | {"usage_day": "2026-11-04", "model_name": "b", "priced_tokens": 50, "list_cost_usd": 50},
        day | {"usage_day": "2026-12-04", "model_name": "a", "priced_tokens": 100, "list_cost_usd": 50},
        day | {"usage_day": "2026-12-04", "model_name": "b", "priced_tokens": 50, "list_cost_usd": 50},
        day | {"usage_day": "2026-12-04", "model_name": "free", "priced_tokens": 50, "list_cost_usd": 0},
    ])  # fmt: skip
    build(con, "marts.price_index")
    rows = con.execute("""select cast(month_day as varchar), geks_tornqvist, laspeyres, paasche, fisher, chained_tornqvist, matched_share, item_count
        from marts.price_index where token_class = 'all' order by 1""").fetchall()
    assert rows == [
        ("2026-10-01", *[pytest.approx(1)] * 5, 1, 1),
        ("2026-11-01", *[pytest.approx(0.5)] * 5, 0.5, 2),
        ("2026-12-01", *[pytest.approx(0.5)] * 5, 0.5, 2),
    ]
    assert con.execute("select count(*) from marts.price_index where token_class = 'output_text'").fetchone() == (3,)


def test_no_use_is_an_empty_index():
    con = connection()
    draw(con, "marts.price_paid", [])
    build(con, "marts.price_index")
    assert con.execute("select count(*) from marts.price_index").fetchone() == (0,)
