"""DuckDB, with its memory limit and spill folder, the shared macros and views over the tables it may read."""

from __future__ import annotations

import csv
from collections.abc import Container, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import duckdb
import fsspec

from pipelines.contracts import literal, quoted
from pipelines.errors import NotConfigured
from pipelines.settings import ROOT, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE_VIEWS = {"provider": {"provider"}, "model_alias": {"model_alias"}, "signal_rule": {"signal", "signal_word"}}
"""Typed views over reference files, and the files behind each."""
MART_MACROS = ("core/macros.sql",)
"""What selects over core tables, and promises, may call."""
STAGING_MACROS = ("staging/macros.sql", "staging/usage.sql", *MART_MACROS)
"""What selects that read logs and price lists may call besides."""


@contextmanager
def connect(settings: Settings, macros: Iterable[str] = (), *, references: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB that keeps to the settings' memory limit, spills to `<home>/spill` and speaks UTC.

    It knows the macros and the reference files that are asked for: all of both take several times as long as opening it.
    """
    con = duckdb.connect()
    try:
        (settings.home / "spill").mkdir(parents=True, exist_ok=True)
        _bound(con, settings)
        for name in macros:
            con.execute((ROOT / "warehouse" / name).read_text())
        if references:
            define_references(con, settings)
        yield con
    finally:
        con.close()


def _bound(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    con.execute(f"set memory_limit = {literal(settings.memory_limit)}")
    con.execute(f"set temp_directory = {literal(str(settings.home / 'spill'))}")
    con.execute("set timezone = 'UTC'")
    con.execute("set enable_progress_bar = false")
    if settings.threads:
        con.execute(f"set threads = {int(settings.threads)}")
    register_stores(con, settings)


def cursor(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Another connection to the same DuckDB, which speaks UTC too: that is not taken over."""
    own = con.cursor()
    own.execute("set timezone = 'UTC'")
    return own


@contextmanager
def borrowed(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same DuckDB for one piece of work after another: what is made in it meanwhile, other than by its owner, is gone afterwards.

    A millisecond or two, where opening and closing a DuckDB that knows macros takes 20. One at a time.
    """
    own = cursor(con)
    try:
        yield own
    finally:
        own.close()
        for (drop,) in con.execute(LEFT).fetchall():
            con.execute(drop)


LEFT = """
    select drop from (
        select 1 as step, format('drop schema "{}" cascade', schema_name) as drop from duckdb_schemas() where not internal and schema_name <> 'main'
        union all select 2, format('drop view "{}"', view_name) from duckdb_views() where not internal and schema_name = 'main' and not temporary
        union all select 3, format('drop table "{}"', table_name) from duckdb_tables() where not internal and schema_name = 'main' and not temporary
        union all select 4, format('drop type "{}"', type_name) from duckdb_types() where not internal and schema_name = 'main'
    ) order by step"""


def register_stores(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Let a connection read landing and warehouse where they are on another store than the local disk, as fsspec does."""
    schemes = {urlsplit(url).scheme for url in (settings.landing, settings.warehouse)}
    for scheme in sorted(schemes - {"", "file"}):
        con.register_filesystem(fsspec.filesystem(scheme))


@contextmanager
def views(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """`warehouse.duckdb`, to be read, within the same limits and in UTC. Raises `NotConfigured` when there is none yet."""
    if not settings.views.is_file():
        raise NotConfigured(f"there is no {settings.views} yet; bring logs in first (make run, or flywheel ingest and flywheel build)")
    with duckdb.connect(str(settings.views), read_only=True) as con:
        _bound(con, settings)
        yield con


def define_references(con: duckdb.DuckDBPyConnection, settings: Settings, names: Container[str] | None = None) -> None:
    """`reference.<name>` for the named reference files (default: all), the typed views over them, and the view `feed_precedence`."""
    con.execute("create schema reference")
    typed = {
        "provider": "select * from reference.provider",
        "model_alias": "select alias, cast(valid_from as date) as valid_from, model_name from reference.model_alias",
    }
    for name, path in settings.reference_files().items():
        if names is None or name in names:
            con.execute(reference_sql(name, path))
    for view, behind in REFERENCE_VIEWS.items():
        if names is None or any(name in names for name in behind):
            con.execute(f"create view {view} as {typed[view] if view in typed else signal_rules(settings)}")
    ranks = ", ".join(f"({literal(feed)}, {rank})" for rank, feed in enumerate([*settings.feed_precedence, ""]))
    con.execute(f"create view feed_precedence as select * from (values {ranks}) as t (feed, precedence)")


def reference_sql(name: str, path: Path) -> str:
    """DDL of `reference.<name>`: a reference file as a view of texts. Raises `NotConfigured` when a column of the embedded file is missing."""
    wanted, given = (_header(p) for p in (ROOT / "schemas" / "reference" / f"{name}.csv", path))
    if missing := [column for column in wanted if column not in given]:
        raise NotConfigured(f"{path} lacks the column {', '.join(missing)}; schemas/reference/{name}.csv says what each means")
    # By name: the columns may stand in any order, and more may stand beside them.
    types = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in given)
    return (
        f"create view reference.{name} as select {', '.join(quoted(column) for column in wanted)} from read_csv({literal(str(path))}, "
        f"header = true, delim = ',', quote = '\"', comment = '#', auto_detect = false, columns = {{{types}}})"
    )


def _header(path: Path) -> list[str]:
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            return [word.strip() for word in line.split(",")]
    raise NotConfigured(f"{path} has no line that names its columns")


def signal_rules(settings: Settings) -> str:
    """A select of the rules that say how to read signals, the user's own first; the first that fits counts.

    `{bad}` in a pattern stands for the pattern of that word in signal_word.csv.
    """
    references = settings.reference_files()
    files = [path for path in (settings.signal_rules, references["signal"]) if path]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise NotConfigured(f"signal_rules names {missing[0]}, and there is no such file; its columns are those of schemas/reference/signal.csv")
    read = " union all ".join(f"select *, row_number() over () as line_no, {n} as file_no from read_csv({literal(str(path))}, header = true, all_varchar = true)" for n, path in enumerate(files))
    pattern = "name_pattern"
    with references["signal_word"].open(newline="") as words:
        for word in csv.DictReader(words):
            pattern = f"replace({pattern}, {literal('{' + word['word'] + '}')}, {literal(word['pattern'])})"
    return f"""
        select row_number() over (order by file_no, line_no) as rule_no, rule, {pattern} as name_pattern, rater_kind as for_rater_kind, shape,
            cast(polarity as integer) as polarity, cast(scale_low as double) as scale_low, cast(scale_high as double) as scale_high,
            good_words, bad_words, cast(accuracy_share as double) as accuracy_share,
            cast(failure_to_success_ratio as double) as failure_to_success_ratio, cast(prior_signals as double) as prior_signals,
            cast(prior_delay_ms as bigint) as prior_delay_ms, because
        from ({read})"""


def parquet_list(paths: Iterable[str], filename: str | None = None, *, alike: bool = False) -> str:
    """`read_parquet([...])` over the given data files, columns matched by name; the file's path as column `filename` when asked.

    With `alike`, files that are known to have the same columns: DuckDB then looks into the first only to know them, else into all.
    """
    listed = ", ".join(literal(path.removeprefix("file://")) for path in paths)
    named = f", filename = {literal(filename)}" if filename else ""
    return f"read_parquet([{listed}], union_by_name = {str(not alike).lower()}, hive_partitioning = false{named})"


def write(con: duckdb.DuckDBPyConnection, path: Path, select: str, bound: dict[str, object] | None = None) -> Path:
    """Write a select to a Parquet file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    con.execute(f"copy ({select}) to {literal(str(path))} (format parquet, compression zstd)", bound)
    return path


def view_sql(table: str, columns: Iterable[tuple[str, str]], paths: list[str], *, alike: bool = False) -> str:
    """DDL of a view over data files with the given (name, type) columns; an empty table when there are no files.

    Columns that no file has yet, as the contract got them later, are null. With `alike`, all files are known to have all columns.
    """
    columns = list(columns)
    names = ", ".join(quoted(name) for name, _ in columns)
    empty = "select " + ", ".join(f"cast(null as {type}) as {quoted(name)}" for name, type in columns) + " where false"
    if not paths:
        body = empty
    elif alike:
        body = f"select {names} from {parquet_list(paths, alike=True)}"
    else:
        body = f"select {names} from (select * from {parquet_list(paths)} union all by name {empty})"
    return f"create or replace view {table} as {body}"
