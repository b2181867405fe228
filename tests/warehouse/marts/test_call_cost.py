"""core.inference and core.price → marts.call_cost: which price sheet a call is costed by, and what that is called."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from pipelines.feeds import embedded_genai_prices
from tests.support.marts import DAY, call, drawn, seen
from tests.support.pricebook import connection
from tests.support.staging import stage

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


GPT_4, MINI = price("gpt-4", 30, provider="openai"), price("gpt-4o-mini", 0.15, provider="openai")
ALIASED = {"provider_name": "openai", "request_model": "gpt-4", "response_model": "gpt-4o-mini-2024-07-18"}


@pytest.mark.parametrize(("prices", "asked", "told"), [
    ([GPT_4, MINI], ALIASED, "0.15 estimated"),
    ([GPT_4, price("gpt-4o-mini-2024-07-18", 0.2, provider="openai")], ALIASED, "0.2 priced"),
    # Even of the maker, where the cloud sells what the name stands for elsewhere.
    ([price("gpt-4", 30, provider="azure.ai.openai"), MINI], {**ALIASED, "provider_name": "azure.ai.openai"}, "0.15 estimated"),
    ([GPT_4], ALIASED, "30 estimated"),
    ([GPT_4], {**ALIASED, "response_model": None}, "30 priced"),
    ([GPT_4], {**ALIASED, "response_model": "gpt-4-0613"}, "30 priced"),
], ids=["family", "own", "maker", "as asked", "who answered is not said", "one family"])  # fmt: skip
def test_what_was_asked_for_stands_for_what_answered_only_if_both_are_of_one_family(prices: list[dict], asked: dict, told: str):
    """As LiteLLM logs an alias: `model_group` gpt-4, answered by another model."""
    assert costed(prices, **asked) == [f"{told} {told}"]


def listed(feed_model: str, usd_per_mtok: float, region: str | None = None, model: str = "nova-pro", provider: str = "aws.bedrock") -> dict:
    return price(model, usd_per_mtok, provider=provider) | {"price_id": f"{feed_model} {region}", "price_key": f"{feed_model} {region}", "feed_model": feed_model, "region": region}


PLAIN, US, EU = listed("amazon.nova-pro-v1:0", 1.0), listed("us.amazon.nova-pro-v1:0", 2.0, "us"), listed("eu.amazon.nova-pro-v1:0", 3.0, "eu")
FRANKFURT, WORLD = listed("bedrock/eu-central-1/amazon.nova-pro-v1:0", 4.0, "eu-central-1"), listed("global.amazon.nova-pro-v1:0", 5.0, "global")
ALL = [PLAIN, US, EU, FRANKFURT, WORLD]
PROFILE = "arn:aws:bedrock:eu-west-1:111122223333:inference-profile/eu.amazon.nova-pro-v1:0"


@pytest.mark.parametrize(("prices", "name", "region", "told"), [
    # The place in the name, wherever it says so.
    (ALL, "us.amazon.nova-pro-v1:0", None, "2 priced"),
    (ALL, PROFILE, "eu-central-1", "3 priced"),
    (ALL, "bedrock/global.amazon.nova-pro-v1:0", "eu-central-1", "5 priced"),
    # The call's own place, and the one that it lies in.
    (ALL, "amazon.nova-pro-v1:0", "eu-central-1", "4 priced"),
    ([US, EU], "amazon.nova-pro-v1:0", "eu-west-2", "3 priced"),
    ([PLAIN, US, EU], "nova-pro", "us-west-2", "2 priced"),
    ([listed("apac.amazon.nova-pro-v1:0", 6.0, "apac"), US], "nova-pro", "ap-south-1", "6 priced"),
    ([US, EU], "nova-pro", "us-gov-west-1", "3 estimated"),
    # Anywhere.
    (ALL, "amazon.nova-pro-v1:0", None, "1 priced"),
    ([PLAIN, US, EU], "amazon.nova-pro-v1:0", "eu-west-1", "1 priced"),
    # None fits.
    ([US], "amazon.nova-pro-v1:0", "eu-west-1", "2 estimated"),
    ([US, EU, WORLD], "amazon.nova-pro-v1:0", None, "5 estimated"),
    # A surcharge for a region is for calls that say so, and no name says it.
    ([PLAIN, listed("amazon.nova-pro-v1:0", 7.0, "us")], "amazon.nova-pro-v1:0", "us-east-1", "1 priced"),
    ([PLAIN, listed("amazon.nova-pro-v1:0", 7.0, "us")], "amazon.nova-pro-v1:0", "us", "7 priced"),
])  # fmt: skip
def test_a_price_for_a_place_is_that_of_calls_there(prices: list[dict], name: str, region: str | None, told: str):
    assert costed(prices, provider_name="aws.bedrock", request_model=name, served_region=region) == [f"{told} {told}"]


def test_a_data_zone_of_azure_is_part_of_a_name():
    zones = [listed(f"azure/{zone}gpt-4o", usd, zone[:-1] or None, "gpt-4o", "azure.ai.openai") for zone, usd in (("", 2.5), ("eu/", 2.75))]
    for name, told in {"azure/eu/gpt-4o": "2.75", "eu/gpt-4o": "2.75", "gpt-4o": "2.5", "azure/gpt-4o": "2.5"}.items():
        assert costed(zones, provider_name="azure.ai.openai", request_model=name, served_region="westeurope") == [f"{told} priced {told} priced"], name


def clausal(model: str, usd_per_mtok: float, *names: dict, provider: str = "anthropic") -> dict:
    """As genai-prices lists it: under its own id, with the names that it answers to."""
    return price(model, usd_per_mtok, provider=provider) | {"feed": "genai_prices", "name_clause": json.dumps({"or": names})}


SONNET = clausal("claude-sonnet-4-0", 3, {"starts_with": "claude-sonnet-4-2025"}, {"equals": "claude-sonnet-4@20250514"})


@pytest.mark.parametrize(("prices", "asked", "told"), [
    ([SONNET], {"request_model": "claude-sonnet-4-20250514"}, "3 priced"),
    ([SONNET], {"request_model": "anthropic/Claude-Sonnet-4-20250514"}, "3 priced"),
    ([SONNET], {"request_model": "best", "response_model": "claude-sonnet-4-20250514"}, "3 priced"),
    ([SONNET], {"request_model": "claude-sonnet-4-20250514", "response_model": "claude-x"}, "3 estimated"),
    ([SONNET], {"request_model": "claude-sonnet-5"}, "- unpriced"),
    ([SONNET], {"request_model": "claude-sonnet-4@20250514", "provider_name": "gcp.vertex_ai"}, "3 estimated"),
    # After the very name, before its family.
    ([SONNET, price("claude-sonnet-4-20250514", 4, provider="anthropic")], {"request_model": "claude-sonnet-4-20250514"}, "4 priced"),
    ([SONNET, price("claude-sonnet-4", 5, provider="anthropic")], {"request_model": "claude-sonnet-4-20250514"}, "3 priced"),
    # Two entries of one name: the one that says it is meant.
    ([clausal("claude-opus", 5, {"starts_with": "global."}), clausal("claude-opus", 6, {"starts_with": "us."}) | {"feed_model": "anthropic/regional.claude-opus"}],
        {"request_model": "us.anthropic.claude-opus"}, "6 priced"),
    ([clausal("gpt-5.2", 7, {"equals": "gpt-5.2-2025-12-11"}, provider="openai")], {"request_model": "gpt-5.2-20251211", "provider_name": "openai"}, "7 priced"),
])  # fmt: skip
def test_a_feed_s_own_clause_for_names_counts_after_the_very_name_and_before_its_family(prices: list[dict], asked: dict, told: str):
    assert costed(prices, **({"provider_name": "anthropic"} | asked)) == [f"{told} {told}"]


def test_names_are_read_as_genai_prices_reads_them(tmp_path: Path):
    """Every name that the package has of some providers, and some that it has not: the same model of the same provider."""
    from genai_prices.data import providers

    def whole(clause) -> list[str]:
        return [clause.equals] if hasattr(clause, "equals") else [name for part in getattr(clause, "or_", ()) for name in whole(part)]

    embedded_genai_prices(path := tmp_path / "data.json")
    book, names = [], {}
    for row in stage("price", "genai_prices", [path]):
        if row["token_class"] == "input_uncached" and row["provider_alias"] in SELLERS and row["price_condition"] is None and row["service_tier"] == "standard" and not row["context_above_tokens"]:
            book.append(price("", 0, provider=SELLERS[row["provider_alias"]]) | {
                "price_id": f"{row['feed_model']} {row['valid_from']}", "price_key": row["feed_model"], "feed": "genai_prices", "feed_model": row["feed_model"], "region": row["region"],
                "name_clause": row["price_note"].removeprefix("names "), "price_usd_per_unit": row["price_usd_per_unit"],
                "valid_from": row["valid_from"] or datetime(2026, 1, 1), "valid_to": row["valid_to"],
            })  # fmt: skip
    with connection() as con:
        canonical = dict(con.execute("select name, model_name(name) from (select unnest($1) as name)", [[row["feed_model"] for row in book]]).fetchall())
    for provider in (p for p in providers if p.id in SELLERS):
        told = {name for model in provider.models for name in whole(model.match)} | {*DATED[provider.id]}
        names |= {f"{provider.id} {name}": (SELLERS[provider.id], name, model.id) for name in told if (model := provider.find_model(name)) and f"{provider.id}/{model.id}" in canonical}
    calls = [call(id, day=DAY, provider_name=seller, request_model=name, input_uncached_tokens=1) for id, (seller, name, _) in names.items()]
    with drawn("marts.call_cost", {"core.inference": calls, "core.price": [row | {"model_name": canonical[row["feed_model"]]} for row in book]}) as con:
        found = dict(con.execute("select inference_id, price_ids from marts.call_cost where cost_status <> 'estimated'").fetchall())
    assert len(names) > 300
    assert {id: f"{id.split()[0]}/{model}" for id, (_, _, model) in names.items()} == {id: (found.get(id) or "").split()[0] for id in names}


SELLERS = {"anthropic": "anthropic", "openai": "openai", "x-ai": "x_ai", "google": "gcp.gemini", "mistral": "mistral_ai", "groq": "groq", "aws": "aws.bedrock"}
DATED = {
    "anthropic": ["claude-sonnet-4-20250514", "claude-3-7-sonnet-20250219", "claude-3-opus-20240229", "claude-opus-4-5-20251101", "claude-2.1"],
    "openai": ["gpt-4-0125-preview", "gpt-4-0613", "gpt-4o-2024-08-06", "gpt-5-2025-08-07", "o3-mini-2025-01-31", "gpt-5.2-20251211", "gpt-4-32k-0613"],
    "x-ai": ["grok-3-beta", "grok-4-0709", "grok-2-1212"],
    "google": ["gemini-2.5-pro-preview-05-06", "gemini-2.5-pro-preview-tts", "gemini-2.5-flash-lite-preview-06-17", "gemini-1.5-pro-002"],
    "mistral": ["mistral-large-2411", "codestral-2501", "mistral-large-latest"], "groq": ["llama-3.3-70b-versatile"],
    "aws": ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-3-5-sonnet-20241022-v2:0", "global.anthropic.claude-opus-4-5-20251101-v1:0"],
}  # fmt: skip


def test_a_price_of_some_hours_goes_before_that_of_all_day():
    """As genai-prices has them: both hold since always, and were first listed after the call."""
    always = {"since": "1970-01-01", "known": LATER, "provider": "deepseek"}
    book = [price("m", 0.15, **always), price("m", 0.3, condition="daily 01:00:00+00:00-04:00:00+00:00", **always)]
    asked = {"provider_name": "deepseek", "request_model": "m"}
    assert costed(book, "02:00", **asked) == ["0.3 priced - unpriced"]
    assert costed(book, "04:00", **asked) == ["0.15 priced - unpriced"]
