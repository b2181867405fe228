"""Build: one select a table; the partitions it covers are replaced, whole and at once.

What must be built is derived, not remembered: a day of a mart is stale when the data files it reads, or the prices in force
on it, are others than when it was last built. So a day of new calls costs a day's work, whatever came before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TypeVar

import duckdb
from threadpoolctl import threadpool_limits

from pipelines import gate
from pipelines.contracts import Contract, Partition, contract, quoted, tables
from pipelines.day_by_day import is_worth_it, materialized, write_each_day
from pipelines.engine import MART_MACROS, REFERENCE_VIEWS, borrowed, connect, define_references, parquet_list, write
from pipelines.errors import FlywheelError, NotConfigured, RetryLater, StopTheLine
from pipelines.follow import Announced, announcement, follow_all, recover, results, settle
from pipelines.lake import FileEntry, Lake, Snapshot, storage
from pipelines.settings import ROOT, Settings
from pipelines.stage import Report, silent, write_days

log = logging.getLogger(__name__)

BUILT = "flywheel.built."
"""Table properties `flywheel.built.<day>` hold the fingerprint of what a day was built from, and behind it what was known of prices."""
D = TypeVar("D", bound=date | None)
CHUNK_ROWS = 12_000_000
"""Days are built together up to this many input rows: many small days share the cost of one query."""


@dataclass
class BuildReport:
    """What a build left behind."""

    table: str
    rows: int = 0
    days: list[date] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        span = f", {len(self.days)} days" if self.days else ""
        return f"{self.table}: {self.rows:,} rows{span} in {self.seconds:.1f} s"


def mart_order() -> list[str]:
    """All tables that are built from a select (marts, datasets, exports), each after those it reads."""
    marts = [name for name in tables() if contract(name).is_built]
    graph = {name: [r for r in contract(name).reads if r in marts] for name in marts}
    return list(TopologicalSorter(graph).static_order())


def routine() -> list[str]:
    """Those that are built whenever something is new."""
    return [name for name in mart_order() if not contract(name).on_demand]


def stages() -> dict[str, list[str]]:
    """What is built whenever something is new, by schema and in order: marts first, then the datasets and exports that read them."""
    order = routine()
    return {schema: [name for name in order if name.startswith(f"{schema}.")] for schema in ("marts", "datasets", "exports")}


def build_all(settings: Settings, report: Report = silent) -> list[BuildReport]:
    """Build whatever is stale of what is built whenever something is new."""
    return build_tables(settings, routine(), None, report)


@storage("build")
def build_tables(
    settings: Settings, names: list[str], days: Iterable[date] | None = None, report: Report = silent,
    tell: Callable[[BuildReport], object] = lambda built: None,
) -> list[BuildReport]:
    """Build several tables, each after those it reads, and show them to readers at once. `tell` is told of each that is built.

    Where one fails, those that do not read it are built all the same. Then raises: `RetryLater` where waiting may mend all of it, else
    `StopTheLine`.
    """
    done, failed = [], {}
    with _builder(settings, report) as build:
        for name in names:
            if broken := sorted(failed.keys() & set(contract(name).reads)):
                failed[name] = StopTheLine(f"not built, as {', '.join(broken)} was not")
                continue
            try:
                done.append(build(name, days))
                tell(done[-1])
            except FlywheelError as error:
                log.error("%s: %s", name, error)
                failed[name] = error
    if failed:
        told = "\n".join(f"{name}: {error}" for name, error in failed.items())
        mends = all(isinstance(error, RetryLater) or str(error).startswith("not built") for error in failed.values())
        raise (RetryLater if mends else StopTheLine)(told) from next(iter(failed.values()))
    return done


@storage("build")
def build_table(settings: Settings, table: str, days: Iterable[date] | None = None, report: Report = silent) -> BuildReport:
    """Build a table: the given days, or those that are stale; one without days is built whole when stale.

    Building twice leaves what building once leaves; a day without input rows becomes empty. Raises `StopTheLine` when the
    SQL does not run and `PromiseBroken` when a `stop` promise does not hold: then nothing is replaced.
    """
    with _builder(settings, report) as build:
        return build(table, days)


@contextmanager
def _builder(settings: Settings, report: Report) -> Iterator[Callable[[str, Iterable[date] | None], BuildReport]]:
    """What builds one table after another on one engine; in the end readers are shown all of them at once."""
    lake, due = Lake(settings), []
    try:
        with connect(settings, MART_MACROS) as con:
            yield lambda table, days: _build(lake, con, table, days, report, due)
    finally:
        # What the audits found of all tables is written at once. Should we die before, it is announced, and written by whoever comes next.
        follow_all(lake, due)
        lake.publish_views()


def _build(lake: Lake, con: duckdb.DuckDBPyConnection, table: str, days: Iterable[date] | None, report: Report, due: list[Announced]) -> BuildReport:
    """Build one table; what must follow its commits is added to `due`."""
    promised, started = contract(table), time.monotonic()
    if not promised.is_built:
        raise NotConfigured(f"{table} is not built from SQL: there is no warehouse/{table.replace('.', '/')}.sql; those that are: {', '.join(mart_order())}")
    recover(lake, table)
    lake.forget_other_parts(promised)
    done = BuildReport(table)
    if promised.partition is None:
        done.rows = _build_whole(lake, con, promised, days is not None, due)
    else:
        inputs = _input_files(lake, promised)
        todo = _stale(lake, con, promised, inputs) if days is None else sorted({promised.partition.start(day) for day in days})
        known = _known(lake, con, promised)
        prints = _fingerprints(lake, con, promised, {d: inputs[d] for d in todo if d in inputs}, dict.fromkeys(todo, known))
        sizes = {d: rows for d, (_, rows) in inputs.items()}
        for run in _runs(promised.partition, todo, sizes):
            report(f"{table}: {run[0]} … {run[-1]}", None)
            done.rows += _build_days(lake, con, promised, run, prints, sum(sizes.get(d, 0) for d in run), report, due)
        done.days = todo
    done.seconds = time.monotonic() - started
    log.info("%s", done)
    return done


def stale_days(settings: Settings, table: str) -> list[date]:
    """Days of a mart whose inputs are others than when it was last built."""
    lake, promised = Lake(settings), contract(table)
    with connect(settings) as con:
        return _stale(lake, con, promised, _input_files(lake, promised))


def _stale(lake: Lake, con: duckdb.DuckDBPyConnection, promised: Contract, inputs: dict[date, tuple[list[str], int]]) -> list[date]:
    built = {date.fromisoformat(k.removeprefix(BUILT)): v for k, v in lake.table(promised.table).properties.items() if k.startswith(BUILT)}
    known = {d: mark.partition(" ")[2] for d, mark in built.items()}
    prints = _fingerprints(lake, con, promised, {d: inputs[d] for d in inputs.keys() & built.keys()}, known)
    return sorted(d for d in inputs.keys() | built.keys() if prints.get(d, "nothing") != built.get(d) and d == promised.partition.start(d))


def _fingerprints(
    lake: Lake, con: duckdb.DuckDBPyConnection, promised: Contract, inputs: dict[date, tuple[list[str], int]], known: dict[date, str]
) -> dict[date, str]:
    """By day: a hash of the SQL, the data files and, where the mart reads prices, the prices in force; and what was `known` of prices (see `_known`)."""
    sql = _code(lake.settings, promised)
    prices = _prices_by_day(lake, con, {day: promised.partition.end(day) for day in inputs}, known) if "core.price" in promised.reads else {}
    hashed = {day: hashlib.sha256("\n".join([sql, *sorted(paths), str(prices.get(day))]).encode()).hexdigest()[:16] for day, (paths, _) in inputs.items()}
    return {day: f"{mark} {known[day]}".rstrip() for day, mark in hashed.items()}


def _known(lake: Lake, con: duckdb.DuckDBPyConnection, promised: Contract) -> str:
    """Until when every feed's prices are known now, as JSON; nothing for a table that does not name prices by their ids."""
    if "price_ids" not in promised.names:
        return ""
    with borrowed(con) as own:
        lake.attach(own, "core.price")
        return json.dumps(dict(own.execute("select feed, cast(max(known_from) as varchar) from core.price group by feed order by feed").fetchall()))


