"""core.inference, its content, costs and prices → marts.context_efficiency."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from tests.support.marts import DAY, call, cost, drawn, seen


def rows(sql: str, calls: list[dict], costs: list[dict] | None = None, content: list[dict] | None = None, prices: list[dict] | None = None) -> list[str]:
    reads = {"core.inference": calls, "marts.call_cost": costs or [], "core.inference_content": content or [], "core.price": prices or []}
    with drawn("marts.context_efficiency", reads) as con:
        return seen(con, sql)


def said(id: str, *messages: str, system: str | None = None, started: dict) -> dict:
    turns = json.dumps([{"role": "user", "content": text} for text in messages])
    return {"inference_id": id, "started_at": started["started_at"], "input_messages": turns, "system_instructions": system, "landing_file": "x"}


def price(id: str, token_class: str, usd_per_mtok: float, above: int = 0) -> dict:
    return {
        "price_id": id, "price_key": id, "feed": "f", "provider_name": "lab", "feed_model": "m", "model_name": "m", "service_tier": "standard",
        "token_class": token_class, "context_above_tokens": above, "unit": "token", "price_usd_per_unit": usd_per_mtok / 1e6,
        "valid_from": datetime(2026, 1, 1), "known_from": datetime(2026, 1, 1), "landing_file": "x",
    }  # fmt: skip


PRICES = [
    price("in", "input_uncached", 3), price("read", "cache_read", 0.3), price("write", "cache_write_5m", 3.75), price("out", "output_text", 15),
    price("in200", "input_uncached", 6, 200_000), price("out200", "output_text", 22.5, 200_000),
]  # fmt: skip


def test_bands_hits_and_answers():
    calls = [
        call("short", input_uncached_tokens=100, output_text_tokens=5, finish_reason="stop"),
        call("edge", input_uncached_tokens=2_000, cache_read_tokens=6_000, output_text_tokens=5, finish_reason="length"),
        call("long", input_uncached_tokens=8_001, output_text_tokens=5),
        call("no usage"), call("failed", status="error"), call("cached by gateway", input_uncached_tokens=9, usage_note="gateway_cache_hit"),
    ]  # fmt: skip
    sql = "select context_above_tokens, call_count, input_tokens, cache_hit_share, whole_answer_count from marts.context_efficiency order by 1"
    assert rows(sql, calls) == ["0 2 8100 0.740741 1", "8000 1 8001 0 1"]


def test_what_caching_saved_and_cost():
    used = {"input_uncached_tokens": 1_000, "cache_read_tokens": 10_000, "cache_write_5m_tokens": 4_000}
    paid = cost("a", usd=0.021, input_uncached_cost_usd=0.003, cache_read_cost_usd=0.003, cache_write_cost_usd=0.015, input_tokens=15_000, price_ids="in,read,write", **used)
    sql = "select cache_saved_usd, cache_write_extra_usd, cache_net_saved_usd, length_surcharge_usd from marts.context_efficiency"
    assert rows(sql, [call("a", **used)], [paid], prices=PRICES) == ["0.027 0.003 0.024 0"]


M = 1_000_000


@pytest.mark.parametrize(("used", "usd", "price_ids", "told"), [
    # Saved, extra, net; USD a million: input 3, cache read 0.3, write 3.75 for 5 minutes and 6 for an hour.
    ({"cache_write_1h_tokens": M}, {"cache_write": 6}, "in,write,write1h", "0 3 -3"),
    ({"cache_write_1h_tokens": M}, {"cache_write": 6}, "in,write1h", "0 3 -3"),
    ({"cache_write_5m_tokens": M, "cache_write_1h_tokens": M}, {"cache_write": 9.75}, "in,write,write1h", "0 3.75 -3.75"),
    ({"cache_read_tokens": M}, {"cache_read": 0}, "in,free", "3 0 3"),
    # Cached input that has no price of its own is charged, and so saves, nothing else.
    ({"cache_read_tokens": M}, {"cache_read": 3}, "in", "0 0 0"),
    # The book has the row of plain input no more: it is what plain input was charged, where there was any.
    ({"input_uncached_tokens": M, "cache_read_tokens": M}, {"input_uncached": 3, "cache_read": 0.3}, "gone,read", "2.7 0 2.7"),
    ({"cache_read_tokens": M}, {"cache_read": 0.3}, "gone,read", "- 0 -"),
    ({"cache_read_tokens": M}, {}, None, "- - -"),
], ids=["an hour", "an hour alone", "both lifetimes", "read for nothing", "no cache price", "price gone", "price gone, no plain input", "unpriced"])  # fmt: skip
def test_every_cached_token_is_judged_by_its_own_price(used: dict, usd: dict, price_ids: str | None, told: str):
    prices = [*PRICES, price("write1h", "cache_write_1h", 6), price("free", "cache_read", 0)]
    costs = {"input_uncached_cost_usd": None} | {f"{name}_cost_usd": value for name, value in usd.items()}
    paid = cost("a", usd=sum(usd.values()) if usd else None, input_tokens=sum(used.values()), price_ids=price_ids, **used, **costs)
    sql = "select cache_saved_usd, cache_write_extra_usd, cache_net_saved_usd from marts.context_efficiency"
    assert rows(sql, [call("a", **used)], [paid], prices=prices) == [told]


def test_surcharge_of_long_context():
    # 250,000 tokens at 6 instead of 3, 1,000 at 22.5 instead of 15.
    calls = [call("a", input_uncached_tokens=250_000, output_text_tokens=1_000)]
    paid = cost("a", usd=1.5225, input_uncached_cost_usd=1.5, output_text_cost_usd=0.0225, input_tokens=250_000, price_ids="in200,out200")
    assert rows("select context_above_tokens, length_surcharge_usd from marts.context_efficiency", calls, [paid], prices=PRICES) == ["200000 0.7575"]


def test_surcharge_of_cache_writes_is_that_of_their_lifetime():
    # Of an hour's 2 USD, half; of five minutes' 0.8 USD, a quarter.
    used = {"cache_write_5m_tokens": 100_000, "cache_write_1h_tokens": 150_000}
    paid = cost("a", usd=2.8, input_uncached_cost_usd=None, cache_write_cost_usd=2.8, cache_write_1h_cost_usd=2, input_tokens=250_000, price_ids="w5,w1", **used)
    prices = [price("b5", "cache_write_5m", 6), price("b1", "cache_write_1h", 6.667), price("w5", "cache_write_5m", 8, 200_000), price("w1", "cache_write_1h", 13.334, 200_000)]
    assert rows("select length_surcharge_usd from marts.context_efficiency", [call("a", **used)], [paid], prices=prices) == ["1.2"]


def test_missed_cache():
    """The second turn sends the first again: half of its text, 4,000 of its 8,000 tokens, billed in full."""
    turns = ["x" * 5_000, "y" * 5_000]
    first = call("a1", "10:00", input_uncached_tokens=4_000)
    second = call("a2", "10:04", input_uncached_tokens=8_000)
    costs = [cost(c["inference_id"], usd=c["input_uncached_tokens"] * 3e-6, input_tokens=c["input_uncached_tokens"], price_ids="in,read") for c in (first, second)]
    content = [said("a1", turns[0], started=first), said("a2", *turns, started=second)]
    sql = "select content_count, repeated_prefix_tokens, cacheable_prefix_tokens, missed_cache_tokens, missed_cache_usd from marts.context_efficiency"
    assert rows(sql, [first, second], costs, content, PRICES) == ["2 4000 4000 4000 0.0108"]


def test_an_id_of_several_days_is_another_call_on_each():
    turns, days = ["x" * 5_000, "y" * 5_000], (DAY, DAY + timedelta(days=1))
    calls = [call(id, clock, day=day, input_uncached_tokens=tokens) for day in days for id, clock, tokens in (("a1", "10:00", 4_000), ("a2", "10:04", 8_000))]
    content = [said(c["inference_id"], *turns[: int(c["inference_id"][1])], started=c) for c in calls]
    with drawn("marts.context_efficiency", {"core.inference": calls, "core.inference_content": content}, days) as con:
        sql = "select content_count, content_input_tokens, repeated_prefix_tokens, missed_cache_tokens from marts.context_efficiency order by usage_day"
        assert seen(con, sql) == ["2 12000 4000 4000"] * 2


def test_a_prefix_ends_where_the_texts_part():
    first, second = call("a1", "10:00", input_uncached_tokens=6_000), call("a2", "10:01", input_uncached_tokens=6_000)
    same, a, b = "x" * 1_000, "a" * 1_000, "b" * 1_000
    sql = "select round(repeated_prefix_tokens / 6000, 2) from marts.context_efficiency"
    # The same third message after another second one is no prefix.
    assert rows(sql, [first, second], content=[said("a1", same, a, same, started=first), said("a2", same, b, same, started=second)]) == ["0.33"]
    # Another system prompt: nothing is shared.
    assert rows(sql, [first, second], content=[said("a1", same, system="1", started=first), said("a2", same, system="2", started=second)]) == ["0"]


def test_what_is_late_short_cached_or_anothers_is_not_missed():
    text = "x" * 8_000
    sql = "select repeated_prefix_tokens, cacheable_prefix_tokens, missed_cache_tokens from marts.context_efficiency order by tenant"
    first = call("a1", "10:00", input_uncached_tokens=2_000)

    def again(clock: str, **other) -> list[str]:
        second = call("a2", clock, **({"input_uncached_tokens": 2_000} | other))
        return rows(sql, [first, second], content=[said("a1", text, started=first), said("a2", text, started=second)])

    assert again("10:05:01") == ["2000 0 0"]
    assert again("10:05") == ["2000 2000 2000"]
    assert again("10:01", input_uncached_tokens=500) == ["500 0 0"]
    assert again("10:01", input_uncached_tokens=100, cache_read_tokens=1_900) == ["2000 2000 100"]
    assert again("10:01", tenant="other") == ["0 0 0", "0 0 0"]


def test_a_moving_cache_mark_is_no_difference():
    first, second = call("a1", "10:00", input_uncached_tokens=3_000), call("a2", "10:01", input_uncached_tokens=3_000)
    plain, marked = ('[{"role":"user","content":[{"type":"text","text":"' + "x" * 900 + '"' + mark + "}]}]" for mark in ("", ',"cache_control":{"type":"ephemeral"}'))
    content = [said("a1", started=first) | {"input_messages": marked}, said("a2", started=second) | {"input_messages": plain}]
    assert rows("select missed_cache_tokens from marts.context_efficiency", [first, second], content=content) == ["3000"]


def test_marginal_value():
    calls = [call("a", input_uncached_tokens=10), call("b", input_uncached_tokens=10, finish_reason="length"), call("c", input_uncached_tokens=9_000)]
    costs = [cost("a", usd=1, input_tokens=10), cost("b", usd=3, input_tokens=10), cost("c", usd=5, input_tokens=9_000)]
    sql = "select context_above_tokens, extra_cost_usd_per_call, extra_whole_answer_share from marts.context_efficiency order by 1"
    assert rows(sql, calls, costs) == ["0 - -", "8000 3 0.5"]
