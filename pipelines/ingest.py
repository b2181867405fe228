"""Take landed files into core: stage, judge, audit, commit. Every record ends in exactly one place.

The commit of the target table is the point of no return. It carries, as a table property, what must follow in other
tables (content, quarantine, ledger); a run that died in between is finished by the next one before it does anything else.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import gate
from pipelines.contracts import contract, literal, quoted
from pipelines.engine import STAGING_MACROS, connect, parquet_list, write
from pipelines.erasure import tombstones
from pipelines.erasure.rewrite import discard, refuse_erased
from pipelines.errors import NotConfigured, PromiseBroken
from pipelines.follow import announcement, follow, recover, replacement, results, settle
from pipelines.lake import FileEntry, Lake, Snapshot, storage
from pipelines.land import Landed, counted_lines, land, landed_day, landed_paths, landed_sizes, not_there
from pipelines.readable import readable
from pipelines.settings import ROOT, Settings
from pipelines.stage import CONTENT, Report, Staged, format_sql, reads_window, silent, stage, write_content, write_days

log = logging.getLogger(__name__)

TARGETS = ("inference", "feedback")
LINEAGE = ("source", "source_format", "landing_file", "landing_line")
BATCH_BYTES = 64 * 2**30
"""Of landed files in a batch, packed as they came: what scratch space grows with."""
BATCH_FILES = 20_000
REFUSED = "kept_count + duplicate_count + context_count = 0 and quarantined_count > 0"
"""Of a row of the ledger: nothing of the file was of use to that table, and something was refused."""
MISDATED = 0.1
"""Share of a file's records that are from after its day from which that day was wrong: a wrong clock spoils one here and there."""


@dataclass
class IngestReport:
    """What became of the records of one source that were meant for one table."""

    table: str
    source: str
    files: int = 0
    rows_in: int = 0
    kept: int = 0
    duplicate: int = 0
    quarantined: int = 0
    context: int = 0
    days: list[date] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.source} → {self.table}: {self.files} files, {self.rows_in:,} records in, {self.kept:,} kept, "
            f"{self.duplicate:,} duplicate, {self.quarantined:,} quarantined, {self.context:,} context"
        )


def ingest_source(settings: Settings, source: str, day: date, report: Report = silent) -> list[IngestReport]:
    """Land what is at the source's URL as having arrived on `day`, and take in all of its landed files not yet taken in.

    Returns one report a target table. Raises `RetryLater` or `StopTheLine`; whatever was committed by then is whole. Files that were
    listed and are not there are told of as `SourceUnreadable`, once all the others are taken in.
    """
    where = settings.source(source)
    _targets(settings, source, where.format)
    misdated = _misdated(settings, source)
    lost: list[str] = []
    landed = _land(settings, source, where.url, day, report, misdated, lost)
    reports = ingest_landed(settings, source, where.format, report, replaced=_landed_anew(settings, misdated, landed))
    if lost:
        raise not_there(source, lost)
    return reports


def land_source(settings: Settings, source: str, url: str, day: date, report: Report = silent) -> list[Landed]:
    """Land what is at `url`; files known to be taken in unchanged are not read again.

    A URL with `{day}` stands for the folder of the day before too: the last files of a day are written after its end.
    """
    lost: list[str] = []
    landed = _land(settings, source, url, day, report, _misdated(settings, source), lost)
    if lost:
        raise not_there(source, lost)
    return landed


@storage("landing")
def _land(settings: Settings, source: str, url: str, day: date, report: Report, misdated: frozenset[str], lost: list[str]) -> list[Landed]:
    copied = 0

    def count(n: int) -> None:
        nonlocal copied
        copied += n
        report(f"{source}: landing, {copied / 2**20:,.0f} MiB", None)

    days = [day - timedelta(days=1), day] if "{day}" in url else [day]
    outlived = _outlived(settings, source)
    return [file for d in days for file in land(settings, source, url, d, count, outlived=outlived, misdated=misdated, lost=lost)]


def _outlived(settings: Settings, source: str) -> frozenset[str]:
    """Files of the ledger that are kept in landing no longer."""
    if "landing" not in settings.retention:
        return frozenset()
    lake = Lake(settings)
    return frozenset(set().union(*(_done(settings, lake, f"core.{target}", source) for target in TARGETS)) - set(landed_paths(settings, source)))


