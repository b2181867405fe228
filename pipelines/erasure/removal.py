"""What erasure and retention do alike: rows, versions and snapshots go, the ledger is told, and what was made of them is made anew."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pyarrow as pa

from pipelines.contracts import contract, literal, quoted
from pipelines.engine import connect, write
from pipelines.errors import FlywheelError
from pipelines.follow import announcement, follow, replacement, settle
from pipelines.lake import Lake
from pipelines.settings import Settings
from pipelines.stage import Report

log = logging.getLogger(__name__)


def sources(settings: Settings) -> list[str]:
    """Names of the sources that have landed something."""
    fs, root = fsspec.core.url_to_fs(settings.landing)
    fs.invalidate_cache()
    return sorted(p.rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(root, detail=False)) if fs.exists(root) else []


def ledger(lake: Lake) -> dict[str, set[str]]:
    """By landed file: the tables it was taken into."""
    if not lake.exists("core.landing_file"):
        return {}
    with connect(lake.settings) as con:
        lake.attach(con, "core.landing_file")
        found: dict[str, set[str]] = {}
        for path, target in con.execute("select landing_file, target_table from core.landing_file").fetchall():
            found.setdefault(path, set()).add(target)
        return found


def told_in_ledger(lake: Lake, table: str, gone: pa.Table, folder: Path) -> list[dict]:
    """The step, if there is one, that adds to the ledger how many rows of each file go from a table: `gone` has landing_file and n."""
    if not gone.num_rows:
        return []
    with connect(lake.settings) as con:
        lake.attach(con, "core.landing_file")
        con.register("_gone", gone)
        columns = ", ".join(f"coalesce(expired_count, 0) + n as {quoted(c)}" if c == "expired_count" else quoted(c) for c in contract("core.landing_file").names)
        ledger = f"select {columns} from core.landing_file join _gone using (landing_file) where target_table = {literal(table)}"
        staged = write(con, folder / f"{uuid.uuid4().hex}.parquet", ledger)
        drop = write(con, folder / f"{uuid.uuid4().hex}.parquet", f"select landing_file, {literal(table)} as target_table from _gone")
    return [replacement(lake, "core.landing_file", [(staged, None)], drop, {"landing_file": "landing_file", "target_table": "target_table"})]


def drop_rows(lake: Lake, table: str, drop: Path, on: dict[str, str], gone: pa.Table | None = None) -> None:
    """Take rows out of a table, and say in the ledger how many of each file went (`gone`, as for `told_in_ledger`), in one announced commit."""
    name = uuid.uuid4().hex
    steps = [replacement(lake, table, [], drop, on), *(told_in_ledger(lake, table, gone, drop.parent) if gone is not None else [])]
    settle(lake, table, lambda seen: lake.commit(seen, [], properties=announcement(name, steps)))
    follow(lake, table, name, steps)


def rebuild(settings: Settings, lake: Lake, report: Report) -> None:
    """Build what has become stale, of the tables that are there."""
    from pipelines.build import build_tables, mart_order

    if names := [n for n in mart_order() if lake.exists(n)]:
        build_tables(settings, names, None, report)


def replace_version(settings: Settings, lake: Lake, version: str, at: datetime, because: str) -> tuple[str | None, str | None]:
    """Make a version's recipe anew, pinned to what is there now, and withdraw the version; returns the clean one, or None and why there is none."""
    from pipelines.finetune.recipe import Recipe
    from pipelines.finetune.versions import build_dataset, version_facts
    from pipelines.finetune.withdrawal import withdraw

    with connect(settings) as con:
        recipe = Recipe.model_validate_json(version_facts(lake, con, version)["recipe_text"])
    clean, why = None, None
    try:
        clean = build_dataset(settings, recipe).dataset_version
    except FlywheelError as error:
        why = f"no clean version could be made ({type(error).__name__})"
        log.warning("%s: %s", version, error)
    if clean != version:
        withdraw(settings, version, at, because, clean)
    return clean, why


def expire_all(settings: Settings, lake: Lake, name: str) -> tuple[int, int]:
    """Expire all snapshots of a table but the current one, and delete what only those had; returns how many snapshots and files.

    What a run under way has written and not committed yet is not touched.
    """
    before = lake.all_files(name)
    if lake.snapshot(name).id is not None:
        # Manifests list the files that the last commit took away, with their smallest and largest values; one commit on, no more.
        settle(lake, name, lambda seen: lake.commit(seen, [], properties={"flywheel.expired": uuid.uuid4().hex}))
    before |= lake.all_files(name)
    snapshots = lake.expire(name, datetime.now(UTC))
    return snapshots, _delete(settings, before, lake.all_files(name))


def _delete(settings: Settings, paths: Iterable[str], known: set[str]) -> int:
    fs, _ = fsspec.core.url_to_fs(settings.warehouse)
    count = 0
    for path in sorted(set(paths) - known):
        with suppress(FileNotFoundError):
            fs.rm_file(path)
            count += 1
    return count
