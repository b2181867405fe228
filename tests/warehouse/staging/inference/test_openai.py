"""OpenAI-style request/response logs → core.inference rows."""

from __future__ import annotations

import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.staging import stage

HELICONE = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs" / "helicone"

USAGE = {
    "prompt_tokens": 2100,
    "completion_tokens": 210,
    "total_tokens": 2310,
    "prompt_tokens_details": {"cached_tokens": 1800, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
REQUEST = {
    "model": "gpt-5.6-luna",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function"}],
    "temperature": 0.2,
    "service_tier": "auto",
    "metadata": {"tenant": "acme"},
}
RESPONSE = {
    "id": "chatcmpl-9f1",
    "object": "chat.completion",
    "created": 1795165203,
    "model": "gpt-5.6-luna-2026-07-01",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello", "tool_calls": None}}],
    "usage": USAGE,
}
PAIR = {"timestamp": 1795165201, "request": REQUEST, "response": RESPONSE}


def row(line: object) -> dict:
    (only,) = stage("inference", "openai", [line])
    return only


def of(line: object, *names: str) -> list:
    found = row(line)
    return [found[name] for name in names]


def test_the_documented_pair():
    found = row(PAIR)
    content = {n: json.loads(found.pop(n)) for n in ("input_messages", "tool_definitions", "output_messages", "request_params")}
    assert {k: v for k, v in found.items() if v is not None and k != "landing_file"} == {
        "record_kind": "call",
        "inference_id": "openai:chatcmpl-9f1",
        "version_at": datetime(2026, 11, 20, 9, 0, 3),
        "operation_name": "chat",
        "provider_name": "openai",
        "request_model": "gpt-5.6-luna",
        "response_model": "gpt-5.6-luna-2026-07-01",
        "service_tier": "standard",
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "cache_write_5m_tokens": 0,
        "input_audio_tokens": 0,
        "output_text_tokens": 146,
        "reasoning_tokens": 64,
        "output_audio_tokens": 0,
        "started_at": datetime(2026, 11, 20, 9, 0, 1),
        "status": "ok",
        "finish_reason": "stop",
        "tool_call_count": 0,
        "tenant": "acme",
        "tags": '{"tenant":"acme"}',
    }
    assert content == {
        "input_messages": REQUEST["messages"],
        "tool_definitions": REQUEST["tools"],
        "output_messages": RESPONSE,
        "request_params": {"temperature": 0.2, "service_tier": "auto"},
    }


def test_nvidia_flywheel_record_and_envelope():
    line = PAIR | {
        "workload_id": "triage",
        "client_id": "app-7",
        "latency_ms": 2784,
        "ttft_ms": 610.5,
        "api_base": "https://x.openai.azure.com",
        "session_id": "s1",
        "trace_id": "t1",
        "user_id": "u1",
        "environment": "prod",
        "cost_usd": "1.2e-5",
        "request": json.dumps(REQUEST | {"stream": True, "metadata": None}),
        "response": json.dumps(RESPONSE),
    }
    assert of(
        line,
        "workload",
        "tenant",
        "finished_at",
        "first_token_at",
        "provider_name",
        "session_id",
        "trace_id",
        "user_id",
        "environment",
        "reported_cost_usd",
        "is_streaming",
        "input_uncached_tokens",
    ) == [
        "triage",
        "app-7",
        datetime(2026, 11, 20, 9, 0, 3, 784000),
        datetime(2026, 11, 20, 9, 0, 1, 610500),
        "azure",
        "s1",
        "t1",
        "u1",
        "prod",
        Decimal("0.000012"),
        True,
        300,
    ]


def test_bare_response_takes_its_own_time():
    assert of(
        RESPONSE, "inference_id", "started_at", "request_model", "response_model", "cache_read_tokens", "input_messages"
    ) == [
        "openai:chatcmpl-9f1",
        datetime(2026, 11, 20, 9, 0, 3),
        None,
        "gpt-5.6-luna-2026-07-01",
        1800,
        None,
    ]


def test_responses_api():
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1795165203,
        "completed_at": 1795165209,
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "model": "gpt-5.4",
        "service_tier": "flex",
        "error": None,
        "conversation": {"id": "conv_1"},
        "prompt": {"id": "pmpt_1", "version": "2"},
        "output": [
            {"type": "reasoning"},
            {"type": "function_call"},
            {"type": "web_search_call"},
            {"type": "web_search_call", "action": {"type": "search", "query": "q"}},
            {"type": "web_search_call", "action": {"type": "open_page", "url": "u"}},
            {"type": "message"},
        ],
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
            "output_tokens": 30,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 130,
        },
    }
    request = {"model": "gpt-5.4", "input": "hi", "instructions": "be kind", "safety_identifier": "u9"}
    assert of(
        {"timestamp": "2026-11-20T09:00:01.5+01:00", "request": request, "response": response},
        "operation_name",
        "started_at",
        "finished_at",
        "service_tier",
        "finish_reason",
        "tool_call_count",
        "web_search_requests",
        "input_uncached_tokens",
        "cache_write_5m_tokens",
        "output_text_tokens",
        "session_id",
        "prompt_name",
        "prompt_version",
        "user_id",
        "status",
        "system_instructions",
    ) == [
        "chat",
        datetime(2026, 11, 20, 8, 0, 1, 500000),
        datetime(2026, 11, 20, 9, 0, 9),
        "flex",
        "max_output_tokens",
        4,
        2,
        50,
        10,
        10,
        "conv_1",
        "pmpt_1",
        "2",
        "u9",
        "ok",
        '"be kind"',
    ]


