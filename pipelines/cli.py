"""`flywheel`: the same steps as the DAGs, without Airflow."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipelines.errors import FlywheelError, NotConfigured, RetryLater
from pipelines.settings import Feed, Settings, Source

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
explain = typer.Typer(no_args_is_help=True, help="Plain answers from the marts.")
app.add_typer(explain, name="explain")
console = Console()
err = Console(stderr=True)

EXIT_STOP, EXIT_RETRY = 1, 75
"""75 is EX_TEMPFAIL of sysexits.h: trying again later may help."""


class _Shown:
    """A report that shows one line of progress while long work goes on."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), console=err, transient=True
        )
        self._task = self._bars.add_task("starting", total=None)

    def __enter__(self) -> _Shown:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def __call__(self, text: str, share: float | None) -> None:
        self._bars.update(self._task, description=text, total=None if share is None else 1.0, completed=share or 0)


def _settings(url: str | None = None, format: str | None = None, source: str | None = None) -> tuple[Settings, list[str]]:
    """Settings, with a source given on the command line added; and the names of the sources meant."""
    settings = Settings.load()
    if url:
        if not format:
            raise NotConfigured("--format says how to read the logs, for example --format litellm")
        name = source or format
        settings.sources[name] = Source(url=url, format=format)
        return settings, [name]
    if source:
        settings.source(source)
        return settings, [source]
    return settings, sorted(settings.sources)


Url = Annotated[str | None, typer.Argument(help="File, folder, glob or fsspec URL; default: the sources in the settings")]
Format = Annotated[str | None, typer.Option(help="How to read it: a name in warehouse/staging/inference or your own folder")]
SourceName = Annotated[str | None, typer.Option("--source", help="Name of the source; default: the format's name")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC day of arrival; default: today")]


def _day(day: datetime | None) -> date:
    return day.date() if day else datetime.now(UTC).date()


@app.command()
def land(url: Url = None, format: Format = None, source: SourceName = None, day: Day = None) -> None:
    """Copy raw logs into landing, unchanged. Bytes that are there already are not copied again."""
    from pipelines.ingest import land_source

    settings, names = _settings(url, format, source)
    for name in names:
        with _Shown() as shown:
            landed = land_source(settings, name, settings.source(name).url, _day(day), shown)
        console.print(f"{name}: {len(landed)} files, {sum(f.byte_count for f in landed):,} bytes in landing", highlight=False)


@app.command()
def ingest(url: Url = None, format: Format = None, source: SourceName = None, day: Day = None) -> None:
    """Land logs, check them and put them into the warehouse. Doing it twice changes nothing."""
    from pipelines.ingest import ingest_source

    settings, names = _settings(url, format, source)
    if not names:
        raise NotConfigured("no sources: give a URL and --format, or write [sources.<name>] in flywheel.toml")
    for name in names:
        with _Shown() as shown:
            reports = ingest_source(settings, name, _day(day), shown)
        for report in reports:
            console.print(str(report), highlight=False, soft_wrap=True)
            for promise, count in sorted(report.reasons.items()):
                console.print(f"    quarantined by {promise}: {count:,}", highlight=False)


@app.command()
def prices(
    url: Annotated[str | None, typer.Argument(help="Address, file, or folder of dated snapshots; default: the feeds in the settings")] = None,
    format: Annotated[str | None, typer.Option(help="litellm, openrouter, models_dev, genai_prices, or your own")] = None,
    feed: Annotated[str | None, typer.Option(help="Name of the feed; default: the format's name")] = None,
    day: Day = None,
) -> None:
    """Fetch price feeds and write the price book anew. A folder of dated snapshots is brought in whole."""
    from pipelines.prices import ingest_feed

    settings = Settings.load()
    names = [feed] if feed else sorted(settings.feeds)
    if url:
        if not format:
            raise NotConfigured("--format says which feed it is: litellm, openrouter, models_dev or genai_prices")
        names = [feed or format]
        settings.feeds[names[0]] = Feed(url=url, format=format)
    for name in names:
        with _Shown() as shown:
            report = ingest_feed(settings, name, _day(day), shown)
        console.print(str(report), highlight=False, soft_wrap=True)


@app.command()
def capabilities(
    url: Annotated[str, typer.Argument(help="File, folder or fsspec URL of a leaderboard's ratings")],
    format: Annotated[str, typer.Option(help="lmarena, elo_price, or your own in warehouse/staging/capability")],
    source: Annotated[str | None, typer.Option("--source", help="Name of the leaderboard; default: the format's name")] = None,
    day: Day = None,
) -> None:
    """Bring in a leaderboard's ratings of models, for marts.capability_price. None come with the project."""
    from pipelines.capabilities import ingest_capabilities

    with _Shown() as shown:
        report = ingest_capabilities(Settings.load(), source or format, url, format, _day(day), shown)
    console.print(str(report), highlight=False, soft_wrap=True)


@app.command()
def build(tables: Annotated[list[str] | None, typer.Argument(help="marts.call_cost and the like; default: all that are stale, but for those that training and exports build when they need them")] = None) -> None:
    """Build marts and datasets: only the days whose calls or prices have changed."""
    from pipelines.build import build_tables, routine

    with _Shown() as shown:
        build_tables(
            Settings.load(), tables or routine(), None, shown, lambda built: console.print(str(built), highlight=False, soft_wrap=True)
        )


@app.command()
def replay(
    source: Annotated[str | None, typer.Argument(help="Name of the source; default: all that have something in quarantine")] = None,
) -> None:
    """Take quarantined records in again from landing, with the selects and contracts as they are now."""
    from pipelines.engine import views
    from pipelines.ingest import ingest_landed

    settings = Settings.load()
    if not settings.views.is_file():
        raise NotConfigured("nothing was ever taken in, so nothing is in quarantine")
    with views(settings) as con:
        held = con.execute(
            "select source, source_format, list(distinct landing_file) from core.quarantine "
            "where target_table in ('core.inference', 'core.feedback') and ($source is null or source = $source) group by 1, 2 order by 1",
            {"source": source},
        ).fetchall()
    if not held:
        console.print("nothing of these sources is in quarantine")
    for name, format, files in held:
        with _Shown() as shown:
            reports = ingest_landed(settings, name, format, shown, only=files)
        for report in reports:
            console.print(str(report), highlight=False, soft_wrap=True)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One statement; default: read from standard input")] = None,
    output: Annotated[Literal["table", "csv", "json"], typer.Option(help="csv and json (an object a line) are whole; a table is cut at 200 rows")] = "table",
) -> None:
    """Ask the warehouse. Read-only."""
    import duckdb

    from pipelines.answer import table_of
    from pipelines.engine import views

    settings, asked = Settings.load(), (query or sys.stdin.read()).strip().rstrip(";")
    try:
        with views(settings) as con:
            if output != "table":
                con.execute(f"copy ({asked}) to '/dev/stdout' (format {output}{', header' if output == 'csv' else ''})")
                return
            found = con.execute(asked)
            if found.description is None:
                return
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
    with _Shown() as shown:
        report = simulate(
            out, calls=calls, days=days, first_day=start, seed=seed,
            formats=[f.strip() for f in formats.split(",") if f.strip()] or list(FORMATS), dirt_share=dirt,
            progress=lambda done, of: shown(f"{done:,} of {of:,} calls", done / of),
        )
    console.print(f"{report.calls:,} calls in {report.seconds:.1f} s under {out}", highlight=False)


