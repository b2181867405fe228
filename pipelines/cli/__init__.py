"""`flywheel`: the same steps as the DAGs, without Airflow."""

from __future__ import annotations

import logging
import sys

import typer
from rich.markup import escape

from pipelines.cli import answers, care, dataset, export, forecast, intake, routing
from pipelines.cli.console import EXIT_RETRY, EXIT_STOP, err
from pipelines.errors import FlywheelError, RetryLater
from pipelines.settings import FULL, LASTING

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
    except OSError as error:  # of the local disk; what else may fail so has words of its own
        is_full = error.errno in FULL
        if not is_full and not isinstance(error, LASTING):
            raise
        err.print(f"{'[yellow]try again later' if is_full else '[red]stopped'}[/]: {escape(str(error))}", highlight=False)
        sys.exit(EXIT_RETRY if is_full else EXIT_STOP)
