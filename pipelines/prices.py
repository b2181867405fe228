"""Price feeds: fetch, land, read each snapshot, and write the price book anew from all of them."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import feeds, gate
from pipelines.contracts import contract, literal, quoted
from pipelines.engine import MART_MACROS, STAGING_MACROS, connect, write
from pipelines.errors import NotConfigured, RetryLater, SourceUnreadable, StopTheLine
from pipelines.follow import Announced, announcement, follow, follow_all, recover, replacement, results, settle
from pipelines.gate import BatchRefused
from pipelines.ingest import IngestReport
from pipelines.lake import Lake, Snapshot, storage
from pipelines.land import PRICES, land, landed_as, landed_day, landed_paths, landing_url
from pipelines.readable import Unreadable, unpacked
from pipelines.settings import Settings
from pipelines.stage import Report, silent

log = logging.getLogger(__name__)

BOOK = ("core.price_suspect", "core.price", "core.model")
"""What is written anew from all quotes."""
WHOLE_DAY = timedelta(days=1)
LATER = timedelta(milliseconds=1)
"""What parts two snapshots of one moment, so that the later one holds."""


@storage("prices")
def ingest_feed(settings: Settings, feed: str, day: date, report: Report = silent) -> IngestReport:
    """Bring in what a feed says as of `day` and write the price book anew.

    A feed given as a folder of dated snapshots brings in all of them, each as known from the time in its name. What an address
    says is known from when it was first received, and is no news of a day before: for a past day there is only what has landed.
    Any other snapshot is known from the end of the UTC day it arrived; of several, the last holds. Twice is the same as once.
    Raises `RetryLater` when an address cannot be reached and there is no earlier file, and `SourceUnreadable`, when all
    the others are in, for a snapshot that is not what its format says.
    """
    if feed not in settings.feeds:
        raise NotConfigured(f"no feed named {feed!r}; feeds set: {', '.join(settings.feeds) or 'none'} (flywheel.toml, [feeds])")
    landed = landed_as(settings, feed)
    if landed - {PRICES} or (feed in settings.sources and not landed):
        raise NotConfigured(
            f"{feed} is a source, whose logs land under that name: give the feed another, [feeds.{feed}_prices] in flywheel.toml or --feed {feed}_prices"
        )
    where = settings.feeds[feed]
    report(f"{feed}: fetching", None)
    origins = {_land(settings, feed, path, taken_on, into): str(path) for path, taken_on, into in _snapshots(settings, feed, where.url, day)}
    return ingest_landed_feed(settings, feed, where.format, report, origins)


def _snapshots(settings: Settings, feed: str, url: str, day: date) -> list[tuple[Path, date, timedelta]]:
    """The snapshots that there are now: file, day, and how far into the day it counts as known."""
    cache = settings.home / "feeds" / feed
    cache.mkdir(parents=True, exist_ok=True)
    today = datetime.now(UTC).date()
    landed = [p for p in landed_paths(settings, feed) if landed_day(p) == day]
    if url == "embedded":
        if landed and day < today:  # by an older version of the package, whose word it was
            return []
        feeds.embedded_genai_prices(path := cache / "genai_prices.json")
        return [(path, day, _place(landed, path))]
    if url.startswith(("https://", "http://")):
        # The daily run of a day starts when the day is over.
        if day < today - timedelta(days=1):
            held = f"{len(landed)} snapshots of that day have landed" if landed else "nothing of that day has landed"
            log.warning("%s: not fetched for %s, as what it says now is not what it said then; %s", feed, day, held)
            return []
        fetched = feeds.fetch(url, cache)
        if day > today:
            return [(fetched.path, day, _place(landed, fetched.path))]
        # What was received on an earlier day has held since midnight.
        at = max(fetched.quoted_at.replace(tzinfo=None), datetime.combine(today, datetime.min.time()))
        return [(fetched.path, at.date(), at - datetime.combine(at.date(), datetime.min.time()))]
    path = Path(url.removeprefix("file://"))
    if path.is_dir():
        found: list[tuple[Path, date, timedelta]] = []
        for name, at in feeds.snapshots(path):
            into = WHOLE_DAY if at.time() == feeds.LAST_SECOND else timedelta(hours=at.hour, minutes=at.minute, seconds=at.second)
            if found and found[-1][1] == at.date() and found[-1][2] >= into:
                into = found[-1][2] + LATER
            found.append((Path(name), at.date(), into))
        return found
    if not path.is_file():
        raise NotConfigured(f"feed {feed}: there is nothing at {url}")
    return [(path, day, _place(landed, path))]


def _place(landed: list[str], path: Path) -> timedelta:
    """How far into its day a file counts as known that says no time: to the end, and behind another that came before it."""
    before = max(((_into_day(p), p) for p in landed if _into_day(p) >= WHOLE_DAY), default=None)
    if before is None:
        return WHOLE_DAY
    return before[0] if _name(before[1]).startswith(_sha256(path)) else before[0] + LATER


def _land(settings: Settings, feed: str, path: Path, day: date, into: timedelta) -> str:
    """Land a snapshot and return its path in landing, where its name tells the time of day: `<sha256>.t063000000.json`."""
    minutes, rest = divmod(into, timedelta(minutes=1))
    mark = "" if into == WHOLE_DAY else f".t{minutes // 60:02}{minutes % 60:02}{rest // LATER:05}"
    return land(settings, feed, str(path), day, each_day=True, mark=mark)[0].path


def _into_day(landing_file: str) -> timedelta:
    match = re.search(r"/[0-9a-f]{64}\.t(\d\d)(\d\d)(\d\d)(\d{3})(\.[a-z0-9]+){0,2}$", landing_file)
    if not match:
        return WHOLE_DAY
    hours, minutes, seconds, milliseconds = map(int, match.groups()[:4])
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)


def _known_from(landing_file: str) -> datetime:
    """When a snapshot counts as known: the time in its name, or the end of its day, as its date says no more, and nothing may be known early."""
    return datetime.combine(landed_day(landing_file), datetime.min.time()) + _into_day(landing_file)


def _name(landing_file: str) -> str:
    return landing_file.rsplit("/", 1)[-1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@storage("prices")
def ingest_landed_feed(settings: Settings, feed: str, format: str, report: Report = silent, origins: Mapping[str, str] = {}) -> IngestReport:
    """Read the landed snapshots of a feed that the ledger does not have yet, then write the price book anew.

    Each is judged by itself. One that cannot be read, or that the gate refuses, goes to core.quarantine and is tried again by itself from
    then on, as its select may have been mended. `SourceUnreadable` names those set aside now, and those of `origins` (where landed files came from).
    """
    sql = settings.staging_sql("price", format)
    if sql is None:
        raise NotConfigured(f"no price format named {format!r}; add warehouse/staging/price/{format}.sql or one in your own folder")
    lake = Lake(settings)
    for table in ("core.price_quote", *BOOK):
        recover(lake, table)
    counted = IngestReport("core.price", feed)
    faults: dict[str, str] = {}
    taken: set[str] = set()

    def take_in(batch: list[str]) -> None:
        outcome = [(0, 0, 0)]

        def attempt(seen: Snapshot) -> None:
            # Asked after the table was read: another process may have read the same snapshots.
            ledger = _ledger(settings, lake, feed)
            if todo := [p for p in batch if not ledger.get(p)]:
                outcome[:] = [_read_snapshots(settings, lake, seen, feed, format, sql.read_text().strip().rstrip(";"), todo, report)]
                taken.update(todo)

        try:
            settle(lake, "core.price_quote", attempt)
        except (SourceUnreadable, BatchRefused) as error:
            if len(batch) > 1:
                for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                    take_in(half)
                return
            if batch[0] in before and batch[0] not in origins:
                return
            faults[batch[0]] = str(error)
            if batch[0] not in before:
                settle(lake, "core.price_quote", lambda seen, error=error: _set_aside(settings, lake, seen, feed, format, batch[0], error))
            outcome = [(1, 1, 1)]
        files, rows, refused = outcome[0]
        counted.files += files
        counted.rows_in += rows
        counted.kept += rows - refused
        counted.quarantined += refused

    before = _ledger(settings, lake, feed)
    paths = landed_paths(settings, feed)
    for batch in ([p for p in paths if p not in before], *([p] for p in paths if before.get(p) == 0)):
        if batch:
            take_in(batch)
    report("price book", None)
    suspects = write_book(settings, lake, taken)
    counted.quarantined += suspects
    counted.kept -= suspects
    lake.publish_views()
    log.info("%s", counted)
    if faults:
        told = "\n".join(f"- {origins.get(path, path)}: {fault}" for path, fault in sorted(faults.items()))
        raise SourceUnreadable(f"{feed}: {len(faults)} snapshots were set aside (core.quarantine), all others are in. They are tried again by themselves.\n{told}")
    return counted


def _ledger(settings: Settings, lake: Lake, feed: str) -> dict[str, int]:
    """Quotes kept of every snapshot that was looked at; none of those set aside."""
    with connect(settings) as con:
        lake.attach(con, "core.landing_file")
        return dict(con.execute("select landing_file, kept_count from core.landing_file where target_table = 'core.price_quote' and source = ?", [feed]).fetchall())


def _read_snapshots(settings: Settings, lake: Lake, seen: Snapshot, feed: str, format: str, sql: str, todo: list[str], report: Report) -> tuple[int, int, int]:
    """Read snapshots and commit their quotes, all or none; returns files, quotes and how many of these were quarantined."""
    table, promised = "core.price_quote", contract("core.price_quote")
    name = uuid.uuid4().hex
    scratch = settings.scratch / name
    scratch.mkdir(parents=True)
    try:
        local = [unpacked(settings, path, scratch) for path in todo]
        with connect(settings, STAGING_MACROS, references=True) as con:
            report(f"{feed}: reading {len(todo)} snapshots", None)
            con.register("_snapshot", pa.table({
                "local": [str(p) for p in local], "landing_file": todo,
                "quoted_at": pa.array([_known_from(p) for p in todo], pa.timestamp("us")),
            }))
            con.execute("create schema if not exists staging")
            _said(settings, con, feed, format, sql, local)
            con.execute("alter table _said add column if not exists listed_day date")  # selects in own folders may be older than it
            con.execute(
                f"create table staging.price as select s.* replace (f.landing_file as landing_file), {literal(feed)} as feed "
                "from _said s join _snapshot f on f.local = s.landing_file"
            )
            con.execute("create table staging.price_file as select landing_file, quoted_at from _snapshot")
            con.execute(f"create temp table _quote as {promised.typed_from(promised.select)}")
            con.execute(f"create temp table _bad as {gate.broken_sql(promised, '_quote', ['quote_id'])}")
            path = write(con, scratch / "quotes.parquet", "select * from _quote where quote_id not in (select quote_id from _bad)")
            rows = pq.read_metadata(path).num_rows
            [(empty,)] = con.execute(f"select count(*) from _snapshot where landing_file not in (select landing_file from read_parquet({literal(str(path))}))").fetchall()
            if empty:
                raise SourceUnreadable(f"{feed}: {empty} of {len(todo)} snapshots hold no price at all as {format}; is it another feed's format?")
            label = f"{feed} {landed_day(todo[0])} {hashlib.sha256(' '.join(todo).encode()).hexdigest()[:12]}"
            audit = gate.audit(settings, promised, [str(path)], batch=label, expected_rows=rows, con=con)
            ledger = write(con, scratch / "ledger.parquet", f"""
                select {", ".join(contract("core.landing_file").typed())} from (select f.landing_file, 'core.price_quote' as target_table, {literal(feed)} as source, {literal(format)} as source_format,
                    cast(f.quoted_at as date) as landed_day, b.byte_count, cast(1 as bigint) as line_count, count(q.landing_file) as record_count,
                    cast(0 as bigint) as context_count, count(q.landing_file) filter (where d.quote_id is null) as kept_count, cast(0 as bigint) as duplicate_count,
                    cast(0 as bigint) as superseded_count, count(d.quote_id) as quarantined_count, null as expired_count, cast(0 as decimal(38, 12)) as reported_cost_usd
                from _snapshot f join (select unnest($files) as local, unnest($sizes) as byte_count) b using (local)
                left join _quote q using (landing_file) left join _bad d using (quote_id) group by all)""",
                {"files": [str(p) for p in local], "sizes": [p.stat().st_size for p in local]})
            refused = write(con, scratch / "refused.parquet", f"""
                select 'core.price_quote' as target_table, {literal(feed)} as source, {literal(format)} as source_format, cast(q.quoted_at as date) as landed_day,
                    q.landing_file, cast(1 as bigint) as landing_line, row_number() over (partition by q.landing_file order by q.quote_id) as landing_item,
                    concat_ws(' ', q.feed_model, q.token_class) as row_key, d.promises, d.reason
                from _bad d join _quote q using (quote_id)""")
            bad = pq.read_metadata(refused).num_rows
            files = write(con, scratch / "files.parquet", "select landing_file, 'core.price_quote' as target_table from _snapshot")
            key = {"landing_file": "landing_file", "target_table": "target_table"}
            steps = [
                results(lake, audit, scratch),
                replacement(lake, "core.quarantine", [(refused, None)] if bad else [], files, key),
                replacement(lake, "core.landing_file", [(ledger, None)], files, key),
            ]
            add = [lake.upload(path, table, feed)]
        lake.commit(seen, add, properties=announcement(name, steps))
        follow(lake, table, name, steps)
        return len(todo), rows + bad, bad
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _said(settings: Settings, con: duckdb.DuckDBPyConnection, feed: str, format: str, sql: str, local: list[Path]) -> None:
    """Temp table `_said`: what the format's select makes of the files. Raises `SourceUnreadable` where the files are to blame, `StopTheLine` where the select is."""
    try:
        con.execute(f"create temp table _said as {sql}", {"files": [str(p) for p in local]})
    except (duckdb.IOException, duckdb.FatalException):
        raise
    except duckdb.OutOfMemoryException as error:
        raise RetryLater(f"{feed}: memory ran out over {len(local)} snapshots: {error}") from error
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        raise StopTheLine(f"{feed}: the select of {format} does not run ({settings.staging_sql('price', format)}): {str(error)[:500]}") from error
    except Exception as error:
        raise SourceUnreadable(f"{feed}: the snapshots do not read as {format} ({settings.staging_sql('price', format)}): {str(error)[:500]}") from error


