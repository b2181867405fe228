"""`flywheel`: the same steps as the DAGs, without Airflow."""

from __future__ import annotations

import logging
import sys

import typer
from rich.markup import escape

from pipelines.cli import answers, care, dataset, export, forecast, intake, routing
from pipelines.cli.console import EXIT_RETRY, EXIT_STOP, err
from pipelines.errors import FlywheelError, RetryLater

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for commands in (intake, answers, care):
    app.add_typer(commands.app)
for group in (routing, dataset, forecast, export):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def main() -> None:
    """Entry point: errors of ours are one clear line, and the exit code says whether trying again may help."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except RetryLater as error:
        err.print(f"[yellow]try again later[/yellow]: {escape(str(error))}", highlight=False)
        sys.exit(EXIT_RETRY)
    except FlywheelError as error:
        err.print(f"[red]stopped[/red]: {escape(str(error))}", highlight=False)
        sys.exit(EXIT_STOP)
