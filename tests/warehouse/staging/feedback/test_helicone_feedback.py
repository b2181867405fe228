"""Helicone request exports → core.feedback rows."""

from __future__ import annotations

from datetime import datetime

from tests.support.staging import stage

EXPORT = {
    "request_id": "r-1",
    "request_created_at": "2026-11-20T09:00:01Z",
    "response_created_at": "2026-11-20T09:00:03Z",
    "request_user_id": "u1",
    "feedback_id": "f-1",
    "feedback_rating": True,
    "feedback_created_at": "2026-11-20T09:05:00Z",
}


def signals(*lines: object) -> list[dict]:
    return sorted(stage("feedback", "helicone", lines), key=lambda r: (r["landing_row"], r["name"] or ""))


def test_a_rating():
    (found,) = signals(EXPORT)
    assert {k: v for k, v in found.items() if v is not None and k != "landing_file"} == {
        "landing_row": 1,
        "record_kind": "signal",
        "feedback_id": "helicone:f-1",
        "version_at": datetime(2026, 11, 20, 9, 5),
        "target_kind": "call",
        "target_id": "helicone:r-1",
        "name": "user_rating",
        "kind": "boolean",
        "value_number": 1.0,
        "rater_kind": "user",
        "rater_id": "u1",
        "given_at": datetime(2026, 11, 20, 9, 5),
    }


def test_scores_are_a_signal_each_and_the_rating_is_not_told_twice():
    scores = {
        "accuracy": 0.9,
        "is_safe": False,
        "depth": {"value": 3, "valueType": "number"},
        "helicone-score-feedback": 1,
        "odd": "x",
    }
    found = {r["name"]: r for r in signals(EXPORT | {"scores": scores})}
    assert {n: (r["kind"], r["value_number"], r["rater_kind"], r["unreadable"]) for n, r in found.items()} == {
        "user_rating": ("boolean", 1.0, "user", None),
        "accuracy": ("number", 0.9, "evaluator", None),
        "is_safe": ("boolean", 0.0, "evaluator", None),
        "depth": ("number", 3.0, "evaluator", None),
        "odd": ("number", None, "evaluator", "value cannot be read"),
    }
    assert found["accuracy"]["given_at"] == datetime(2026, 11, 20, 9, 0, 3)
    assert len({r["feedback_id"] for r in found.values()}) == 5


def test_a_later_value_of_a_score_keeps_its_id():
    first, second = ({"request_id": "r-1", "scores": {"accuracy": v}} for v in (0.1, 0.2))
    assert signals(first)[0]["feedback_id"] == signals(second)[0]["feedback_id"]


def test_a_request_without_signals_is_context_and_every_line_is_accounted_for():
    lines = [
        {"request_id": "r-2"},
        EXPORT,
        {"foo": 1},
        {"scores": [1]},
        {"scores": "x"},
        "5",
        EXPORT | {"scores": {"a": 1, "b": 2}},
    ]
    assert [(r["landing_row"], r["record_kind"]) for r in signals(*lines)] == [
        (1, "context"),
        (2, "signal"),
        (3, "context"),
        (4, "context"),
        (5, "context"),
        (6, "context"),
        (7, "signal"),
        (7, "signal"),
        (7, "signal"),
    ]


def test_wrong_types_are_told():
    assert signals(EXPORT | {"feedback_rating": "maybe"})[0]["unreadable"] == "value cannot be read"
    assert signals(EXPORT | {"feedback_created_at": "later"})[0]["unreadable"] == "feedback_created_at cannot be read"
