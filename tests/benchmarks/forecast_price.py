"""How well changes of list prices, and the price of capability, are forecast: backtests over folders of dated snapshots.

    python -m tests.benchmarks.forecast_price [--development] [folder ...]

A folder holds snapshots of one list, whatever its name; whether it is litellm's, openrouter's, models_dev's or genai_prices' is seen from the
files. Files that cannot be read are named and left out. Default: the folders of the shared data, each alone and then both as one book. Where
there are LMArena's ratings (quality/lmarena_history.csv.gz of the shared data), capability is backtested too. Every origin sees only what was
known then. Learners and penalties were chosen on the earlier half of the origins (`--development` shows that half alone); report the later half.
Ends with 1 where, on the later half, the log-loss is not 5 % better than a constant hazard for a folder alone, a point forecast is worse than
the last price at any horizon, or the 90 % intervals of capability do not cover 85 to 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from datetime import datetime
from pathlib import Path

import duckdb
import fsspec
import pandas as pd

from pipelines.errors import NotConfigured
from pipelines.feeds import snapshots
from pipelines.forecast import capability, price
from tests.benchmarks.price_history import ROOT, SHARED, stage
from tests.support.pricebook import connection, rate


def read(path: str) -> object:
    """A snapshot as JSON; raises ValueError or OSError where it is broken."""
    with fsspec.open(path, "rb", compression="infer") as file:
        return json.load(file)


def format_of(told: object) -> str | None:
    """Which feed writes such a file."""
    if isinstance(told, list):
        return "genai_prices" if any("models" in one for one in told if isinstance(one, dict)) else None
    if not isinstance(told, dict):
        return None
    if isinstance(told.get("data"), list):
        return "openrouter"
    entries = [one for one in told.values() if isinstance(one, dict)]
    if any(isinstance(one.get("models"), dict) for one in entries):
        return "models_dev"
    return "litellm" if any("input_cost_per_token" in one or "litellm_provider" in one for one in entries) else None


def book(folders: list[Path]) -> duckdb.DuckDBPyConnection | None:
    """A DuckDB with core.price_quote of all snapshots that can be read; None where there is none."""
    con, count = connection(), 0
    for folder in folders:
        try:
            found = snapshots(str(folder))
        except NotConfigured as error:
            print(error)
            continue
        by_format: dict[str, list[tuple[str, datetime]]] = {}
        for path, at in found:
            try:
                feed = format_of(read(path))
            except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
                print(f"  {path}: left out, {type(error).__name__}")
                continue
            if feed is None:
                print(f"  {path}: left out, no price list that is known here")
                continue
            by_format.setdefault(feed, []).append((path, at))
        for feed, files in by_format.items():
            stage(con, feed, files)
            count += len(files)
    if not count:
        return None
    con.execute(f"create table core.price_quote as {(ROOT / 'warehouse/core/price_quote.sql').read_text()}")
    return con


def measure(name: str, con: duckdb.DuckDBPyConnection, development: bool) -> bool:
    """Backtest, print, and say whether the later half of the origins meets what is asked for."""
    start = time.perf_counter()
    rows = price.backtest(con)
    if rows.empty:
        print(f"\n{name}: too short a history; nothing to measure")
        return True
    every = sorted(rows["origin_at"].unique())
    later = every[len(every) // 2]
    if development:
        rows = rows[rows["origin_at"] < later]
    print(f"\n{name}: {rows['origin_at'].nunique()} origins, {time.perf_counter() - start:.0f} s; learners: {', '.join(sorted(rows['learner'].unique()))}")
    print(price.scores(rows).round(4).T.to_string(header=False))
    good = True
    for word, part in (("all origins", rows), (f"origins from {later:%Y-%m-%d} on", rows[rows["origin_at"] >= later])):
        for feed, one in [("all lists", part), *(part.groupby("feed") if part["feed"].nunique() > 1 else [])]:
            if one.empty:
                continue
            y = one["has_changed"].to_numpy()
            losses = {n: float(price.log_loss(one[f"{n}_probability_share"].to_numpy(), y).mean()) for n in ("change", "constant", "feed")}
            gain, over_feed = (1 - losses["change"] / losses[n] for n in ("constant", "feed"))
            print(f"{word}, {feed}: {len(one):,} forecasts, log-loss {losses['change']:.4f}; {gain:+.1%} better than a constant hazard, {over_feed:+.1%} than one rate a list")
            good &= word == "all origins" or gain >= 0.05
    print(f"\ncalibration\n{price.calibration(rows).round(4).to_string(index=False)}")
    return good and not (price.scores(rows).eval("mean_absolute_log_error > naive_mean_absolute_log_error + 1e-12")).any()


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", nargs="*", type=Path, default=[SHARED / "prices/litellm", SHARED / "prices/openrouter"])
    asked.add_argument("--development", action="store_true")
    given = asked.parse_args()
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 100)
    good, con = True, None
    for folder in given.folder:
        con = book([folder])
        if con is not None:
            good &= measure(str(folder), con, given.development)
    if len(given.folder) > 1:
        con = book(given.folder)
        if con is not None:
            good &= measure("all as one book", con, given.development)
    if con is None:
        print("no folder of snapshots; nothing to measure")
        return 0
    ratings = SHARED / "quality/lmarena_history.csv.gz"
    if ratings.is_file():
        rate(con, "lmarena", str(ratings))
        start = time.perf_counter()
        told, _ = capability.backtest(con)
        if not told.empty:
            covered = told["is_covered"].mean()
            print(f"\nprice of capability: {told['origin_at'].nunique()} origins, {len(told):,} forecasts, {time.perf_counter() - start:.0f} s; 90 % intervals cover {covered:.1%}")
            print(told.groupby(["seller_scope", "horizon_months"]).agg(count=("is_covered", "size"), covered=("is_covered", "mean"), error=("error", "mean"), naive_error=("naive_error", "mean")).round(3).to_string())
            print(f"\nyardsticks of one price counted once\n{capability.scores(told).round(3).to_string(index=False)}")
            once = told.drop_duplicates(capability.ONCE)["is_covered"].mean()
            print(f"\nall of those: {once:.1%}")
            good &= 0.85 <= covered <= 0.95 and 0.85 <= once <= 0.95
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
