"""
### Prices: from every configured feed to the price book

**Reads** the feeds in the settings (`flywheel.toml`, `[feeds.<name>]`) as they are published now; a feed that
cannot be reached falls back to its last good file. What an address says is landed under the day it was received.

**Fills** `landing/<feed>/day=<day>/`, `core.price_quote`, `core.price` and `core.model`; prices that look like unit slips go to
`core.quarantine`. Emits an asset event for its day, which starts `marts`; they find out which days the prices touch.

**Re-run** as often as you like: a price that did not change adds no row. An address is fetched for the day that just
ended and for today only; a run of an older day reads what has landed, says so in its log, and succeeds. A folder of dated
snapshots is brought in with `flywheel prices`. A run without its day is refused.

**Broken?** A snapshot that cannot be read, as the feed's shape has changed, is set aside in `core.quarantine` and the task
fails (`SourceUnreadable`) when all the others are in; the last good prices stay in force. The log names the staging select to
edit; the next run then takes it in. A negative price goes to quarantine by itself. A feed that is up for retry could not be
reached and has no earlier file.
"""

from __future__ import annotations

from airflow.sdk import DAG, task
from flywheel_defaults import DAILY, INGEST_POOL, TASK_DEFAULTS, emit_days, log_rows, partition_day, table

from pipelines.settings import Settings

FILLED = [table("core.price"), table("core.price_quote"), table("core.model")]

with DAG(
    dag_id="prices",
    description="Fetch, gate and publish each feed's prices",
    doc_md=__doc__,
    schedule=DAILY,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    tags=["core", "daily"],
):

    @task(pool=INGEST_POOL, outlets=FILLED, map_index_template="{{ task.op_kwargs['feed'] }}")
    def ingest(feed: str, partition_key: str | None = None, outlet_events=None) -> None:
        from pipelines.prices import ingest_feed

        report = ingest_feed(Settings.load(), feed, partition_day(partition_key))
        emit_days(outlet_events, [log_rows([report])], FILLED)

    ingest.expand(feed=sorted(Settings.load().feeds))
