"""Price feeds: fetch, land, read each snapshot, and write the price book anew from all of them."""

from __future__ import annotations

import hashlib
import logging
import shutil
import uuid
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import feeds, gate
from pipelines.contracts import contract, literal, quoted
from pipelines.engine import connect, write
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.follow import announcement, follow, recover, replacement, results, settle
from pipelines.ingest import IngestReport
from pipelines.lake import Lake, Snapshot, storage
from pipelines.land import land, landed_day, landed_paths
from pipelines.readable import unpacked
from pipelines.settings import ROOT, Settings
from pipelines.stage import Report, silent

log = logging.getLogger(__name__)

BOOK = ("core.price_suspect", "core.price", "core.model")
"""What is written anew from all quotes."""


@storage("prices")
def ingest_feed(settings: Settings, feed: str, day: date, report: Report = silent) -> IngestReport:
    """Bring in what a feed says as of `day` and write the price book anew.

    A feed given as a folder of dated snapshots brings in all of them, each as known from the day in its name. A snapshot is
    known from the end of the UTC day it arrived. Twice is the same as once. Raises `RetryLater` when an address cannot be
    reached and there is no earlier file, `StopTheLine` when a file is not what its format says.
    """
    if feed not in settings.feeds:
        raise NotConfigured(f"no feed named {feed!r}; feeds set: {', '.join(settings.feeds) or 'none'} (flywheel.toml, [feeds])")
    where = settings.feeds[feed]
    report(f"{feed}: fetching", None)
    for path, quoted_at in _snapshots(settings, feed, where.url, day):
        land(settings, feed, str(path), quoted_at.date(), each_day=True)
    return ingest_landed_feed(settings, feed, where.format, report)


def _snapshots(settings: Settings, feed: str, url: str, day: date) -> Iterable[tuple[Path, datetime]]:
    midnight = datetime.combine(day, datetime.min.time())
    cache = settings.home / "feeds" / feed
    cache.mkdir(parents=True, exist_ok=True)
    if url == "embedded":
        feeds.embedded_genai_prices(path := cache / "genai_prices.json")
        return [(path, midnight)]
    if url.startswith(("https://", "http://")):
        return [(feeds.fetch(url, cache).path, midnight)]
    path = Path(url.removeprefix("file://"))
    if path.is_dir():
        return feeds.snapshots(path)
    if not path.is_file():
        raise NotConfigured(f"feed {feed}: there is nothing at {url}")
    return [(path, midnight)]


@storage("prices")
def ingest_landed_feed(settings: Settings, feed: str, format: str, report: Report = silent) -> IngestReport:
    """Read the landed snapshots of a feed that the ledger does not have yet, then write the price book anew."""
    sql = settings.staging_sql("price", format)
    if sql is None:
        raise NotConfigured(f"no price format named {format!r}; add warehouse/staging/price/{format}.sql or one in your own folder")
    lake = Lake(settings)
    for table in ("core.price_quote", *BOOK):
        recover(lake, table)
    counted = IngestReport("core.price", feed)

    def attempt(seen: Snapshot) -> None:
        # Asked after the table was read: another process may have read the same snapshots.
        with connect(settings, only=()) as con:
            lake.attach(con, "core.landing_file")
            done = {r[0] for r in con.execute("select landing_file from core.landing_file where target_table = 'core.price_quote' and source = ?", [feed]).fetchall()}
        todo = [p for p in landed_paths(settings, feed) if p not in done]
        counted.files = len(todo)
        if todo:
            counted.rows_in = counted.kept = _read_snapshots(settings, lake, seen, feed, format, sql.read_text().strip().rstrip(";"), todo, report)

    settle(lake, "core.price_quote", attempt)
    report("price book", None)
    counted.quarantined = write_book(settings, lake, feed)
    counted.kept -= counted.quarantined
    lake.publish_views()
    log.info("%s", counted)
    return counted


def _known_from(landing_file: str) -> datetime:
    """When a snapshot counts as known: the end of its day, as its date says no more, and nothing may be known early."""
    return datetime.combine(landed_day(landing_file) + timedelta(days=1), datetime.min.time())


