"""Do writers that come all at once lose or repeat anything?

    python tests/benchmarks/writers.py [--processes 8] [--commits 25] [--rounds 3]

Processes start together on an empty home: first each appends its own rows to one table, commit after commit; then each
ingests files that overlap with all others' (the same calls, older and newer versions of them), builds and tidies up. Exit
code 1 when a row is missing, there twice, of an older version, or when a process fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipelines.build import build_table
from pipelines.contracts import contract
from pipelines.engine import connect, write
from pipelines.ingest import ingest_source
from pipelines.lake import Lake
from pipelines.maintenance import maintain
from pipelines.settings import Settings, Source
from tests.support import lakehouse
from tests.support.lakehouse import DAY, ask, call, hashes, log, processes, unaccounted, warehouse

TABLE = "core.gate_result"


def append(settings: Settings, start, me: int, commits: int) -> None:
    """Append rows of one's own to one table, one commit each."""
    start.wait()
    lake, promised = Lake(settings), contract(TABLE)
    for n in range(commits):
        with connect(settings) as con:
            row = write(
                con, settings.scratch / f"{me}-{n}.parquet",
                f"select {', '.join(promised.typed())} from (select '{me}' as batch, 'core.call' as target_table, '{n}' as promise, 'x' as because, "
                "'stop' as severity, true as held, 0 as broken_count, 1 as checked_rows)",
            )  # fmt: skip
        lake.append(TABLE, [(row, None)])
    lake.publish_views()


def appended(folder: Path, count: int, commits: int) -> tuple[int, int, int]:
    """Rows there, distinct rows there, and processes that failed."""
    settings = warehouse(folder / "home")
    failed = together(count, append, settings, commits)
    rows, distinct = ask(settings, f"select count(*), count(distinct (batch, promise)) from {TABLE}")[0]
    return rows, distinct, failed


def overlapping(folder: Path, count: int, calls: int) -> Path:
    """For every process a folder that shares two thirds of its calls with its neighbours', in versions of which one is the last."""
    for me in range(count):
        mine = [n for n in range(calls) if n % 3 or n % count == me]
        log(folder / f"{me}/a.jsonl", [
            call(f"c{n}", at=f"2026-11-{15 + n % 4:02}T10:00:00Z", seconds=1 + (n * 7 + me) % count, said=f"version {(n * 7 + me) % count}")
            for n in mine
        ])  # fmt: skip
    return folder


def take_in(settings: Settings, start, me: int, logs: Path) -> None:
    """Ingest one's own files and a shared folder's, build one mart, tidy up."""
    settings.sources["app"] = Source(url=str(logs / str(me)), format="litellm")
    start.wait()
    ingest_source(settings, "app", DAY)
    settings.sources["app"] = Source(url=str(logs), format="litellm")
    ingest_source(settings, "app", DAY)
    if me % 4 == 0:
        maintain(settings)
    if me % 4 == 1:
        build_table(settings, "marts.call_cost")


def together(count: int, work, settings: Settings, *args) -> int:
    """Run `work` in processes that start at once; returns how many failed."""
    start = processes.Barrier(count)
    running = [processes.Process(target=work, args=(settings, start, me, *args)) for me in range(count)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    return sum(process.exitcode != 0 for process in running)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--commits", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    faults = 0
    for n in range(given.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder, began = Path(name), time.monotonic()
            rows, distinct, failed = appended(folder, given.processes, given.commits)
            wanted = given.processes * given.commits
            faults += failed + (rows != wanted) + (distinct != wanted)
            print(f"round {n + 1}: {given.processes} processes x {given.commits} appends: {rows} of {wanted} rows, {rows - distinct} twice, "
                  f"{failed} processes failed, {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip

            logs, began = overlapping(folder / "logs", given.processes, 120), time.monotonic()
            settings = warehouse(folder / "taken", logs)
            failed = together(given.processes, take_in, settings, logs)
            alone = warehouse(folder / "alone", logs)
            ingest_source(alone, "app", DAY)
            same = hashes(settings, ["core.inference", "core.inference_content"], lakehouse.LINEAGE) == hashes(
                alone, ["core.inference", "core.inference_content"], lakehouse.LINEAGE
            )
            astray = unaccounted(settings)
            faults += failed + (not same) + len(astray)
            print(f"round {n + 1}: {given.processes} processes ingest overlapping files: {'same tables as one alone' if same else 'OTHER tables'}, "
                  f"{len(astray)} rows astray {astray[:3] or ''}, {failed} processes failed, {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip
    print("ok" if not faults else f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
