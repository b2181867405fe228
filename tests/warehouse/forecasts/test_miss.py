"""forecasts.miss by hand: one thing is wrong at a time, and the miss is given to it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pytest
import sqlglot

SQL = (Path(__file__).parents[3] / "warehouse/forecasts/miss_effects.sql").read_text()
CLASSES = ("input_uncached", "cache_read", "cache_write", "input_media", "output_text", "reasoning", "output_media", "request")


def miss(*days: tuple[str, str, int, int, float, float], forecast: dict[str, float], cached: float = 0) -> dict[str, dict[str, float]]:
    """Effects by model. A day is (day, model, calls, input tokens a call, USD per token, USD in all or 0 for their product)."""
    con = duckdb.connect()
    con.execute("create schema marts; create schema forecasts")
    con.execute("create table forecasts.spend as select * from (values (timestamp '2026-10-01', 'part', 't', 'w', 'p', 'm', date '2026-10-01', 0.0::double)) as v (origin_at, level, tenant, workload, provider_name, model_name, usage_day, forecast_usd) limit 0")
    for model, usd in forecast.items():
        con.execute("insert into forecasts.spend values (timestamp '2026-10-01', 'part', 't', 'w', 'p', ?, date '2026-10-01', ?)", [model, usd])
    columns = ", ".join(f"0 as {c}_tokens, 0.0::double as {c}_cost_usd" for c in CLASSES if c not in ("cache_write", "request"))
    con.execute(f"""create table marts.usage_daily as select date '2026-10-01' as usage_day, 't' as tenant, 'w' as workload, 'p' as provider_name, 'm' as model_name, 'priced' as cost_status,
        0 as charged_count, {columns}, 0 as cache_write_5m_tokens, 0 as cache_write_1h_tokens, 0.0::double as cache_write_cost_usd, 0.0::double as request_cost_usd, 0.0::double as list_cost_usd limit 0""")
    for day, model, calls, tokens, price, _ in days:
        read = round(calls * tokens * cached) if day >= "2026-10-01" else 0
        fresh = calls * tokens - read
        con.execute(
            """insert into marts.usage_daily by name select cast($day as date) as usage_day, 't' as tenant, 'w' as workload, 'p' as provider_name, $model as model_name,
            'priced' as cost_status, $calls as charged_count, $fresh as input_uncached_tokens, $read as cache_read_tokens, $fresh * $price as input_uncached_cost_usd,
            $read * $price * 0.1 as cache_read_cost_usd, $fresh * $price + $read * $price * 0.1 as list_cost_usd""",
            {"day": day, "model": model, "calls": calls, "fresh": fresh, "read": read, "price": price})
    rows = con.execute(SQL, {"origin_at": datetime(2026, 10, 1), "to_day": "2026-10-02"}).df()
    assert (rows["miss_usd"] == rows[[c for c in rows.columns if c.endswith("_effect_usd")]].sum(axis=1) + rows["unexplained_usd"]).all() or len(rows)
    return {row["model_name"]: {c.removesuffix("_effect_usd"): row[c] for c in rows.columns if c.endswith("_effect_usd")} | {"miss": row["miss_usd"], "unexplained": row["unexplained_usd"]}
            for row in rows.to_dict("records")}


BEFORE = ("2026-09-30", "m", 100, 10, 0.01, 0)  # 10 USD a day


@pytest.mark.parametrize(("came", "cause", "usd"), [
    (("2026-10-01", "m", 200, 10, 0.01, 0), "volume", 10.0),
    (("2026-10-01", "m", 100, 10, 0.02, 0), "price", 10.0),
    (("2026-10-01", "m", 100, 5, 0.01, 0), "tokens_per_call", -5.0),
])
def test_one_cause_has_it_all(came: tuple, cause: str, usd: float) -> None:
    found = miss(BEFORE, came, forecast={"m": 10.0})["m"]
    assert found.pop("miss") == pytest.approx(usd) and found.pop(cause) == pytest.approx(usd)
    assert list(found.values()) == pytest.approx([0.0] * len(found))


def test_caching_is_told_from_tokens_and_price() -> None:
    found = miss(BEFORE, ("2026-10-01", "m", 100, 10, 0.01, 0), forecast={"m": 10.0}, cached=0.5)["m"]
    assert found["miss"] == pytest.approx(-4.5) and found["token_class"] == pytest.approx(-4.5) and found["volume"] == pytest.approx(0)


def test_a_move_between_models_is_mix_and_a_launch_too() -> None:
    found = miss(BEFORE, ("2026-09-30", "n", 100, 10, 0.03, 0), ("2026-10-01", "m", 50, 10, 0.01, 0), ("2026-10-01", "n", 150, 10, 0.03, 0), forecast={"m": 10.0, "n": 30.0})
    assert found["m"]["mix"] == pytest.approx(-5) and found["n"]["mix"] == pytest.approx(15)
    launched = miss(BEFORE, ("2026-10-01", "m", 100, 10, 0.01, 0), ("2026-10-01", "new", 10, 10, 0.01, 0), forecast={"m": 10.0})
    assert launched["new"]["mix"] == pytest.approx(1.0) and sum(v["miss"] for v in launched.values()) == pytest.approx(1.0)


def test_several_causes_add_up() -> None:
    found = miss(BEFORE, ("2026-10-01", "m", 250, 7, 0.013, 0), forecast={"m": 14.0}, cached=0.2)["m"]
    assert found["miss"] == pytest.approx(250 * 7 * 0.013 * 0.82 - 14) and found["unexplained"] == pytest.approx(0, abs=1e-9)
    assert found["volume"] > 0 > found["tokens_per_call"]


def test_a_forecast_of_what_was_never_used_is_said_to_be_unexplained() -> None:
    assert miss(BEFORE, ("2026-10-01", "m", 100, 10, 0.01, 0), forecast={"m": 10.0, "ghost": 4.0})["ghost"]["unexplained"] == pytest.approx(-4)


def test_spark_can_run_it() -> None:
    assert sqlglot.parse_one(SQL, read="duckdb").sql(dialect="spark")
