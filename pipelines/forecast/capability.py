"""What will a given capability cost? The frontier price of marts.capability_price, forecast from its own past moves.

At an origin the mart's own select runs over the book and the ratings as known then. The price of a capability moves in jumps, so the forecast
is the distribution of what prices of capabilities did over as many months before (logs), recent moves and those of like prices counting more.
How wide its 90 % interval is moves with what those of earlier origins covered, by sellers and horizon (adaptive conformal, Gibbs & Candès 2021, on
the width rather than the level, as a few dozen moves have no further quantiles); yardsticks that share one price count once in that, for they
are one thing that happened. The yearly factor of a row is that of its median,
drawn out to a year; its interval is that of its quantiles.
"""

from __future__ import annotations

from datetime import date, datetime

import duckdb
import numpy as np
import pandas as pd

from pipelines.forecast.as_known import book_as_known
from pipelines.settings import ROOT

KEY = ["source", "scale", "seller_scope", "capability_model"]
QUANTILES = (0.05, 0.1, 0.5, 0.9, 0.95)
HORIZONS = (1, 3, 6, 12)
HALF_WEIGHT_MONTHS = 6
"""A move this many months ago counts half: the early fall of 2023 and 2024 is not to be had twice."""
LIKE_PRICE = np.log(3)
"""A move of a price three times as high or low counts exp(-1/2) of one from the same price: what is cheap has less far to fall."""
PACE = 2.0
"""How far the logarithm of a width moves on all that was missed at one origin."""
START, NARROWEST, WIDEST = 0.2, -0.7, 2.5
"""Logarithms of widths, in those of the moves' own quantiles."""
ONCE = ["origin_at", "source", "scale", "seller_scope", "horizon_months", "price_usd_per_mtok", "came_usd_per_mtok"]


def history(past: duckdb.DuckDBPyConnection, origin: datetime) -> pd.DataFrame:
    """Monthly frontier prices by yardstick, as a book that holds nothing later than `origin` has them."""
    select = (ROOT / "warehouse/marts/capability_price.sql").read_text().strip().rstrip(";")
    rows = past.execute(
        f"""select source, scale, seller_scope, capability_model, month_day, cast(price_usd_per_mtok as double) as price_usd_per_mtok from ({select})
        where as_of_at <= $at order by all""", {"at": origin}).df()
    rows["month_no"] = pd.to_datetime(rows["month_day"]).dt.year * 12 + pd.to_datetime(rows["month_day"]).dt.month
    return rows


def moves(rows: pd.DataFrame, months: int) -> pd.DataFrame:
    """Every change of a yardstick's log price over so many months, from which price, and its weight by age."""
    later = rows[[*KEY, "month_no", "price_usd_per_mtok"]].assign(month_no=rows["month_no"] - months)
    both = rows.merge(later, on=[*KEY, "month_no"], suffixes=("", "_later"))
    return pd.DataFrame({
        "log_price": np.log(both["price_usd_per_mtok"]), "log_ratio": np.log(both["price_usd_per_mtok_later"] / both["price_usd_per_mtok"]),
        "weight": 0.5 ** ((rows["month_no"].max() - months - both["month_no"]) / HALF_WEIGHT_MONTHS),
    }).sort_values("log_ratio")


def quantiles(moved: pd.DataFrame, log_price: np.ndarray, levels: list[float]) -> np.ndarray:
    """(n, levels) weighted quantiles of the moves, for each of n prices."""
    prices, place = np.unique(log_price, return_inverse=True)
    found = np.empty((len(prices), len(levels)))
    for n, price in enumerate(prices):
        weight = moved["weight"].to_numpy() * np.exp(-0.5 * ((moved["log_price"].to_numpy() - price) / LIKE_PRICE) ** 2) + 1e-9
        found[n] = np.interp(levels, (np.cumsum(weight) - weight / 2) / weight.sum(), moved["log_ratio"])
    return found[place]


def forecast(rows: pd.DataFrame, origin: datetime, widths: dict[tuple[str, int], float] | None = None) -> pd.DataFrame:
    """Rows of forecasts.capability_price at an origin: every yardstick with a price in the last month, by horizon.

    `widths` are logarithms by sellers and horizon, as earlier origins ask for: how far the ends of the 90 % interval are from the median, in units of
    what past moves say. As they say where not given.
    """
    if rows.empty:
        return pd.DataFrame()
    now = rows[rows["month_no"] == rows["month_no"].max()]
    found = []
    for scope, scoped in rows.groupby(["source", "scale", "seller_scope"]):
        at = now[(now[["source", "scale", "seller_scope"]] == list(scope)).all(axis=1)]
        for h in HORIZONS:
            width = float(np.exp((widths or {}).get((scope[2], h), 0.0)))
            moved, base, stretch = moves(scoped, h), h, 1.0
            if len(moved) < 10:
                base = next((b for b in reversed(HORIZONS) if b < h and len(moves(scoped, b)) >= 10), None)
                if base is None:
                    continue
                moved, stretch = moves(scoped, base), h / base
            q = quantiles(moved, np.log(at["price_usd_per_mtok"].to_numpy()), list(QUANTILES)) * stretch
            for end, inner in ((0, 1), (4, 3)):  # the 80 % interval stays within
                q[:, end] = q[:, 2] + width * (q[:, end] - q[:, 2])
                q[:, inner] = np.clip(q[:, inner], np.minimum(q[:, end], q[:, 2]), np.maximum(q[:, end], q[:, 2]))
            part = at[[*KEY, "price_usd_per_mtok"]].assign(origin_at=origin, horizon_months=h, is_drawn_out=stretch > 1)
            for n, level in enumerate(QUANTILES):
                part[f"price_q{round(level * 100):02}_usd_per_mtok"] = at["price_usd_per_mtok"] * np.exp(q[:, n])
            for word, n in (("", 2), ("_low", 4), ("_high", 0)):
                fall = -q[:, n] * 12 / h
                part[f"yearly_factor{word}"] = np.exp(fall)
                # The slower the fall, the longer the half-life; there is none where the price does not fall.
                part[f"half_life{ {'': '', '_low': '_high', '_high': '_low'}[word] }_days"] = np.where(fall > 1e-9, np.log(2) / np.maximum(fall, 1e-9) * 365.25, np.nan)
            found.append(part)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def passes(told: pd.DataFrame, usd_per_mtok: float) -> dict[str, date | None]:
    """When one yardstick's price is forecast to be at or under a price: by its lower, middle and upper quantile, straight lines in logs between
    horizons; None where not within the longest. `told` holds the rows of one yardstick at one origin."""
    found: dict[str, date | None] = {}
    told = told.sort_values("horizon_months")
    months = np.concatenate([[0], told["horizon_months"]])
    for word, level in (("earliest_day", "q05"), ("median_day", "q50"), ("latest_day", "q95")):
        path = np.log(np.concatenate([[told["price_usd_per_mtok"].iloc[0]], told[f"price_{level}_usd_per_mtok"]]))
        fine = np.linspace(0, months[-1], 361)
        below = np.flatnonzero(np.interp(fine, months, path) <= np.log(usd_per_mtok) + 1e-12)
        found[word] = (pd.Timestamp(told["origin_at"].iloc[0]) + pd.Timedelta(days=float(fine[below[0]]) * 30.44)).date() if len(below) else None
    return found


