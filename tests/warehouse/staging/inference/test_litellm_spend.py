"""LiteLLM SpendLogs rows → core.inference rows."""

from __future__ import annotations

import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.staging import stage

LOGS = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs" / "litellm"

USAGE = {
    "prompt_tokens": 2100,
    "completion_tokens": 210,
    "prompt_tokens_details": {"cached_tokens": 1800},
    "cache_read_input_tokens": 1800,
    "cache_creation_input_tokens": 0,
}
ROW = {
    "request_id": "chatcmpl-9f1",
    "call_type": "acompletion",
    "spend": 0.00459,
    "total_tokens": 2310,
    "prompt_tokens": 2100,
    "completion_tokens": 210,
    "startTime": "2026-11-20T09:00:01.120Z",
    "endTime": "2026-11-20T09:00:03.904Z",
    "completionStartTime": "2026-11-20T09:00:01.730Z",
    "model": "claude-sonnet-5",
    "model_group": "smart",
    "custom_llm_provider": "anthropic",
    "api_base": "https://api.anthropic.com",
    "user": "u1",
    "end_user": "cust-42",
    "team_id": "t-support",
    "organization_id": None,
    "cache_hit": "False",
    "request_tags": ["feature:triage"],
    "session_id": "s-11",
    "status": "success",
    "messages": [{"role": "user", "content": "hi"}],
    "response": {"choices": [{"message": {"role": "assistant", "content": "ho"}, "finish_reason": "stop"}]},
    "metadata": {"usage_object": USAGE},
    "updated_at": "2026-11-20T09:00:04Z",
}
TOKENS = (
    "input_uncached_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_text_tokens",
    "reasoning_tokens",
)


def of(line: object, *names: str) -> tuple:
    (row,) = stage("inference", "litellm_spend", [line])
    return tuple(row[name] for name in names)


def test_documented_row() -> None:
    (row,) = stage("inference", "litellm_spend", [ROW])
    expected = {
        "landing_row": 1,
        "record_kind": "call",
        "unreadable": None,
        "inference_id": "litellm:chatcmpl-9f1",
        "version_at": datetime(2026, 11, 20, 9, 0, 4),
        "provider_name": "anthropic",
        "request_model": "smart",
        "response_model": "claude-sonnet-5",
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "output_text_tokens": 210,
        "started_at": datetime(2026, 11, 20, 9, 0, 1, 120000),
        "first_token_at": datetime(2026, 11, 20, 9, 0, 1, 730000),
        "finished_at": datetime(2026, 11, 20, 9, 0, 3, 904000),
        "status": "ok",
        "finish_reason": "stop",
        "tool_call_count": 0,
        "tenant": "cust-42",
        "team": "t-support",
        "user_id": "cust-42",
        "session_id": "s-11",
        "tags": '["feature:triage"]',
        "reported_cost_usd": Decimal("0.00459"),
        "input_messages": '[{"role":"user","content":"hi"}]',
    }
    assert {name: row[name] for name in expected} == expected


def test_metadata_as_a_string_reads_like_metadata_as_an_object() -> None:
    texts = ROW | {"metadata": json.dumps(ROW["metadata"]), "request_tags": json.dumps(ROW["request_tags"])}
    (one,), (other,) = (stage("inference", "litellm_spend", [row]) for row in (ROW, texts))
    assert {**one, "landing_file": ""} == {**other, "landing_file": ""}


@pytest.mark.parametrize(
    ("prompt", "completion", "usage", "expected", "note"),
    [
        (100, 50, {}, (100, None, None, None, 50, None), None),
        (
            100,
            50,
            {"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": 20}},
            (100, None, None, None, 30, 20),
            None,
        ),
        (
            1000,
            50,
            {
                "cache_creation_input_tokens": 600,
                "prompt_tokens_details": {"cache_creation_token_details": {"ephemeral_1h_input_tokens": 500}},
            },
            (400, None, 100, 500, 50, None),
            None,
        ),
        (300, 50, {"cache_read_input_tokens": 1800}, (300, 1800, None, None, 50, None), "exclusive_emitter"),
        (100, 50, {"completion_tokens_details": {"reasoning_tokens": 70}}, (100, None, None, None, 50, 70), "reasoning_apart"),
        (
            1000,
            10,
            {"prompt_tokens_details": {"cached_tokens": 900, "image_tokens": 800}},
            (0, 900, None, None, 10, None),
            "input_overlap",
        ),
    ],
)
def test_tokens_in_disjoint_classes(prompt: int, completion: int, usage: dict, expected: tuple, note: str | None) -> None:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    assert of(ROW | counts | {"metadata": {"usage_object": usage}}, *TOKENS, "usage_note") == (*expected, note)


def test_the_total_tells_that_reasoning_is_apart() -> None:
    counts = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 280}
    row = ROW | counts | {"metadata": {"usage_object": {"completion_tokens_details": {"reasoning_tokens": 80}}}}
    assert of(row, "output_text_tokens", "reasoning_tokens", "usage_note") == (100, 80, "reasoning_apart")


