"""Helicone request exports → core.inference rows."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import pytest

from tests.support.staging import stage

EXPORT = {
    "request_id": "r-1",
    "request_created_at": "2026-11-20T09:00:01Z",
    "response_created_at": "2026-11-20T09:00:03Z",
    "response_status": 200,
    "provider": "OPENAI",
    "model": "gpt-5.6-luna",
    "prompt_tokens": 2100,
    "prompt_cache_read_tokens": 1800,
    "prompt_cache_write_tokens": 0,
    "completion_tokens": 210,
    "total_tokens": 2310,
    "delay_ms": 2784,
    "time_to_first_token": 610,
    "costUSD": 0.000348,
    "feedback_rating": True,
    "feedback_created_at": "2026-11-20T09:05:00Z",
    "properties": {"Helicone-Session-Id": "s-11", "tenant": "acme"},
    "country_code": "DE",
    "request_user_id": "u1",
    "request_body": {"messages": [{"role": "user", "content": "hi"}], "stream": True},
    "response_body": {"choices": []},
}


def row(line: object) -> dict:
    (only,) = stage("inference", "helicone", [line])
    return only


def of(line: object, *names: str) -> list:
    found = row(line)
    return [found[name] for name in names]


def test_the_documented_row():
    assert {k: v for k, v in row(EXPORT).items() if v is not None and k != "landing_file"} == {
        "record_kind": "call",
        "inference_id": "helicone:r-1",
        "version_at": datetime(2026, 11, 20, 9, 0, 3, 784000),
        "operation_name": "chat",
        "provider_name": "openai",
        "request_model": "gpt-5.6-luna",
        "response_model": "gpt-5.6-luna",
        "is_streaming": True,
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "cache_write_5m_tokens": 0,
        "output_text_tokens": 210,
        "started_at": datetime(2026, 11, 20, 9, 0, 1),
        "first_token_at": datetime(2026, 11, 20, 9, 0, 1, 610000),
        "finished_at": datetime(2026, 11, 20, 9, 0, 3, 784000),
        "status": "ok",
        "http_status": 200,
        "tool_call_count": 0,
        "tenant": "acme",
        "user_id": "u1",
        "session_id": "s-11",
        "tags": '{"Helicone-Session-Id":"s-11","tenant":"acme"}',
        "reported_cost_usd": Decimal("0.000348"),
        "input_messages": '[{"role":"user","content":"hi"}]',
        "output_messages": '{"choices":[]}',
    }


@pytest.mark.parametrize(
    ("change", "uncached", "note"),
    [
        ({"provider": "ANTHROPIC", "prompt_tokens": 300}, 300, None),
        ({"provider": "ANTHROPIC", "prompt_tokens": 5000, "total_tokens": 5210}, 5000, None),
        ({"provider": "OPENAI"}, 300, None),
        ({"provider": "OPENAI", "prompt_tokens": 300, "total_tokens": 510}, 300, "exclusive_emitter"),
        ({"provider": "OPENAI", "prompt_tokens": 5000, "total_tokens": 7010}, 5000, "exclusive_emitter"),
        ({"provider": "OPENAI", "prompt_cache_read_tokens": None, "prompt_cache_write_tokens": None}, 2100, None),
    ],
)
def test_columns_hold_the_cache_or_not_by_provider_and_by_row(change, uncached, note):
    assert of(EXPORT | change, "input_uncached_tokens", "usage_note") == [uncached, note]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prompt_tokens": 2000, "completion_tokens": 100, "reasoning_tokens": 50, "total_tokens": 2150}, [2000, 1800, 100, 50, None]),
        ({"provider": "X", "prompt_tokens": 300, "completion_tokens": 9, "reasoning_tokens": 94, "total_tokens": 403}, [300, 1800, 9, 94, None]),
        ({"prompt_tokens": 2100, "reasoning_tokens": 0}, [300, 1800, 210, 0, None]),
        ({"provider": "ANTHROPIC", "prompt_tokens": 300, "reasoning_tokens": 0, "total_tokens": 510}, [300, 1800, 210, None, None]),
        ({"completion_tokens": "many", "reasoning_tokens": 50}, [2100, 1800, None, 50, "output tokens cannot be read"]),
    ],
)
def test_a_row_that_counts_reasoning_keeps_cache_and_reasoning_apart(change, expected):
    names = ("input_uncached_tokens", "cache_read_tokens", "output_text_tokens", "reasoning_tokens", "unreadable")
    assert of(EXPORT | change, *names) == expected


@pytest.mark.parametrize(
    ("change", "cost"),
    [
        ({"costUSD": None, "cost": 0.00875}, Decimal("0.00875")),
        ({"costUSD": 0.001, "cost": 0.00875}, Decimal("0.001")),
        # Helicone has no other word for a price that it does not know.
        ({"costUSD": None, "cost": 0}, None),
        ({"costUSD": 0, "cost": 0}, Decimal(0)),
    ],
)
def test_cost_by_the_names_it_has_had(change, cost):
    assert of(EXPORT | change, "unreadable", "reported_cost_usd") == [None, cost]


def test_usage_of_the_body_is_better_than_the_columns():
    body = {
        "type": "message",
        "content": [{"type": "tool_use"}],
        "stop_reason": "tool_use",
        "model": "claude-sonnet-5-20260901",
        "usage": {
            "input_tokens": 6,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 574,
            "output_tokens": 489,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 574},
            "output_tokens_details": {"thinking_tokens": 77},
        },
    }
    line = EXPORT | {"provider": "ANTHROPIC", "prompt_tokens": 2380, "response_body": json.dumps(body)}
    assert of(
        line,
        "input_uncached_tokens",
        "cache_read_tokens",
        "cache_write_1h_tokens",
        "reasoning_tokens",
        "finish_reason",
        "tool_call_count",
        "response_model",
    ) == [6, 1800, 574, 77, "tool_use", 1, "claude-sonnet-5-20260901"]


def test_searches_in_an_answer_of_the_responses_api_are_web_searches():
    body = {"object": "response", "output": [{"type": "web_search_call", "action": {"type": t}} for t in ("search", "open_page")]}
    assert of(EXPORT | {"response_body": body}, "web_search_requests", "tool_call_count") == [1, 2]
    assert of(EXPORT, "web_search_requests") == [None]


NEVER_COUNTED = {"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"response_body": {"usage": {}}}, [300, 1800, 210, None]),
        ({"response_body": {"usage": {"cost": 0.5}}}, [300, 1800, 210, None]),
        ({"response_body": {"usage": {"prompt_tokens": None, "completion_tokens": None}}}, [300, 1800, 210, None]),
        ({"response_body": {"meta": {"api_version": {"version": "1"}}}}, [300, 1800, 210, None]),
        ({"response_body": {"usage": NEVER_COUNTED}}, [300, 1800, 210, None]),
        ({"response_body": {"usage": NEVER_COUNTED}, **NEVER_COUNTED, "prompt_cache_read_tokens": None}, [None, None, None, None]),
        ({"response_body": {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}}, [0, None, 0, None]),
        ({"response_body": {"meta": {"billed_units": {"input_tokens": 7, "output_tokens": 2}}}}, [7, None, 2, None]),
        ({"response_body": {"usage": {"prompt_tokens": "many"}}}, [None, None, None, "input tokens cannot be read"]),
    ],
)
def test_a_body_that_counts_nothing_leaves_it_to_the_columns(change, expected):
    names = ("input_uncached_tokens", "cache_read_tokens", "output_text_tokens", "unreadable")
    assert of(EXPORT | change, *names) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, {"error": {"type": "rate_limit_error", "message": "secret"}}, ["error", 429, "rate_limit_error"]),
        (500, "oops, my secret prompt", ["error", 500, "500"]),
        (-3, None, ["error", None, "cancelled"]),
        (200, {"error": {"code": "content_filter", "message": "secret"}}, ["error", 200, "content_filter"]),
    ],
)
def test_failed_calls(status, body, expected):
    line = (
        EXPORT
        | {"response_status": status, "response_body": body}
        | dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_read_tokens", "prompt_cache_write_tokens")
        )
    )
    found = row(line)
    assert [found[n] for n in ("status", "http_status", "error_type")] == expected
    assert [found[n] for n in ("input_uncached_tokens", "output_text_tokens", "unreadable")] == [None, None, None]
    assert "secret" not in str({k: v for k, v in found.items() if k != "output_messages"})


@pytest.mark.parametrize(
    ("change", "unreadable"),
    [
        ({"prompt_tokens": "many"}, "input tokens cannot be read"),
        ({"request_created_at": "yesterday"}, "request_created_at cannot be read"),
        ({"costUSD": "free"}, "costUSD cannot be read"),
        ({"response_status": "fine"}, "response_status cannot be read"),
        ({"delay_ms": None, "costUSD": None}, None),
    ],
)
def test_a_value_that_is_there_but_cannot_be_read_is_told(change, unreadable):
    assert row(EXPORT | change)["unreadable"] == unreadable


def test_without_a_delay_the_answer_has_its_own_time_and_foreign_lines_no_id():
    assert of(EXPORT | {"delay_ms": None}, "finished_at") == [datetime(2026, 11, 20, 9, 0, 3)]
    assert [row(x)["inference_id"] for x in ({"foo": 1}, {}, "[1]", EXPORT | {"request_id": ["r"]})] == [None] * 4


@pytest.mark.parametrize(
    ("reference", "note"),
    [("5b8efff7-9803-4103-a269-b633813fc60c", "gateway_cache_hit"), ("00000000-0000-0000-0000-000000000000", None), ("", None), (None, None)],
)
def test_served_from_the_gateways_own_cache(reference, note):
    (found,) = stage("inference", "helicone", [EXPORT | {"cache_enabled": True, "cache_reference_id": reference}])
    assert found["usage_note"] == note
