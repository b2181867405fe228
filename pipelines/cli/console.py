"""What all commands share: where they write, how progress is shown, and what says which logs are meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipelines.errors import NotConfigured
from pipelines.settings import Settings, Source

console = Console()
err = Console(stderr=True)

EXIT_STOP, EXIT_RETRY = 1, 75
"""75 is EX_TEMPFAIL of sysexits.h: trying again later may help."""


class Shown:
    """A report that shows one line of progress while long work goes on."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), console=err, transient=True
        )
        self._task = self._bars.add_task("starting", total=None)

    def __enter__(self) -> Shown:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def __call__(self, text: str, share: float | None) -> None:
        self._bars.update(self._task, description=text, total=None if share is None else 1.0, completed=share or 0)


def settings_with(url: str | None = None, format: str | None = None, source: str | None = None) -> tuple[Settings, list[str]]:
    """Settings, with a source given on the command line added; and the names of the sources meant."""
    settings = Settings.load()
    if url:
        if not format:
            raise NotConfigured("--format says how to read the logs, for example --format litellm")
        from pipelines.land import source_name

        name = source or source_name(settings, format)
        settings.sources[name] = Source(url=url, format=format)
        return settings, [name]
    if source:
        settings.source(source)
        return settings, [source]
    return settings, sorted(settings.sources)


Url = Annotated[str | None, typer.Argument(help="File, folder, glob or fsspec URL; default: the sources in the settings")]
Format = Annotated[str | None, typer.Option(help="How to read it: a name in warehouse/staging/inference or your own folder")]
SourceName = Annotated[str | None, typer.Option("--source", help="Name of the source; default: the format's name, with _logs behind it where a feed has that")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC day of arrival; default: today")]


def day_or_today(day: datetime | None) -> date:
    """The day asked for, else the present UTC day."""
    return day.date() if day else datetime.now(UTC).date()


@contextmanager
def writing(to: Path) -> Iterator[None]:
    """What is asked to be written where nothing can be written is a mistake of who asked."""
    try:
        yield
    except OSError as error:
        raise NotConfigured(f"{to} cannot be written: {error}") from error
