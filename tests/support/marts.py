"""Draw the rows a mart reads, run its real select and see its rows; every promise of its contract is held against them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.contracts import Contract, contract
from pipelines.engine import MART_MACROS, connect
from pipelines.settings import Settings

DAY = date(2026, 11, 20)
Row = dict[str, Any]


def at(clock: str, day: date = DAY) -> datetime:
    """`10:00`, `10:00:05` or `10:00:05.5` of the day."""
    parts = [float(part) for part in clock.split(":")] + [0.0]
    return datetime(day.year, day.month, day.day) + timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])


def call(id: str, clock: str = "09:00", *, day: date = DAY, seconds: float | None = 1.0, first: float | None = None, **other: Any) -> Row:
    """A row of core.inference: an answered call of one provider and model, `first` seconds to its first token, `seconds` in all."""
    started = at(clock, day)
    return {
        "inference_id": id, "source": "app", "source_format": "drawn", "started_at": started, "status": "ok",
        "first_token_at": None if first is None else started + timedelta(seconds=first), "is_streaming": first is not None,
        "finished_at": None if seconds is None else started + timedelta(seconds=seconds),
        "provider_name": "lab", "request_model": "m", "landing_file": "app/day=2026-11-20/drawn", "landing_line": 1,
    } | other  # fmt: skip


def cost(id: str, clock: str = "09:00", usd: float | None = 1.0, *, day: date = DAY, **other: Any) -> Row:
    """A row of marts.call_cost, all of it for uncached input."""
    return {
        "inference_id": id, "started_at": at(clock, day), "source": "app", "provider_name": "lab", "model_name": "m", "request_model": "m",
        "status": "ok", "input_uncached_cost_usd": usd, "list_cost_usd": usd, "cost_status": "unpriced" if usd is None else "priced",
        "cost_status_then": "unpriced",
    } | other  # fmt: skip


@contextmanager
def drawn(table: str, reads: dict[str, Iterable[Row]], days: tuple[date, date] = (DAY, DAY), **reference: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the mart built from the given rows, under its own name; tables not given are empty.

    `reference` are contents of reference files that take the place of the embedded ones. A broken promise fails the test.
    """
    promised = contract(table)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in reference.items():
            (Path(folder) / f"{name}.csv").write_text(text.strip() + "\n")
        with connect(Settings(home=Path(folder) / "home", reference=folder if reference else None, threads=2), MART_MACROS, references=True) as con:
            if unknown := reads.keys() - set(promised.reads):
                raise AssertionError(f"{table} does not read {unknown}")
            for name in promised.reads:
                fill(con, contract(name), reads.get(name, ()))
            bound = {"from_day": days[0], "to_day": days[1] + timedelta(days=1)}
            con.execute(f"create schema if not exists {table.split('.')[0]}")
            con.execute(
                f"create table {table} as {promised.typed_from(promised.select)}",
                {key: value for key, value in bound.items() if f"${key}" in promised.select},
            )
            hold(con, promised)
            yield con


def fill(con: duckdb.DuckDBPyConnection, promised: Contract, rows: Iterable[Row]) -> None:
    """A table with its contract's columns and the given rows; what a row leaves out is null."""
    schema = promised.table.split(".")[0]
    con.execute(f"create schema if not exists {schema}")
    con.execute(f"create table {promised.table} ({', '.join(f'{c.name} {c.type}' for c in promised.columns)})")
    rows = list(rows)
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        con.register("_drawn", pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]))
        con.execute(f"insert into {promised.table} by name select * from _drawn")
        con.unregister("_drawn")


def hold(con: duckdb.DuckDBPyConnection, promised: Contract) -> None:
    """Fail where the table breaks a promise or its grain."""
    for promise in promised.row_promises:
        broken = con.execute(f"select count(*) from {promised.table} where not ({promise.sql})").fetchone()[0]
        assert broken == 0, f"{promised.table} breaks {promise.name}"
    grain = ", ".join(promised.grain)
    twice = con.execute(f"select {grain} from {promised.table} group by {grain} having count(*) > 1").fetchall()
    assert not twice, f"{promised.table} has rows of one grain twice: {twice[:3]}"


def seen(con: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """Rows of a query, a line each: `-` for null, whole numbers without their zeros."""
    return [" ".join(_word(value) for value in row) for row in con.execute(sql).fetchall()]


def _word(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) or hasattr(value, "as_tuple"):
        return f"{float(value):.6g}"
    return str(value)
