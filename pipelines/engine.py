"""DuckDB, with its memory limit and spill folder, the shared macros and views over the tables it may read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import duckdb
import fsspec

from pipelines.contracts import literal, quoted
from pipelines.settings import ROOT, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MACROS = ("staging/macros.sql", "staging/usage.sql", "core/macros.sql")


@contextmanager
def connect(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB that keeps to the settings' memory limit, spills to `<home>/spill`, speaks UTC and knows the macros."""
    con = duckdb.connect()
    try:
        spill = settings.home / "spill"
        spill.mkdir(parents=True, exist_ok=True)
        con.execute(f"set memory_limit = {literal(settings.memory_limit)}")
        con.execute(f"set temp_directory = {literal(str(spill))}")
        con.execute("set timezone = 'UTC'")
        con.execute("set enable_progress_bar = false")
        if settings.threads:
            con.execute(f"set threads = {int(settings.threads)}")
        for url in (settings.landing, settings.warehouse):
            scheme = urlsplit(url).scheme
            if scheme not in ("", "file"):
                con.register_filesystem(fsspec.filesystem(scheme))
        for name in MACROS:
            con.execute((ROOT / "warehouse" / name).read_text())
        define_references(con)
        ranks = ", ".join(f"({literal(feed)}, {rank})" for rank, feed in enumerate([*settings.feed_precedence, ""]))
        con.execute(f"create view feed_precedence as select * from (values {ranks}) as t (feed, precedence)")
        yield con
    finally:
        con.close()


def define_references(con: duckdb.DuckDBPyConnection) -> None:
    """Views on schemas/reference: `provider` (alias, provider_name, provider_kind) and `model_alias` (alias, valid_from, model_name)."""
    folder = ROOT / "schemas" / "reference"
    con.execute(f"create view provider as select * from read_csv({literal(str(folder / 'provider.csv'))}, header = true, all_varchar = true)")
    con.execute(
        f"create view model_alias as select * from read_csv({literal(str(folder / 'model_alias.csv'))}, header = true, "
        "columns = {alias: 'varchar', valid_from: 'date', model_name: 'varchar'})"
    )


def parquet_list(paths: Iterable[str], filename: str | None = None) -> str:
    """`read_parquet([...])` over the given data files, columns matched by name; the file's path as column `filename` when asked."""
    listed = ", ".join(literal(path.removeprefix("file://")) for path in paths)
    named = f", filename = {literal(filename)}" if filename else ""
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false{named})"


def write(con: duckdb.DuckDBPyConnection, path: Path, select: str, bound: dict[str, object] | None = None) -> Path:
    """Write a select to a Parquet file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    con.execute(f"copy ({select}) to {literal(str(path))} (format parquet, compression zstd)", bound)
    return path


def view_sql(table: str, columns: Iterable[tuple[str, str]], paths: list[str]) -> str:
    """DDL of a view over data files with the given (name, type) columns; an empty table when there are no files."""
    if paths:
        body = f"select {', '.join(quoted(name) for name, _ in columns)} from {parquet_list(paths)}"
    else:
        body = "select " + ", ".join(f"cast(null as {type}) as {quoted(name)}" for name, type in columns) + " where false"
    return f"create or replace view {table} as {body}"
