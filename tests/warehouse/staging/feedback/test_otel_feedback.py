"""OTLP evaluation events → core.feedback rows."""

from __future__ import annotations

from datetime import datetime

from tests.support.otlp import SPAN, TRACE, log, span, traces
from tests.support.staging import stage

EVENT = "gen_ai.evaluation.result"
RESULT = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.5, "gen_ai.evaluation.explanation": "because"}


def signals(*lines: object) -> list[dict]:
    return [row for row in stage("feedback", "otel", lines) if row["record_kind"] == "signal"]


def of(names: tuple[str, ...], *lines: object) -> tuple:
    (row,) = signals(*lines)
    return tuple(row[name] for name in names)


def test_log_event_about_the_call_it_names() -> None:
    names = (
        "unreadable",
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
    assert of(names, log(EVENT, RESULT)) == (
        None,
        "call",
        f"otel:{TRACE}:{SPAN}",
        TRACE,
        "relevance",
        "number",
        0.5,
        "evaluator",
        "because",
        datetime(2026, 11, 20, 9, 0, 3, 900000),
    )


def test_an_older_event_has_its_name_as_attribute() -> None:
    assert of(("name",), log(EVENT, RESULT | {"event.name": EVENT}, eventName=None)) == ("relevance",)


def test_span_event() -> None:
    assert of(("target_kind", "target_id"), traces(span({}, events=((EVENT, RESULT),)))) == ("call", f"otel:{TRACE}:{SPAN}")


def test_a_label_alone_is_a_category() -> None:
    told = {"gen_ai.evaluation.name": "safe", "gen_ai.evaluation.score.label": "pass"}
    assert of(("kind", "value_number", "value_text"), log(EVENT, told)) == ("category", None, "pass")


def test_found_by_response_id() -> None:
    call = traces(span({"gen_ai.operation.name": "chat", "gen_ai.response.id": "r9"}))
    event = log(EVENT, RESULT | {"gen_ai.response.id": "r9"}, traceId="", spanId="")
    assert of(("target_kind", "target_id"), call, event) == ("call", f"otel:{TRACE}:{SPAN}")


def test_a_response_id_that_ollama_drew_again_tells_of_no_call() -> None:
    told = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "chatcmpl-317"}
    event = log(EVENT, RESULT | {"gen_ai.response.id": "chatcmpl-317"}, traceId="", spanId="")
    first, second = traces(span(told)), traces(span(told, spanId="00f067aa0ba902b8"))
    assert of(("target_kind", "target_id"), first, event) == ("call", f"otel:{TRACE}:{SPAN}")
    assert of(("target_kind", "target_id"), first, second, event) == (None, None)


def test_about_an_agent_it_is_about_the_trace() -> None:
    agent = traces(span({"gen_ai.operation.name": "invoke_agent"}))
    assert of(("target_kind", "target_id"), agent, log(EVENT, RESULT)) == ("trace", TRACE)


def test_about_a_conversation_or_nothing() -> None:
    event = log(EVENT, RESULT | {"gen_ai.conversation.id": "s-11"}, traceId="", spanId="")
    assert of(("target_kind", "target_id"), event) == ("session", "s-11")
    assert of(("target_kind", "target_id"), log(EVENT, RESULT, traceId="", spanId="")) == (None, None)


def test_the_same_event_has_the_same_id_and_another_a_different_one() -> None:
    (one,), (again,), (other,) = (
        signals(log(EVENT, told)) for told in (RESULT, RESULT, RESULT | {"gen_ai.evaluation.score.value": 0.6})
    )
    assert one["feedback_id"] == again["feedback_id"] != other["feedback_id"]


def test_unreadable_and_other_lines() -> None:
    assert of(("unreadable",), log(EVENT, RESULT | {"gen_ai.evaluation.score.value": "high"})) == (
        "gen_ai.evaluation.score.value cannot be read",
    )
    rows = stage("feedback", "otel", [traces(span({})), {"resourceSpans": []}, {"foo": 1}, log("other", {})])
    assert [(row["landing_row"], row["record_kind"]) for row in rows] == [(n, "context") for n in (1, 2, 3, 4)]


def test_ids_of_zeros_are_none() -> None:
    zeros = {"traceId": "0" * 32, "spanId": "0" * 16}
    call = traces(span({"gen_ai.operation.name": "chat", "gen_ai.response.id": "r9"}, **zeros))
    event = log(EVENT, RESULT | {"gen_ai.response.id": "r9"}, **zeros)
    assert of(("target_kind", "target_id", "trace_id"), call, event) == (None, None, None)
