"""Retention: what has outlived the days a table may keep it goes, with every byte of it, on schedule.

    [retention]
    "core.inference_content" = 90     # what was said
    "core.feedback" = 365
    "datasets.sft" = 90               # versions with older examples are withdrawn, and made anew of what is left
    landing = 100                     # raw files, by the day they arrived

Days count by the partition of a table (when a call was made, a signal given), in landing and quarantine by arrival. What arrives
late and is older than its rule is taken in, as numbers may need it, and goes at the next run. The ledger goes on telling of files
that are gone from landing: they are not landed again, and `marts.reconciliation` adds up. What was made of what was said, prompts in
the routing log among it, is built anew without it, and old snapshots of it go.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import fsspec

from pipelines.contracts import contract, literal, tables
from pipelines.engine import connect, parquet_list, write
from pipelines.erasure.removal import drop_rows, expire_all, ledger, rebuild, replace_version, sources, told_in_ledger
from pipelines.errors import NotConfigured
from pipelines.follow import announcement, follow, recover, settle
from pipelines.lake import Lake, Snapshot, storage
from pipelines.land import landed_day, landed_paths
from pipelines.settings import Settings
from pipelines.stage import silent

log = logging.getLogger(__name__)

LANDING, QUARANTINE, SAID = "landing", "core.quarantine", "core.inference_content"
COUNTED = ("core.inference", "core.feedback")
"""Tables whose rows the ledger counts."""


@dataclass
class Retained:
    """What went: rows by table, files of landing, dataset versions."""

    rows: dict[str, int] = field(default_factory=dict)
    landed_files: int = 0
    withdrawn: list[str] = field(default_factory=list)
    deleted_files: int = 0

    def __str__(self) -> str:
        rows = ", ".join(f"{n:,} rows of {t}" for t, n in self.rows.items() if n) or "no rows"
        return f"outlived their retention: {rows}, {self.landed_files:,} landed files, {len(self.withdrawn)} dataset versions; {self.deleted_files:,} files deleted"


def rules(settings: Settings) -> dict[str, int]:
    """Days by table. Raises `NotConfigured` for a table that has no day to go by. What was said never outlives its call."""
    found = dict(settings.retention)
    for name, days in found.items():
        if days < 1:
            raise NotConfigured(f"retention of {name}: at least 1 day")
        if name in (LANDING, QUARANTINE) or (name.startswith("datasets.") and _holds_versions(name)):
            continue
        partition = contract(name).partition
        if partition is None or partition.transform != "day":
            raise NotConfigured(f"retention of {name}: it has no day to go by; tables partitioned by day, datasets, core.quarantine and landing have")
    if "core.inference" in found:
        found[SAID] = min(found["core.inference"], found.get(SAID, found["core.inference"]))
    return found


def _holds_versions(name: str) -> bool:
    return "dataset_version" in contract(name).grain and contract(name).partition is not None


@storage("retention")
def retain(settings: Settings, today: date | None = None) -> Retained:
    """Carry the rules out. Doing it twice is doing it once; killed anywhere, the next run goes on."""
    lake, done, today = Lake(settings), Retained(), today or datetime.now(UTC).date()
    found = rules(settings)
    for name, days in found.items():
        before = today - timedelta(days=days)
        if name == LANDING:
            done.landed_files = _landing(settings, lake, before)
        elif (name == QUARANTINE or contract(name).partition.transform == "day") and lake.exists(name):
            recover(lake, name)
            done.rows[name] = _quarantine(lake, before) if name == QUARANTINE else _days(settings, lake, name, before)
    for name, days in found.items():  # after what they are made of
        if name.startswith("datasets.") and _holds_versions(name) and lake.exists(name):
            done.withdrawn += _versions(settings, lake, name, today - timedelta(days=days))
    made = []
    if SAID in found and lake.exists(SAID):
        rebuild(settings, lake, silent)
        made = [name for name in tables() if contract(name).is_built and any(c.personal == "content" for c in contract(name).columns)]
    for name in (*found, *made):
        if name != LANDING and lake.exists(name) and _has_outlived(lake, name):
            done.deleted_files += expire_all(settings, lake, name)[1]
    if any(done.rows.values()) or done.withdrawn:
        lake.publish_views()
    log.info("%s", done)
    return done


def _has_outlived(lake: Lake, name: str) -> bool:
    """Whether an old snapshot still has what must be gone: derived from the snapshots, so that a crash forgets nothing."""
    table = lake.table(name)
    current = {e.path for e in lake.snapshot(name).files}
    for snapshot in table.snapshots():
        for manifest in snapshot.manifests(table.io):
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
                if entry.data_file.file_path not in current:
                    return True
    return False


def _days(settings: Settings, lake: Lake, name: str, before: date) -> int:
    """Take whole days away, and say in the ledger how many rows of each file went."""
    gone = 0
    scratch = settings.scratch / f"retention-{uuid.uuid4().hex}"

    def attempt(seen: Snapshot) -> None:
        nonlocal gone
        old = [e for e in seen.files if isinstance(e.partition, date) and e.partition < before]
        gone = sum(e.rows for e in old)
        if not old:
            return
        batch, steps = uuid.uuid4().hex, []
        if name in COUNTED:
            with connect(settings) as con:
                by_file = con.sql(f"select landing_file, count(*) as n from {parquet_list(e.path for e in old)} group by 1").to_arrow_table()
            steps = told_in_ledger(lake, name, by_file, scratch)
        lake.commit(seen, [], old, properties=announcement(batch, steps))
        follow(lake, name, batch, steps)

    try:
        settle(lake, name, attempt)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return gone


def _quarantine(lake: Lake, before: date) -> int:
    scratch = lake.settings.scratch / f"retention-{uuid.uuid4().hex}"
    try:
        with connect(lake.settings) as con:
            lake.attach(con, QUARANTINE)
            [(count,)] = con.execute(f"select count(*) from {QUARANTINE} where landed_day < $before", {"before": before}).fetchall()
            drop = write(con, scratch / "drop.parquet", f"select distinct landing_file from {QUARANTINE} where landed_day < cast({literal(str(before))} as date)")
        if count:
            drop_rows(lake, QUARANTINE, drop, {"landing_file": "landing_file"})
        return count
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _landing(settings: Settings, lake: Lake, before: date) -> int:
    """Delete landed logs by the day they arrived. Price lists stay: what they said then is needed for what a call cost then."""
    targets, count = ledger(lake), 0
    fs, root = fsspec.core.url_to_fs(settings.landing)
    for source in sources(settings):
        for path in landed_paths(settings, source):
            if landed_day(path) < before and targets.get(path, set()) & set(COUNTED):
                fs.rm_file(f"{root}/{path}")
                count += 1
    return count


def _versions(settings: Settings, lake: Lake, name: str, before: date) -> list[str]:
    with connect(settings) as con:
        lake.attach(con, name)
        old = [r[0] for r in con.execute(f"select dataset_version from {name} group by 1 having min(started_at) < $before order by 1", {"before": before}).fetchall()]
    done = []
    for version in old:
        clean, _ = replace_version(settings, lake, version, datetime.now(UTC).replace(tzinfo=None), "retention")
        if clean == version:
            log.warning("%s stays: made anew it is the same, as core.inference_content still has the calls; its retention is longer", version)
        else:
            done.append(version)
    return done
