"""The DAGs under Airflow's real scheduler, driven through its REST API: days in → rows and runs out."""

from __future__ import annotations

import time
from datetime import date, timedelta

import duckdb
import pytest
from rich.console import Console

from pipelines.local_run import fill
from tests.dags.conftest import FIRST_DAY, FORMATS, Flywheel

pytestmark = pytest.mark.airflow


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


def wait(is_done, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline, "not done in time"
        time.sleep(0.5)


def ended(flywheel: Flywheel, since, dag: str) -> list[dict]:
    """The DAG's runs of this test, once there are some and all have ended."""
    runs: list[dict] = []

    def is_done() -> bool:
        runs[:] = [run for run in flywheel.airflow.runs(since) if run["dag_id"] == dag]
        return bool(runs) and all(run["state"] in ("success", "failed") for run in runs)

    wait(is_done)
    return runs


def states(flywheel: Flywheel, since, dag: str) -> dict[str, tuple[str, int]]:
    """Task (and source) → state and tries, of the one run of this test."""
    return {
        task["rendered_map_index"] or task["task_id"]: (task["state"], task["try_number"])
        for task in flywheel.airflow.tasks(since)
        if task["dag_id"] == dag
    }


def test_filling_a_day_ends_with_its_marts(flywheel, since, capsys):
    failures = fill(flywheel.airflow, days=[day(0)], price_days=[day(0)], console=Console(force_terminal=False))
    assert failures == []
    runs = flywheel.airflow.runs(since)
    assert {(run["dag_id"], run["partition_key"]) for run in runs} >= {
        ("prices", str(day(0))),
        ("inference_logs", str(day(0))),
        ("marts", str(day(0))),
    }
    assert {run["state"] for run in runs} == {"success"}
    assert f"inference_logs {day(0)} ingest[litellm] success" in capsys.readouterr().out


def test_a_backfill_of_three_days_fills_three_days(flywheel, since):
    backfill = flywheel.airflow.backfill("inference_logs", day(1), day(3))
    wait(lambda: flywheel.airflow.get(f"/backfills/{backfill}")["completed_at"] is not None)
    wanted = {str(day(number)) for number in (1, 2, 3)}

    filled = [run for run in flywheel.airflow.get("/dags/inference_logs/dagRuns")["dag_runs"] if run["run_type"] == "backfill"]
    assert {run["partition_key"]: run["state"] for run in filled} == dict.fromkeys(wanted, "success")

    def built() -> set[str]:
        runs = [run for run in flywheel.airflow.runs(since) if run["dag_id"] == "marts"]
        return {run["partition_key"] for run in runs if run["state"] == "success"}

    wait(lambda: wanted <= built())
    with duckdb.connect(flywheel.home / "warehouse.duckdb", read_only=True) as con:
        rows = con.execute(
            "select count(*), count(distinct started_at::date) from core.inference where started_at >= ?", [day(1)]
        ).fetchone()
        costed = con.execute("select count(*) from marts.call_cost where started_at >= ?", [day(1)]).fetchone()
    assert rows is not None
    assert rows[0] > 0
    assert rows[1] == 3
    assert costed == (rows[0],)


def test_a_run_without_its_day_is_refused_and_not_retried(flywheel, since):
    flywheel.airflow._send("POST", "/dags/inference_logs/dagRuns", json={"logical_date": None})
    (run,) = ended(flywheel, since, "inference_logs")
    assert run["state"] == "failed"
    assert states(flywheel, since, "inference_logs") == {
        **dict.fromkeys(FORMATS, ("failed", 1)),
        "announce": ("skipped", 1),
        "complete": ("upstream_failed", 0),
    }
    failed = next(task for task in flywheel.airflow.tasks(since) if task["state"] == "failed")
    assert "StopTheLine: this run has no day to fill (partition key None)" in flywheel.airflow.log_tail(failed)


def test_a_broken_source_fails_the_run_and_keeps_nothing_from_the_marts(flywheel, since):
    flywheel.set_sources(litellm="litellm", anthropic="no_such_format")
    try:
        flywheel.airflow.trigger("inference_logs", day(4))
        (run,) = ended(flywheel, since, "inference_logs")
    finally:
        flywheel.set_sources(**{name: name for name in FORMATS})
    assert run["state"] == "failed"
    assert states(flywheel, since, "inference_logs") == {
        "litellm": ("success", 1),
        "anthropic": ("failed", 1),
        "announce": ("success", 1),
        "complete": ("upstream_failed", 0),
    }
    marts = ended(flywheel, since, "marts")
    assert (str(day(4)), "success") in {(run["partition_key"], run["state"]) for run in marts}


def test_a_task_log_tells_what_became_of_the_rows(flywheel, since):
    flywheel.airflow.trigger("inference_logs", day(0))
    ended(flywheel, since, "inference_logs")
    task = next(task for task in flywheel.airflow.tasks(since) if task["rendered_map_index"] == "litellm")
    log = flywheel.airflow.log_tail(task)
    for word in ("core.inference:", "rows in", "kept", "duplicate", "quarantined"):
        assert word in log
