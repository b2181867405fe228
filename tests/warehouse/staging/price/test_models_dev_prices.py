from __future__ import annotations

from decimal import Decimal

from tests.support.staging import stage


def rows(model: dict) -> list[dict]:
    return stage("price", "models_dev", [{"google": {"id": "google", "models": {"gemini": {"id": "gemini", **model}}}}])


def prices(cost: dict) -> dict[tuple, Decimal]:
    return {
        (r["token_class"], r["service_tier"], r["context_above_tokens"]): r["price_usd_per_unit"] for r in rows({"cost": cost})
    }


def test_prices_are_per_million_tokens():
    assert prices({"input": 1.25, "output": 10, "cache_read": 0.125, "cache_write": 0, "reasoning": 12, "input_audio": 3}) == {
        ("input_uncached", "standard", 0): Decimal("0.00000125"),
        ("output_text", "standard", 0): Decimal("0.00001"),
        ("cache_read", "standard", 0): Decimal("0.000000125"),
        ("cache_write_5m", "standard", 0): Decimal(0),
        ("reasoning", "standard", 0): Decimal("0.000012"),
        ("input_audio", "standard", 0): Decimal("0.000003"),
    }


def test_tiers_go_before_the_older_key_for_the_same_threshold():
    cost = {
        "input": 1.25,
        "tiers": [{"input": 2.5, "tier": {"type": "context", "size": 200000}}],
        "context_over_200k": {"input": 9, "output": 15},
    }
    assert prices(cost) == {
        ("input_uncached", "standard", 0): Decimal("0.00000125"),
        ("input_uncached", "standard", 200_000): Decimal("0.0000025"),
        ("output_text", "standard", 200_000): Decimal("0.000015"),
    }


def test_the_older_key_alone():
    assert prices({"input": 1, "context_over_128k": {"input": 2}})[("input_uncached", "standard", 128_000)] == Decimal("0.000002")


def test_another_mode_is_another_service_tier():
    found = rows({"cost": {"input": 5}, "experimental": {"modes": {"fast": {"cost": {"input": 30}}}}})
    assert {(r["service_tier"], r["price_usd_per_unit"]) for r in found} == {
        ("standard", Decimal("0.000005")),
        ("fast", Decimal("0.00003")),
    }


def test_a_new_key_is_unknown():
    assert list(prices({"smell": 1})) == [("unknown:smell", "standard", 0)]


def test_facts_of_a_model_without_a_price():
    (row,) = rows(
        {
            "limit": {"context": 1048576, "output": 65536},
            "release_date": "2025-03",
            "open_weights": False,
            "modalities": {"output": ["text"]},
        }
    )
    assert (row["feed_model"], row["provider_alias"], row["token_class"], row["mode"]) == (
        "google/gemini",
        "google",
        None,
        "chat",
    )
    assert (row["context_window_tokens"], row["max_output_tokens"]) == (1048576, 65536)
    assert (str(row["release_day"]), row["is_open_weights"]) == ("2025-03-01", False)