@storage("landing")
def _misdated(settings: Settings, source: str) -> frozenset[str]:
    """Landed files of which a good part is in quarantine as from after the day they landed under."""
    lake = Lake(settings)
    if not lake.exists("core.quarantine"):
        return frozenset()
    with connect(settings) as con:
        for name in ("core.quarantine", "core.landing_file"):
            lake.attach(con, name)
        found = con.execute(
            """select landing_file from core.quarantine join core.landing_file using (landing_file, target_table)
            where quarantine.source = $source and contains(promises, '_not_after_landing')
            group by landing_file, target_table having count(*) >= $share * any_value(record_count)""", {"source": source, "share": MISDATED})
        return frozenset(r[0] for r in found.fetchall())


@storage("landing")
def _landed_anew(settings: Settings, misdated: frozenset[str], landed: list[Landed]) -> dict[str, str]:
    """Misdated files that have landed on a later day by now, and what has taken their place. They go from landing before their
    records go from the tables: what the ledger has and landing has not is still found by the next run, if this one dies."""
    there = {file.path.rsplit("/", 1)[-1]: file.path for file in landed}
    replaced = {old: new for old in misdated if (new := there.get(old.rsplit("/", 1)[-1])) and landed_day(old) < landed_day(new)}
    discard(settings, replaced)
    return replaced


@storage("ingest")
def ingest_landed(
    settings: Settings, source: str, format: str, report: Report = silent, *, only: Iterable[str] | None = None,
    replaced: dict[str, str] | None = None, target: str | None = None,
) -> list[IngestReport]:
    """Take in the landed files of a source that the ledger does not have yet, or `only` the given ones, again.

    Taking in twice leaves what taking in once leaves. Targets are those that the format has a select for, or the one given.
    `replaced` names files by what takes their place: rows, content, quarantine and ledger of the old ones go in the same commit
    that brings those of the new ones.
    """
    targets = [t for t in _targets(settings, source, format) if target in (None, t)]
    threading.Thread(target=gate.warm, daemon=True).start()
    lake = Lake(settings)
    reports = []
    for target in targets:
        table = f"core.{target}"
        recover(lake, table)
        total = IngestReport(table, source)
        for batch in _batches(settings, lake, source, format, target, only, replaced or {}):
            one = _ingest_batch(settings, lake, source, format, target, batch, report, replaced or {})
            log.info("%s", one)
            for name in ("files", "rows_in", "kept", "duplicate", "quarantined", "context"):
                setattr(total, name, getattr(total, name) + getattr(one, name))
            total.days = sorted({*total.days, *one.days})
            for reason, count in one.reasons.items():
                total.reasons[reason] = total.reasons.get(reason, 0) + count
        reports.append(total)
    lake.publish_views()
    return reports


def _targets(settings: Settings, source: str, format: str) -> list[str]:
    """What a format has selects for."""
    targets = [t for t in TARGETS if settings.staging_sql(t, format)]
    if not targets:
        folders = [ROOT / "warehouse" / "staging", *([settings.user_formats] if settings.user_formats else [])]
        known = sorted({p.stem for folder in folders for t in TARGETS for p in (folder / t).glob("*.sql")})
        raise NotConfigured(f"no format named {format!r} for source {source}; formats: {', '.join(known)}")
    return targets


def _batches(
    settings: Settings, lake: Lake, source: str, format: str, target: str, only: Iterable[str] | None, replaced: dict[str, str]
) -> list[list[str]]:
    """Files to take in, oldest first, in batches that bound scratch space; those of a window format are one batch, with their neighbours."""
    sizes = landed_sizes(settings, source)
    paths = [p for p in sizes if p not in replaced]
    done = _done(settings, lake, f"core.{target}", source) if paths else {}
    if only is not None:
        wanted = set(only)
        todo = [p for p in paths if p in wanted]
    else:
        todo = [p for p in paths if p not in done or done[p].leaves_to_do(format)]
    if not todo:
        return []
    if reads_window(format_sql(settings, target, format)):
        # What takes the place of a file that was taken in long ago has later neighbours too.
        newest = max(landed_day(p) for p in todo) + timedelta(days=settings.window_days if replaced else 0)
        start = min(landed_day(p) for p in todo) - timedelta(days=settings.window_days)
        given = set(todo)
        # A neighbour that another format has read is left to it.
        ours = {p for p in paths if p not in done or done[p].format == format}
        return [[p for p in paths if p in given or (p in ours and start <= landed_day(p) <= newest)]]
    batches: list[list[str]] = [[]]
    held = 0
    for path in todo:
        if batches[-1] and (len(batches[-1]) == BATCH_FILES or held + sizes[path] > BATCH_BYTES):
            batches.append([])
            held = 0
        batches[-1].append(path)
        held += sizes[path]
    return batches


