"""Spend variance: use of two months in → what each cause did to spend out."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contracts import contract
from tests.support.economy import build, use, warehouse

EFFECTS = [n for n in contract("marts.spend_variance").names if n.endswith("_effect_usd")]


def effects(*rows, kind: str = "month") -> dict[str, float]:
    """Effects that are not zero, summed over all rows of the last period, in USD."""
    con = build(warehouse(rows), "marts.spend_variance")
    found = con.execute(f"""
        select {', '.join(f'cast(sum({e}) as double)' for e in EFFECTS)} from marts.spend_variance
        where period_kind = '{kind}' and period_day = (select max(period_day) from marts.spend_variance where period_kind = '{kind}')""").fetchone()
    return {e.removesuffix("_effect_usd"): round(v, 9) for e, v in zip(EFFECTS, found, strict=True) if v and abs(v) > 1e-9}


OLD = use("2026-10-05", input=(1000, 10.0), output=(500, 20.0))


@pytest.mark.parametrize(("after", "expected"), [
    (use("2026-11-05", input=(1000, 5.0), output=(500, 10.0)), {"price": -15}),
    (use("2026-11-05", call_count=200, input=(2000, 20.0), output=(1000, 40.0)), {"volume": 30}),
    (use("2026-11-05", input=(2000, 20.0), output=(500, 20.0)), {"prompt": 10}),
    (use("2026-11-05", input=(1000, 10.0), output=(1000, 40.0)), {"verbosity": 20}),
    # half of the calls failed, and cost all the same
    (use("2026-11-05", call_count=200, error_count=100, input=(2000, 20.0), output=(1000, 40.0)), {"retry": 30}),
    (use("2026-11-05", service_tier="batch", input=(1000, 5.0), output=(500, 10.0)), {"tier": -15}),
    (use("2026-11-05", context_above_tokens=200_000, input=(1000, 20.0), output=(500, 40.0)), {"context": 30}),
    (use("2026-11-05", workload="other", input=(1000, 10.0), output=(500, 20.0)), {}),
])
def test_one_cause_alone(after, expected):
    assert effects(OLD, after) == expected


def test_input_read_from_the_cache_is_the_cache():
    found = effects(OLD, use("2026-11-05", input=(500, 5.0), cache_read=(500, 0.5), output=(500, 20.0)))
    assert found == {"cache": -4.5}


def test_the_same_output_with_reasoning_in_it():
    found = effects(
        use("2026-10-05", output=(1000, 20.0), reasoning=(1000, 40.0)), use("2026-11-05", output=(500, 10.0), reasoning=(1500, 60.0)))
    assert found == {"reasoning": 10}


def test_a_model_that_replaces_another():
    assert effects(OLD, use("2026-11-05", "n", input=(1000, 2.0), output=(500, 4.0))) == {"new_model": 6, "retired_model": -30}


def test_a_model_that_others_know_is_no_new_model():
    other = {"tenant": "u", "input": (100, 1.0)}
    rows = [OLD, use("2026-11-05", "n", input=(1000, 2.0), output=(500, 4.0)), use("2026-10-05", "n", **other), use("2026-11-05", "n", **other),
            use("2026-10-05", **other), use("2026-11-05", **other)]
    assert effects(*rows) == {"mix": -24}


def test_a_workload_that_ends_is_volume():
    assert effects(OLD, use("2026-10-05", "n", workload="gone", input=(1, 7.0)), use("2026-11-05", input=(1000, 10.0), output=(500, 20.0))) == {"volume": -7}


def test_free_use_that_gets_a_price_is_price_and_unknown_cost_is_left_out():
    free = use("2026-10-05", input=(1000, 0.0), cost_status="free")
    unknown = use("2026-10-05", "x", input_uncached_tokens=1000, cost_status="unpriced", list_cost_usd=None)
    assert effects(free, unknown, use("2026-11-05", input=(1000, 3.0))) == {"price": 3}


def test_fees():
    assert effects(use("2026-10-05", request_cost_usd=1.0, list_cost_usd=1.0), use("2026-11-05", request_cost_usd=4.0, list_cost_usd=4.0)) == {"fee": 3}


def test_weeks_and_months_each_with_the_one_before():
    con = build(warehouse([OLD, use("2026-10-13", input=(1000, 11.0)), use("2026-11-05", input=(1000, 10.0))]), "marts.spend_variance")
    assert con.execute("""select period_kind, cast(period_day as varchar), is_complete, cast(sum(change_usd) as double)
        from marts.spend_variance group by all order by all""").fetchall() == [
        ("month", "2026-11-01", False, -31.0), ("week", "2026-10-12", True, -19.0), ("week", "2026-10-19", True, -11.0), ("week", "2026-11-02", False, 10.0),
    ]


def test_after_a_pause_of_over_a_month_begins_anew():
    rows = [OLD, use("2027-01-05", input=(1000, 10.0)), use("2027-01-13", input=(1000, 12.0))]
    con = build(warehouse(rows), "marts.spend_variance")
    assert con.execute("select cast(period_day as varchar), period_kind, cast(sum(change_usd) as double) from marts.spend_variance group by all").fetchall() == [
        ("2027-01-11", "week", 2.0)]


@settings(max_examples=4, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=30))
def test_a_month_built_alone_from_the_days_it_looks_at_is_as_when_all_are_built(days):
    """Whatever pauses there are: what the contract says of its reach is enough."""
    promised = contract("marts.spend_variance")
    rows = [use(str(date(2026, 1, 10) + timedelta(days=n)), "ab"[n % 2], input=(1000, 1.0 + n)) for n in days]
    whole = build(warehouse(rows), "marts.spend_variance").execute("from marts.spend_variance").fetchall()
    alone = []
    for month in sorted({row[0] for row in whole} | {date(2026, n, 1) for n in range(1, 10)}):
        first, after = month, promised.partition.end(month)
        low, high = first - timedelta(promised.reach.back_days), after + timedelta(promised.reach.ahead_days)
        con = warehouse([row for row in rows if str(low) <= row["usage_day"] < str(high)])
        alone += build(con, promised.table, days={"from_day": first, "to_day": after}).execute(f"from {promised.table}").fetchall()
    assert sorted(map(repr, alone)) == sorted(map(repr, whole))


def test_several_known_causes_at_once_are_told_apart():
    """Thirty cells: a third more calls, prices cut by a fifth, a tenth more output a call; what each did is known in closed form."""
    chance = random.Random(7)
    cells = [(m, w, chance.uniform(1, 9), chance.uniform(1, 9)) for m in "abcde" for w in "uvwxyz"]
    before = [use("2026-10-05", m, workload=w, input=(9000, i), output=(3000, o)) for m, w, i, o in cells]
    after = [use("2026-11-05", m, workload=w, call_count=130, input=(11_700, i * 1.3 * 0.8), output=(4290, o * 1.3 * 1.1 * 0.8)) for m, w, i, o in cells]
    mean = sum(i * (1.04 - 1) / math.log(1.04) for _, _, i, _ in cells)
    mean_output = sum(o * (1.144 - 1) / math.log(1.144) for _, _, _, o in cells)
    assert effects(*before, *after) == {
        "volume": pytest.approx((mean + mean_output) * math.log(1.3), rel=1e-9),
        "price": pytest.approx((mean + mean_output) * math.log(0.8), rel=1e-9),
        "verbosity": pytest.approx(mean_output * math.log(1.1), rel=1e-9),
    }


@st.composite
def usage(draw):
    """Use of two months with everything a warehouse can hold: models and workloads that come and go, zeros, free and failed calls."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    rows = []
    for day in ("2026-10-05", "2026-11-05"):
        for _ in range(chance.randint(1, 12)):
            parts = {
                name: (chance.choice([0, 1, 7, 10**chance.randint(1, 9)]), round(chance.choice([0, 1e-12, 10 ** chance.uniform(-9, 5)]), 12))
                for name in ("input", "cache_read", "cache_write_1h", "output", "reasoning", "input_media") if chance.random() < 0.6
            }
            parts = {n: (t, u if t else 0.0) for n, (t, u) in parts.items()}
            if "cache_write_1h" in parts:
                parts["cache_write"] = (0, 0.0)
            calls = chance.choice([0, 1, 3, 1000])
            rows.append(use(
                day, chance.choice("abc"), tenant=chance.choice(["t", None]), workload=chance.choice("xy"), call_count=max(calls, 1),
                service_tier=chance.choice(["standard", "batch"]), context_above_tokens=chance.choice([0, 200_000, None]),
                error_count=chance.choice([0, max(calls, 1)]), **{k: v for k, v in parts.items() if k != "cache_write"},
                **({"cache_write_cost_usd": parts["cache_write_1h"][1]} if "cache_write_1h" in parts else {}),
            ))
    return rows


@settings(max_examples=15, deadline=None)
@given(usage())
def test_effects_sum_to_the_change_whatever_happened(rows):
    con = build(warehouse(rows), "marts.spend_variance")
    total, change, largest = con.execute(f"""
        select sum({' + '.join(EFFECTS)}), sum(change_usd), max(abs(residual_usd) / greatest(list_cost_usd, previous_cost_usd, 0.001))
        from marts.spend_variance where period_kind = 'month'""").fetchone()
    before, after = con.execute("""
        select sum(list_cost_usd) filter (where usage_day < date '2026-11-01'), sum(list_cost_usd) filter (where usage_day >= date '2026-11-01')
        from marts.usage_daily""").fetchone()
    if change is not None:
        assert float(change) == pytest.approx(float(after or 0) - float(before or 0), abs=1e-9)
        assert abs(total - change) <= 1e-9 * max(float(before), float(after), 0.001)
        assert largest <= 1e-9
