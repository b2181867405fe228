"""What will a given capability cost? The frontier price of marts.capability_price, forecast from its own past moves.

At an origin the mart's own select runs over the book and the ratings as known then. The price of a capability moves in jumps, so the forecast
is the distribution of what prices of capabilities did over as many months before (logs), recent moves and those of like prices counting more;
its level moves with what earlier origins covered (adaptive conformal, Gibbs & Candès 2021). The yearly factor of a row is that of its median,
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
PACE = 0.25


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


def forecast(rows: pd.DataFrame, origin: datetime, alpha: dict[int, float] | None = None) -> pd.DataFrame:
    """Rows of forecasts.capability_price at an origin: every yardstick with a price in the last month, by horizon.

    `alpha` is the share to leave outside of the widest interval by horizon, as earlier origins ask for; 10 % where not given.
    """
    if rows.empty:
        return pd.DataFrame()
    now = rows[rows["month_no"] == rows["month_no"].max()]
    found = []
    for scope, scoped in rows.groupby(["source", "scale", "seller_scope"]):
        at = now[(now[["source", "scale", "seller_scope"]] == list(scope)).all(axis=1)]
        for h in HORIZONS:
            a = (alpha or {}).get(h, 0.1)
            moved, base, stretch = moves(scoped, h), h, 1.0
            if len(moved) < 10:
                base = next((b for b in reversed(HORIZONS) if b < h and len(moves(scoped, b)) >= 10), None)
                if base is None:
                    continue
                moved, stretch = moves(scoped, base), h / base
            q = quantiles(moved, np.log(at["price_usd_per_mtok"].to_numpy()), [a / 2, min(a, 0.3), 0.5, max(1 - a, 0.7), 1 - a / 2]) * stretch
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


def backtest(con: duckdb.DuckDBPyConnection, first: date = date(2024, 6, 1)) -> pd.DataFrame:
    """Every forecast from the first of each month on beside the price that came, as the last book has it; levels adapt on the way.

    What came is compared at the yardstick's own name. Each origin sees prices and ratings as known then.
    """
    last = con.execute("select max(quoted_at) from core.price_quote").fetchall()[0][0]
    with book_as_known(con, last) as book:
        final = history(book, last)
    came = final.set_index([*KEY, "month_no"])["price_usd_per_mtok"]
    starts = pd.date_range(first, last, freq="MS")
    alpha: dict[int, float] = dict.fromkeys(HORIZONS, 0.1)
    found: list[pd.DataFrame] = []
    for start in starts:
        origin = start.to_pydatetime()
        month_no = start.year * 12 + start.month - 1  # prices at the end of the month before
        # A target of month m is known at the origin after it.
        for h in HORIZONS:
            due = [part[(part["horizon_months"] == h) & (part["target_no"] == month_no)] for part in found]
            due = pd.concat(due) if due else pd.DataFrame()
            if len(due):
                alpha[h] = float(np.clip(alpha[h] + PACE * (0.1 - (1 - due["is_covered"].mean())), 0.01, 0.4))
        with book_as_known(con, origin) as past:
            rows = history(past, origin)
        told = forecast(rows[rows["month_no"] <= month_no], origin, alpha)
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
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """By scale, sellers and horizon: coverage of 90 % intervals and error of the median beside the last price, yardsticks of one price counted once."""
    one = rows.drop_duplicates(["origin_at", "source", "scale", "seller_scope", "horizon_months", "price_usd_per_mtok", "came_usd_per_mtok"])
    return one.groupby(["source", "scale", "seller_scope", "horizon_months"]).agg(
        origin_count=("origin_at", "nunique"), forecast_count=("is_covered", "size"), coverage_90_share=("is_covered", "mean"),
        mean_absolute_log_error=("error", "mean"), naive_mean_absolute_log_error=("naive_error", "mean")).reset_index()


def record(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of forecasts.backtest from those of `backtest`, by horizon, yardsticks of one price counted once: the median beside the last price."""
    found = []
    for horizon, part in rows.drop_duplicates(["origin_at", "source", "scale", "seller_scope", "horizon_months", "price_usd_per_mtok", "came_usd_per_mtok"]).groupby("horizon_months"):
        for method, error in (("shipped", "error"), ("best_naive", "naive_error")):
            found.append({
                "level": "capability_price", "method": method, "first_step": int(horizon), "last_step": int(horizon), "origin_count": part["origin_at"].nunique(),
                "series_count": part[KEY].drop_duplicates().shape[0], "forecast_count": len(part), "mean_absolute_log_error": part[error].mean(),
                "exact_hit_share": float((part[error] < 0.0005).mean()), "coverage_90_share": float(part["is_covered"].mean()) if method == "shipped" else None})
    return pd.DataFrame(found)