exports = typer.Typer(no_args_is_help=True, help="Write datasets in the formats of those who use them.")
app.add_typer(exports, name="export")


@exports.command("routing")
def export_routing_log(
    to: Annotated[str, typer.Option(help="Folder at any fsspec URL")],
    format: Annotated[str, typer.Option(help="parquet, jsonl, llmrouter, routerbench, routellm or notdiamond")] = "parquet",
) -> None:
    """Write the routing log, or prompts that several models answered, in splits that share no session, trace or prompt."""
    from pipelines.export.routing import export_routing

    console.print(str(export_routing(Settings.load(), format, to)), highlight=False, soft_wrap=True)


@exports.command()
def focus(
    to: Annotated[str, typer.Option(help="Where: any fsspec URL that ends in .parquet, .csv or .csv.gz")],
    from_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First UTC day; default: the first there is")] = None,
    until_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC day before which to end; default: none")] = None,
) -> None:
    """Costs as FinOps FOCUS 1.2 rows, under the standard's own column names."""
    from pipelines.focus import export_focus

    report = export_focus(Settings.load(), to, from_day and from_day.date(), until_day and until_day.date())
    console.print(str(report), highlight=False, soft_wrap=True)


@app.command()
def erase(
    user: Annotated[str | None, typer.Option(help="A user's id as the logs have it, or the pseudonym in core; - reads it from standard input")] = None,
    tenant: Annotated[str | None, typer.Option(help="A tenant")] = None,
    session: Annotated[str | None, typer.Option(help="A session_id")] = None,
    call: Annotated[str | None, typer.Option(help="A call: inference_id")] = None,
) -> None:
    """Erase everything of a user, tenant, session or call, keep it from coming back, and prove it by searching all bytes."""
    from pipelines.erasure.erase import erase

    given = {kind: text for kind, text in (("user", user), ("tenant", tenant), ("session", session), ("call", call)) if text is not None}
    if len(given) != 1:
        raise NotConfigured("give one of --user, --tenant, --session, --call")
    [(kind, text)] = given.items()
    text = sys.stdin.read().strip() if text == "-" else text
    if not text.strip():
        raise NotConfigured(f"--{kind} is empty")
    settings = Settings.load()
    with _Shown() as shown:
        done = erase(settings, kind, text, shown)
    console.print(str(done), highlight=False, soft_wrap=True, markup=False)
    console.print(f"{settings.home}/erasures/{done.erasure_id}.md", highlight=False, soft_wrap=True)
    if not done.is_clean:
        raise typer.Exit(EXIT_STOP)


