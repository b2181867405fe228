"""TensorZero feedback rows → core.feedback rows."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.staging import stage

EPISODE, CHAT_ID = "0199f0a0-0000-7000-8000-000000000011", "0199f0a1-0000-7000-8000-00000000007a"
FIRST, LAST = "0199f0a1-0ae0-7000-8000-00000000007b", "0199f0a1-0bb0-7000-8000-00000000007c"
CHAT = {"id": CHAT_ID, "function_name": "triage", "variant_name": "v", "episode_id": EPISODE}
MODELS = [
    {"id": LAST, "inference_id": CHAT_ID, "model_name": "sol"},
    {"id": FIRST, "inference_id": CHAT_ID, "model_name": "luna"},
]
METRIC = {
    "id": "0199f0b0-0000-7000-8000-00000000009c",
    "target_id": EPISODE,
    "metric_name": "task_success",
    "value": True,
    "tags": {"author": "crm"},
    "timestamp": "2026-05-20 10:12:00",
}


def of(line: dict, *names: str) -> tuple:
    (row,) = (row for row in stage("feedback", "tensorzero", [CHAT, *MODELS, line]) if row["landing_row"] == 4)
    return tuple(row[name] for name in names)


def test_documented_row() -> None:
    names = (
        "record_kind",
        "unreadable",
        "feedback_id",
        "target_kind",
        "target_id",
        "name",
        "kind",
        "value_number",
        "rater_id",
        "given_at",
    )
    assert of(METRIC, *names) == (
        "signal",
        None,
        f"tensorzero:{METRIC['id']}",
        "session",
        EPISODE,
        "task_success",
        "boolean",
        1.0,
        "crm",
        datetime(2026, 5, 20, 10, 12),
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (EPISODE, ("session", EPISODE, None)),
        (CHAT_ID, ("call", f"tensorzero:{LAST}", CHAT_ID)),
        ("elsewhere", ("trace", "elsewhere", "elsewhere")),
        (None, (None, None, None)),
    ],
)
def test_what_it_is_about(target: str | None, expected: tuple) -> None:
    assert of(METRIC | {"target_id": target}, "target_kind", "target_id", "trace_id") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (METRIC | {"value": False}, ("task_success", "boolean", 0.0, None, None)),
        (METRIC | {"value": 0.5}, ("task_success", "number", 0.5, None, None)),
        (METRIC | {"value": "much"}, ("task_success", "number", None, None, "value cannot be read")),
        ({"id": "c", "target_id": CHAT_ID, "target_type": "inference", "value": "nice"}, ("comment", "text", None, "nice", None)),
        (
            {"id": "d", "inference_id": CHAT_ID, "value": '[{"type":"text"}]'},
            ("demonstration", "correction", None, '[{"type":"text"}]', None),
        ),
    ],
)
def test_kinds_of_signals(line: dict, expected: tuple) -> None:
    assert of(line, "name", "kind", "value_number", "value_text", "unreadable") == expected


def test_other_rows_are_context() -> None:
    rows = stage("feedback", "tensorzero", [CHAT, *MODELS, METRIC])
    assert sorted((row["landing_row"], row["record_kind"]) for row in rows) == [
        (1, "context"),
        (2, "context"),
        (3, "context"),
        (4, "signal"),
    ]


def test_time_of_a_row_without_timestamp_is_in_its_id() -> None:
    assert of(METRIC | {"timestamp": None}, "given_at") == (datetime(2025, 10, 17, 5, 41, 30, 240000),)