def backtest(con: duckdb.DuckDBPyConnection, first: date = date(2024, 6, 1), until: datetime | None = None) -> tuple[pd.DataFrame, dict[tuple[str, int], float]]:
    """(every forecast from the first of each month on beside the price that came, as the book of `until` has it; the widths for the next one).

    What came is compared at the yardstick's own name. Each origin sees prices, ratings and targets as known then; nothing after `until`
    (default: the last list) is looked at.
    """
    last = until or con.execute("select max(quoted_at) from core.price_quote").fetchall()[0][0]
    with book_as_known(con, last) as book:
        final = history(book, last)
    came = final.set_index([*KEY, "month_no"])["price_usd_per_mtok"]
    widths = {(scope, h): START for scope in ("any", "first_party") for h in HORIZONS}
    found: list[pd.DataFrame] = []
    for start in pd.date_range(first, last, freq="MS"):
        origin = start.to_pydatetime()
        month_no = start.year * 12 + start.month - 1  # prices at the end of the month before
        _move(widths, found, month_no)
        with book_as_known(con, origin) as past:
            rows = history(past, origin)
        told = forecast(rows[rows["month_no"] <= month_no], origin, widths)
        if told.empty or rows["month_no"].max() < month_no:
            continue
        told["target_no"] = month_no + told["horizon_months"]
        told["came_usd_per_mtok"] = came.reindex(pd.MultiIndex.from_frame(told[[*KEY, "target_no"]])).to_numpy()
        told = told[told["came_usd_per_mtok"].notna()]
        slack = 1e-9
        told["is_covered"] = (told["came_usd_per_mtok"] >= told["price_q05_usd_per_mtok"] * (1 - slack)) & (told["came_usd_per_mtok"] <= told["price_q95_usd_per_mtok"] * (1 + slack))
        told["error"] = np.abs(np.log(told["came_usd_per_mtok"] / told["price_q50_usd_per_mtok"]))
        told["naive_error"] = np.abs(np.log(told["came_usd_per_mtok"] / told["price_usd_per_mtok"]))
        found.append(told)
    return (pd.concat(found, ignore_index=True) if found else pd.DataFrame()), widths


def _move(widths: dict[tuple[str, int], float], found: list[pd.DataFrame], month_no: int) -> None:
    """Take in the forecasts whose target is the month that has just become known."""
    due = [part[part["target_no"] == month_no] for part in found]
    if not due or (known := pd.concat(due)).empty:
        return
    covered = known.drop_duplicates(ONCE).groupby(["seller_scope", "horizon_months"])["is_covered"].mean()
    for key, share in covered.items():
        widths[key] = float(np.clip(widths[key] + PACE * (0.9 - share), NARROWEST, WIDEST))


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """By scale, sellers and horizon: coverage of 90 % intervals and error of the median beside the last price, yardsticks of one price counted once."""
    one = rows.drop_duplicates(ONCE)
    return one.groupby(["source", "scale", "seller_scope", "horizon_months"]).agg(
        origin_count=("origin_at", "nunique"), forecast_count=("is_covered", "size"), coverage_90_share=("is_covered", "mean"),
        mean_absolute_log_error=("error", "mean"), naive_mean_absolute_log_error=("naive_error", "mean")).reset_index()


def record(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of forecasts.backtest from those of `backtest`, by horizon, yardsticks of one price counted once: the median beside the last price."""
    found = []
    for horizon, part in rows.drop_duplicates(ONCE).groupby("horizon_months"):
        for method, error in (("shipped", "error"), ("best_naive", "naive_error")):
            found.append({
                "level": "capability_price", "method": method, "first_step": int(horizon), "last_step": int(horizon), "origin_count": part["origin_at"].nunique(),
                "series_count": part[KEY].drop_duplicates().shape[0], "forecast_count": len(part), "mean_absolute_log_error": part[error].mean(),
                "exact_hit_share": float((part[error] < 0.0005).mean()), "coverage_90_share": float(part["is_covered"].mean()) if method == "shipped" else None})
    return pd.DataFrame(found)
