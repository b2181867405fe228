"""How fast are calls costed, and is every cost right to the last unit?

    python tests/benchmarks/call_cost_speed.py --calls 10000000 [--days 30] [--prices FOLDER] [--keep FOLDER]

Makes calls of models from the price book (spread over some days; cached, reasoning, batch and long-context ones among them),
builds marts.call_cost from them over the whole price history, and compares every sampled cost with an oracle that works in
Python's decimals from core.price row by row. The select is also run alone: written as the build writes it, and into nothing but
an aggregate over all its columns, so that the difference is what Parquet costs. Processor time stands beside the clock, as other work
on the machine disturbs it less. Without --prices (a folder of dated LiteLLM files) the embedded list is used.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines import gate  # noqa: E402
from pipelines.build import build_table  # noqa: E402
from pipelines.contracts import contract, literal  # noqa: E402
from pipelines.day_by_day import materialized, write_each_day  # noqa: E402
from pipelines.engine import MART_MACROS, connect  # noqa: E402
from pipelines.lake import Lake  # noqa: E402
from pipelines.prices import ingest_feed  # noqa: E402
from pipelines.settings import Feed, Settings  # noqa: E402
from pipelines.stage import silent  # noqa: E402

CLASSES = {
    "input_uncached": ("input_uncached",), "cache_read": ("cache_read", "input_uncached"),
    "cache_write_5m": ("cache_write_5m", "input_uncached"), "cache_write_1h": ("cache_write_1h", "cache_write_5m", "input_uncached"),
    "output_text": ("output_text",), "reasoning": ("reasoning", "output_text"),
}
UNIT = Decimal(1).scaleb(-12)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=10_000_000)
    options.add_argument("--days", type=int, default=30)
    options.add_argument("--sample", type=int, default=20_000)
    options.add_argument("--prices", type=Path)
    options.add_argument("--keep", type=Path)
    given = options.parse_args()
    home = given.keep or Path(tempfile.mkdtemp(prefix="call-cost-"))
    first = date(2025, 5, 1) if given.prices else date(2026, 10, 1)
    feed = Feed(url=str(given.prices), format="litellm") if given.prices else Feed(url="embedded", format="genai_prices")
    settings = Settings.load(home=home, feeds={feed.format: feed})
    try:
        ingest_feed(settings, feed.format, first - timedelta(days=30))
        make_calls(settings, given.calls, first, given.days)
        gate.warm()
        days = [first + timedelta(days=n) for n in range(given.days)]
        timed("into nothing: the select alone, every column counted", given.calls, lambda: select_only(settings, days, written=False))
        timed("written: the select alone, as Parquet of one file a day", given.calls, lambda: select_only(settings, days, written=True))
        timed("whole build, audit and commit included", given.calls, lambda: build_table(settings, "marts.call_cost"))
        checked, wrong = check(settings, given.sample)
        print(f"against the oracle in decimals: {checked:,} costs compared, {wrong} differ")
        sys.exit(bool(wrong))
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)


def make_calls(settings: Settings, calls: int, first: date, days: int) -> None:
    lake, promised = Lake(settings), contract("core.inference")
    with connect(settings) as con:
        lake.attach(con, "core.price")
        con.execute("""
            create temp table model as select row_number() over (order by provider_name, feed_model) - 1 as n, provider_name, feed_model
            from (select distinct provider_name, feed_model from core.price
                where token_class = 'output_text' and provider_name is not null and known_to is null and service_tier = 'standard')""")
        models = con.execute("select count(*) from model").fetchone()[0]
        given = {
            "inference_id": "'bench:' || i", "source": "'bench'", "source_format": "'bench'", "operation_name": "'chat'",
            "provider_name": "m.provider_name", "request_model": "m.feed_model", "response_model": "m.feed_model",
            "service_tier": "case when i % 11 = 0 then 'batch' end",
            "input_uncached_tokens": "case when i % 97 = 0 then 150000 + i % 100000 else i % 9000 end", "cache_read_tokens": "case when i % 3 = 0 then i % 7000 end",
            "cache_write_5m_tokens": "case when i % 5 = 0 then i % 3000 end", "cache_write_1h_tokens": "case when i % 50 = 0 then i % 900 end",
            "output_text_tokens": "i % 2500", "reasoning_tokens": "case when i % 4 = 0 then i % 1700 end", "status": "'ok'",
            "tenant": "'t' || (i % 40)", "team": "'team' || (i % 12)", "workload": "'w' || (i % 9)",
            "landing_file": "'bench/day=2026-11-01/bench'", "landing_line": "i",
        }
        staged = []
        for n in range(days):
            day = first + timedelta(days=n)
            at = f"cast({literal(str(day))} as timestamp) + to_microseconds((hash(i) % 86400000000)::bigint)"
            items = [f'cast({given.get(c.name, at if c.name == "started_at" else "null")} as {c.type}) as {c.name}' for c in promised.columns]
            path = settings.scratch / f"calls-{n}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            con.execute(f"""copy (select {', '.join(items)} from range({calls * n // days}, {calls * (n + 1) // days}) t (i)
                join model m on m.n = hash(i // 3) % {models}) to {literal(str(path))} (format parquet, compression zstd)""")
            staged.append((path, day))
    lake.append("core.inference", staged)
    print(f"{calls:,} calls of {models} models on {days} days")


def timed(what: str, calls: int, work: Callable[[], object]) -> None:
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    seconds, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {seconds:.1f} s, {calls / seconds:,.0f} calls/s; {processor:.1f} s of processor time, {calls / processor:,.0f} calls/s a core", flush=True)


def select_only(settings: Settings, days: list[date], written: bool) -> None:
    lake, promised = Lake(settings), contract("marts.call_cost")
    with connect(settings, MART_MACROS, references=True) as con:
        for name in promised.reads:
            lake.attach(con, name)
        con.execute("set preserve_insertion_order = false")

        def run(own: duckdb.DuckDBPyConnection, query: str, bound: dict[str, date]) -> None:
            own.execute(query, {k: v for k, v in bound.items() if f"${k}" in query})

        if written:
            write_each_day(con, promised.select, promised.casts(), days, settings.scratch / "select", report=silent, doing="", run=run)
            shutil.rmtree(settings.scratch / "select")
        else:
            counts = ", ".join(f"count({name})" for name in promised.names)
            run(con, f"select {counts} from ({materialized(con, promised.select, days, run=run)})", {"from_day": days[0], "to_day": days[-1] + timedelta(days=1)})


def check(settings: Settings, sample: int) -> tuple[int, int]:
    """Cost sampled calls again from the price rows named in the mart, in decimals; and see that those rows were in force."""
    with duckdb.connect(str(settings.views), read_only=True) as con:
        names = [f"{c}_tokens" for c in CLASSES]
        rows = con.execute(
            f"""select c.started_at, c.service_tier, {', '.join('i.' + n for n in names)}, c.list_cost_usd, c.price_ids, c.list_cost_then_usd, c.price_ids_then,
                c.cost_status, c.cost_status_then
            from marts.call_cost c join core.inference i using (inference_id)
            where c.cost_status in ('priced', 'estimated', 'free') order by hash(c.inference_id) limit {sample}"""
        ).fetchall()
        prices = {
            r[0]: r[1:]
            for r in con.execute("select price_id, token_class, price_usd_per_unit, valid_from, valid_to, known_from, known_to, context_above_tokens, service_tier from core.price").fetchall()
        }
    wrong = checked = 0
    for at, tier, *rest in rows:
        tokens = dict(zip(CLASSES, rest[: len(CLASSES)], strict=True))
        now, now_ids, then, then_ids, status, status_then = rest[len(CLASSES) :]
        for cost, ids, basis, found in ((now, now_ids, "now", status), (then, then_ids, "then", status_then)):
            if cost is None or found == "partial":
                continue
            checked += 1
            if oracle(at, tier, tokens, [prices[p] for p in ids.split(",")], basis, found) != cost:
                wrong += 1
    return checked, wrong


def oracle(at: datetime, tier: str | None, tokens: dict[str, int | None], rows: list[tuple], basis: str, status: str) -> Decimal | None:
    rate = {}
    total_input = sum(tokens[c] or 0 for c in CLASSES if c.startswith(("input", "cache")))
    for token_class, price, valid_from, valid_to, known_from, known_to, above, row_tier in rows:
        in_force = valid_from <= at and (valid_to is None or at < valid_to)
        known = known_to is None if basis == "now" else known_from <= at and (known_to is None or at < known_to)
        if not known or (not in_force and status == "priced") or (above and total_input <= above) or row_tier not in ("standard", tier):
            return None
        rate[token_class] = price
    total = Decimal(0)
    for token_class, line in CLASSES.items():
        if tokens[token_class]:
            price = next(rate[c] for c in line if c in rate)
            total += (tokens[token_class] * price).quantize(UNIT, ROUND_HALF_UP)
    return total + rate.get("request", Decimal(0)).quantize(UNIT, ROUND_HALF_UP)


if __name__ == "__main__":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
