"""OTLP/JSON lines of GenAI spans and log events → core.inference rows."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.otlp import END, SPAN, START, TRACE, attributes, log, span, traces
from tests.support.staging import stage

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.6-luna",
    "gen_ai.response.model": "gpt-5.6-luna-2026-07-01",
    "gen_ai.usage.input_tokens": 2100,
    "gen_ai.usage.cache_read.input_tokens": 1800,
    "gen_ai.usage.output_tokens": 210,
    "gen_ai.conversation.id": "s-11",
    "gen_ai.response.finish_reasons": ["stop"],
}
TOKENS = (
    "input_uncached_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "output_text_tokens",
    "reasoning_tokens",
    "usage_note",
)


def staged(*lines: object) -> list[dict]:
    return sorted(stage("inference", "otel", lines), key=lambda row: (row["landing_row"], row["inference_id"] or ""))


def of(line: object, *names: str) -> tuple:
    (row,) = staged(line)
    return tuple(row[name] for name in names)


def test_documented_span() -> None:
    messages = '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'
    (row,) = staged(traces(span(CHAT | {"gen_ai.input.messages": messages}), **{"service.name": "triage"}))
    expected = {
        "landing_row": 1,
        "record_kind": "call",
        "unreadable": None,
        "inference_id": f"otel:{TRACE}:{SPAN}",
        "operation_name": "chat",
        "provider_name": "openai",
        "request_model": "gpt-5.6-luna",
        "response_model": "gpt-5.6-luna-2026-07-01",
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "output_text_tokens": 210,
        "usage_note": None,
        "started_at": datetime(2026, 11, 20, 9, 0, 1, 120000),
        "finished_at": datetime(2026, 11, 20, 9, 0, 3, 900000),
        "version_at": datetime(2026, 11, 20, 9, 0, 3, 900000),
        "status": "ok",
        "finish_reason": "stop",
        "session_id": "s-11",
        "trace_id": TRACE,
        "parent_id": None,
        "workload": "triage",
        "input_messages": messages,
    }
    assert {name: row[name] for name in expected} == expected


USAGE = "gen_ai.usage."


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {
                USAGE + "input_tokens": 100,
                USAGE + "cache_write.input_tokens": 30,
                USAGE + "output_tokens": 50,
                USAGE + "reasoning.output_tokens": 20,
            },
            (70, None, 30, 30, 20, None),
            id="today",
        ),
        pytest.param(
            {
                USAGE + "prompt_tokens": 100,
                USAGE + "completion_tokens": 50,
                USAGE + "cache_read_input_tokens": 40,
                USAGE + "cache_creation_input_tokens": 10,
            },
            (50, 40, 10, 50, None, None),
            id="traceloop",
        ),
        pytest.param(
            {USAGE + "input_tokens": 100, USAGE + "cache_creation.input_tokens": 60},
            (40, None, 60, None, None, None),
            id="renamed",
        ),
        pytest.param(
            {
                "llm.token_count.prompt": 100,
                "llm.token_count.completion": 50,
                "llm.token_count.prompt_details.cache_read": 40,
                "llm.token_count.completion_details.reasoning": 20,
            },
            (60, 40, None, 30, 20, None),
            id="openinference",
        ),
        pytest.param(
            {USAGE + "input_tokens": 300, USAGE + "cache_read_input_tokens": 1800},
            (300, 1800, None, None, None, "exclusive_emitter"),
            id="more cache than input",
        ),
        pytest.param(
            {
                USAGE + "input_tokens": 300,
                USAGE + "cache_read_input_tokens": 200,
                USAGE + "output_tokens": 10,
                USAGE + "total_tokens": 510,
            },
            (300, 200, None, 10, None, "exclusive_emitter"),
            id="total adds the cache",
        ),
        pytest.param(
            {USAGE + "output_tokens": 10, USAGE + "reasoning_tokens": 25},
            (None, None, None, 10, 25, "reasoning_apart"),
            id="more reasoning than output",
        ),
        pytest.param(
            {
                USAGE + "input_tokens": 100,
                USAGE + "output_tokens": 100,
                USAGE + "reasoning_tokens": 80,
                USAGE + "total_tokens": 280,
            },
            (100, None, None, 100, 80, "reasoning_apart"),
            id="total adds the reasoning",
        ),
        pytest.param(
            {USAGE + "input_tokens": 2100, USAGE + "cache_read.input_tokens": 1800, USAGE + "audio.input_tokens": 400},
            (0, 1800, None, None, None, "input_overlap"),
            id="cached audio",
        ),
        pytest.param(
            {
                "llm.token_count.prompt": 100,
                "llm.token_count.prompt_details.cache_read": 90,
                "llm.token_count.prompt_details.audio": 50,
            },
            (0, 90, None, None, None, "input_overlap"),
            id="cached audio, openinference",
        ),
    ],
)
def test_tokens_in_disjoint_classes(usage: dict, expected: tuple) -> None:
    assert of(traces(span({"gen_ai.operation.name": "chat"} | usage)), *TOKENS) == expected


AI_SDK = {"gen_ai.request.model": "m", USAGE + "input_tokens": 2000, USAGE + "output_tokens": 100}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(
            {"ai.model.provider": "openai.chat", "ai.usage.cachedInputTokens": 1800, "ai.usage.reasoningTokens": 64, "ai.usage.totalTokens": 2100},
            (200, 1800, None, 36, 64, None),
            id="version 5",
        ),
        pytest.param(
            {"ai.model.provider": "google.generative-ai", "ai.usage.reasoningTokens": 64, "ai.usage.totalTokens": 2164},
            (2000, None, None, 100, 64, "reasoning_apart"),
            id="version 5, thoughts beside the answer",
        ),
        pytest.param(
            {
                "ai.model.provider": "anthropic.messages",
                "ai.usage.cachedInputTokens": 1800,
                "ai.usage.totalTokens": 2100,
                "ai.response.providerMetadata": '{"anthropic":{"cacheCreationInputTokens":300}}',
            },
            (2000, 1800, 300, 100, None, None),
            id="version 5, counting as Anthropic",
        ),
        pytest.param(
            {
                "ai.model.provider": "anthropic.messages",
                "ai.response.providerMetadata": '{"anthropic":{"cacheCreationInputTokens":300,"cacheReadInputTokens":1800}}',
            },
            (2000, 1800, 300, 100, None, None),
            id="version 4",
        ),
        pytest.param(
            {
                "ai.model.provider": "anthropic.messages",
                "ai.usage.cachedInputTokens": 1500,
                "ai.usage.inputTokenDetails.noCacheTokens": 200,
                "ai.usage.inputTokenDetails.cacheReadTokens": 1500,
                "ai.usage.inputTokenDetails.cacheWriteTokens": 300,
                "ai.usage.outputTokenDetails.reasoningTokens": 64,
                "ai.usage.totalTokens": 2100,
                "ai.response.providerMetadata": '{"anthropic":{"cacheCreationInputTokens":300}}',
            },
            (200, 1500, 300, 36, 64, None),
            id="version 6",
        ),
        pytest.param({"ai.model.provider": "anthropic.messages", "ai.response.providerMetadata": "{oops"}, (2000, None, None, 100, None, None), id="broken"),
    ],
)
def test_the_vercel_ai_sdk(told: dict, expected: tuple) -> None:
    assert of(traces(span(AI_SDK | told)), *TOKENS) == expected


@pytest.mark.parametrize(
    ("system", "provider"),
    [
        ("openai.chat", "openai"),
        ("openai.responses", "openai"),
        ("openai.embedding", "openai"),
        ("anthropic.messages", "anthropic"),
        ("google.generative-ai", "google"),
        ("google.vertex.chat", "google.vertex"),
        ("vertex.anthropic.messages", "vertex.anthropic"),
        ("azure-openai.chat", "azure-openai"),
        ("amazon-bedrock", "amazon-bedrock"),
        ("azure.ai.openai", "azure.ai.openai"),
        ("IBM.watsonx.ai", "ibm.watsonx.ai"),
    ],
)
def test_a_provider_without_the_api_behind_it(system: str, provider: str) -> None:
    assert of(traces(span(AI_SDK | {"gen_ai.system": system})), "provider_name") == (provider,)


@pytest.mark.parametrize("word", ["google.vertex", "google.vertex.anthropic", "vertex.anthropic", "bedrock.anthropic", "azure-openai", "amazon-bedrock", "x"])
def test_what_is_left_of_a_provider_is_one_that_is_known(word: str) -> None:
    assert f"\n{word}," in (Path(__file__).parents[4] / "schemas" / "reference" / "provider.csv").read_text()


def test_user_and_session_of_the_vercel_ai_sdk() -> None:
    told = AI_SDK | {"ai.telemetry.metadata.userId": "u-77", "ai.telemetry.metadata.sessionId": "s-77"}
    assert of(traces(span(told)), "user_id", "session_id") == ("u-77", "s-77")


def test_openrouter_sold_what_another_served_and_says_what_it_cost() -> None:
    told = CHAT | {"trace.metadata.openrouter.provider_name": "Google Vertex", "gen_ai.usage.total_cost": 0.0035}
    told |= {USAGE + "input_tokens.cached": 1700, USAGE + "input_tokens.cache_write": 100, USAGE + "output_tokens.reasoning": 10}
    del told[USAGE + "cache_read.input_tokens"]
    assert of(traces(span(told)), *TOKENS, "provider_name", "reported_cost_usd") == (
        300, 1700, 100, 200, 10, None, "openrouter", Decimal("0.0035"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cached_tokens": 1800, "reasoning_tokens": 64}, (300, 1800, None, 146, 64, None)),
        ({"cache_read_input_tokens": 1500, "cache_creation_input_tokens": 300, "input_tokens": 300}, (300, 1500, 300, 210, None, None)),
        ({"cached_content_tokens": 1800, "thoughts_tokens": 64}, (300, 1800, None, 146, 64, None)),
    ],
)
def test_details_of_older_pydantic_ai(details: dict, expected: tuple) -> None:
    told = {key: value for key, value in CHAT.items() if "cache_read" not in key} | {"operation.cost": 0.003}
    told |= {USAGE + "details." + key: value for key, value in details.items()}
    assert of(traces(span(told)), *TOKENS, "reported_cost_usd") == (*expected, Decimal("0.003"))


def test_numbers_may_come_as_json_numbers() -> None:
    plain = [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 7}},
    ]
    times = {"startTimeUnixNano": START, "endTimeUnixNano": END}
    assert of(traces(span({}, attributes=plain, **times)), "input_uncached_tokens", "started_at") == (
        7,
        datetime(2026, 11, 20, 9, 0, 1, 120000),
    )


def test_audio_and_image_have_their_own_classes() -> None:
    usage = {
        USAGE + "input_tokens": 100,
        USAGE + "audio.input_tokens": 60,
        USAGE + "image.input_tokens": 10,
        USAGE + "output_tokens": 50,
        USAGE + "audio.output_tokens": 20,
    }
    names = ("input_uncached_tokens", "input_audio_tokens", "input_image_tokens", "output_text_tokens", "output_audio_tokens")
    assert of(traces(span(CHAT | {USAGE + "cache_read.input_tokens": 0} | usage)), *names) == (30, 60, 10, 30, 20)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"gen_ai.operation.name": "embeddings"}, "call"),
        ({"gen_ai.operation.name": "generate_content"}, "call"),
        ({"llm.request.type": "chat"}, "call"),
        ({"openinference.span.kind": "LLM"}, "call"),
        ({"openinference.span.kind": "AGENT", "llm.model_name": "m", "llm.token_count.prompt": 5}, "context"),
        ({"traceloop.span.kind": "workflow", "gen_ai.request.model": "m", USAGE + "input_tokens": 5}, "context"),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m", USAGE + "input_tokens": 5}, "context"),
        ({"gen_ai.operation.name": "execute_tool"}, "context"),
        ({"gen_ai.request.model": "m", USAGE + "input_tokens": 5}, "call"),
        ({"http.request.method": "GET"}, "context"),
    ],
)
def test_which_spans_are_calls(told: dict, kind: str) -> None:
    assert of(traces(span(told)), "record_kind") == (kind,)


def test_a_call_instrumented_twice_counts_once() -> None:
    outer, inner = span(CHAT, span_id="a" * 16), span(CHAT, span_id="b" * 16, parent="a" * 16)
    rows = staged(traces(outer), traces(inner))
    assert [row["record_kind"] for row in rows] == ["context", "call"]


def test_a_failed_call_keeps_its_class_and_no_message() -> None:
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    failed = span(
        told, events=(("exception", {"exception.type": "RateLimitError", "exception.message": "secret"}),), status={"code": 2}
    )
    (row,) = staged(traces(failed))
    assert (row["status"], row["error_type"], row["input_uncached_tokens"]) == ("error", "RateLimitError", None)
    assert "secret" not in str(row)
    assert of(traces(span(told | {"error.type": "it broke: key sk-1"})), "status", "error_type") == ("error", "_OTHER")
    assert of(traces(span(told | {"error.type": "429", "http.response.status_code": 429})), "error_type", "http_status") == (
        "429",
        429,
    )
    assert of(traces(span(CHAT | {"http.response.status_code": 0})), "status", "http_status") == ("ok", None)


def test_first_token_from_attribute_or_event() -> None:
    at = datetime(2026, 11, 20, 9, 0, 1, 730000)
    assert of(
        traces(span(CHAT | {"gen_ai.response.time_to_first_chunk": 0.61, "gen_ai.request.stream": True})),
        "first_token_at",
        "is_streaming",
    ) == (at, True)
    assert of(traces(span(CHAT, events=(("First Token Stream Event", {}),))), "first_token_at") == (
        datetime(2026, 11, 20, 9, 0, 3, 900000),
    )


def test_belonging_routing_and_cost() -> None:
    told = CHAT | {
        "user.id": "u1",
        "tenant.id": "acme",
        "gen_ai.agent.name": "planner",
        "gen_ai.prompt.name": "p",
        "gen_ai.prompt.version": "3",
        "routing.policy": "r1",
        "routing.candidates": '["a","b"]',
        "routing.propensity": 0.25,
        "gen_ai.usage.cost.amount": 0.0012,
        "tag.tags": ["x", "y"],
    }
    names = (
        "user_id",
        "tenant",
        "traffic_kind",
        "workload",
        "prompt_name",
        "prompt_version",
        "routing_policy",
        "routing_candidates",
        "routing_propensity",
        "reported_cost_usd",
        "tags",
        "environment",
    )
    assert of(traces(span(told), **{"deployment.environment.name": "prod"}), *names) == (
        "u1",
        "acme",
        "agent",
        "planner",
        "p",
        "3",
        "r1",
        '["a","b"]',
        0.25,
        Decimal("0.0012"),
        '["x","y"]',
        "prod",
    )
    assert of(traces(span(told | {"gen_ai.usage.cost.currency": "EUR"})), "reported_cost_usd") == (None,)


def test_indexed_messages_are_put_together_in_order() -> None:
    told = {
        "llm.request.type": "chat",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.finish_reason": "tool_calls",
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "f",
        "gen_ai.completion.0.tool_calls.0.arguments": "{}",
    }
    told |= {f"gen_ai.prompt.{n}.{part}": f"{part}{n}" for n in (10, 2, 0) for part in ("role", "content")}
    (row,) = staged(traces(span(told)))
    assert [m["content"] for m in json.loads(row["input_messages"])] == ["content0", "content2", "content10"]
    (answer,) = json.loads(row["output_messages"])
    assert answer["tool_calls"] == [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert (row["tool_call_count"], row["finish_reason"]) == (1, "tool_calls")


def test_openinference_messages_and_tool_calls() -> None:
    head = "llm.output_messages.0.message."
    told = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "hi",
        head + "role": "assistant",
        head + "tool_calls.0.tool_call.id": "c9",
        head + "tool_calls.0.tool_call.function.name": "g",
        head + "tool_calls.0.tool_call.function.arguments": "{}",
    }
    (row,) = staged(traces(span(told)))
    assert [(m["role"], m["content"]) for m in json.loads(row["input_messages"])] == [("user", "hi")]
    (answer,) = json.loads(row["output_messages"])
    assert answer["tool_calls"] == [{"id": "c9", "type": "function", "function": {"name": "g", "arguments": "{}"}}]
    assert row["tool_call_count"] == 1


def test_content_of_a_log_event_joins_its_span_and_makes_it_newer() -> None:
    said = [
        {"role": "user", "parts": [{"type": "text", "content": 'x {"stringValue":"y"} [1] \\ "q" {"key":"a","value":1}'}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "name": "f", "arguments": {"a": [1, 2, {"b": True}], "c": {}, "d": []}}],
        },
    ]
    alone, event = traces(span(CHAT)), log("gen_ai.client.inference.operation.details", {"gen_ai.output.messages": said})
    (before,), (after, context) = staged(alone), staged(alone, event)
    assert (before["output_messages"], context["record_kind"]) == (None, "context")
    assert json.loads(after["output_messages"]) == said
    assert after["version_at"] > before["version_at"]


def test_a_span_event_may_hold_the_content() -> None:
    event = ("gen_ai.content.prompt", {"gen_ai.prompt": '[{"role":"user","content":"hi"}]'})
    assert of(traces(span(CHAT, events=(event,))), "input_messages") == ('[{"role":"user","content":"hi"}]',)


def test_ids_in_base64_and_upper_case_are_the_same_ids() -> None:
    told = {"gen_ai.operation.name": "chat"}
    for ids in (
        {"traceId": "W47/95gDgQPSabYzgT/GDA==", "spanId": "7uGbfsPBsXQ="},
        {"traceId": TRACE.upper(), "spanId": SPAN.upper()},
    ):
        assert of(traces(span(told, **ids)), "inference_id") == (f"otel:{TRACE}:{SPAN}",)


def test_an_attribute_given_twice_or_without_name_does_not_stop_the_file() -> None:
    twice = [
        *attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "a"}),
        *attributes({"gen_ai.request.model": "b"}),
        {"key": None},
        {},
    ]
    assert of(traces(span({}, attributes=twice)), "request_model") == ("a",)


def test_every_line_gives_a_row_and_foreign_ones_no_id() -> None:
    lines = [
        {"resourceSpans": []},
        {"resourceMetrics": []},
        {"foo": 1},
        {"resourceSpans": "x"},
        traces(span(CHAT, spanId="")),
        traces(span(CHAT, spanId="'; --")),
    ]
    rows = staged(*lines)
    assert [(r["landing_row"], r["record_kind"], r["inference_id"]) for r in rows] == [
        (1, "context", None),
        (2, "context", None),
        (3, "call", None),
        (4, "call", None),
        (5, "call", None),
        (6, "call", f"otel:{TRACE}:'; --"),
    ]


def test_unreadable_values_are_named() -> None:
    assert of(traces(span(CHAT | {"gen_ai.usage.input_tokens": "many"})), "unreadable") == ("input tokens cannot be read",)
    assert of(traces(span(CHAT, startTimeUnixNano="soon")), "unreadable", "started_at") == (
        "startTimeUnixNano cannot be read",
        None,
    )
