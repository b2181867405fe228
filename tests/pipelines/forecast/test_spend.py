"""Spend forecasts: no leaks, sums that are exact, sensible answers for odd series, intervals that cover."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipelines.errors import NotConfigured, StopTheLine
from pipelines.forecast import fan, methods, rolling, scenario, spend
from pipelines.forecast.tables import explain_misses, forecast_spend, what_if
from tests.benchmarks.forecast_spend import simulated


def series(values: np.ndarray, first: date = date(2026, 1, 1)) -> spend.Series:
    keys = pd.DataFrame({"tenant": [f"t{n % 3}" for n in range(len(values))], "workload": "chat", "provider_name": ["anthropic", "openai"][: len(values)] * (len(values) // 2) + ["openai"] * (len(values) % 2), "model_name": [f"m{n}" for n in range(len(values))]})
    return spend.Series(keys, values, first)


def test_what_comes_after_an_origin_changes_no_forecast_of_it() -> None:
    values = simulated(12, 200, seed=3)
    other = values.copy()
    other[:, 170:] = np.random.default_rng(0).permuted(other[:, 170:], axis=1) * 7
    origins = [100, 114, 128, 142, 156, 170]
    one, two = (rolling.run(v, origins, 7, 14) for v in (values, other))
    assert (one.points == two.points).all() and (one.quantiles == two.quantiles).all() and (one.shipped == two.shipped).all()
    assert (values[:, 170:] != other[:, 170:]).any()


def test_methods_know_their_textbook_cases() -> None:
    weeks = np.tile([1.0, 2, 3, 4, 5, 6, 7], 8)[None, :]
    assert methods.seasonal_naive(weeks, 7, 9)[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert methods.naive(weeks, 7, 2)[0].tolist() == [7, 7]
    assert methods.drift(np.arange(10.0)[None, :], 7, 3)[0].tolist() == [10, 11, 12]
    told = methods.all_points(np.full((1, 60), 3.0), 7, 20)
    assert {name: np.allclose(points, 3) for name, points in told.items()} == dict.fromkeys(told, True)


@pytest.mark.parametrize("values", [
    np.zeros((2, 100)), np.full((2, 100), 3.0), np.full((2, 100), np.nan), np.ones((2, 1)), np.ones((2, 6)), np.ones((2, 20)),
    np.where(np.arange(100) % 10 == 3, np.nan, 2.0) * np.ones((2, 1)), np.where(np.arange(100) < 60, 5.0, 0.0) * np.ones((2, 1)),
], ids=["zero", "constant", "empty", "one day", "six days", "twenty days", "gaps", "ended"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_odd_series_have_sensible_forecasts(values: np.ndarray) -> None:
    found = spend.forecast(series(values), 30)
    rows = found.rows()
    quantiles = rows[spend.QUANTILE_COLUMNS].to_numpy(dtype=float)
    assert np.isfinite(quantiles).all() and (np.diff(quantiles, axis=1) >= 0).all() and (quantiles >= 0).all()
    points = found.told.points[-1]
    assert np.isfinite(points).all() and np.allclose(points, np.nan_to_num(values[:, -1:]))


def test_where_nothing_beats_the_naive_the_naive_is_given() -> None:
    walk = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.05, (6, 250)), axis=1))
    found = spend.forecast(series(walk), 14).rows()
    parts = found[found["level"] == "part"]
    assert parts["is_naive"].mean() > 0.5 and set(parts.loc[parts["is_naive"], "method"]) <= {"naive", "seasonal_naive"}


def test_with_a_short_history_the_naive_is_given() -> None:
    values = np.random.default_rng(1).gamma(4, 0.25, (6, 120))  # noise around a level: a mean beats any last value
    told = rolling.run(values, list(range(14, 99, 7)), 7, 21)
    ships = (told.shipped != told.best_naive).any(axis=1)
    assert not ships[: rolling.FEWEST_ORIGINS].any() and ships[rolling.FEWEST_ORIGINS:].all()
    assert (told.points[3] == rolling._pick(told.candidates, told.best_naive)[3]).all()


def test_intervals_cover_and_what_ships_beats_the_naive() -> None:
    values = simulated(80, 330, seed=5)
    origins = list(range(330 - 28 - 19 * 14, 330 - 27, 14))
    rows = rolling.scored(rolling.run(values, origins, 7, 28), values, 7, 8)
    total = {r["method"]: r for r in rows if (r["first_step"], r["last_step"]) == (1, 28)}
    assert total["shipped"]["scrps"] < 0.98 * total["best_naive"]["scrps"]
    assert 0.85 <= total["shipped"]["coverage_90_share"] <= 0.95


def test_crps_of_a_point_is_its_absolute_error() -> None:
    assert rolling.pinball(np.array([5.0]), np.full((1, 7), 3.0)) == pytest.approx([2.0])


def test_a_scenario_is_applied_to_points_and_quantiles_and_adds_up() -> None:
    found = spend.forecast(series(np.full((2, 40), 10.0)), 3)
    keys = pd.concat([found.series.keys, found.series.keys[:1].assign(model_name="m9")], ignore_index=True)
    rows = found.rows(scenario.Answer(keys, np.array([[0.5, 0], [0, 2.0], [0.25, 0]]), []))
    assert rows.loc[rows["level"] == "part", "forecast_usd"].astype(float).round(9).tolist() == [5.0] * 3 + [20.0] * 3 + [2.5] * 3
    assert rows.loc[rows["model_name"] == "m9", "method"].tolist() == ["scenario"] * 3
    assert rows.loc[rows["level"] == "total", "forecast_q50_usd"].tolist() == pytest.approx([27.5] * 3)


def test_parts_meet_the_total_where_that_helped_before() -> None:
    """Parts that each forecast noise, and a total that is known: what is missing goes to the parts by how wrong they were."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, [[1.0], [3.0]], (2, 120))
    values = np.vstack([50 + noise[0] - noise[1] / 3, 50 - noise[0] + noise[1] / 3])  # sums to 100
    at = np.arange(20, 120, 5)
    seen = rolling.targets(values, at, 5)
    parts = np.nan_to_num(seen) + rng.normal(0, 1, (len(at), 2, 5)) * np.array([2.0, 6.0])[:, None]
    total = np.full((len(at), 5), 100.0)
    moved, chosen = rolling.reconcile(parts, total, values, values.sum(axis=0), at)
    assert not chosen[0] and chosen[5:].all()
    late = slice(8, -1)
    assert np.abs(moved[late].sum(axis=1) - 100).mean() < 0.2 * np.abs(parts[late].sum(axis=1) - 100).mean()
    shift = np.abs(moved - parts)[late].mean(axis=(0, 2))
    assert 6 < shift[1] / shift[0] < 13  # 36 over 4
    worse, chosen = rolling.reconcile(parts, total * 3, values, values.sum(axis=0), at)
    assert not chosen.any() and (worse == parts).all()


