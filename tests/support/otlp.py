"""OTLP/JSON drawn by hand: attributes, spans, log records and the requests that carry them."""

from __future__ import annotations

from typing import Any

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
START, END = 1795165201120000000, 1795165203900000000


def value(given: Any) -> dict[str, Any]:
    match given:
        case bool():
            return {"boolValue": given}
        case int():
            return {"intValue": str(given)}
        case float():
            return {"doubleValue": given}
        case list():
            return {"arrayValue": {"values": [value(item) for item in given]}}
        case dict():
            return {"kvlistValue": {"values": attributes(given)}}
        case _:
            return {"stringValue": given}


def attributes(given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(item)} for key, item in given.items()]


def span(
    given: dict[str, Any], span_id: str = SPAN, parent: str = "", events: tuple[tuple[str, dict], ...] = (), **other: Any
) -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "spanId": span_id,
        "parentSpanId": parent,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(END),
        "attributes": attributes(given),
        "status": {},
        "events": [{"name": name, "timeUnixNano": str(END), "attributes": attributes(told)} for name, told in events],
    } | other


def traces(*spans: dict[str, Any], **resource: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {"attributes": attributes(resource)}, "scopeSpans": [{"spans": list(spans)}]}]}


def log(event: str, given: dict[str, Any], **other: Any) -> dict[str, Any]:
    record = {
        "traceId": TRACE,
        "spanId": SPAN,
        "eventName": event,
        "timeUnixNano": str(END),
        "attributes": attributes(given),
    } | other
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
