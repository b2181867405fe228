"""Draw calls and feedback, and resolve their outcomes with the real selects, in a DuckDB in memory."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.contracts import contract, quoted
from pipelines.engine import MART_MACROS, signal_rules
from pipelines.settings import ROOT, Settings

INPUTS = ("core.inference", "core.inference_content", "core.feedback", "marts.call_cost")
OUTCOMES = ("marts.prompt", "marts.implicit_signal", "marts.outcome_signal", "marts.evaluator", "marts.call_outcome")
ROUTING = ("datasets.routing_log", "datasets.routing_split", "datasets.routing_wide")


def connection(rules: str | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the macros, the rules for signals and empty tables to draw into."""
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'; create schema core; create schema marts; create schema datasets")
    for name in MART_MACROS:
        con.execute((ROOT / "warehouse" / name).read_text())
    con.execute(f"create view signal_rule as {signal_rules(Settings(signal_rules=rules))}")
    for table in INPUTS:
        con.execute(f"create table {table} ({', '.join(f'{quoted(c.name)} {c.type}' for c in contract(table).columns)})")
    return con


def put(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows; columns not given are null."""
    if rows:
        names = sorted({name for row in rows for name in row})
        con.register("rows", pa.table({name: [row.get(name) for row in rows] for name in names}))
        con.execute(f"insert into {table} by name select * from rows")
        con.unregister("rows")


def build(con: duckdb.DuckDBPyConnection, tables: tuple[str, ...] = OUTCOMES) -> duckdb.DuckDBPyConnection:
    """Build tables with their real selects, over all days of the calls."""
    first, last = con.execute("select min(started_at)::date, max(started_at)::date from core.inference").fetchone()
    bound = {"from_day": first - timedelta(days=first.weekday()), "to_day": last + timedelta(days=1)} if first else {}
    for table in tables:
        promised = contract(table)
        if prepare := promised.prepare():
            prepare(con, *([*bound.values()] if promised.partition else []))
        used = {k: v for k, v in bound.items() if f"${k}" in promised.select}
        con.execute(f"create or replace table {table} as {promised.typed_from(promised.select)}", used)
    return con


def at(clock: str, day: date = date(2026, 10, 5)) -> datetime:
    """A time of day (`09:00:30`), some days on where it says so (`+2 09:00:30`)."""
    days, _, time = clock.rpartition(" ")
    return datetime.fromisoformat(f"{day + timedelta(days=int(days or 0))}T{time}")


def world(con: duckdb.DuckDBPyConnection, truth: str) -> None:
    """Fill core.inference and core.feedback from the truth of a simulation: what a warehouse holds once all has been taken in."""
    con.execute(
        """insert into core.inference by name
        select inference_id, format as source, format as source_format, 'chat' as operation_name, provider_name, request_model, response_model,
            started_at, finished_at, status, http_status, error_type, finish_reason, tool_call_count, tenant, team, user_id, session_id, trace_id, workload,
            traffic_kind, routing_policy, routing_candidates, routing_propensity, input_uncached_tokens, cache_read_tokens, output_text_tokens, reasoning_tokens,
            'truth' as landing_file, row_number() over () as landing_line
        from read_parquet($file)""",
        {"file": f"{truth}/call.parquet"},
    )
    con.execute(
        """insert into core.feedback by name
        select feedback_id, channel as source, channel as source_format, target_kind, target_id, trace_id, name, kind, value_number, rater_kind, rater_id, given_at,
            'truth' as landing_file, row_number() over () as landing_line
        from read_parquet($file)""",
        {"file": f"{truth}/feedback.parquet"},
    )
    con.execute(
        """insert into marts.call_cost by name
        select inference_id, started_at, format as source, provider_name, lower(request_model) as model_name, request_model, workload, status,
            output_text_tokens + reasoning_tokens as output_tokens, true_cost_usd as list_cost_usd, true_cost_usd as output_text_cost_usd, 'priced' as cost_status
        from read_parquet($file)""",
        {"file": f"{truth}/call.parquet"},
    )