USAGE = "usage_day date, tenant varchar, workload varchar, provider_name varchar, model_name varchar, list_cost_usd decimal(38, 12), call_count bigint"


def test_a_day_whose_cost_is_not_known_is_none_of_nothing() -> None:
    """`a` costs 100 a day until its calls can no longer be costed, `b` 1 a day but for one, `c` never had a cost; of the last two days nothing is known."""
    with duckdb.connect() as con:
        con.execute(f"create schema marts; create table marts.usage_daily ({USAGE})")
        for model, cost in (("a", "case when n < 40 then 100 end"), ("b", "case when n < 50 and n <> 45 then 1 end"), ("c", "null")):
            con.execute(f"""insert into marts.usage_daily select date '2026-09-01' + n::int, 't', 'w', 'lab', '{model}', {cost}, 100 from range(52) r (n)
                where '{model}' <> 'b' or n <> 20""")
        seen = spend.read(con)
    assert seen.keys["model_name"].tolist() == ["a", "b"] and seen.end == date(2026, 10, 21)
    a, b = seen.values
    assert a[:40].tolist() == [100] * 40 and np.isnan(a[40:]).all()
    # Without calls it is a zero, as before.
    assert (b[20], np.isnan(b).nonzero()[0].tolist()) == (0, [45])
    found = spend.forecast(seen, 7)
    assert np.allclose(found.told.points[-1], [[100] * 7, [1] * 7]) and np.allclose(found.total.points[-1], 101)
    assert found.total_method == "sum, 2 parts with days of unknown cost" and set(found.rows()["method"]) >= {found.total_method}
    month = found.budget(5000)
    assert (month.spent_usd, month.expected_usd, month.uncosted_days) == (pytest.approx(10 * 100 + 19), pytest.approx(1019 + 7 * 101), 10)
    assert "$1,019.00 spent (without what is unknown of 10 days), " in str(month)


