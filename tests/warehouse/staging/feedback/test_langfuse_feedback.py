"""Langfuse scores → core.feedback rows."""

from __future__ import annotations

import gzip
import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.staging import stage

LOGS = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs" / "langfuse"

SCORE = {
    "id": "sc-1",
    "trace_id": "tr-1",
    "observation_id": "obs-1",
    "name": "user_feedback",
    "value": 1,
    "data_type": "BOOLEAN",
    "source": "API",
    "string_value": "True",
    "timestamp": "2026-11-20 09:05:00",
    "comment": "thanks",
}


def signals(*lines: object) -> list[dict]:
    return [row for row in stage("feedback", "langfuse", lines) if row["record_kind"] == "signal"]


def of(line: object, *names: str) -> tuple:
    (row,) = signals(line)
    return tuple(row[name] for name in names)


@pytest.mark.parametrize(
    "line",
    [
        SCORE,
        {
            "id": "sc-1",
            "traceId": "tr-1",
            "observationId": "obs-1",
            "name": "user_feedback",
            "value": 1,
            "dataType": "BOOLEAN",
            "source": "API",
            "stringValue": "True",
            "timestamp": "2026-11-20T09:05:00Z",
            "comment": "thanks",
        },
        {"trace": {"id": "tr-1", "timestamp": "2026-11-20", "scores": [SCORE]}, "observations": []},
        {"data": [SCORE]},
        {"batch": [{"type": "score-create", "body": SCORE}]},
    ],
    ids=["export", "api", "in its trace", "page", "batch"],
)
def test_documented_score_in_every_shape(line: dict) -> None:
    names = (
        "unreadable",
        "feedback_id",
        "target_kind",
        "target_id",
        "trace_id",
        "name",
        "kind",
        "value_number",
        "rater_kind",
        "comment",
        "given_at",
    )
    assert of(line, *names) == (
        None,
        "langfuse:sc-1",
        "call",
        "langfuse:obs-1",
        "tr-1",
        "user_feedback",
        "boolean",
        1.0,
        "user",
        "thanks",
        datetime(2026, 11, 20, 9, 5),
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"data_type": "NUMERIC", "value": 0.7, "string_value": None}, ("number", 0.7, None, None)),
        ({"data_type": "NUMERIC", "value": "high"}, ("number", None, None, "value cannot be read")),
        ({"data_type": "CATEGORICAL", "value": 2, "string_value": "good"}, ("category", None, "good", None)),
        (
            {"data_type": "CORRECTION", "value": 0, "string_value": None, "longStringValue": "better"},
            ("correction", None, "better", None),
        ),
        ({"data_type": None, "value": True, "string_value": None}, ("boolean", 1.0, None, None)),
        ({"data_type": None, "value": 0, "string_value": None}, ("number", 0.0, None, None)),
        ({"data_type": None, "value": "good", "string_value": None}, ("category", None, "good", None)),
    ],
)
def test_kinds(told: dict, expected: tuple) -> None:
    assert of(SCORE | told, "kind", "value_number", "value_text", "unreadable") == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"source": "EVAL", "name": "toxicity"}, ("evaluator", "toxicity")),
        ({"source": "ANNOTATION", "author_user_id": "rev-1"}, ("user", "rev-1")),
        ({"source": "API", "name": "helpful"}, (None, None)),
    ],
)
def test_who_gave_it(told: dict, expected: tuple) -> None:
    assert of(SCORE | told, "rater_kind", "rater_id") == expected


def test_what_it_is_about() -> None:
    assert of(SCORE | {"observation_id": None}, "target_kind", "target_id") == ("trace", "tr-1")
    assert of(SCORE | {"observation_id": None, "trace_id": None, "session_id": "s-1"}, "target_kind", "target_id") == (
        "session",
        "s-1",
    )
    agent = {"id": "obs-1", "type": "AGENT", "start_time": "2026-11-20", "trace_id": "tr-1"}
    (row,) = signals(SCORE, agent)
    assert (row["target_kind"], row["target_id"]) == ("trace", "tr-1")
    assert signals({**SCORE, "trace_id": None, "observation_id": None, "dataset_run_id": "run"}) == []


def test_a_later_version_of_a_score_says_so() -> None:
    assert of(SCORE | {"updated_at": "2026-11-21 00:00:00"}, "version_at", "given_at") == (
        datetime(2026, 11, 21),
        datetime(2026, 11, 20, 9, 5),
    )


def test_every_line_gives_a_row() -> None:
    lines = [
        {"id": "tr-1", "timestamp": "2026-11-20", "name": "t"},
        {"id": "o", "type": "SPAN", "start_time": "2026-11-20"},
        {"data": []},
        {"x": 1},
        SCORE,
    ]
    rows = stage("feedback", "langfuse", lines)
    assert sorted((row["landing_row"], row["record_kind"]) for row in rows) == [
        *((n, "context") for n in (1, 2, 3, 4)),
        (5, "signal"),
    ]


def test_real_scores_and_corrections() -> None:
    files = sorted(LOGS.glob("*.trace.json.gz"))
    if not files:
        pytest.skip("shared data is not here")
    traces = [json.loads(gzip.decompress(file.read_bytes())) for file in files]
    expected = {s["id"] for t in traces for s in (t["trace"].get("scores") or []) + (t["trace"].get("corrections") or [])}
    rows = signals(*traces)
    assert {row["feedback_id"] for row in rows} == {f"langfuse:{id}" for id in expected}
    assert not any(row["unreadable"] for row in rows)
    assert all(row["target_id"] and row["given_at"] for row in rows)
    assert {row["kind"] for row in rows} == {"number", "correction"}
