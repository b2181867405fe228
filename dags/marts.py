"""
### Marts: what people query, rebuilt for the days that changed

**Reads** `core`, for one UTC day. Runs when `core.inference` or `core.price` announces that day, also an old one.

**Fills** the day's partition of every table in `warehouse/marts/`, one task a table, in dependency order, and the
views of `warehouse.duckdb`.

**Re-run** as often as you like: a day's partition is replaced by the same rows. One day: trigger with the day,
`YYYY-MM-DD`, as partition key. Many: backfill `inference_logs`, or `flywheel build marts.<name>`. One table on: clear its
task with *downstream* ticked. A run without its day is refused.

**Broken?** The log names the SQL file and the promise (`schemas/marts/<name>.yml`) that did not hold; nothing of
that table was published, tables built before it stay. While this DAG is paused Airflow drops the announcements:
keep it unpaused, and re-run the days missed.
"""

from __future__ import annotations

from airflow.sdk import DAG, PartitionedAssetTimetable, StartOfDayMapper, chain, task
from flywheel_defaults import BUILD_POOL, TASK_DEFAULTS, log, partition_day, table

from pipelines.build import mart_order
from pipelines.settings import Settings

with DAG(
    dag_id="marts",
    description="Build the marts of one day",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(
        assets=table("core.inference") | table("core.price"),
        default_partition_mapper=StartOfDayMapper(input_format="%Y-%m-%d"),
    ),
    max_active_runs=4,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["marts", "daily"],
):

    @task(pool=BUILD_POOL)
    def build(name: str, partition_key: str | None = None) -> None:
        from pipelines.build import build_table

        report = build_table(Settings.load(), name, days=[partition_day(partition_key)])
        log.info("%s: %d rows for %s in %.1f s", report.table, report.rows, partition_key, report.seconds)

    chain(*(build.override(task_id=name.removeprefix("marts."), outlets=[table(name)])(name) for name in mart_order()))
