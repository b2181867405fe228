"""Point forecasts of many series at once: plain numpy on a matrix of one row a series.

All take `history` (S×T, the last column is the origin; NaN before a series began, and where a value is unknown), the length of the
season in steps and the number of steps ahead, and give S×H. None looks at anything else. Values are amounts: forecasts are never below
zero. A series that is empty, or zero for four seasons, is forecast as zero by every method.

Sources: Hyndman & Athanasopoulos, Forecasting: Principles and Practice (naive, seasonal naive, drift, exponential smoothing);
Assimakopoulos & Nikolopoulos 2000 (theta); Petropoulos & Svetunkov 2020 (median combination).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

WINDOW = 26
"""Seasons of history that methods look back on."""
NAIVE = ("naive", "seasonal_naive")
"""What a forecast has to beat."""
ALPHAS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0])


def filled(history: np.ndarray, season: int) -> np.ndarray:
    """Unknown values inside a series, as a season before; those before it began stay NaN."""
    y = history.copy()
    started = np.maximum.accumulate(~np.isnan(y), axis=1)
    for t in range(y.shape[1]):
        gap = np.isnan(y[:, t]) & started[:, t]
        if gap.any():
            back = y[gap, t - season] if t >= season else np.full(gap.sum(), np.nan)
            y[gap, t] = np.where(np.isnan(back), y[gap, t - 1], back)
    return y


def weekly(y: np.ndarray, season: int) -> np.ndarray:
    """(S, season) factors of the seasons' steps, aligned so that column k is for step k after the origin; mean 1.

    From the last eight seasons, drawn towards 1 as if two seasons without any pattern had been seen too.
    """
    S, T = y.shape
    seasons = min(8, T // season)
    if seasons < 2:
        return np.ones((S, season))
    recent = y[:, T - seasons * season:].reshape(S, seasons, season)
    level = np.nan_to_num(recent).mean(axis=2, keepdims=True)  # seasons with a gap are left out below
    ok = ~np.isnan(recent).any(axis=2, keepdims=True) & (level > 0)
    share = np.where(ok, recent / np.where(ok, level, 1), 0)
    count = ok.sum(axis=1)
    return (np.where(ok, share, 0).sum(axis=1) + 2) / (count + 2)


def _ahead(factors: np.ndarray, steps: int) -> np.ndarray:
    return factors[:, np.arange(steps) % factors.shape[1]]


def _behind(factors: np.ndarray, length: int) -> np.ndarray:
    return factors[:, (np.arange(length) - length) % factors.shape[1]]


def last_known(y: np.ndarray) -> np.ndarray:
    """(S,) the last value; zero where there is none. `y` is filled."""
    return np.nan_to_num(y[:, -1])


def naive(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """The last value."""
    return np.repeat(last_known(y)[:, None], steps, axis=1)


def seasonal_naive(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """The value a season before; the last value where the series is younger."""
    if y.shape[1] < season:
        return naive(y, season, steps)
    tail = y[:, -season:]
    return _ahead(np.where(np.isnan(tail), last_known(y)[:, None], tail), steps)


def drift(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """The last value, and on as from the first to the last."""
    known = ~np.isnan(y)
    count = known.sum(axis=1)
    first = np.take_along_axis(y, known.argmax(axis=1)[:, None], axis=1)[:, 0]
    slope = np.where(count > 1, (last_known(y) - np.nan_to_num(first)) / np.maximum(count - 1, 1), 0)
    return np.maximum(last_known(y)[:, None] + slope[:, None] * np.arange(1, steps + 1), 0)


def _smoothed(x: np.ndarray) -> np.ndarray:
    """(S,) level of simple exponential smoothing, the weight chosen by series on its own one-step errors."""
    S, T = x.shape
    level = np.full((S, len(ALPHAS)), np.nan)
    error = np.zeros((S, len(ALPHAS)))
    for t in range(T):
        now = x[:, t, None]
        told = ~np.isnan(now)
        fresh = np.isnan(level)
        miss = np.where(told & ~fresh, now - level, 0)
        error = 0.99 * error + miss**2
        level = np.where(told, np.where(fresh, now, level + ALPHAS * miss), level)
    return np.nan_to_num(np.take_along_axis(level, error.argmin(axis=1)[:, None], axis=1)[:, 0])


def ses(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """Simple exponential smoothing of the series without its season (ETS(A,N,M) with a fixed season)."""
    factors = weekly(y, season)
    return _smoothed(y / np.maximum(_behind(factors, y.shape[1]), 0.05))[:, None] * _ahead(factors, steps)


def theta(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """Theta: the smoothed level, and on with half the slope of the trend, without and then again with the season."""
    factors = weekly(y, season)
    x = y / np.maximum(_behind(factors, y.shape[1]), 0.05)
    known = ~np.isnan(x)
    count = known.sum(axis=1)
    t = np.where(known, np.arange(x.shape[1]), np.nan)
    center = np.nansum(t, axis=1) / np.maximum(count, 1)
    mean = np.nansum(x, axis=1) / np.maximum(count, 1)
    apart = np.nan_to_num(t - center[:, None])
    slope = (apart * np.nan_to_num(x - mean[:, None])).sum(axis=1) / np.maximum((apart**2).sum(axis=1), 1e-9)
    slope = np.where(count >= 3 * season, slope, 0)
    return np.maximum(_smoothed(x)[:, None] + slope[:, None] / 2 * np.arange(1, steps + 1), 0) * _ahead(factors, steps)


def _lags(season: int) -> int:
    return 4 * season if season <= 7 else 2 * season


def _scaled(x: np.ndarray, end: int, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows of lags over their mean, that mean); the mean is zero where a series is unknown or nothing but zeros there."""
    part = x[:, end - lags:end]
    scale = np.where(np.isnan(part).any(axis=1), 0, np.nan_to_num(part).mean(axis=1))
    return np.nan_to_num(part) / np.where(scale > 0, scale, 1)[:, None], scale