def test_embeddings_and_legacy_completions():
    embeddings = {
        "timestamp": 1795165201,
        "request": {"model": "text-embedding-3-small", "input": "hi"},
        "response": {
            "object": "list",
            "data": [{"object": "embedding", "embedding": [0.1]}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        },
    }
    assert of(
        embeddings, "operation_name", "input_uncached_tokens", "output_text_tokens", "output_messages", "provider_name"
    ) == ["embeddings", 4, 0, None, "openai"]
    assert row(embeddings)["inference_id"].startswith("openai:sha256:")
    legacy = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1795165203,
        "model": "davinci-002",
        "choices": [{"text": "x", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1},
    }
    assert of(legacy, "operation_name", "finish_reason", "input_uncached_tokens", "tool_call_count") == [
        "text_completion",
        "length",
        5,
        0,
    ]


def test_batch_lines():
    done = {
        "id": "batch_req_1",
        "custom_id": "r-1",
        "error": None,
        "response": {"status_code": 200, "request_id": "q", "body": RESPONSE},
    }
    assert of(done, "inference_id", "service_tier", "http_status", "cache_read_tokens", "status", "started_at") == [
        "openai:chatcmpl-9f1",
        "batch",
        200,
        1800,
        "ok",
        datetime(2026, 11, 20, 9, 0, 3),
    ]
    refused = {
        "id": "batch_req_2",
        "custom_id": "r-2",
        "error": None,
        "response": {"status_code": 400, "body": {"error": {"message": "secret", "type": "invalid_request_error"}}},
    }
    assert of(refused, "inference_id", "service_tier", "http_status", "status", "error_type", "input_uncached_tokens") == [
        "openai:batch_req_2",
        "batch",
        400,
        "error",
        "invalid_request_error",
        None,
    ]
    expired = {"id": "batch_req_3", "custom_id": "r-3", "response": None, "error": {"code": "batch_expired", "message": "secret"}}
    assert of(expired, "status", "error_type", "http_status") == ["error", "batch_expired", None]
    asked = {"custom_id": "r-4", "method": "POST", "url": "/v1/chat/completions", "body": REQUEST}
    assert row(asked)["record_kind"] == "context"


@pytest.mark.parametrize(
    ("reply", "status_code", "http", "error_type"),
    [
        (
            {"error": {"message": "my secret prompt", "type": "rate_limit_error", "code": "rate_limit_exceeded"}},
            429,
            429,
            "rate_limit_error",
        ),
        ({"error": {"message": "my secret prompt", "code": 502}}, None, 502, "502"),
        ({"error": "my secret prompt"}, 500, 500, "500"),
        (None, None, None, "error"),
        ("Bad Gateway", 502, 502, "502"),
    ],
)
def test_failed_calls_have_an_id_and_no_tokens_and_never_the_message(reply, status_code, http, error_type):
    line = {"timestamp": 1795165201, "request": REQUEST, "response": reply, "status_code": status_code}
    found = row(line)
    assert [
        found[n] for n in ("status", "http_status", "error_type", "input_uncached_tokens", "output_text_tokens", "unreadable")
    ] == ["error", http, error_type, None, None, None]
    assert found["inference_id"].startswith("openai:sha256:")
    assert found["inference_id"] == row(dict(reversed(line.items())))["inference_id"], "the id must not hang on the order of keys"
    narrow = {k: v for k, v in found.items() if k != "output_messages"}
    assert "secret" not in str(narrow)


def test_a_stream_kept_as_chunks():
    chunks = [
        {
            "id": "chatcmpl-c5",
            "object": "chat.completion.chunk",
            "created": 1795165203,
            "model": "gpt-4o",
            "choices": [{"delta": {}}],
        },
        {
            "id": "chatcmpl-c5",
            "object": "chat.completion.chunk",
            "created": 1795165203,
            "model": "gpt-4o",
            "choices": [],
            "usage": USAGE,
        },
    ]
    assert of(PAIR | {"response": chunks}, "inference_id", "is_streaming", "cache_read_tokens", "status") == [
        "openai:chatcmpl-c5",
        True,
        1800,
        "ok",
    ]


CHUNK = {"id": "chatcmpl-c5", "object": "chat.completion.chunk", "created": 1795165203, "model": "gpt-4o"}


def chunk(finish: str | None = None, index: int = 0, **delta: object) -> dict:
    return CHUNK | {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def call(index: int, id: str | None = None, name: str | None = None, arguments: str = "") -> dict:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


CHUNKS = [
    CHUNK | {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
    chunk(role="assistant", content=""),
    chunk(content="Let me "),
    chunk(content="look."),
    chunk(tool_calls=[call(0, "c1", "find", '{"a":')]),
    chunk(tool_calls=[call(0, arguments="1}")]),
    chunk(tool_calls=[call(1, "c2", "find"), call(1, arguments="{}")]),
    chunk("tool_calls"),
    CHUNK | {"choices": [], "usage": USAGE},
]
EVENTS = [
    {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "content": [],
        "stop_reason": None, "usage": {"input_tokens": 300, "cache_read_input_tokens": 1800, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "find", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": " 1}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"input_tokens": None, "output_tokens": 210}},
    {"type": "message_stop"},
]  # fmt: skip
STREAMED = (
    "inference_id",
    "response_model",
    "status",
    "is_streaming",
    "finish_reason",
    "tool_call_count",
    "input_uncached_tokens",
    "cache_read_tokens",
)


def sse(events: list[dict], end: str = "\n\n") -> str:
    return "".join((f"event: {e['type']}\n" if "type" in e else "") + f"data: {json.dumps(e)}{end}" for e in events)


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(CHUNKS, id="usage last"),
        pytest.param([*CHUNKS, "[DONE]"], id="done"),
        pytest.param([*CHUNKS, CHUNK | {"choices": [], "usage": None}], id="usage not last"),
        pytest.param(json.dumps(CHUNKS), id="text"),
        pytest.param(sse(CHUNKS) + "data: [DONE]\n\n", id="sse"),
        pytest.param(": PROCESSING\r\n\r\n" + sse(CHUNKS, "\r\n\r\n"), id="sse with a comment"),
        pytest.param({"status_code": 200, "body": sse(CHUNKS)}, id="captured"),
    ],
)
def test_a_stream_reads_like_the_whole_answer(response):
    found = row(PAIR | {"response": response})
    assert [found[n] for n in STREAMED] == ["openai:chatcmpl-c5", "gpt-4o", "ok", True, "tool_calls", 2, 300, 1800]
    assert found["provider_name"] == "azure"
    (choice,) = json.loads(found["output_messages"])["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "find", "arguments": "{}"}},
        ],
    }