class _Done(NamedTuple):
    """What the ledger says of a file: whether for the table that is asked for, which format read it, whether it kept nothing
    and refused all that it found for a table."""

    is_of_table: bool
    format: str
    is_refused: bool

    def leaves_to_do(self, format: str) -> bool:
        """A file stays with the format that read it, but for one that could read nothing: the settings named a wrong one then."""
        return not self.is_of_table if self.format == format else self.is_refused


def _done(settings: Settings, lake: Lake, table: str, source: str) -> dict[str, _Done]:
    """The files of a source that the ledger has, as it has them for a table if it does, else as it has them for another."""
    if not lake.exists("core.landing_file"):
        return {}
    with connect(settings) as con:
        lake.attach(con, "core.landing_file")
        found = con.execute(
            f"""select landing_file, target_table = $table, source_format,
                sum(kept_count + duplicate_count) over read = 0 and bool_or({REFUSED}) over read
            from core.landing_file where source = $source and target_table in ('core.inference', 'core.feedback')
            window read as (partition by landing_file, source_format)
            qualify row_number() over (partition by landing_file order by target_table = $table desc) = 1""", {"table": table, "source": source})
        return {path: _Done(*said) for path, *said in found.fetchall()}


def _ingest_batch(
    settings: Settings, lake: Lake, source: str, format: str, target: str, batch: list[str], report: Report, replaced: dict[str, str]
) -> IngestReport:
    table, name = f"core.{target}", uuid.uuid4().hex
    scratch = settings.scratch / name
    scratch.mkdir(parents=True)
    try:
        while True:
            # Told by its files, so that the same batch has the same label in every run.
            label = f"{source} {landed_day(batch[0])} {hashlib.sha256(' '.join(batch).encode()).hexdigest()[:12]}"
            buried = tombstones.version(lake)
            report(f"{source}: looking at {len(batch)} files", None)
            lines = counted_lines(settings, source)
            files = [readable(settings, path, scratch, lines.get(path)) for path in batch]
            with connect(settings, STAGING_MACROS, references=True) as con:
                staged = stage(settings, con, source, format, target, files, scratch, report)
                if buried is not None and (renamed := refuse_erased(settings, lake, staged, source, format, scratch)):
                    batch = list(dict.fromkeys(renamed.get(path, path) for path in batch))
                    replaced = {old: renamed.get(new, new) for old, new in replaced.items()}
                    continue
                report(f"{source}: judging", None)
                _judge(con, staged)
                outcome: list[IngestReport] = []

                ours = {old: new for old, new in replaced.items() if new in set(batch)}

                def attempt(seen: Snapshot, staged: Staged = staged, label: str = label, outcome: list = outcome, buried: int | None = buried, ours: dict = ours) -> None:
                    if tombstones.version(lake) != buried:
                        raise _ErasedMeanwhile
                    outcome.append(_publish(settings, lake, seen, staged, source, format, target, scratch, name, label, report, ours))

                try:
                    settle(lake, table, attempt)
                except _ErasedMeanwhile:
                    log.info("%s: something was erased meanwhile, looking again", source)
                    continue
            return outcome[-1]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _ErasedMeanwhile(Exception):
    """There are tombstones that were not there when the batch was looked at."""


def _judge(con: duckdb.DuckDBPyConnection, staged: Staged) -> None:
    """Temp table `bad` (pos, promises, reason): records that break a row promise or could not be read."""
    promised = staged.target
    con.execute(
        f"""create or replace temp table bad as
        select pos, 'readable' as promises, unreadable as reason from candidate where unreadable is not null and not is_context
        union all
        {gate.broken_sql(promised, "(select * from candidate where unreadable is null and not is_context)", ["pos"])}"""
    )


