"""How fast are calls taken in, and in how much memory? Against DuckDB's bare read-and-write of the same columns.

    python tests/benchmarks/ingest_speed.py --calls 1000000 [--dlt PYTHON] [--keep FOLDER]

Makes LiteLLM payloads with messages (simulated, about 2 kB each), then runs in turn, each as a process of its own, imports
included: DuckDB's `copy (select * from read_json(…, columns = …)) to parquet`, and `flywheel ingest` (land, stage, gate,
commit). With --dlt, an interpreter that has dlt, dlt into DuckDB with its Parquet loader on the same file. Prints seconds,
calls a second, peak memory, processor seconds and the ratios: of wall time, and of processor time, which other work on the machine
changes less. The ratio is what to compare between machines.

The file is written as it is drawn, and landing is a copy of it, never a link: a log that is added to afterwards must not change what has
landed. So the disk must hold about 7 kB a call (10 million: 70 GB at the most, while the content is written); it is asked first. With --keep,
a file that is there already is taken as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

DISK_BYTES = 7_000
"""Of a call: itself, its copy in landing, and what is staged of it."""

FLOOR = """
import sys, duckdb
con = duckdb.connect()
con.execute("set enable_progress_bar = false; set memory_limit = '1GB'; set temp_directory = '" + sys.argv[2] + ".spill'")
con.execute("copy (select * from read_json('" + sys.argv[1] + "', format = 'newline_delimited', columns = {" + sys.argv[3] + "})) to '"
    + sys.argv[2] + "' (format parquet)")
"""
DLT = """
import sys, json, dlt
def rows():
    with open(sys.argv[1]) as file:
        for line in file:
            yield json.loads(line)
pipeline = dlt.pipeline("bench", destination=dlt.destinations.duckdb(sys.argv[2]), dataset_name="raw", pipelines_dir=sys.argv[2] + ".dlt")
print(pipeline.run(dlt.resource(rows, name="calls", max_table_nesting=0), loader_file_format="parquet"))
"""


@dataclass(frozen=True)
class Run:
    """What a process took: wall and processor seconds, peak resident memory in GB."""

    seconds: float
    cpu_seconds: float
    memory: float


def measured(name: str, command: list[str], env: dict[str, str] | None = None) -> Run:
    """Run a command to its end."""
    started = time.monotonic()
    pid = os.posix_spawn(command[0], command, {**os.environ, **(env or {})})
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - started
    if status:
        sys.exit(f"{name} failed")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--runs", type=int, default=1)
    options.add_argument("--dlt", help="Python interpreter that has dlt[duckdb]")
    options.add_argument("--keep", type=Path, help="folder for the file and the warehouse; default: a temporary one, removed")
    given = options.parse_args()
    from pipelines.simulate import litellm_benchmark

    folder = given.keep or Path(tempfile.mkdtemp(prefix="ingest-speed-"))
    folder.mkdir(parents=True, exist_ok=True)
    logs = folder / f"calls-{given.calls}.jsonl"
    wanted, free = DISK_BYTES * given.calls - (logs.stat().st_size if logs.is_file() else 0), shutil.disk_usage(folder).free
    if free < wanted:
        sys.exit(f"{folder} has {free / 1e9:.0f} GB free, and {given.calls:,} calls may take {wanted / 1e9:.0f} GB; --keep names another folder")
    try:
        if not logs.is_file():
            started = time.monotonic()
            litellm_benchmark(logs, given.calls)
            print(f"made {given.calls:,} calls, {logs.stat().st_size / 1e9:.2f} GB, in {time.monotonic() - started:.0f} s")
        sql = (ROOT / "warehouse/staging/inference/litellm.sql").read_text()
        columns = re.search(r"columns\s*=\s*\{(.*?)\}", sql, re.DOTALL)[1]
        print(f"{'':28}{'seconds':>9}{'calls/s':>11}{'peak GB':>9}{'ratio':>7}{'cpu s':>8}{'ratio':>7}")
        for _ in range(given.runs):
            floor = measured("floor", [sys.executable, "-c", FLOOR, str(logs), str(folder / "floor.parquet"), columns])
            show("DuckDB, bare copy", given.calls, floor, floor)
            (folder / "floor.parquet").unlink()
            home = folder / "home"
            shutil.rmtree(home, ignore_errors=True)
            ours = measured(
                "ingest", [sys.executable, "-m", "pipelines.cli", "ingest", str(logs), "--format", "litellm"],
                {"FLYWHEEL_HOME": str(home), "PYTHONPATH": str(ROOT)},
            )
            show("flywheel ingest", given.calls, ours, floor)
            account(home, given.calls)
        if given.dlt:
            shutil.rmtree(folder / "home")
            took = measured("dlt", [given.dlt, "-c", DLT, str(logs), str(folder / "dlt.duckdb")])
            show("dlt, Parquet loader", given.calls, took, floor)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


def show(name: str, calls: int, took: Run, floor: Run) -> None:
    print(
        f"{name:28}{took.seconds:9.1f}{calls / took.seconds:11,.0f}{took.memory:9.2f}{took.seconds / floor.seconds:7.2f}"
        f"{took.cpu_seconds:8.1f}{took.cpu_seconds / floor.cpu_seconds:7.2f}",
        flush=True,
    )


def account(home: Path, calls: int) -> None:
    """Every line must be accounted for."""
    import duckdb

    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as con:
        lines, kept, duplicate, quarantined = con.execute(
            "select sum(line_count), sum(kept_count), sum(duplicate_count), sum(quarantined_count) from core.landing_file"
        ).fetchone()
        rows, content = con.execute("select (select count(*) from core.inference), (select count(*) from core.inference_content)").fetchone()
    found = {"lines": lines, "kept": kept, "duplicate": duplicate, "quarantined": quarantined, "rows": rows, "content": content}
    print(f"    {json.dumps({k: int(v) for k, v in found.items()})}")
    if lines != calls or kept + duplicate + quarantined != lines or rows != kept or content != kept:
        sys.exit("lines are missing")


if __name__ == "__main__":
    main()
