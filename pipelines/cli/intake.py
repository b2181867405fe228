"""`flywheel land`, `ingest`, `prices`, `capabilities`, `build`, `replay`, `simulate` and `run`: from logs and price lists to tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.console import Day, Format, Shown, SourceName, Url, console, day_or_today, settings_with, writing
from pipelines.errors import FlywheelError, NotConfigured, RetryLater, StopTheLine
from pipelines.settings import Feed, Settings

app = typer.Typer()


def each(items: Iterable[Any], take: Callable[[Any], None]) -> None:
    """Take one after another; what cannot be taken is told at the end, as it is no reason for the others to wait."""
    failed: list[FlywheelError] = []
    for item in items:
        try:
            take(item)
        except FlywheelError as error:
            failed.append(error)
    if failed:
        raise (RetryLater if all(isinstance(error, RetryLater) for error in failed) else StopTheLine)("\n".join(map(str, failed))) from failed[0]


@app.command()
def land(url: Url = None, format: Format = None, source: SourceName = None, day: Day = None) -> None:
    """Copy raw logs into landing, unchanged. Bytes that are there already are not copied again."""
    from pipelines.ingest import land_source

    settings, names = settings_with(url, format, source)

    def take(name: str) -> None:
        with Shown() as shown:
            landed = land_source(settings, name, settings.source(name).url, day_or_today(day), shown)
        console.print(f"{name}: {len(landed)} files, {sum(f.byte_count for f in landed):,} bytes in landing", highlight=False)

    each(names, take)


@app.command()
def ingest(url: Url = None, format: Format = None, source: SourceName = None, day: Day = None) -> None:
    """Land logs, check them and put them into the warehouse. Doing it twice changes nothing."""
    from pipelines.ingest import ingest_source

    settings, names = settings_with(url, format, source)
    if not names:
        raise NotConfigured("no sources: give a URL and --format, or write [sources.<name>] in flywheel.toml")

    def take(name: str) -> None:
        with Shown() as shown:
            reports = ingest_source(settings, name, day_or_today(day), shown)
        for report in reports:
            console.print(str(report), highlight=False, soft_wrap=True)
            for promise, count in sorted(report.reasons.items()):
                console.print(f"    quarantined by {promise}: {count:,}", highlight=False)

    each(names, take)


@app.command()
def prices(
    url: Annotated[str | None, typer.Argument(help="Address, file, or folder of dated snapshots; default: the feeds in the settings")] = None,
    format: Annotated[str | None, typer.Option(help="litellm, openrouter, models_dev, genai_prices, or your own")] = None,
    feed: Annotated[str | None, typer.Option(help="Name of the feed; default: the format's name, with _prices behind it where logs have such a format")] = None,
    day: Day = None,
) -> None:
    """Fetch price feeds and write the price book anew. A folder of dated snapshots is brought in whole."""
    from pipelines.land import feed_name
    from pipelines.prices import ingest_feed

    settings = Settings.load()
    names = [feed] if feed else sorted(settings.feeds)
    if url:
        if not format:
            raise NotConfigured("--format says which feed it is: litellm, openrouter, models_dev or genai_prices")
        names = [feed or feed_name(settings, format)]
        settings.feeds[names[0]] = Feed(url=url, format=format)

    def take(name: str) -> None:
        with Shown() as shown:
            report = ingest_feed(settings, name, day_or_today(day), shown)
        console.print(str(report), highlight=False, soft_wrap=True)

    each(names, take)


@app.command()
def capabilities(
    url: Annotated[str, typer.Argument(help="File, folder or fsspec URL of a leaderboard's ratings")],
    format: Annotated[str, typer.Option(help="lmarena, elo_price, or your own in warehouse/staging/capability")],
    source: Annotated[str | None, typer.Option("--source", help="Name of the leaderboard; default: the format's name")] = None,
    day: Day = None,
) -> None:
    """Bring in a leaderboard's ratings of models, for marts.capability_price. None come with the project."""
    from pipelines.capabilities import ingest_capabilities

    with Shown() as shown:
        report = ingest_capabilities(Settings.load(), source or format, url, format, day_or_today(day), shown)
    console.print(str(report), highlight=False, soft_wrap=True)


