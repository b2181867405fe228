"""Draw rows of a table of the warehouse and build a mart from them with its real select, in a DuckDB in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import duckdb

from pipelines.contracts import contract, quoted
from tests.support.pricebook import connection

FOREVER = {"from_day": date(1970, 1, 1), "to_day": date(9999, 1, 1)}


def draw(con: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make a table of the warehouse from rows that give some of its columns; counts not given are 0, all else is null."""
    promised = contract(table)
    con.execute(f"create schema if not exists {table.split('.')[0]}")
    con.execute(f"create or replace table {table} ({', '.join(f'{quoted(c.name)} {c.type}' for c in promised.columns)})")
    zero = {c.name: 0 for c in promised.columns if c.name.endswith("_count") and c.required}
    for row in rows:
        given = zero | dict(row)
        con.execute(f"insert into {table} ({', '.join(given)}) values ({', '.join('?' * len(given))})", list(given.values()))


def build(con: duckdb.DuckDBPyConnection, *tables: str, days: Mapping[str, date] = FOREVER) -> duckdb.DuckDBPyConnection:
    """Fill marts, each from what is there, under the types of their contracts; those with days for `days`."""
    for table in tables:
        promised = contract(table)
        if prepare := promised.prepare():
            prepare(con, *(days.values() if promised.partition else ()))
        bound = {name: day for name, day in days.items() if f"${name}" in promised.select}
        con.execute(f"create or replace table {table} as {promised.typed_from(promised.select)}", bound)
    return con


def use(day: str, model: str = "m", **given: Any) -> dict[str, Any]:
    """A row of marts.usage_daily. `input=(tokens, usd)` and the like give a class's tokens and cost; the sum is list_cost_usd."""
    row = {
        "usage_day": day, "provider_name": "openai", "model_name": model, "service_tier": "standard", "context_above_tokens": 0,
        "tenant": "t", "workload": "w", "cost_status": "priced", "call_count": 100,
    }  # fmt: skip
    names = {"input": "input_uncached", "output": "output_text"}
    total = 0.0
    for name in list(given):
        if isinstance(given[name], tuple):
            tokens, usd = given.pop(name)
            stem = names.get(name, name)
            row[f"{stem}_tokens"], row[f"{stem}_cost_usd"] = tokens, usd
            total += usd
    row |= given
    row.setdefault("charged_count", row["call_count"])
    row.setdefault("list_cost_usd", total)
    return row


CALL = {
    "started_at": "2026-11-20 09:00:00", "source": "app", "provider_name": "openai", "model_name": "m", "status": "ok", "cost_status": "priced",
    "cost_status_then": "priced", "context_above_tokens": 0,
}  # fmt: skip


def daily_use(*calls: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """A DuckDB with marts.usage_daily made from rows of marts.call_cost."""
    con = connection()
    draw(con, "marts.call_cost", [CALL | {"inference_id": str(n)} | dict(call) for n, call in enumerate(calls)])
    return build(con, "marts.usage_daily")


def warehouse(rows: Iterable[Mapping[str, Any]]) -> duckdb.DuckDBPyConnection:
    """A DuckDB with marts.usage_daily."""
    con = connection()
    draw(con, "marts.usage_daily", rows)
    return con
