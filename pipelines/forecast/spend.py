"""What will inference cost? Daily list cost of every tenant, workload and model, forecast together and added up.

The parts are forecast by `pipelines.forecast.rolling`, and so is their total, from its own history; where that helped at earlier origins the parts
are moved to meet it (`rolling.reconcile`). The total that is given is the exact sum of the parts. Its quantiles are no sum of theirs: they come
from what the same sum missed at earlier origins, as errors of parts neither cancel nor all add up. A day on which nobody called at all is a gap of the
logs and unknown; a day on which only this part did not call is a zero, and one on which it called and none of it could be costed is unknown: the
part learns nothing from it, and counts in the total as on the same day of the week before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
from scipy import stats

from pipelines.errors import StopTheLine
from pipelines.forecast import methods, rolling, scenario

KEY = scenario.KEY
SEASON, STRIDE, ORIGINS = 7, 7, 24
QUANTILE_COLUMNS = [f"forecast_q{text}_usd" for text in ("025", "05", "10", "50", "90", "95", "975")]


@dataclass(frozen=True)
class Series:
    """Daily list cost in USD: `values` is a row a part of `keys` and a column a day from `first_day`; NaN is unknown or not begun."""

    keys: pd.DataFrame
    values: np.ndarray
    first_day: date

    @property
    def end(self) -> date:
        """The day after the last."""
        return self.first_day + timedelta(days=self.values.shape[1])

    @property
    def uncosted(self) -> np.ndarray:
        """Which days of which parts are unknown since it began."""
        known = ~np.isnan(self.values)
        return ~known & np.maximum.accumulate(known, axis=1)


def read(con: duckdb.DuckDBPyConnection, until: date | None = None) -> Series:
    """Series from marts.usage_daily, days before `until`. Raises `StopTheLine` where there is no day of a known cost."""
    rows = con.execute(
        f"""from (
            select usage_day, {', '.join(KEY)}, cast(sum(list_cost_usd) as double) as cost_usd
            from marts.usage_daily where $until is null or usage_day < $until group by all
        ) as used
        qualify count(cost_usd) over (partition by {', '.join(KEY)}) > 0""", {"until": until}).df()
    if rows.empty:
        raise StopTheLine("there is no day of a known cost to forecast from; see: flywheel sql \"select * from marts.usage_daily\"")
    day = pd.to_datetime(rows["usage_day"])
    first, last = day[rows["cost_usd"].notna()].agg(["min", "max"])
    rows, day = rows[day.between(first, last)], day[day.between(first, last)]
    found = rows.groupby(KEY, dropna=False)
    keys = found.size().reset_index()[KEY]
    values = np.zeros((len(keys), (last - first).days + 1))
    values[found.ngroup().to_numpy(), (day - first).dt.days.to_numpy()] = rows["cost_usd"].to_numpy()
    began = (values > 0).argmax(axis=1)
    values[np.arange(values.shape[1]) < began[:, None]] = np.nan
    values[:, ~np.isin(np.arange(values.shape[1]), (day - first).dt.days)] = np.nan
    return Series(keys, values, first.date())


@dataclass(frozen=True)
class Forecast:
    """A forecast at `origin` (the first day that is forecast): parts, total, and the record of both over earlier origins."""

    series: Series
    told: rolling.Told
    total: rolling.Told
    total_values: np.ndarray
    first_shown: int
    days: int
    total_method: str

    def rows(self, answer: scenario.Answer | None = None) -> pd.DataFrame:
        """Rows of forecasts.spend; the total's point is left for the sum.

        With a scenario's answer, points and quantiles of parts are those before times its ratios (where calls migrate, quantiles add up, which is
        wider than need be), and the quantiles of the total go with its points.
        """
        origin, keys = self.series.end, self.series.keys
        points, quantiles = self.told.points[-1], self.told.quantiles[-1]
        before = points.sum(axis=0)
        method, naive = self.told.shipped[-1], self.told.shipped[-1] == self.told.best_naive[-1]
        if answer is not None:
            points, quantiles = answer.ratio @ points, np.tensordot(answer.ratio, quantiles, axes=1)
            added = len(answer.keys) - len(keys)
            keys, method, naive = answer.keys, np.concatenate([method, np.full(added, "scenario")]), np.concatenate([naive, np.zeros(added, dtype=bool)])
        days = [origin + timedelta(days=n) for n in range(self.days)]
        parts = keys.loc[keys.index.repeat(self.days)].reset_index(drop=True).assign(
            level="part", usage_day=days * len(keys), forecast_usd=np.round(points, 12).ravel(), method=method.repeat(self.days), is_naive=naive.repeat(self.days))
        parts[QUANTILE_COLUMNS] = quantiles.reshape(-1, len(QUANTILE_COLUMNS))
        ratio = np.where(before > 0, points.sum(axis=0) / np.where(before > 0, before, 1), 1)
        total = pd.DataFrame({"level": "total", "usage_day": days, "forecast_usd": None, "method": self.total_method, "is_naive": bool(naive.all())})
        total[QUANTILE_COLUMNS] = self.total.quantiles[-1, 0] * ratio[:, None]
        return pd.concat([parts, total], ignore_index=True).assign(origin_at=datetime.combine(origin, datetime.min.time()))

    def record(self) -> pd.DataFrame:
        """Rows of forecasts.backtest: how earlier origins did; empty where there is no history to tell from."""
        at = {"origin_at": datetime.combine(self.series.end, datetime.min.time())}
        found = []
        for level, told, values in (("part", self.told, self.series.values), ("total", self.total, self.total_values)):
            kept = {"shipped", "best_naive"} if level == "total" else None
            found += [row | at | {"level": level} for row in rolling.scored(told, values, SEASON, self.first_shown) if kept is None or row["method"] in kept]
        return pd.DataFrame(found)

    def budget(self, usd: float, answer: scenario.Answer | None = None) -> Budget:
        """How likely the month of the first forecast day ends above a budget, and on which day it was or is expected to be passed.

        With a scenario's answer, the days ahead cost what it makes of them, and what such sums were off by grows or shrinks with their sum;
        what is spent stays spent.
        """
        origin = self.series.end
        month_end = (pd.Timestamp(origin) + pd.offsets.MonthBegin(1)).date()
        left = min((month_end - origin).days, self.days)
        month = slice(max(0, self.series.values.shape[1] - (origin.day - 1)), None)
        so_far = np.nansum(self.series.values[:, month], axis=0)
        spent = float(so_far.sum())
        before = self.total.points[-1, 0, :left]
        points = before if answer is None else (answer.ratio @ self.told.points[-1, :, :left]).sum(axis=0)
        scale = self.total.scale[-1, 0] * (points.sum() / before.sum() if before.sum() > 0 else 1)
        missed = []
        for p, o in enumerate(self.told.origins[:-1]):
            came = self.total_values[0, o:o + left]
            if p and len(came) == left and not np.isnan(came).any():
                missed.append((came.sum() - self.total.points[p, 0, :left].sum()) / self.total.scale[p, 0])
        ahead = spent + points.sum()
        chance = None
        if len(missed) >= 5:
            spread = np.std(missed, ddof=1) * np.sqrt(1 + 1 / len(missed)) * scale
            chance = float(stats.t.sf((usd - ahead - np.mean(missed) * scale) / max(spread, 1e-12), len(missed) - 1))
        if spent > usd:
            chance = 1.0
        over = np.flatnonzero(np.cumsum([*so_far, *points]) > usd)
        passed = origin + timedelta(days=int(over[0]) - len(so_far)) if len(over) else None
        return Budget(usd, spent, float(ahead), chance, passed, origin + timedelta(days=left), int(self.series.uncosted[:, month].any(axis=0).sum()))


@dataclass(frozen=True)
class Budget:
    """A month against its budget; `probability_share` is None where fewer than five earlier origins tell how far off such sums are, and it is not spent yet.

    `uncosted_days` are those of the month so far on which some part's cost is unknown and so not in what is spent.
    """

    budget_usd: float
    spent_usd: float
    expected_usd: float
    probability_share: float | None
    passed_day: date | None
    until_day: date
    uncosted_days: int = 0

    def __str__(self) -> str:
        chance = "not known, as the history is too short" if self.probability_share is None else f"{self.probability_share:.0%}"
        when = f"{'' if self.spent_usd > self.budget_usd else 'expected to be '}passed on {self.passed_day}" if self.passed_day else "not expected to be passed"
        unknown = f" (without what is unknown of {self.uncosted_days} day{'' if self.uncosted_days == 1 else 's'})" if self.uncosted_days else ""
        return f"budget ${self.budget_usd:,.2f} until {self.until_day}: ${self.spent_usd:,.2f} spent{unknown}, ${self.expected_usd:,.2f} expected; probability of exceeding it {chance}; {when}"


def forecast(series: Series, days: int = 91) -> Forecast:
    """Forecast every part and the total, from the end of the series; earlier weeks are the origins that decide and calibrate.

    With less than three weeks there are none: the naive is given, with intervals of two and a half changes either way.
    """
    T = series.values.shape[1]
    origins = [o for o in range(T - ORIGINS * STRIDE, T, STRIDE) if o >= 2 * SEASON] + [T]
    first_shown = max(0, len(origins) - 1 - 12)
    told = rolling.run(series.values, origins, SEASON, days)
    known = ~np.isnan(series.values).all(axis=0)
    values = np.where(known, np.nansum(methods.filled(series.values, SEASON), axis=0), np.nan)[None, :]
    total = rolling.run(values, origins, SEASON, days)
    at = np.asarray(origins)
    points, reconciled = rolling.reconcile(told.points, total.points[:, 0], series.values, values[0], at)
    if reconciled.any():
        told = replace(told, points=points, quantiles=rolling.calibrate(points, rolling.targets(series.values, at, days), told.scale, at, days))
    points = points.sum(axis=1)[:, None, :]
    quantiles = rolling.calibrate(points, rolling.targets(values, at, days), total.scale, at, days)
    total = replace(total, points=points, quantiles=quantiles)
    uncosted = int(series.uncosted.any(axis=1).sum())
    method = "sum" + ", reconciled" * bool(reconciled[-1]) + (f", {uncosted} part{'' if uncosted == 1 else 's'} with days of unknown cost" if uncosted else "")
    return Forecast(series, told, total, values, first_shown, days, method)
