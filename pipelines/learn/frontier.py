"""What a router is worth: quality against cost, and the figures the field compares routers by.

All functions are plain arithmetic on arrays of one row a request: rewards and costs are (n, k) for k arms, a choice is (n,) of
column numbers, a curve is a pair (cost, quality) of equal length. Costs may be in any unit; the answers are in the same one.

Sources: RouteLLM (Ong et al., arXiv 2406.18665; PGR, APGR, CPT), RouterBench (Hu et al., arXiv 2403.12031; hull and AIQ),
LLMRouterBench (arXiv 2601.07206; gap to the oracle), Guo et al. 2017 (expected calibration error).
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.drawing import saved

ORDER_OF_TIES = 1e-12  # two quality figures nearer than this are the same


@dataclass(frozen=True)
class PairFigures:
    """Two arms, weak and strong, by RouteLLM's protocol. Shares are 0..1."""

    weak: float
    strong: float
    apgr: float
    cpt50_share: float
    cpt80_share: float
    share: np.ndarray
    quality: np.ndarray


def pair_figures(score: np.ndarray, weak: np.ndarray, strong: np.ndarray, bins: int = 10) -> PairFigures:
    """RouteLLM's figures for a score that says how much a request wants the strong model.

    Thresholds are the edges of `bins` equally filled bins of the score; a request at or above the threshold goes to the strong
    model, at the last edge only one above it, so that the curve runs from all calls strong to none. APGR is the area (trapezoids)
    under the quality gained over the weak model, in parts of what the strong model gains. CPT(x) is the share of strong calls at
    which the share x of that gain is first reached, between points by straight lines. Equal edges (many equal scores) count once.
    Raises ValueError where the strong model is not better: the figures mean nothing then.
    """
    score, weak, strong = (np.asarray(a, dtype=float) for a in (score, weak, strong))
    low, high = weak.mean(), strong.mean()
    if not high > low:
        raise ValueError(f"the strong arm ({high:.4f}) is not better than the weak one ({low:.4f}) on these rows")
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    chosen = score[:, None] >= edges
    chosen[:, -1] = score > edges[-1]
    share = chosen.mean(axis=0)[::-1]
    quality = np.where(chosen, strong[:, None], weak[:, None]).mean(axis=0)[::-1]
    if len(edges) == 1:  # one score for all: all calls weak, or all strong
        share, quality = np.array([0.0, 1.0]), np.array([low, high])
    apgr = (np.trapezoid(quality, share) - low) / (high - low)
    cpt50, cpt80 = (_first_reached(low + part * (high - low), share, quality) for part in (0.5, 0.8))
    return PairFigures(float(low), float(high), float(apgr), cpt50, cpt80, share, quality)


def _first_reached(wanted: float, share: np.ndarray, quality: np.ndarray) -> float:
    at = int((quality >= wanted).argmax())  # the last point is the strong arm itself, so there is one; the first is below
    part = (wanted - quality[at - 1]) / (quality[at] - quality[at - 1])
    return float(share[at - 1] + part * (share[at] - share[at - 1]))


def oracle_choice(rewards: np.ndarray, costs: np.ndarray | None = None) -> np.ndarray:
    """(n,) column of the best reward, the cheapest of equals: the bound that no router passes. It reads the answer; it is no router."""
    rewards = np.asarray(rewards, dtype=float)
    best = rewards >= np.nanmax(rewards, axis=1, keepdims=True)
    price = np.zeros_like(rewards) if costs is None else np.nan_to_num(np.asarray(costs, dtype=float), nan=np.finfo(float).max)
    return np.where(best, price, np.inf).argmin(axis=1)


