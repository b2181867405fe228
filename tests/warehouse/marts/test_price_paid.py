"""The price paid: costed calls in → tokens, cost and price by token class; unknown cost dilutes nothing."""

from __future__ import annotations

from tests.support.economy import build, daily_use
from tests.support.pricebook import drawn


def test_both_lifetimes_of_cache_writes_have_their_own_price():
    con = build(daily_use({"cache_write_5m_tokens": 1_000_000, "cache_write_1h_tokens": 500_000, "cache_write_cost_usd": 2.25, "cache_write_1h_cost_usd": 1,
                 "input_uncached_tokens": 0, "output_text_tokens": 100, "output_text_cost_usd": 0.001, "list_cost_usd": 2.251}), "marts.price_paid")
    assert drawn(con, "select token_class, priced_tokens, list_cost_usd::double, price_usd_per_mtok::double from marts.price_paid order by 1") == [
        "cache_write_1h 500000 1.0 2.0", "cache_write_5m 1000000 1.25 1.25", "output_text 100 0.001 10.0"]


def test_tokens_of_unknown_cost_dilute_no_price():
    con = build(daily_use({"output_text_tokens": 100, "output_text_cost_usd": 0.001, "list_cost_usd": 0.001},
                {"output_text_tokens": 900, "cost_status": "unpriced", "context_above_tokens": None},
                {"output_text_tokens": 900, "cost_status": "not_billed", "list_cost_usd": 0}), "marts.price_paid")
    assert drawn(con, "select priced_tokens, price_usd_per_mtok::double from marts.price_paid") == ["100 10.0"]
    assert drawn(con, "select sum(output_text_tokens), sum(call_count) from marts.usage_daily") == ["1900 3"]


def test_the_simulated_world_was_charged_at_list_prices(world):
    assert world.ask("select sum(list_cost_usd) from marts.price_paid") == world.ask(
        "select sum(list_cost_usd) - sum(request_cost_usd) from marts.usage_daily where cost_status <> 'not_billed'")
    # What each model's uncached input cost is what the simulator charged for it.
    off = world.ask("""
        select count(*) from marts.price_paid p where token_class = 'input_uncached' and service_tier = 'standard' and context_above_tokens = 0
            and provider_name = 'openai' and not exists (
                select 1 from core.price q where q.provider_name = p.provider_name and q.model_name = p.model_name and q.token_class = p.token_class
                    and abs(q.price_usd_per_unit * 1000000 - p.price_usd_per_mtok) < 0.000001)""")
    assert off == [(0,)]