def test_what_comes_after_the_origin_changes_neither_parts_nor_total_nor_budget() -> None:
    values = simulated(4, 112, seed=6)
    spoilt = values.copy()
    spoilt[:, 84:] = np.random.default_rng(0).permuted(spoilt[:, 84:], axis=1) * 9
    assert not np.array_equal(np.nan_to_num(values[:, 84:]), np.nan_to_num(spoilt[:, 84:]))
    before, after = (spend.forecast(series(v[:, :84]), 20) for v in (values, spoilt))
    pd.testing.assert_frame_equal(before.rows(), after.rows())
    # Of longer histories too: what was forecast from an origin on the way is the same.
    one, two = (spend.forecast(series(v), 20) for v in (values, spoilt))
    on_the_way = [n for n, o in enumerate(one.told.origins) if o <= 84]
    for name in ("points", "quantiles"):
        for level in ("told", "total"):
            np.testing.assert_array_equal(getattr(getattr(one, level), name)[on_the_way], getattr(getattr(two, level), name)[on_the_way])


def test_a_budget_is_passed_on_the_day_it_runs_out() -> None:
    found = spend.forecast(series(np.random.default_rng(2).gamma(100, 0.1, (2, 195))), 30)  # until 2026-07-14, about 20 a day
    assert found.series.end == date(2026, 7, 15)
    sure, never, even = (found.budget(usd) for usd in (400, 2000, 620))
    assert sure.probability_share > 0.95 and never.probability_share < 0.05 and 0.05 < even.probability_share < 0.95
    assert date(2026, 7, 18) <= sure.passed_day <= date(2026, 7, 23) and never.passed_day is None


@pytest.mark.parametrize("days", [60, 15])
def test_what_is_spent_stays_spent_however_short_the_history(days: int) -> None:
    found = spend.forecast(series(np.full((1, days), 7.0), date(2026, 10, 20) - timedelta(days)), 30)
    assert found.series.end == date(2026, 10, 20)
    seen = min(days, 19)
    passed, nearly = found.budget(50), found.budget(7 * seen + 3)
    assert (passed.spent_usd, passed.probability_share, passed.passed_day) == (7 * seen, 1.0, date(2026, 10, 20 - seen + 7))
    assert str(passed).endswith(f"probability of exceeding it 100%; passed on 2026-10-{20 - seen + 7:02}")
    assert nearly.passed_day == date(2026, 10, 20) and str(nearly).endswith("expected to be passed on 2026-10-20")


def test_a_budget_is_judged_on_what_a_scenario_makes_of_the_days_ahead() -> None:
    found = spend.forecast(series(np.random.default_rng(2).gamma(100, 0.1, (2, 195))), 30)
    plain = found.budget(620)

    def answered(usd: float, *factors: float) -> spend.Budget:
        return found.budget(usd, scenario.Answer(found.series.keys, np.diag(factors), []))

    assert answered(620, 1, 1) == plain
    ahead = plain.expected_usd - plain.spent_usd
    twice = answered(plain.spent_usd + 2 * (620 - plain.spent_usd), 2, 2)
    assert twice.spent_usd == plain.spent_usd and twice.expected_usd == pytest.approx(plain.spent_usd + 2 * ahead)
    assert twice.probability_share == pytest.approx(plain.probability_share) and twice.passed_day == plain.passed_day
    one_part = answered(620, 0.5, 1)
    assert plain.expected_usd - one_part.expected_usd == pytest.approx(found.told.points[-1, 0, :17].sum() / 2)
    assert answered(620, 0, 0).probability_share < 1e-9 and answered(620, 1.5, 1.5).probability_share > 0.95


