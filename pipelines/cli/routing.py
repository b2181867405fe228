"""`flywheel routing`: policies trained, judged, taken back."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from pipelines.cli.console import Shown, console
from pipelines.settings import Settings

app = typer.Typer(help="Routing policies: train, judge, publish, go back.", no_args_is_help=True)


@app.command("train")
def routing_train() -> None:
    """Train a policy on the routing log and publish it if it is proven to be better than the one in force."""
    from pipelines.build import build_table
    from pipelines.learn.promotion import train

    settings = Settings.load()
    with Shown() as shown:
        build_table(settings, "datasets.routing_split", report=shown)
        judged = train(settings, shown)
    console.print(str(judged), highlight=False, soft_wrap=True)
    console.print(f"{judged.folder}/card.md", highlight=False, soft_wrap=True)


@app.command("evaluate")
def routing_evaluate(
    log: Annotated[str, typer.Argument(help="Your log, a row a decision: .parquet, .csv, .csv.gz, .jsonl or .jsonl.gz; a path or a glob")],
    action: Annotated[str, typer.Option(help="Column: what was chosen")] = "action",
    reward: Annotated[str, typer.Option(help="Column: what came of it, 0 to 1; rows without are left out")] = "reward",
    propensity: Annotated[str, typer.Option(help="Column: probability with which it was chosen")] = "propensity",
    target: Annotated[str, typer.Option(help="Column: what the policy to judge would choose; or start of columns <start>_<action> of its probabilities")] = "target",
    against: Annotated[str | None, typer.Option(help="The same of another policy, to compare with; what was logged always is")] = None,
    logging: Annotated[str, typer.Option(help="Start of columns <start>_<action>: probabilities of all actions then; they stand for the propensity")] = "logging",
    context: Annotated[list[str] | None, typer.Option(help="Column known before the choice; may be repeated; default: all context_*")] = None,
    cluster: Annotated[str | None, typer.Option(help="Column: trace, session or tenant; default: cluster where there, else each row is its own")] = None,
    candidates: Annotated[str | None, typer.Option(help="Column: list or JSON array of what could be chosen; default: candidates where there, else all")] = None,
    cost: Annotated[str | None, typer.Option(help="Column: cost in USD; default: cost_usd where there; '': judge no cost")] = None,
    estimate_propensity: Annotated[bool, typer.Option("--estimate-propensity", help="Estimate propensities from the context")] = False,
    intervals: Annotated[str, typer.Option(help="skewed, normal, bootstrap or empirical_bernstein; all by cluster")] = "skewed",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """What a policy would have earned on a log of your own, and whether that log can tell."""
    import json

    from pipelines.answer import table_of
    from pipelines.learn.log_file import Columns, evaluate_file, tables

    columns = Columns(action, reward, propensity, target, against, logging, tuple(context) if context else None, cluster, candidates, cost)
    judged = evaluate_file(Settings.load(), log, columns, method=intervals, estimated=estimate_propensity)
    if as_json:
        print(json.dumps(judged.as_dict(), ensure_ascii=False, allow_nan=False))
        return
    for title, headings, rows in tables(judged):
        console.print(table_of(headings, rows, title))
    if judged.unknown_reward_count:
        console.print(f"{judged.unknown_reward_count:,} rows without a reward were left out", highlight=False)
    if not judged.has_context:
        console.print("no context columns: gaps in support that the context would show stay unseen", highlight=False)
    verdict = judged.evaluation.verdict
    console.print("this log can tell" if verdict.can_tell else "this log cannot tell:", highlight=False)
    for reason in verdict.reasons:
        console.print(f"- {escape(reason)}", highlight=False, soft_wrap=True)


@app.command("rollback")
def routing_rollback() -> None:
    """Put the champion before the present one back in force."""
    from pipelines.learn.promotion import rollback

    console.print(f"policy {rollback(Settings.load())} is in force again", highlight=False)
