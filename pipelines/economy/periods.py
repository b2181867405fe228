"""What marts.spend_variance compares with what."""

from __future__ import annotations

from datetime import date

import duckdb


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make temp table `period`: every month and week in which there was use or just had been, each with the one before.

    The first is left out, as there is nothing before it.
    """
    con.execute("""
        create or replace temp table period as
        with span as (select min(usage_day) as first_day, max(usage_day) as last_day from marts.usage_daily),
        used as (
            select distinct 'month' as period_kind, cast(date_trunc('month', usage_day) as date) as period_day, interval 1 month as length from marts.usage_daily
            union all
            select distinct 'week', cast(date_trunc('week', usage_day) as date), interval 7 day from marts.usage_daily
        ),
        started as (
            select period_kind, period_day, length from used
            union
            select period_kind, cast(period_day + length as date), length from used
        ),
        spanned as (
            select period_kind, period_day, cast(period_day + length as date) as period_to, cast(period_day - length as date) as previous_from, period_day as previous_to
            from started
        )
        select spanned.*, first_day <= previous_from and last_day >= period_to - 1 as is_complete
        from spanned cross join span
        where first_day < previous_to and period_day <= last_day""")


def ask(con: duckdb.DuckDBPyConnection, before: tuple[date, date], after: tuple[date, date]) -> None:
    """Make temp table `period` of one comparison, of two spans of days (first, first after)."""
    con.execute(
        "create or replace temp table period as select 'asked' as period_kind, cast($1 as date) as period_day, cast($2 as date) as period_to, "
        "cast($3 as date) as previous_from, cast($4 as date) as previous_to, true as is_complete",
        [*after, *before],
    )
