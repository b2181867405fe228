"""Will a list price change? Discrete-time hazards over lead times, learnt from price lists as they were known.

List prices are step functions; the best point forecast is the last price, or the one that is already announced. What can be forecast is
the probability of a change within 1, 3, 6 and 12 months, its direction and its size. The lead time is cut into intervals (0-1, 1-3, 3-6
and 6-12 months); for each, a model gives the probability of a change in it given none before (discrete-time survival; Allison 1982,
Singer & Willett 1993), so probabilities never fall with the horizon. Which learner does so (one rate a price list, regularised logistic
regression, boosted trees, or the mean of the last two) is decided inside the training data, on its latest months.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pipelines.forecast.as_known import book_as_known
from pipelines.settings import ROOT

INTERVALS = ((0, 1), (1, 3), (3, 6), (6, 12))
HORIZONS = tuple(end for _, end in INTERVALS)
FEATURES = (
    "log_price", "log_age_days", "log_unchanged_days", "has_ever_changed", "is_first_list", "changed_last_month", "log_provider_share", "log_recent_share",
    "log_feed_share", "log_feed_recent_share", "gap_to_cheapest", "gap_to_median", "gap_to_family", "has_rival_changed", "has_family_changed",
    "log_sellers", "has_newer_sibling", "log_newest_days", "has_deprecation_day", "months_to_deprecation", "is_first_party", "is_cloud",
)
FEWEST_EVENTS = 25
"""With fewer changes to learn from, an interval has one rate a price list."""
VALIDATION_MONTHS = 4
NEEDED_GAIN = 0.02
"""By so much of its log-loss a mixture has to beat the rate alone on the latest months."""
RATIOS = (0.1, 0.5, 0.9)
SHEET = ["feed", "feed_model"]


@dataclass(frozen=True)
class Panel:
    """Sheets (a model on a price list) by month before the origin: `rows` as warehouse/forecasts/price_month.sql gives them."""

    rows: pd.DataFrame
    features: np.ndarray

    def happened(self, start: int, end: int) -> np.ndarray:
        """(n,) 1 where the price changed in (start, end] months after the row, 0 where not, NaN where unknown or where it had before."""
        rows = self.rows
        wide = rows.pivot_table(index=SHEET, columns="month_no", values="will_change", aggfunc="first")
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
    rows["is_first_party"] = (rows["provider_kind"] == "first_party").astype(float)
    rows["is_cloud"] = (rows["provider_kind"] == "cloud_platform").astype(float)
    return Panel(rows, rows[list(FEATURES)].to_numpy(dtype=float))


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


MIXTURES = {
    "rate": ("rate",), "rate_logistic": ("rate", "logistic"), "rate_boosting": ("rate", "boosting"),
    "logistic": ("logistic",), "boosting": ("boosting",), "all": ("rate", "logistic", "boosting"),
}
"""What may be chosen: one learner, or the mean of several."""


def _learner(name: str):
    if name == "boosting":
        return HistGradientBoostingClassifier(
            learning_rate=0.08, max_iter=40, max_leaf_nodes=6, min_samples_leaf=60, l2_regularization=20, early_stopping=False, random_state=0)
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=500))


def log_loss(p: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """(n,) −ln of the probability that was given to what happened, probabilities kept off 0 and 1 by 1e-5."""
    p = np.clip(p, 1e-5, 1 - 1e-5)
    return -np.log(np.where(happened == 1, p, 1 - p))


@dataclass(frozen=True)
class Hazard:
    """Probability of a change in one interval of lead time given none before, as the mean of some learners, and the name of the mixture."""

    name: str
    months: int
    learners: list

    @classmethod
    def fit(cls, seen: Panel, start: int, end: int) -> Hazard:
        happened, rows, X = seen.happened(start, end), seen.rows, seen.features
        known = ~np.isnan(happened)
        month = rows["month_no"].to_numpy()
        if happened[known].sum() < FEWEST_EVENTS:
            return cls("rate", end - start, [FeedRate(rows)])
        best = "rate_logistic"
        late = known & (month < end + VALIDATION_MONTHS)
        first = end + VALIDATION_MONTHS - 1  # the earliest origin among those
        early = known & (month >= first + end)  # their outcomes were known by then
        if min(happened[early].sum(), happened[late].sum()) >= FEWEST_EVENTS / 2:
            then = rows[month >= first].assign(will_change=lambda r: r["will_change"].where(r["month_no"] > first))
            told = {"rate": FeedRate(then).predict(rows[late], end - start)}
            told |= {name: _learner(name).fit(X[early], happened[early]).predict_proba(X[late])[:, 1] for name in ("logistic", "boosting")}
            loss = {name: log_loss(np.mean([told[part] for part in parts], axis=0), happened[late]).mean() for name, parts in MIXTURES.items()}
            best = min(loss, key=loss.__getitem__)
            if loss[best] > (1 - NEEDED_GAIN) * loss["rate"]:
                best = "rate"
        fitted = [FeedRate(rows) if part == "rate" else _learner(part).fit(X[known], happened[known]) for part in MIXTURES[best]]
        return cls(best, end - start, fitted)

    def predict(self, at: Panel) -> np.ndarray:
        parts = [one.predict(at.rows, self.months) if isinstance(one, FeedRate) else one.predict_proba(at.features)[:, 1] for one in self.learners]
        return np.mean(parts, axis=0)


def forecast(past: duckdb.DuckDBPyConnection, origin: datetime) -> pd.DataFrame:
    """Rows of forecasts.price_change at an origin, from a book that holds nothing later; empty where no model is listed.

    One row a listed model and horizon. `constant_probability_share` is the baseline: one rate of change for all models ever seen.
    """
    seen = panel(past, origin)
    now = Panel(seen.rows[seen.rows["month_no"] == 0].reset_index(drop=True), seen.features[seen.rows["month_no"] == 0])
    if now.rows.empty:
        return pd.DataFrame()
    told = seen.rows["will_change"].dropna().to_numpy()
    constant = _monthly(told, 1)
    announced = _announced(past, origin)
    sizes = _sizes(seen.rows)
    kept = ["feed", "feed_model", "provider_name", "model_name", "input_usd_per_mtok", "output_usd_per_mtok"]
    stays, parts, names = np.ones(len(now.rows)), [], []
    rate = FeedRate(seen.rows)
    for start, end in INTERVALS:
        with threadpool_limits(1):  # the models are small; threads would wait for each other
            hazard = Hazard.fit(seen, start, end)
        names.append(hazard.name)
        stays = stays * (1 - hazard.predict(now))
        part = now.rows[kept].assign(
            origin_at=origin, horizon_months=end, change_probability_share=1 - stays, feed_probability_share=rate.predict(now.rows, end),
            constant_probability_share=1 - (1 - constant) ** end, learner="+".join(dict.fromkeys(names)),
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
    """Up to `months` monthly origins before the last snapshot, the oldest first; none with less than half a year of history."""
    first, last = con.execute("select min(quoted_at), max(quoted_at) from core.price_quote").fetchall()[0]
    if first is None:
        return []
    found = [(pd.Timestamp(last) - pd.DateOffset(months=n)).to_pydatetime() for n in range(1, months + 1)]
    return sorted(o for o in found if o >= pd.Timestamp(first) + pd.DateOffset(months=6))


def backtest(con: duckdb.DuckDBPyConnection, months: int = 24) -> pd.DataFrame:
    """Every forecast at every origin beside what happened by the last snapshot, one row a forecast whose horizon has passed.

    Each origin sees the book as known then (`book_as_known`). Added columns: `has_changed` (any month-end from origin to horizon differs from
    the one before), `seen_usd_per_mtok` (blended), `naive_error` and `error` (absolute difference of logs).
    """
    last = con.execute("select max(quoted_at) from core.price_quote").fetchall()[0][0]
    with book_as_known(con, last) as book:
        final = panel(book, last)
    happened = {h: final.rows[SHEET].assign(month_no=final.rows["month_no"], has_changed=final.happened(0, h)) for h in HORIZONS}
    prices = final.rows.set_index([*SHEET, "month_no"])["log_price"]
    found = []
    for origin in origins(con, months):
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
