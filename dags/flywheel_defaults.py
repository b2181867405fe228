"""What every DAG here shares: the day it fills, how it retries, the assets it fills.

The DAG files say *when* things run; what runs is in `pipelines/`. Nothing here knows about rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetAny,
    CronPartitionTimetable,
    ExceptionRetryPolicy,
    PartitionedAssetTimetable,
    RetryAction,
    RetryRule,
    StartOfDayMapper,
)
from airflow.sdk.exceptions import AirflowSkipException

from pipelines.errors import StopTheLine

log = logging.getLogger("flywheel")

OWNER = "data-platform"
INGEST_POOL = "flywheel_ingest"
BUILD_POOL = "flywheel_build"

# One run a UTC day, at its end. Midnight is the one time at which a scheduled, a hand-started and a
# backfilled run agree on the partition date, by which Airflow tells that they are the same partition.
# run_immediately=0: unpausing waits for the next midnight and starts nothing on its own.
DAILY = CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d", run_immediately=timedelta(0))

TASK_DEFAULTS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=30),
    "retry_policy": ExceptionRetryPolicy(
        rules=[RetryRule(StopTheLine, action=RetryAction.FAIL, reason="a person must change something first")]
    ),
    "execution_timeout": timedelta(hours=2),
}


def table(name: str) -> Asset:
    """The asset of an Iceberg table; both carry the table's name."""
    return Asset(name=name, uri=f"iceberg://flywheel/{name}")


def after(*names: str) -> PartitionedAssetTimetable:
    """A run for each UTC day that any of these tables announces. Announcements of days start partitioned DAGs only."""
    tables = [table(name) for name in names]
    return PartitionedAssetTimetable(
        assets=tables[0] if len(tables) == 1 else AssetAny(*tables), default_partition_mapper=StartOfDayMapper(input_format="%Y-%m-%d")
    )


@contextmanager
def skipped_on(error: type[StopTheLine]) -> Iterator[None]:
    """The task is skipped, with the error's words, where there is nothing to do yet."""
    try:
        yield
    except error as told:
        raise AirflowSkipException(str(told)) from told


def partition_day(partition_key: str | None) -> date:
    """The UTC day of a run. Raises StopTheLine when the run has none: a day is never guessed."""
    try:
        return date.fromisoformat(partition_key or "")
    except ValueError:
        raise StopTheLine(
            f"this run has no day to fill (partition key {partition_key!r}); "
            "start it again with a UTC day, YYYY-MM-DD, as its partition key"
        ) from None


def log_rows(reports: Iterable[Any]) -> dict[str, list[str]]:
    """Write one line a table to the task log; return the days touched, by table, for the next task."""
    touched: dict[str, list[str]] = {}
    for report in reports:
        log.info(
            "%s: %d rows in, %d kept, %d duplicate, %d quarantined, %d context; days %s",
            report.table,
            report.rows_in,
            report.kept,
            report.duplicate,
            report.quarantined,
            report.context,
            ", ".join(map(str, report.days)) or "none",
        )
        touched.setdefault(report.table, []).extend(str(day) for day in report.days)
    return touched


def emit_days(outlet_events: Any, touched: Iterable[dict[str, list[str]]], assets: Iterable[Asset]) -> None:
    """Emit one asset event for each day touched, so that late rows rebuild the days they belong to.

    Airflow adds the run's own day for an asset with no day touched; building it again changes nothing.
    """
    by_table = list(touched)
    for asset in assets:
        days = sorted({day for tables in by_table for day in tables.get(asset.name, [])})
        log.info("%s: announcing %s", asset.name, ", ".join(days) or "the run's own day")
        outlet_events[asset].add_partitions(days)
