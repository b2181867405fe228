"""Langfuse exports, API answers and ingestion batches → core.inference rows."""

from __future__ import annotations

import gzip
import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.staging import stage

LOGS = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs"

CALL = {
    "id": "obs-1",
    "trace_id": "tr-1",
    "project_id": "p1",
    "type": "GENERATION",
    "start_time": "2026-11-20 09:00:01.120",
    "end_time": "2026-11-20 09:00:03.904",
    "provided_model_name": "claude-sonnet-5",
    "usage_details": {"input": 300, "cache_read_input_tokens": 1800, "output": 210, "total": 2310},
    "cost_details": {"input": 0.0009, "total": 0.00459},
    "total_cost": 0.00459,
    "latency": 2.784,
    "time_to_first_token": 0.61,
    "input": '[{"role":"user","content":"hi"}]',
    "output": '{"role":"assistant","content":"ho"}',
    "level": "DEFAULT",
    "metadata": {},
}
TRACE = {
    "id": "tr-1",
    "timestamp": "2026-11-20 09:00:01",
    "name": "triage",
    "user_id": "u1",
    "session_id": "s-1",
    "tags": ["a"],
    "metadata": {"tenant": "acme"},
    "updated_at": "2026-11-20 09:10:00",
}
SCORE = {"id": "sc-1", "trace_id": "tr-1", "observation_id": "obs-1", "name": "user_feedback", "value": 1, "data_type": "BOOLEAN"}
TOKENS = (
    "input_uncached_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_text_tokens",
    "reasoning_tokens",
    "usage_note",
)


def calls(*lines: object) -> list[dict]:
    return sorted(
        (row for row in stage("inference", "langfuse", lines) if row["record_kind"] == "call"),
        key=lambda row: (row["landing_row"], row["started_at"]),
    )


def of(line: object, *names: str) -> tuple:
    (row,) = calls(line)
    return tuple(row[name] for name in names)


EXPECTED = {
    "unreadable": None,
    "inference_id": "langfuse:obs-1",
    "request_model": "claude-sonnet-5",
    "input_uncached_tokens": 300,
    "cache_read_tokens": 1800,
    "output_text_tokens": 210,
    "usage_note": None,
    "started_at": datetime(2026, 11, 20, 9, 0, 1, 120000),
    "first_token_at": datetime(2026, 11, 20, 9, 0, 1, 730000),
    "finished_at": datetime(2026, 11, 20, 9, 0, 3, 904000),
    "status": "ok",
    "trace_id": "tr-1",
    "reported_cost_usd": Decimal("0.00459"),
    "input_messages": '[{"role":"user","content":"hi"}]',
}


def camel(record: dict) -> dict:
    return {"".join(word.title() if n else word for n, word in enumerate(key.split("_"))): item for key, item in record.items()}


