from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.support.staging import stage


def prices(entry: dict | str, model: str = "m") -> dict[tuple, Decimal]:
    """Of one entry: (token_class, service_tier, context_above_tokens, region, price_condition) -> price."""
    text = entry if isinstance(entry, str) else json.dumps(entry)
    rows = stage("price", "litellm", [f"{{{json.dumps(model)}: {text}}}"])
    return {
        (r["token_class"], r["service_tier"], r["context_above_tokens"], r["region"], r["price_condition"]): r[
            "price_usd_per_unit"
        ]
        for r in rows
        if r["token_class"]
    }


@pytest.mark.parametrize(
    ("key", "token_class", "tier", "above"),
    [
        ("input_cost_per_token", "input_uncached", "standard", 0),
        ("output_cost_per_token", "output_text", "standard", 0),
        ("input_cost_per_token_above_128k_tokens", "input_uncached", "standard", 128_000),
        ("input_cost_per_token_above_272k_tokens_flex", "input_uncached", "flex", 272_000),
        ("input_cost_per_token_priority_above_272k_tokens", "input_uncached", "priority", 272_000),
        ("output_cost_per_token_above_200k_tokens_batches", "output_text", "batch", 200_000),
        ("input_cost_per_token_batch_requests", "input_uncached", "batch", 0),
        ("input_cost_per_token_ultrafast", "input_uncached", "ultrafast", 0),
        ("input_cost_per_token_above_7000_tokens", "input_uncached", "standard", 7_000),
        ("cache_read_input_token_cost", "cache_read", "standard", 0),
        ("cache_read_input_token_cost_above_512k_tokens_priority", "cache_read", "priority", 512_000),
        ("input_cost_per_token_cache_hit", "cache_read", "standard", 0),
        ("explicit_cache_read_input_token_cost", "cache_read_explicit", "standard", 0),
        ("cache_creation_input_token_cost", "cache_write_5m", "standard", 0),
        ("cache_creation_input_token_cost_above_1hr", "cache_write_1h", "standard", 0),
        ("cache_creation_input_token_cost_above_12hr", "cache_write_12h", "standard", 0),
        ("cache_creation_input_token_cost_above_1hr_above_200k_tokens", "cache_write_1h", "standard", 200_000),
        ("cache_creation_input_token_cost_above_200k_tokens_above_1hr_batches", "cache_write_1h", "batch", 200_000),
        ("output_cost_per_reasoning_token", "reasoning", "standard", 0),
        ("input_cost_per_audio_token_flex", "input_audio", "flex", 0),
        ("cache_read_input_audio_token_cost", "cache_read_audio", "standard", 0),
        ("output_cost_per_image_token_batches", "output_image", "batch", 0),
        ("citation_cost_per_token", "citation", "standard", 0),
    ],
)
def test_a_token_key_is_read_by_its_grammar(key, token_class, tier, above):
    assert prices({key: 2e-7}) == {(token_class, tier, above, None, None): Decimal("0.0000002")}


@pytest.mark.parametrize(
    ("key", "token_class", "condition"),
    [
        ("output_cost_per_image", "image_out", None),
        ("output_cost_per_image_4K", "image_out", "4K"),
        ("input_cost_per_video_per_second_above_8s_interval", "video_second_in", "above 8s interval"),
        ("output_cost_per_second_1080p", "second_out", "1080p"),
        ("input_cost_per_request", "request", None),
        ("ocr_cost_per_page", "page", None),
        ("code_interpreter_cost_per_session", "code_interpreter", None),
        ("google_maps_grounding_cost_per_query", "maps_grounding", None),
    ],
)
def test_other_meters(key, token_class, condition):
    assert prices({key: 0.5}) == {(token_class, "standard", 0, None, condition): Decimal("0.5")}


@pytest.mark.parametrize("key", ["input_cost_per_token_with_extra_cheese", "tea_cost_per_cup", "input_cost_per_token_above_1hr"])
def test_a_key_nobody_taught_us_comes_out_as_unknown(key):
    assert list(prices({key: 1e-6})) == [(f"unknown:{key}", "standard", 0, None, None)]