def test_a_status_of_zero_is_none() -> None:
    assert of(ROW | {"status": "failure", "metadata": {"error_information": {"error_code": "0"}}}, "status", "http_status") == ("error", None)


def test_failed_call_has_no_counts_and_no_message() -> None:
    failed = ROW | {
        "status": "failure",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "spend": 0,
        "response": {},
        "metadata": {"error_information": {"error_code": "429", "error_class": "RateLimitError", "error_message": "secret"}},
    }
    (row,) = stage("inference", "litellm_spend", [failed])
    names = (
        "status",
        "http_status",
        "error_type",
        "input_uncached_tokens",
        "output_text_tokens",
        "tool_call_count",
        "reported_cost_usd",
    )
    assert tuple(row[n] for n in names) == ("error", 429, "RateLimitError", None, None, None, Decimal(0))
    assert "secret" not in str(row)


def test_served_from_the_gateways_own_cache() -> None:
    assert of(ROW | {"cache_hit": "True", "spend": 0}, "usage_note", "reported_cost_usd", "cache_read_tokens") == (
        "gateway_cache_hit",
        0,
        1800,
    )


def test_end_time_repeated_is_no_first_token() -> None:
    assert of(ROW | {"completionStartTime": ROW["endTime"]}, "first_token_at") == (None,)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"prompt_tokens": "many"}, "input tokens cannot be read"),
        ({"startTime": "yesterday"}, "startTime cannot be read"),
        ({"spend": {}}, "spend cannot be read"),
        ({"spend": "free"}, "spend cannot be read"),
        ({"metadata": "{oops"}, "metadata cannot be read"),
    ],
)
def test_unreadable_values_are_named(broken: dict, said: str) -> None:
    assert of(ROW | broken, "unreadable", "inference_id") == (said, "litellm:chatcmpl-9f1")


def test_foreign_lines_and_hostile_ids_do_not_stop_the_file() -> None:
    rows = stage(
        "inference", "litellm_spend", [{}, {"a": 1}, ROW | {"request_id": "a'\"\n;--\u0000"}, ROW | {"model": {"x": [1]}}]
    )
    assert [row["inference_id"] for row in rows] == [None, None, "litellm:a'\"\n;--\x00", "litellm:chatcmpl-9f1"]
    assert {row["record_kind"] for row in rows} == {"call"}


def test_rows_that_are_no_model_call_are_context() -> None:
    none = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for call_type in ("call_mcp_tool", "acreate_batch", "aretrieve_batch", "acreate_file"):
        assert of(ROW | none | {"call_type": call_type}, "record_kind") == ("context",)
    assert of(ROW | none, "record_kind") == ("call",)
    assert of(ROW | none | {"call_type": "atranscription"}, "record_kind", "operation_name") == ("call", "transcription")
    assert of(ROW | {"call_type": "aretrieve_batch"}, "record_kind", "service_tier") == ("call", "batch")


@pytest.mark.parametrize("call_type", ["rerank", "speech", "moderation", "image_generation"])
def test_operations_that_are_no_chat(call_type: str) -> None:
    assert of(ROW | {"call_type": call_type}, "operation_name") == (call_type,)
    assert of(ROW | {"call_type": "a" + call_type}, "operation_name") == (call_type,)


@pytest.mark.parametrize(
    ("response", "map_value", "expected"),
    [
        ({"model": "gpt-4o-mini-2024-07-18"}, {"key": "azure/gpt-4o-mini"}, "gpt-4o-mini-2024-07-18"),
        ({"model": "gpt-4"}, {"key": "azure/gpt-4o-mini"}, "azure/gpt-4o-mini"),
        ({}, {"key": "azure/gpt-4o-mini"}, "azure/gpt-4o-mini"),
        ({}, None, "chat-prod"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_the_model_behind_an_alias(response: dict, map_value: dict | None, expected: str, as_text: bool) -> None:
    metadata = {"usage_object": USAGE, "model_map_information": {"model_map_key": "azure/gpt-4o-mini", "model_map_value": map_value}}
    row = ROW | {"model": "chat-prod", "model_group": "gpt-4", "response": response, "metadata": json.dumps(metadata) if as_text else metadata}
    assert of(row, "unreadable", "request_model", "response_model") == (None, "gpt-4", expected)


def test_real_row() -> None:
    file = LOGS / "logging_callback_gcs_pub_sub_body__spend_logs_payload.json"
    if not file.exists():
        pytest.skip("shared data is not here")
    found = of(json.loads(file.read_text()), "inference_id", "started_at", "reported_cost_usd", *TOKENS)
    assert found == (
        "litellm:chatcmpl-2283081b-dc89-41f6-93e6-d4f914774027",
        datetime(2025, 1, 24, 9, 20, 46, 847371),
        Decimal("0.000225"),
        10,
        None,
        None,
        None,
        20,
        None,
    )
