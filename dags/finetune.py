"""
### Fine-tuning datasets: from calls and outcomes to versions that can be trained on

**Reads** `core.inference`, `core.inference_content`, `core.feedback`, `marts.call_outcome` and `datasets.eval`; runs when `marts` has resolved
outcomes anew. Recipes are those of the setting `recipes`, one after the other: `eval` stands first, so that what it holds back is trained on by none.

**Fills** `datasets.eval`, `datasets.sft`, `datasets.preference`, `datasets.kto`, `datasets.version` and `datasets.funnel`. One task a stage; each writes what
it kept and dropped to its log. The stages hand on a work file in `<home>/scratch/finetune`, which workers must share; it is gone when the version is out.

**Re-run** as often as you like: the same calls give the same version, and a version that is there is left as it is. A stage is done whole or not
at all; cleared, it goes on from the one before. Rows, funnel and version appear together.

**Broken?** Skipped tasks mean that nothing is left to train on: the log of `publish` has the funnel, and most often nobody has said yet whose calls
may be used (`schemas/reference/training_consent.csv`, setting `reference`). Anything else names the file or the setting. `flywheel dataset build` does the same by hand.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, TriggerRule, chain, task
from flywheel_defaults import BUILD_POOL, TASK_DEFAULTS, after, log, partition_day, skipped_on, table

from pipelines.errors import NotConfigured
from pipelines.finetune import STEPS
from pipelines.settings import Settings

FILLED = [table("datasets.version"), table("datasets.funnel")]

with DAG(
    dag_id="finetune",
    description="Make fine-tuning datasets of the calls that may be used",
    doc_md=__doc__,
    schedule=after("marts.call_outcome"),
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    tags=["learn"],
):

    @task(pool=BUILD_POOL)
    def stage(recipe: str, step: str, partition_key: str | None = None) -> None:
        from pipelines.finetune.versions import task_step

        with skipped_on(NotConfigured):
            for row in task_step(Settings.load(), recipe, partition_day(partition_key), step):
                log.info("%(stage)s: %(before_count)d %(unit)s, %(dropped_count)d dropped, %(kept_count)d kept %(reasons)s", row)

    @task(pool=BUILD_POOL, outlets=FILLED)
    def publish(recipe: str, partition_key: str | None = None) -> None:
        from pipelines.finetune.versions import NothingLeft, task_publish

        with skipped_on(NothingLeft):
            log.info("%s", task_publish(Settings.load(), recipe, partition_day(partition_key)))

    # One recipe that fails must not keep the others from being built; it must still fail the run, hence `complete`.
    complete = EmptyOperator(task_id="complete", trigger_rule=TriggerRule.NONE_FAILED)
    before = []
    for recipe in Settings.load().recipes:
        with TaskGroup(Path(recipe).stem):
            first, *rest = STEPS
            begun = stage.override(task_id=first, trigger_rule=TriggerRule.ALL_DONE)(recipe, first)
            ended = publish(recipe)
            chain(begun, *(stage.override(task_id=step)(recipe, step) for step in rest), ended)
        chain(*before, begun)
        before = [ended]
        ended >> complete
