"""Feedback in plain JSON lines → core.feedback rows."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.staging import stage

SIGNAL = {"target": {"call": "openai:chatcmpl-9f1"}, "name": "thumbs", "value": True, "at": "2026-11-20T09:05:00Z"}


def row(line: object) -> dict:
    (only,) = stage("feedback", "feedback", [line])
    return only


def of(line: object, *names: str) -> list:
    found = row(line)
    return [found[name] for name in names]


def test_the_documented_line():
    found = row(SIGNAL)
    assert found.pop("feedback_id").startswith("feedback:")
    assert {k: v for k, v in found.items() if v is not None and k != "landing_file"} == {
        "record_kind": "signal",
        "version_at": datetime(2026, 11, 20, 9, 5),
        "target_kind": "call",
        "target_id": "openai:chatcmpl-9f1",
        "name": "thumbs",
        "kind": "boolean",
        "value_number": 1.0,
        "given_at": datetime(2026, 11, 20, 9, 5),
    }


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"target": {"session": "s1"}}, ["session", "s1", None]),
        ({"target": {"trace": "t1"}}, ["trace", "t1", "t1"]),
        ({"target": {"call": "c1", "system": "openai"}}, ["call", "openai:c1", None]),
        ({"target": {"call": "openai:c1", "system": "openai"}}, ["call", "openai:c1", None]),
        ({"target": None, "inference_id": "openai:c1", "session_id": "s1", "trace_id": "t1"}, ["call", "openai:c1", "t1"]),
        ({"target": None, "session_id": "s1"}, ["session", "s1", None]),
        ({"target": None, "trace_id": "t1"}, ["trace", "t1", "t1"]),
        ({"target": {"call": {"a": 1}}}, [None, None, None]),
    ],
)
def test_targets(target, expected):
    assert of(SIGNAL | target, "target_kind", "target_id", "trace_id") == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"value": False}, ["boolean", 0.0, None]),
        ({"value": "true"}, ["boolean", 1.0, None]),
        ({"value": 0, "kind": "boolean"}, ["boolean", 0.0, None]),
        ({"value": 4.5}, ["number", 4.5, None]),
        ({"value": -3}, ["number", -3.0, None]),
        ({"value": "4", "kind": "number"}, ["number", 4.0, None]),
        ({"value": "very good"}, ["category", None, "very good"]),
        ({"value": "line\nline"}, ["text", None, "line\nline"]),
        ({"value": "x" * 65}, ["text", None, "x" * 65]),
        ({"value": None, "correction": "Paris"}, ["correction", None, "Paris"]),
        ({"value": None, "correction": {"city": "Paris"}}, ["correction", None, '{"city":"Paris"}']),
    ],
)
def test_values(said, expected):
    found = row(SIGNAL | said)
    assert [found[n] for n in ("kind", "value_number", "value_text")] == expected
    assert found["unreadable"] is None


@pytest.mark.parametrize(
    ("nonsense", "word"),
    [
        ({"value": None}, "value cannot be read"),
        ({"value": ""}, "value cannot be read"),
        ({"value": [1, 2]}, "value cannot be read"),
        ({"value": {"a": 1}, "kind": "text"}, "value cannot be read"),
        ({"value": "high", "kind": "number"}, "value cannot be read"),
        ({"value": 2, "kind": "boolean"}, "value cannot be read"),
        ({"value": "1e999", "kind": "number"}, "value cannot be read"),
        ({"value": 1, "kind": "vibe"}, "kind cannot be read"),
        ({"correction": "Paris"}, "value and correction in one signal"),
        ({"rater": {"kind": "alien"}}, "rater kind cannot be read"),
        ({"at": "later"}, "at cannot be read"),
    ],
)
def test_nonsense_is_told(nonsense, word):
    assert row(SIGNAL | nonsense)["unreadable"] == word


@pytest.mark.parametrize(
    ("rater", "expected"),
    [
        ({"rater": {"kind": "user", "id": "u1"}}, ["user", "u1"]),
        ({"rater": {"kind": "Human", "id": 7}}, ["user", "7"]),
        ({"rater": "u1"}, [None, "u1"]),
        ({"rater_kind": "judge", "rater_id": "gpt-5"}, ["evaluator", "gpt-5"]),
        ({"user_id": "u1"}, [None, "u1"]),
        ({"rater": {"kind": "implicit"}}, ["implicit", None]),
    ],
)
def test_raters(rater, expected):
    assert of(SIGNAL | rater, "rater_kind", "rater_id") == expected


def test_id_version_and_aliases():
    assert of(SIGNAL | {"id": 7, "updated_at": 1795165201}, "feedback_id", "version_at") == [
        "feedback:7",
        datetime(2026, 11, 20, 9, 0, 1),
    ]
    same = {"created_at": "2026-11-20T10:05:00+01:00", "metric": "thumbs", "value": True, "inference_id": "openai:chatcmpl-9f1"}
    assert row(same)["feedback_id"] == row(SIGNAL)["feedback_id"], "the same signal in other words is the same signal"
    assert row(SIGNAL | {"value": False})["feedback_id"] != row(SIGNAL)["feedback_id"]
    assert row(SIGNAL | {"comment": "nice"})["comment"] == "nice"


@pytest.mark.parametrize(
    "line", [{"foo": 1}, {}, "[1]", {"name": "thumbs", "value": True}, {"target": {"call": "c"}, "value": True}]
)
def test_without_target_or_name_there_is_no_id(line):
    assert of(line, "record_kind", "feedback_id") == ["signal", None]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ({"rater": {"kind": "evaluator", "id": "judge-gpt"}}, {"rater": {"kind": "evaluator", "id": "judge-claude"}}, False),
        ({"rater": {"kind": "rule", "id": "r1"}}, {"rater_kind": "rule", "rater_id": "r1"}, True),
        ({"rater": {"kind": "evaluator"}}, {"rater": {"kind": "user"}}, False),
        ({"rater": {"kind": "evaluator", "id": "judge-gpt"}}, {}, False),
        # A person's id is in no hash that lacks the key.
        ({"rater": {"kind": "user", "id": "u1"}}, {"rater": {"kind": "user"}}, True),
        ({"rater": "u1"}, {}, True),
    ],
)
def test_raters_who_say_the_same_at_the_same_time_are_told_apart(first, second, is_same):
    ids = [row(SIGNAL | rater)["feedback_id"] for rater in (first, second)]
    assert (ids[0] == ids[1]) is is_same


def test_the_id_of_a_signal_without_a_rater_stays_as_it_was():
    assert row(SIGNAL)["feedback_id"] == "feedback:0c0f034a8dc1a8c1b80195e5b9f1e415"