@pytest.mark.parametrize(
    "line",
    [
        CALL,
        {**camel(CALL), "model": "claude-sonnet-5", "providedModelName": None},
        {"trace": camel(TRACE), "observations": [camel(CALL)]},
        {**camel(TRACE), "observations": [camel(CALL)]},
        {"data": [camel(CALL)], "meta": {"page": 1}},
        {"batch": [{"type": "generation-create", "body": {k: v for k, v in camel(CALL).items() if k != "type"}}], "metadata": {}},
    ],
    ids=["export", "api", "trace and observations", "trace with observations", "page", "batch"],
)
def test_documented_observation_in_every_shape(line: dict) -> None:
    (row,) = calls(line)
    assert {name: row[name] for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize(
    ("told", "provider"),
    [
        ({"metadata": {"attributes": {"gen_ai.system": "openai.chat"}}}, "openai"),
        ({"metadata": {"attributes": {"gen_ai.system": "google.generative-ai"}}}, "google"),
        ({"metadata": {"attributes": {"gen_ai.provider.name": "azure.ai.openai"}}}, "azure.ai.openai"),
        ({"metadata": {"ls_provider": "Anthropic"}}, "anthropic"),
        ({"model_parameters": {"system": "openai.responses"}}, "openai"),
        ({"model_parameters": {"system": "google.vertex.chat"}}, "google.vertex"),
        ({"model_parameters": {"system": ""}}, None),
    ],
)
def test_a_provider_without_the_api_behind_it(told: dict, provider: str | None) -> None:
    assert of(CALL | told, "provider_name") == (provider,)


def test_the_trace_gives_user_session_and_tags_and_makes_the_call_newer() -> None:
    (row,) = calls(TRACE, CALL, SCORE)
    names = ("user_id", "session_id", "tags", "workload", "tenant", "version_at")
    assert tuple(row[n] for n in names) == ("u1", "s-1", '["a"]', "triage", "acme", datetime(2026, 11, 20, 9, 10))
    assert calls(CALL)[0]["version_at"] < row["version_at"]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 10, "output": 5}, (10, None, None, None, 5, None, None)),
        ({"input": 300, "input_cached_tokens": 1800, "output": 210}, (300, 1800, None, None, 210, None, None)),
        (
            {"input": 60, "input_cache_read": 40, "output": 30, "output_reasoning": 20, "total": 150},
            (60, 40, None, None, 30, 20, None),
        ),
        (
            {"input": 100, "cache_read_input_tokens": 40, "output": 50, "total": 150},
            (60, 40, None, None, 50, None, "inclusive_input"),
        ),
        (
            {"input": 190, "prompt_details.cache_read": 90, "output": 164, "completion_details.reasoning": 64, "total": 354},
            (100, 90, None, None, 100, 64, "inclusive_input_and_output"),
        ),
        (
            {"input": 10, "output": 50, "output_reasoning_tokens": 20, "total": 60},
            (10, None, None, None, 30, 20, "inclusive_output"),
        ),
        # LangChain's, for Anthropic.
        (
            {
                "input": 300,
                "input_cache_read": 1800,
                "input_cache_creation": 0,
                "input_ephemeral_5m_input_tokens": 60,
                "input_ephemeral_1h_input_tokens": 40,
                "output": 100,
                "total": 2300,
            },
            (300, 1800, 60, 40, 100, None, None),
        ),
        (
            {"input": 300, "cache_creation_input_tokens": 100, "ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40, "output": 1, "total": 401},
            (300, None, 60, 40, 1, None, None),
        ),
        (
            {"input": 10, "input_cache_creation_5m": 7, "input_cache_creation_1h": 3, "output": 1, "total": 21},
            (10, None, 7, 3, 1, None, None),
        ),
        (
            {
                "input": 10,
                "cache_creation_input_tokens": 10,
                "input_cache_creation_5m": 7,
                "input_cache_creation_1h": 3,
                "output": 1,
                "total": 21,
            },
            (10, None, 7, 3, 1, None, None),
        ),
        ({"input": 10, "output": 5, "total": 99}, (10, None, None, None, 5, None, "total_mismatch")),
        ({"promptTokens": 10, "completionTokens": 5, "totalTokens": 15}, (10, None, None, None, 5, None, None)),
        ({"input": 10, "output": 5, "output_accepted_prediction_tokens": 2, "total": 17}, (10, None, None, None, 7, None, None)),
        ({"total": 15}, (None, None, None, None, None, None, "total_only")),
        ({"input": 1000, "output": 500, "unit": "CHARACTERS"}, (None, None, None, None, None, None, "unit_characters")),
        ({}, (None, None, None, None, None, None, None)),
    ],
)
def test_usage_keys_drift_and_the_total_tells_how_they_add_up(usage: dict, expected: tuple) -> None:
    assert of(CALL | {"usage_details": usage}, *TOKENS) == expected


CHAT = {"prompt_tokens": 2100, "completion_tokens": 210}
CHAT_DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 1800, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "accepted_prediction_tokens": 5},
}
RESPONSES = {"input_tokens": 2100, "input_tokens_details": {"cached_tokens": 1800}, "output_tokens": 210}
WHOLE = "inclusive_input_and_output"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (CHAT | CHAT_DETAILS | {"total_tokens": 2310}, (300, 1800, None, None, 146, 64, WHOLE)),
        (CHAT | CHAT_DETAILS, (300, 1800, None, None, 146, 64, WHOLE)),
        (RESPONSES | {"output_tokens_details": {"reasoning_tokens": 64}}, (300, 1800, None, None, 146, 64, WHOLE)),
        (RESPONSES | {"output_tokens_details": {"reasoning_tokens": 0}}, (300, 1800, None, None, 210, 0, "inclusive_input")),
        # Said beside the details, too.
        (CHAT | CHAT_DETAILS | {"cache_read_input_tokens": 1800, "reasoning_tokens": 64}, (300, 1800, None, None, 146, 64, WHOLE)),
        (CHAT | {"prompt_tokens_details": None, "completion_tokens_details": {}}, (2100, None, None, None, 210, None, None)),
        # Anthropic's own: the cache is apart.
        (
            {
                "input_tokens": 300,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 3},
                "output_tokens": 210,
            },
            (300, 90, 7, 3, 210, None, None),
        ),
    ],
)
def test_details_in_objects_are_parts_of_what_they_detail(usage: dict, expected: tuple) -> None:
    assert of(CALL | {"usage_details": usage}, *TOKENS) == expected


