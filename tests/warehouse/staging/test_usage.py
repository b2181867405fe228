"""with_usage: the usage body of any provider → token classes that do not overlap."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from tests.benchmarks.token_answer_key import KEY, grade

STAGING = Path(__file__).parents[3] / "warehouse" / "staging"


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        for name in ("macros", "usage"):
            con.execute((STAGING / f"{name}.sql").read_text())
        yield con


def read(con, body: object) -> dict:
    """What is said of a body: classes and words that are not null, without the `_tokens`."""
    con.execute("create or replace temp table body as select unnest([$body])::json as usage", {"body": json.dumps(body)})
    used = con.execute("select used from with_usage('body')").fetchone()[0]
    return {name.removesuffix("_tokens"): value for name, value in used.items() if value is not None}


@pytest.mark.skipif(not KEY.exists(), reason=f"shared data not here: {KEY}")
def test_every_real_body_with_an_answer_reads_as_its_own_provider_reads_it():
    graded = grade()
    assert len(graded) > 0
    assert [g for g in graded if g.verdict != "own"] == []
    assert [g for g in graded if g.note and "cannot be read" in g.note] == []


BODIES = {
    "openai chat: cached and reasoning are parts of the whole": (
        {
            "prompt_tokens": 2100,
            "completion_tokens": 210,
            "total_tokens": 2310,
            "prompt_tokens_details": {"cached_tokens": 1800, "cache_write_tokens": 100, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
        },
        {
            "input_uncached": 200,
            "cache_read": 1800,
            "cache_write_5m": 100,
            "input_audio": 0,
            "output_text": 146,
            "reasoning": 64,
            "output_audio": 0,
        },
    ),
    "openai audio": (
        {
            "prompt_tokens": 64,
            "completion_tokens": 30,
            "total_tokens": 94,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 44},
            "completion_tokens_details": {"audio_tokens": 25},
        },
        {"input_uncached": 20, "cache_read": 0, "input_audio": 44, "output_text": 5, "output_audio": 25},
    ),
    "openai responses": (
        {
            "input_tokens": 9703,
            "input_tokens_details": {"cached_tokens": 8576},
            "output_tokens": 638,
            "output_tokens_details": {"reasoning_tokens": 576},
            "total_tokens": 10341,
        },
        {"input_uncached": 1127, "cache_read": 8576, "output_text": 62, "reasoning": 576},
    ),
    "openai realtime: cached audio is a part of both": (
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_token_details": {"audio_tokens": 60, "cached_tokens": 40, "cached_tokens_details": {"audio_tokens": 30}},
            "output_token_details": {"audio_tokens": 45},
        },
        {"input_uncached": 30, "cache_read": 40, "input_audio": 30, "output_text": 5, "output_audio": 45},
    ),
    "embeddings: nothing comes out": ({"prompt_tokens": 4, "total_tokens": 4}, {"input_uncached": 4, "output_text": 0}),
    "anthropic: the cache is apart, writes split by lifetime": (
        {
            "input_tokens": 6,
            "cache_creation_input_tokens": 574,
            "cache_read_input_tokens": 20443,
            "cache_creation": {"ephemeral_5m_input_tokens": 74, "ephemeral_1h_input_tokens": 500},
            "output_tokens": 489,
            "output_tokens_details": {"thinking_tokens": 77},
            "server_tool_use": {"web_search_requests": 2},
            "service_tier": "standard",
            "inference_geo": "eu",
        },
        {
            "input_uncached": 6,
            "cache_read": 20443,
            "cache_write_5m": 74,
            "cache_write_1h": 500,
            "output_text": 412,
            "reasoning": 77,
            "web_search_requests": 2,
            "service_tier": "standard",
            "region": "eu",
        },
    ),
    "anthropic: passes that compacted the conversation are billed and left out": (
        {
            "input_tokens": 23000,
            "cache_creation_input_tokens": 500,
            "cache_read_input_tokens": 700,
            "output_tokens": 1000,
            "iterations": [
                {
                    "type": "compaction",
                    "input_tokens": 180000,
                    "output_tokens": 3500,
                    "cache_read_input_tokens": 40,
                    "cache_creation_input_tokens": 30,
                    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
                },
                {"type": "compaction", "input_tokens": 7, "output_tokens": 1},
                {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
            ],
            "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 100},
        },
        {
            "input_uncached": 203007,
            "cache_read": 740,
            "cache_write_5m": 410,
            "cache_write_1h": 120,
            "output_text": 4501,
            "usage_note": "compaction_in_counts",
        },
    ),
    "anthropic: a conversation that needed no compaction": (
        {"input_tokens": 23000, "output_tokens": 1000, "iterations": [{"type": "message", "input_tokens": 23000, "output_tokens": 1000}]},
        {"input_uncached": 23000, "output_text": 1000},
    ),
    "bedrock converse, either naming": (
        {
            "inputTokens": 3,
            "outputTokens": 288,
            "totalTokens": 2365,
            "cacheReadInputTokenCount": 0,
            "cacheWriteInputTokens": 2074,
            "cacheDetails": [{"inputTokens": 2074, "ttl": "1h"}],
        },
        {"input_uncached": 3, "cache_read": 0, "cache_write_5m": 0, "cache_write_1h": 2074, "output_text": 288},
    ),
    "gemini: thoughts outside candidates": (
        {
            "promptTokenCount": 345,
            "candidatesTokenCount": 70,
            "thoughtsTokenCount": 98,
            "totalTokenCount": 513,
            "cachedContentTokenCount": 191,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 87}, {"modality": "IMAGE", "tokenCount": 258}],
            "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 143}, {"modality": "TEXT", "tokenCount": 48}],
        },
        {"input_uncached": 39, "cache_read": 191, "input_audio": 0, "input_image": 115, "output_text": 70, "reasoning": 98},
    ),
    "gemini: thoughts inside candidates when the total says so": (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 70,
            "thoughtsTokenCount": 50,
            "toolUsePromptTokenCount": 20,
            "totalTokenCount": 100,
        },
        {"input_uncached": 30, "output_text": 20, "reasoning": 50},
    ),
    "gemini: zeros are left out": (
        {"promptTokenCount": 15, "thoughtsTokenCount": 2, "totalTokenCount": 17},
        {"input_uncached": 15, "output_text": 0, "reasoning": 2},
    ),
    "cohere: billed units count": (
        {
            "billed_units": {"input_tokens": 2406, "output_tokens": 2},
            "cached_tokens": 2928,
            "tokens": {"input_tokens": 2935, "output_tokens": 4},
        },
        {"input_uncached": 2406, "output_text": 2},
    ),
    "deepseek": (
        {
            "prompt_tokens": 875,
            "completion_tokens": 79,
            "total_tokens": 954,
            "prompt_cache_hit_tokens": 800,
            "prompt_cache_miss_tokens": 75,
        },
        {"input_uncached": 75, "cache_read": 800, "output_text": 79},
    ),
    "x.ai: reasoning beside completion": (
        {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "completion_tokens_details": {"reasoning_tokens": 94}},
        {"input_uncached": 32, "output_text": 9, "reasoning": 94, "usage_note": "reasoning_apart"},
    ),
    "perplexity deep research": (
        {
            "prompt_tokens": 33,
            "completion_tokens": 7163,
            "total_tokens": 7196,
            "citation_tokens": 20016,
            "num_search_queries": 18,
            "reasoning_tokens": 73997,
            "cost": {"total_cost": 0.95},
        },
        {
            "input_uncached": 33,
            "output_text": 27179,
            "reasoning": 73997,
            "web_search_requests": 18,
            "usage_note": "reasoning_apart,citations_in_output",
        },
    ),
    "openrouter with the user's own key: both bills": (
        {
            "prompt_tokens": 480,
            "completion_tokens": 33,
            "total_tokens": 513,
            "cost": 0.00001,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 0.0002265},
        },
        {"input_uncached": 480, "output_text": 33, "provider": "openrouter"},
    ),
    "an adapter that left the cache out of prompt_tokens": (
        {"prompt_tokens": 300, "completion_tokens": 210, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 0},
        {"input_uncached": 300, "cache_read": 1800, "cache_write_5m": 0, "output_text": 210, "usage_note": "exclusive_emitter"},
    ),
    "a total that nothing explains": (
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        {"input_uncached": 35, "output_text": 12, "usage_note": "total_mismatch"},
    ),
    "ollama": ({"prompt_eval_count": 26, "eval_count": 259}, {"input_uncached": 26, "output_text": 259}),
    "titan": ({"inputTextTokenCount": 5, "results": [{"tokenCount": 27}]}, {"input_uncached": 5, "output_text": 27}),
    "counts as text, whole floats": ({"prompt_tokens": "7", "completion_tokens": 2.0}, {"input_uncached": 7, "output_text": 2}),
    "nothing known": ({}, {}),
    "no counts at all": ({"prompt_tokens": None, "completion_tokens": None}, {}),
}


@pytest.mark.parametrize("name", BODIES)
def test_body_becomes_disjoint_classes(con, name):
    body, expected = BODIES[name]
    ours = read(con, body)
    ours.pop("reported_cost_usd", None)
    assert ours == expected


def test_cost_that_the_body_reports(con):
    cost = {name: read(con, BODIES[name][0]).get("reported_cost_usd") for name in BODIES}
    assert str(cost["perplexity deep research"]) == "0.950000000000"
    assert str(cost["openrouter with the user's own key: both bills"]) == "0.000236500000"
    assert cost["deepseek"] is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"prompt_tokens": "many", "completion_tokens": 1}, "input tokens cannot be read"),
        ({"prompt_tokens": 1, "completion_tokens": {"a": 1}}, "output tokens cannot be read"),
        ({"prompt_tokens": 1.5, "completion_tokens": 1}, "input tokens cannot be read"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": []}, "cache read tokens cannot be read"),
        ({"prompt_tokens": 10**30, "completion_tokens": 1}, "input tokens cannot be read"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": "free"}, "usage cost cannot be read"),
    ],
)
def test_a_count_that_is_no_count_is_told(con, body, word):
    assert read(con, body)["unreadable"] == word


@pytest.mark.parametrize(
    "body", [[], [1], "text", 5, True, {"prompt_tokens_details": 5, "iterations": {}, "promptTokensDetails": "x"}]
)
def test_foreign_shapes_say_nothing_and_break_nothing(con, body):
    assert {name for name in read(con, body) if name != "usage_note"} <= {"unreadable"}


@pytest.mark.parametrize(
    ("logged", "inside"),
    [
        ('{"a":1}', '{"a":1}'),
        ('"{\\"a\\":1}"', '{"a":1}'),
        ('"[1]"', "[1]"),
        ('"duck"', None),
        ('"{broken"', None),
        ("5", None),
        ("null", None),
    ],
)
def test_unwrapped_opens_json_kept_as_text_and_nothing_else(con, logged, inside):
    assert con.execute("select unwrapped(unnest([$logged])::json)", {"logged": logged}).fetchone()[0] == inside


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        (["rate_limit_error", "429"], "rate_limit_error"),
        ([None, "429"], "429"),
        (["You sent: my secret prompt", "invalid_request"], "invalid_request"),
        (["my prompt"], None),
    ],
)
def test_error_class_never_takes_a_message(con, texts, word):
    assert con.execute("select error_class($texts::varchar[])", {"texts": texts}).fetchone()[0] == word
