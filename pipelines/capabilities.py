"""Leaderboards: land a file of ratings and write what the leaderboard says under the canonical names of models."""

from __future__ import annotations

import logging
import shutil
import uuid
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import gate
from pipelines.contracts import contract, literal
from pipelines.engine import STAGING_MACROS, connect, write
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.follow import announcement, follow, recover, replacement, results, settle
from pipelines.ingest import IngestReport
from pipelines.lake import Lake, Snapshot, storage
from pipelines.land import land, landed_day, landed_paths
from pipelines.readable import unpacked
from pipelines.settings import Settings
from pipelines.stage import Report, silent

log = logging.getLogger(__name__)

TABLE = "core.capability"


@storage("capabilities")
def ingest_capabilities(settings: Settings, source: str, url: str, format: str, day: date, report: Report = silent) -> IngestReport:
    """Bring in the ratings of a leaderboard: land what is at `url` and write the source's part of core.capability anew.

    A function of all its landed files, so order and repetition do not matter. Raises `NotConfigured` for an unknown format or
    an empty place, `StopTheLine` when a file is not what its format says, `PromiseBroken` when a `stop` promise does not hold.
    """
    sql = settings.staging_sql("capability", format)
    if sql is None:
        raise NotConfigured(f"no capability format named {format!r}; add warehouse/staging/capability/{format}.sql or one in your own folder")
    report(f"{source}: landing", None)
    if not land(settings, source, url, day):
        raise NotConfigured(f"{source}: there is nothing at {url}")
    lake = Lake(settings)
    recover(lake, TABLE)
    counted = IngestReport(TABLE, source)

    def attempt(seen: Snapshot) -> None:
        files = landed_paths(settings, source)
        with connect(settings) as con:
            lake.attach(con, "core.landing_file")
            done = {r[0] for r in con.execute(f"select landing_file from core.landing_file where target_table = '{TABLE}' and source = ?", [source]).fetchall()}
        counted.files = len(set(files) - done)
        if counted.files:
            counted.rows_in = counted.kept = _write(settings, lake, seen, source, format, sql.read_text().strip().rstrip(";"), files, report)

    settle(lake, TABLE, attempt)
    lake.publish_views()
    log.info("%s", counted)
    return counted


def _write(settings: Settings, lake: Lake, seen: Snapshot, source: str, format: str, sql: str, files: list[str], report: Report) -> int:
    promised, name = contract(TABLE), uuid.uuid4().hex
    scratch = settings.scratch / name
    scratch.mkdir(parents=True)
    try:
        local = [unpacked(settings, path, scratch) for path in files]
        with connect(settings, STAGING_MACROS, references=True) as con:
            report(f"{source}: reading {len(files)} files", None)
            con.register("_file", pa.table({
                "local": [str(p) for p in local], "landing_file": files, "landed_day": [landed_day(p) for p in files],
                "byte_count": pa.array([p.stat().st_size for p in local], pa.int64()),
            }))
            con.execute("create schema if not exists staging")
            con.execute(f"create table staging.capability_file as select *, {literal(source)} as source from _file")
            try:
                con.execute(f"create table staging.capability as {sql}", {"files": [str(p) for p in local]})
            except Exception as error:
                raise StopTheLine(f"{source}: the files do not read as {format} ({settings.staging_sql('capability', format)}): {str(error)[:500]}") from error
            path = write(con, scratch / "ratings.parquet", promised.typed_from(promised.select))
            rows = pq.read_metadata(path).num_rows
            if rows == 0:
                raise StopTheLine(f"{source}: {len(files)} files hold no rating at all as {format}; is it another leaderboard's format?")
            audit = gate.audit(settings, promised, [str(path)], batch=f"{source} {landed_day(max(files, key=landed_day))}", expected_rows=rows, con=con)
            # A rating that a later file says again is a duplicate of the earlier file.
            ledger = write(con, scratch / "ledger.parquet", f"""
                select {", ".join(contract("core.landing_file").typed())} from (
                    select f.landing_file, '{TABLE}' as target_table, f.source, {literal(format)} as source_format, f.landed_day, f.byte_count,
                        coalesce(s.record_count, 0) as line_count, coalesce(s.record_count, 0) as record_count, 0 as context_count,
                        coalesce(k.kept_count, 0) as kept_count, coalesce(s.record_count, 0) - coalesce(k.kept_count, 0) as duplicate_count,
                        0 as superseded_count, 0 as quarantined_count, null as expired_count, 0 as reported_cost_usd
                    from staging.capability_file f
                    left join (select landing_file as local, count(*) as record_count from staging.capability group by 1) s using (local)
                    left join (select landing_file, count(*) as kept_count from read_parquet({literal(str(path))}) group by 1) k using (landing_file))""")
            drop = write(con, scratch / "files.parquet", f"select landing_file, '{TABLE}' as target_table from _file")
            steps = [results(lake, audit, scratch), replacement(lake, "core.landing_file", [(ledger, None)], drop, {"landing_file": "landing_file", "target_table": "target_table"})]
            add = [lake.upload(path, TABLE, source)]
        lake.commit(seen, add, seen.of([source]), properties=announcement(name, steps))
        follow(lake, TABLE, name, steps)
        return rows
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
