"""Stage: landed files → typed rows in Parquet that nobody can see yet, by the one select of their format.

The select runs twice over the same bytes. The narrow pass reads what is counted and judged; the content pass, after it is
known which rows stay, writes what was said. Text is by far the most costly to write, and so is written once.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.contracts import Contract, contract, literal, quoted
from pipelines.errors import NotConfigured, SourceUnreadable, StopTheLine
from pipelines.readable import Readable, take_apart
from pipelines.settings import Settings

log = logging.getLogger(__name__)

Report = Callable[[str, float | None], None]
"""Told what is being done and, where it is known, the share done (0..1)."""



def silent(text: str, share: float | None) -> None:
    """A report that tells nobody."""


CONTENT = {"inference": "core.inference_content"}
"""Targets whose select also gives what was said, kept in a table apart."""
FRAME = ("landing_file", "landing_row", "record_kind", "unreadable")
PSEUDONYMS = {"user_id": "true", "rater_id": "coalesce(rater_kind, 'user') = 'user'"}
"""Columns that a keyed hash replaces, and where; an evaluator's name is no personal data."""
ROW_GROUP_BYTES = 32 * 2**20


@dataclass
class Staged:
    """The narrow pass over a batch: view `candidate` in `con`, one row a record, numbered by `pos`."""

    con: duckdb.DuckDBPyConnection
    target: Contract
    sql: str
    files: list[Readable]
    columns: list[str]
    has_landing_row: bool

    @property
    def days_sql(self) -> str:
        return f"cast({quoted(self.target.partition.column)} as date)"


def format_sql(settings: Settings, target: str, format: str) -> str | None:
    """The staging select of a format for a target, or None when the format has nothing for it."""
    path = settings.staging_sql(target, format)
    try:
        return path.read_text(encoding="utf-8").strip().rstrip(";") if path else None
    except UnicodeDecodeError as error:
        raise NotConfigured(f"{path} cannot be read: {error}") from error


def reads_window(sql: str) -> bool:
    """Whether the format spreads a call over several records, so that neighbouring files are read along."""
    return bool(re.search(r"^--\s*reads:\s*window\s*$", sql, re.MULTILINE))


def stage(
    settings: Settings,
    con: duckdb.DuckDBPyConnection,
    source: str,
    format: str,
    target: str,
    files: list[Readable],
    scratch: Path,
    report: Report,
) -> Staged:
    """Run the narrow pass and define `candidate`: the target's columns plus pos, line_row, record_kind, unreadable, landing_item.

    Every line of every file is in it at least once or in `Readable.bad`. Raises `StopTheLine` naming the SQL file when
    the select itself is wrong.
    """
    sql = format_sql(settings, target, format)
    promised = contract(f"core.{target}")
    raw = scratch / f"{target}.raw.parquet"
    keys = _declared_keys(sql)
    files[:] = [take_apart(settings, f, scratch, keys) if f.suspicious else f for f in files]
    while True:
        try:
            # A select may look at the files already to know its columns, so a broken line can show here too.
            described = [row[0] for row in _run(con, settings, target, format, f"describe select * from ({sql})", files)]
            columns = _columns(settings, target, format, promised, described)
            copy = f"copy (select {', '.join(map(quoted, columns))} from ({sql})) to {literal(str(raw))} (format parquet, compression lz4)"
            _watched(con, lambda q=copy: _run(con, settings, target, format, q, files), report, f"{source}: reading {target}")
            has_row = "landing_row" in described
            suspects = _miscounted(con, raw, files, has_row)
            fault = f"the select gives no row for some lines of {len(suspects)} files; every line must give at least one"
        except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            suspects = [f for f in files if str(f.path) in str(error)] or files
            # DuckDB's own words quote the value, which may be what somebody said.
            column = re.search(r"when casting from source column (\w+)", str(error))
            fault = "DuckDB cannot read the lines" if "JSON" in str(error) else (
                f"a value does not fit its type{f' ({column[1]})' if column else ''}; use try_cast and tell of it in `unreadable`"
            )
        if not suspects:
            _define_candidate(settings, con, promised, raw, source, format, files, described, has_row)
            return Staged(con, promised, sql, files, described, has_row)
        if all(f.lines for f in suspects):
            raise SourceUnreadable(f"{suspects[0].landing_file} as {format}: {fault} ({settings.staging_sql(target, format)})")
        for file in [f for f in suspects if f.lines is None]:
            log.info("%s: %s needs the line-wise path", source, file.landing_file)
            report(f"{source}: taking apart {Path(file.landing_file).name[:12]}", None)
            files[files.index(file)] = take_apart(settings, file, scratch, keys)


