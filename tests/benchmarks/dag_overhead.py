"""What does Airflow add to the work of a day? The day's DAGs through its real scheduler, beside the same functions without it.

    python -m tests.benchmarks.dag_overhead [--calls 3000] [--days 2]

Simulates some days of calls in three formats and fills them one after the other in two warehouses: in one by the DAGs `prices`, `inference_logs`
and `marts`, as `make run` does, with Airflow already up, as it is where it runs every day; in the other by what their tasks call, one after the
other in one process with its imports done. The first day is a warm-up in both. Prints seconds of each day and the difference, and where Airflow's
time went: in tasks, and between them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.console import Console

from pipelines import gate
from pipelines.build import build_tables, stages
from pipelines.ingest import ingest_source
from pipelines.local_run import LocalAirflow, _settings_env, fill
from pipelines.prices import ingest_feed
from pipelines.settings import Settings, Source
from pipelines.simulate import simulate

FIRST = date(2026, 10, 5)
FORMATS = ("litellm", "openai", "anthropic")


def plain(settings: Settings, day: date) -> None:
    """What the tasks of the three DAGs call."""
    for feed in settings.feeds:
        ingest_feed(settings, feed, day)
    for source in settings.sources:
        ingest_source(settings, source, day)
    for tables in stages().values():
        build_tables(settings, tables)


def seconds_of(task: dict) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(task["start_date"]), datetime.fromisoformat(task["end_date"])


def show(airflow: LocalAirflow, since: datetime) -> None:
    """Of each task: how long it ran, and how long after the one before it was done it began."""
    done = since
    for task in sorted((t for t in airflow.tasks(since) if t["start_date"] and t["end_date"]), key=lambda t: t["start_date"]):
        started, ended = seconds_of(task)
        wait = (started - done).total_seconds()
        print(f"    {task['dag_id']:15} {task['task_id']:9} {task['rendered_map_index'] or '':13} ran {(ended - started).total_seconds():5.1f} s, began {wait:5.1f} s after")
        done = max(done, ended)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=3_000, help="calls of a day")
    options.add_argument("--days", type=int, default=2)
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dag-overhead-"))
    days = [FIRST + timedelta(n) for n in range(given.days)]
    try:
        for n, day in enumerate(days):
            simulate(folder / str(day), calls=given.calls, days=1, first_day=day, seed=n + 1, formats=FORMATS)
        for name in FORMATS:
            for day in days:
                shutil.move(folder / str(day) / "logs" / name, folder / "logs" / name / str(day))
        sources = {name: Source(url=f"{folder}/logs/{name}/{{day}}", format=name) for name in FORMATS}
        alone, scheduled = (Settings.load(home=folder / name, sources=sources) for name in ("plain", "airflow"))
        gate.warm()
        without, with_it = [], []
        for day in days:
            started = time.monotonic()
            plain(alone, day)
            without.append(time.monotonic() - started)
        with LocalAirflow(scheduled.home, env=_settings_env(scheduled)) as airflow:
            for day in days:
                since, started = datetime.now(UTC), time.monotonic()
                with contextlib.redirect_stdout(io.StringIO()):
                    failures = fill(airflow, days=[day], price_days=[day], console=Console(file=io.StringIO()))
                with_it.append(time.monotonic() - started)
                for failure in failures:
                    print(failure.dag, failure.task, failure.log_tail)
                print(f"{day}: by Airflow {with_it[-1]:.1f} s, without {without[len(with_it) - 1]:.1f} s, overhead {with_it[-1] - without[len(with_it) - 1]:.1f} s", flush=True)
                show(airflow, since)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