def _publish(
    settings: Settings, lake: Lake, seen: Snapshot, staged: Staged, source: str, format: str, target: str, scratch: Path, name: str, label: str,
    report: Report, replaced: dict[str, str],
) -> IngestReport:
    """Decide against what the table holds now, write what stays, audit it, and commit."""
    con, promised, table = staged.con, staged.target, f"core.{target}"
    report(f"{source}: looking for duplicates", None)
    con.register("_replaced", pa.table({"old": pa.array(replaced, pa.string()), "new": pa.array(replaced.values(), pa.string())}))
    losers = _resolve(con, staged, seen)
    days = [r[0] for r in con.execute(
        f"select distinct {staged.days_sql} from candidate where not is_context and pos not in (select pos from excluded) order by 1").fetchall()]
    folder = scratch / uuid.uuid4().hex
    rows = f"select {', '.join(map(quoted, promised.names))} from candidate where not is_context and pos not in (select pos from excluded)"
    staged_files = write_days(con, rows, staged.days_sql, days, folder / "rows", run=con.execute, report=report, doing=f"{source}: writing rows")
    expected = con.execute("select count(*) from candidate where not is_context and pos not in (select pos from excluded)").fetchone()[0]
    report(f"{source}: auditing", None)
    audits = []
    if staged_files:
        audits.append(gate.audit(settings, promised, [str(p) for p, _ in staged_files], batch=label, expected_rows=expected, con=con))
    steps: list[dict] = []
    if target in CONTENT:
        content = write_content(settings, staged, target, format, folder, report)
        kept = sum(pq.read_metadata(p).num_rows for p, _ in content)
        if kept != expected:
            raise PromiseBroken(
                f"{settings.staging_sql(target, format)}: {expected:,} calls stay, but their content has {kept:,} rows; nothing was committed"
            )
        steps.append(replacement(lake, CONTENT[target], content, write(con, folder / "lost.parquet", "select key, landing_file from lost") if losers else None,
                               {promised.grain[0]: "key", "landing_file": "landing_file"}))
    done, counted = _count(settings, con, lake, seen, staged, source, format, table, folder)
    steps += [replacement(lake, t, [(p, None)] if p else [], done_list, {"landing_file": "landing_file", "target_table": "target_table"})
               for t, p, done_list in done]
    steps += [results(lake, audit, folder) for audit in audits]
    add = [lake.upload(path, table, day) for path, day in staged_files]
    remove, rewritten = _without(con, lake, seen, losers, promised, folder)
    lake.commit(
        seen, add + rewritten, remove, properties=announcement(name, steps)
    )
    follow(lake, table, name, steps)
    counted.days = sorted({*days, *(d for d in losers.values() if d)})
    return counted


def _resolve(con: duckdb.DuckDBPyConnection, staged: Staged, seen: Snapshot) -> dict[str, date | None]:
    """Find the one row of each key that stays. Makes temp tables `excluded` (pos), `held` (pos: rows that the table has
    already, from this very line) and `lost` (key, landing_file: rows of the table that a newer version replaces).

    The winner is the latest version, then the one that says more, then the one whose text sorts last, then the one already
    there: the same whatever order files arrive in. Returns the data files that hold lost rows, with their day.
    """
    promised = staged.target
    key, day = quoted(promised.grain[0]), staged.days_sql
    version = quoted(promised.version) if promised.version else "null"
    body = ", ".join(quoted(n) for n in promised.names if n not in LINEAGE)
    filled = " + ".join(f"({quoted(n)} is not null)::int" for n in promised.names if n not in LINEAGE)
    con.execute("create or replace temp view good as select * from candidate where not is_context and pos not in (select pos from bad)")
    days = [r[0] for r in con.execute(f"select distinct {day} from good").fetchall()]
    entries = seen.of(days)
    # Hashes first: they are small. Keys are compared exactly afterwards.
    con.execute(f"create or replace temp table suspect as select hash({key}) as h from good group by 1 having count(*) > 1")
    con.execute("create or replace temp table present as select null::varchar as file where false")
    if entries:
        held = parquet_list((e.path for e in entries), filename="file")
        con.execute(
            f"create or replace temp table present as select * from {held} where hash({key}) in (select hash({key}) from good) "
            "and landing_file not in (select old from _replaced)")
        con.execute(f"insert into suspect select hash({key}) from present")
    columns = f"{key} as key, {day} as day, {version} as version, {filled} as filled, md5(cast(row({body}) as varchar)) as body, "
    columns += "landing_file, landing_line"
    existing = f"union all by name select {columns}, file, null::bigint as pos from present" if entries else ""
    con.execute(
        f"""create or replace temp table contest as
        select *, row_number() over (
            partition by key, day order by version desc nulls last, filled desc, body desc, (pos is null) desc, landing_file, landing_line, pos) as place
        from (select {columns}, null::varchar as file, pos from good where hash({key}) in (select h from suspect) {existing})"""
    )
    con.execute(
        """create or replace temp table held as
        select min(c.pos) as pos from contest c join contest w on w.key = c.key and w.day = c.day and w.place = 1 and w.pos is null
        where c.pos is not null and c.landing_file = w.landing_file and c.landing_line = w.landing_line group by c.key, c.day"""
    )
    con.execute("create or replace temp table lost as select key, day, landing_file, landing_line, file from contest where pos is null and place > 1")
    if seen.files and con.execute("select count(*) from _replaced").fetchone()[0]:
        con.execute(
            f"""insert into lost select {key}, {day}, landing_file, landing_line, file
            from {parquet_list((e.path for e in seen.files), filename="file")} where landing_file in (select old from _replaced)"""
        )
    con.execute(
        """create or replace temp table excluded as
        select pos from bad union all select pos from contest where pos is not null and place > 1"""
    )
    return dict(con.execute("select distinct file, day from lost").fetchall())


