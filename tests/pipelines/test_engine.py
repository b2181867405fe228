"""DuckDB as one owner has it and lends it."""

from __future__ import annotations

import duckdb
import pytest

from pipelines.engine import MART_MACROS, borrowed, connect
from pipelines.settings import Settings

MADE = "select count(*) from duckdb_schemas() where not internal and schema_name <> 'main'"


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def test_what_a_borrower_makes_is_gone_when_it_is_given_back(settings):
    with connect(settings, MART_MACROS) as con:
        for _ in range(2):
            with borrowed(con) as own:
                own.execute("create schema core; create view core.call as select 1 as n; create view provider as select 1 as n")
                own.execute("create type \"kind of call\" as enum ('a'); create table kept (kind \"kind of call\"); create temp table passing as select 1 as n")
                own.execute("create view over_table as select * from kept")
                assert own.execute("select count(*) from core.call, provider, passing").fetchone() == (1,)
        assert con.execute(MADE).fetchone() == (0,)
        for table in ("core.call", "provider", "kept", "passing", "over_table"):
            with pytest.raises(duckdb.CatalogException):
                con.execute(f"select * from {table}")


def test_it_is_given_back_clean_after_a_failure_too(settings):
    with connect(settings, MART_MACROS) as con:
        with pytest.raises(duckdb.Error), borrowed(con) as own:
            own.execute("create schema core; create table core.call (n int)")
            own.execute("select no such thing")
        assert con.execute(MADE).fetchone() == (0,)


def test_a_borrower_speaks_utc_and_knows_the_macros(settings):
    with connect(settings, MART_MACROS) as con, borrowed(con) as own:
        assert own.execute("select current_setting('timezone')").fetchone() == ("UTC",)
        macros = "select list(distinct function_name order by function_name) from duckdb_functions() where function_type = 'macro' and not internal"
        assert own.execute(macros).fetchone() == con.execute(macros).fetchone()
        assert own.execute(macros).fetchone()[0]
