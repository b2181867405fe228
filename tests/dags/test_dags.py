"""What every DAG owes the person on call, and that the files stay thin."""

from __future__ import annotations

import ast
import json
import sys
import time
from datetime import timedelta

import pytest

from pipelines.errors import PromiseBroken, RetryLater, StopTheLine
from pipelines.local_run import BUILT_FROM, DAGS
from tests.dags.conftest import ROOT

FILES = sorted((ROOT / "dags").glob("*.py"))
LEFT_PAUSED = ("routing", "forecasts", "finetune")  # they learn for minutes: a person unpauses them
HEADINGS = ("**Reads**", "**Fills**", "**Re-run**", "**Broken?**")


@pytest.fixture(scope="module")
def dags():
    sys.path.insert(0, str(ROOT / "dags"))  # as Airflow does
    from airflow.dag_processing.dagbag import DagBag

    started = time.process_time()  # tests of other files run beside this one
    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    assert time.process_time() - started < 3, "parsing is repeated every half minute: import slow things in the tasks"
    yield bag.dags
    sys.path.remove(str(ROOT / "dags"))


def test_the_dags_are_the_ones_the_local_run_knows(dags):
    assert sorted(dags) == sorted((*DAGS, *LEFT_PAUSED))


@pytest.mark.parametrize("name", (*DAGS, *LEFT_PAUSED))
def test_every_dag_has_its_runbook_tags_and_limits(dags, name):
    dag = dags[name]
    assert [part for part in HEADINGS if part not in (dag.doc_md or "")] == []
    assert dag.description
    assert dag.tags
    assert dag.max_active_runs <= 4
    assert dag.catchup is False


@pytest.mark.parametrize("name", (*DAGS, *LEFT_PAUSED))
def test_every_task_has_an_owner_retries_that_back_off_and_a_time_limit(dags, name):
    for task in dags[name].tasks:
        assert task.owner == "data-platform"
        assert task.retries >= 1
        assert task.retry_exponential_backoff >= 2
        assert task.execution_timeout is not None
        assert task.execution_timeout <= timedelta(hours=2)


@pytest.mark.parametrize("name", (*DAGS, *LEFT_PAUSED))
def test_every_task_that_does_work_runs_in_a_pool_that_exists(dags, name):
    pools = json.loads((ROOT / "infra" / "airflow" / "pools.json").read_text())
    assert {task.pool for task in dags[name].tasks if task.task_id not in ("announce", "complete")} <= pools.keys()


@pytest.mark.parametrize(
    ("error", "action"),
    [(StopTheLine("x"), "fail"), (PromiseBroken("x"), "fail"), (RetryLater("x"), "default"), (OSError("x"), "default")],
)
def test_only_what_a_person_must_mend_is_not_retried(dags, error, action):
    for dag in dags.values():
        for task in dag.tasks:
            assert task.retry_policy.evaluate(error, try_number=1, max_tries=3).action.value == action


def test_one_task_a_folder_in_the_order_of_their_dependencies(dags):
    from pipelines.build import routine, stages
    from pipelines.contracts import contract

    tasks = dags["marts"].topological_sort()
    assert [task.task_id for task in tasks] == [*stages()] == ["marts", "datasets", "exports"]
    assert [[asset.name for asset in task.outlets] for task in tasks] == [*stages().values()]
    built = [name for names in stages().values() for name in names]
    assert sorted(built) == sorted(routine())
    assert all(built.index(read) < built.index(name) for name in built for read in contract(name).reads if read in built)


def test_the_marts_start_from_the_tables_the_local_run_waits_for(dags):
    condition = dags["marts"].timetable.asset_condition
    assert {asset.name for asset in condition.objects} == BUILT_FROM


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_dag_files_hold_no_logic(path):
    tree = ast.parse(path.read_text())
    kinds = (ast.While, ast.Try, ast.ClassDef, ast.Lambda)
    logic = [node.lineno for node in ast.walk(tree) if isinstance(node, kinds)]
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) - len((ast.get_docstring(tree) or "").splitlines()) <= (90 if path.name == "flywheel_defaults.py" else 75)
    if path.name != "flywheel_defaults.py":
        assert logic == []


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").rglob("*.py")), ids=lambda path: path.name)
def test_the_pipelines_do_not_know_airflow(path):
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or alias.name for node in imports for alias in node.names}
    assert {module for module in modules if module.split(".")[0] == "airflow"} == set()


def test_a_fine_tuning_dataset_is_one_task_a_stage_and_the_held_out_set_comes_first(dags):
    from pipelines.finetune import STEPS

    tasks = [task.task_id for task in dags["finetune"].topological_sort()]
    assert tasks == [*(f"{recipe}.{step}" for recipe in ("eval", "sft", "preference", "kto") for step in (*STEPS, "publish")), "complete"]
    assert dags["finetune"].get_task("complete").upstream_task_ids == {f"{recipe}.publish" for recipe in ("eval", "sft", "preference", "kto")}
