"""Anthropic Messages logs → core.inference rows."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import pytest

from tests.support.staging import stage
from tests.warehouse.staging.inference.test_openai import EVENTS, STREAMED, sse

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "hello"}],
    "usage": {
        "input_tokens": 300,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1800,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 210,
        "output_tokens_details": {"thinking_tokens": 64},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
        "inference_geo": "eu",
    },
}
REQUEST = {
    "model": "claude-sonnet-5",
    "max_tokens": 100,
    "system": "be kind",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"name": "f"}],
    "metadata": {"user_id": "u1"},
    "stream": True,
}
PAIR = {"timestamp": "2026-11-20T09:00:01Z", "request": REQUEST, "response": MESSAGE}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}, "request_id": "req_1"}


def row(line: object) -> dict:
    (only,) = stage("inference", "anthropic", [line])
    return only


def of(line: object, *names: str) -> list:
    found = row(line)
    return [found[name] for name in names]


def test_the_documented_message_in_a_pair():
    found = row(PAIR)
    content = {
        n: json.loads(found.pop(n))
        for n in ("input_messages", "system_instructions", "tool_definitions", "output_messages", "request_params")
    }
    assert {k: v for k, v in found.items() if v is not None and k != "landing_file"} == {
        "record_kind": "call",
        "inference_id": "anthropic:msg_1",
        "version_at": datetime(2026, 11, 20, 9, 0, 1),
        "operation_name": "chat",
        "provider_name": "anthropic",
        "request_model": "claude-sonnet-5",
        "response_model": "claude-sonnet-5",
        "served_region": "eu",
        "service_tier": "standard",
        "is_streaming": True,
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "output_text_tokens": 146,
        "reasoning_tokens": 64,
        "web_search_requests": 1,
        "started_at": datetime(2026, 11, 20, 9, 0, 1),
        "status": "ok",
        "finish_reason": "end_turn",
        "tool_call_count": 0,
        "user_id": "u1",
    }
    assert content == {
        "input_messages": REQUEST["messages"],
        "system_instructions": "be kind",
        "tool_definitions": REQUEST["tools"],
        "output_messages": MESSAGE,
        "request_params": {"max_tokens": 100},
    }


@pytest.mark.parametrize("key", ["timestamp", "started_at", "start_time", "created_at"])
def test_bare_message_with_a_time_beside_it(key):
    assert of(
        MESSAGE | {key: 1795165201, "duration_ms": 500, "cost_usd": 0.004},
        "inference_id",
        "started_at",
        "finished_at",
        "cache_read_tokens",
        "reported_cost_usd",
    ) == ["anthropic:msg_1", datetime(2026, 11, 20, 9, 0, 1), datetime(2026, 11, 20, 9, 0, 1, 500000), 1800, Decimal("0.004")]


def test_bare_message_without_a_time_has_none():
    assert of(MESSAGE, "inference_id", "started_at", "unreadable") == ["anthropic:msg_1", None, None]


def test_batch_results():
    done = {"custom_id": "a", "timestamp": 1795165201, "result": {"type": "succeeded", "message": MESSAGE}}
    assert of(done, "inference_id", "service_tier", "status", "cache_read_tokens") == ["anthropic:msg_1", "batch", "ok", 1800]
    refused = {
        "custom_id": "b",
        "result": {
            "type": "errored",
            "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "secret"}},
        },
    }
    assert of(refused, "inference_id", "service_tier", "status", "error_type", "input_uncached_tokens") == [
        "anthropic:b",
        "batch",
        "error",
        "invalid_request_error",
        None,
    ]
    assert of({"custom_id": "c", "result": {"type": "expired"}}, "status", "error_type") == ["error", "expired"]
    assert row({"custom_id": "d", "params": {"model": "claude-sonnet-5"}})["record_kind"] == "context"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"response": OVERLOADED, "status_code": 529}, ["anthropic:req_1", "error", 529, "overloaded_error", None]),
        ({"response": OVERLOADED | {"request_id": None}}, [None, "error", None, "overloaded_error", None]),
        ({"response": None, "error": {"type": "timeout"}}, [None, "error", None, "timeout", None]),
        ({"response": None, "error": "my secret prompt"}, [None, "error", None, "error", None]),
    ],
)
def test_failed_calls(change, expected):
    found = row(PAIR | change)
    if expected[0] is None:
        assert found["inference_id"].startswith("anthropic:sha256:")
        expected = [found["inference_id"], *expected[1:]]
    assert [found[n] for n in ("inference_id", "status", "http_status", "error_type", "input_uncached_tokens")] == expected
    assert "secret" not in str({k: v for k, v in found.items() if k != "output_messages"})


def test_cache_writes_tools_and_clouds():
    usage = {
        "input_tokens": 6,
        "cache_creation_input_tokens": 574,
        "cache_read_input_tokens": 0,
        "output_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 74, "ephemeral_1h_input_tokens": 500},
        "speed": "fast",
    }
    content = [{"type": "thinking"}, {"type": "tool_use"}, {"type": "server_tool_use"}]
    message = MESSAGE | {"id": "msg_bdrk_1", "usage": usage, "content": content, "stop_reason": "tool_use"}
    assert of(
        PAIR | {"response": message},
        "provider_name",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "input_uncached_tokens",
        "tool_call_count",
        "finish_reason",
        "service_tier",
    ) == ["bedrock", 74, 500, 6, 2, "tool_use", "fast"]
    assert row(PAIR | {"response": MESSAGE | {"id": "msg_vrtx_1"}})["provider_name"] == "vertex_ai"


def test_request_and_response_kept_as_text():
    line = PAIR | {"request": json.dumps(REQUEST), "response": json.dumps(MESSAGE)}
    assert of(line, "inference_id", "request_model", "cache_read_tokens") == ["anthropic:msg_1", "claude-sonnet-5", 1800]


@pytest.mark.parametrize(
    ("line", "unreadable"),
    [
        (PAIR | {"timestamp": "soon"}, "timestamp cannot be read"),
        (PAIR | {"response": MESSAGE | {"usage": {"input_tokens": "x", "output_tokens": 1}}}, "input tokens cannot be read"),
        (PAIR | {"response": MESSAGE | {"usage": {"input_tokens": 1, "output_tokens": [1]}}}, "output tokens cannot be read"),
        (PAIR | {"response": MESSAGE | {"usage": None}}, None),
    ],
)
def test_a_value_that_is_there_but_cannot_be_read_is_told(line, unreadable):
    assert row(line)["unreadable"] == unreadable


@pytest.mark.parametrize("line", [{"foo": 1}, {}, "[1]", '"x"', {"type": 5}])
def test_a_foreign_line_has_no_id(line):
    assert of(line, "record_kind", "inference_id") == ["call", None]


@pytest.mark.parametrize("response", [EVENTS, sse(EVENTS), json.dumps(EVENTS)], ids=["list", "sse", "text"])
def test_a_stream_reads_like_the_whole_message(response):
    (found,) = stage("inference", "anthropic", [{"timestamp": 1795165201, "request": {"model": "claude-sonnet-5"}, "response": response}])
    assert [found[n] for n in STREAMED] == ["anthropic:msg_1", "claude-sonnet-5", "ok", True, "tool_use", 1, 300, 1800]
    assert found["output_text_tokens"] == 210
    assert json.loads(found["output_messages"])["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "t1", "name": "find", "input": {"a": 1}},
    ]
