"""core.inference and core.price → marts.call_cost: which price sheet a call is costed by, and what that is called."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.marts import DAY, call, drawn, seen

LATER = "2026-11-25"


def price(model: str, usd_per_mtok: float, since: str = "2026-01-01", known: str | None = None, provider: str = "mistral", condition: str | None = None, **other) -> dict:
    """An input price, undated unless `known` says since when it was listed."""
    id = f"{provider} {model} {condition or ''}".strip()
    return {
        "price_id": id, "price_key": id, "feed": "litellm", "provider_name": provider, "feed_model": f"{provider}/{model}", "model_name": model,
        "service_tier": "standard", "token_class": "input_uncached", "context_above_tokens": 0, "unit": "token", "price_condition": condition,
        "price_usd_per_unit": usd_per_mtok / 1e6, "valid_from": datetime.fromisoformat(since), "known_from": datetime.fromisoformat(known or since),
        "landing_file": "x",
    } | other  # fmt: skip


def costed(prices: list[dict], clock: str = "09:00", **asked: str | None) -> list[str]:
    """Cost and status now and then of one call with a million tokens of input on 2026-11-20."""
    with drawn("marts.call_cost", {"core.inference": [call("a", clock, day=DAY, input_uncached_tokens=1_000_000, **asked)], "core.price": prices}) as con:
        return seen(con, "select list_cost_usd, cost_status, list_cost_then_usd, cost_status_then from marts.call_cost")


FAMILY, OWN = price("mistral-small", 0.1), "mistral-small-2603"


@pytest.mark.parametrize(("prices", "asked", "told"), [
    ([FAMILY, price(OWN, 0.15)], {"request_model": OWN}, "0.15 priced 0.15 priced"),
    # Its own price, first seen later, is nearer than one of its family in force; then the family's was all that was known.
    ([FAMILY, price(OWN, 0.15, LATER)], {"request_model": OWN}, "0.15 estimated 0.1 estimated"),
    ([FAMILY], {"request_model": OWN}, "0.1 estimated 0.1 estimated"),
    ([price("mistral-small", 0.1, LATER)], {"request_model": OWN}, "0.1 estimated - unpriced"),
    # The name that was asked for is no guess, whatever release answered.
    ([FAMILY], {"request_model": "mistral-small", "response_model": OWN}, "0.1 priced 0.1 priced"),
    ([FAMILY, price(OWN, 0.15)], {"request_model": "mistral-small", "response_model": OWN}, "0.15 priced 0.15 priced"),
    # A free release is free even if only its family is listed.
    ([price("mistral-small", 0)], {"request_model": OWN}, "0 free 0 free"),
], ids=["own", "own later", "family", "family later", "asked", "answered", "free"])  # fmt: skip
def test_a_release_is_costed_at_its_own_price_and_at_its_family_s_only_as_an_estimate(prices: list[dict], asked: dict, told: str):
    assert costed(prices, provider_name="mistral", **asked) == [told]


def test_a_price_of_some_hours_goes_before_that_of_all_day():
    """As genai-prices has them: both hold since always, and were first listed after the call."""
    always = {"since": "1970-01-01", "known": LATER, "provider": "deepseek"}
    book = [price("m", 0.15, **always), price("m", 0.3, condition="daily 01:00:00+00:00-04:00:00+00:00", **always)]
    asked = {"provider_name": "deepseek", "request_model": "m"}
    assert costed(book, "02:00", **asked) == ["0.3 priced - unpriced"]
    assert costed(book, "04:00", **asked) == ["0.15 priced - unpriced"]
