"""What does one more per cent cost? A run over few new rows must not pay for all that came before.

    python tests/benchmarks/increment.py [--calls 1000000]

Takes in and builds a million simulated calls of 30 days, then one per cent more on a new day, then one per cent more that
come late for an old day, in one process, so that imports are not counted. Prints the seconds of each and the calls and days rebuilt.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines import gate  # noqa: E402
from pipelines.build import build_all  # noqa: E402
from pipelines.ingest import ingest_source  # noqa: E402
from pipelines.prices import ingest_feed  # noqa: E402
from pipelines.settings import Settings, Source  # noqa: E402
from pipelines.simulate import simulate  # noqa: E402

FIRST, DAYS = date(2026, 9, 1), 30


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=1_000_000)
    calls = options.parse_args().calls
    folder = Path(tempfile.mkdtemp(prefix="increment-"))
    try:
        parts = (("all", calls, FIRST, DAYS, 1), ("1 % on a new day", calls // 100, FIRST + timedelta(DAYS), 1, 2), ("1 % late", calls // 100, FIRST + timedelta(5), 1, 3))
        for name, count, first, days, seed in parts:
            simulate(folder / name, calls=count, days=days, first_day=first, seed=seed, formats=["litellm"], with_content=True)
        settings = Settings.load(home=folder / "home", sources={name: Source(url=str(folder / name / "logs" / "litellm"), format="litellm") for name, *_ in parts})
        ingest_feed(settings, "genai_prices", FIRST - timedelta(1))
        gate.warm()
        whole = 0.0
        for name, *_ in parts:
            started = time.monotonic()
            [report] = [r for r in ingest_source(settings, name, FIRST + timedelta(DAYS + 5)) if r.table == "core.inference"]
            ingested = time.monotonic() - started
            built = build_all(settings)
            seconds = time.monotonic() - started
            whole = whole or seconds
            cost = next(b for b in built if b.table == "marts.call_cost")
            print(f"{name:18} {report.kept:>9,} calls in: {ingested:6.1f} s + build of {len(cost.days)} days {seconds - ingested:5.1f} s = {seconds:6.1f} s, {seconds / whole:.1%} of all", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