def _set_aside(settings: Settings, lake: Lake, seen: Snapshot, feed: str, format: str, landing_file: str, error: SourceUnreadable | BatchRefused) -> None:
    """Put a whole snapshot into quarantine, with the reason but nothing of what it says, and into the ledger as looked at."""
    if isinstance(error, BatchRefused):
        promises, reason = ",".join(r.promise for r in error.audit.broken), " ".join(r.because for r in error.audit.broken)
    elif isinstance(error.__cause__, Unreadable):
        promises, reason = "readable", str(error.__cause__)
    else:
        promises, reason = "readable", f"does not read as {format}" if error.__cause__ else f"no price at all as {format}"
    fs, url = fsspec.core.url_to_fs(landing_url(settings, landing_file))
    name = uuid.uuid4().hex
    scratch = settings.scratch / name
    try:
        with connect(settings) as con:
            said = {
                "file": landing_file, "day": landed_day(landing_file), "feed": feed, "format": format, "promises": promises, "reason": reason, "bytes": fs.size(url),
            }
            told = "'core.price_quote' as target_table, $feed as source, $format as source_format, $day as landed_day, $file as landing_file"
            con.execute(f"""create temp table refused as select {told}, 1 as landing_line, 1 as landing_item, null as row_key, $promises as promises, $reason as reason,
                $bytes as byte_count, 1 as line_count, 1 as record_count, 0 as context_count, 0 as kept_count, 0 as duplicate_count, 0 as superseded_count,
                1 as quarantined_count, null as expired_count, 0 as reported_cost_usd""", said)
            files = write(con, scratch / "files.parquet", "select landing_file, target_table from refused")
            steps = [
                replacement(
                    lake, table, [(write(con, scratch / f"{table}.parquet", contract(table).typed_from("from refused")), None)], files,
                    {"landing_file": "landing_file", "target_table": "target_table"},
                )
                for table in ("core.quarantine", "core.landing_file")
            ]
        lake.commit(seen, [], properties=announcement(name, steps))
        follow(lake, "core.price_quote", name, steps)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_book(settings: Settings, lake: Lake, files: Iterable[str]) -> int:
    """Write core.price, core.model and the quarantined quotes anew from all quotes; returns how many quotes of these landed files are held back.

    A function of core.price_quote alone: the order in which snapshots came does not matter.
    """
    scratch = settings.scratch / uuid.uuid4().hex
    scratch.mkdir(parents=True)
    due: list[Announced] = []
    try:
        with connect(settings, MART_MACROS, references=True) as con:
            for table in BOOK:
                settle(lake, table, lambda seen, table=table: _write_book_table(settings, lake, con, seen, table, scratch / uuid.uuid4().hex, due))
            of_files = "select count(*) from core.price_suspect where list_contains($files, landing_file)"
            return con.execute(of_files, {"files": list(files)}).fetchone()[0]
    finally:
        follow_all(lake, due)
        shutil.rmtree(scratch, ignore_errors=True)