def _columns(settings: Settings, target: str, format: str, promised: Contract, described: list[str]) -> list[str]:
    """The columns of the narrow pass; refuses a select that lacks its frame or gives what no contract knows."""
    if "landing_file" not in described:
        raise NotConfigured(f"{settings.staging_sql(target, format)}: the select gives no landing_file")
    content = contract(CONTENT[target]).names if target in CONTENT else []
    if foreign := set(described) - set(promised.names) - set(content) - set(FRAME):
        raise NotConfigured(
            f"{settings.staging_sql(target, format)}: {', '.join(sorted(foreign))} is no column of {promised.table} (schemas/core/{target}.yml)"
        )
    return [name for name in described if name in promised.names or name in FRAME]


def _declared_keys(sql: str) -> list[str]:
    """The JSON keys that a select declares in its `columns = {…}`."""
    blocks = re.findall(r"columns\s*=\s*\{(.*?)\}", sql, re.DOTALL)
    return sorted({name for block in blocks for name in re.findall(r"[\"']?([A-Za-z_][\w.-]*)[\"']?\s*:", block)})


def _run(con, settings: Settings, target: str, format: str, sql: str, files: list[Readable], **bound: object) -> list[tuple]:
    try:
        return con.execute(sql, {"files": [str(f.path) for f in files], **bound}).fetchall()
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        raise StopTheLine(f"{settings.staging_sql(target, format)} does not run: {error}") from error


def _miscounted(con, raw: Path, files: list[Readable], has_row: bool) -> list[Readable]:
    """Files of which not every line came through (blank lines shift the count, a select may drop rows)."""
    counted = "count(distinct landing_row)" if has_row else "count(*)"
    seen = dict(con.execute(f"select landing_file, {counted} from read_parquet({literal(str(raw))}) group by all").fetchall())
    return [f for f in files if seen.get(str(f.path), 0) != f.rows]


def _define_candidate(
    settings: Settings, con, promised: Contract, raw: Path, source: str, format: str, files: list[Readable], described: list[str], has_row: bool
) -> None:
    con.register(
        "_file",
        pa.table({"local": [str(f.path) for f in files], "landing_file": [f.landing_file for f in files]}),
    )
    row = "landing_row" if has_row else "file_row_number + 1"
    con.execute(
        f"""create or replace temp table _first as
        select r.landing_file as local, f.landing_file, min({row}) as first_row
        from read_parquet({literal(str(raw))}, file_row_number = true) r join _file f on f.local = r.landing_file group by all"""
    )
    mapped = [f for f in files if f.lines]
    con.execute("create or replace temp table _line (local varchar, row bigint, line bigint)")
    for file in mapped:
        con.execute(f"insert into _line select ?, row, line from read_parquet({literal(str(file.lines))})", [str(file.path)])
    line = f"{row} - f.first_row + 1"
    given = {
        "source": literal(source),
        "source_format": literal(format),
        "landing_file": "f.landing_file",
        "landing_line": f"coalesce(l.line, {line})" if mapped else line,
        "provider_name": "coalesce(p.provider_name, r.provider_name)",
    }
    items = []
    for column in promised.columns:
        if column.name in given and (column.name != "provider_name" or "provider_name" in described):
            value = given[column.name]
        elif column.name not in described:
            value = "null"
        elif column.name in PSEUDONYMS:
            text = f"cast(r.{quoted(column.name)} as varchar)"
            value = f"case when {PSEUDONYMS[column.name]} then left(sha256(getvariable('pseudonym_key') || ':' || {text}), 32) else {text} end"
        else:
            value = f"r.{quoted(column.name)}"
        items.append(f"cast({value} as {column.type}) as {quoted(column.name)}")
    # As a variable, the key shows in no error message that quotes the query.
    con.execute(f"set variable pseudonym_key = {literal(settings.pseudonym_key.get_secret_value())}")
    kind = "coalesce(r.record_kind, 'row')" if "record_kind" in described else "'row'"
    con.execute(
        f"""create or replace temp view candidate as
        select {", ".join(items)},
            r.file_row_number as pos, {row} as line_row,
            {kind} = 'context' as is_context,
            {"r.unreadable" if "unreadable" in described else "cast(null as varchar)"} as unreadable
        from read_parquet({literal(str(raw))}, file_row_number = true) r
        join _first f on f.local = r.landing_file
        {"left join provider p on p.alias = lower(r.provider_name)" if "provider_name" in described and "provider_name" in promised.names else ""}
        {f"left join _line l on l.local = r.landing_file and l.row = {line}" if mapped else ""}"""
    )


