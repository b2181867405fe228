"""What must follow a commit in other tables, so that several tables change as if they were one.

Iceberg commits one table at a time. A commit therefore carries, as a property of its table, the steps that must follow
elsewhere. They are done at once; should the process die in between, whoever comes next does them first. Every step is
recognised when it has been done, so doing it twice does nothing. A table takes its next commit only when all that the last
one announced is done: writers help each other to finish, and steps of two commits never mix.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
from pyiceberg.table import Table

from pipelines.contracts import contract, quoted
from pipelines.engine import connect, parquet_list, write
from pipelines.gate import RESULTS, Audit, BatchRefused
from pipelines.lake import FileEntry, Lake, Snapshot

log = logging.getLogger(__name__)

PREFIX = "flywheel.follow."


@dataclass(frozen=True)
class Announced:
    """A commit of `table`, by the name of its batch, and the steps that must follow it elsewhere."""

    table: str
    name: str
    steps: list[dict]


def replacement(lake: Lake, table: str, staged: list[tuple[Path, date | str | None]], drop: Path | None, on: dict[str, str]) -> dict:
    """A step: rows of `table` that match a row of the Parquet file `drop` go, and the staged files come.

    `on` maps columns of the table to columns of `drop`.
    """
    lake.table(table)
    return {
        "table": table,
        "add": [lake.upload(path, table, partition) for path, partition in staged],
        # A copy: several steps may share one list.
        "drop": lake.upload(Path(shutil.copy(drop, drop.with_name(f"{uuid.uuid4().hex}.parquet"))), table, "_drop") if drop else None,
        "on": on,
    }


def results(lake: Lake, audit: Audit, folder: Path) -> dict:
    """The step that keeps what an audit found, in the place of what the same batch was found to be before."""
    staged = audit.write(folder / f"{uuid.uuid4().hex}.parquet")
    drop = Path(shutil.copy(staged, folder / f"{uuid.uuid4().hex}.parquet"))
    return replacement(lake, RESULTS, [(staged, None)], drop, {"batch": "batch", "target_table": "target_table"})


def announcement(name: str, steps: list[dict]) -> dict[str, str]:
    """The table property that announces the steps of the batch `name`; commit it with the rows."""
    return {PREFIX + name: json.dumps(steps)}


def settle(lake: Lake, table: str, attempt: Callable[[Snapshot], None]) -> None:
    """`Lake.settle` for commits that announce something: `attempt` is given a snapshot after which nothing is left to do.

    When the gate refuses the batch, what it found is kept all the same, before `BatchRefused` is raised on.
    """

    def finished(seen: Snapshot) -> None:
        while announced(seen.table):
            recover(lake, table)
            seen = lake.snapshot(table)
        attempt(seen)

    try:
        lake.settle(table, finished)
    except BatchRefused as refused:
        folder = lake.settings.scratch / uuid.uuid4().hex
        try:
            step = results(lake, refused.audit, folder)
            lake.settle(RESULTS, lambda seen: _replace(lake, seen, [step]))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def announced(table: Table) -> dict[str, list[dict]]:
    """Steps that commits of a table have announced and that may not be done, by name of the batch."""
    return {key.removeprefix(PREFIX): json.loads(value) for key, value in table.properties.items() if key.startswith(PREFIX)}


def follow(lake: Lake, table: str, name: str, steps: list[dict]) -> None:
    """Do the steps that a commit of `table` announced, then strike the announcement."""
    follow_all(lake, [Announced(table, name, steps)])


def follow_all(lake: Lake, commits: list[Announced]) -> None:
    """Do the steps that several commits announced, with one commit for each table that they change; then strike the announcements."""
    due: dict[str, list[tuple[Announced, dict]]] = {}
    for commit in commits:
        for step in commit.steps:
            due.setdefault(step["table"], []).append((commit, step))
    for target, listed in due.items():
        lake.settle(target, lambda seen, listed=listed: _do(lake, seen, listed))
    # The lists of what to drop stay for maintenance to sweep up: somebody who helps may be reading them.
    for commit in commits:
        lake.settle(commit.table, lambda seen, commit=commit: lake.strike(seen, PREFIX + commit.name))


def recover(lake: Lake, table: str) -> None:
    """Finish what commits of `table` announced and a crash cut off, or another process is at."""
    there = lake.found(table)
    for name, steps in announced(there.table).items() if there else ():
        log.info("%s: finishing batch %s", table, name)
        follow(lake, table, name, steps)


def _do(lake: Lake, seen: Snapshot, listed: list[tuple[Announced, dict]]) -> None:
    there = {e.path for e in seen.files}
    due = [(commit, step) for commit, step in listed if not step["add"] or not there.issuperset(step["add"])]
    # Asked after `seen` was read: if another process had done the step before that and the rows then moved on, say by
    # compaction, the announcement would be gone.
    if steps := [step for commit, step in due if commit.name in announced(lake.table(commit.table))]:
        _replace(lake, seen, steps)


def _replace(lake: Lake, seen: Snapshot, steps: list[dict]) -> None:
    """Do steps of one table in one commit."""
    remove: list[FileEntry] = []
    rewritten: list[str] = []
    dropping = [step for step in steps if step["drop"]]
    if dropping and seen.files:
        columns = ", ".join(map(quoted, contract(steps[0]["table"]).names))
        alike: dict[tuple, list[str]] = {}
        for step in dropping:
            alike.setdefault(tuple(step["on"].items()), []).append(step["drop"])
        dropped = "(" + " or ".join(_matches(on, drops) for on, drops in alike.items()) + ")"
        with connect(lake.settings) as con:
            everything = parquet_list((e.path for e in seen.files), filename="_file")
            hit = {r[0] for r in con.execute(f"select distinct _file from {everything} t where {dropped}").fetchall()}
            for entry in seen.files:
                if entry.path.removeprefix("file://") not in hit:
                    continue
                path = lake.settings.scratch / f"{uuid.uuid4().hex}.parquet"
                write(con, path, f"select {columns} from {parquet_list([entry.path])} t where not {dropped}")
                remove.append(entry)
                if pq.read_metadata(path).num_rows:
                    rewritten.append(lake.upload(path, steps[0]["table"], entry.partition))
                else:
                    path.unlink()
    lake.commit(seen, [*(path for step in steps for path in step["add"]), *rewritten], remove)


def _matches(on: tuple[tuple[str, str], ...], drops: list[str]) -> str:
    match = " and ".join(f"d.{quoted(theirs)} = t.{quoted(ours)}" for ours, theirs in on)
    return f"exists (select 1 from {parquet_list(drops)} d where {match})"