def test_the_warehouse_is_forecast_and_parts_add_up_exactly(world, tmp_path) -> None:
    found = forecast_spend(world.settings, days=10)
    forecast_spend(world.settings, days=10)
    off = world.ask("""
        select count(*), max(abs(whole - parts)) from (
            select usage_day, sum(forecast_usd) filter (where level = 'total') as whole, sum(forecast_usd) filter (where level = 'part') as parts
            from forecasts.spend group by usage_day)""")
    assert off == [(10, Decimal(0))]
    assert world.ask("select count(distinct origin_at), bool_and(is_naive) from forecasts.spend") == [(1, True)]
    png, page = fan.draw_total(found, found.rows(), tmp_path / "fan")
    assert png.read_bytes()[:4] == b"\x89PNG" and "<svg" in page.read_text()


def test_a_scenario_costs_the_warehouse_anew(world) -> None:
    found = forecast_spend(world.settings, days=5)
    name = found.series.keys["provider_name"].dropna().iloc[0]
    rows = found.rows(what_if(world.settings, found, f"price({name}) * 0.5"))
    plain = found.rows()
    ours = (rows["level"] == "part") & (rows["provider_name"] == name)
    assert rows.loc[ours, "forecast_usd"].astype(float).to_numpy() == pytest.approx(plain.loc[ours, "forecast_usd"].astype(float).to_numpy() / 2)
    rest = (rows["level"] == "part") & ~ours
    assert rows.loc[rest, "forecast_usd"].astype(float).to_numpy() == pytest.approx(plain.loc[rest, "forecast_usd"].astype(float).to_numpy())
    with pytest.raises(NotConfigured, match="did you mean"):
        what_if(world.settings, found, f"price({name}x) * 0.5")


def test_migrations_and_cache_shares_are_costed_at_the_warehouse_s_own_prices(world) -> None:
    """Parts without a provider or workload among them."""
    found = forecast_spend(world.settings, days=5)
    unsaid = found.series.keys.loc[found.series.keys["provider_name"].isna() & found.series.keys["model_name"].notna(), "model_name"]
    assert len(unsaid)
    plain = found.told.points[-1].sum()
    model = found.series.keys.loc[found.series.keys["provider_name"].notna(), "model_name"].dropna().iloc[0]
    for text in (f"migrate({model} -> {unsaid.iloc[0]}, 0.3)", f"migrate({unsaid.iloc[0]} -> {model})", "cache_share(*) = 0.5"):
        answer = what_if(world.settings, found, text)
        after = (answer.ratio @ found.told.points[-1]).sum()
        assert np.isfinite(after) and after > 0 and after != pytest.approx(plain, rel=1e-9), text


def test_misses_of_the_last_forecast_are_explained_to_the_last_digit(world) -> None:
    last = world.ask("select max(usage_day) from marts.usage_daily where list_cost_usd is not null")[0][0]
    forecast_spend(world.settings, until=last, days=5)
    found = explain_misses(world.settings)
    assert len(found) and set(found["to_day"]) == {last + timedelta(days=1)}
    assert world.ask("""
        select max(abs(miss_usd - price_effect_usd - mix_effect_usd - volume_effect_usd - tokens_per_call_effect_usd - token_class_effect_usd - unexplained_usd)),
            max(abs(unexplained_usd)) < 0.000001 from forecasts.miss""") == [(Decimal(0), True)]
    came = world.ask(f"select sum(list_cost_usd) from marts.usage_daily where usage_day = '{last}'")[0][0]
    assert world.ask("select sum(list_cost_usd) from forecasts.miss")[0][0] == pytest.approx(came, abs=Decimal("1e-9"))


def test_no_day_of_a_known_cost_is_refused(world) -> None:
    with pytest.raises(StopTheLine, match="no day of a known cost"):
        forecast_spend(world.settings, until=date(2020, 1, 1))