def test_streamed_choices_are_told_apart():
    chunks = [chunk(index=1, content="b"), chunk(index=0, content="a"), chunk("length", index=1, content="d"), chunk("stop", index=0, content="c")]
    found = row(PAIR | {"response": chunks})
    choices = json.loads(found["output_messages"])["choices"]
    assert [(c["message"]["content"], c["finish_reason"]) for c in choices] == [("ac", "stop"), ("bd", "length")]
    assert (found["finish_reason"], found["tool_call_count"], found["input_uncached_tokens"]) == ("stop", 0, None)


def test_parallel_calls_under_one_index_are_told_apart_by_id():
    chunks = [chunk(tool_calls=[call(0, "c1", "f", "{}")]), chunk(tool_calls=[call(0, "c2", "g", "[]")]), chunk(function_call={"name": "h"})]
    assert of(PAIR | {"response": chunks}, "tool_call_count") == [3]


@pytest.mark.parametrize("response", [EVENTS, sse(EVENTS)], ids=["list", "sse"])
def test_a_stream_of_another_provider(response):
    found = row(PAIR | {"response": response})
    assert [found[n] for n in STREAMED] == ["openai:msg_1", "claude-sonnet-5", "ok", True, "tool_use", 1, 300, 1800]
    assert (found["output_text_tokens"], found["provider_name"]) == (210, "anthropic")


