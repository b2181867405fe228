"""
### Forecasts: prices, capability and spend, with intervals checked against the past

**Reads** `core.price_quote`, `core.capability` and `marts.usage_daily`; runs when `marts` has filled the latter anew.

**Fills** `forecasts.price_change`, `forecasts.capability_price` (where a leaderboard has been brought in), `forecasts.spend`,
`forecasts.backtest` and `forecasts.miss` (the last forecast against the days that have come since). Each forecast stands under its origin: the latest price list, or the day after the last day of calls.

**Re-run** as often as you like: a forecast takes the place of the one of the same origin, and is the same.

**Broken?** The log names what is missing, most often a price list or a ratings file; such a task is skipped and the others run. Too short a
history gives the naive forecast, and the row says so.
"""

from __future__ import annotations

from airflow.sdk import DAG, task
from flywheel_defaults import BUILD_POOL, TASK_DEFAULTS, after, log, skipped_on, table

from pipelines.errors import NotConfigured
from pipelines.settings import Settings

with DAG(
    dag_id="forecasts",
    description="Forecast prices, capability and spend",
    doc_md=__doc__,
    schedule=after("marts.usage_daily"),
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    tags=["learn"],
):

    @task(pool=BUILD_POOL, outlets=[table("forecasts.price_change")])
    def price() -> None:
        from pipelines.forecast.tables import forecast_price

        with skipped_on(NotConfigured):
            log.info("forecasts.price_change: %d rows", len(forecast_price(Settings.load())))

    @task(pool=BUILD_POOL, outlets=[table("forecasts.capability_price")])
    def capability() -> None:
        from pipelines.forecast.tables import forecast_capability

        with skipped_on(NotConfigured):
            log.info("forecasts.capability_price: %d rows", len(forecast_capability(Settings.load())))

    @task(pool=BUILD_POOL, outlets=[table("forecasts.spend"), table("forecasts.backtest"), table("forecasts.miss")])
    def spend() -> None:
        from pipelines.forecast.tables import forecast_spend

        with skipped_on(NotConfigured):
            log.info("forecasts.spend: %d rows", len(forecast_spend(Settings.load()).rows()))

    price()
    capability()
    spend()
