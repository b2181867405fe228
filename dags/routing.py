"""
### Routing: from the routing log to a policy in force

**Reads** `datasets.routing_log`; runs when `marts` has filled it anew.

**Fills** `datasets.routing_split`, which compares every prompt with all others, and then `datasets.policy`, `datasets.policy_evaluation` and `datasets.policy_metric`, and a folder of each version in `<home>/policies/`: the policy as JSON, a LiteLLM
configuration, the router, a card, a plot. `champion.json` there is the policy in force. A policy takes its place only if the lower bound
of what it gains on calls held back is above zero; everything else is kept as a challenger, or refused with the reason.

**Re-run** as often as you like: the same log gives the same version, and a version that is there is left as it is. To go back to
the champion before: `flywheel routing rollback`.

**Broken?** *Too little to learn from* lists how many calls were left at each step: most often outcomes are not yet mature or no call was
a choice among models. That skips the run. Anything else names the file or the setting (`[routing]` in `flywheel.toml`).
"""

from __future__ import annotations

from airflow.sdk import DAG, task
from flywheel_defaults import BUILD_POOL, TASK_DEFAULTS, after, log, skipped_on, table

from pipelines.settings import Settings

FILLED = [table("datasets.policy"), table("datasets.policy_evaluation"), table("datasets.policy_metric")]

with DAG(
    dag_id="routing",
    description="Train a routing policy, judge it, and publish it if it is better",
    doc_md=__doc__,
    schedule=after("datasets.routing_log"),
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    tags=["learn"],
):

    @task(pool=BUILD_POOL, outlets=[table("datasets.routing_split")])
    def split() -> None:
        from pipelines.build import build_table

        log.info("%s", build_table(Settings.load(), "datasets.routing_split"))

    @task(pool=BUILD_POOL, outlets=FILLED)
    def train() -> None:
        from pipelines.learn.promotion import TooLittle, train

        with skipped_on(TooLittle):
            judged = train(Settings.load())
            log.info("%s; see %s/card.md", judged, judged.folder)

    split() >> train()
