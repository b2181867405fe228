"""What does a little more cost? A run over few new rows must not pay for all that came before.

    python tests/benchmarks/increment.py [--calls 1000000] [--tables marts.call_cost …]

Takes in and builds a million simulated calls of 30 days. Then runs again with nothing new, with 0.1, 1 and 5 per cent more on new days, and
with 1 per cent that come late for an old day, all in one process. Prints wall and processor seconds of each, and what they come to: a fixed
part, which a run costs whatever it brings, and a part that grows with the calls (least squares over the processor seconds of the runs on new
days). What is learnt (raters, topics of confusion, the rewards of the routing log) looks at the last weeks anew; --tables builds only those
named. Imports come on top, once a process; Airflow's tasks are forked from one that has done them.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from pipelines import gate  # noqa: E402
from pipelines.build import build_table, build_tables, mart_order, routine  # noqa: E402
from pipelines.contracts import contract  # noqa: E402
from pipelines.ingest import ingest_source  # noqa: E402
from pipelines.prices import ingest_feed  # noqa: E402
from pipelines.settings import Settings, Source  # noqa: E402
from pipelines.simulate import simulate  # noqa: E402

FIRST, DAYS = date(2026, 9, 1), 30
NEW = (0.001, 0.01, 0.05)


def cpu(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def imports() -> tuple[float, float]:
    """Wall and processor seconds of a process that only imports what a run needs."""
    started, before = time.monotonic(), cpu(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import pipelines.build, pipelines.ingest; from pipelines import gate; gate.warm()"], check=True, cwd=ROOT)
    return time.monotonic() - started, cpu(resource.RUSAGE_CHILDREN) - before


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--tables", nargs="*", default=routine(), metavar="TABLE")
    given = options.parse_args()
    calls, tables = given.calls, given.tables
    folder = Path(tempfile.mkdtemp(prefix="increment-"))
    # Name, calls, first day, days. The runs on new days come after each other, each with a day of its own.
    parts = [("all", calls, FIRST, DAYS)]
    parts += [(f"{share:.1%} on a new day", int(calls * share), FIRST + timedelta(DAYS + n), 1) for n, share in enumerate(NEW)]
    parts += [("1% late", calls // 100, FIRST + timedelta(5), 1)]
    try:
        source_of = {name: f"part-{n}" for n, (name, *_) in enumerate(parts)} | {"nothing new": "part-0"}
        for seed, (name, count, first, days) in enumerate(parts):
            simulate(folder / source_of[name], calls=count, days=days, first_day=first, seed=seed + 1, formats=["litellm"], with_content=True)
        sources = {source: Source(url=str(folder / source / "logs" / "litellm"), format="litellm") for source in source_of.values()}
        settings = Settings.load(home=folder / "home", sources=sources)
        ingest_feed(settings, "genai_prices", FIRST - timedelta(1))
        gate.warm()
        taken: dict[str, tuple[int, float]] = {}
        whole = (0.0, 0.0)
        print(f"{'':20}{'calls':>10}{'ingest s':>10}{'build s':>9}{'days':>6}{'seconds':>9}{'of all':>8}{'cpu s':>8}{'of all':>8}")
        for name in ("all", "nothing new", *(name for name, *_ in parts[1:])):
            started, before = time.monotonic(), cpu()
            reports = ingest_source(settings, source_of[name], FIRST + timedelta(DAYS + 5))
            kept = sum(report.kept for report in reports if report.table == "core.inference")
            ingested = time.monotonic() - started
            built = build_tables(settings, tables)
            took = (time.monotonic() - started, cpu() - before)
            whole = whole if whole[0] else took
            taken[name] = (kept, took[1])
            days = len(next(b for b in built if b.table == "marts.call_cost").days)
            print(f"{name:20}{kept:10,}{ingested:10.1f}{took[0] - ingested:9.1f}{days:6}{took[0]:9.1f}{took[0] / whole[0]:8.1%}{took[1]:8.1f}{took[1] / whole[1]:8.1%}", flush=True)
        for table in (name for name in mart_order() if contract(name).on_demand and set(contract(name).reads) & set(tables)):
            started, before = time.monotonic(), cpu()
            build_table(settings, table)
            print(f"{table}, built only when it is asked for: {time.monotonic() - started:.1f} s, {cpu() - before:.1f} processor seconds", flush=True)
        new = [taken[name] for name, *_ in parts[1 : 1 + len(NEW)]]
        slope, fixed = np.polyfit([kept for kept, _ in new], [seconds for _, seconds in new], 1)
        print(f"a run with something new: {fixed:.1f} processor seconds + {slope * calls / 100:.2f} for each 1 % ({100 * slope * calls / 100 / whole[1]:.1f} % of all)")
        print("imports, once a process: {:.1f} s, {:.1f} processor seconds".format(*imports()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
