"""LiteLLM StandardLoggingPayload lines → core.inference rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from tests.support.staging import stage

PAYLOAD = {
    "id": "chatcmpl-9f1",
    "trace_id": "tr-1",
    "call_type": "acompletion",
    "stream": False,
    "response_cost": 0.00459,
    "status": "success",
    "custom_llm_provider": "anthropic",
    "model": "claude-sonnet-5",
    "model_group": "smart",
    "prompt_tokens": 2100,
    "completion_tokens": 210,
    "total_tokens": 2310,
    "startTime": 1795165201.12,
    "endTime": 1795165203.90,
    "completionStartTime": 1795165201.73,
    "cache_hit": False,
    "saved_cache_cost": 0.0,
    "request_tags": ["feature:triage"],
    "end_user": "cust-42",
    "metadata": {"user_api_key_team_id": "t-support"},
    "messages": [{"role": "user", "content": "hi"}],
    "response": {"choices": [{"message": {"content": "ho"}}], "usage": {"prompt_tokens_details": {"cached_tokens": 1800}}},
    "model_parameters": {"temperature": 0.2, "tools": []},
    "error_str": None,
}


def of(line: dict, *names: str) -> tuple:
    (row,) = stage("inference", "litellm", [line])
    return tuple(row[name] for name in names)


def test_documented_payload() -> None:
    (row,) = stage("inference", "litellm", [PAYLOAD])
    expected = {
        "unreadable": None,
        "inference_id": "litellm:chatcmpl-9f1",
        "provider_name": "anthropic",
        "request_model": "smart",
        "response_model": "claude-sonnet-5",
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "output_text_tokens": 210,
        "usage_note": None,
        "started_at": datetime(2026, 11, 20, 9, 0, 1, 120000),
        "first_token_at": datetime(2026, 11, 20, 9, 0, 1, 730000),
        "finished_at": datetime(2026, 11, 20, 9, 0, 3, 900000),
        "status": "ok",
        "team": "t-support",
        "user_id": "cust-42",
        "reported_cost_usd": Decimal("0.00459"),
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("cache_hit", "note"),
    [(True, "gateway_cache_hit"), ("True", "gateway_cache_hit"), ("true", "gateway_cache_hit"), (False, None), ("False", None), (None, None)],
)
def test_served_from_the_gateways_own_cache(cache_hit: object, note: str | None) -> None:
    line = PAYLOAD | {"cache_hit": cache_hit, "response_cost": 0, "saved_cache_cost": 0.004}
    assert of(line, "usage_note", "reported_cost_usd", "cache_read_tokens") == (note, 0, 1800)


USAGES = [
    pytest.param((100, 100, 280), {"completion_tokens_details": {"reasoning_tokens": 80}}, (100, None, None, 100, 80, "reasoning_apart"), id="x.ai"),
    pytest.param(
        (100, 10, 310), {"completion_tokens_details": {"reasoning_tokens": 200}}, (100, None, None, 10, 200, "reasoning_apart"), id="x.ai, more reasoning"
    ),
    pytest.param((100, 100, 200), {"completion_tokens_details": {"reasoning_tokens": 80}}, (100, None, None, 20, 80, None), id="reasoning inside"),
    pytest.param(
        (1000, 10, 1010), {"prompt_tokens_details": {"cached_tokens": 900, "image_tokens": 800}}, (0, 900, 100, 10, None, "input_overlap"), id="cached media"
    ),
    pytest.param((300, 210, 2310), {"cache_read_input_tokens": 1800}, (300, 1800, None, 210, None, "exclusive_emitter"), id="cache apart"),
]
NAMES = ("input_uncached_tokens", "cache_read_tokens", "input_image_tokens", "output_text_tokens", "reasoning_tokens", "usage_note")


@pytest.mark.parametrize(("counts", "usage", "expected"), USAGES)
def test_tokens_are_read_as_everywhere(counts: tuple, usage: dict, expected: tuple) -> None:
    line = PAYLOAD | dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), counts, strict=True)) | {"response": None}
    assert of(line | {"metadata": {"usage_object": usage}}, "unreadable", *NAMES) == (None, *expected)
    assert of(line | {"response": {"usage": usage}}, "unreadable", *NAMES) == (None, *expected)


@pytest.mark.parametrize(
    ("answered", "priced_as", "model", "expected"),
    [
        ("gpt-4o-mini-2024-07-18", ("azure/gpt-4o-mini", {"key": "azure/gpt-4o-mini"}), "chat-prod", "gpt-4o-mini-2024-07-18"),
        # The group and the deployment are names that an admin chose.
        ("gpt-4", ("azure/gpt-4o-mini", {"key": "azure/gpt-4o-mini"}), "chat-prod", "azure/gpt-4o-mini"),
        ("chat-prod", ("azure/gpt-4o-mini", {"key": "azure/gpt-4o-mini"}), "chat-prod", "azure/gpt-4o-mini"),
        (None, ("azure/gpt-4o-mini", {"key": "azure/gpt-4o-mini"}), "chat-prod", "azure/gpt-4o-mini"),
        ("gpt-4", ("azure/chat-prod", None), "chat-prod", "gpt-4"),
        (None, ("azure/chat-prod", None), "chat-prod", "chat-prod"),
        (None, ("", None), "chat-prod", "chat-prod"),
        (None, ("openai/gpt-4o", {"key": "gpt-4o"}), "gpt-4o", "gpt-4o"),
    ],
)
def test_the_model_behind_an_alias(answered: str | None, priced_as: tuple, model: str, expected: str) -> None:
    named = {"model": model, "model_group": "gpt-4", "response": {"model": answered}}
    priced = {"model_map_information": dict(zip(("model_map_key", "model_map_value"), priced_as, strict=True))}
    assert of(PAYLOAD | named | priced, "request_model", "response_model") == ("gpt-4", expected)


@pytest.mark.parametrize(
    ("call_type", "operation"),
    [
        ("acompletion", "chat"),
        ("anthropic_messages", "chat"),
        ("aresponses", "chat"),
        ("aembedding", "embeddings"),
        ("atext_completion", "text_completion"),
        ("agenerate_content_stream", "generate_content"),
        ("aimage_generation", "image_generation"),
        ("image_edit", "image_generation"),
        ("atranscription", "transcription"),
        ("aspeech", "speech"),
        ("amoderation", "moderation"),
        ("arerank", "rerank"),
        (None, None),
    ],
)
def test_operations(call_type: str | None, operation: str | None) -> None:
    assert of(PAYLOAD | {"call_type": call_type}, "operation_name", "record_kind") == (operation, "call")


def test_calls_about_batches_and_files_are_context_unless_they_count_tokens() -> None:
    none = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert of(PAYLOAD | none | {"call_type": "acreate_batch"}, "record_kind") == ("context",)
    assert of(PAYLOAD | none | {"call_type": "afile_content"}, "record_kind") == ("context",)
    assert of(PAYLOAD | none | {"call_type": "aimage_generation"}, "record_kind") == ("call",)
    assert of(PAYLOAD | {"call_type": "aretrieve_batch"}, "record_kind", "service_tier") == ("call", "batch")


def test_a_status_of_zero_is_none() -> None:
    failed = PAYLOAD | {"status": "failure", "error_information": {"error_code": "0", "error_class": "Timeout"}}
    assert of(failed, "status", "http_status", "error_type") == ("error", None, "Timeout")


def test_unreadable_values_are_named() -> None:
    assert of(PAYLOAD | {"prompt_tokens": "many"}, "unreadable") == ("input tokens cannot be read",)
    assert of(PAYLOAD | {"completion_tokens": -1}, "unreadable") == ("a token count below zero",)
    assert of(PAYLOAD | {"startTime": "yesterday"}, "unreadable") == ("startTime cannot be read",)


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({}, True),
        # The rows of its table cut the time to milliseconds.
        ({"startTime": "2026-11-20T09:00:01.120Z"}, True),
        ({"startTime": 1795165999.12}, False),
        ({"prompt_tokens": 7}, False),
        ({"id": "chatcmpl-318"}, False),
    ],
)
def test_an_id_that_ollama_drew_from_999_numbers_is_one_only_with_time_and_tokens(other: dict, is_same: bool) -> None:
    drawn = PAYLOAD | {"id": "chatcmpl-317", "custom_llm_provider": "ollama_chat", "startTime": 1795165201.1204}
    (first,), (second,) = of(drawn, "inference_id"), of(drawn | other, "inference_id")
    assert first.startswith("litellm:chatcmpl-317:1795165201:")
    assert (first == second) is is_same
    assert of(PAYLOAD | {"id": "chatcmpl-317"}, "inference_id") == ("litellm:chatcmpl-317",)


def test_both_formats_of_litellm_give_a_drawn_id_the_same_name() -> None:
    spend = {
        "request_id": "chatcmpl-317",
        "custom_llm_provider": "ollama",
        "startTime": "2026-11-20T09:00:01.120Z",
        "prompt_tokens": 2100,
        "completion_tokens": 210,
    }
    (row,) = stage("inference", "litellm_spend", [spend])
    assert of(PAYLOAD | {"id": "chatcmpl-317", "custom_llm_provider": "ollama", "startTime": 1795165201.1204}, "inference_id") == (row["inference_id"],)