def write_content(settings: Settings, staged: Staged, target: str, format: str, scratch: Path, report: Report) -> list[tuple[Path, date]]:
    """The content pass: what was said in the calls that stay, partitioned by day.

    Reads temp table `excluded` (pos) and view `candidate` in the connection.
    """
    con, promised = staged.con, contract(CONTENT[target])
    items = ", ".join(
        f"cast({'f.landing_file' if c.name == 'landing_file' else 'r.' + quoted(c.name) if c.name in staged.columns else 'null'} as {c.type}) as {quoted(c.name)}"
        for c in promised.columns
    )
    kind = "r.record_kind <> 'context'" if "record_kind" in staged.columns else "true"
    key = quoted(promised.grain[0])
    con.execute(
        f"""create or replace temp table _special as
        select distinct {key} from candidate where pos in (select pos from excluded) and not is_context and {key} is not null"""
    )
    special = con.execute("select count(*) from _special").fetchone()[0]
    plain = f"select {items} from ({staged.sql}) r join _first f on f.local = r.landing_file where {kind} and r.{key} is not null"
    parts = [plain if not special else f"{plain} and r.{key} not in (select {key} from _special)"]
    if special:
        # Ids of which some record goes and some may stay: told apart by the line, which only this pass needs to count.
        con.execute(
            f"""create or replace temp table _stays as
            select {key}, line_row from candidate where {key} in (select {key} from _special)
            and not is_context and pos not in (select pos from excluded)"""
        )
        if con.execute("select count(*) from _stays").fetchone()[0]:
            numbered = staged.sql if staged.has_landing_row else f"select *, row_number() over () as landing_row from ({staged.sql})"
            parts.append(
                f"""select {items} from ({numbered}) r join _first f on f.local = r.landing_file
                where {kind} and exists (select 1 from _stays s where s.{key} = r.{key} and s.line_row = r.landing_row)
                qualify row_number() over (partition by r.{key}, r.landing_row) = 1"""
            )
    days = [row[0] for row in con.execute(
        f"select distinct {staged.days_sql} from candidate where not is_context and pos not in (select pos from excluded)").fetchall()]
    written: list[tuple[Path, date]] = []
    for n, part in enumerate(parts):
        written += write_days(
            con, part, "cast(started_at as date)", days, scratch / f"content-{n}",
            run=lambda sql: _run(con, settings, target, format, sql, staged.files), heavy=True,
            report=report, doing=f"{staged.target.table}: writing content",
        )
    return written


def write_days(
    con, select: str, day: str, days: list[date], folder: Path, *, run: Callable[[str], object], heavy: bool = False,
    report: Report, doing: str,
) -> list[tuple[Path, date]]:
    """Write a select as Parquet, every file of one UTC day only; returns the files that hold rows, with their day.

    Iceberg wants a data file to lie in one partition. A batch of one day, the usual case, is written in one stream;
    several days are parted by DuckDB in the same single pass.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Text fills row groups by weight, not by number: 100,000 conversations are more than the memory limit.
    level = f", compression_level 1, row_group_size_bytes {ROW_GROUP_BYTES}" if heavy else ""
    con.execute("set preserve_insertion_order = false")
    try:
        if len(days) <= 1:
            path = folder / "part.parquet"
            _watched(con, lambda: run(f"copy ({select}) to {literal(str(path))} (format parquet, compression zstd{level})"), report, doing)
            rows = con.execute(f"select count(*) from read_parquet({literal(str(path))})").fetchone()[0]
            return [(path, days[0])] if rows and days else []
        # Each thread buffers rows per day before it writes them; heavy rows of many days would not fit in memory.
        flush = max(2_048, (40_000 if heavy else 400_000) // len(days))
        con.execute(f"set partitioned_write_flush_threshold = {flush}")
        con.execute("set partitioned_write_max_open_files = 200")
        _watched(
            con,
            lambda: run(
                f"copy (select *, {day} as _day from ({select})) to {literal(str(folder))} "
                f"(format parquet, compression zstd{level}, partition_by (_day), overwrite_or_ignore)"
            ),
            report, doing,
        )
        return [
            (path, date.fromisoformat(path.parent.name.removeprefix("_day=")))
            for path in sorted(folder.glob("_day=*/*.parquet"))
        ]
    finally:
        con.execute("set preserve_insertion_order = true")


def _watched(con: duckdb.DuckDBPyConnection, work: Callable[[], object], report: Report, doing: str) -> None:
    """Run a query and tell how far it is, as DuckDB estimates."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            try:
                share = con.query_progress()
            except duckdb.Error:
                return
            report(doing, share / 100 if share and share > 0 else None)

    report(doing, None)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()

