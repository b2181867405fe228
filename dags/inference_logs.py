"""
### Inference logs: from every configured source to `core`

**Reads** the sources in the settings (`flywheel.toml`, `[sources.<name>]`), for one UTC arrival day; where a URL has
`{day}`, also the folder of the day before, whose last files are written after midnight.

**Fills** `landing/<source>/day=<day>/`, `core.inference`, `core.inference_content`, `core.feedback`, and
`core.quarantine` for what was refused. `announce` then emits an asset event for every day the rows belong to
(late rows touch older days), which starts `marts` for these days.

**Re-run** as often as you like: the same bytes land once and the same row is kept once. One source: clear its
mapped task with *downstream* ticked. A range of days: *Trigger → Backfill*. A single day: trigger with the day,
`YYYY-MM-DD`, as partition key; a run without its day is refused. A source whose URL has no `{day}` has no past to be
filled with: what it has lands under the day of the run, and again under a later one if calls in it are from after that.

**Broken?** A source that fails at once and does not retry (`StopTheLine`) needs a person: the log's last line
names the file or setting to change. The other sources' rows are in and announced. A source that is up for retry
waits for the world to mend. Rows gone to quarantine: `flywheel status`, then `flywheel replay`.
"""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, task
from airflow.sdk.exceptions import AirflowSkipException
from flywheel_defaults import DAILY, INGEST_POOL, TASK_DEFAULTS, emit_days, log_rows, partition_day, table

from pipelines.settings import Settings

FILLED = [table("core.inference"), table("core.inference_content"), table("core.feedback")]

with DAG(
    dag_id="inference_logs",
    description="Land, gate and publish each source's calls and feedback of one day",
    doc_md=__doc__,
    schedule=DAILY,
    max_active_runs=4,
    default_args=TASK_DEFAULTS,
    tags=["core", "daily"],
):

    @task(pool=INGEST_POOL, multiple_outputs=False, map_index_template="{{ task.op_kwargs['source'] }}")
    def ingest(source: str, partition_key: str | None = None) -> dict[str, list[str]]:
        from pipelines.ingest import ingest_source

        return log_rows(ingest_source(Settings.load(), source, partition_day(partition_key)))

    # One broken source must not keep the others' rows from the marts, hence all_done; it must still fail the run, hence
    # `complete`, which costs nothing: Airflow marks an EmptyOperator without running it.
    @task(outlets=FILLED, trigger_rule=TriggerRule.ALL_DONE)
    def announce(touched: list[dict[str, list[str]]], outlet_events=None) -> None:
        if not list(touched):
            raise AirflowSkipException("no source brought anything in")
        emit_days(outlet_events, touched, FILLED)

    ingested = ingest.expand(source=sorted(Settings.load().sources))
    [ingested, announce(ingested)] >> EmptyOperator(task_id="complete")
