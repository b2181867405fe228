"""How well spend is forecast: series with a known process, and the request rates of real tenants.

    python -m tests.benchmarks.forecast_spend [--series 1000] [folder with ServeGen's traces]

Simulated: 18 months of daily spend of tenant, workload and model, with weekdays, growth, level shifts, launches and ends, price cuts, zero days
and spikes. Real: ServeGen's request rates (44 tenants, 14 days) by hour. Prints, by lead time, every method's errors, the CRPS and coverage
of what shipped and of the better naive, and the seconds taken.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import zstandard

from pipelines.forecast import rolling, spend
from tests.benchmarks.price_history import SHARED


def simulated(series: int, days: int = 546, seed: int = 0) -> np.ndarray:
    """S×days of spend in USD with a known process; NaN before a launch."""
    rng = np.random.default_rng(seed)
    day = np.arange(days)
    found = np.full((series, days), np.nan)
    for s in range(series):
        level = rng.lognormal(2, 1.5)
        growth = rng.normal(0.0008, 0.001) * (rng.random() < 0.6)
        office = rng.beta(2, 2) * (rng.random() < 0.7)
        weekday = 1 - office * np.isin((day + rng.integers(7)) % 7, (5, 6))
        x = np.log(level) + growth * day + np.cumsum(rng.normal(0, rng.choice([0, 0.01, 0.03]), days))
        for _ in range(rng.poisson(1)):
            x[rng.integers(days):] += rng.normal(0, 0.5)  # a feature ships, a customer leaves
        for _ in range(rng.poisson(0.7)):
            x[rng.integers(days):] += np.log(rng.choice([0.5, 0.7, 0.8, 1.25], p=[0.3, 0.3, 0.3, 0.1]))  # the price changes
        noise = rng.gamma(1 / (v := rng.choice([0.02, 0.08, 0.3])), v, days)
        y = np.exp(x) * weekday * noise
        if rng.random() < 0.15:
            y *= rng.random(days) < rng.uniform(0.3, 0.95)  # runs on some days only
        y[rng.random(days) < 0.004] *= 5
        launch = rng.integers(0, days - 60) if rng.random() < 0.35 else 0
        if rng.random() < 0.08:
            y[rng.integers(days // 2, days):] = 0
        found[s, launch:] = y[launch:]
    return found


def servegen(archive: Path) -> np.ndarray:
    """Requests by hour of each tenant (336 hours); a tenant without any is left out."""
    found = []
    with archive.open("rb") as packed, tarfile.open(fileobj=zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(packed), mode="r|") as tar:
        for member in tar:
            if member.isfile() and member.name.endswith("-trace.csv"):
                rows = np.genfromtxt(io.BytesIO(tar.extractfile(member).read()), delimiter=",", usecols=(0, 1))
                found.append(np.bincount((rows[:, 0] // 3600).astype(int), weights=rows[:, 1] * 600, minlength=336)[:336])
    return np.stack([one for one in found if one.sum() > 0])


def measure(name: str, values: np.ndarray, season: int, steps: int, stride: int, shown: int = 12, warm: int = 12) -> bool:
    """Backtest, print, and say whether what shipped beats the better naive with 90 % intervals that cover 88 to 92 %."""
    last = values.shape[1] - steps
    origins = [o for o in range(last - (shown + warm - 1) * stride, last + 1, stride) if o > 2 * season]
    first_shown = len(origins) - shown
    start = time.perf_counter()
    told = rolling.run(values, origins, season, steps)
    rows = rolling.scored(told, values, season, first_shown)
    seconds = time.perf_counter() - start
    print(f"\n{name}: {len(values):,} series × {shown} origins (and {first_shown} to warm up), {steps} steps ahead: {seconds:.0f} s")
    print("steps      method           MASE  RMSSE    bias   sCRPS   cover 80/90/95           width 90   Diebold-Mariano")
    for row in rows:
        more = ""
        if "scrps" in row:
            more = f"  {row['scrps']:.4f}   " + " ".join(f"{row[f'coverage_{t}_share']:.1%}" for t in (80, 90, 95)) + f"   {row['width_90_share']:8.2f}"
            more += f"   {row['dm_statistic']:+.2f} (p {row['dm_p_share']:.3f})" if row["dm_statistic"] is not None else ""
        print(f"{row['first_step']:>3}-{row['last_step']:<5} {row['method']:<15} {row['mase']:.3f}  {row['rmsse']:.3f}  {row['bias_share']:+.3f}{more}")
    names, counts = np.unique(told.shipped[first_shown:].astype(str), return_counts=True)
    print("shipped:", ", ".join(f"{n} {c / counts.sum():.0%}" for n, c in zip(names, counts, strict=True)))
    total = {r["method"]: r for r in rows if (r["first_step"], r["last_step"]) == (1, steps)}
    gain = 1 - total["shipped"]["scrps"] / total["best_naive"]["scrps"]
    covered = total["shipped"]["coverage_90_share"]
    print(f"median sCRPS {gain:.1%} better than the better naive; 90 % intervals cover {covered:.1%}")
    return gain > 0 and 0.88 <= covered <= 0.92


def budgets(values: np.ndarray, seed: int = 0) -> None:
    """Print how often a month's budget was exceeded beside the probability given, and how far off the day expected was; each series is a company."""
    rng, ahead = np.random.default_rng(seed), 28
    T = values.shape[1] - ahead
    values = values[~np.isnan(values[:, T - 180:]).any(axis=1) & (np.nansum(values[:, T - 60:T], axis=1) > 0)]
    end = date(2026, 2, 1)  # a month of 28 days
    told = rolling.run(values[:, :T], list(range(T - 23 * 7, T + 1, 7)), 7, ahead)
    keys = pd.DataFrame({"tenant": ["t"], "workload": ["w"], "provider_name": ["p"], "model_name": ["m"]})
    rows = []
    for s in range(len(values)):
        at = slice(s, s + 1)
        one = rolling.Told(told.origins, {}, told.shipped[:, at], told.points[:, at], told.best_naive[:, at], told.quantiles[:, at], told.naive_quantiles[:, at], told.scale[:, at])
        found = spend.Forecast(spend.Series(keys, values[at, :T], end - timedelta(days=T)), one, one, values[at, :T], 11, ahead, "sum")
        usd = float(told.points[-1, s].sum() * rng.uniform(0.7, 1.4))
        came = np.cumsum(values[s, T:])
        if usd > 0 and (budget := found.budget(usd)).probability_share is not None:
            day = int((came > usd).argmax()) if came[-1] > usd else None
            off = (budget.passed_day - end).days - day if budget.passed_day and day is not None else None
            rows.append((budget.probability_share, came[-1] > usd, off))
    chance, passed, off = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows if r[2] is not None])
    print(f"\nbudgets of {len(rows)} companies: Brier {np.mean((chance - passed) ** 2):.3f}, of the share that exceeded theirs {passed.mean() * (1 - passed.mean()):.3f}; "
          f"day expected off by a median of {np.median(np.abs(off)):.0f} days, mean {off.mean():+.1f} (of {len(off)} passed and expected)")
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1.01)):
        band = (chance >= low) & (chance < high)
        if band.any():
            print(f"  probability {low:.0%} to {min(high, 1):.0%}: {band.sum():>4} companies, mean {chance[band].mean():.1%}, exceeded {passed[band].mean():.1%}")


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", nargs="?", type=Path, default=SHARED / "traces/servegen")
    asked.add_argument("--series", type=int, default=1000)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    budgets(simulated(min(given.series, 400), seed=given.seed + 1))
    good = measure("simulated", simulated(given.series, seed=given.seed), season=7, steps=28, stride=14)
    for archive in sorted(given.folder.glob("*.tar.zst")) if given.folder.is_dir() else []:
        good &= measure(f"ServeGen {archive.name.split('_')[0]}, by hour", servegen(archive), season=24, steps=24, stride=12, warm=10)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
