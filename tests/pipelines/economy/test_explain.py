"""Explain: use of two spans of days in → sentences whose figures sum to the change."""

from __future__ import annotations

import re
from datetime import date

import pytest

from pipelines.economy.explain import Span, _explain, explain_spend, span
from pipelines.errors import NotConfigured
from pipelines.settings import Settings
from tests.support.economy import use, warehouse


@pytest.mark.parametrize(("text", "first", "end"), [
    ("2026-10-05", date(2026, 10, 5), date(2026, 10, 6)),
    ("2026-12", date(2026, 12, 1), date(2027, 1, 1)),
    ("2026-W41", date(2026, 10, 5), date(2026, 10, 12)),
    ("2026-10-05..2026-10-07", date(2026, 10, 5), date(2026, 10, 8)),
])
def test_spans_of_days(text, first, end):
    assert span(text) == Span(first, end)


@pytest.mark.parametrize("text", ["october", "2026-13", "2026-10-07..2026-10-05", "2026-10-05.."])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(NotConfigured):
        span(text)


def test_causes_in_order_with_names_and_figures_that_sum_up():
    told = _explain(
        warehouse([
            use("2026-10-05", call_count=100, input=(1000, 10.0), output=(500, 20.0)),
            use("2026-10-05", "gone", workload="old", input=(1000, 4.0)),
            use("2026-11-05", call_count=300, error_count=10, input=(3000, 15.0), output=(1500, 60.0)),
            use("2026-11-05", cost_status="unpriced", list_cost_usd=None, call_count=7),
        ]),
        span("2026-10"), span("2026-11"),
    )
    assert told.startswith("List spend rose from $34.00 (2026-10-01 to 2026-10-31) to $75.00 (2026-11-01 to 2026-11-30): +$41.00, +120.6%.")
    assert "The spans differ in length, 31 against 30 days" in told
    causes = re.findall(r"^\s*([+-])\$([\d.,]+)  (.*)$", told, re.MULTILINE)
    assert [c[2].split(":")[0] for c in causes] == [
        "number of answered calls", "prices of the same tokens", "charged calls per answered call (failures, retries)", "in all; left over"]
    figures = [float(sign + amount.replace(",", "")) for sign, amount, _ in causes]
    assert sum(figures[:-1]) == pytest.approx(figures[-1], abs=0.02)
    assert "t / w +$" in told
    assert "t / old -$4.00" in told
    # The price of input halved, that of output stayed.
    assert re.search(r"prices of the same tokens: m at openai -\$[\d.]+ \(-\d+\.\d%\)", told)
    assert "left over: nothing" in told
    assert "Calls went from 200 (200 answered) to 307 (297 answered)." in told
    assert "Calls of unknown cost are in none of these figures: 7 of 2026-11-01 to 2026-11-30." in told


def test_no_spend_and_no_warehouse(tmp_path):
    assert "no spend of a known cost" in _explain(warehouse([]), span("2026-10"), span("2026-11"))
    with pytest.raises(NotConfigured, match="flywheel ingest"):
        explain_spend(Settings.load(home=tmp_path), span("2026-10"), span("2026-11"))


def test_two_days_of_the_simulated_world(world):
    told = explain_spend(world.settings, span("2026-10-05"), span("2026-10-06"))
    [[before, after]] = world.ask("""select sum(list_cost_usd) filter (where usage_day = date '2026-10-05'),
        sum(list_cost_usd) filter (where usage_day = date '2026-10-06') from marts.spend_daily""")
    assert f"from ${before:,.4f} (2026-10-05) to ${after:,.4f} (2026-10-06)" in told
    assert "left over: nothing" in told
