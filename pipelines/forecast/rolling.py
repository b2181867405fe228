"""Many series forecast from many origins: which method ships, how wide its intervals are, and how it has done.

Everything at an origin is decided by what lies at or before it: methods are compared on the forecasts of earlier origins whose targets
have passed, and intervals come from the errors of those. A method ships for a series where it beats the better of the naive ones by
2 % there and that is told by six origins or more, else the naive is emitted.

Sources: Vovk et al. 2005, Lei et al. 2018 (split conformal: errors of held-back forecasts as intervals); Gibbs & Candès 2021 (adaptive: the
level moves with what was covered); Hyndman & Koehler 2006 (MASE); Diebold & Mariano 1995 with Harvey, Leybourne & Newbold's 1997 correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from pipelines.forecast import methods

LEVELS = (0.80, 0.90, 0.95)
QUANTILES = (0.025, 0.05, 0.1, 0.5, 0.9, 0.95, 0.975)
LEADS = (1, 7, 28, 91, 182, 366)
"""Last steps of the bands of lead time in which errors are pooled."""
NEEDED_GAIN = 0.02
FEWEST_ORIGINS = 6
"""With fewer of which a target has passed, the naive ships. The errors of an origin rise and fall together, whatever its series and days, so an
origin is about one look: that one of two equals is better in each of six is chance in 1 of 64 cases, in each of three in 1 of 8."""
PACE = 0.5
"""How far a level moves on all that was missed or covered at one origin (Gibbs & Candès' gamma)."""
FEWEST_ERRORS = 40
FEWEST_PERIODS = 4
"""With fewer that do not overlap, the width of a band of lead times is not believed where it is the smaller one."""
POOLED_ERRORS = 100.0
"""The errors of all series count as much as so many of a series' own."""
PARTS = 199
"""Quantiles that stand for the errors of all series."""


@dataclass(frozen=True)
class Told:
    """Forecasts of S series, H steps ahead, from P origins (P×S×H); quantiles are P×S×H×7."""

    origins: np.ndarray
    candidates: dict[str, np.ndarray]
    shipped: np.ndarray
    points: np.ndarray
    best_naive: np.ndarray
    quantiles: np.ndarray
    naive_quantiles: np.ndarray
    scale: np.ndarray


def run(values: np.ndarray, origins: list[int], season: int, steps: int) -> Told:
    """Forecast from each of the origins (columns of `values` that are seen), the oldest first.

    `values` is S×T, NaN where unknown or not yet begun. Targets beyond T are unknown, which is right for the last origin.
    """
    at = np.asarray(origins)
    S = len(values)
    told = [methods.all_points(values[:, :o], season, steps) for o in at]
    candidates = {name: np.stack([one[name] for one in told]) for name in told[0]}
    seen = targets(values, at, steps)
    scale = np.stack([_scale(values[:, :o], season) for o in at])
    P = len(at)
    shipped = np.empty((P, S), dtype=object)
    best_naive = np.empty((P, S), dtype=object)
    for p in range(P):
        shipped[p], best_naive[p] = _chosen(candidates, seen, scale, at, p, steps)
    points, naive = _pick(candidates, shipped), _pick(candidates, best_naive)
    quantiles = calibrate(points, seen, scale, at, steps)
    naive_quantiles = calibrate(naive, seen, scale, at, steps)
    return Told(at, candidates, shipped, points, best_naive, quantiles, naive_quantiles, scale)


def _pick(candidates: dict[str, np.ndarray], names: np.ndarray) -> np.ndarray:
    found = np.zeros_like(candidates["naive"])
    for name, points in candidates.items():
        found = np.where((names == name)[:, :, None], points, found)
    return found


def _scale(history: np.ndarray, season: int) -> np.ndarray:
    """(S,) mean absolute change from a season before over the last eight seasons, at least a twentieth of the mean.

    Of a series that has nothing but zeros there, nothing is known; it has a twentieth of the median of the others.
    """
    part = history[:, -9 * season:]
    change = np.abs(part[:, season:] - part[:, :-season]) if part.shape[1] > season else np.full((len(part), 1), np.nan)
    mean = _nanmean(np.abs(part))
    scale = np.maximum(_nanmean(change), 0.05 * mean)
    return np.where(scale > 0, scale, 0.05 * np.median(scale[scale > 0]) if (scale > 0).any() else 1e-12)


def _nanmean(x: np.ndarray) -> np.ndarray:
    known = ~np.isnan(x)
    return np.where(known, x, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def _resolved(at: np.ndarray, p: int, steps: int) -> np.ndarray:
    """(p, H) whether the target of an earlier origin lies at or before origin p."""
    return at[:p, None] + np.arange(1, steps + 1)[None, :] <= at[p]


def _chosen(candidates: dict[str, np.ndarray], seen: np.ndarray, scale: np.ndarray, at: np.ndarray, p: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(names that ship, names of the better naive) by series; an own record of n forecasts counts n, that of all series 100."""
    S = seen.shape[1]
    done = _resolved(at, p, steps)
    if not done.any():
        return np.full(S, "seasonal_naive", dtype=object), np.full(S, "seasonal_naive", dtype=object)
    own, pooled, count = {}, {}, None
    for name, points in candidates.items():
        error = np.abs(seen[:p] - points[:p]) / scale[:p, :, None]
        known = done[:, None, :] & ~np.isnan(error)
        error = np.where(known, np.minimum(error, 20), 0)
        count = known.sum(axis=(0, 2))
        own[name] = error.sum(axis=(0, 2))
        pooled[name] = error.sum() / max(1, known.sum())
    names = list(candidates)
    loss = np.stack([(own[n] + 100 * pooled[n]) / (count + 100) for n in names])
    naive = [names.index(n) for n in methods.NAIVE]
    best_naive = np.array(naive)[loss[naive].argmin(axis=0)]
    best = loss.argmin(axis=0)
    ships = (loss[best, np.arange(S)] <= (1 - NEEDED_GAIN) * loss[best_naive, np.arange(S)]) & (done.any(axis=1).sum() >= FEWEST_ORIGINS)
    labels = np.array(names, dtype=object)
    return np.where(ships, labels[best], labels[best_naive]), labels[best_naive]


def targets(values: np.ndarray, at: np.ndarray, steps: int) -> np.ndarray:
    """P×S×H values that came after each origin; NaN beyond the last."""
    padded = np.hstack([values, np.full((len(values), steps), np.nan)])
    return np.stack([padded[:, o:o + steps] for o in at])


def reconcile(parts: np.ndarray, total: np.ndarray, values: np.ndarray, summed: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P×S×H parts, (P,) whether they were moved) so that they meet a forecast of their total half way, as errors so far would have it.

    MinT with a diagonal covariance (Wickramasuriya, Athanasopoulos & Hyndman 2019), which for one level is closed: each part takes
    its own error variance over that of all parts and the total of what is missing. Done at an origin only where it made the sum 2 % better at
    the earlier ones; else the parts stay as they are. Nothing falls below zero.
    """
    P, _, H = parts.shape
    seen, whole = targets(values, at, H), targets(summed[None, :], at, H)[:, 0]
    moved, chosen = np.empty_like(parts), np.zeros(P, dtype=bool)
    for p in range(P):
        done = _resolved(at, p, H)
        error = np.where(done[:, None, :], np.nan_to_num(seen[:p] - parts[:p]), 0)
        own = (error**2).sum(axis=(0, 2))
        of_total = np.where(done, np.nan_to_num(whole[:p] - total[:p]), 0)
        share = own / max((of_total**2).sum() + own.sum(), 1e-12)
        moved[p] = np.maximum(parts[p] + share[:, None] * (total[p] - parts[p].sum(axis=0)), 0)
        misses = [np.where(done, np.abs(np.nan_to_num(whole[:p] - one[:p].sum(axis=1))), 0).sum() for one in (parts, moved)]
        chosen[p] = misses[1] < (1 - NEEDED_GAIN) * misses[0]
    return np.where(chosen[:, None, None], moved, parts), chosen


def bands(steps: int) -> list[tuple[int, int]]:
    """Bands of lead time as (first, end) columns of a forecast of that many steps."""
    edges = [0, *[lead for lead in LEADS if lead < steps], steps]
    return list(pairwise(edges))


def calibrate(points: np.ndarray, seen: np.ndarray, scale: np.ndarray, at: np.ndarray, steps: int) -> np.ndarray:
    """P×S×H×7 quantiles around points, from the errors of earlier origins that are known at each, by band of lead time.

    A series' errors, in units of its scale, are drawn from its own record and that of all series (stretched to how far its own run), the latter
    counting as much as `POOLED_ERRORS` own ones: busy series keep their own shape, sparse ones theirs, new ones have that of the others. Each level
    moves with the share missed at every earlier origin. A band with too few errors takes those of all bands; one with none
    those of the band before, wider by the root of the lead, and one that has seen fewer than four periods of its length is no narrower than that; without any, intervals are 2.5 units either way.
    """
    P, S, H = points.shape
    error = (seen - points) / scale[:, :, None]
    found = np.zeros((P, S, H, len(QUANTILES)))
    parts = bands(steps)
    alpha = {(band, level): 1 - level for band in range(len(parts)) for level in LEVELS}
    done_misses: set[tuple[int, int]] = set()
    for p in range(P):
        resolved = _resolved(at, p, steps)
        before: tuple[np.ndarray, np.ndarray] | None = None
        for band, (first, end) in enumerate(parts):
            # What has become known since the origin before moves the levels.
            for q in range(p):
                if (q, band) not in done_misses and resolved[q, first:end].all():
                    done_misses.add((q, band))
                    _move(alpha, band, seen[q, :, first:end], found[q, :, first:end])
            known = resolved[:, None, first:end] & ~np.isnan(error[:p, :, first:end])
            own = np.where(known, error[:p, :, first:end], np.nan).transpose(1, 0, 2).reshape(S, -1)
            size, count = np.nansum(np.abs(own), axis=1), (~np.isnan(own)).sum(axis=1)
            pooled = size.sum() / max(1, count.sum())
            factor = (size / max(pooled, 1e-12) + 30) / (count + 30) if pooled > 0 else np.ones(S)
            errors = (own / factor[:, None])[~np.isnan(own)]
            if len(errors) < FEWEST_ERRORS:
                own = np.full((S, 0), np.nan)
                every = error[:p][np.broadcast_to(resolved[:, None, :], error[:p].shape) & ~np.isnan(error[:p])]
                if len(every) >= FEWEST_ERRORS and (before is None or resolved[:, first:end].any()):
                    errors, factor = every, np.ones(S)
                elif before is None:
                    errors, factor = np.linspace(-2.5, 2.5, 101), np.ones(S)
                else:
                    errors, factor = before[0] * np.sqrt((first + end) / (parts[band - 1][0] + parts[band - 1][1])), before[1]
            elif before is not None:
                # Few periods of this length have been seen, however many errors: then it is no narrower than what the band before makes likely.
                told = at[:p][resolved[:, first:end].any(axis=1)]
                if 1 + (told[-1] - told[0]) / (end - first) < FEWEST_PERIODS:
                    likely = np.sqrt((first + end) / (parts[band - 1][0] + parts[band - 1][1])) * np.ptp(np.quantile(before[0], [0.05, 0.95]))
                    wider = max(1.0, likely / max(np.ptp(np.quantile(errors, [0.05, 0.95])), 1e-12)) if likely > 0 else 1.0
                    own, errors = own * wider, errors * wider
            before = errors, factor
            levels = np.empty(len(QUANTILES))
            levels[3] = 0.5
            for n, level in enumerate(reversed(LEVELS)):  # 95, 90, 80: from the outside in
                a = min(0.6, max(0.002, alpha[band, level])) / 2
                levels[n], levels[-1 - n] = a, 1 - a
            edges = _mixed(own, errors, factor, np.sort(levels))
            found[p, :, first:end] = points[p, :, first:end, None] + scale[p][:, None, None] * edges[:, None, :]
    return np.maximum(found, 0)


def _mixed(own: np.ndarray, errors: np.ndarray, factor: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(S, levels) quantiles of each row of own errors (NaN: none) together with the pooled ones times its factor."""
    grid = np.quantile(errors, (np.arange(PARTS) + 0.5) / PARTS)
    count = (~np.isnan(own)).sum(axis=1)
    values = np.hstack([own, factor[:, None] * grid])
    weights = np.hstack([np.where(np.isnan(own), 0, 1 / (count[:, None] + POOLED_ERRORS)), np.repeat((POOLED_ERRORS / (count + POOLED_ERRORS) / PARTS)[:, None], PARTS, axis=1)])
    order = np.argsort(values, axis=1)  # NaN last, without weight
    values, weights = np.take_along_axis(values, order, axis=1), np.take_along_axis(weights, order, axis=1)
    reached = np.cumsum(weights, axis=1)
    places = (reached[:, :, None] < levels - 1e-12).sum(axis=1)
    return np.take_along_axis(values, np.minimum(places, values.shape[1] - 1 - np.isnan(values).sum(axis=1)[:, None]), axis=1)


def _move(alpha: dict[tuple[int, float], float], band: int, seen: np.ndarray, quantiles: np.ndarray) -> None:
    known = ~np.isnan(seen)
    if not known.any():
        return
    for n, level in enumerate(reversed(LEVELS)):
        missed = ((seen < quantiles[..., n]) | (seen > quantiles[..., -1 - n]))[known].mean()
        alpha[band, level] += PACE * ((1 - level) - missed)


def pinball(seen: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Mean over the quantiles of twice the pinball loss: an approximation of the CRPS, in the unit of the values. NaN where not seen."""
    q = np.array(QUANTILES)
    off = seen[..., None] - quantiles
    return 2 * np.maximum(q * off, (q - 1) * off).mean(axis=-1)


def diebold_mariano(loss: np.ndarray, against: np.ndarray) -> tuple[float, float]:
    """(statistic, two-sided p) that two forecasts' mean losses at successive origins differ; below zero where the first is better."""
    d = np.asarray(loss) - np.asarray(against)
    n = len(d)
    if n < 3 or np.allclose(d, d[0]):
        return 0.0, 1.0
    # Origins that follow one another share half their targets at the most: one lag of autocovariance.
    centered = d - d.mean()
    variance = (centered @ centered + 2 * max(0.0, centered[1:] @ centered[:-1])) / n**2
    statistic = d.mean() / np.sqrt(variance) * np.sqrt((n - 1) / n)
    return float(statistic), float(2 * stats.t.sf(abs(statistic), n - 1))


def scored(told: Told, values: np.ndarray, season: int, first_shown: int) -> list[dict[str, object]]:
    """The record of every method and of what shipped, by band of lead time, over the origins from `first_shown` on.

    sCRPS is a series' mean CRPS over its mean absolute value, the median over series; MASE and RMSSE are in units of the scale, at least a
    tenth of the series' mean; bias is the mean error over the mean value; coverage and width (in units of the mean value) are of what shipped and of the better naive.
    """
    P, _, H = told.points.shape
    seen = targets(values, told.origins, H)
    shown = slice(first_shown, P)
    found: list[dict[str, object]] = []
    for first, end in [*bands(H), (0, H)]:
        y = seen[shown, :, first:end]
        known = ~np.isnan(y)
        if not known.any():
            continue
        level = np.where(known, np.abs(y), 0).sum(axis=(0, 2)) / np.maximum(known.sum(axis=(0, 2)), 1)
        alive = (level > 0) & (known.sum(axis=(0, 2)) > 0)
        scale = np.maximum(told.scale[shown], 0.1 * level)[:, :, None]
        naive_points = _pick(told.candidates, told.best_naive)
        contenders = {**told.candidates, "shipped": told.points, "best_naive": naive_points}
        crps = {"shipped": pinball(y, told.quantiles[shown, :, first:end]), "best_naive": pinball(y, told.naive_quantiles[shown, :, first:end])}
        counted = known & alive[None, :, None]
        in_units = np.where(counted, 1 / np.where(alive, level, 1)[None, :, None], 0)
        loss = {n: np.where(counted.any(axis=(1, 2)), (np.nan_to_num(c) * in_units).sum(axis=(1, 2)) / np.maximum(counted.sum(axis=(1, 2)), 1), np.nan) for n, c in crps.items()}
        both = ~np.isnan(loss["shipped"])
        statistic, p_value = diebold_mariano(loss["shipped"][both], loss["best_naive"][both])
        for name, all_points in contenders.items():
            error = np.where(known, all_points[shown, :, first:end] - np.nan_to_num(y), 0)
            row: dict[str, object] = {
                "method": name, "first_step": first + 1, "last_step": end, "series_count": int(alive.sum()), "origin_count": int(known.any(axis=(1, 2)).sum()),
                "forecast_count": int(known.sum()), "mase": float((np.abs(error) / scale).sum() / known.sum()),
                "rmsse": float(np.sqrt(((error / scale) ** 2).sum() / known.sum())), "bias_share": float(error.sum() / max(np.nansum(np.where(known, y, 0)), 1e-12)),
                "exact_hit_share": float((np.abs(error) <= 1e-9)[known].mean()),
            }
            if name in crps:
                quantiles = (told.quantiles if name == "shipped" else told.naive_quantiles)[shown, :, first:end]
                by_series = np.where(known, crps[name], 0).sum(axis=(0, 2))[alive] / np.maximum(known.sum(axis=(0, 2))[alive], 1) / level[alive]
                row |= {"scrps": float(np.median(by_series)) if len(by_series) else None, "dm_statistic": statistic if name == "shipped" else None, "dm_p_share": p_value if name == "shipped" else None}
                for n, interval in enumerate(reversed(LEVELS)):
                    low, high = quantiles[..., n], quantiles[..., -1 - n]
                    tag = round(interval * 100)
                    row[f"coverage_{tag}_share"] = float(((y >= low - 1e-9) & (y <= high + 1e-9))[counted].mean()) if counted.any() else None
                    row[f"width_{tag}_share"] = float(((high - low) / np.where(level > 0, level, 1)[None, :, None])[counted].mean()) if counted.any() else None
            found.append(row)
    return found
