"""How well changes of list prices, and the price of capability, are forecast: backtests over folders of dated snapshots.

    python -m tests.benchmarks.forecast_price [folder ...]

A folder is read in the format its name says (litellm, openrouter, models_dev or genai_prices); default: those of the shared data. Where there are
LMArena's ratings beside them (quality/lmarena_history.csv.gz of the shared data), capability is backtested too. Every origin sees only what was
known then. Ends with 1 where the log-loss is not 5 % better than a constant hazard, a point forecast is worse than the last price at any
horizon, or the 90 % intervals of capability do not cover 85 to 95 %.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd

from pipelines.feeds import snapshots
from pipelines.forecast import capability, price
from tests.benchmarks.price_history import ROOT, SHARED, stage, timed
from tests.support.pricebook import connection, rate


def main(folders: list[Path]) -> int:
    folders = [f for f in folders if f.is_dir()]
    if not folders:
        print("no folder of snapshots; nothing to measure")
        return 0
    con = connection()
    for folder in folders:
        stage(con, folder.name, snapshots(str(folder)))
    with timed("core.price_quote"):
        con.execute(f"create table core.price_quote as {(ROOT / 'warehouse/core/price_quote.sql').read_text()}")
    ratings = SHARED / "quality/lmarena_history.csv.gz"
    if ratings.is_file():
        rate(con, "lmarena", str(ratings))
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 100)

    start = time.perf_counter()
    rows = price.backtest(con)
    if rows.empty:
        print("less than half a year of history; nothing to measure")
        return 0
    figures = price.scores(rows)
    print(f"\nlist prices: {rows['origin_at'].nunique()} origins, {time.perf_counter() - start:.0f} s\n{figures.round(4).T.to_string(header=False)}")
    y = rows["has_changed"].to_numpy()
    losses = {n: float(price.log_loss(rows[f"{n}_probability_share"].to_numpy(), y).mean()) for n in ("change", "constant", "feed")}
    gain = 1 - losses["change"] / losses["constant"]
    print(f"\nlog-loss of all {len(rows):,} forecasts: {losses['change']:.4f}, constant hazard {losses['constant']:.4f} ({gain:+.1%} better), one rate a list {losses['feed']:.4f}")
    print(f"\ncalibration\n{price.calibration(rows).round(4).to_string(index=False)}")
    worse = bool((figures["mean_absolute_log_error"] > figures["naive_mean_absolute_log_error"] + 1e-12).any())
    good = gain >= 0.05 and not worse

    if ratings.is_file():
        start = time.perf_counter()
        told = capability.backtest(con)
        if not told.empty:
            covered = told["is_covered"].mean()
            print(f"\nprice of capability: {told['origin_at'].nunique()} origins, {len(told):,} forecasts, {time.perf_counter() - start:.0f} s; 90 % intervals cover {covered:.1%}")
            print(told.groupby(["seller_scope", "horizon_months"]).agg(count=("is_covered", "size"), covered=("is_covered", "mean"), error=("error", "mean"), naive_error=("naive_error", "mean")).round(3).to_string())
            print(f"\nyardsticks of one price counted once\n{capability.scores(told).round(3).to_string(index=False)}")
            good &= 0.85 <= covered <= 0.95
    return int(not good)


if __name__ == "__main__":
    sys.exit(main([Path(a) for a in sys.argv[1:]] or [SHARED / "prices/litellm", SHARED / "prices/openrouter"]))
