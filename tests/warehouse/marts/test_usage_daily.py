"""Daily use: costed calls in → tokens and cost by class, nothing lost."""

from __future__ import annotations

from tests.support.economy import daily_use
from tests.support.pricebook import drawn


def test_every_name_of_the_ordinary_tier_is_one_and_charged_calls_are_counted():
    con = daily_use(
        {"input_tokens": 10, "list_cost_usd": 1, "service_tier": "default"}, {"input_tokens": 0, "list_cost_usd": 0, "status": "error"},
        {"input_tokens": 10, "list_cost_usd": 1, "service_tier": "Batch", "retry_count": 2}, {"cost_status": "not_billed", "input_tokens": 10, "list_cost_usd": 0},
    )
    assert drawn(con, "select service_tier, cost_status, call_count, error_count, retried_count, charged_count from marts.usage_daily order by all") == [
        "batch priced 1 0 1 1", "standard not_billed 1 0 0 0", "standard priced 2 1 0 1"]


def test_the_simulated_world_adds_up(world):
    [[calls, cost, tokens]] = world.ask("select sum(call_count), sum(list_cost_usd), sum(output_text_tokens) from marts.usage_daily")
    assert [(calls, cost)] == world.ask("select count(*), sum(list_cost_usd) from marts.call_cost")
    assert [(tokens,)] == world.ask("select sum(output_text_tokens) from core.inference")


def test_a_context_band_is_below_the_calls_in_it(world):
    assert world.ask("select count(*) from marts.call_cost where context_above_tokens > 0 and input_tokens <= context_above_tokens") == [(0,)]
    assert world.ask("select count(*) from marts.call_cost where cost_status in ('priced', 'estimated') and context_above_tokens is null") == [(0,)]