def _read_snapshots(settings: Settings, lake: Lake, seen: Snapshot, feed: str, format: str, sql: str, todo: list[str], report: Report) -> int:
    table, promised = "core.price_quote", contract("core.price_quote")
    name = uuid.uuid4().hex
    scratch = settings.scratch / name
    scratch.mkdir(parents=True)
    try:
        local = [unpacked(settings, path, scratch) for path in todo]
        with connect(settings) as con:
            report(f"{feed}: reading {len(todo)} snapshots", None)
            con.register("_snapshot", pa.table({
                "local": [str(p) for p in local], "landing_file": todo,
                "quoted_at": pa.array([_known_from(p) for p in todo], pa.timestamp("us")),
            }))
            con.execute("create schema if not exists staging")
            try:
                con.execute(f"create temp table _said as {sql}", {"files": [str(p) for p in local]})
            except Exception as error:
                raise StopTheLine(f"{feed}: the snapshots do not read as {format} ({settings.staging_sql('price', format)}): {str(error)[:500]}") from error
            con.execute("alter table _said add column if not exists listed_day date")  # selects in own folders may be older than it
            con.execute(
                f"create table staging.price as select s.* replace (f.landing_file as landing_file), {literal(feed)} as feed "
                "from _said s join _snapshot f on f.local = s.landing_file"
            )
            con.execute("create table staging.price_file as select landing_file, quoted_at from _snapshot")
            path = write(con, scratch / "quotes.parquet", promised.typed_from(promised.select))
            rows = pq.read_metadata(path).num_rows
            if rows == 0:
                raise StopTheLine(f"{feed}: {len(todo)} snapshots hold no price at all as {format}; is it another feed's format?")
            label = f"{feed} {landed_day(todo[0])} {hashlib.sha256(' '.join(todo).encode()).hexdigest()[:12]}"
            audit = gate.audit(settings, promised, [str(path)], batch=label, expected_rows=rows)
            ledger = write(con, scratch / "ledger.parquet", f"""
                select {", ".join(contract("core.landing_file").typed())} from (select f.landing_file, 'core.price_quote' as target_table, {literal(feed)} as source, {literal(format)} as source_format,
                    cast(f.quoted_at as date) as landed_day, b.byte_count, cast(1 as bigint) as line_count, count(q.landing_file) as record_count,
                    cast(0 as bigint) as context_count, count(q.landing_file) as kept_count, cast(0 as bigint) as duplicate_count,
                    cast(0 as bigint) as superseded_count, cast(0 as bigint) as quarantined_count, null as expired_count, cast(0 as decimal(38, 12)) as reported_cost_usd
                from _snapshot f join (select unnest($files) as local, unnest($sizes) as byte_count) b using (local)
                left join read_parquet({literal(str(path))}) q using (landing_file) group by all)""",
                {"files": [str(p) for p in local], "sizes": [p.stat().st_size for p in local]})
            files = write(con, scratch / "files.parquet", "select landing_file, 'core.price_quote' as target_table from _snapshot")
            steps = [results(lake, audit, scratch), replacement(lake, "core.landing_file", [(ledger, None)], files, {"landing_file": "landing_file", "target_table": "target_table"})]
            add = [lake.upload(path, table, feed)]
        lake.commit(seen, add, properties=announcement(name, steps))
        follow(lake, table, name, steps)
        return rows
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_book(settings: Settings, lake: Lake, feed: str | None = None) -> int:
    """Write core.price, core.model and the quarantined quotes anew from all quotes; returns the suspects (of `feed`).

    A function of core.price_quote alone: the order in which snapshots came does not matter.
    """
    suspects = 0
    for table in BOOK:
        def attempt(seen: Snapshot, table: str = table) -> None:
            nonlocal suspects
            suspects = _write_book_table(settings, lake, seen, table, feed)
        settle(lake, table, attempt)
    return suspects


def _write_book_table(settings: Settings, lake: Lake, seen: Snapshot, table: str, feed: str | None) -> int:
    promised = contract(table)
    scratch = settings.scratch / uuid.uuid4().hex
    scratch.mkdir(parents=True)
    try:
        with connect(settings) as con:
            quotes = lake.attach(con, "core.price_quote")
            basis = str(quotes.id if quotes else None)
            suspect_sql = (ROOT / "warehouse/core/price_suspect.sql").read_text().strip().rstrip(";")
            con.execute(f"create or replace table core.price_suspect as {suspect_sql}")
            suspects = con.execute("select count(*) from core.price_suspect s join core.price_quote q using (quote_id) where $feed is null or q.feed = $feed", {"feed": feed}).fetchone()[0]
            if seen.table.properties.get("flywheel.basis") == basis:
                return suspects
            partition = promised.partition
            whole = write(con, scratch / "whole.parquet", promised.typed_from(promised.select))
            audit = gate.audit(settings, promised, [str(whole)], batch="all quotes")
            staged: list[tuple[Path, str | None]] = [(whole, None)]
            if partition:
                values = [r[0] for r in con.execute(f"select distinct {quoted(partition.column)} from read_parquet({literal(str(whole))})").fetchall()]
                staged = [
                    (write(con, scratch / f"part-{n}.parquet", f"select * from read_parquet({literal(str(whole))}) where {quoted(partition.column)} = {literal(value)}"), value)
                    for n, value in enumerate(values)
                ]
            name = uuid.uuid4().hex
            steps = [results(lake, audit, scratch)]
            if table == "core.price":
                steps.append(_quarantined(lake, con, scratch))
        lake.commit(
            seen, [lake.upload(p, table, v) for p, v in staged], seen.files,
            properties={"flywheel.basis": basis, **announcement(name, steps)},
        )
        follow(lake, table, name, steps)
        return suspects
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
