"""The first answer, and tables for a terminal of 80 columns."""

from __future__ import annotations

import io
from decimal import Decimal

import duckdb
import pytest
from rich.console import Console

from pipelines.answer import ALTERNATIVES, table_of


def test_names_and_numbers_stay_whole_in_80_columns():
    rows = [
        ("quicksilverpro", "claude-sonnet-5.5", 16_510, 1_113.29, 112.7, Decimal("1238.40"), Decimal("8123.89")),
        ("anthropic", "claude-opus-5.5", 3, 0.5, 0.1, Decimal("0.000012"), None),
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(table_of(["provider", "model", "calls", "input_mtok", "output_mtok", "list_usd", "reported_usd"], rows, headings=lambda n: n.replace("_", " ")))
    shown = console.file.getvalue()
    for word in ("quicksilverpro", "claude-sonnet-5.5", "claude-opus-5.5", "16,510", "1,113.29", "1,238.40", "8,123.89", "0.000012", "reported"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_an_offer_is_what_is_listed_now():
    """Not what is announced for a later day, though nothing ends it, nor nothing because an end is announced."""
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'; create schema core; create schema marts")
        con.execute("create table core.inference as select 'c1' as inference_id, 1000000 as input_uncached_tokens, 0 as cache_read_tokens, 0 as cache_write_5m_tokens, "
                    "0 as cache_write_1h_tokens, 0 as output_text_tokens, 0 as reasoning_tokens")  # fmt: skip
        con.execute("create table marts.call_cost as select 'c1' as inference_id, 'small' as model_name, 'maker' as provider_name, 10.0 as list_cost_usd, 'priced' as cost_status")
        con.execute("""create table core.price as
            select 'small' as model_name, 'seller' as provider_name, 'standard' as service_tier, 'f' as feed, token_class, usd / 1e6 as price_usd_per_unit, null as known_to,
                current_localtimestamp() + from_day * interval 1 day as valid_from, current_localtimestamp() + to_day * interval 1 day as valid_to,
                null as delisted_at, null as price_condition, null as region, 0 as context_above_tokens
            from (values (-9, -2, 3), (-2, 5, 4), (5, null, 2)) as t (from_day, to_day, usd), (values ('input_uncached'), ('output_text')) as c (token_class)""")
        assert con.execute(ALTERNATIVES).fetchall() == [("small", "maker", 10.0, "seller", "standard", pytest.approx(4.0))]