@pytest.mark.parametrize("written", ["1.5e-07", "0.00000015", "1.5E-7", "15e-8", '"1.5e-07"'])
def test_a_number_is_exact_however_it_is_written(written):
    assert list(prices(f'{{"input_cost_per_token": {written}}}').values()) == [Decimal("0.00000015")]


def test_a_price_per_thousand_is_brought_to_one():
    assert list(prices({"file_search_cost_per_1k_calls": 2.5}).values()) == [Decimal("0.0025")]


@pytest.mark.parametrize("value", ["see website", None, [], {}, True])
def test_what_is_no_number_is_no_price(value):
    assert prices({"input_cost_per_token": value}) == {}


def test_databricks_units_are_not_dollars():
    assert prices({"input_dbu_cost_per_token": 1e-5, "output_db_cost_per_token": 2e-4, "input_cost_per_token": 7e-7}) == {
        ("input_uncached", "standard", 0, None, None): Decimal("0.0000007")
    }


def test_no_models_and_models_without_a_price():
    rows = stage(
        "price",
        "litellm",
        [
            {
                "sample_spec": {"input_cost_per_token": 0.0},
                "fallback_generalizations": {"input_cost_per_token": 1},
                "m": {"mode": "chat"},
                "n": 3,
            }
        ],
    )
    assert [(r["feed_model"], r["token_class"], r["price_usd_per_unit"]) for r in rows] == [("m", None, None)]


