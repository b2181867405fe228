"""
### Maintenance: nothing kept longer than it may be, and the tables small to open

**Reads** the files and snapshots of every Iceberg table, and the setting `retention`.

**Fills** nothing new: finishes erasures that were cut off, takes away what has outlived its retention (rows, landed files,
versions of datasets, and the snapshots that had them), compacts small files, expires old snapshots, removes files no
snapshot refers to (only those old enough that no running commit can still want them).

**Re-run** at any time, also while other DAGs run; a commit that loses the race is retried.

**Broken?** Readers and the other DAGs are not affected; the tables only grow. The log names the table and the
step; trigger again once it is mended.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable, task
from flywheel_defaults import BUILD_POOL, TASK_DEFAULTS, log

from pipelines.settings import Settings

with DAG(
    dag_id="maintenance",
    description="Carry out retention; compact, expire and clean up the tables",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 4 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    tags=["upkeep", "daily"],
):

    @task(pool=BUILD_POOL)
    def maintain() -> None:
        from pipelines.maintenance import maintain

        log.info("%s", maintain(Settings.load()))

    maintain()
