"""`flywheel sql`, `status`, `docs`, `dictionary`, `review` and `explain`: what the warehouse holds and what it says."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer
from rich.console import Console

from pipelines.cli.console import console, writing
from pipelines.contracts import literal
from pipelines.errors import NotConfigured
from pipelines.settings import Settings

app = typer.Typer()
explain = typer.Typer(no_args_is_help=True, help="Plain answers from the marts.")
app.add_typer(explain, name="explain")


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One statement; default: read from standard input")] = None,
    output: Annotated[Literal["table", "csv", "json"], typer.Option(help="csv and json (an object a line) are whole; a table is cut at 200 rows")] = "table",
) -> None:
    """Ask the warehouse. Read-only."""
    import duckdb

    from pipelines.answer import table_of
    from pipelines.engine import views

    settings, asked = Settings.load(), sys.stdin.read() if query is None else query
    try:
        with views(settings) as con:
            statements = duckdb.extract_statements(asked)
            if not statements:
                raise NotConfigured("no question was asked; for example: flywheel sql \"select count(*) from core.inference\"")
            if len(statements) > 1:
                raise NotConfigured(f"these are {len(statements)} statements; flywheel sql answers one at a time")
            # Others may write files, or run what does; a pivot is more than one statement to DuckDB.
            if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI):
                raise NotConfigured(f"flywheel sql only reads, and this is no select: {statements[0].type.name}")
            if output != "table":
                found = con.sql(asked)
                # Not straight to /dev/stdout, which would open what stands behind it anew and empty a file that is appended to.
                with TemporaryDirectory() as folder:
                    con.execute(f"copy (from found) to {literal(f'{folder}/answer')} (format {output}{', header' if output == 'csv' else ''})")
                    with Path(folder, "answer").open("rb") as answer:
                        shutil.copyfileobj(answer, sys.stdout.buffer)
                sys.stdout.buffer.flush()
                return
            found = con.execute(asked)
            rows = found.fetchmany(201)
            # Where no terminal bounds it, a row is one line.
            shown = console if console.is_terminal or "COLUMNS" in os.environ else Console(width=10_000)
            shown.print(table_of([d[0] for d in found.description], rows[:200]))
            if len(rows) > 200:
                shown.print("[dim]… more rows; add a limit, or --output csv[/dim]")
    except duckdb.Error as error:
        raise NotConfigured(f"the query does not run: {error}") from error


@app.command()
def status() -> None:
    """What the warehouse holds, whether it agrees with its sources, and what is stale."""
    import duckdb

    from pipelines.answer import table_of
    from pipelines.build import mart_order, stale_days
    from pipelines.contracts import contract, tables
    from pipelines.engine import views
    from pipelines.lake import Lake

    settings = Settings.load()
    lake = Lake(settings)
    rows = []
    for name in tables():
        if lake.exists(name):
            files = lake.snapshot(name).files
            stale = len(stale_days(settings, name)) if name in mart_order() and contract(name).partition else None
            rows.append((name, sum(f.rows for f in files), len(files), stale, contract(name).sentence))
    if not rows:
        console.print(f"nothing in {settings.home} yet; make run, or flywheel ingest, fills it", highlight=False)
        return
    console.print(table_of(["table", "rows", "files", "stale days", "what it is"], rows))
    with views(settings) as con:
        try:
            found = con.execute("select source, target_table, record_count, expected_rows, row_count, row_difference, quarantined_count from marts.reconciliation order by 1, 2")
        except duckdb.CatalogException:
            return
        console.print(table_of([d[0] for d in found.description], found.fetchall(), "Sources against warehouse"))


@app.command()
def docs() -> None:
    """Build Great Expectations' Data Docs of the latest audits and say where they are."""
    from pipelines.gate import data_docs

    console.print(str(data_docs(Settings.load())), highlight=False)


@app.command()
def dictionary(to: Annotated[Path | None, typer.Option(help="File to write; default: standard output")] = None) -> None:
    """Every table and column in words, as one Markdown page made from the contracts."""
    from pipelines.dictionary import dictionary

    page = dictionary()
    if to is None:
        print(page, end="")
        return
    with writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(page)
    console.print(f"{to}: {page.count('### ')} tables", highlight=False)


@app.command()
def review(
    limit: Annotated[int, typer.Option(min=1, help="How many calls")] = 20,
    to: Annotated[Path | None, typer.Option(help="Write them as lines of the `feedback` format, to be filled in and taken in again; default: print")] = None,
    prompts: Annotated[bool, typer.Option("--prompts", help="Also what was asked and answered; it may hold personal data")] = False,
) -> None:
    """Calls that a person should look at, the likeliest errors first (datasets.review_queue).

    In a file written with --to, set each `value` to true or false and leave out what was not looked at; then
    `flywheel ingest FILE --format feedback --source review` takes the answers in, and `flywheel build` counts them.
    """
    from pipelines.answer import table_of
    from pipelines.export.review import queue, write_queue

    settings = Settings.load()
    if to is not None:
        console.print(str(write_queue(settings, to, limit, with_text=prompts)), highlight=False, soft_wrap=True)
        return
    rows, names = queue(settings, limit, with_text=prompts)
    shown = [tuple(round(v, 3) if isinstance(v, float) else v for v in row) for row in rows]
    console.print(table_of(names, shown, "Calls to look at; expected is the probability of finding an error, an answer counts until by"))


@explain.command()
def spend(
    before: Annotated[str, typer.Option("--from", help="Days to compare with: 2026-10-05, 2026-10, 2026-W41 or 2026-10-05..2026-10-11")],
    after: Annotated[str, typer.Option("--to", help="Days to explain, written the same way")],
) -> None:
    """Why list spend changed from one span of days to another: every cause with its figure, nothing left over."""
    from pipelines.economy.explain import explain_spend, span

    console.print(explain_spend(Settings.load(), span(before), span(after)), highlight=False, markup=False, soft_wrap=True)
