"""The queue goes out as feedback to be filled in, and comes back as answers that count."""

from __future__ import annotations

import json
from datetime import date, datetime

import pytest

from pipelines.build import build_tables
from pipelines.errors import NotConfigured
from pipelines.export.review import NAME, queue, write_queue
from pipelines.ingest import ingest_source
from pipelines.settings import Source
from tests.support.lakehouse import ask, call, log, warehouse
from tests.support.outcomebook import OUTCOMES

TABLES = ["marts.call_cost", *OUTCOMES, "datasets.review_queue"]
NOW = datetime(2026, 11, 20, 12)
SECRET = "write to ann@example.com"


@pytest.fixture
def settings(tmp_path):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs" / "a.jsonl", [call(f"c{n}", at=f"2026-11-1{n % 5}T09:0{n}:00Z", said=f"{SECRET} {'abcdefghi'[n]}") for n in range(8)] + [call("z", at="2026-11-20T09:00:00Z")])
    log(tmp_path / "feedback" / "a.jsonl", [{"inference_id": "litellm:c0", "name": "quality", "value": 0.4, "at": "2026-11-10T10:00:00Z", "rater_kind": "evaluator"}])
    settings.sources["feedback"] = Source(url=str(tmp_path / "feedback"), format="feedback")
    for source in ("app", "feedback"):
        ingest_source(settings, source, date(2026, 11, 20))
    build_tables(settings, TABLES)
    return settings


def test_answers_come_back_and_leave_the_queue(settings, tmp_path):
    written = write_queue(settings, tmp_path / "out" / "review.jsonl", 3, now=NOW)
    lines = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert written.calls == len(lines) == 3
    assert SECRET not in written.path.read_text()
    assert {line["name"] for line in lines} == {NAME} and {line["value"] for line in lines} == {None}
    answers = [line | {"value": False} for line in lines]
    log(tmp_path / "answers" / "a.jsonl", answers)
    settings.sources["review"] = Source(url=str(tmp_path / "answers"), format="feedback")
    [report] = ingest_source(settings, "review", date(2026, 11, 20))
    assert not report.reasons
    build_tables(settings, TABLES)
    ids = tuple(line["inference_id"] for line in answers)
    assert ask(settings, f"select count(*), max(outcome_share) < 0.3 from marts.call_outcome where inference_id in {ids}") == [(3, True)]
    assert ask(settings, f"select count(*) from datasets.review_queue where inference_id in {ids}") == [(0,)]


def test_nobody_is_asked_what_no_longer_counts(settings, tmp_path):
    """Answers given today to calls of 15 days ago would never reach their outcomes."""
    due = [at for (at,) in ask(settings, "select review_by_at from datasets.review_queue")]
    now = datetime(2026, 11, 26)
    written = write_queue(settings, tmp_path / "some.jsonl", 20, now=now)
    given = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert 0 < len(given) == sum(at > now for at in due) < len(due)
    assert all(line["at"] < line["asked"]["by"] for line in given)
    assert f"{len(due) - len(given)} calls of the queue are left out" in str(written) and "flywheel build" in str(written)
    late = write_queue(settings, tmp_path / "none.jsonl", 20, now=datetime(2027, 1, 1))
    assert (late.calls, late.too_late, late.path.read_text()) == (0, len(due), "")
    assert "left out" not in str(write_queue(settings, tmp_path / "all.jsonl", 20, now=datetime(2026, 11, 1)))


def test_text_is_shown_on_request_only(settings):
    rows, names = queue(settings, 2)
    assert "prompt" not in names and SECRET not in str(rows)
    rows, names = queue(settings, 2, with_text=True)
    assert names[-2:] == ["prompt", "response"] and SECRET in str(rows)


def test_without_a_queue_it_says_so(tmp_path):
    with pytest.raises(NotConfigured, match="flywheel build"):
        queue(warehouse(tmp_path / "home"), 2)