def _without(
    con: duckdb.DuckDBPyConnection, lake: Lake, seen: Snapshot, losers: dict[str, date | None], promised, folder: Path
) -> tuple[list[FileEntry], list[str]]:
    """Data files that hold lost rows, and their rewritten selves without them."""
    remove, added = [], []
    for n, entry in enumerate(e for e in seen.files if e.path.removeprefix("file://") in losers):
        path = folder / f"kept-{n}.parquet"
        con.execute(
            f"""copy (select {', '.join(map(quoted, promised.names))} from {parquet_list([entry.path])} t
            where not exists (select 1 from lost l where l.key = t.{quoted(promised.grain[0])} and l.landing_file = t.landing_file
                and l.landing_line = t.landing_line)) to {literal(str(path))} (format parquet, compression zstd)"""
        )
        remove.append(entry)
        if pq.read_metadata(path).num_rows:
            added.append(lake.upload(path, promised.table, entry.partition))
    return remove, added


def _count(
    settings: Settings, con: duckdb.DuckDBPyConnection, lake: Lake, seen: Snapshot, staged: Staged, source: str, format: str, table: str, folder: Path
) -> tuple[list[tuple[str, Path | None, Path]], IngestReport]:
    """Write the ledger's and the quarantine's rows of the batch, and sum them up.

    A file taken in again keeps what the ledger says about rows that have gone since: they were kept then, and the file whose
    newer version replaced them counts them as superseded.
    """
    promised = staged.target
    con.execute("create or replace temp table _bad_line (landing_file varchar, landing_line bigint, reason varchar)")
    for file in staged.files:
        if file.bad:
            con.register("_lines", pa.table({"line": [n for n, _ in file.bad], "reason": [r for _, r in file.bad]}))
            con.execute("insert into _bad_line select ?, line, reason from _lines", [file.landing_file])
            con.unregister("_lines")
    key = quoted(promised.grain[0])
    quarantine = write(
        con, folder / "quarantine.parquet",
        f"""select {literal(table)} as target_table, {literal(source)} as source, {literal(format)} as source_format,
            landed_on(landing_file) as landed_day, landing_file, landing_line,
            cast(row_number() over (partition by landing_file, landing_line order by pos) as bigint) as landing_item,
            left(row_key, 512) as row_key, promises, reason
        from (
            select landing_file, landing_line, pos, cast({key} as varchar) as row_key, promises, reason from candidate join bad using (pos)
            union all
            select landing_file, landing_line, 0, null, 'readable', reason from _bad_line)""",
    )
    con.register("_file_facts", pa.table({
        "landing_file": [f.landing_file for f in staged.files],
        "byte_count": pa.array([f.byte_count for f in staged.files], pa.int64()),
        "line_count": pa.array([f.line_count for f in staged.files], pa.int64()),
    }))
    lake.attach(con, "core.landing_file")
    con.execute(
        f"""create or replace temp table _before as
        select coalesce(new, landing_file) as landing_file, sum(kept_count - coalesce(expired_count, 0)) as kept_count, sum(superseded_count) as superseded_count,
            sum(reported_cost_usd) as reported_cost_usd
        from core.landing_file left join _replaced on old = landing_file
        where target_table = {literal(table)} and coalesce(new, landing_file) in (select landing_file from _file_facts) group by 1"""
    )
    cost = "reported_cost_usd" if "reported_cost_usd" in promised.names else "null"
    con.execute("create or replace temp table _there as select null::varchar as landing_file, 0 as n, 0 as cost where false")
    if seen.files and con.execute("select count(*) from _before").fetchone()[0]:
        con.execute(
            f"""create or replace temp table _there as select coalesce(new, landing_file) as landing_file, count(*) as n, sum({cost}) as cost
            from {parquet_list(e.path for e in seen.files)} left join _replaced on old = landing_file
            where coalesce(new, landing_file) in (select landing_file from _before) group by 1"""
        )
    ledger = write(
        con, folder / "ledger.parquet",
        f"""select {", ".join(contract("core.landing_file").typed())} from (with record as (
            select landing_file, count(*) as records, count(*) filter (is_context) as context,
                count(*) filter (pos in (select pos from bad)) as bad,
                count(*) filter (pos in (select pos from excluded) and pos not in (select pos from bad) and pos not in (select pos from held)) as duplicate,
                sum({cost}) filter (not is_context and (pos not in (select pos from excluded) or pos in (select pos from held))) as cost
            from candidate group by 1
        ), bad_line as (select landing_file, count(*) as lines from _bad_line group by 1
        ), superseded as (
            -- Rows of files outside this batch that lost: told once, beside the first file of the batch.
            select count(*) as n from lost where landing_file not in (select landing_file from _file_facts union all select old from _replaced)
        ), gone as (
            select landing_file, kept_count - coalesce(n, 0) as gone, superseded_count as superseded_before,
                reported_cost_usd - coalesce(cost, 0) as gone_cost
            from _before left join _there using (landing_file)
        )
        select f.landing_file, {literal(table)} as target_table, {literal(source)} as source, {literal(format)} as source_format,
            cast(regexp_extract(f.landing_file, '/day=([0-9-]+)/', 1) as date) as landed_day,
            f.byte_count, f.line_count,
            coalesce(records, 0) + coalesce(lines, 0) as record_count, coalesce(context, 0) as context_count,
            coalesce(records, 0) - coalesce(context, 0) - coalesce(bad, 0) - coalesce(duplicate, 0) + kept_before as kept_count,
            coalesce(duplicate, 0) - kept_before as duplicate_count,
            case when f.landing_file = (select min(landing_file) from _file_facts) then (select n from superseded) else 0 end
                + coalesce(superseded_before, 0) - (coalesce(gone, 0) - kept_before) as superseded_count,
            coalesce(bad, 0) + coalesce(lines, 0) as quarantined_count, null as expired_count,
            cast(coalesce(cost, 0) + case when kept_before > 0 then gone_cost else 0 end as decimal(38, 12)) as reported_cost_usd
        from (
            select *, least(coalesce(gone, 0), coalesce(duplicate, 0)) as kept_before
            from _file_facts left join record using (landing_file) left join bad_line using (landing_file) left join gone using (landing_file)) f)""",
    )
    # A format that could read nothing of these files may have had more targets than this one.
    others = ", ".join(literal(f"core.{t}") for t in TARGETS if not settings.staging_sql(t, format)) or "null"
    files = write(
        con, folder / "files.parquet",
        f"""select landing_file, {literal(table)} as target_table from (select landing_file from _file_facts union all select old from _replaced)
        union select landing_file, target_table from core.landing_file
        where landing_file in (select landing_file from _file_facts) and target_table in ({others}) and source_format <> {literal(format)}
            and kept_count + duplicate_count = 0""",
    )
    total = con.execute(
        f"""select count(*), sum(record_count), sum(kept_count), sum(duplicate_count), sum(quarantined_count), sum(context_count)
        from read_parquet({literal(str(ledger))})"""
    ).fetchone()
    reasons = dict(con.execute(
        f"select promise, count(*) from (select unnest(string_split(promises, ',')) as promise from read_parquet({literal(str(quarantine))})) group by 1"
    ).fetchall())
    counted = IngestReport(table, source, *(int(n or 0) for n in total), reasons=reasons)
    return [
        ("core.quarantine", quarantine if counted.quarantined else None, files),
        ("core.landing_file", ledger, files),
    ], counted
