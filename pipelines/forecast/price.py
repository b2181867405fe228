"""Will a list price change? Discrete-time hazards over lead times, learnt from price lists as they were known.

List prices are step functions; the best point forecast is the last price, or the one that is already announced. What can be forecast is
the probability of a change within 1, 3, 6 and 12 months, its direction and its size. The lead time is cut into intervals (0-1, 1-3, 3-6
and 6-12 months); for each, a model gives the probability of a change in it given none before (discrete-time survival; Allison 1982,
Singer & Willett 1993), so probabilities never fall with the horizon. Each list learns from its own past: it is the mean of two learners (ridge
regression around the list's own rate, logistic regression) that see how often the model, its owner and its family changed prices so far (each drawn to
the larger group's rate: empirical Bayes), age, kind, price, rivals, siblings and more; or the list's own rate alone, where that did better on that
list's latest months when both were learnt from what was known before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pipelines.forecast.as_known import book_as_known
from pipelines.settings import ROOT

INTERVALS = ((0, 1), (1, 3), (3, 6), (6, 12))
MONTHS = np.array([end - start for start, end in INTERVALS])
HORIZONS = tuple(end for _, end in INTERVALS)
RELATIVE = ("log_owner_share", "log_family_share", "log_own_share")
"""Rates of groups; learners see them beside the rate of their list, which is the offset."""
FEATURES = (
    *RELATIVE, "log_old_days", "log_settled_days", "is_chat", "is_open_weights", "log_output_ratio", "log_price_level", "gap_to_family", "has_newer_sibling",
    "months_to_deprecation",
)
PENALTY = 100.0
"""Of the ridge, in changes."""
FEWEST_EVENTS = 25
"""With fewer changes to learn from, a list, or an interval of one, has one rate."""
VALIDATION_MONTHS = 4
HALF_WEIGHT_MONTHS = 12
"""A month this long ago counts half for the logistic regression."""
RATIOS = (0.1, 0.5, 0.9)
SHEET = ["feed", "feed_model"]


@dataclass(frozen=True)
class Panel:
    """Sheets (a model on a price list) by month before the origin: `rows` as warehouse/forecasts/price_month.sql gives them."""

    rows: pd.DataFrame

    def columns(self, names: tuple[str, ...]) -> np.ndarray:
        """(n, len(names)) of the rows."""
        return self.rows[list(names)].to_numpy(dtype=float)

    def happened(self, start: int, end: int) -> np.ndarray:
        """(n,) 1 where the price changed in (start, end] months after the row, 0 where not, NaN where unknown or where it had before."""
        rows = self.rows
        wide = rows.pivot_table(index=SHEET, columns="month_no", values="will_change", aggfunc="first")
        if wide.empty:
            return np.full(len(rows), np.nan)
        months = np.full((len(wide), int(rows["month_no"].max()) + 1), np.nan)
        months[:, wide.columns] = wide.to_numpy(dtype=float)
        sheet, month = wide.index.get_indexer(pd.MultiIndex.from_frame(rows[SHEET])), rows["month_no"].to_numpy()
        known, before, within = (np.full(len(rows), v) for v in (True, False, False))
        for lead in range(end):
            at = month - lead
            told = np.where((at >= 0) & (sheet >= 0), months[sheet, np.maximum(at, 0)], np.nan)
            known &= ~np.isnan(told)
            if lead < start:
                before |= told == 1
            else:
                within |= told == 1
        return np.where(known & ~before, within.astype(float), np.nan)


def panel(past: duckdb.DuckDBPyConnection, origin: datetime) -> Panel:
    """The person-period table of a price book that holds nothing later than `origin` (see `book_as_known`)."""
    rows = past.execute((ROOT / "warehouse/forecasts/price_month.sql").read_text(), {"origin_at": origin}).df()
    rows["will_change"] = rows["will_change"].astype("Float64").astype(float)
    for name in RELATIVE:
        rows[name] -= rows["log_feed_share"]
    return Panel(rows)


class FeedRate:
    """One rate of change a month and price list, on the way to that of all lists: as 60 model-months of it."""

    def __init__(self, rows: pd.DataFrame) -> None:
        told = rows[rows["will_change"].notna()]
        self.all = _monthly(told["will_change"].to_numpy(), 1)
        own = told.groupby("feed")["will_change"].agg(["sum", "size"])
        self.feeds = (own["sum"] + 60 * self.all) / (own["size"] + 60)

    def predict(self, rows: pd.DataFrame, months: int) -> np.ndarray:
        """(n,) probability of a change within some months."""
        return 1 - (1 - rows["feed"].map(self.feeds).fillna(self.all).to_numpy(dtype=float)) ** months


def _monthly(happened: np.ndarray, months: int) -> float:
    """The monthly rate that gives the share of changes seen over some months; half a change is added, so it is never zero."""
    share = (np.sum(happened) + 0.5) / (len(happened) + 30)
    return float(1 - (1 - share) ** (1 / months))


@dataclass(frozen=True)
class Ridge:
    """Logistic regression around the list's own rate: that is the offset, and the ridge draws every effect to none (Newton's method).

    All intervals share the effects and have a level each; so an interval with few changes borrows from the others, and one without any is
    the list's rate.
    """

    mean: np.ndarray
    spread: np.ndarray
    effects: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, interval: np.ndarray, base: np.ndarray, happened: np.ndarray, weight: np.ndarray) -> Ridge:
        """X (n, k); `interval` (n,) the number of each row's interval; `base` (n,) the list's rate; `happened` (n,) 0 or 1; `weight` (n,). By Newton's method."""
        mean, spread = X.mean(axis=0), X.std(axis=0) + 1e-9
        Z = np.hstack([np.ones((len(X), 1)), np.equal.outer(interval, np.arange(1, len(INTERVALS))), (X - mean) / spread])
        penalty = np.concatenate([np.full(len(INTERVALS), 10.0), np.full(X.shape[1], PENALTY)])
        effects = np.zeros(Z.shape[1])
        for _ in range(30):
            p = expit(logit(base) + Z @ effects)
            curve = (Z * (weight * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ Z + np.diag(penalty)
            step = np.clip(np.linalg.solve(curve, Z.T @ (weight * (happened - p)) - penalty * effects), -1, 1)
            effects += step
            if np.abs(step).max() < 1e-6:
                break
        return cls(mean, spread, effects)

    def predict(self, X: np.ndarray, interval: int, base: np.ndarray) -> np.ndarray:
        """(n,) probabilities that it happens in one interval."""
        levels = self.effects[0] + (self.effects[interval] if interval else 0)
        return expit(logit(base) + levels + (X - self.mean) / self.spread @ self.effects[len(INTERVALS):])


def log_loss(p: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """(n,) −ln of the probability that was given to what happened, probabilities kept off 0 and 1 by 1e-5."""
    p = np.clip(p, 1e-5, 1 - 1e-5)
    return -np.log(np.where(happened == 1, p, 1 - p))


@dataclass(frozen=True)
class Learnt:
    """What one price list of a panel teaches, by whether prices changed in each interval of lead time given not before (NaN: not known)."""

    seen: Panel
    happened: tuple[np.ndarray, ...]
    feed: str

    def told(self, known_from: int, at: np.ndarray, interval: int) -> dict[str, np.ndarray]:
        """By learner, the probability of a change in an interval for the rows `at`, learnt from what was known `known_from` months ago."""
        rows, X = self.seen.rows, self.seen.columns(FEATURES)
        month = rows["month_no"].to_numpy()
        rate = FeedRate(rows.assign(will_change=rows["will_change"].where(month > known_from))[month >= known_from])
        base = rate.predict(rows, 1)
        found = {"rate": 1 - (1 - base[at]) ** MONTHS[interval]}
        own = rows["feed"].to_numpy() == self.feed
        fit = [np.flatnonzero(own & ~np.isnan(y) & (month >= known_from + end)) for y, (_, end) in zip(self.happened, INTERVALS, strict=True)]
        every, which = np.concatenate(fit), np.repeat(np.arange(len(fit)), [len(part) for part in fit])
        outcome = np.concatenate([one[part] for one, part in zip(self.happened, fit, strict=True)])
        if outcome.sum() < FEWEST_EVENTS:
            return found
        ridge = Ridge.fit(X[every], which, 1 - (1 - base[every]) ** MONTHS[which], outcome, np.ones(len(every)))
        found["ridge"] = ridge.predict(X[at], interval, found["rate"])
        known, y = fit[interval], self.happened[interval]
        if y[known].sum() >= FEWEST_EVENTS:
            weight = 0.5 ** ((month[known] - known_from) / HALF_WEIGHT_MONTHS)
            logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
            found["logistic"] = logistic.fit(X[known], y[known], logisticregression__sample_weight=weight).predict_proba(X[at])[:, 1]
        found["mean"] = np.mean([p for name, p in found.items() if name != "rate"], axis=0)
        return found

    def chosen(self, interval: int) -> str:
        """`rate` where it gave the list's latest outcomes a smaller log-loss than the `mean` learnt from what was known before them all; else `mean`.

        It is `mean` too where too few changes can tell.
        """
        rows = self.seen.rows
        end, month, y = INTERVALS[interval][1], rows["month_no"].to_numpy(), self.happened[interval]
        late = np.flatnonzero(~np.isnan(y) & (month < end + VALIDATION_MONTHS) & (rows["feed"] == self.feed).to_numpy())
        told = self.told(end + VALIDATION_MONTHS - 1, late, interval)
        if "mean" not in told or y[late].sum() < FEWEST_EVENTS / 2:
            return "mean"
        return min(("mean", "rate"), key=lambda name: log_loss(told[name], y[late]).mean())


def hazards(seen: Panel) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4) what gave it, and (n, 4) probability of a change given none before, by interval, for the sheets listed at the origin."""
    happened = tuple(seen.happened(*interval) for interval in INTERVALS)
    now = np.flatnonzero(seen.rows["month_no"].to_numpy() == 0)
    feeds = seen.rows["feed"].to_numpy()[now]
    names, found = np.full((len(now), len(INTERVALS)), "rate", dtype=object), np.zeros((len(now), len(INTERVALS)))
    with threadpool_limits(1):  # the models are small; threads would wait for each other
        for feed in np.unique(feeds):
            learnt, here = Learnt(seen, happened, feed), feeds == feed
            for interval in range(len(INTERVALS)):
                told = learnt.told(0, now[here], interval)
                # With too few changes to learn anything it is the rate.
                name = learnt.chosen(interval) if "mean" in told else "rate"
                names[here, interval], found[here, interval] = name, told[name]
    return names, found


def forecast(past: duckdb.DuckDBPyConnection, origin: datetime) -> pd.DataFrame:
    """Rows of forecasts.price_change at an origin, from a book that holds nothing later; empty where no model is listed.

    One row a listed model and horizon. `constant_probability_share` is the baseline: one rate of change for all models ever seen.
    """
    seen = panel(past, origin)
    now = seen.rows[seen.rows["month_no"] == 0].reset_index(drop=True)
    if now.empty:
        return pd.DataFrame()
    told = seen.rows["will_change"].dropna().to_numpy()
    constant = _monthly(told, 1)
    announced = _announced(past, origin)
    sizes = _sizes(seen.rows)
    kept = ["feed", "feed_model", "provider_name", "model_name", "input_usd_per_mtok", "output_usd_per_mtok"]
    stays, parts = np.ones(len(now)), []
    rate = FeedRate(seen.rows)
    names, chances = hazards(seen)
    for n, end in enumerate(HORIZONS):
        stays = stays * (1 - chances[:, n])
        part = now[kept].assign(
            origin_at=origin, horizon_months=end, change_probability_share=1 - stays, feed_probability_share=rate.predict(now, end),
            constant_probability_share=1 - (1 - constant) ** end, learner=["+".join(dict.fromkeys(own)) for own in names[:, : n + 1]],
        ).merge(sizes, on="feed", how="left")
        until = pd.Timestamp(origin) + pd.DateOffset(months=end)
        coming = announced[announced["valid_from"] <= until].sort_values("valid_from").groupby([*SHEET, "token_class"], as_index=False).last()
        part["is_announced"] = False
        for token_class, column in (("input_uncached", "input"), ("output_text", "output")):
            due = part[SHEET].merge(coming[coming["token_class"] == token_class], on=SHEET, how="left")["usd_per_mtok"].to_numpy(dtype=float)
            last = part[f"{column}_usd_per_mtok"].to_numpy(dtype=float)
            is_due = ~np.isnan(due) & (np.abs(due - last) > 0.0005 * last)
            part[f"forecast_{column}_usd_per_mtok"] = np.where(np.isnan(due), last, due)
            part["is_announced"] |= is_due
        part.loc[part["is_announced"], "change_probability_share"] = 1.0
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _announced(past: duckdb.DuckDBPyConnection, origin: datetime) -> pd.DataFrame:
    """Prices known at the origin that hold from later on."""
    return past.execute(
        """select feed, feed_model, token_class, valid_from, cast(price_usd_per_unit as double) * 1000000 as usd_per_mtok from core.price
        where valid_from > $at and known_from <= $at and known_to is null and service_tier = 'standard' and region is null and price_condition is null
            and context_above_tokens = 0 and unit = 'token' and token_class in ('input_uncached', 'output_text')""", {"at": origin}).df()


def _sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """By price list: the share of changes that were rises (from 20 of all lists on), and quantiles of new over old price either way."""
    seen = rows[(rows["has_changed"].fillna(False).astype(bool)) & (rows["log_ratio"].abs() > 0)]
    rises_of_all = (np.sum(seen["log_ratio"] > 0) + 1) / (len(seen) + 2)
    found = []
    for feed in sorted(rows["feed"].unique()):
        own = seen.loc[seen["feed"] == feed, "log_ratio"]
        row = {"feed": feed, "increase_share": (np.sum(own > 0) + 20 * rises_of_all) / (len(own) + 20)}
        for word, signed in (("down", -1), ("up", 1)):
            sizes = own[np.sign(own) == signed]
            if len(sizes) < 10:
                sizes = seen.loc[np.sign(seen["log_ratio"]) == signed, "log_ratio"]
            for q in RATIOS:
                row[f"{word}_ratio_q{round(q * 100)}"] = float(np.exp(np.quantile(sizes, q))) if len(sizes) else None
        found.append(row)
    return pd.DataFrame(found)


def origins(con: duckdb.DuckDBPyConnection, months: int) -> list[datetime]:
    """Up to `months` monthly origins before the last snapshot, the oldest first; none with less than half a year of history, or a third of all there is."""
    first, last = con.execute("select min(quoted_at), max(quoted_at) from core.price_quote").fetchall()[0]
    if first is None:
        return []
    found = [(pd.Timestamp(last) - pd.DateOffset(months=n)).to_pydatetime() for n in range(1, months + 1)]
    return sorted(o for o in found if o >= first + max(timedelta(days=30), min(timedelta(days=182), (last - first) / 3)))


def backtest(con: duckdb.DuckDBPyConnection, months: int = 24) -> pd.DataFrame:
    """Every forecast at every origin beside what happened by the last snapshot, one row a forecast whose horizon has passed.

    Each origin sees the book as known then (`book_as_known`). Added columns: `has_changed` (any month-end from origin to horizon differs from
    the one before), `seen_usd_per_mtok` (blended), `naive_error` and `error` (absolute difference of logs).
    """
    starts = origins(con, months)
    if not starts:
        return pd.DataFrame()
    last = con.execute("select max(quoted_at) from core.price_quote").fetchall()[0][0]
    with book_as_known(con, last) as book:
        final = panel(book, last)
    happened = {h: final.rows[SHEET].assign(month_no=final.rows["month_no"], has_changed=final.happened(0, h)) for h in HORIZONS}
    prices = final.rows.set_index([*SHEET, "month_no"])["log_price"]
    found = []
    for origin in starts:
        month_no = (last.year - origin.year) * 12 + last.month - origin.month
        with book_as_known(con, origin) as past:
            told = forecast(past, origin)
        for h in HORIZONS:
            if told.empty or month_no < h:
                continue
            at = happened[h][happened[h]["month_no"] == month_no].drop(columns="month_no")
            rows = told[told["horizon_months"] == h].merge(at.dropna(), on=SHEET)
            later = prices.reindex(pd.MultiIndex.from_arrays([rows["feed"], rows["feed_model"], np.full(len(rows), month_no - h)])).to_numpy()
            naive = np.log((3 * rows["input_usd_per_mtok"] + rows["output_usd_per_mtok"]) / 4)
            point = np.log(np.maximum((3 * rows["forecast_input_usd_per_mtok"] + rows["forecast_output_usd_per_mtok"]) / 4, 1e-9))
            found.append(rows.assign(seen_usd_per_mtok=np.exp(later), naive_error=np.abs(later - naive), error=np.abs(later - point)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """By horizon: log-loss and Brier score beside a constant hazard of all lists and one a list, exact hits, error beside the last price."""
    found = []
    for horizon, part in rows.groupby("horizon_months"):
        y = part["has_changed"].to_numpy()
        losses = {n: float(log_loss(part[f"{n}_probability_share"].to_numpy(), y).mean()) for n in ("change", "constant", "feed")}
        briers = {n: float(np.mean((part[f"{n}_probability_share"] - y) ** 2)) for n in ("change", "constant", "feed")}
        found.append({
            "horizon_months": int(horizon), "forecast_count": len(part), "origin_count": part["origin_at"].nunique(), "change_count": int(y.sum()),
            "log_loss": losses["change"], "constant_log_loss": losses["constant"], "feed_log_loss": losses["feed"],
            "log_loss_gain_share": 1 - losses["change"] / losses["constant"], "log_loss_gain_over_feed_share": 1 - losses["change"] / losses["feed"],
            "brier": briers["change"], "constant_brier": briers["constant"], "feed_brier": briers["feed"],
            "exact_hit_share": float((part["error"] < 0.0005).mean()), "mean_absolute_log_error": float(part["error"].mean()),
            "naive_mean_absolute_log_error": float(part["naive_error"].mean()),
        })
    return pd.DataFrame(found)


def calibration(rows: pd.DataFrame, edges: tuple[float, ...] = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1)) -> pd.DataFrame:
    """By horizon and band of the probability given: forecasts, their mean probability, and the share that changed."""
    band = pd.cut(rows["change_probability_share"], edges, include_lowest=True)
    grouped = rows.groupby(["horizon_months", band], observed=True)
    return grouped.agg(forecast_count=("has_changed", "size"), mean_probability_share=("change_probability_share", "mean"), changed_share=("has_changed", "mean")).reset_index()


def record(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of forecasts.backtest from those of `backtest`: the shipped probability beside a constant hazard and one rate a list, by horizon."""
    found = []
    for _, row in scores(rows).iterrows():
        for method, word in (("shipped", ""), ("constant", "constant_"), ("rate", "feed_")):
            found.append({
                "level": "price_change", "method": method, "first_step": int(row["horizon_months"]), "last_step": int(row["horizon_months"]), "origin_count": int(row["origin_count"]),
                "series_count": rows.loc[rows["horizon_months"] == row["horizon_months"], SHEET].drop_duplicates().shape[0], "forecast_count": int(row["forecast_count"]),
                "exact_hit_share": row["exact_hit_share"] if method == "shipped" else None, "log_loss": row[f"{word}log_loss"], "brier": row[f"{word}brier"]})
    return pd.DataFrame(found)
