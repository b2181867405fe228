"""Keep the tables small to open and cheap to hold: compact, expire, clean up."""

from __future__ import annotations

import logging
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import fsspec
import pyarrow.parquet as pq

from pipelines.contracts import contract, quoted, tables
from pipelines.engine import connect, parquet_list, write
from pipelines.follow import announced, recover
from pipelines.lake import Conflict, FileEntry, Lake, Snapshot, storage
from pipelines.settings import Settings

log = logging.getLogger(__name__)

SMALL_BYTES = 32 * 2**20
"""Data files below this are put together when a partition has several: each costs a reader about a millisecond to open."""
KEEP_SNAPSHOTS = timedelta(days=7)
"""Old snapshots answer "what did we report last week"; longer is what landing is for."""
KEEP_ORPHANS = timedelta(days=1)
"""No run takes a day between writing a file and committing it; a younger stranger may belong to one that is under way."""


@dataclass
class MaintenanceReport:
    """What was tidied."""

    compacted_files: int = 0
    expired_snapshots: int = 0
    removed_files: int = 0
    finished_erasures: int = 0
    retained: str = ""

    def __str__(self) -> str:
        return (
            f"{self.compacted_files} small files put together, {self.expired_snapshots} old snapshots expired, "
            f"{self.removed_files} orphaned files removed"
            + (f"; {self.finished_erasures} erasures finished" if self.finished_erasures else "")
            + (f"; {self.retained}" if self.retained else "")
        )


@storage("maintenance")
def maintain(settings: Settings, keep_snapshots: timedelta = KEEP_SNAPSHOTS, keep_orphans: timedelta = KEEP_ORPHANS) -> MaintenanceReport:
    """Finish erasures, carry out retention, compact, expire and clean up every table. Safe beside running writers; running it twice changes nothing more."""
    from pipelines.erasure.erase import finish
    from pipelines.erasure.retention import retain

    lake, done = Lake(settings), MaintenanceReport()
    done.finished_erasures = len(finish(settings))
    if settings.retention:
        done.retained = str(retain(settings))
    there = [name for name in tables() if lake.exists(name)]
    for name in there:
        recover(lake, name)
    awaited = _awaited(lake)  # once: what is announced later names files too young to be taken for orphans
    for name in there:
        lake.settle(name, lambda seen, name=name: _compact(settings, lake, name, seen, done))
        done.expired_snapshots += lake.expire(name, datetime.now(UTC) - keep_snapshots)
        done.removed_files += _remove_orphans(settings, lake, name, keep_orphans, awaited)
    _remove_scratch(settings, keep_orphans)
    _remove_parts(settings, keep_orphans)
    lake.publish_views()
    log.info("%s", done)
    return done


def _compact(settings: Settings, lake: Lake, name: str, seen: Snapshot, done: MaintenanceReport) -> None:
    by_partition: dict[object, list[FileEntry]] = {}
    for entry in seen.files:
        if entry.data_file.file_size_in_bytes < SMALL_BYTES:
            by_partition.setdefault(entry.partition, []).append(entry)
    remove: list[FileEntry] = []
    add: list[str] = []
    columns = ", ".join(map(quoted, contract(name).names))
    several = {partition: entries for partition, entries in by_partition.items() if len(entries) > 1}
    if not several:
        return
    with connect(settings) as con:
        for partition, entries in several.items():
            path = settings.scratch / f"{uuid.uuid4().hex}.parquet"
            write(con, path, f"select {columns} from {parquet_list(e.path for e in entries)}")
            if pq.read_metadata(path).num_rows != sum(e.rows for e in entries):
                path.unlink()
                raise AssertionError(f"{name}: compaction would change the number of rows")
            remove += entries
            add.append(lake.upload(path, name, partition))
    if any(announced(lake.table(other)) for other in tables() if lake.exists(other)):
        # Whether a step is done is told by its files; while one may still be asked for, they stay.
        raise Conflict("a commit is still being followed up")
    lake.commit(seen, add, remove)
    done.compacted_files += len(remove)


def _awaited(lake: Lake) -> set[str]:
    """Names of the files that announced steps are still to add or to read."""
    return {
        path.rsplit("/", 1)[-1]
        for name in tables() if lake.exists(name)
        for steps in announced(lake.table(name)).values() for step in steps for path in [*step["add"], step["drop"]] if path
    }  # fmt: skip


def _remove_orphans(settings: Settings, lake: Lake, name: str, keep: timedelta, awaited: set[str]) -> int:
    """Delete files that no snapshot knows and no announced step awaits, once they are old enough."""
    known = lake.all_files(name)
    fs, root = fsspec.core.url_to_fs(f"{settings.warehouse}/{name.replace('.', '/')}")
    removed = 0
    for path, info in fs.find(root, detail=True).items():
        if _age_seconds(info) > keep.total_seconds() and path not in known and path.rsplit("/", 1)[-1] not in awaited:
            fs.rm_file(path)
            removed += 1
    return removed


def _age_seconds(info: dict) -> float:
    changed = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or time.time()
    return time.time() - (changed.timestamp() if isinstance(changed, datetime) else float(changed))


def _remove_parts(settings: Settings, keep: timedelta) -> None:
    """Delete half-copied files that a crash left in landing."""
    fs, root = fsspec.core.url_to_fs(settings.landing)
    # No glob: the root may hold characters that mean something in one.
    for path, info in fs.find(root, maxdepth=3, detail=True).items():
        if re.search(r"/day=[^/]*/[^/]+\.part$", path) and _age_seconds(info) > keep.total_seconds():
            fs.rm_file(path)


def _remove_scratch(settings: Settings, keep: timedelta) -> None:
    if not settings.scratch.is_dir():
        return
    for path in settings.scratch.iterdir():
        if time.time() - path.stat().st_mtime > keep.total_seconds():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
