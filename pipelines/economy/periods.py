"""What marts.spend_variance compares with what."""

from __future__ import annotations

from datetime import date

import duckdb


def prepare(con: duckdb.DuckDBPyConnection, from_day: date, to_day: date) -> None:
    """Make temp table `period`: every month and week that begins on one of these days, each with the one before, where there was use in either.

    A first one is left out, as there is nothing before it, and so is one that has not begun. Whether there was use before or after is looked
    for within a month (31 days), so that a period hangs on its neighbours and not on all that was ever logged: after a longer pause begins anew.
    """
    con.execute(
        """
        create or replace temp table period as
        with day as (select distinct usage_day from marts.usage_daily),
        used as (
            select distinct 'month' as period_kind, cast(date_trunc('month', usage_day) as date) as period_day, interval 1 month as length from day
            union all
            select distinct 'week', cast(date_trunc('week', usage_day) as date), interval 7 day from day
        ),
        started as (
            select period_kind, period_day, length from used
            union
            select period_kind, cast(period_day + length as date), length from used
        ),
        spanned as (
            select period_kind, period_day, cast(period_day + length as date) as period_to, cast(period_day - length as date) as previous_from, period_day as previous_to
            from started
            where period_day >= $1 and period_day < $2
        )
        select
            spanned.*,
            coalesce(bool_or(usage_day between previous_from - 31 and previous_from) and bool_or(usage_day between period_to - 1 and period_to + 30), false) as is_complete
        from spanned join day on usage_day between previous_from - 31 and period_to + 30
        group by all
        having min(usage_day) < previous_to and max(usage_day) >= period_day""",
        [from_day, to_day],
    )


def ask(con: duckdb.DuckDBPyConnection, before: tuple[date, date], after: tuple[date, date]) -> None:
    """Make temp table `period` of one comparison, of two spans of days (first, first after)."""
    con.execute(
        "create or replace temp table period as select 'asked' as period_kind, cast($1 as date) as period_day, cast($2 as date) as period_to, "
        "cast($3 as date) as previous_from, cast($4 as date) as previous_to, true as is_complete",
        [*after, *before],
    )
