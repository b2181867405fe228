"""How use responds to price, told only where the prices we saw allow it.

A model that is better is both dearer and used more, so comparing models says that people want higher prices. What identifies a
response is a price that changed while the model stayed the same: changes of a model's use from week to week, against changes
of its own price, with every week's common movement taken out (first differences with time effects; Wooldridge, Econometric
Analysis of Cross Section and Panel Data, 2010, chapter 10). Errors are clustered by model (CR1) and judged by Student's t with
one degree of freedom less than there are models with a price change (Cameron and Miller, Journal of Human Resources 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from scipy import stats

HORIZON_WEEKS = (0, 3)
"""Responses are told in the week of the change, and summed up to three weeks later."""
MIN_CHANGED_MODELS = 3
MIN_WEEKS = 8
"""Fewer clusters or weeks and no standard error means anything."""
LEAST_CHANGE = 0.01
"""A price that moved by less than one per cent in a week did not change: rounding, or another hour of the day."""


@dataclass(frozen=True)
class Estimate:
    """An elasticity (per cent of use for a per cent of price), or why there is none."""

    elasticity: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def within(model: np.ndarray, week: np.ndarray, use: np.ndarray, price: np.ndarray, horizon_weeks: int = 0) -> Estimate:
    """The elasticity of changes of use to changes of price: `use` and `price` are differences of logarithms to the week before.

    Rows are model-weeks. With a horizon, the sum of the responses in the week of the change and that many weeks after it; a
    model-week whose earlier weeks are missing is left out. 95 % interval.
    """
    lags = [_lagged(model, week, price, lag) for lag in range(horizon_weeks + 1)]
    known = np.isfinite(use) & np.all(np.isfinite(lags), axis=0)
    model, week, use, x = model[known], week[known], use[known], np.column_stack(lags)[known]
    # Before means are taken out: one large change moves what is left of all others.
    changed = _changed(model, x)
    if reason := _unidentified(week, changed):
        return Estimate(reason=reason)
    y, x = _without_means(use, week), np.column_stack([_without_means(column, week) for column in x.T])
    gram = x.T @ x
    if np.linalg.matrix_rank(gram, tol=1e-10) < x.shape[1]:
        return Estimate(reason="prices changed for all models in the same weeks: nothing tells the price from the week")
    inverse = np.linalg.inv(gram)
    beta = inverse @ x.T @ y
    left = y - x @ beta
    groups, of = np.unique(model, return_inverse=True)
    scores = np.zeros((len(groups), x.shape[1]))
    np.add.at(scores, of, x * left[:, None])
    free = len(y) - x.shape[1] - len(np.unique(week))
    correction = len(groups) / (len(groups) - 1) * (len(y) - 1) / max(free, 1)
    covariance = correction * inverse @ (scores.T @ scores) @ inverse
    error = float(np.sqrt(covariance.sum()))
    reach = float(stats.t.ppf(0.975, changed - 1)) * error
    total = float(beta.sum())
    return Estimate(total, error, total - reach, total + reach)


def pooled(log_use: np.ndarray, log_price: np.ndarray) -> float | None:
    """The slope of log use on log price over all models and weeks as they come: the trap. None where prices do not differ."""
    if len(log_price) < 3 or np.ptp(log_price) < LEAST_CHANGE:
        return None
    return float(np.polyfit(log_price, log_use, 1)[0])


def _unidentified(week: np.ndarray, changed: int) -> str | None:
    weeks = len(np.unique(week))
    if weeks < MIN_WEEKS:
        return f"{weeks} week{'s' * (weeks != 1)} to compare, {MIN_WEEKS} are needed"
    if changed < MIN_CHANGED_MODELS:
        return f"the price of {changed} model{'s' * (changed != 1)} changed while {'it was' if changed == 1 else 'they were'} in use, {MIN_CHANGED_MODELS} are needed"
    return None


def _changed(model: np.ndarray, x: np.ndarray) -> int:
    return len(np.unique(model[(np.abs(x) >= LEAST_CHANGE).any(axis=1)]))


def _lagged(model: np.ndarray, week: np.ndarray, values: np.ndarray, lag: int) -> np.ndarray:
    """The value of the same model `lag` weeks before; nan where there is none. Rows are sorted by model and week."""
    if lag == 0:
        return values
    back = np.full(len(values), np.nan)
    same = (model[lag:] == model[:-lag]) & (week[lag:] - week[:-lag] == lag)
    back[lag:][same] = values[:-lag][same]
    return back


def _without_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    _, of = np.unique(group, return_inverse=True)
    return values - (np.bincount(of, values) / np.bincount(of))[of]


MODEL_WEEK = """
    with sold as (
        select coalesce(provider_name, '') as provider_name, coalesce(model_name, '') as model_name, service_tier,
            coalesce(context_above_tokens, 0) as band, token_class, cast(date_trunc('week', usage_day) as date) as week_day,
            cast(sum(list_cost_usd) as double) as cost_usd, cast(sum(priced_tokens) as double) as tokens
        from marts.price_paid
        group by all
        having sum(list_cost_usd) > 0
    ),
    -- Whole weeks only: half a week is half the use.
    whole as (
        select sold.* from sold, (select min(usage_day) as first_day, max(usage_day) as last_day from marts.price_paid) as span
        where week_day >= first_day and week_day + 6 <= last_day
    ),
    model_week as (
        select *, lag(tokens) over weeks as old_tokens, lag(week_day) over weeks = week_day - 7 as follows
        from (select provider_name, model_name, week_day, sum(tokens) as tokens, sum(cost_usd) as cost_usd from whole group by all) as week
        window weeks as (partition by provider_name, model_name order by week_day)
    ),
    -- The model's own price: each thing sold against itself a week before, weighted by the mean of its shares (Törnqvist).
    relative as (
        select now.provider_name, now.model_name, now.week_day, ln((now.cost_usd / now.tokens) / (old.cost_usd / old.tokens)) as log_relative,
            now.cost_usd / sum(now.cost_usd) over same as share_now, old.cost_usd / sum(old.cost_usd) over same as share_old
        from whole as now
        join whole as old
            on old.provider_name = now.provider_name and old.model_name = now.model_name and old.service_tier = now.service_tier
            and old.band = now.band and old.token_class = now.token_class and old.week_day = now.week_day - 7
        window same as (partition by now.provider_name, now.model_name, now.week_day)
    ),
    change as (
        select provider_name, model_name, week_day, sum(log_relative * (share_now + share_old) / 2) as log_price_change from relative group by all
    )
    select dense_rank() over (order by provider_name, model_name) as model_no, date_diff('day', date '1970-01-05', week_day) // 7 as week_no,
        ln(tokens) as log_use, ln(cost_usd / tokens) as log_price, case when follows then ln(tokens / old_tokens) end as use_change, log_price_change
    from model_week left join change using (provider_name, model_name, week_day)
    order by model_no, week_no
