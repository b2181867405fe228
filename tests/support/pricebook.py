"""Draw quotes and build the price tables from them with the real selects, in a DuckDB in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from pipelines.engine import define_references
from pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
TABLES = ("core.price_quote", "core.price_suspect", "core.price", "core.model", "marts.price_change")
PRICE_COLUMNS = """
    feed varchar, landing_file varchar, feed_model varchar, provider_alias varchar, region varchar, service_tier varchar,
    token_class varchar, context_above_tokens bigint, unit varchar, price_usd_per_unit decimal(24, 15), price_condition varchar,
    valid_from timestamp, valid_to timestamp, mode varchar, context_window_tokens bigint, max_output_tokens bigint,
    deprecation_day date, release_day date, listed_day date, hugging_face_id varchar, is_open_weights boolean, price_note varchar
"""


def connection() -> duckdb.DuckDBPyConnection:
    """A DuckDB with the macros, the providers and an empty staging area."""
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'; create schema core; create schema marts; create schema staging")
    con.execute((ROOT / "warehouse/core/macros.sql").read_text())
    define_references(con, Settings())
    con.execute(f"create table staging.price ({PRICE_COLUMNS})")
    con.execute("create table staging.price_file (landing_file varchar, quoted_at timestamp)")
    return con


def rate(con: duckdb.DuckDBPyConnection, format: str, *files: str) -> duckdb.DuckDBPyConnection:
    """Fill core.capability from files of a leaderboard, each as landed on the day 2026-01-01, 2026-01-02, ..."""
    con.execute("create table staging.capability as " + (ROOT / f"warehouse/staging/capability/{format}.sql").read_text(), {"files": list(files)})
    con.execute("create table staging.capability_file (local varchar, landing_file varchar, landed_day date, source varchar)")
    for n, path in enumerate(files):
        con.execute("insert into staging.capability_file values ($1, $1, date '2026-01-01' + $2, $3)", [path, n, format])
    con.execute("create table core.capability as " + (ROOT / "warehouse/core/capability.sql").read_text())
    return con


def build(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Fill core.price_quote and all that is made from it."""
    for table in TABLES:
        con.execute(
            f"create or replace table {table} as {(ROOT / 'warehouse' / table.replace('.', '/')).with_suffix('.sql').read_text()}"
        )
    return con


def book(drawn: str, **columns: Any) -> duckdb.DuckDBPyConnection:
    """Price tables from drawn quotes, one a line: day, feed, model, then `class=USD per million`, `from:day`, `to:day`.

    Every snapshot of a feed is one file. A model alone is listed without a price. `columns` go into every row.
    """
    con = connection()
    for line in drawn.strip().splitlines():
        day, feed, model, *said = line.split()
        days = {word[: word.index(":")]: word.partition(":")[2] for word in said if ":" in word}
        quotes = [word.split("=") for word in said if "=" in word] or [(None, None)]
        for token_class, usd in quotes:
            row = {
                "feed": feed, "landing_file": f"{feed}/{day}", "feed_model": model, "provider_alias": feed,
                "service_tier": token_class and "standard", "token_class": token_class,
                "context_above_tokens": 0 if token_class else None, "unit": token_class and "token",
                "price_usd_per_unit": None if usd is None else f"{float(usd) / 1e6:.15f}",
                "valid_from": days.get("from"), "valid_to": days.get("to"), **columns,
            }  # fmt: skip
            con.execute(
                f"insert into staging.price ({', '.join(row)}) values ({', '.join('?' * len(row))})",
                list(row.values()),
            )
    con.execute(
        "insert into staging.price_file select distinct landing_file, split_part(landing_file, '/', 2) from staging.price"
    )
    return build(con)


def drawn(con: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """Rows of a query, a line each; days without their midnight, prices per million, `-` for null."""
    lines = []
    for row in con.execute(sql).fetchall():
        words = ["-" if value is None else str(value).removesuffix(" 00:00:00") for value in row]
        lines.append(" ".join(words))
    return lines


def pages(con: duckdb.DuckDBPyConnection) -> list[str]:
    """core.price as `model class USD-per-million valid_from..valid_to known_from..known_to`."""
    return drawn(
        con,
        """
        select feed_model, token_class, cast(cast(price_usd_per_unit * 1000000 as double) as varchar),
            concat(cast(valid_from as date), '..', cast(valid_to as date)),
            concat(cast(known_from as date), '..', cast(known_to as date))
        from core.price order by feed, feed_model, token_class, known_from, valid_from
        """,
    )
