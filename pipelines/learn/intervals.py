"""Estimates that are functions of sums over independent clusters, and how sure one can be of them.

Every estimate here is `mean(base) + sum(correction) / sum(normaliser)` over rows, or the difference of two such; rows of one cluster (a
trace, a tenant) may depend on each other in any way, clusters are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95
RESAMPLES = 1_000
RESAMPLED_CLUSTERS = 10_000
"""More clusters than this are merged at random before they are resampled: sums of merged clusters are independent still."""


@dataclass(frozen=True)
class Interval:
    """Two-sided interval of `level`; `method` says how it was made."""

    low: float
    high: float
    method: str
    level: float = LEVEL


@dataclass(frozen=True, eq=False)
class Terms:
    """What an estimator adds up, one entry a row; `normaliser` None stands for the number of rows."""

    base: np.ndarray | None
    correction: np.ndarray
    normaliser: np.ndarray | None

    def sums(self, cluster: np.ndarray, cluster_count: int) -> np.ndarray:
        """clusters×4: base, correction, normaliser and number of rows."""
        size = np.bincount(cluster, minlength=cluster_count).astype(np.float64)
        columns = [np.zeros_like(size) if self.base is None else self._sum(self.base, cluster, cluster_count)]
        columns.append(self._sum(self.correction, cluster, cluster_count))
        columns.append(size if self.normaliser is None else self._sum(self.normaliser, cluster, cluster_count))
        return np.column_stack([*columns, size])

    @staticmethod
    def _sum(values: np.ndarray, cluster: np.ndarray, cluster_count: int) -> np.ndarray:
        return np.bincount(cluster, weights=values, minlength=cluster_count)


def value(totals: np.ndarray) -> np.ndarray:
    """The estimate from totals of the four sums (last axis)."""
    base, correction, normaliser, size = np.moveaxis(totals, -1, 0)
    return base / size + correction / normaliser


def influence(sums: np.ndarray) -> np.ndarray:
    """How much each cluster moves the estimate (delta method); adds up to zero."""
    return sums @ _gradient(sums.sum(axis=0))


def _gradient(totals: np.ndarray) -> np.ndarray:
    base, correction, normaliser, size = np.moveaxis(totals, -1, 0)
    return np.stack([1 / size, 1 / normaliser, -correction / normaliser**2, -base / size**2], axis=-1)


def standard_error(moves: np.ndarray) -> float:
    """Of an estimate from its influence by cluster: the clustered sandwich, with n/(n-1)."""
    count = len(moves)
    return math.sqrt(count / (count - 1) * float(moves @ moves)) if count > 1 else math.nan


def normal(estimate: float, moves: np.ndarray) -> Interval:
    """Estimate ± t × clustered standard error. Short of its level where few heavy, skewed clusters decide."""
    reach = student.ppf((1 + LEVEL) / 2, max(len(moves) - 1, 1)) * standard_error(moves)
    return Interval(float(estimate - reach), float(estimate + reach), "normal, clustered")


def skewed(estimate: float, moves: np.ndarray) -> Interval:
    """As `normal`, with the t statistic's skewness taken out by Hall's (1992) monotone cubic, and degrees of freedom that say how well the
    variance itself is known (Satterthwaite, from the fourth moment): a few heavy clusters count as few.
    """
    count, error, peak = len(moves), standard_error(moves), float(np.abs(moves).max())
    if peak == 0:
        return Interval(estimate, estimate, "skewness-corrected, clustered")
    scaled = moves / peak
    second = float(scaled @ scaled)
    skew = float((scaled**3).sum()) / second**1.5
    excess = float((scaled**4).sum()) / second**2 - 1 / count
    freedom = max(min(count - 1, 2 / excess), 1) if excess > 0 else count - 1
    quantile = student.ppf((1 + LEVEL) / 2, freedom)

    def unskewed(y: float) -> float:
        if abs(skew) < 1e-9:
            return y
        return 3 / skew * (math.cbrt(1 + skew * (y - skew / 6)) - 1)

    return Interval(float(estimate - error * unskewed(quantile)), float(estimate - error * unskewed(-quantile)), "skewness-corrected, clustered")


def bootstrap(parts: list[tuple[float, np.ndarray]], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Studentised bootstrap over clusters (Efron's bootstrap-t, Poisson weights) of a signed sum of estimates: [(sign, clusters×4 sums), …].

    Each resample gives its estimate and, by the delta method, its own standard error; all resamples are two matrix products.
    """
    rng = np.random.default_rng(seed)
    count = len(parts[0][1])
    if count > RESAMPLED_CLUSTERS:
        merged = rng.permutation(count) % RESAMPLED_CLUSTERS
        parts = [(sign, np.column_stack([np.bincount(merged, weights=column) for column in sums.T])) for sign, sums in parts]
        count = RESAMPLED_CLUSTERS
    sums = np.hstack([s for _, s in parts])
    width = sums.shape[1]
    products = (sums[:, :, None] * sums[:, None, :]).reshape(count, width**2)

    def of(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pieces = [(sign, totals[..., 4 * i : 4 * i + 4]) for i, (sign, _) in enumerate(parts)]
        return sum(sign * value(p) for sign, p in pieces), np.concatenate([sign * _gradient(p) for sign, p in pieces], axis=-1)

    estimate, gradient = of(sums.sum(axis=0))
    error = standard_error(sums @ gradient)
    if not error:
        return Interval(float(estimate), float(estimate), "bootstrap-t, clustered")
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = []
        for start in range(0, resamples, 100):
            drawn = rng.poisson(1.0, size=(min(100, resamples - start), count)).astype(np.float64)
            again, slope = of(drawn @ sums)
            variance = np.einsum("bi,bij,bj->b", slope, (drawn @ products).reshape(-1, width, width), slope)
            studentised.append((again - estimate) / np.sqrt(variance))
        t = np.concatenate(studentised)
    told = t[np.isfinite(t)]
    # Of two or three clusters most resamples hold one alone, which has no spread.
    if told.size < resamples / 2:
        return Interval(-math.inf, math.inf, "bootstrap-t, clustered")
    low, high = np.quantile(told, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(estimate - high * error), float(estimate - low * error), "bootstrap-t, clustered")


def empirical_bernstein(scores: np.ndarray, sizes: np.ndarray, span: float) -> Interval:
    """The empirical Bernstein bound (Maurer & Pontil 2009, theorem 4) on both sides: holds at every n for independent clusters, needs no
    normality, and is wide. `scores` and `sizes` are sums and numbers of rows by cluster, `span` the width of the range one row's score can take.
    """
    count = len(scores)
    if count < 2:
        return Interval(-math.inf, math.inf, "empirical Bernstein, clustered")
    mean_size = sizes.mean()
    unit = scores / mean_size
    log = math.log(4 / (1 - LEVEL))
    reach = math.sqrt(2 * unit.var(ddof=1) * log / count) + 7 * span * float(sizes.max() / mean_size) * log / (3 * (count - 1))
    return Interval(float(unit.mean() - reach), float(unit.mean() + reach), "empirical Bernstein, clustered")
