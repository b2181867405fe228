from __future__ import annotations

from decimal import Decimal

from tests.support.staging import stage


def model(pricing: dict, **facts: object) -> dict:
    return {"id": "lab/m", "context_length": 1000, "pricing": pricing, **facts}


def prices(pricing: dict) -> dict[str | None, Decimal | None]:
    return {r["token_class"]: r["price_usd_per_unit"] for r in stage("price", "openrouter", [{"data": [model(pricing)]}])}


def test_every_meter():
    assert prices(
        {
            "prompt": "0.000002", "completion": "0.00001", "request": "0.005", "image": "0.0036", "web_search": "0.01",
            "internal_reasoning": "0.00002", "input_cache_read": "2e-7", "input_cache_write": "0.0000025", "audio": "0.000001",
        }
    ) == {
        "input_uncached": Decimal("0.000002"), "output_text": Decimal("0.00001"), "request": Decimal("0.005"),
        "image_in": Decimal("0.0036"), "web_search": Decimal("0.01"), "reasoning": Decimal("0.00002"),
        "cache_read": Decimal("0.0000002"), "cache_write_5m": Decimal("0.0000025"), "input_audio": Decimal("0.000001"),
    }  # fmt: skip


def test_minus_one_is_no_price_but_the_model_is_kept():
    assert prices({"prompt": "-1", "completion": "-1", "request": "-1", "image": "-1"}) == {None: None}


def test_free_is_a_price_of_zero():
    assert prices({"prompt": "0", "completion": "0"}) == {"input_uncached": Decimal(0), "output_text": Decimal(0)}


def test_a_zero_on_a_meter_that_is_not_used_does_not_make_its_tokens_free():
    assert prices({"prompt": "0.000001", "internal_reasoning": "0", "input_cache_read": "0", "image": "0"}) == {
        "input_uncached": Decimal("0.000001")
    }


def test_a_new_key_is_unknown_and_a_discount_is_no_price():
    assert prices({"prompt": "0.000001", "telepathy": "0.5", "discount": 0.25}) == {
        "input_uncached": Decimal("0.000001"),
        "unknown:telepathy": Decimal("0.5"),
    }


def test_facts_of_the_model():
    facts = {
        "hugging_face_id": "lab/M",
        "architecture": {"modality": "text+image->text"},
        "top_provider": {"max_completion_tokens": 64},
        "expiration_date": "2026-12-01",
        "created": 1742423211,
    }
    (row,) = stage("price", "openrouter", [{"data": [model({"prompt": "0.000001"}, **facts)]}])
    assert (row["feed_model"], row["provider_alias"], row["mode"]) == ("lab/m", "openrouter", "chat")
    assert (row["context_window_tokens"], row["max_output_tokens"], str(row["deprecation_day"])) == (1000, 64, "2026-12-01")
    assert (row["hugging_face_id"], row["is_open_weights"], str(row["listed_day"])) == ("lab/M", True, "2025-03-19")


def test_a_time_of_listing_that_is_none_says_nothing():
    for created in (None, 0, -5, "soon", 10**15):
        (row,) = stage("price", "openrouter", [{"data": [model({"prompt": "0.000001"}, created=created)]}])
        assert row["listed_day"] is None


def test_an_empty_id_of_weights_says_nothing_about_them():
    (row,) = stage("price", "openrouter", [{"data": [model({"prompt": "0.000001"}, hugging_face_id="")]}])
    assert (row["hugging_face_id"], row["is_open_weights"]) == (None, None)
