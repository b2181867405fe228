"""
### Marts: what people query, rebuilt where something changed

**Reads** `core`. Runs for a UTC day when `core.inference` or `core.price` announces that day, also an old one.

**Fills** the partitions of every table in `warehouse/marts/`, `datasets/` and `exports/` that are stale (but those of a training run, which are built on demand), one task a folder, its tables in the
order of what they read, and the views of `warehouse.duckdb`. Its own day is stale as its rows changed; a new price can make many other days stale. When
several days are announced at once, the first run builds them together and the others find nothing to do.

**Re-run** as often as you like: a day's partition is replaced by the same rows. To build one day whether stale or not, trigger
with the day, `YYYY-MM-DD`, as partition key. What is not stale costs next to nothing. A run without its day is refused.

**Broken?** The log names the SQL file, or the promise (`schemas/marts/<name>.yml`) that did not hold; nothing of that table was
published, and what was built before it stays. Tables that do not read the broken one are built all the same. While this DAG is paused Airflow drops the announcements: keep it unpaused;
what was missed is still stale, and the next run builds it.
"""

from __future__ import annotations

from airflow.sdk import DAG, chain, task
from flywheel_defaults import BUILD_POOL, TASK_DEFAULTS, after, log, partition_day, table

from pipelines.build import stages
from pipelines.settings import Settings

with DAG(
    dag_id="marts",
    description="Build the marts of the days that changed",
    doc_md=__doc__,
    schedule=after("core.inference", "core.price"),
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["marts", "daily"],
):

    @task(pool=BUILD_POOL)
    def build(tables: list[str], partition_key: str | None = None, dag_run=None) -> None:
        from pipelines.build import build_tables

        day = partition_day(partition_key)
        for report in build_tables(Settings.load(), tables, days=[day] if dag_run.run_type == "manual" else None):
            log.info("%s: %d rows, days %s, in %.1f s", report.table, report.rows, ", ".join(map(str, report.days)), report.seconds)

    chain(*(build.override(task_id=name, outlets=[table(t) for t in tables])(tables) for name, tables in stages().items()))
