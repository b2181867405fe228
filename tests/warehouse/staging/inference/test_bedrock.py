"""Bedrock model invocation logs → core.inference rows."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.support.staging import stage

LOG = {
    "schemaType": "ModelInvocationLog",
    "schemaVersion": "1.0",
    "timestamp": "2026-11-20T09:00:03Z",
    "accountId": "111122223333",
    "identity": {"arn": "arn:aws:sts::111122223333:assumed-role/app/x"},
    "region": "eu-west-1",
    "inferenceRegion": "eu-central-1",
    "requestId": "b-1",
    "operation": "Converse",
    "modelId": "eu.anthropic.claude-sonnet-5-v1:0",
    "input": {
        "inputContentType": "application/json",
        "inputTokenCount": 300,
        "cacheReadInputTokenCount": 1800,
        "inputBodyJson": {
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "system": [{"text": "be kind"}],
            "inferenceConfig": {"maxTokens": 9},
            "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]},
        },
    },
    "output": {
        "outputContentType": "application/json",
        "outputTokenCount": 210,
        "outputBodyJson": {
            "output": {"message": {"role": "assistant", "content": [{"text": "hello"}, {"toolUse": {"name": "f"}}]}},
            "stopReason": "tool_use",
            "metrics": {"latencyMs": 2712},
            "usage": {"inputTokens": 300, "outputTokens": 210, "totalTokens": 510},
        },
    },
    "requestMetadata": {"tenant": "acme"},
}


def row(line: object) -> dict:
    (only,) = stage("inference", "bedrock", [line])
    return only


def of(line: object, *names: str) -> list:
    found = row(line)
    return [found[name] for name in names]


def log(body: object = None, asked: object = None, **change: object) -> dict:
    """LOG with another answer or request body, and other top-level keys."""
    line = json.loads(json.dumps(LOG)) | change
    if body is not None:
        line["output"]["outputBodyJson"] = body
    if asked is not None:
        line["input"]["inputBodyJson"] = asked
    return line


def test_the_documented_log():
    found = row(LOG)
    content = {
        n: json.loads(found.pop(n))
        for n in ("input_messages", "system_instructions", "tool_definitions", "output_messages", "request_params")
    }
    assert {k: v for k, v in found.items() if v is not None and k != "landing_file"} == {
        "record_kind": "call",
        "inference_id": "bedrock:b-1",
        "version_at": datetime(2026, 11, 20, 9, 0, 5, 712000),
        "operation_name": "chat",
        "provider_name": "bedrock",
        "request_model": "eu.anthropic.claude-sonnet-5-v1:0",
        "response_model": "anthropic.claude-sonnet-5-v1:0",
        "request_region": "eu-west-1",
        "served_region": "eu-central-1",
        "is_streaming": False,
        "input_uncached_tokens": 300,
        "cache_read_tokens": 1800,
        "output_text_tokens": 210,
        "started_at": datetime(2026, 11, 20, 9, 0, 3),
        "finished_at": datetime(2026, 11, 20, 9, 0, 5, 712000),
        "status": "ok",
        "finish_reason": "tool_use",
        "tool_call_count": 1,
        "tenant": "acme",
        "tags": '{"tenant":"acme"}',
    }
    assert content == {
        "input_messages": LOG["input"]["inputBodyJson"]["messages"],
        "system_instructions": [{"text": "be kind"}],
        "tool_definitions": [{"toolSpec": {"name": "f"}}],
        "output_messages": LOG["output"]["outputBodyJson"],
        "request_params": {"inferenceConfig": {"maxTokens": 9}},
    }


@pytest.mark.parametrize(
    ("model_id", "model", "served_region"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0", "eu-west-1"),
        ("us.meta.llama3-3-70b-instruct-v1:0", "meta.llama3-3-70b-instruct-v1:0", None),
        ("meta.llama3-3-70b-instruct-v1:0", "meta.llama3-3-70b-instruct-v1:0", "eu-west-1"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", None),
        ("arn:aws:bedrock:us-east-1::foundation-model/cohere.command-r-v1:0", "cohere.command-r-v1:0", "eu-west-1"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/k3x", None, None),
        ("global.anthropic.claude-opus-4-5-v1:0", "anthropic.claude-opus-4-5-v1:0", None),
    ],
)
def test_model_behind_a_profile_and_where_it_ran(model_id, model, served_region):
    assert of(log(modelId=model_id, inferenceRegion=None), "request_model", "response_model", "served_region") == [
        model_id,
        model,
        served_region,
    ]


def test_both_namings_of_the_cache_counts():
    line = log(
        body={
            "usage": {
                "inputTokens": 22,
                "outputTokens": 13,
                "cacheReadInputTokens": 7,
                "cacheWriteInputTokens": 2492,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 2000}],
                "totalTokens": 2534,
            }
        }
    )
    line["input"] = {"inputTokenCount": 22}
    assert of(
        line, "input_uncached_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "usage_note"
    ) == [22, 7, 492, 2000, None]
    line = log(body={})
    line["input"] |= {"cacheReadInputTokenCount": 5, "cacheWriteInputTokenCount": 6}
    assert of(line, "input_uncached_tokens", "cache_read_tokens", "cache_write_5m_tokens") == [300, 5, 6]


@pytest.mark.parametrize(
    ("asked", "body", "expected"),
    [
        (
            {"messages": [], "anthropic_version": "x"},
            {
                "id": "msg_1",
                "type": "message",
                "model": "claude-3-7-sonnet-20250219",
                "stop_reason": "tool_use",
                "content": [{"type": "tool_use"}],
                "usage": {"input_tokens": 11, "cache_read_input_tokens": 2, "output_tokens": 3},
            },
            ["chat", "tool_use", 11, 2, 3, 1],
        ),
        (
            {"prompt": "hi"},
            {"generation": "x", "prompt_token_count": 300, "generation_token_count": 210, "stop_reason": "stop"},
            ["text_completion", "stop", 300, 1800, 210, None],
        ),
        (
            {"inputText": "hi"},
            {"inputTextTokenCount": 300, "results": [{"tokenCount": 210, "completionReason": "FINISH"}]},
            ["text_completion", "FINISH", 300, 1800, 210, None],
        ),
        (
            {"messages": []},
            {
                "stopReason": "end_turn",
                "output": {"message": {"content": [{"text": "x"}]}},
                "usage": {"inputTokens": 4, "outputTokens": 5, "cacheReadInputTokenCount": 0},
            },
            ["chat", "end_turn", 4, 0, 5, 0],
        ),
        (
            {"messages": []},
            {
                "choices": [{"finish_reason": "stop", "message": {"content": "x"}}],
                "usage": {
                    "prompt_tokens": 40,
                    "completion_tokens": 5,
                    "total_tokens": 45,
                    "prompt_tokens_details": {"cached_tokens": 10},
                },
            },
            ["chat", "stop", 30, 10, 5, 0],
        ),
    ],
    ids=["claude", "llama", "titan", "nova", "gpt-oss"],
)
def test_invoke_model_bodies(asked, body, expected):
    assert (
        of(
            log(body, asked, operation="InvokeModel"),
            "operation_name",
            "finish_reason",
            "input_uncached_tokens",
            "cache_read_tokens",
            "output_text_tokens",
            "tool_call_count",
        )
        == expected
    )


def test_a_streamed_answer():
    events = [
        {"type": "message_start", "message": {"model": "claude-3-7-sonnet-20250219"}},
        {"type": "content_block_start", "content_block": {"type": "tool_use"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"invocationLatency": 900, "firstByteLatency": 120}},
    ]
    line = log(
        events, operation="InvokeModelWithResponseStream", modelId="arn:aws:bedrock:eu-west-1:1:application-inference-profile/k3x"
    )
    assert of(
        line,
        "is_streaming",
        "response_model",
        "finish_reason",
        "tool_call_count",
        "first_token_at",
        "finished_at",
        "output_text_tokens",
    ) == [
        True,
        "claude-3-7-sonnet-20250219",
        "tool_use",
        1,
        datetime(2026, 11, 20, 9, 0, 3, 120000),
        datetime(2026, 11, 20, 9, 0, 3, 900000),
        210,
    ]


def test_a_streamed_converse_answer():
    """As Nova streams: text without a start, a tool's input in pieces, two blocks that take turns."""
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Let me "}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "look."}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t-1", "name": "find"}}, "contentBlockIndex": 1}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t-2", "name": "ping"}}, "contentBlockIndex": 2}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"wo'}}, "contentBlockIndex": 1}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": ""}}, "contentBlockIndex": 2}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": 'rd": "a\\"b"}'}}, "contentBlockIndex": 1}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": {"inputTokens": 300, "outputTokens": 210}, "metrics": {"latencyMs": 700}}},
    ]
    line = log(events, operation="InvokeModelWithResponseStream", modelId="eu.amazon.nova-pro-v1:0")
    names = ("finish_reason", "tool_call_count", "output_text_tokens", "finished_at")
    assert of(line, *names) == ["tool_use", 2, 210, datetime(2026, 11, 20, 9, 0, 3, 700000)]
    said = json.loads(row(line)["output_messages"])
    assert said["output"]["message"] == {"role": "assistant", "content": [
        {"text": "Let me look."},
        {"toolUse": {"toolUseId": "t-1", "name": "find", "input": {"word": 'a"b'}}},
        {"toolUse": {"toolUseId": "t-2", "name": "ping", "input": {}}},
    ]}  # fmt: skip


