"""`flywheel export`: the routing log and costs, as others read them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from pipelines.cli.console import console
from pipelines.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Write datasets in the formats of those who use them.")


@app.command("routing")
def export_routing_log(
    to: Annotated[str, typer.Option(help="Folder at any fsspec URL")],
    format: Annotated[str, typer.Option(help="parquet, jsonl, llmrouter, routerbench, routellm or notdiamond")] = "parquet",
) -> None:
    """Write the routing log, or prompts that several models answered, in splits that share no session, trace or prompt."""
    from pipelines.export.routing import export_routing

    console.print(str(export_routing(Settings.load(), format, to)), highlight=False, soft_wrap=True)


@app.command()
def focus(
    to: Annotated[str, typer.Option(help="Where: any fsspec URL that ends in .parquet, .csv or .csv.gz")],
    from_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First UTC day; default: the first there is")] = None,
    until_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC day before which to end; default: none")] = None,
) -> None:
    """Costs as FinOps FOCUS 1.2 rows, under the standard's own column names."""
    from pipelines.focus import export_focus

    report = export_focus(Settings.load(), to, from_day and from_day.date(), until_day and until_day.date())
    console.print(str(report), highlight=False, soft_wrap=True)