def _input_files(lake: Lake, promised: Contract) -> dict[date, tuple[list[str], int]]:
    """By day: the data files that its rows are made of, and how many rows these have."""
    days: dict[date, tuple[list[str], int]] = {}
    for name in promised.reads:
        partition = contract(name).partition
        if partition is None or partition.transform != "day" or (there := lake.found(name)) is None:
            continue
        for entry in there.files:
            for day in _seen_from(promised, entry.partition):
                paths, rows = days.get(day, ([], 0))
                days[day] = ([*paths, entry.path], rows + entry.rows)
    return days


def _seen_from(promised: Contract, day: date) -> list[date]:
    """The days of a table that look at `day` of what it reads; of weeks and months the first."""
    return sorted({promised.partition.start(day + timedelta(days=n)) for n in range(-promised.reach.ahead_days, promised.reach.back_days + 1)})


def _code(settings: Settings, promised: Contract) -> str:
    """A hash of all that says how a table is computed: the select, what prepares it, macros, the reference files and settings it reads."""
    paths = [*promised.code_paths, *(ROOT / "warehouse" / name for name in MART_MACROS)]
    parts = [path.read_bytes() for path in paths]
    if any(b"feed_precedence" in part for part in parts):
        parts.append(json.dumps(settings.feed_precedence).encode())
    named = _references(promised)
    files = [path for name, path in settings.reference_files().items() if name in named]
    if settings.signal_rules and "signal" in named:
        files.append(settings.signal_rules)
    return hashlib.sha256(b"\n".join([*parts, *(path.read_bytes() for path in files)])).hexdigest()


