"""How fast is the gate, and does it catch every planted fault and nothing else?

    python tests/benchmarks/gate_speed.py [--rows 1000000] [--runs 5] [--check]

Makes clean calls of core.inference and a copy with faults planted at known keys, then finds and audits both, cold (first
use in this process, Great Expectations' import included) and warm. With `--check`, a bound that is broken ends in exit code 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import duckdb

from pipelines import gate
from pipelines.contracts import contract, literal, quoted
from pipelines.engine import MART_MACROS, connect
from pipelines.settings import Settings

WARM_SECONDS = 4.0
"""For find and audit of 1 million rows."""
KEY = "trace_id"
"""Unique in the made calls and never faulty, so that rows without an id are known too."""
PLANTED_ROWS = 4
"""Rows of each fault."""
TABLE = contract("core.inference")
TOKENS = [c.name for c in TABLE.columns if c.unit == "tokens"]
CONTROL = "chr(10)"
LANDED = "gateway/day=2026-11-20/5f3a.jsonl"


@dataclass(frozen=True)
class Fault:
    """Rows whose columns are set to the given SQL, and the promise they must be found by (None: they must not be found)."""

    name: str
    promise: str | None
    sets: dict[str, str]


FAULTS = [
    *[Fault(f"{name} negative", f"{name}_in_range", {name: "-1"}) for name in TOKENS],
    *[
        Fault(f"{name} absurd", f"{name}_in_range", {name: "9000000000"})
        for name in ("input_uncached_tokens", "output_text_tokens")
    ],
    *[Fault(f"{c.name} missing", f"{c.name}_given", {c.name: "null"}) for c in TABLE.columns if c.required],
    Fault("web searches negative", "web_search_requests_in_range", {"web_search_requests": "-1"}),
    Fault("id empty", "inference_id_whole", {"inference_id": "''"}),
    Fault("id of blanks", "inference_id_whole", {"inference_id": "'  '"}),
    Fault("id of a prefix only", "inference_id_whole", {"inference_id": "'litellm:'"}),
    Fault("id with a line break", "inference_id_plain", {"inference_id": f"inference_id || {CONTROL}"}),
    Fault("id with a null byte", "inference_id_plain", {"inference_id": "inference_id || chr(0) || 'x'"}),
    Fault("id of a thousand characters", "inference_id_plain", {"inference_id": "inference_id || repeat('x', 1000)"}),
    Fault("model empty", "model_given_when_ok", {"request_model": "' '", "response_model": "null", "status": "'ok'"}),
    Fault("model missing", "model_given_when_ok", {"request_model": "null", "response_model": "null", "status": "'ok'"}),
    Fault("model with a tab", "models_plain", {"request_model": "'gpt-4o' || chr(9)"}),
    Fault("model that is a prompt", "models_plain", {"response_model": "repeat('tell me a story ', 40)"}),
    Fault("session of two thousand characters", "names_plain", {"session_id": "repeat('s', 2000)"}),
    Fault("tenant of two thousand characters", "names_plain", {"tenant": "repeat('t', 2000)"}),
    Fault("error message as error type", "labels_short", {"error_type": "repeat('could not ', 40)"}),
    Fault("finish reason that is an answer", "labels_short", {"finish_reason": "repeat('because ', 60)"}),
    Fault("status foreign", "status_known", {"status": "'success'"}),
    Fault("status in capitals", "status_known", {"status": "'OK'"}),
    Fault("traffic kind foreign", "traffic_kind_known", {"traffic_kind": "'robot'"}),
    Fault("1970", "started_not_before_time", {"started_at": "timestamp '1970-01-01'"}),
    Fault("2999", "started_not_after_landing", {"started_at": "timestamp '2999-12-31'"}),
    Fault("started at infinity", "started_not_after_landing", {"started_at": "timestamp 'infinity'"}),
    Fault("version from the future", "version_not_after_landing", {"version_at": "timestamp '2999-01-01'"}),
    Fault(
        "finished before start", "finished_in_order", {"finished_at": "started_at - interval 1 hour", "first_token_at": "null"}
    ),
    Fault("finished months later", "finished_soon", {"finished_at": "started_at + interval 90 day"}),
    Fault("first token before start", "first_token_in_order", {"first_token_at": "started_at - interval 1 minute"}),
    Fault("first token after the end", "first_token_in_order", {"first_token_at": "finished_at + interval 1 minute"}),
    Fault("http status 42", "http_status_real", {"http_status": "42"}),
    Fault("http status 0", "http_status_real", {"http_status": "0"}),
    Fault("cost absurd", "reported_cost_in_range", {"reported_cost_usd": "123456"}),
    Fault("cost negative", "reported_cost_in_range", {"reported_cost_usd": "-0.01"}),
    Fault("tool calls negative", "counts_in_range", {"tool_call_count": "-1"}),
    Fault("retries absurd", "counts_in_range", {"retry_count": "99999999"}),
    Fault("line zero", "landing_line_counted", {"landing_line": "0"}),
]
HARMLESS = [
    Fault("SQL in an id", None, {"inference_id": "inference_id || '''; drop table calls; --'"}),
    Fault("path in an id", None, {"inference_id": "inference_id || '/../../etc/passwd%00'"}),
    Fault("letters of other scripts", None, {"inference_id": "inference_id || ' 東京-é-🚀'", "tenant": "'Zürich'"}),
    Fault(
        "braces, quotes and colons",
        None,
        {"inference_id": "inference_id || '{\"a\": ''b''}'", "request_model": "'ft:gpt-4o:{x}'"},
    ),
    Fault("an id at the limit", None, {"inference_id": "rpad(inference_id, 512, 'x')"}),
    Fault(
        "all that may be unknown is",
        None,
        {c.name: "null" for c in TABLE.columns if not c.required and c.name not in (KEY, "request_model")},
    ),
    Fault("a failed call without a model", None, {"request_model": "null", "response_model": "null", "status": "'error'"}),
    Fault("no tokens at all", None, dict.fromkeys(TOKENS, "0")),
    Fault("a million tokens for 900 dollars", None, {"input_uncached_tokens": "1000000", "reported_cost_usd": "900"}),
    Fault("the certain choice", None, {"routing_propensity": "1"}),
    # Warned of; the call was made and paid for.
    Fault("propensity zero", None, {"routing_propensity": "0"}),
    Fault("propensity above one", None, {"routing_propensity": "1.5"}),
    Fault("propensity NaN", None, {"routing_propensity": "'nan'::double"}),
    Fault("propensity infinite", None, {"routing_propensity": "'inf'::double"}),
    Fault("a clock four seconds off", None, {"finished_at": "started_at - interval 4 second", "first_token_at": "null"}),
    Fault("a batch call of a month", None, {"finished_at": "started_at + interval 30 day"}),
]


def make_clean(con: duckdb.DuckDBPyConnection, path: Path, rows: int) -> None:
    """Calls of one day that keep every promise."""
    made = {
        "inference_id": "'litellm:chatcmpl-' || md5(i::varchar)",
        "source": "'gateway'",
        "source_format": "'litellm'",
        "version_at": "asked_at + interval 3 second",
        "operation_name": "'chat'",
        "provider_name": "(['openai', 'anthropic', 'gcp.gemini'])[1 + i % 3]",
        "request_model": "(['gpt-4o', 'claude-sonnet-4', 'gemini-2.5-pro'])[1 + i % 3]",
        "response_model": "(['gpt-4o-2024-08-06', 'claude-sonnet-4-20250514', 'gemini-2.5-pro'])[1 + i % 3]",
        "service_tier": "case when i % 7 = 0 then 'batch' end",
        "server_address": "'https://api.example.com/v1'",
        "is_streaming": "i % 2 = 0",
        "input_uncached_tokens": "hash(i) % 8000",
        "cache_read_tokens": "1000 * (hash(i + 1) % 3)",
        "cache_write_5m_tokens": "0",
        "output_text_tokens": "hash(i + 2) % 900",
        "reasoning_tokens": "case when i % 4 = 0 then 100 end",
        "started_at": "asked_at",
        "first_token_at": "case when i % 2 = 0 then asked_at + interval 400 millisecond end",
        "finished_at": "asked_at + interval 3 second",
        "status": "case when i % 50 = 0 then 'error' else 'ok' end",
        "http_status": "case when i % 50 = 0 then 429 else 200 end",
        "error_type": "case when i % 50 = 0 then 'RateLimitError' end",
        "finish_reason": "'stop'",
        "tool_call_count": "0",
        "retry_count": "0",
        "tenant": "'tenant-' || i % 40",
        "team": "'team-' || i % 9",
        "user_id": "md5((i % 5000)::varchar)",
        "session_id": "'session-' || i // 6",
        "trace_id": "'trace-' || i",
        "workload": "'workload-' || i % 12",
        "environment": "'production'",
        "traffic_kind": "case when i % 3 = 0 then 'agent' else 'human' end",
        "routing_policy": "'epsilon-greedy'",
        "routing_propensity": "0.25",
        "reported_cost_usd": "0.001 * (i % 100)",
        "landing_file": literal(LANDED),
        "landing_line": "i + 1",
    }
    items = ", ".join(f"cast({made.get(c.name, 'null')} as {c.type}) as {quoted(c.name)}" for c in TABLE.columns)
    con.execute(
        f"copy (select {items} from (select i, timestamp '2026-11-20' + to_microseconds(i * 86000000000 // {rows}) as asked_at "
        f"from range({rows}) as t (i))) to {literal(str(path))} (format parquet, compression zstd)"
    )


def plant(con: duckdb.DuckDBPyConnection, clean: Path, path: Path, rows: int) -> dict[str, Fault]:
    """Copy the clean calls with every fault and every harmless oddity in `PLANTED_ROWS` rows; returns what is at which key."""
    faults = FAULTS + HARMLESS
    step = rows // (len(faults) * PLANTED_ROWS)
    items = []
    for c in TABLE.columns:
        arms = " ".join(f"when {n} then {f.sets[c.name]}" for n, f in enumerate(faults) if c.name in f.sets)
        items.append(
            f"cast({f'case fault {arms} else {quoted(c.name)} end' if arms else quoted(c.name)} as {c.type}) as {quoted(c.name)}"
        )
    con.execute(
        f"copy (select {', '.join(items)} from (select *, "
        f"case when file_row_number % {step} = 0 and file_row_number < {step * len(faults) * PLANTED_ROWS} "
        f"then file_row_number // {step} % {len(faults)} end as fault "
        f"from read_parquet({literal(str(clean))}, file_row_number = true))) "
        f"to {literal(str(path))} (format parquet, compression zstd)"
    )
    return {f"trace-{step * n}": faults[n % len(faults)] for n in range(len(faults) * PLANTED_ROWS)}


def find(settings: Settings, path: Path) -> dict[str, set[str]]:
    """Keys of broken rows, with the promises each breaks."""
    with connect(settings, MART_MACROS) as con:
        found = con.execute(gate.broken_sql(TABLE, f"read_parquet({literal(str(path))})", [KEY])).fetchall()
    return {key: set(promises.split(",")) for key, promises, _ in found}


def wrongly_found(found: dict[str, set[str]], planted: dict[str, Fault]) -> list[str]:
    """Faults not found at their keys by their promise, and rows found that hold none."""
    missed = {f"missed: {f.name}" for key, f in planted.items() if f.promise and f.promise not in found.get(key, set())}
    alarms = {
        f"false alarm: {planted[key].name if key in planted else key}"
        for key in found
        if key not in planted or not planted[key].promise
    }
    return sorted(missed | alarms)


def refused(settings: Settings, paths: list[Path], **given: object) -> dict[str, int]:
    """The broken `stop` promises of an audit, with their counts; empty when it passes."""
    try:
        gate.audit(settings, TABLE, [str(p) for p in paths], batch="benchmark", **given)
    except gate.BatchRefused as error:
        return {r.promise: r.broken_count for r in error.audit.broken}
    return {}


def batch_faults(con: duckdb.DuckDBPyConnection, settings: Settings, clean: Path, folder: Path, rows: int) -> dict[str, bool]:
    """Faults that no single row shows, each with whether the audit refuses it for that and nothing else."""

    def changed(name: str, select: str) -> Path:
        path = folder / f"{name}.parquet"
        con.execute(
            f"copy ({select.replace('clean', f'read_parquet({literal(str(clean))})')}) to {literal(str(path))} (format parquet)"
        )
        return path

    twice = changed("twice", "select * from clean limit 3")
    fewer = changed("fewer", f"select * from clean where {KEY} <> 'trace-7'")
    lacking = changed("lacking", "select * exclude (status) from clean limit 10")
    retyped = changed("retyped", "select * replace (cast(reported_cost_usd as double) as reported_cost_usd) from clean limit 10")
    return {
        "the same call twice": refused(settings, [clean, twice]) == {"grain_unique": 3},
        "a row lost": refused(settings, [fewer], expected_rows=rows) == {"rows_as_staged": 1},
        "a row too many": refused(settings, [clean], expected_rows=rows - 1) == {"rows_as_staged": 1},
        "a column missing": refused(settings, [lacking]) == {"columns_as_promised": 1},
        "money as float": refused(settings, [retyped]) == {"columns_as_promised": 1},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(home=folder / "home")
        clean, faulty = folder / "clean.parquet", folder / "faulty.parquet"
        with connect(settings) as con:
            make_clean(con, clean, asked.rows)
            planted = plant(con, clean, faulty, asked.rows)

            seconds: list[tuple[float, float, float]] = []
            alarms: dict[str, set[str]] = {}
            for _ in range(asked.runs + 1):
                start, cpu = time.perf_counter(), time.process_time()
                alarms |= find(settings, clean)
                between = time.perf_counter()
                found = gate.audit(settings, TABLE, [str(clean)], batch="benchmark", expected_rows=asked.rows)
                end = time.perf_counter()
                seconds.append((between - start, end - between, time.process_time() - cpu))
            wrong = wrongly_found(find(settings, faulty), planted)
            counts = refused(settings, [faulty])
            by_row = {promise: sum(promise in broken for broken in find(settings, faulty).values()) for promise in counts}
            batch = batch_faults(con, settings, clean, folder, asked.rows)

    cold, warm = seconds[0], seconds[1:]
    quickest, median = min(sum(s[:2]) for s in warm), statistics.median(sum(s[:2]) for s in warm)
    missed = [w for w in wrong if w.startswith("missed")] + [f"missed: {name}" for name, caught in batch.items() if not caught]
    miscounted = sorted(p for p in counts if p != "grain_unique" and counts[p] != by_row[p])
    false_alarms = (
        [w for w in wrong if w.startswith("false")]
        + [f"false alarm: {r.promise}" for r in found.results if not r.held]
        + sorted(alarms)
    )
    total = len(FAULTS) + len(batch)
    print(f"{asked.rows:,} rows, {len(found.results)} promises, load average {os.getloadavg()[0]:.1f}")
    print(f"cold: find {cold[0]:.2f} s, audit {cold[1]:.2f} s, Great Expectations' import included")
    print(f"warm, {asked.runs} runs: find and audit {quickest:.2f} s at best, {median:.2f} s median")
    find_best, audit_best, cpu_best = (min(s[n] for s in warm) for n in range(3))
    print(f"      find {find_best:.2f} s, audit {audit_best:.2f} s, both {cpu_best:.2f} s of CPU, at best")
    print(
        f"fault classes caught: {total - len(missed)}/{total}; keys exact: {not wrong}; audit counts the same: {not miscounted}"
    )
    print(f"false alarms on clean rows and {len(HARMLESS)} harmless oddities: {len(false_alarms)}")
    for line in missed + miscounted + false_alarms:
        print(f"- {line}")
    good = not (missed or miscounted or false_alarms) and (asked.rows > 1_000_000 or median <= WARM_SECONDS)
    return 0 if good or not asked.check else 1


if __name__ == "__main__":
    sys.exit(main())