@app.command()
def maintain() -> None:
    """Finish erasures, carry out retention, compact small files, expire old snapshots, remove orphans."""
    from pipelines.maintenance import maintain

    console.print(str(maintain(Settings.load())), highlight=False)


routing = typer.Typer(help="Routing policies: train, judge, publish, go back.", no_args_is_help=True)
app.add_typer(routing, name="routing")


@routing.command("train")
def routing_train() -> None:
    """Train a policy on the routing log and publish it if it is proven to be better than the one in force."""
    from pipelines.build import build_table
    from pipelines.learn.promotion import train

    settings = Settings.load()
    with _Shown() as shown:
        build_table(settings, "datasets.routing_split", report=shown)
        judged = train(settings, shown)
    console.print(str(judged), highlight=False, soft_wrap=True)
    console.print(f"{judged.folder}/card.md", highlight=False, soft_wrap=True)


@routing.command("evaluate")
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
    cost: Annotated[str | None, typer.Option(help="Column: cost in USD; default: cost_usd where there")] = None,
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


@routing.command("rollback")
def routing_rollback() -> None:
    """Put the champion before the present one back in force."""
    from pipelines.learn.promotion import rollback

    console.print(f"policy {rollback(Settings.load())} is in force again", highlight=False)


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
    console.print(table_of(names, shown, "Calls to look at; expected is the probability of finding an error"))


forecasts = typer.Typer(help="Forecasts of prices and spend, with intervals checked against the past.", no_args_is_help=True)
app.add_typer(forecasts, name="forecast")
Origin = Annotated[datetime | None, typer.Option("--at", formats=["%Y-%m-%d"], help="Forecast with what was known then; default: all that is known")]


@forecasts.command("price")
def forecast_price(at: Origin = None) -> None:
    """How likely each listed model changes its price in 1, 3, 6 and 12 months; the twenty likeliest are shown."""
    from pipelines.answer import table_of
    from pipelines.forecast.tables import forecast_price

    rows = forecast_price(Settings.load(), at)
    if rows.empty:
        console.print("no listed model has a price to forecast", highlight=False)
        return
    likeliest = rows[rows["horizon_months"] == 3].nlargest(20, "change_probability_share")
    shown = {"feed": "feed", "feed_model": "model", "change_probability_share": "change", "feed_probability_share": "list", "constant_probability_share": "all lists", "increase_share": "rise", "is_announced": "announced"}
    told = list(likeliest[list(shown)].round(3).itertuples(index=False, name=None))
    console.print(table_of(list(shown.values()), told, "Probability of a change within 3 months, of this list's models, of all; the point forecast is no change unless announced"))