def test_a_body_kept_elsewhere_leaves_the_numbers():
    line = log()
    line["output"] = {"outputBodyS3Path": "s3://b/k", "outputTokenCount": 210}
    line["input"] = {"inputBodyS3Path": "s3://b/k", "inputTokenCount": 300, "cacheReadInputTokenCount": 1800}
    assert of(
        line, "input_uncached_tokens", "cache_read_tokens", "output_text_tokens", "input_messages", "output_messages", "status"
    ) == [300, 1800, 210, None, None, "ok"]


def test_errors_have_no_tokens():
    line = log(errorCode="ThrottlingException", output={}, input={})
    assert of(line, "inference_id", "status", "error_type", "input_uncached_tokens", "output_text_tokens", "tool_call_count") == [
        "bedrock:b-1",
        "error",
        "ThrottlingException",
        None,
        None,
        None,
    ]


def test_wrong_types_are_told_and_foreign_lines_have_no_id():
    line = log(body={})
    line["input"]["inputTokenCount"] = "many"
    assert row(line)["unreadable"] == "input tokens cannot be read"
    assert row(log(timestamp="once"))["unreadable"] == "timestamp cannot be read"
    assert [row(x)["inference_id"] for x in ({"foo": 1}, {}, "[1]", log(requestId=None), log(requestId={"a": 1}))] == [None] * 5
    assert row(log(requestId="'; --\n"))["inference_id"] == "bedrock:'; --\n"
    assert row(log(schemaType="SomethingElse"))["record_kind"] == "context"


def test_a_stream_tells_how_long_its_cache_is_kept_and_the_log_how_much():
    usage = {"input_tokens": 300, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400}}
    line = log([{"type": "message_start", "message": {"usage": usage}}], operation="InvokeModelWithResponseStream")
    line["input"] |= {"cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 500}
    names = ("input_uncached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_text_tokens")
    assert of(line, *names) == [300, 100, 400, 210]