@app.command()
def build(tables: Annotated[list[str] | None, typer.Argument(help="marts.call_cost and the like; default: all that are stale, but for those that training and exports build when they need them")] = None) -> None:
    """Build marts and datasets: only the days whose calls or prices have changed."""
    from pipelines.build import build_tables, routine

    with Shown() as shown:
        build_tables(
            Settings.load(), tables or routine(), None, shown, lambda built: console.print(str(built), highlight=False, soft_wrap=True)
        )


@app.command()
def replay(
    source: Annotated[str | None, typer.Argument(help="Name of the source; default: all that have something in quarantine")] = None,
) -> None:
    """Take quarantined records in again from landing, with the selects and contracts as they are now."""
    from pipelines.engine import views
    from pipelines.ingest import REFUSED, ingest_landed

    settings = Settings.load()
    if not settings.views.is_file():
        raise NotConfigured("nothing was ever taken in, so nothing is in quarantine")
    with views(settings) as con:
        held = con.execute(
            f"""
            select source, source_format, landing_file in (
                    select landing_file from core.landing_file where target_table in ('core.inference', 'core.feedback')
                    group by all having sum(kept_count + duplicate_count) = 0 and bool_or({REFUSED})) as is_refused, list(distinct landing_file)
            from core.quarantine where target_table in ('core.inference', 'core.feedback') and ($source is null or source = $source)
            group by all order by 1""",
            {"source": source},
        ).fetchall()
    if not held:
        console.print("nothing of these sources is in quarantine")

    def take(one: tuple[str, str, bool, list[str]]) -> None:
        name, format, is_refused, files = one
        # The format that could read nothing of a file was the wrong one if the settings have another now.
        reading = settings.sources[name].format if is_refused and name in settings.sources else format
        with Shown() as shown:
            reports = ingest_landed(settings, name, reading, shown, only=files)
        for report in reports:
            console.print(str(report), highlight=False, soft_wrap=True)

    each(held, take)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write logs/ and truth/ into")],
    calls: Annotated[int, typer.Option(min=1, help="How many calls")] = 20_000,
    days: Annotated[int, typer.Option(min=1, help="Over how many UTC days")] = 3,
    first_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day; default: so that the last is yesterday")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes")] = 7,
    formats: Annotated[str, typer.Option(help="Comma-separated; default: all")] = "",
    dirt: Annotated[float, typer.Option(min=0, max=1, help="Share of lines to spoil")] = 0.01,
) -> None:
    """Write logs of calls that were never made, in many formats, with a known truth."""
    from pipelines.simulate import FORMATS, simulate

    start = first_day.date() if first_day else datetime.now(UTC).date() - timedelta(days=days)
    with writing(out), Shown() as shown:
        report = simulate(
            out, calls=calls, days=days, first_day=start, seed=seed,
            formats=[f.strip() for f in formats.split(",") if f.strip()] or list(FORMATS), dirt_share=dirt,
            progress=lambda done, of: shown(f"{done:,} of {of:,} calls", done / of),
        )
    console.print(f"{report.calls:,} calls in {report.seconds:.1f} s under {out}", highlight=False)


@app.command()
def run(
    logs: Annotated[str | None, typer.Option(help="File, folder, glob or fsspec URL; default: a simulated sample")] = None,
    format: Format = None,
    once: Annotated[bool, typer.Option(help="Stop Airflow and return when done")] = False,
) -> None:
    """Run the DAGs under Airflow on this machine and print the first answer: what `make run` does."""
    from pipelines import first_run

    raise typer.Exit(first_run.first_run(logs, format, once=once, console=console))