def test_a_stream_of_the_responses_api():
    head = {"id": "resp_4", "object": "response", "created_at": 1795165203, "model": "gpt-5"}
    output = [{"type": "function_call", "name": "f"}, {"type": "message", "content": [{"type": "output_text", "text": "y"}]}]
    usage = {"input_tokens": 2100, "input_tokens_details": {"cached_tokens": 1800}, "output_tokens": 210}
    events = [
        {"type": "response.created", "response": head | {"status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "delta": "y"},
        {"type": "response.completed", "response": head | {"status": "completed", "output": output, "usage": usage}},
    ]
    found = row(PAIR | {"response": events})
    assert [found[n] for n in STREAMED] == ["openai:resp_4", "gpt-5", "ok", True, "completed", 1, 300, 1800]
    assert json.loads(found["output_messages"])["output"] == output


def test_a_stream_of_gemini():
    def part(finish=None, **said):
        return {"responseId": "g1", "modelVersion": "gemini-3", "candidates": [{"finishReason": finish, "content": {"parts": [said]}}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}}  # fmt: skip

    found = row(PAIR | {"response": [part(functionCall={"name": "f"}), part("STOP", text="")]})
    assert [found[n] for n in STREAMED] == ["openai:g1", "gemini-3", "ok", True, "STOP", 1, 10, None]


def test_a_stream_that_broke_keeps_its_tokens():
    failed = [*EVENTS[:3], {"type": "error", "error": {"type": "overloaded_error"}}]
    assert of(PAIR | {"response": failed}, "status", "error_type", "input_uncached_tokens") == ["error", "overloaded_error", 300]


def test_events_of_no_known_shape_are_kept():
    ollama = [{"model": "q", "message": {"content": "a"}}, {"model": "q", "done": True, "prompt_eval_count": 7, "eval_count": 2}]
    found = row(PAIR | {"response": ollama})
    assert (found["response_model"], found["input_uncached_tokens"], json.loads(found["output_messages"])) == ("q", 7, ollama)
    assert of(PAIR | {"response": "data: [DONE]\n\n"}, "status", "input_uncached_tokens") == ["ok", None]


def test_tool_calls_are_counted_over_all_choices():
    choice = {"finish_reason": "tool_calls", "message": {"tool_calls": [{"type": "function"}, {"type": "function"}]}}
    legacy = {"finish_reason": "function_call", "message": {"function_call": {"name": "f", "arguments": "{}"}}}
    assert of(RESPONSE | {"choices": [choice, choice]}, "tool_call_count", "finish_reason") == [4, "tool_calls"]
    assert of(RESPONSE | {"choices": [legacy]}, "tool_call_count") == [1]


@pytest.mark.parametrize(
    ("line", "provider"),
    [
        (PAIR, "openai"),
        (PAIR | {"provider": "Fireworks_AI"}, "fireworks_ai"),
        (PAIR | {"response": RESPONSE | {"model": "meta/llama-3.3-70b"}}, None),
        (PAIR | {"response": RESPONSE | {"model": "gpt-oss-120b"}}, None),
        (PAIR | {"response": RESPONSE | {"prompt_filter_results": [{"prompt_index": 0}]}}, "azure"),
        (PAIR | {"response": RESPONSE | {"id": "gen-1", "provider": "Anthropic"}}, "openrouter"),
        (PAIR | {"response": RESPONSE | {"usage": USAGE | {"cost": 0.1, "is_byok": False}}}, "openrouter"),
        (PAIR | {"response": RESPONSE | {"x_groq": {"id": "req_1"}, "model": "llama-3.3-70b"}}, "groq"),
    ],
)
def test_provider_only_where_the_record_gives_it_away(line, provider):
    assert row(line)["provider_name"] == provider


def test_other_providers_answers():
    gemini = {
        "responseId": "g1",
        "modelVersion": "gemini-2.5-flash",
        "candidates": [{"finishReason": "STOP", "content": {"parts": [{"functionCall": {"name": "f"}}, {"text": "x"}]}}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 9, "thoughtsTokenCount": 34, "totalTokenCount": 52},
    }
    assert of(
        PAIR | {"request": {"contents": []}, "response": gemini},
        "inference_id",
        "operation_name",
        "provider_name",
        "response_model",
        "output_text_tokens",
        "reasoning_tokens",
        "finish_reason",
        "tool_call_count",
    ) == ["openai:g1", "generate_content", "gemini", "gemini-2.5-flash", 9, 34, "STOP", 1]
    ollama = {
        "model": "qwen3:0.6b",
        "created_at": "2026-11-20T09:00:01Z",
        "done": True,
        "prompt_eval_count": 26,
        "eval_count": 259,
    }
    assert of(
        {"request": {"model": "qwen3:0.6b", "prompt": "x"}, "response": ollama},
        "input_uncached_tokens",
        "output_text_tokens",
        "started_at",
    ) == [26, 259, datetime(2026, 11, 20, 9, 0, 1)]


def test_openrouter_cost():
    usage = USAGE | {"cost": 0.0160614, "cost_details": {"upstream_inference_cost": 0.0001764}}
    assert of(RESPONSE | {"usage": usage}, "reported_cost_usd") == [Decimal("0.0160614")]


@pytest.mark.parametrize(
    ("line", "unreadable"),
    [
        (PAIR | {"timestamp": "last tuesday"}, "timestamp cannot be read"),
        (
            PAIR | {"response": RESPONSE | {"usage": {"prompt_tokens": "lots", "completion_tokens": 1}}},
            "input tokens cannot be read",
        ),
        (PAIR | {"latency_ms": "fast"}, "latency_ms cannot be read"),
        (PAIR | {"cost_usd": "cheap"}, "cost_usd cannot be read"),
        (PAIR | {"cost_usd": None, "latency_ms": None}, None),
    ],
)
def test_a_value_that_is_there_but_cannot_be_read_is_told(line, unreadable):
    assert row(line)["unreadable"] == unreadable


@pytest.mark.parametrize("line", [{"foo": 1}, {}, "[1]", "5", '"x"', {"request": None, "response": None}])
def test_a_foreign_line_has_no_id_and_so_is_quarantined(line):
    assert of(line, "record_kind", "inference_id") == ["call", None]


@pytest.mark.parametrize("hostile", ["'; drop table calls; --", 'a"b\\c\n', "é\u202e‮", "x" * 5000])
def test_hostile_ids_pass_as_text(hostile):
    assert row(PAIR | {"response": RESPONSE | {"id": hostile}})["inference_id"] == f"openai:{hostile}"


OLLAMA = {
    "timestamp": 1795165201,
    "request": {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]},
    "response": RESPONSE | {"id": "chatcmpl-317", "model": "llama3.2", "system_fingerprint": "fp_ollama"},
}
ASKED_ELSE = {"model": "llama3.2", "messages": [{"role": "user", "content": "bye"}]}


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (OLLAMA, True),
        (OLLAMA | {"request": json.dumps(OLLAMA["request"], separators=(",", ":"))}, True),
        (OLLAMA | {"request": ASKED_ELSE}, False),
        (OLLAMA | {"response": OLLAMA["response"] | {"created": 1795165999}}, False),
        (OLLAMA | {"response": OLLAMA["response"] | {"id": "chatcmpl-318"}}, False),
    ],
)
def test_an_id_drawn_from_999_numbers_is_one_only_with_its_time_and_request(other, is_same):
    ids = [found["inference_id"] for found in stage("inference", "openai", [OLLAMA, other])]
    assert ids[0].startswith("openai:chatcmpl-317:1795165203:")
    assert (ids[0] == ids[1]) is is_same


