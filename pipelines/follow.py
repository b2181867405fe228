"""What must follow a commit in other tables, so that several tables change as if they were one.

Iceberg commits one table at a time. A commit therefore carries, as a property of its table, the steps that must follow
elsewhere. They are done at once; should the process die in between, whoever comes next does them first. Every step is
recognised when it has been done, so doing it twice does nothing.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.contracts import contract, quoted
from pipelines.engine import connect, parquet_list, write
from pipelines.gate import RESULTS, Audit
from pipelines.lake import FileEntry, Lake, Snapshot

log = logging.getLogger(__name__)

PREFIX = "flywheel.follow."


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


def follow(lake: Lake, table: str, name: str, steps: list[dict]) -> None:
    """Do the steps that a commit of `table` announced, then strike the announcement."""
    for step in steps:
        lake.settle(step["table"], lambda seen, step=step: _do(lake, seen, step))
    for path in {step["drop"] for step in steps if step["drop"]}:
        lake.delete(path)
    lake.settle(table, lambda seen: lake.strike(seen, PREFIX + name))


def recover(lake: Lake, table: str) -> None:
    """Finish what commits of `table` announced and a crash cut off."""
    if not lake.exists(table):
        return
    for key, value in lake.table(table).properties.items():
        if key.startswith(PREFIX):
            log.info("%s: finishing batch %s", table, key.removeprefix(PREFIX))
            follow(lake, table, key.removeprefix(PREFIX), json.loads(value))


def _do(lake: Lake, seen: Snapshot, step: dict) -> None:
    if step["add"] and {e.path for e in seen.files}.issuperset(step["add"]):
        return
    remove: list[FileEntry] = []
    rewritten: list[str] = []
    if step["drop"] and seen.files and lake.readable(step["drop"]):
        columns = ", ".join(map(quoted, contract(step["table"]).names))
        match = " and ".join(f"d.{quoted(theirs)} = t.{quoted(ours)}" for ours, theirs in step["on"].items())
        dropped = f"exists (select 1 from {parquet_list([step['drop']])} d where {match})"
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
                    rewritten.append(lake.upload(path, step["table"], entry.partition))
                else:
                    path.unlink()
    lake.commit(seen, step["add"] + rewritten, remove)