def test_tiered_pricing_gives_one_price_a_tier_and_the_base_where_there_is_none():
    entry = {
        "tiered_pricing": [
            {"range": [0, 32000.0], "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6},
            {"range": [32000.0, 128000.0], "input_cost_per_token": 2e-6},
        ]
    }
    assert prices(entry) == {
        ("input_uncached", "standard", 0, None, None): Decimal("0.000001"),
        ("input_uncached", "standard", 32_000, None, None): Decimal("0.000002"),
        ("output_text", "standard", 0, None, None): Decimal("0.000004"),
    }


def test_a_flat_price_comes_before_the_first_tier():
    entry = {"tiered_pricing": [{"range": [0, 1000], "input_cost_per_token": 9e-6}], "input_cost_per_token": 1e-6}
    assert prices(entry) == {("input_uncached", "standard", 0, None, None): Decimal("0.000001")}


@pytest.mark.parametrize(
    "block",
    [
        {"hours_utc": "16:30-00:30", "input_cost_per_token": 5e-7},
        {"hours_utc": "16:30-00:30", "rates": {"input_cost_per_token": 5e-7}},
    ],
)
def test_off_peak_prices_are_conditional(block):
    assert prices({"input_cost_per_token": 1e-6, "off_peak_pricing": block}) == {
        ("input_uncached", "standard", 0, None, None): Decimal("0.000001"),
        ("input_uncached", "standard", 0, None, "daily 16:30:00+00:00-00:30:00+00:00"): Decimal("0.0000005"),
    }


def test_search_depth_is_a_condition_and_medium_the_default():
    entry = {"search_context_cost_per_query": {"search_context_size_low": 0.03, "search_context_size_medium": 0.035}}
    assert prices(entry) == {
        ("web_search", "standard", 0, None, "search context size low"): Decimal("0.03"),
        ("web_search", "standard", 0, None, None): Decimal("0.035"),
    }


def test_uplifts_price_the_region_and_the_fast_mode_apart():
    entry = {
        "input_cost_per_token": 1e-6,
        "input_cost_per_request": 0.01,
        "regional_processing_uplift_multiplier_eu": 1.1,
        "provider_specific_entry": {"us": 1.2, "fast": 6.0},
    }
    assert prices(entry) == {
        ("input_uncached", "standard", 0, None, None): Decimal("0.000001"),
        ("input_uncached", "standard", 0, "eu", None): Decimal("0.0000011"),
        ("input_uncached", "standard", 0, "us", None): Decimal("0.0000012"),
        ("input_uncached", "fast", 0, None, None): Decimal("0.000006"),
        ("request", "standard", 0, None, None): Decimal("0.01"),
    }


@pytest.mark.parametrize(
    ("model", "region", "condition"),
    [
        ("bedrock/us-east-1/anthropic.claude-v1", "us-east-1", None),
        ("bedrock/us-gov-west-1/anthropic.claude-v1", "us-gov-west-1", None),
        ("bedrock/eu-central-1/6-month-commitment/anthropic.claude-v1", "eu-central-1", "6-month-commitment"),
        ("bedrock/*/1-month-commitment/cohere.command-text-v14", None, "1-month-commitment"),
        ("us.anthropic.claude-3-opus-20240229-v1:0", "us", None),
        ("azure/eu/gpt-4o", "eu", None),
        ("azure/global-standard/gpt-4o", "global", None),
        ("hd/1024-x-1792/dall-e-3", None, "hd 1024-x-1792"),
        ("512-x-512/50-steps/stability.stable-diffusion-xl-v0", None, "512-x-512 50-steps"),
        ("us-west/gpt", None, None),
    ],
)
def test_what_a_key_says_of_region_and_condition(model, region, condition):
    assert list(prices({"input_cost_per_token": 1e-6}, model)) == [("input_uncached", "standard", 0, region, condition)]


def test_a_model_twice_keeps_the_price_that_only_the_first_has():
    text = '{"m": {"cache_read_input_token_cost": 5e-7, "input_cost_per_token": 1e-6}, "m": {"input_cost_per_token": 1e-6}}'
    rows = stage("price", "litellm", [text])
    assert sorted((r["token_class"], r["price_usd_per_unit"], r["price_note"]) for r in rows) == [
        ("cache_read", Decimal("0.0000005"), None),
        ("input_uncached", Decimal("0.000001"), None),
    ]


def test_of_two_values_of_one_price_the_later_wins_and_a_note_says_so():
    (row,) = stage("price", "litellm", ['{"m": {"input_cost_per_token": 3e-6, "mode": "chat", "input_cost_per_token": 1e-6}}'])
    assert row["price_usd_per_unit"] == Decimal("0.000001")
    assert row["price_note"] == "the feed gives this price twice, from 0.000001000000000 to 0.000003000000000"


def test_of_two_names_of_one_price_the_plain_one_is_believed():
    assert prices({"cache_read_input_token_cost": 1e-7, "input_cost_per_token_cache_hit": 2e-7}) == {
        ("cache_read", "standard", 0, None, None): Decimal("0.0000001")
    }


def test_facts_of_the_model():
    (row,) = stage(
        "price",
        "litellm",
        [
            {
                "m": {
                    "litellm_provider": "openai",
                    "mode": ["chat", "completion"],
                    "max_tokens": 4096,
                    "max_input_tokens": 128000,
                    "max_output_tokens": "see docs",
                    "deprecation_date": "2025-07-01",
                }
            }
        ],
    )
    assert {name: row[name] for name in ("provider_alias", "mode", "context_window_tokens", "max_output_tokens")} == {
        "provider_alias": "openai",
        "mode": "chat",
        "context_window_tokens": 128000,
        "max_output_tokens": None,
    }
    assert str(row["deprecation_day"]) == "2025-07-01"


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gpt-4-0613", "openai"), ("claude-2", "anthropic"), ("command-nightly", "cohere"), ("chat-bison-001", "palm"),
     ("together-ai-3.1b-7b", "together_ai"), ("replicate/llama-2-70b-chat:2c16", "replicate"), ("mystery", None)],
)  # fmt: skip
def test_the_entries_of_2023_name_no_provider(model, provider):
    (row,) = stage("price", "litellm", [{model: {"input_cost_per_token": 1e-6}}])
    assert row["provider_alias"] == provider
