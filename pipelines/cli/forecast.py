"""`flywheel forecast`: prices, capability, spend, and how good forecasts were."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import console
from pipelines.errors import NotConfigured
from pipelines.settings import Settings

app = typer.Typer(help="Forecasts of prices and spend, with intervals checked against the past.", no_args_is_help=True)
Origin = Annotated[datetime | None, typer.Option("--at", formats=["%Y-%m-%d"], help="Forecast with what was known then; default: all that is known")]


@app.command("price")
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


@app.command("capability")
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


@app.command("spend")
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


@app.command("accuracy")
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


@app.command("misses")
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