@pytest.mark.parametrize("id", ["chatcmpl-9f1", "chatcmpl-1234", "cmpl-12a", "chatcmpl-", "resp_317", "317"])
def test_every_other_id_stays_as_it_is(id):
    assert row(OLLAMA | {"response": OLLAMA["response"] | {"id": id}})["inference_id"] == f"openai:{id}"
    assert row(PAIR | {"response": RESPONSE | {"id": "chatcmpl-317"}})["inference_id"] == "openai:chatcmpl-317"


@pytest.mark.parametrize("no_id", [{"a": 1}, [1], None, "", "  "])
def test_what_is_no_id_is_not_taken_for_one(no_id):
    assert row(PAIR | {"response": RESPONSE | {"id": no_id}})["inference_id"].startswith("openai:sha256:")


def test_every_line_is_one_row_in_order_whatever_is_in_it():
    lines = [
        PAIR,
        {"foo": 1},
        RESPONSE,
        '{"response": {"id": "a", "id": "b", "usage": 3, "choices": {}}}',
        '{"request": [1], "error": []}',
        PAIR | {"response": RESPONSE | {"choices": "x", "usage": [1], "error": False, "created": {}}},
    ]
    rows = stage("inference", "openai", lines)
    assert [r["inference_id"] for r in rows[:4]] == ["openai:chatcmpl-9f1", None, "openai:chatcmpl-9f1", "openai:a"]
    assert [rows[5]["inference_id"], rows[5]["status"]] == ["openai:chatcmpl-9f1", "ok"]
    assert len(rows) == len(lines)