"""


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make temp table `elasticity`: one row a horizon, from marts.price_paid."""
    found = con.execute(MODEL_WEEK).fetchnumpy()
    panel = {name: np.ma.filled(np.ma.asarray(values, dtype=float), np.nan) for name, values in found.items()}
    model, week, price = panel["model_no"], panel["week_no"], panel["log_price_change"]
    price = np.where(np.abs(price) < LEAST_CHANGE, 0.0, price)
    naive = pooled(panel["log_use"], panel["log_price"])
    changed = np.isfinite(price) & (price != 0)
    rows = []
    for horizon in HORIZON_WEEKS:
        told = within(model, week, panel["use_change"], price, horizon)
        rows.append({
            "horizon_weeks": horizon, "elasticity": told.elasticity, "standard_error": told.standard_error, "low": told.low, "high": told.high,
            "reason": told.reason, "model_count": len(np.unique(model)), "week_count": len(np.unique(week)),
            "price_change_count": int(changed.sum()), "changed_model_count": len(np.unique(model[changed])), "naive_elasticity": naive,
        })  # fmt: skip
    con.register("_elasticity", pa.Table.from_pylist(rows, pa.schema(COLUMNS)))
    con.execute("create or replace temp table elasticity as select * from _elasticity")
    con.unregister("_elasticity")


COLUMNS = [
    ("horizon_weeks", pa.int64()), ("elasticity", pa.float64()), ("standard_error", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
    ("reason", pa.string()), ("model_count", pa.int64()), ("week_count", pa.int64()), ("price_change_count", pa.int64()),
    ("changed_model_count", pa.int64()), ("naive_elasticity", pa.float64()),
]  # fmt: skip