def _references(promised: Contract) -> set[str]:
    """The reference files that a table is computed with."""
    text = "\n".join(path.read_text() for path in promised.code_paths)
    return set(re.findall(r"\breference\.([a-z_]+)", text)).union(*(behind for view, behind in REFERENCE_VIEWS.items() if re.search(rf"\b{view}\b", text)))


def _prices_by_day(lake: Lake, con: duckdb.DuckDBPyConnection, days: dict[date, date], known: dict[date, str]) -> dict[date, str]:
    """By day (week, month; given with the first day after): a hash of every price in force then, as known now and as known then.

    Later news about other days leave it as it is. News give rows of the book another end and so another id, but leave the row that they
    close, which is what a day names that was built before. So the ids are hashed of what was in force as `known` when the day was built:
    they go only where an earlier snapshot is brought in late, or one is read otherwise.
    """
    if not days or not lake.exists("core.price"):
        return {}
    feeds = [(day, feed, until) for day in days for feed, until in json.loads(known[day] or "{}").items()]
    with borrowed(con) as own:
        lake.attach(own, "core.price")
        return dict(own.execute(
            """
            with day as (select cast(unnest($days) as date) as day, cast(unnest($ends) as date) as day_end),
            knowledge as (
                select day, day_end, feed, cast(until_at as timestamp) as until_at
                from (select cast(unnest($known_days) as date) as day, unnest($feeds) as feed, unnest($untils) as until_at) as built
                join day using (day)
            ),
            -- Before its first sight a price is carried back, so it counts for all days before.
            first_price as (select min(valid_from) as first_from, price_key from core.price where known_to is null group by price_key),
            first_row as (select min(valid_from) as first_from, price_key from core.price group by price_key)
            select day, cast(bit_xor(part) as varchar)
            from (
                select day, hash(basis, price_key, provider_name, price_id, price_usd_per_unit, greatest(from_at, day), least(to_at, day_end), least(delisted_at, day_end)) as part
                from (
                    select 'now' as basis, price_key, provider_name, null as price_id, price_usd_per_unit, delisted_at,
                        case when valid_from = first_from then timestamp '1970-01-01' else valid_from end as from_at,
                        coalesce(valid_to, timestamp '9999-01-01') as to_at
                    from core.price join first_price using (price_key) where known_to is null
                    union all
                    select 'then', price_key, provider_name, price_id, price_usd_per_unit, null, greatest(valid_from, known_from),
                        least(coalesce(valid_to, timestamp '9999-01-01'), coalesce(known_to, timestamp '9999-01-01'))
                    from core.price
                ) as price
                join day on from_at < day_end and to_at > day
                union all
                select day, part
                from (
                    select feed, hash('built', price_id) as part, known_from, coalesce(known_to, timestamp '9999-01-01') as known_to,
                        case when valid_from = first_from then timestamp '1970-01-01' else valid_from end as from_at, coalesce(valid_to, timestamp '9999-01-01') as to_at
                    from core.price join first_row using (price_key)
                ) as row
                join knowledge on knowledge.feed = row.feed and known_from <= until_at and known_to > until_at and from_at < day_end and to_at > day
            ) as hashed
            group by day""",
            {
                "days": [*days], "ends": [*days.values()], "known_days": [day for day, _, _ in feeds], "feeds": [feed for _, feed, _ in feeds],
                "untils": [until for _, _, until in feeds],
            },
        ).fetchall())