@pytest.mark.skipif(not HELICONE.exists(), reason=f"shared data not here: {HELICONE}")
def test_real_provider_bodies():
    bodies = {p.stem: json.loads(p.read_text())["response"] for p in sorted(HELICONE.glob("*.json"))}
    lines = [
        {"timestamp": 1795165201, "request": {"model": "m"}, "status_code": body["status"], "response": body.get("jsonBody")}
        for name, body in bodies.items()
    ]
    rows = dict(zip(bodies, stage("inference", "openai", lines), strict=True))
    assert {n for n, r in rows.items() if r["status"] == "error"} == {
        "anthropic__messages_error",
        "gemini__generate_content_error",
        "jawn__log_request",
        "openai__chat_completion_internal_error",
        "openai__rate_limit",
    }
    assert rows["openai__rate_limit"]["error_type"] == "rate_limit_error"
    assert {n: (r["input_uncached_tokens"], r["output_text_tokens"]) for n, r in rows.items() if r["input_uncached_tokens"]} == {
        "anthropic__messages_success": (2095, 503),
        "bedrock__converse_sucesss": (30, 628),
        "gemini__generate_content_success": (6, 1628),
        "mistral__chat_completion": (19, 10),
        "ollama__chat_completions_success": (29, 20),
        "openai__chat_completion": (19, 10),
        "openai__chat_completion_cacheable": (19, 10),
    }
