"""Calls, costs and prices → exports.focus, and the file written from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipelines.contracts import contract
from pipelines.errors import NotConfigured
from pipelines.focus import export_focus, focus_name
from tests.conftest import World
from tests.support.focus import RULES, breaches
from tests.support.marts import DAY, call, cost, drawn, seen

DISCOUNT = "provider_name,model_name,from_day,until_day,discount_share\n"
COMMITMENT = "commitment_id,commitment_name,provider_name,from_day,until_day,fee_usd_per_day,discount_share\n"


def price(id: str, token_class: str, usd_per_mtok: float) -> dict:
    return {
        "price_id": id, "price_key": f"sku-{id}", "feed": "f", "provider_name": "lab", "feed_model": "m", "model_name": "m", "service_tier": "standard",
        "token_class": token_class, "context_above_tokens": 0, "unit": "token", "price_usd_per_unit": usd_per_mtok / 1e6,
        "valid_from": datetime(2026, 1, 1), "known_from": datetime(2026, 1, 1), "landing_file": "x",
    }  # fmt: skip


PRICES = [price("in", "input_uncached", 3), price("out", "output_text", 15)]


def rows(sql: str, calls: list[dict], discounts: str = "", commitments: str = "", **costs) -> list[str]:
    tokens = [n for n in contract("marts.call_cost").names if n.endswith("_tokens")]
    paid = [cost(c["inference_id"], **({"price_ids": "in,out", "tenant": c.get("tenant")} | {n: c[n] for n in tokens if n in c} | costs)) for c in calls]
    reads = {"core.inference": calls, "marts.call_cost": paid, "core.price": PRICES}
    with drawn("exports.focus", reads, contract_discount=DISCOUNT + discounts, commitment=COMMITMENT + commitments) as con:
        return seen(con, sql)


USED = call("a", input_uncached_tokens=1_000_000, cache_read_tokens=500_000, output_text_tokens=100_000, reasoning_tokens=100_000)
COSTS = "select {} round(list_cost, 9), round(contracted_cost, 9), round(billed_cost, 9), round(effective_cost, 9) from exports.focus order by all"


def test_a_row_for_each_class_at_the_price_it_is_billed_by():
    sql = "select x_token_class, x_price_id, sku_price_id, sku_id, consumed_quantity, pricing_quantity, pricing_unit, list_unit_price, list_cost from exports.focus order by 1"
    assert rows(sql, [USED]) == [
        "cache_read in sku-in lab/m/input_uncached 500000 0.5 1000000 Tokens 3 1.5",
        "input_uncached in sku-in lab/m/input_uncached 1e+06 1 1000000 Tokens 3 3",
        "output_text out sku-out lab/m/output_text 100000 0.1 1000000 Tokens 15 1.5",
        "reasoning out sku-out lab/m/output_text 100000 0.1 1000000 Tokens 15 1.5",
    ]


def test_same_usage_is_one_row():
    calls = [call(str(n), input_uncached_tokens=10, tenant="t" if n < 3 else "u") for n in range(5)]
    assert rows("select sub_account_id, consumed_quantity from exports.focus order by 1", calls) == ["t 30", "u 20"]


def test_unknown_cost_has_no_row():
    assert rows("select * from exports.focus", [USED], cost_status="unpriced", list_cost_usd=None) == []


@pytest.mark.parametrize("price_ids", ["in,gone", "gone"])
def test_usage_at_a_price_that_the_book_does_not_have_is_refused_not_left_out(price_ids):
    with pytest.raises(AssertionError, match="breaks billed_cost_given"):
        rows("select * from exports.focus", [USED], price_ids=price_ids)


def test_a_class_without_a_price_is_no_charge():
    assert rows("select x_token_class, list_cost from exports.focus", [USED | {"web_search_requests": 3}], price_ids="out", cost_status="partial") == [
        "output_text 1.5", "reasoning 1.5",
    ]  # fmt: skip


def test_an_id_that_comes_again_on_another_day_is_another_call():
    """3 USD of text and 1, 2 and 3 of sound, whether the days are built one by one or together."""
    days = [DAY + timedelta(days=n) for n in range(3)]
    calls = [call("a", day=day, input_uncached_tokens=1_000_000, input_audio_tokens=100_000 * n) for n, day in enumerate(days, 1)]
    paid = [cost("a", day=day, price_ids="in,audio", input_uncached_tokens=1_000_000) for day in days]
    reads = {"core.inference": calls, "marts.call_cost": paid, "core.price": [*PRICES, price("audio", "input_audio", 10)]}
    found = []
    for span in ((days[0], days[2]), *((day, day) for day in days)):
        with drawn("exports.focus", reads, days=span, contract_discount=DISCOUNT, commitment=COMMITMENT) as con:
            found.append(seen(con, "select cast(charge_period_start as date), sum(list_cost), sum(consumed_quantity) from exports.focus group by 1 order by 1"))
    assert found[0] == found[1] + found[2] + found[3] == ["2026-11-20 4 1.1e+06", "2026-11-21 5 1.2e+06", "2026-11-22 6 1.3e+06"]


ONE = call("a", input_uncached_tokens=1_000_000)


def test_a_discount_lowers_what_is_contracted_and_billed():
    assert rows(COSTS.format(""), [ONE]) == ["3 3 3 3"]
    assert rows(COSTS.format(""), [ONE], "lab,,2026-01-01,,0.1") == ["3 2.7 2.7 2.7"]
    assert rows(COSTS.format(""), [ONE], "lab,,2026-01-01,,0.1\nlab,m,2026-01-01,,0.2") == ["3 2.4 2.4 2.4"]
    assert rows(COSTS.format(""), [ONE], "lab,,2026-01-01,2026-11-20,0.1\nother,,2026-01-01,,0.5") == ["3 3 3 3"]


def test_a_commitment_covers_what_its_fee_buys():
    """3 USD of usage, 2.70 contracted. A fee of 1.08 at 20 % off covers 1.35 of it, half; the rest is billed."""
    found = rows(COSTS.format("charge_category, commitment_discount_status, consumed_quantity,"), [ONE], "lab,,2026-01-01,,0.1", "c1,Deal,lab,2026-01-01,,1.08,0.2")
    assert found == ["Purchase - - 1.08 1.08 1.08 0", "Usage Used 500000 1.5 1.35 0 1.08", "Usage - 500000 1.5 1.35 1.35 1.35"]


def test_what_is_left_of_a_commitment_is_lost():
    """A fee of 10 at 20 % off covers all 3 USD for 2.40; 7.60 are unused."""
    found = rows(COSTS.format("charge_category, commitment_discount_status,"), [ONE], "", "c1,Deal,lab,2026-01-01,,10,0.2")
    assert found == ["Purchase - 10 10 10 0", "Usage Unused 0 0 0 7.6", "Usage Used 3 3 0 2.4"]


def test_a_commitment_is_paid_on_days_without_usage():
    found = rows(COSTS.format("charge_category, commitment_discount_status,"), [], "", "c1,Deal,lab,2026-01-01,,10,0.2\nc0,Old,lab,2025-01-01,2026-01-01,5,0.2")
    assert found == ["Purchase - 10 10 10 0", "Usage Unused 0 0 0 10"]


@pytest.mark.parametrize(("fees", "found"), [
    # A covers 2 USD of the 3, B the last one for 0.50; what is left of B is lost.
    ({"A": 2, "B": 5}, ["Purchase A - 2 0", "Purchase B - 5 0", "Usage A Used 0 2", "Usage B Unused 0 4.5", "Usage B Used 0 0.5"]),
    # A covers 1 USD and B 1.20; 0.80 are billed.
    ({"A": 1, "B": 0.6}, ["Purchase A - 1 0", "Purchase B - 0.6 0", "Usage A Used 0 1", "Usage B Used 0 0.6", "Usage - - 0.8 0.8"]),
    # A covers all of it.
    ({"A": 4, "B": 5}, ["Purchase A - 4 0", "Purchase B - 5 0", "Usage A Unused 0 1", "Usage A Used 0 3", "Usage B Unused 0 5"]),
])  # fmt: skip
def test_several_commitments_at_a_provider_cover_one_after_the_other(fees, found):
    """None is forgotten: what is billed is all fees and what they do not cover, and what is effective comes to the same."""
    commitments = f"B,Second,lab,2026-01-01,,{fees['B']},0.5\nA,First,lab,2026-01-01,,{fees['A']},0"
    sql = "select charge_category, commitment_discount_id, commitment_discount_status, round(billed_cost, 9), round(effective_cost, 9) from exports.focus order by all"
    assert rows(sql, [ONE], "", commitments) == found
    sums = "select round(sum(billed_cost) - sum(effective_cost), 9), sum(billed_cost) filter (where charge_category = 'Purchase'), sum(consumed_quantity) from exports.focus"
    assert rows(sums, [ONE], "", commitments) == [f"0 {sum(fees.values()):g} 1e+06"]


def test_names():
    assert (focus_name("billed_cost"), focus_name("sku_id"), focus_name("x_model_name")) == ("BilledCost", "SkuId", "x_ModelName")


def test_the_file_keeps_the_rules_of_focus_and_adds_up(world: World, tmp_path: Path):
    report = export_focus(world.settings, str(tmp_path / "out" / "focus.parquet"))
    assert report.rows > 100
    assert breaches(report.url) == {}
    written = world.ask(f"describe select ChargePeriodStart from read_parquet('{report.url}')")
    assert written[0][1] == "TIMESTAMP WITH TIME ZONE", "times are instants in UTC"
    (focus, spend) = world.ask(f"""
        select sum(ListCost) from read_parquet('{report.url}')
        union all select sum(list_cost_usd) from marts.spend_daily""")
    assert float(focus[0]) == pytest.approx(float(spend[0]), rel=1e-9)


def test_a_spoilt_file_is_caught(world: World, tmp_path: Path):
    good = export_focus(world.settings, str(tmp_path / "focus.parquet")).url
    for spoilt in ("'Use' as ChargeCategory", "ListCost + 1 as ListCost", "null::varchar as ProviderName", "'tokens' as PricingUnit", "0::decimal(9,2) as ConsumedQuantity",
                   "replace(SkuPriceDetails, 'x_Model', 'Model') as SkuPriceDetails", "cast(uuid() as varchar) as SkuId", "null::varchar as SkuMeter"):
        bad = tmp_path / "bad.parquet"
        world.ask(f"copy (select * replace ({spoilt}) from read_parquet('{good}')) to '{bad}'")
        assert breaches(str(bad)), spoilt
    assert len(RULES) > 40


def test_csv_and_days(world: World, tmp_path: Path):
    from tests.conftest import FIRST_DAY

    whole = export_focus(world.settings, str(tmp_path / "all.csv"))
    first = export_focus(world.settings, str(tmp_path / "first.csv.gz"), until_day=FIRST_DAY.replace(day=FIRST_DAY.day + 1))
    assert 0 < first.rows < whole.rows
    header, row = [line.split(",") for line in (tmp_path / "all.csv").read_text().splitlines()[:2]]
    assert header[:4] == ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost"]
    assert row[header.index("ChargePeriodStart")] == f"{FIRST_DAY}T00:00:00Z", "FOCUS writes times as ISO 8601 in UTC"
    with pytest.raises(NotConfigured, match="parquet"):
        export_focus(world.settings, str(tmp_path / "focus.xlsx"))
