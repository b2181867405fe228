"""Retention: what is older than its table keeps goes, the numbers of what stays and the ledger's sums stay right."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipelines.build import build_tables, mart_order
from pipelines.erasure.retention import retain, rules
from pipelines.errors import NotConfigured
from pipelines.ingest import ingest_source
from pipelines.maintenance import maintain
from pipelines.settings import Settings
from tests.support.every_byte import grep
from tests.support.lakehouse import ask, call, log, warehouse
from tests.support.outcomebook import OUTCOMES

TODAY = date(2026, 11, 25)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for day in (1, 15, 20):
        log(tmp_path / f"logs/2026-11-{day:02}/a.jsonl", [call(f"call-{day}-000{n}", at=f"2026-11-{day:02}T09:00:00Z", said=f"a story of day {day:04}") for n in range(3)])
    settings = warehouse(tmp_path / "home", f"{tmp_path}/logs/{{day}}/*.jsonl")
    for day in (1, 15, 20):
        ingest_source(settings, "app", date(2026, 11, day))
    return settings


def days(settings: Settings, table: str) -> list[int]:
    return [d for (d,) in ask(settings, f"select distinct day(started_at)::int from {table} order by 1")]


def test_what_was_said_goes_and_the_numbers_stay(settings: Settings) -> None:
    settings.retention = {"core.inference_content": 7, "landing": 7}
    done = retain(settings, TODAY)
    assert (done.rows["core.inference_content"], done.landed_files) == (6, 2)
    assert (days(settings, "core.inference_content"), days(settings, "core.inference")) == ([20], [1, 15, 20])
    assert grep(settings.home, ["a story of day 0001", "a story of day 0015"]) == {}
    assert grep(settings.home, ["a story of day 0020"])
    again = retain(settings, TODAY)
    assert (again.rows["core.inference_content"], again.landed_files, again.deleted_files) == (0, 0, 0)


def test_what_was_made_of_it_goes_too(settings: Settings) -> None:
    texts = ["marts.prompt", "datasets.routing_log", "datasets.routing_split", "datasets.routing_wide"]
    build_tables(settings, [name for name in mart_order() if name in (*texts, *OUTCOMES, "marts.call_cost")])
    assert ask(settings, "select count(prompt) from marts.prompt") == [(9,)]
    settings.retention = {"core.inference_content": 7, "landing": 7}
    retain(settings, TODAY)
    assert ask(settings, "select count(prompt) from marts.prompt") == [(3,)]
    assert grep(settings.home, ["a story of day 0001", "a story of day 0015"]) == {}
    assert retain(settings, TODAY).deleted_files == 0


def test_a_file_that_is_kept_no_longer_does_not_come_back_as_a_new_one(settings: Settings, tmp_path: Path) -> None:
    settings.retention = {"landing": 7}
    retain(settings, TODAY)
    (settings.home / "origins.db").unlink()
    log(tmp_path / "logs/2026-11-24/b.jsonl", (tmp_path / "logs/2026-11-01/a.jsonl").read_bytes())
    [report] = [r for r in ingest_source(settings, "app", date(2026, 11, 24)) if r.table == "core.inference"]
    assert (report.files, report.kept) == (0, 0)
    assert ask(settings, "select count(*) from core.inference") == [(9,)]


def test_rows_that_went_by_themselves_are_told_in_the_ledger(settings: Settings) -> None:
    settings.retention = {"core.inference": 7}
    retain(settings, TODAY)
    assert (days(settings, "core.inference"), days(settings, "core.inference_content")) == ([20], [20])
    build_tables(settings, ["marts.reconciliation"])
    assert ask(settings, "select expected_rows, row_difference from marts.reconciliation where target_table = 'core.inference'") == [(3, 0)]
    ingest_source(settings, "app", date(2026, 11, 1))
    assert ask(settings, "select count(*) from core.inference") == [(3,)]


def test_maintenance_carries_it_out(settings: Settings) -> None:
    settings.retention = {"core.inference_content": 1}
    assert "9 rows of core.inference_content" in str(maintain(settings))
    assert ask(settings, "select count(*) from core.inference_content") == [(0,)]


def test_a_table_without_days_cannot_have_a_rule(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", retention={"core.landing_file": 3})
    with pytest.raises(NotConfigured, match="no day to go by"):
        rules(settings)
    settings.retention = {"core.no_such": 3}
    with pytest.raises(NotConfigured):
        rules(settings)
