"""The DAG of fine-tuning datasets under Airflow's real scheduler: calls with outcomes in, a version and its funnel out."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.finetune import STEPS
from pipelines.local_run import LocalAirflow
from tests.support.finetune import recipe, said, stored
from tests.support.lakehouse import ask
from tests.support.marts import DAY

pytestmark = pytest.mark.airflow


def test_a_run_publishes_what_there_is_and_skips_what_nothing_is_left_for(tmp_path: Path) -> None:
    settings = stored(tmp_path / "home", [said(f"c{n:02}", f"question {n}?", f"answer {n}") for n in range(30)])
    for name, more in (("some", {}), ("none", {"rights": {"consent": "required"}})):
        (tmp_path / f"{name}.yml").write_text(recipe(recipe=name, **more).model_dump_json())
    config = tmp_path / "flywheel.toml"
    config.write_text(f"home = {json.dumps(str(settings.home))}\nrecipes = {json.dumps([str(tmp_path / f'{n}.yml') for n in ('none', 'some')])}\n")
    since = datetime.now(UTC)
    with LocalAirflow(tmp_path / "home", env={"FLYWHEEL_CONFIG": str(config)}) as airflow:
        airflow.unpause(["finetune"])
        airflow.trigger("finetune", DAY)
        deadline = time.monotonic() + 300
        while not (runs := airflow.runs(since)) or runs[0]["state"] not in ("success", "failed"):
            assert time.monotonic() < deadline, "not done in time"
            time.sleep(1)
        states = {task["task_id"]: task["state"] for task in airflow.tasks(since)}
        [split] = [task for task in airflow.tasks(since) if task["task_id"] == "some.split"]
        told = airflow.log_tail(split)
    assert states == {f"{n}.{s}": "success" for n in ("none", "some") for s in STEPS} | {"none.publish": "skipped", "some.publish": "success", "complete": "success"}
    assert runs[0]["state"] == "success"
    assert "splits: 30 examples, 0 dropped, 30 kept" in told
    [(version, examples)] = ask(settings, "select dataset_version, train_count + validation_count + test_count from datasets.version")
    assert version.startswith("some-") and examples == 30
    assert ask(settings, "select count(*) from datasets.funnel") == [(14,)]
    assert not list((settings.scratch / "finetune").rglob("*.duckdb"))
