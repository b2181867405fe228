"""Forecasts from the warehouse into tables. A run is a function of what was known at its origin; the same origin twice leaves one forecast."""

from __future__ import annotations

import uuid
from datetime import date, datetime

import duckdb
import pandas as pd
import pyarrow as pa

from pipelines import gate
from pipelines.contracts import contract
from pipelines.engine import connect, parquet_list, write
from pipelines.errors import NotConfigured
from pipelines.forecast import capability, price, scenario, spend
from pipelines.forecast.as_known import book_as_known
from pipelines.lake import Lake, Snapshot, storage
from pipelines.settings import ROOT, Settings


@storage("forecast price")
def forecast_price(settings: Settings, origin: datetime | None = None) -> pd.DataFrame:
    """Fill forecasts.price_change at an origin (default: the latest snapshot of any feed) and return its rows."""
    lake = Lake(settings)
    with connect(settings, references=True) as con:
        origin = _quotes(lake, con, origin)
        with book_as_known(con, origin) as past:
            rows = price.forecast(past, origin)
    if not rows.empty:
        _replace(settings, lake, "forecasts.price_change", rows, origin)
    return rows


@storage("forecast capability")
def forecast_capability(settings: Settings, origin: datetime | None = None) -> pd.DataFrame:
    """Fill forecasts.capability_price at an origin (default: the latest snapshot of any feed) and return its rows."""
    lake = Lake(settings)
    if not lake.exists("core.capability"):
        raise NotConfigured("no leaderboard has been brought in, so capability is not known; flywheel capabilities does it")
    with connect(settings, references=True) as con:
        origin = _quotes(lake, con, origin)
        lake.attach(con, "core.capability")
        _, widths = capability.backtest(con, until=origin)
        with book_as_known(con, origin) as past:
            rows = capability.forecast(capability.history(past, origin), origin, widths)
    if not rows.empty:
        _replace(settings, lake, "forecasts.capability_price", rows, origin)
    return rows


@storage("forecast spend")
def forecast_spend(settings: Settings, until: date | None = None, days: int = 91) -> spend.Forecast:
    """Fill forecasts.spend and forecasts.backtest from the days before `until` (default: all there are) and return the forecast."""
    lake = Lake(settings)
    if not lake.exists("marts.usage_daily"):
        raise NotConfigured("marts.usage_daily is not built yet; flywheel build makes it")
    with connect(settings) as con:
        lake.attach(con, "marts.usage_daily")
        found = spend.forecast(spend.read(con, until), days)
    origin = datetime.combine(found.series.end, datetime.min.time())
    _replace(settings, lake, "forecasts.spend", found.rows(), origin)
    explain_misses(settings)
    record = found.record()
    if not record.empty:
        _replace(settings, lake, "forecasts.backtest", record, origin)
    return found


@storage("forecast misses")
def explain_misses(settings: Settings) -> pd.DataFrame:
    """Fill forecasts.miss for the last forecast of spend of which a day has come, and return its rows; none where there is no such forecast."""
    lake = Lake(settings)
    if not lake.exists("forecasts.spend") or not lake.exists("marts.usage_daily"):
        raise NotConfigured("there is no forecast to look back on; flywheel forecast spend makes one")
    with connect(settings) as con:
        for name in ("forecasts.spend", "marts.usage_daily"):
            lake.attach(con, name)
        came = con.execute("select max(usage_day) + 1 from marts.usage_daily where list_cost_usd is not null").fetchall()[0][0]
        origin = con.execute("select max(origin_at) from forecasts.spend where cast(origin_at as date) < $1 and usage_day < $1", [came]).fetchall()[0][0]
        if origin is None:
            return pd.DataFrame()
        until = con.execute("select max(usage_day) + 1 from forecasts.spend where origin_at = $1", [origin]).fetchall()[0][0]
        rows = con.sql((ROOT / "warehouse/forecasts/miss_effects.sql").read_text(), params={"origin_at": origin, "to_day": min(came, until)}).to_arrow_table()
    _replace(settings, lake, "forecasts.miss", rows, origin)
    return rows.to_pandas()


@storage("forecast accuracy")
def record_of_prices(settings: Settings) -> None:
    """Add to forecasts.backtest how forecasts of list prices and of capability did at the monthly origins before the last price list."""
    lake = Lake(settings)
    if not lake.exists("core.price_quote"):
        return
    with connect(settings, references=True) as con:
        last = _quotes(lake, con, None)
        records = [price.record(rows)] if len(rows := price.backtest(con)) else []
        if lake.exists("core.capability"):
            lake.attach(con, "core.capability")
            records += [capability.record(rows)] if len(rows := capability.backtest(con)[0]) else []
    if records:
        _replace(settings, lake, "forecasts.backtest", pd.concat(records, ignore_index=True).assign(origin_at=last), last)


def backtest_record(settings: Settings) -> pd.DataFrame:
    """All of forecasts.backtest. Raises `NotConfigured` where nothing has been forecast yet."""
    lake = Lake(settings)
    if not lake.exists("forecasts.backtest"):
        raise NotConfigured("no forecast has a record yet; flywheel forecast spend makes one")
    with connect(settings) as con:
        lake.attach(con, "forecasts.backtest")
        return con.execute("select * from forecasts.backtest order by all").df()


@storage("forecast scenario")
def what_if(settings: Settings, found: spend.Forecast, text: str) -> scenario.Answer:
    """What a scenario makes of a forecast of spend; nothing is stored."""
    steps, lake = scenario.read(text), Lake(settings)
    with connect(settings, references=True) as con:
        for name in ("marts.usage_daily", "core.price", "marts.demand_elasticity"):
            if lake.exists(name):
                lake.attach(con, name)
        return scenario.apply(steps, scenario.use(con, found.series.keys, found.series.end))


def _quotes(lake: Lake, con: duckdb.DuckDBPyConnection, origin: datetime | None) -> datetime:
    lake.attach(con, "core.price_quote")
    last = con.execute("select max(quoted_at) from core.price_quote").fetchall()[0][0]
    if last is None:
        raise NotConfigured("no price list has been brought in; flywheel prices does it")
    return origin or last


def _replace(settings: Settings, lake: Lake, name: str, rows: pd.DataFrame | pa.Table, origin: datetime) -> None:
    """Put a forecast in place of the one of the same origin; what breaks a promise is not committed."""
    promised = contract(name)
    fresh = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    given = [column for column in promised.names if column in fresh.column_names]

    def attempt(seen: Snapshot) -> None:
        path = settings.scratch / f"{uuid.uuid4().hex}.parquet"
        with connect(settings) as con:
            con.register("fresh", fresh.select(given))
            typed = ", ".join(promised.typed(given))
            select = f"select {typed} from fresh"
            if name == "forecasts.spend":
                # The whole is the exact sum of its parts.
                select = f"""select * replace (coalesce(forecast_usd, sum(forecast_usd) over (partition by usage_day)) as forecast_usd) from ({select})"""
            levels = ", ".join(f"'{level}'" for level in sorted(set(rows["level"]))) if name == "forecasts.backtest" else ""
            if seen.files:
                select += f" union all by name select * from {parquet_list(e.path for e in seen.files)} where origin_at <> timestamp '{origin}'" + (f" or not (level in ({levels}))" if levels else "")
            write(con, path, f"select * from ({select}) order by all")
        gate.audit(settings, promised, [str(path)], batch=f"{origin}")
        lake.commit(seen, [lake.upload(path, name)], seen.files)

    settings.scratch.mkdir(parents=True, exist_ok=True)
    lake.settle(name, attempt)
    lake.publish_views()