def reward_of(choice: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """(n,) what each choice brought; also for costs."""
    return np.take_along_axis(np.asarray(rewards), np.asarray(choice)[:, None], axis=1)[:, 0]


def gap_closed(quality: float, best_single: float, oracle: float) -> float:
    """Part of the way from the best single arm to the oracle; below zero where the router loses to the best single arm."""
    return (quality - best_single) / (oracle - best_single)


def gain_interval(
    reward: np.ndarray, against: np.ndarray, groups: np.ndarray | None = None, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """(gain, low, high): mean of reward − against over the same requests, with a percentile bootstrap of whole groups.

    The interval says how far the figure hangs on which requests were drawn; what the learner saw is taken as given.
    """
    gain = np.asarray(reward, dtype=float) - np.asarray(against, dtype=float)
    member = np.arange(len(gain)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    total, size = np.bincount(member, weights=gain), np.bincount(member)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        drawn = rng.integers(len(size), size=len(size))
        means[i] = total[drawn].sum() / size[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(gain.mean()), float(low), float(high)


def pareto(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """(n,) whether no other point is at once as cheap and as good, and better in one of the two. O(n log n)."""
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    order = np.lexsort((-quality, cost))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(quality[order])[:-1]])
    kept = quality[order] > best_before
    # A twin of a kept point is as good as it.
    first = np.flatnonzero(kept)
    twin_of = first[np.maximum(np.searchsorted(first, np.arange(len(order)), side="right") - 1, 0)]
    twins = (cost[order] == cost[order][twin_of]) & (quality[order] == quality[order][twin_of])
    found = np.zeros(len(cost), dtype=bool)
    found[order] = kept | twins
    return found


def hull(cost: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-decreasing convex hull of points: what mixing them at random reaches. (cost, quality), cost rising. O(n log n).

    Monotone chain (Andrew 1979), upper side only, over the Pareto points: from the cheapest to the best.
    """
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    best = pareto(cost, quality)
    points = sorted(set(zip(cost[best].tolist(), quality[best].tolist(), strict=True)))
    upper: list[tuple[float, float]] = []
    for c, q in points:
        while len(upper) > 1 and (upper[-1][1] - upper[-2][1]) * (c - upper[-2][0]) <= (q - upper[-2][1]) * (upper[-1][0] - upper[-2][0]):
            upper.pop()
        upper.append((c, q))
    return np.array([c for c, _ in upper]), np.array([q for _, q in upper])


def aiq(cost: np.ndarray, quality: np.ndarray, cheapest: float, dearest: float) -> float:
    """RouterBench's average improvement in quality as its paper has it: mean height of the hull between two costs.

    1/(dearest − cheapest) · ∫ hull. Right of its best point the hull stays level; left of its cheapest point it has nothing to
    offer and counts zero. (RouterBench's code divides by the greatest cost instead; figures of the two do not compare.)
    """
    x, y = hull(cost, quality)
    grid = np.unique(np.clip(np.concatenate([x, [cheapest, dearest]]), cheapest, dearest))
    height = np.interp(grid, x, y)
    offered = grid >= min(x[0], dearest)
    return float(np.trapezoid(height[offered], grid[offered]) / (dearest - cheapest))


def cost_at_quality(cost: np.ndarray, quality: np.ndarray, wanted: float) -> float:
    """Least cost at which the hull of the points reaches the quality wanted; NaN where it never does."""
    x, y = hull(cost, quality)
    if wanted > y[-1] + ORDER_OF_TIES:
        return float("nan")
    return float(np.interp(wanted, y, x))


def calibration_error(predicted: np.ndarray, happened: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance of predicted and seen share over equally wide bins of 0..1, weighted by rows."""
    predicted, happened = np.asarray(predicted, dtype=float), np.asarray(happened, dtype=float)
    bin_of = np.clip((predicted * bins).astype(int), 0, bins - 1)
    off = np.bincount(bin_of, weights=predicted - happened, minlength=bins)
    return float(np.abs(off).sum() / len(predicted))


@dataclass(frozen=True)
class Curve:
    """One line or set of points of a plot."""

    name: str
    cost: np.ndarray
    quality: np.ndarray
    is_line: bool = True


def draw(curves: list[Curve], path: Path, title: str, cost_label: str, quality_label: str) -> tuple[Path, Path]:
    """Writes `path`.png and `path`.html (one file, nothing loaded from elsewhere: a drawing and its figures); returns both paths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        if curve.is_line:
            axes.plot(curve.cost, curve.quality, marker=".", label=curve.name)
        else:
            axes.scatter(curve.cost, curve.quality, marker="x", label=curve.name)
    axes.set(title=title, xlabel=cost_label, ylabel=quality_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    page = path.with_suffix(".html")
    png, svg = saved(figure, path)
    rows = "".join(
        f"<tr><td>{html.escape(curve.name)}</td><td>{c:.6g}</td><td>{q:.4f}</td></tr>"
        for curve in curves for c, q in zip(curve.cost, curve.quality, strict=True)
    )
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;margin:2em auto;max-width:60em}svg{width:100%;height:auto}td,th{padding:0 1em;text-align:left}</style>"
        f"<h1>{html.escape(title)}</h1>{svg}"
        f"<table><tr><th>router</th><th>{html.escape(cost_label)}</th><th>{html.escape(quality_label)}</th></tr>{rows}</table>\n"
    )
    return png, page
