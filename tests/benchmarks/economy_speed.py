"""How long do all marts take over ten million calls, what does one more day cost, and how fast are the twenty questions answered?

    python -m tests.benchmarks.economy_speed --calls 10000000 [--days 90] [--tables marts.workflow …] [--keep FOLDER]

Makes calls of models of the price book by 40 tenants: sessions of sixteen calls, streamed and not, failures, regions, caches, long context;
one session in fifty with its messages, a conversation that grows. Then builds, in one run of one process, every mart of the economy with
those they read and exports.focus; adds a day of a few calls and a whole one, and builds again after each; and asks the warehouse each of docs/twenty_questions.md. Ratings are those
of the shared data where it is. --keep leaves the warehouse, and takes up what it finds there: calls are then not made anew.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from pipelines import gate
from pipelines.build import BuildReport, build_tables, mart_order
from pipelines.capabilities import ingest_capabilities
from pipelines.contracts import contract, literal
from pipelines.engine import connect
from pipelines.lake import Lake
from pipelines.prices import ingest_feed
from pipelines.settings import ROOT, Settings
from pipelines.stage import ROW_GROUP_BYTES
from tests.benchmarks.price_history import SHARED

FIRST = date(2026, 8, 1)
MARTS = (
    "call_cost", "spend_daily", "price_change", "reconciliation", "usage_daily", "price_paid", "price_index", "capability_price", "spend_variance",
    "demand_elasticity", "provider_share", "serving_quality", "context_efficiency", "workflow", "placement", "residency", "sovereignty", "training_ratio",
    "outlook_scorecard",
)  # fmt: skip
FEW = 160
TABLES = [t for t in mart_order() if t in {f"marts.{m}" for m in MARTS} or t == "exports.focus"]
REGIONS = "['eu-west-1', 'us-east-1', 'eu-central-1', 'us-west-2', 'ap-south-1']"
MODELS = 25
CONTENT_EVERY = 50


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=10_000_000)
    options.add_argument("--days", type=int, default=90)
    options.add_argument("--tables", nargs="*", default=TABLES)
    options.add_argument("--keep", type=Path)
    given = options.parse_args()
    home = given.keep or Path(tempfile.mkdtemp(prefix="economy-"))
    settings = Settings.load(home=home)
    per_day = given.calls // given.days
    try:
        if not Lake(settings).exists("core.inference"):
            ingest_feed(settings, "genai_prices", FIRST - timedelta(days=30))
            board = SHARED / "quality/elo_and_price.csv.gz"
            if board.is_file():
                ingest_capabilities(settings, "elo_price", str(board), "elo_price", FIRST)
            started = time.monotonic()
            for n in range(given.days):
                make_day(settings, n, per_day, per_day * n)
            print(f"{given.calls:,} calls on {given.days} days, made in {time.monotonic() - started:.0f} s", flush=True)
        gate.warm()
        whole, whole_cpu = build(settings, given.tables, "all days")
        # A day of next to nothing costs what any build does: a query, an audit and a commit a table.
        make_day(settings, given.days, FEW, per_day * given.days)
        fixed, fixed_cpu = build(settings, given.tables, f"one more day of {FEW} calls")
        make_day(settings, given.days + 1, per_day, per_day * (given.days + 1))
        one, one_cpu = build(settings, given.tables, "one more day")
        print(f"all days {whole:.1f} s ({whole_cpu:.1f} s of processor time), one more day {one:.1f} s ({one_cpu:.1f} s), of which a day of {FEW} calls takes {fixed:.1f} s "
              f"({fixed_cpu:.1f} s) too: the calls cost {(one_cpu - fixed_cpu) / whole_cpu:.1%} of all, a day's share is {1 / given.days:.1%}; peak memory {peak_gb():.2f} GB")
        ask(settings)
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)


def build(settings: Settings, tables: list[str], what: str) -> tuple[float, float]:
    print(f"\n{what}")
    cpu = processor_seconds()

    def tell(built: BuildReport) -> None:
        nonlocal cpu
        print(f"  {built} ({processor_seconds() - cpu:.1f} s of processor time); peak so far {peak_gb():.2f} GB", flush=True)
        cpu = processor_seconds()

    started, before = time.monotonic(), cpu
    build_tables(settings, tables, tell=tell)
    return time.monotonic() - started, processor_seconds() - before


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ask(settings: Settings) -> None:
    questions = re.findall(r"\*\*(\d+)\. ([^*]+)\*\*\n```sql\n(.+?)```", (ROOT / "docs" / "twenty_questions.md").read_text(), re.DOTALL)
    taken = {}
    print("\ntwenty questions")
    with duckdb.connect(str(settings.views), read_only=True) as con:
        for number, question, sql in questions:
            started = time.monotonic()
            try:
                rows = con.execute(sql).fetchall()
            except duckdb.CatalogException:
                print(f"  {number:>2}. its table was not built")
                continue
            taken[int(number)] = time.monotonic() - started
            print(f"  {number:>2}. {taken[int(number)]:5.2f} s, {len(rows):>5} rows  {question}")
    if taken:
        print(f"slowest {max(taken.values()):.2f} s")


def make_day(settings: Settings, n: int, calls: int, first: int) -> None:
    """Write one day of calls, and what was said in some, straight into the core tables, by SQL."""
    day, lake = FIRST + timedelta(days=n), Lake(settings)
    turn, session = "i % 16", "i // 16"
    at = f"cast({literal(str(day))} as timestamp) + to_microseconds(cast(86000000000 * ((i - {first}) // 16) / {calls // 16 + 2} as bigint) + 20000000 * ({turn}) + cast(hash(i) % 1000000 as bigint))"
    answered = "(hash(i, 'fails') % 50 > 0)"
    given = {
        "inference_id": "'chatcmpl-' || md5(cast(i as varchar))", "source": "'bench'", "source_format": "'bench'", "operation_name": "'chat'",
        "provider_name": "m.provider_name", "request_model": "m.feed_model", "response_model": "m.feed_model",
        "service_tier": "case when i % 11 = 0 then 'batch' end", "is_streaming": "i % 2 = 0",
        "request_region": f"{REGIONS}[1 + ({session}) % 5]", "served_region": f"case when i % 7 > 0 then {REGIONS}[1 + (i // 5) % 5] end",
        "input_uncached_tokens": f"case when i % 97 = 0 then 150000 + i % 200000 else 200 + hash(i, 'in') % 900 + 400 * ({turn}) end",
        "cache_read_tokens": "case when i % 3 = 0 then i % 7000 end", "cache_write_5m_tokens": "case when i % 5 = 0 then i % 3000 end",
        "output_text_tokens": "20 + hash(i, 'out') % 2500", "reasoning_tokens": "case when i % 4 = 0 then i % 1700 end",
        "started_at": at, "first_token_at": f"case when i % 2 = 0 and {answered} then {at} + to_milliseconds(cast(200 + hash(i, 'first') % 900 as bigint)) end",
        "finished_at": f"{at} + to_milliseconds(cast(1200 + hash(i, 'last') % 9000 as bigint))", "status": f"case when {answered} then 'ok' else 'error' end",
        "http_status": f"case when {answered} then 200 when i % 2 = 0 then 429 else 503 end",
        "finish_reason": f"case when not {answered} then null when hash(i, 'why') % 40 = 0 then 'length' when i % 4 = 0 then 'tool_calls' else 'stop' end",
        "tool_call_count": "i % 4 // 3", "tenant": f"'t' || (({session}) % 40)", "team": f"'team' || (({session}) % 40 % 12)", "workload": f"'w' || (({session}) % 40 % 9)",
        "session_id": f"case when ({session}) % 4 > 0 then 's-' || md5(cast({session} as varchar)) end", "trace_id": f"md5(cast({session} as varchar))",
        "traffic_kind": f"case when ({session}) % 2 = 0 then 'agent' else 'human' end", "landing_file": "'bench/day=2026-11-01/bench'", "landing_line": "i + 1",
    }
    said = f"to_json(list_transform(range(0, 2 * ({turn}) + 1), lambda j: {{'role': 'user', 'content': repeat(md5(cast({session} * 100 + j as varchar)), 10)}}))"
    texts = {"inference_id": given["inference_id"], "started_at": at, "input_messages": said, "landing_file": given["landing_file"]}
    tables = {"core.inference": (given, "true", ""), "core.inference_content": (texts, f"({session}) % {CONTENT_EVERY} = 0", f", row_group_size_bytes {ROW_GROUP_BYTES}")}
    with connect(settings) as con:
        lake.attach(con, "core.price")
        con.execute(f"""
            create temp table model as select row_number() over (order by provider_name, feed_model) - 1 as n, provider_name, feed_model
            from (select provider_name, feed_model from core.price
                where token_class = 'output_text' and provider_name is not null and known_to is null and service_tier = 'standard'
                group by provider_name, feed_model order by hash(feed_model) limit {MODELS})""")
        con.execute("set preserve_insertion_order = false")
        for name, (columns, where, options) in tables.items():
            items = [f"cast({columns.get(c.name, 'null')} as {c.type}) as {c.name}" for c in contract(name).columns]
            path = settings.scratch / f"{name}-{n}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = f"range({first}, {first + calls}) t (i) join model m on m.n = hash({session}) % {MODELS} where {where}"
            con.execute(f"copy (select {', '.join(items)} from {rows}) to {literal(str(path))} (format parquet, compression zstd{options})")
            # Of a few sessions it may be that none has its messages.
            if pq.read_metadata(path).num_rows:
                lake.append(name, [(path, day)])


if __name__ == "__main__":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