def _write_book_table(settings: Settings, lake: Lake, con: duckdb.DuckDBPyConnection, seen: Snapshot, table: str, scratch: Path, due: list[Announced]) -> None:
    """Commit one table of the book, unless it is of these very quotes; what must follow is added to `due`."""
    promised, partition = contract(table), contract(table).partition
    # Asked for after `seen` was read: another process may have added some and written the table.
    quotes = lake.attach(con, "core.price_quote")
    basis = str(quotes.id if quotes else None)
    if con.execute("select getvariable('suspects_of')").fetchone() != (basis,):
        con.execute(f"create or replace table core.price_suspect as {contract('core.price_suspect').select}")
        con.execute("set variable suspects_of = $basis", {"basis": basis})
    if seen.table.properties.get("flywheel.basis") == basis:
        return
    whole = write(con, scratch / "whole.parquet", promised.typed_from(promised.select))
    audit = gate.audit(settings, promised, [str(whole)], batch="all quotes", con=con)
    staged: list[tuple[Path, str | None]] = [(whole, None)]
    if partition:
        values = [r[0] for r in con.execute(f"select distinct {quoted(partition.column)} from read_parquet({literal(str(whole))})").fetchall()]
        staged = [
            (write(con, scratch / f"part-{n}.parquet", f"select * from read_parquet({literal(str(whole))}) where {quoted(partition.column)} = {literal(value)}"), value)
            for n, value in enumerate(values)
        ]
    name, steps = uuid.uuid4().hex, [results(lake, audit, scratch)]
    if table == "core.price":
        steps.append(_quarantined(lake, con, scratch))
    lake.commit(
        seen, [lake.upload(p, table, v) for p, v in staged], seen.files,
        properties={"flywheel.basis": basis, **announcement(name, steps)},
    )
    due.append(Announced(table, name, steps))


def _quarantined(lake: Lake, con, scratch: Path) -> dict:
    """The step that puts the suspect quotes of now in the place of those of before."""
    rows = write(con, scratch / "suspects.parquet", """
        select 'core.price' as target_table, q.feed as source, q.feed as source_format, cast(q.quoted_at as date) as landed_day,
            q.landing_file, cast(1 as bigint) as landing_line,
            row_number() over (partition by q.landing_file order by s.quote_id) as landing_item,
            q.feed_model || ' ' || q.token_class as row_key, 'price_plausible' as promises, s.reason
        from core.price_suspect s join core.price_quote q using (quote_id)""")
    drop = write(con, scratch / "target.parquet", "select 'core.price' as target_table")
    staged = [(rows, None)] if pq.read_metadata(rows).num_rows else []
    return replacement(lake, "core.quarantine", staged, drop, {"target_table": "target_table"})