def test_a_detail_that_is_no_count_is_told() -> None:
    usage = CHAT | {"prompt_tokens_details": {"cached_tokens": "many"}}
    assert of(CALL | {"usage_details": usage}, "unreadable") == ("usage cannot be read",)


def event(said: str, at: str, **body: object) -> dict:
    return {"batch": [{"type": said, "timestamp": f"2026-11-20T09:00:{at}Z", "body": {"id": "obs-1", **body}}], "metadata": {}}


CREATE = event("generation-create", "01.120", traceId="tr-1", startTime="2026-11-20T09:00:01Z", model="gpt-6", input=[{"q": None}])
UPDATE = event("generation-update", "04", endTime="2026-11-20T09:00:03Z", model=None, output="ho", usageDetails={"input": 9, "output": 1})
LATER = event("generation-update", "05", usageDetails={"input": 10, "output": 5}, level="ERROR")
OTHER = event("generation-create", "01", startTime="2026-11-20T09:00:02Z", model="gpt-6")
OTHER["batch"][0]["body"]["id"] = "obs-2"


@pytest.mark.parametrize(
    ("lines", "input_and_output"),
    [
        ([CREATE, UPDATE], (9, 1, "ok")),
        ([UPDATE, CREATE], (9, 1, "ok")),
        ([CREATE, LATER, UPDATE], (10, 5, "error")),
        ([{"batch": CREATE["batch"] + UPDATE["batch"] + OTHER["batch"]}], (9, 1, "ok")),
    ],
    ids=["in order", "out of order", "two updates", "one batch"],
)
def test_the_events_of_a_generation_are_one_call(lines: list[dict], input_and_output: tuple) -> None:
    rows = [row for row in calls(*lines) if row["inference_id"] == "langfuse:obs-1"]
    assert len(rows) == sum(event["body"]["id"] == "obs-1" for line in lines for event in line["batch"])
    assert len({str({k: v for k, v in row.items() if k != "landing_row"}) for row in rows}) == 1, "each gives the same call"
    names = ("input_uncached_tokens", "output_text_tokens", "status")
    assert tuple(rows[0][name] for name in names) == input_and_output
    names = ("unreadable", "request_model", "started_at", "finished_at", "trace_id", "input_messages", "output_messages")
    assert tuple(rows[0][name] for name in names) == (
        None,
        "gpt-6",
        datetime(2026, 11, 20, 9, 0, 1),
        datetime(2026, 11, 20, 9, 0, 3),
        "tr-1",
        '[{"q":null}]',
        "ho",
    )


def test_more_events_make_a_call_newer() -> None:
    versions = [calls(*lines)[0]["version_at"] for lines in ([CREATE], [CREATE, UPDATE], [CREATE, UPDATE, LATER])]
    assert versions == [None, datetime(2026, 11, 20, 9, 0, 4), datetime(2026, 11, 20, 9, 0, 5)]
    assert calls(UPDATE)[0]["started_at"] is None


def test_audio_usage() -> None:
    usage = {"input": 10, "input_audio_tokens": 20, "output": 5, "output_audio_tokens": 7, "total": 42}
    names = ("input_uncached_tokens", "input_audio_tokens", "output_text_tokens", "output_audio_tokens")
    assert of(CALL | {"usage_details": usage}, *names) == (10, 20, 5, 7)


def test_numbers_of_the_older_api() -> None:
    old = {"usage_details": None, "promptTokens": 10, "completionTokens": 5, "totalTokens": 15}
    assert of(CALL | old, *TOKENS)[:5] == (10, None, None, None, 5)
    assert of(CALL | old | {"promptTokens": 0, "completionTokens": 0, "totalTokens": 0}, *TOKENS)[:5] == (None,) * 5


