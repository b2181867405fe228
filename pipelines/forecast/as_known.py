"""The price book as it would have been written at an earlier moment: what a backtest may see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import duckdb

from pipelines.contracts import contract, literal
from pipelines.engine import MART_MACROS
from pipelines.prices import BOOK
from pipelines.settings import ROOT


@contextmanager
def book_as_known(con: duckdb.DuckDBPyConnection, at: datetime) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose core.price_quote, core.price_suspect, core.price, core.model and core.capability hold what was known at `at`.

    Made anew by the warehouse's own selects from the quotes of then: a quote that was held back then, and believed later, is held
    back; a listing that ended later has not ended. `con` needs core.price_quote, the views provider and model_alias, and may have
    core.capability. Only base prices of text tokens are kept, as no forecast looks at others.
    """
    past = duckdb.connect()
    try:
        [(limit, spill)] = con.execute("select current_setting('memory_limit'), current_setting('temp_directory')").fetchall()
        past.execute(f"set memory_limit = {literal(limit)}; set temp_directory = {literal(spill)}")
        past.execute("set timezone = 'UTC'; set enable_progress_bar = false; create schema core; create schema marts")
        for name in MART_MACROS:
            past.execute((ROOT / "warehouse" / name).read_text())
        for name in ("provider", "model_alias"):
            _copy(past, name, con.sql(f"from {name}"))
        _copy(past, "core.price_quote", con.sql(
            "select * from core.price_quote where quoted_at <= $at and context_above_tokens = 0 and token_class in ('input_uncached', 'output_text')", params={"at": at}))
        for table in BOOK:
            past.execute(f"create table {table} as {contract(table).select}")
        rated = con.execute("select count(*) from information_schema.tables where table_schema = 'core' and table_name = 'capability'").fetchall()[0][0]
        if rated:
            _copy(past, "core.capability", con.sql("select * from core.capability where rated_day <= cast($at as date)", params={"at": at}))
        yield past
    finally:
        past.close()


def _copy(past: duckdb.DuckDBPyConnection, name: str, rows: duckdb.DuckDBPyRelation) -> None:
    past.register("_rows", rows.to_arrow_table())
    past.execute(f"create table {name} as select * from _rows")
    past.unregister("_rows")
