"""TensorZero rows → core.inference rows, one a model inference."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tests.support.staging import stage

AT = datetime(2026, 11, 20, 9, 0, 1)


def uuid7(at: datetime, tail: str) -> str:
    """An id made at this UTC time."""
    ms = f"{int((at - datetime(1970, 1, 1)) / timedelta(milliseconds=1)):012x}"
    return f"{ms[:8]}-{ms[8:]}-7000-8000-{tail:0>12}"


CHAT_ID, EPISODE = uuid7(AT, "7a"), uuid7(AT - timedelta(minutes=5), "11")
CHAT = {
    "id": CHAT_ID,
    "function_name": "triage",
    "variant_name": "luna_v2",
    "episode_id": EPISODE,
    "timestamp": "2026-11-20 09:00:01",
    "processing_time_ms": 2784,
    "ttft_ms": 610,
    "input": '{"system":null,"messages":[]}',
    "output": '[{"type":"text","text":"ho"}]',
    "inference_params": '{"chat_completion":{"temperature":0.2}}',
    "tags": {"user_id": "u1", "tenant": "acme"},
}
MODEL = {
    "id": uuid7(AT + timedelta(milliseconds=2750), "7b"),
    "inference_id": CHAT_ID,
    "model_name": "luna",
    "model_provider_name": "openai",
    "input_tokens": 2100,
    "output_tokens": 210,
    "provider_cache_read_input_tokens": 1800,
    "cost": "0.000348",
    "response_time_ms": 2700,
    "ttft_ms": 600,
    "finish_reason": "stop",
    "cached": False,
}


def calls(*lines: object) -> list[dict]:
    return sorted(
        (row for row in stage("inference", "tensorzero", lines) if row["record_kind"] == "call"),
        key=lambda row: row["landing_row"],
    )


def of(line: object, *names: str) -> tuple:
    (row,) = calls(line)
    return tuple(row[name] for name in names)


@pytest.mark.parametrize("lines", [[CHAT, MODEL], [MODEL, CHAT], [CHAT | {"tags": json.dumps(CHAT["tags"])}, MODEL]])
def test_a_model_inference_with_its_inference(lines: list[dict]) -> None:
    (row,) = calls(*lines)
    expected = {
        "unreadable": None,
        "inference_id": f"tensorzero:{MODEL['id']}",
        "provider_name": "openai",
        "request_model": "luna",
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "output_text_tokens": 210,
        "usage_note": None,
        "started_at": AT + timedelta(milliseconds=50),
        "first_token_at": AT + timedelta(milliseconds=650),
        "finished_at": AT + timedelta(milliseconds=2750),
        "status": "ok",
        "finish_reason": "stop",
        "session_id": EPISODE,
        "trace_id": CHAT_ID,
        "workload": "triage",
        "prompt_version": "luna_v2",
        "user_id": "u1",
        "tenant": "acme",
        "reported_cost_usd": Decimal("0.000348"),
        "input_messages": CHAT["input"],
        "output_messages": CHAT["output"],
    }
    assert {name: row[name] for name in expected} == expected


def test_alone_it_is_a_call_that_its_inference_makes_newer() -> None:
    (alone,), (joined,) = calls(MODEL), calls(MODEL, CHAT)
    assert (alone["inference_id"], alone["session_id"]) == (joined["inference_id"], None)
    assert alone["started_at"] == joined["started_at"]
    assert joined["version_at"] > alone["version_at"]


def test_a_retry_and_a_fallback_are_calls_of_their_own() -> None:
    assert [row["trace_id"] for row in calls(CHAT, MODEL, MODEL | {"id": uuid7(AT, "7c"), "model_name": "sol"})] == [CHAT_ID] * 2


def test_the_start_is_never_before_its_inference() -> None:
    (row,) = calls(CHAT, MODEL | {"id": uuid7(AT + timedelta(milliseconds=5), "7b")})
    assert row["started_at"] == AT


def test_the_documented_rows_without_a_time_in_their_ids() -> None:
    (row,) = calls(CHAT | {"id": "0199…7a"}, MODEL | {"id": "0199…7b", "inference_id": "0199…7a"})
    assert (row["inference_id"], row["started_at"]) == ("tensorzero:0199…7b", AT)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"provider_cache_read_input_tokens": None}, (2100, None, None, None)),
        ({"provider_cache_write_input_tokens": 100}, (200, 1800, 100, None)),
        ({"input_tokens": 300}, (300, 1800, None, "exclusive_emitter")),
        ({"model_provider_name": "deepseek", "provider_cache_write_input_tokens": 300}, (300, 1800, None, None)),
        ({"cached": True}, (300, 1800, None, "gateway_cache_hit")),
        ({"input_tokens": None, "provider_cache_read_input_tokens": None}, (None, None, None, None)),
    ],
)
def test_tokens(told: dict, expected: tuple) -> None:
    assert of(MODEL | told, "input_uncached_tokens", "cache_read_tokens", "cache_write_5m_tokens", "usage_note") == expected


def test_tool_calls_are_counted() -> None:
    blocks = [{"type": "tool_call", "name": "f"}, {"type": "text", "text": "ho"}]
    assert of(MODEL | {"output": json.dumps(blocks)}, "tool_call_count") == (1,)


def test_unreadable_values_are_named() -> None:
    assert of(MODEL | {"input_tokens": "many"}, "unreadable") == ("input_tokens cannot be read",)
    assert of(MODEL | {"cost": "free"}, "unreadable") == ("cost cannot be read",)
    assert of(MODEL | {"tags": "{oops"}, "unreadable", "user_id") == (None, None)


def test_every_line_gives_one_row_and_foreign_ones_no_id() -> None:
    lines = [
        CHAT,
        {"id": "f", "target_id": EPISODE, "metric_name": "ok", "value": True},
        {"inference_id": CHAT_ID, "value": "[]"},
        {"function_name": "triage", "key": "k", "value": "v", "inference_id": CHAT_ID},
        {"foo": 1},
        MODEL | {"id": None},
        MODEL | {"id": "'; --"},
    ]
    rows = stage("inference", "tensorzero", lines)
    assert sorted((row["landing_row"], row["record_kind"], row["inference_id"]) for row in rows) == [
        (1, "context", None),
        (2, "context", None),
        (3, "context", None),
        (4, "context", None),
        (5, "call", None),
        (6, "call", None),
        (7, "call", "tensorzero:'; --"),
    ]