def _runs(partition: Partition, days: list[date], sizes: dict[date, int]) -> Iterable[list[date]]:
    """Neighbouring days (weeks, months) together, up to CHUNK_ROWS input rows."""
    run: list[date] = []
    rows = 0
    for day in days:
        size = sizes.get(day, 0)
        if run and (day != partition.end(run[-1]) or rows + size > CHUNK_ROWS):
            yield run
            run, rows = [], 0
        run.append(day)
        rows += size
    if run:
        yield run


def _attach(lake: Lake, con, promised: Contract, bounds: tuple[date, date] | None) -> None:
    """Make what the select reads readable, and what it needs prepared; of a table with days, from one day until before another."""
    define_references(con, lake.settings, _references(promised))
    seen = None
    if bounds:
        first, after = bounds[0] - timedelta(promised.reach.back_days), bounds[1] + timedelta(promised.reach.ahead_days)
        seen = [first + timedelta(n) for n in range((after - first).days)]
    for name in promised.reads:
        partition = contract(name).partition
        lake.attach(con, name, seen if partition and partition.transform == "day" else None)
    if prepare := promised.prepare():
        # Matrices are small here: where tasks run side by side, threads of algebra that wait for each other cost several times what they bring.
        try:
            with threadpool_limits(1, user_api="blas"):
                prepare(con, *(bounds or ()))
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            # Not what it says: that may quote a text.
            [*_, at] = (f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(ROOT / "pipelines"))
            raise StopTheLine(f"{Path(at.filename).relative_to(ROOT)}, line {at.lineno}, failed with {type(error).__name__}") from error


def _build_days(
    lake: Lake, con: duckdb.DuckDBPyConnection, promised: Contract, days: list[date], prints: dict[date, str], input_rows: int, report: Report, due: list[Announced]
) -> int:
    scratch = lake.settings.scratch / uuid.uuid4().hex
    scratch.mkdir(parents=True)
    rows = 0

    def attempt(seen: Snapshot) -> None:
        nonlocal rows
        with borrowed(con) as own:
            bounds = (days[0], promised.partition.end(days[-1]))
            _attach(lake, own, promised, bounds)
            sql, bound = promised.select, dict(zip(("from_day", "to_day"), bounds, strict=True))
            column = promised.partition.column
            if promised.day_by_day and is_worth_it(input_rows, len(days)):
                staged = write_each_day(
                    own, sql, promised.casts(), days, scratch / uuid.uuid4().hex,
                    run=lambda day, q, bounds: _run(day, promised, q, bounds), report=report, doing=f"building {promised.table}",
                )
            else:
                if promised.day_by_day:
                    sql = materialized(own, sql, days, run=lambda con, q, bounds: _run(con, promised, q, bounds))
                staged = write_days(
                    own, promised.typed_from(sql), f"cast({column} as date)", days, scratch / uuid.uuid4().hex,
                    run=lambda q: _run(own, promised, q, bound), report=report, doing=f"building {promised.table}",
                )
            same = _as_before(own, promised, staged, {d: seen.of([d]) for d in days})
        name, paths = uuid.uuid4().hex, [str(p) for p, _ in staged]
        audit = gate.audit(lake.settings, promised, paths, batch=f"{days[0]} to {days[-1]}", con=con) if paths else None
        steps = [results(lake, audit, scratch)] if audit else []
        add = [lake.upload(p, promised.table, d) for p, d in staged if d not in same]
        marks = {f"{BUILT}{d}": prints.get(d, "nothing") for d in days}
        lake.commit(seen, add, seen.of(set(days) - same), properties={**marks, **announcement(name, steps)})
        due.append(Announced(promised.table, name, steps))
        rows = audit.rows if audit else 0

    try:
        settle(lake, promised.table, attempt)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return rows


