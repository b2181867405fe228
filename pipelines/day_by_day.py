"""Writing a table of many rows a day: what holds for all days is worked out once, then every day is a stream of its own.

DuckDB can part one stream by day (`stage.write_days`), but keeps and copies every row once more for it, which for a row a call costs
as much as encoding it. Here each day is read and written by itself, a few days at a time, one a core.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from pipelines.contracts import literal, quoted
from pipelines.engine import cursor
from pipelines.stage import Report

DICTIONARY = 5000
FORMAT = f"format parquet, compression zstd, compression_level -1, dictionary_size_limit {DICTIONARY}, write_bloom_filter false, parquet_version v2"
"""Measured on marts.call_cost: less than three quarters of the processor time that DuckDB's defaults take to write it. Pages of version 2 hold
numbers as differences: days of 300,000 calls are 3 % smaller than with version 1 and level 1, and read in four fifths of the time."""
WORTH_A_STREAM = 30_000
"""Rows from which a day is better written by itself: starting a query costs what parting so many rows does."""


@dataclass(frozen=True)
class CommonTable:
    """A member of a select's outermost `with`."""

    name: str
    is_materialized: bool
    body: str


def is_worth_it(rows: int, days: int) -> bool:
    """Whether so many input rows of so many days are better written day by day than parted from one stream."""
    return rows >= WORTH_A_STREAM * days


def taken_apart(sql: str) -> tuple[list[CommonTable], str]:
    """The members of the outermost `with` in order, and the select that follows them."""
    tokens = [(at, kind) for at, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    brackets = [at for at, kind in tokens if kind == duckdb.token_type.operator and sql[at] in "()"]
    first = sql[tokens[0][0] :]
    if not first.lower().startswith("with "):
        return [], sql
    at, found = tokens[0][0] + len("with "), []
    while True:
        depth, opened = 0, None
        for place in (b for b in brackets if b >= at):
            opened = place if opened is None else opened
            depth += 1 if sql[place] == "(" else -1
            if depth == 0:
                break
        head = [sql[a:b].strip() for a, b in zip([t for t, _ in tokens], [t for t, _ in tokens][1:], strict=False) if at <= a < opened]
        head = [word.split("--")[0].strip().lower() for word in head]
        found.append(CommonTable(head[0], head[-1] == "materialized" and head[-2] != "not", sql[opened + 1 : place]))
        after = next((t for t, _ in tokens if t > place), len(sql))
        if sql[after : after + 1] != ",":
            return found, sql[after:]
        at = after + 1


def materialized(
    con: duckdb.DuckDBPyConnection, sql: str, days: list[date], *, run: Callable[[duckdb.DuckDBPyConnection, str, dict], None], numbered: bool = False
) -> str:
    """What the select marks as materialized becomes a table of `con`, worked out for all the days; returns the select over these tables.

    So DuckDB knows how few rows they have: guessed after many joins, it took them for more than all calls, and kept the calls in memory.
    `numbered`: texts of few values become numbers.
    """
    members, rest = taken_apart(sql)
    defined: list[str] = []
    for member in members:
        if member.is_materialized:
            run(con, f"create table {quoted(member.name)} as {_with(defined)}{member.body}", _bounds(days[0], days[-1]))
            if numbered:
                _number_texts(con, member.name)
        else:
            defined.append(f"{quoted(member.name)} as ({member.body})")
    return _with(defined) + rest


def write_each_day(
    con: duckdb.DuckDBPyConnection, sql: str, typed: dict[str, str], days: list[date], folder: Path, *, run: Callable[[duckdb.DuckDBPyConnection, str, dict], None],
    report: Report, doing: str,
) -> list[tuple[Path, date]]:
    """Write a select with $from_day and $to_day as one Parquet file a day; returns the files that hold rows, with their day.

    `typed` gives every column's cast to its type. What the select marks as materialized is worked out once, the rest once a day.
    """
    folder.mkdir(parents=True, exist_ok=True)
    daily = materialized(con, sql, days, run=run, numbered=True)
    enums = {name for name, type, *_ in _described(con, daily, _bounds(days[0], days[0])) if type.startswith("ENUM")}
    written = ", ".join(quoted(name) if name in enums else cast for name, cast in typed.items())
    done = 0

    def write(day: date) -> tuple[Path, date] | None:
        nonlocal done
        path = folder / f"{day}.parquet"
        with cursor(con) as own:
            run(own, f"copy (select {written} from ({daily})) to {literal(str(path))} ({FORMAT})", _bounds(day, day))
            rows = own.execute(f"select count(*) from read_parquet({literal(str(path))})").fetchone()[0]
        done += 1
        report(doing, done / len(days))
        return (path, day) if rows else None

    con.execute("set preserve_insertion_order = false")
    try:
        with ThreadPoolExecutor(con.execute("select current_setting('threads')").fetchone()[0]) as pool:
            return [written for written in pool.map(write, days) if written]
    finally:
        con.execute("set preserve_insertion_order = true")


def _number_texts(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Make texts of few values an ENUM: joined as numbers and written, as texts, from the dictionary they have. On marts.call_cost a fifth of the time."""
    for name, type, *_ in con.execute(f"describe {quoted(table)}").fetchall():
        column, enum = quoted(name), quoted(f"{table} {name}")
        if type == "VARCHAR" and 0 < con.execute(f"select count(distinct {column}) from {quoted(table)}").fetchone()[0] <= DICTIONARY:
            con.execute(f"create type {enum} as enum (select distinct {column} from {quoted(table)} where {column} is not null order by 1)")
            con.execute(f"alter table {quoted(table)} alter {column} type {enum}")


def _described(con: duckdb.DuckDBPyConnection, select: str, bounds: dict[str, date]) -> list[tuple]:
    return con.execute(f"describe {select}", {k: v for k, v in bounds.items() if f"${k}" in select}).fetchall()


def _with(defined: list[str]) -> str:
    return f"with {', '.join(defined)} " if defined else ""


def _bounds(first: date, last: date) -> dict[str, date]:
    return {"from_day": first, "to_day": last + timedelta(days=1)}