@forecasts.command("capability")
def forecast_capability(
    model: Annotated[str, typer.Argument(help="Model whose capability is asked for, for example gpt-4-0314")],
    under: Annotated[float | None, typer.Option(help="USD per million tokens (3:1): when will it cost no more?")] = None,
    at: Origin = None,
) -> None:
    """What a capability will cost, and when it passes a given price."""
    from pipelines.answer import table_of
    from pipelines.forecast.capability import passes
    from pipelines.forecast.tables import forecast_capability

    rows = forecast_capability(Settings.load(), at)
    rows = rows[rows["capability_model"] == model] if not rows.empty else rows
    if rows.empty:
        raise NotConfigured(f"there is no price of the capability of {model!r}; flywheel sql \"select distinct capability_model from forecasts.capability_price\"")
    shown = {
        "scale": "scale", "seller_scope": "sellers", "horizon_months": "months", "price_usd_per_mtok": "now", "price_q05_usd_per_mtok": "from", "price_q50_usd_per_mtok": "median",
        "price_q95_usd_per_mtok": "to", "yearly_factor": "times a year", "half_life_days": "half-life, days"}
    told = [tuple(None if v != v else v for v in row) for row in rows[list(shown)].round(4).itertuples(index=False, name=None)]
    console.print(table_of(list(shown.values()), told, f"USD per million tokens to be as capable as {model}, 90 % interval"))
    if under is not None:
        for key, part in rows.groupby(["source", "scale", "seller_scope"]):
            days = passes(part, under)
            console.print(f"{' '.join(key)}: at or under ${under:g} " + ", ".join(f"{word.removesuffix('_day')} {day or 'not within 12 months'}" for word, day in days.items()), highlight=False)


@forecasts.command("spend")
def forecast_spend(
    days: Annotated[int, typer.Option(min=1, max=366, help="Days ahead")] = 91,
    what_if: Annotated[list[str] | None, typer.Option("--what-if", help="price(anthropic) * 0.5, volume(chat) * 1.2, migrate(gpt-4o -> gpt-4o-mini, 30%) or cache_share(chat) = 0.6; several apart by ; or given several times")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="USD of this month: how likely is it exceeded, and when?")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the total as <path>.png and <path>.html")] = None,
    at: Origin = None,
) -> None:
    """What inference will cost a day, by tenant, workload and model, and in all."""
    from pipelines.forecast import fan, scenario
    from pipelines.forecast.tables import forecast_spend
    from pipelines.forecast.tables import what_if as answered

    asked = "; ".join(what_if or [])
    if what_if:
        scenario.read(asked)  # before the work, not after it
    found = forecast_spend(Settings.load(), at and at.date(), days)
    answer = answered(Settings.load(), found, asked) if what_if else None
    rows = found.rows(answer)
    cost = float(rows.loc[rows["level"] == "part", "forecast_usd"].astype(float).sum())
    plain = float(found.total.points[-1, 0].sum())
    console.print(f"{found.series.end} and {days} days on: ${plain:,.2f} expected" + (f"; {asked}: ${cost:,.2f} ({cost - plain:+,.2f})" if answer else ""), highlight=False, soft_wrap=True)
    for note in answer.notes if answer else ():
        console.print(note, highlight=False, soft_wrap=True)
    methods = rows.loc[rows["level"] == "part"].groupby("method")["usage_day"].size() / days
    console.print("forecast by " + ", ".join(f"{name} ({count:.0f} parts)" for name, count in methods.sort_values(ascending=False).items()), highlight=False)
    if budget is not None:
        console.print(str(found.budget(budget)), highlight=False, soft_wrap=True)
        if answer:
            console.print(f"{asked}: {found.budget(budget, answer)}", highlight=False, soft_wrap=True)
    if plot is not None:
        for path in fan.draw_total(found, rows, plot):
            console.print(str(path), highlight=False, soft_wrap=True)


@forecasts.command("accuracy")
def forecast_accuracy(
    to: Annotated[Path, typer.Option(help="Where the page goes; the picture goes beside it as .png")] = Path("accuracy.html"),
    prices: Annotated[bool, typer.Option(help="Backtest list prices and capability anew first; takes minutes for years of lists")] = True,
) -> None:
    """How good forecasts of spend, list prices and capability have been, by lead and method, as a page."""
    from pipelines.forecast import accuracy
    from pipelines.forecast.tables import backtest_record, record_of_prices

    settings = Settings.load()
    if prices:
        record_of_prices(settings)
    record = backtest_record(settings)
    for path in accuracy.write(record, to):
        console.print(str(path), highlight=False, soft_wrap=True)
    for sentence in accuracy.sentences(record[record["origin_at"] == record.groupby("level")["origin_at"].transform("max")]):
        console.print(sentence, highlight=False, soft_wrap=True)


