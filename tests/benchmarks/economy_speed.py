"""How long do the economy marts take, whole and after one more day?

    python -m tests.benchmarks.economy_speed --calls 10000000 [--days 90] [--keep FOLDER]

Makes calls of 60 models of the price book by 40 tenants in 9 workloads, costs them, then builds every economy mart and prints
seconds, rows and the peak memory; then adds one day of calls and builds again. Ratings are those of the shared data where it is.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from pipelines.build import build_table
from pipelines.capabilities import ingest_capabilities
from pipelines.contracts import contract, literal
from pipelines.engine import connect
from pipelines.lake import Lake
from pipelines.prices import ingest_feed
from pipelines.settings import Feed, Settings
from tests.benchmarks.price_history import SHARED

FIRST = date(2026, 8, 1)
MODELS = 60
MARTS = ("usage_daily", "price_paid", "price_index", "capability_price", "spend_variance", "demand_elasticity", "provider_share")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=10_000_000)
    options.add_argument("--days", type=int, default=90)
    options.add_argument("--keep", type=Path)
    given = options.parse_args()
    home = given.keep or Path(tempfile.mkdtemp(prefix="economy-"))
    settings = Settings.load(home=home, feeds={"genai_prices": Feed(url="embedded", format="genai_prices")})
    try:
        ingest_feed(settings, "genai_prices", FIRST - timedelta(days=30))
        board = SHARED / "quality/elo_and_price.csv.gz"
        if board.is_file():
            ingest_capabilities(settings, "elo_price", str(board), "elo_price", FIRST)
        make_calls(settings, given.calls, range(given.days), given.days)
        whole = build(settings, f"{given.calls:,} calls on {given.days} days")
        make_calls(settings, given.calls, [given.days], given.days)
        more = build(settings, "one day more")
        print(f"economy marts: {whole:.1f} s whole, {more:.1f} s for one day more ({more / whole:.0%}); peak memory of all {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)


def build(settings: Settings, what: str) -> float:
    costed = build_table(settings, "marts.call_cost")
    print(f"\n{what}\n  {costed} (not counted)")
    total = 0.0
    for mart in MARTS:
        started = time.monotonic()
        print(f"  {build_table(settings, f'marts.{mart}')}")
        total += time.monotonic() - started
    return total


def make_calls(settings: Settings, calls: int, days: list[int] | range, of: int) -> None:
    """Write the calls of some days to core.inference; every workload has models of its own, and calls grow more verbose."""
    lake, promised = Lake(settings), contract("core.inference")
    staged = []
    with connect(settings) as con:
        lake.attach(con, "core.price")
        con.execute(f"""
            create temp table model as select row_number() over (order by hash(feed_model), provider_name) - 1 as n, provider_name, feed_model
            from (select distinct provider_name, feed_model from core.price
                where token_class = 'output_text' and provider_name is not null and known_to is null and service_tier = 'standard' and price_usd_per_unit > 0)
            qualify n < {MODELS}""")
        given = {
            "inference_id": "'bench:' || i", "source": "'bench'", "source_format": "'bench'", "operation_name": "'chat'",
            "provider_name": "m.provider_name", "request_model": "m.feed_model", "response_model": "m.feed_model",
            "service_tier": "case when i % 11 = 0 then 'batch' end", "traffic_kind": "case when i % 4 = 0 then 'agent' else 'human' end",
            "input_uncached_tokens": "case when i % 97 = 0 then 150000 + i % 100000 else i % 9000 end", "cache_read_tokens": "case when i % 3 = 0 then i % 7000 end",
            "cache_write_5m_tokens": "case when i % 5 = 0 then i % 3000 end", "cache_write_1h_tokens": "case when i % 50 = 0 then i % 900 end",
            "output_text_tokens": "i % 2500 + day", "reasoning_tokens": "case when i % 4 = 0 then i % 1700 end",
            "status": "case when i % 53 = 0 then 'error' else 'ok' end", "tenant": "'t' || (hash(i) % 40)", "workload": "'w' || (hash(i) // 64 % 9)",
            "landing_file": "'bench/day=2026-11-24/bench'", "landing_line": "i + 1",
        }
        for day in days:
            at = f"cast({literal(str(FIRST + timedelta(days=day)))} as timestamp) + to_microseconds((hash(i) % 86400000000)::bigint)"
            items = [f'cast({given.get(c.name, at if c.name == "started_at" else "null")} as {c.type}) as {c.name}' for c in promised.columns]
            path = settings.scratch / f"calls-{day}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            con.execute(f"""copy (select {', '.join(items)} from (select i, {day} as day from range({calls * day // of}, {calls * (day + 1) // of}) t (i))
                join model m on m.n = (hash(i) // 64 % 9 * 7 + hash(i // 3) % 6) % {MODELS}) to {literal(str(path))} (format parquet, compression zstd)""")
            staged.append((path, FIRST + timedelta(days=day)))
    lake.append("core.inference", staged)


if __name__ == "__main__":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
