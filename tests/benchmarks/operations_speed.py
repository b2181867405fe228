"""How long do the operations marts take to build, what does one more day cost, and how fast are the twenty questions answered?

    python tests/benchmarks/operations_speed.py --calls 10000000 [--keep FOLDER] [--tables marts.workflow ...]

Makes calls of models from the price book over 30 days: sessions of one to sixteen calls, streamed and not, failures, regions, caches,
long context. Builds marts.call_cost and marts.spend_daily first (another benchmark times those), then the marts named, one after the other
in one process, then adds a day and builds again. The calls carry no messages: with --content, messages of growing conversations.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines import gate  # noqa: E402
from pipelines.build import build_table, mart_order  # noqa: E402
from pipelines.contracts import contract, literal  # noqa: E402
from pipelines.engine import connect  # noqa: E402
from pipelines.lake import Lake  # noqa: E402
from pipelines.prices import ingest_feed  # noqa: E402
from pipelines.settings import Settings  # noqa: E402
from pipelines.stage import ROW_GROUP_BYTES  # noqa: E402

FIRST, DAYS = date(2026, 10, 1), 30
TABLES = ["marts.serving_quality", "marts.context_efficiency", "marts.workflow", "marts.placement", "marts.residency", "marts.sovereignty",
          "marts.training_ratio", "marts.outlook_scorecard", "exports.focus"]  # fmt: skip
REGIONS = "['eu-west-1', 'us-east-1', 'eu-central-1', 'us-west-2', 'ap-south-1']"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=10_000_000)
    options.add_argument("--content", action="store_true")
    options.add_argument("--tables", nargs="*", default=TABLES)
    options.add_argument("--keep", type=Path)
    given = options.parse_args()
    home = given.keep or Path(tempfile.mkdtemp(prefix="operations-"))
    settings = Settings.load(home=home)
    try:
        if not settings.views.is_file():
            ingest_feed(settings, "genai_prices", FIRST - timedelta(days=30))
            for n in range(DAYS):
                make_day(settings, given.calls, n, given.content)
            print(f"{given.calls:,} calls on {DAYS} days", flush=True)
        gate.warm()
        build_all(settings, [t for t in mart_order() if t in ("marts.call_cost", "marts.spend_daily", "marts.price_change")], "before")
        whole = build_all(settings, [t for t in mart_order() if t in given.tables], "all days")
        make_day(settings, given.calls, DAYS, given.content)
        build_all(settings, ["marts.call_cost", "marts.spend_daily"], "before")
        one = build_all(settings, [t for t in mart_order() if t in given.tables], "one more day")
        print(f"all days {whole:.1f} s, one more day {one:.1f} s, {one / whole:.1%}; peak memory {peak_gb():.2f} GB")
        ask(settings)
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)


def build_all(settings: Settings, tables: list[str], what: str) -> float:
    started = time.monotonic()
    for table in tables:
        report = build_table(settings, table)
        print(f"{what:12} {report}; peak so far {peak_gb():.2f} GB", flush=True)
    return time.monotonic() - started


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ask(settings: Settings) -> None:
    questions = re.findall(r"\*\*(\d+)\. [^*]+\*\*\n```sql\n(.+?)```", (ROOT / "docs" / "twenty_questions.md").read_text(), re.DOTALL)
    taken = {}
    with duckdb.connect(str(settings.views), read_only=True) as con:
        for number, sql in questions:
            started = time.monotonic()
            try:
                con.execute(sql).fetchall()
                taken[int(number)] = time.monotonic() - started
            except duckdb.CatalogException:
                print(f"question {number}: its table was not built")
    if taken:
        print("questions: " + ", ".join(f"{n} {s:.2f} s" for n, s in taken.items()))
        print(f"slowest {max(taken.values()):.2f} s")


def make_day(settings: Settings, calls: int, n: int, content: bool) -> None:
    """Write one day of calls straight into core.inference, by SQL."""
    day, per_day = FIRST + timedelta(days=n), calls // DAYS
    lake, promised = Lake(settings), contract("core.inference")
    turn, session = "i % 16", "i // 16"
    at = f"cast({literal(str(day))} as timestamp) + to_microseconds(cast(86000000000 * ((i - {per_day * n}) // 16) / {per_day // 16 + 2} as bigint) + 20000000 * ({turn}) + cast(hash(i) % 1000000 as bigint))"
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
    with connect(settings) as con:
        lake.attach(con, "core.price")
        con.execute("""
            create temp table model as select row_number() over (order by provider_name, feed_model) - 1 as n, provider_name, feed_model
            from (select provider_name, feed_model from core.price
                where token_class = 'output_text' and provider_name is not null and known_to is null and service_tier = 'standard'
                group by provider_name, feed_model order by hash(feed_model) limit 25)""")
        con.execute("set preserve_insertion_order = false")
        rows = f"range({per_day * n}, {per_day * (n + 1)}) t (i) join model m on m.n = hash({session}) % 25"
        items = [f"cast({given.get(c.name, 'null')} as {c.type}) as {c.name}" for c in promised.columns]
        path = settings.scratch / f"calls-{n}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        con.execute(f"copy (select {', '.join(items)} from {rows}) to {literal(str(path))} (format parquet, compression zstd)")
        lake.append("core.inference", [(path, day)])
        if content:
            said = f"to_json(list_transform(range(0, 2 * ({turn}) + 1), lambda j: {{'role': 'user', 'content': repeat(md5(cast({session} * 100 + j as varchar)), 20)}}))"
            texts = {"inference_id": given["inference_id"], "started_at": at, "input_messages": said, "landing_file": given["landing_file"]}
            items = [f"cast({texts.get(c.name, 'null')} as {c.type}) as {c.name}" for c in contract("core.inference_content").columns]
            path = settings.scratch / f"content-{n}.parquet"
            con.execute(f"copy (select {', '.join(items)} from {rows}) to {literal(str(path))} (format parquet, compression zstd, row_group_size_bytes {ROW_GROUP_BYTES})")
            lake.append("core.inference_content", [(path, day)])


if __name__ == "__main__":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