@forecasts.command("misses")
def forecast_misses(rows: Annotated[int, typer.Option(min=1, help="Parts to show")] = 15) -> None:
    """How the last forecast of spend went wrong on the days that have come: price, mix, volume, tokens per call."""
    from pipelines.answer import table_of
    from pipelines.forecast.tables import explain_misses

    found = explain_misses(Settings.load())
    if found.empty:
        raise NotConfigured("no day of a forecast has come yet; flywheel forecast spend --at 2026-11-01 makes one from what was known then")
    causes = {
        "forecast_usd": "forecast", "list_cost_usd": "came", "miss_usd": "miss", "price_effect_usd": "price", "mix_effect_usd": "mix", "volume_effect_usd": "volume",
        "tokens_per_call_effect_usd": "tokens a call", "token_class_effect_usd": "token classes", "unexplained_usd": "unexplained"}
    parts = ["tenant", "workload", "provider_name", "model_name"]
    shown = found.reindex(found["miss_usd"].abs().sort_values(ascending=False).index)[:rows]
    told = [(" / ".join(v for v in key if isinstance(v, str)), *(f"{v:,.2f}" for v in usd)) for key, usd in zip(shown[parts].to_numpy(), shown[list(causes)].to_numpy(), strict=True)]
    told.append(("all parts", *(f"{v:,.2f}" for v in found[list(causes)].sum())))
    console.print(table_of(["part", *causes.values()], told, f"USD from {found['origin_at'].iloc[0]:%Y-%m-%d} to before {found['to_day'].iloc[0]:%Y-%m-%d}, the largest misses of {len(found)}"))


dataset = typer.Typer(help="Fine-tuning datasets: make a version, write it for a trainer, compare two.", no_args_is_help=True)
app.add_typer(dataset, name="dataset")


@dataset.command("build")
def dataset_build(recipe: Annotated[str, typer.Argument(help="A .yml file of your own, or sft, preference, kto, eval, distillation")]) -> None:
    """Make a version of a recipe's dataset and say what each stage kept. The same inputs give the same version."""
    from pipelines.answer import table_of
    from pipelines.finetune.recipe import load
    from pipelines.finetune.versions import build_dataset

    built = build_dataset(Settings.load(), load(recipe))
    names = ("stage", "unit", "before_count", "dropped_count", "kept_count", "reasons")
    console.print(table_of([n.replace("_count", "") for n in names], [tuple(step[n] for n in names) for step in built.funnel]))
    console.print(str(built), highlight=False, soft_wrap=True)


@dataset.command("export")
def dataset_export(
    version: Annotated[str, typer.Argument(help="As `dataset build` said, or from datasets.version")],
    to: Annotated[str, typer.Option(help="Folder at any fsspec URL")],
    format: Annotated[str, typer.Option(help="trl, trl_parquet, openai, axolotl, llamafactory or nemo")] = "trl",
    usd_per_mtok: Annotated[float | None, typer.Option(min=0, help="Price of training, USD a million tokens and epoch, for an estimate")] = None,
    presidio: Annotated[str | None, typer.Option(help="Name or folder of a spaCy model: names of people and places are replaced too (extra `presidio`; slow)")] = None,
) -> None:
    """Write a version as files for a trainer, with card, Croissant metadata and manifest."""
    from pipelines.export.finetune import export_dataset

    console.print(str(export_dataset(Settings.load(), version, format, to, usd_per_mtok, presidio)), highlight=False, soft_wrap=True)


@dataset.command("diff")
def dataset_diff(before: str, after: str) -> None:
    """What two versions of one table do not share, and why."""
    from pipelines.finetune.versions import difference

    for name, value in difference(Settings.load(), before, after).items():
        console.print(f"{name}: {value}", highlight=False)


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
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(page)
    console.print(f"{to}: {page.count('### ')} tables", highlight=False)


@explain.command()
def spend(
    before: Annotated[str, typer.Option("--from", help="Days to compare with: 2026-10-05, 2026-10, 2026-W41 or 2026-10-05..2026-10-11")],
    after: Annotated[str, typer.Option("--to", help="Days to explain, written the same way")],
) -> None:
    """Why list spend changed from one span of days to another: every cause with its figure, nothing left over."""
    from pipelines.economy.explain import explain_spend, span

    console.print(explain_spend(Settings.load(), span(before), span(after)), highlight=False, markup=False, soft_wrap=True)


@app.command()
def run(
    logs: Annotated[str | None, typer.Option(help="File, folder, glob or fsspec URL; default: a simulated sample")] = None,
    format: Format = None,
    once: Annotated[bool, typer.Option(help="Stop Airflow and return when done")] = False,
) -> None:
    """Run the DAGs under Airflow on this machine and print the first answer: what `make run` does."""
    from pipelines import first_run

    raise typer.Exit(first_run.first_run(logs, format, once=once, console=console))


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


if __name__ == "__main__":
    main()