def test_a_generation_instrumented_twice_counts_once() -> None:
    assert [row["inference_id"] for row in calls(CALL, CALL | {"id": "obs-2", "parent_observation_id": "obs-1"})] == [
        "langfuse:obs-2"
    ]


def test_failed_call_without_usage() -> None:
    failed = {
        "level": "ERROR",
        "status_message": "RateLimitError: Error code: 429 - secret",
        "usage_details": {},
        "cost_details": {},
        "total_cost": 0,
    }
    (row,) = calls(CALL | failed)
    assert tuple(row[n] for n in ("status", "error_type", "http_status", "output_text_tokens", "reported_cost_usd")) == (
        "error",
        "RateLimitError",
        429,
        None,
        None,
    )
    assert "secret" not in str(row)


def test_latency_in_milliseconds_and_an_end_time_repeated() -> None:
    assert of(CALL | {"time_to_first_token": 610}, "first_token_at") == (datetime(2026, 11, 20, 9, 0, 1, 730000),)
    assert of(CALL | {"time_to_first_token": None, "completion_start_time": CALL["end_time"]}, "first_token_at") == (None,)


def test_unreadable_values_are_named() -> None:
    assert of(CALL | {"usage_details": {"input": "lots"}}, "unreadable") == ("usage cannot be read",)
    assert of(CALL | {"usage_details": "{oops", "metadata": "no json", "model_parameters": "["}, "unreadable") == (
        "usage cannot be read",
    )
    assert of(CALL | {"end_time": "later"}, "unreadable") == ("endTime cannot be read",)


def test_every_line_gives_a_row_and_foreign_ones_no_id() -> None:
    rows = stage(
        "inference",
        "langfuse",
        [CALL | {"type": "SPAN"}, TRACE, SCORE, {"data": []}, {"exportSource": "x"}, {"foo": 1}, CALL | {"id": "a'\"\n;--"}],
    )
    assert sorted((r["landing_row"], r["record_kind"], r["inference_id"]) for r in rows) == [
        (1, "context", None),
        (2, "context", None),
        (3, "context", None),
        (4, "context", None),
        (5, "context", None),
        (6, "call", None),
        (7, "call", "langfuse:a'\"\n;--"),
    ]


@pytest.mark.parametrize(("cache_hit", "note"), [(True, "gateway_cache_hit"), ("True", "gateway_cache_hit"), (False, None), (None, None)])
def test_served_from_the_gateways_own_cache(cache_hit: object, note: str | None) -> None:
    (found,) = calls(CALL | {"metadata": {"cache_hit": cache_hit}})
    assert found["usage_note"] == note


REAL = {  # calls, input and output tokens of the innermost generations
    "agno-2025-06-11": (2, 826, 245),
    "beeai-2025-08-01": (5, 5542, None),
    "crewai-2025-07-11": (1, 190, 164),
    "google-adk-2025-08-28": (2, 67, 9),
    "koog-2025-08-26": (2, 215, 125),
    "langgraph-python-2025-08-22": (2, 168, 66),
    "microsoft-agent-2025-12-17": (2, 293, 106),
    "pydantic-ai-2025-06-06": (1, 31, 96),
    "pydantic-ai-tools-2025-12-04": (4, 1315, 209),
    "vercel-aisdk-2025-11-17": (1, 62, 85),
}


@pytest.mark.parametrize("name", REAL)
def test_real_traces(name: str) -> None:
    file = LOGS / "langfuse" / f"{name}.trace.json.gz"
    if not file.exists():
        pytest.skip("shared data is not here")
    rows = calls(json.loads(gzip.decompress(file.read_bytes())))
    inputs, outputs = ([row[n] for row in rows if row[n] is not None] for n in ("input_uncached_tokens", "output_text_tokens"))
    assert (len(rows), sum(inputs), sum(outputs) if outputs else None) == REAL[name]
    assert not any(row["unreadable"] for row in rows)
    assert all(row["started_at"] and row["trace_id"] for row in rows)


def test_real_ingestion_batches() -> None:
    files = sorted((LOGS / "litellm").glob("*langfuse_expected_request_body*.json"))
    if not files:
        pytest.skip("shared data is not here")
    rows = calls(*(json.loads(file.read_text()) for file in files))
    assert len(rows) == len(files)
    assert {(row["input_uncached_tokens"], row["cache_read_tokens"], row["unreadable"]) for row in rows} == {(10, 0, None)}
    assert all(row["reported_cost_usd"] > 0 for row in rows)