def _build_whole(lake: Lake, con: duckdb.DuckDBPyConnection, promised: Contract, force: bool, due: list[Announced]) -> int:
    basis = hashlib.sha256("\n".join(
        [_code(lake.settings, promised), *(f"{n} {[e.path for e in there.files] if (there := lake.found(n)) else None}" for n in promised.reads)]).encode()).hexdigest()[:16]
    scratch = lake.settings.scratch / uuid.uuid4().hex
    scratch.mkdir(parents=True)
    rows = 0

    def attempt(seen: Snapshot) -> None:
        nonlocal rows
        if seen.table.properties.get("flywheel.basis") == basis and not force:
            rows = sum(e.rows for e in seen.files)
            return
        with borrowed(con) as own:
            _attach(lake, own, promised, None)
            path = scratch / f"{uuid.uuid4().hex}.parquet"
            with _running(promised):
                write(own, path, promised.typed_from(promised.select))
            same = _as_before(own, promised, [(path, None)], {None: seen.files})
        audit = gate.audit(lake.settings, promised, [str(path)], batch="whole", con=con)
        name, steps = uuid.uuid4().hex, [results(lake, audit, scratch)]
        add = [] if same else [lake.upload(path, promised.table)]
        lake.commit(seen, add, [] if same else seen.files, properties={"flywheel.basis": basis, **announcement(name, steps)})
        due.append(Announced(promised.table, name, steps))
        rows = audit.rows

    try:
        settle(lake, promised.table, attempt)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return rows


def _as_before(con, promised: Contract, staged: list[tuple[Path, D]], there: dict[D, list[FileEntry]]) -> set[D]:
    """The days (or None, of a table without) whose staged rows are those that are there, in whatever order.

    Their files stay: what reads them has nothing new to read, so that a change goes no further than it matters.
    """
    day_of = {str(path): day for path, day in staged if there[day]} | {entry.path: day for day, entries in there.items() for entry in entries}
    found = []
    for paths in ([str(path) for path, day in staged if there[day]], [entry.path for entries in there.values() for entry in entries]):
        if not paths:
            return set()
        rows = f"select file, count(*), sum(hash({', '.join(map(quoted, promised.names))})) from {parquet_list(paths, filename='file')} group by file"
        try:
            counted = con.execute(rows).fetchall()
        except duckdb.BinderException:  # what is there lacks a column
            return set()
        local, total = {path.removeprefix("file://"): path for path in paths}, defaultdict(lambda: (0, 0))
        for file, count, sum_ in counted:
            day = day_of[local[file]]
            total[day] = (total[day][0] + count, total[day][1] + sum_)
        found.append(total)
    return {day for day, rows in found[0].items() if found[1].get(day) == rows}


def _run(con, promised: Contract, query: str, bound: dict[str, object]) -> None:
    with _running(promised):
        con.execute(query, {k: v for k, v in bound.items() if f"${k}" in query})


@contextmanager
def _running(promised: Contract) -> Iterator[None]:
    """A select that cannot run as it is written, or on such values, is for a person to mend; a full disk is not."""
    try:
        yield
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.ConversionException, duckdb.OutOfRangeException) as error:
        raise StopTheLine(f"{promised.sql_path.relative_to(ROOT)} does not run: {error}") from error