def ridge(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """One ridge regression of all series on their last four seasons (two where a season is long), every step at once, held level later."""
    T = y.shape[1]
    lags = _lags(season)
    direct = min(steps, lags, max(1, T - lags - 1))
    factors = weekly(y, season)
    x = y / np.maximum(_behind(factors, T), 0.05)
    ends = range(T - direct, lags - 1, -max(1, direct // 2))[:12]
    rows, targets = [], []
    for end in ends:
        part, scale = _scaled(x, end, lags)
        then = x[:, end:end + direct]
        ok = (scale > 0) & ~np.isnan(then).any(axis=1)
        rows.append(part[ok])
        targets.append(np.clip(then[ok] / scale[ok, None], 0, 5))
    if not rows or sum(map(len, rows)) < 3 * lags:
        return ses(y, season, steps)
    A, B = np.vstack(rows), np.vstack(targets)
    # Shares that sum to one are the prior: without evidence the forecast is the mean of the lags.
    center = np.full((lags, direct), 1 / lags)
    penalty = 0.02 * len(A) * np.eye(lags)
    weights = center + np.linalg.solve(A.T @ A + penalty, A.T @ (B - A @ center))
    part, scale = _scaled(x, T, lags)
    found = np.maximum(part @ weights, 0) * scale[:, None]
    tail = found[:, -min(season, direct):].mean(axis=1, keepdims=True)
    found = np.hstack([found, np.repeat(tail, steps - direct, axis=1)]) * _ahead(factors, steps)
    return np.where((scale > 0)[:, None], found, ses(y, season, steps))


def boosting(y: np.ndarray, season: int, steps: int) -> np.ndarray:
    """Gradient-boosted trees of all series on figures of their last seasons and the step; held level after the longest step learnt."""
    S, T = y.shape
    lags = _lags(season)
    direct = min(steps, lags, max(1, T - lags - 1))
    factors = weekly(y, season)
    x = y / np.maximum(_behind(factors, T), 0.05)
    leads = np.unique(np.linspace(1, direct, min(direct, 7)).astype(int))
    rows, targets = [], []
    for end in range(T - direct, lags - 1, -direct)[:6]:
        part, scale = _scaled(x, end, lags)
        figures = _figures(part, season)
        for lead in leads:
            then = x[:, end + lead - 1]
            ok = (scale > 0) & ~np.isnan(then)
            rows.append(np.column_stack([figures[ok], np.full(ok.sum(), lead)]))
            targets.append(np.clip(then[ok] / scale[ok], 0, 5))
    if sum(map(len, rows)) < 500:
        return ses(y, season, steps)
    A, B = np.vstack(rows), np.concatenate(targets)
    if len(A) > 20_000:
        kept = np.random.default_rng(0).choice(len(A), 20_000, replace=False)
        A, B = A[kept], B[kept]
    trees = HistGradientBoostingRegressor(max_iter=50, learning_rate=0.1, max_leaf_nodes=15, min_samples_leaf=40, early_stopping=False, random_state=0).fit(A, B)
    part, scale = _scaled(x, T, lags)
    figures = np.repeat(_figures(part, season), len(leads), axis=0)
    told = np.maximum(trees.predict(np.column_stack([figures, np.tile(leads, S)])), 0).reshape(S, len(leads)) * scale[:, None]
    at = np.minimum(np.arange(1, steps + 1), direct)
    found = np.stack([np.interp(at, leads, row) for row in told]) * _ahead(factors, steps)
    return np.where((scale > 0)[:, None], found, ses(y, season, steps))


def _figures(part: np.ndarray, season: int) -> np.ndarray:
    half = part.shape[1] // 2
    recent, before = part[:, -season:].mean(axis=1), part[:, :half].mean(axis=1)
    return np.column_stack([
        part[:, -1], part[:, -3:].mean(axis=1), recent, before, part[:, -season:].std(axis=1), part.std(axis=1), (part == 0).mean(axis=1),
        (part[:, -season:] == 0).mean(axis=1), part.max(axis=1), np.median(part, axis=1), part[:, -season],
    ])


METHODS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "naive": naive, "seasonal_naive": seasonal_naive, "drift": drift, "ses": ses, "theta": theta, "ridge": ridge, "boosting": boosting,
}


def all_points(history: np.ndarray, season: int, steps: int) -> dict[str, np.ndarray]:
    """Every method's forecast, and `median`: the median of seasonal naive, smoothing, theta, ridge and boosting."""
    y = filled(history[:, -WINDOW * season:], season)
    found = {name: method(y, season, steps) for name, method in METHODS.items()}
    found["median"] = np.median([found[name] for name in ("seasonal_naive", "ses", "theta", "ridge", "boosting")], axis=0)
    # Whatever was used for four seasons is not about to come back for a method's sake.
    silent = ~(np.nan_to_num(y[:, -4 * season:]) > 0).any(axis=1)
    return {name: np.where(silent[:, None], 0, np.maximum(points, 0)) for name, points in found.items()}
