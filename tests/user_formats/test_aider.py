"""A format of a user's own: aider's analytics log → core.inference and core.feedback rows."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.staging import stage

HERE = Path(__file__).parent
LOG = (
    Path(os.environ.get("FLYWHEEL_SHARED_DATA", HERE.parents[2] / "shared" / "data"))
    / "logs"
    / "aider"
    / "events_2024-08_2025-02.jsonl.gz"
)
SENT = {
    "main_model": "gpt-4o-mini",
    "prompt_tokens": 638,
    "completion_tokens": 25,
    "total_tokens": 663,
    "cost": 0.0001107,
    "total_cost": 0.0001107,
}


def event(name: str, time: int, user: str = "u1", **properties: object) -> dict:
    return {"event": name, "properties": properties, "user_id": user, "time": time}


def calls(*lines: object) -> list[dict]:
    rows = stage("inference", str(HERE / "inference" / "aider"), lines)
    return sorted((row for row in rows if row["record_kind"] == "call"), key=lambda row: row["landing_row"])


def signals(*lines: object) -> list[dict]:
    rows = stage("feedback", str(HERE / "feedback" / "aider"), lines)
    return sorted((row for row in rows if row["record_kind"] == "signal"), key=lambda row: row["landing_row"])


def test_a_message_is_a_call() -> None:
    (row,) = calls(
        event("launched", 1723560031), event("message_send_starting", 1723560040), event("message_send", 1723560043, **SENT)
    )
    expected = {
        "unreadable": None,
        "provider_name": "openai",
        "request_model": "gpt-4o-mini",
        "input_uncached_tokens": 638,
        "output_text_tokens": 25,
        "started_at": datetime(2024, 8, 13, 14, 40, 40),
        "finished_at": datetime(2024, 8, 13, 14, 40, 43),
        "status": "ok",
        "user_id": "u1",
        "reported_cost_usd": Decimal("0.0001107"),
    }
    assert {name: row[name] for name in expected} == expected


def test_without_a_start_the_duration_is_unknown() -> None:
    (row,) = calls(event("message_send", 1723560043, **SENT))
    assert (row["started_at"], row["finished_at"], row["session_id"]) == (datetime(2024, 8, 13, 14, 40, 43), None, None)


def test_equal_events_are_two_calls_with_ids_that_stay() -> None:
    lines = [event("message_send", 1723560043, **SENT)] * 2
    ids = [row["inference_id"] for row in calls(*lines)]
    assert len(set(ids)) == 2
    assert [row["inference_id"] for row in calls(*lines, event("exit", 1723560050), event("message_send", 1723560060, **SENT))][
        :2
    ] == ids


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gemini/gemini-1.5-flash-002", "gemini"), ("claude-3-5-sonnet", "anthropic"), ("o1-mini", "openai"), ("x", None)],
)
def test_provider(model: str, provider: str | None) -> None:
    (row,) = calls(event("message_send", 1723560043, **SENT | {"main_model": model}))
    assert row["provider_name"] == provider


def test_undo_is_about_the_last_call_of_the_users_session() -> None:
    lines = [
        event("launched", 1723560031),
        event("message_send", 1723560043, **SENT),
        event("message_send", 1723560044, user="u2", **SENT),
        event("command_undo", 1723560050),
        event("launched", 1723560060),
        event("command_undo", 1723560070),
        event("command_clear", 1723560080),
    ]
    first, second, cleared = signals(*lines)
    assert (first["name"], first["target_kind"], first["target_id"]) == ("undo", "call", calls(*lines)[0]["inference_id"])
    assert (second["target_kind"], cleared["name"], cleared["target_kind"]) == ("session", "clear", "session")
    assert first["rater_kind"] == "implicit"


def test_an_exception_keeps_its_class_only() -> None:
    (row,) = signals(
        event("launched", 1), event("message_send_exception", 1723560050, exception="LiteLLMException: key sk-1 refused")
    )
    assert (row["kind"], row["value_text"], row["target_kind"]) == ("category", "LiteLLMException", "session")
    assert "sk-1" not in str(row)


def test_unreadable_values_are_named() -> None:
    (row,) = calls(event("message_send", 1723560043, **SENT | {"prompt_tokens": "many"}))
    assert row["unreadable"] == "prompt_tokens cannot be read"


def test_real_log() -> None:
    if not LOG.exists():
        pytest.skip("shared data is not here")
    lines = gzip.decompress(LOG.read_bytes()).decode().splitlines()
    rows, given = calls(*lines), signals(*lines)
    assert (len(lines), len(rows), len({row["inference_id"] for row in rows})) == (16067, 2669, 2669)
    assert not any(row["unreadable"] for row in rows)
    assert Counter(row["name"] for row in given) == {"clear": 199, "undo": 152, "exception": 43}
    assert {row["target_id"] for row in given if row["target_kind"] == "call"} <= {row["inference_id"] for row in rows}
