"""Leaderboards: files of ratings in → core.capability; twice is once, later files win, what cannot be read stops."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipelines.build import build_table
from pipelines.capabilities import ingest_capabilities
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.settings import Settings
from tests.support.lakehouse import ask, log

DAY = date(2026, 11, 20)
BOARD = b",gpt-4-0314,Claude-3-5-Sonnet-20240620\n20250101,1186.5,0.0\n20250108,1187.25,1268\n"
RATINGS = "select rated_name, model_name, cast(rated_day as varchar), rating from core.capability order by 3, 1"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home", memory_limit="400MB", threads=2)


def test_a_wide_board_with_holes(settings, tmp_path):
    report = ingest_capabilities(settings, "arena", str(log(tmp_path / "board.csv", BOARD)), "lmarena", DAY)
    assert (report.files, report.kept) == (1, 3)
    assert ask(settings, RATINGS) == [
        ("gpt-4-0314", "gpt-4-0314", "2025-01-01", 1186.5),
        ("Claude-3-5-Sonnet-20240620", "claude-3.5-sonnet-20240620", "2025-01-08", 1268.0),
        ("gpt-4-0314", "gpt-4-0314", "2025-01-08", 1187.25),
    ]


def test_the_same_again_and_a_later_file_that_corrects(settings, tmp_path):
    first = log(tmp_path / "a.csv", BOARD)
    ingest_capabilities(settings, "arena", str(first), "lmarena", DAY)
    assert ingest_capabilities(settings, "arena", str(first), "lmarena", date(2026, 11, 21)).files == 0
    ingest_capabilities(settings, "arena", str(log(tmp_path / "b.csv", b",gpt-4-0314,new\n20250108,1190,1300\n")), "lmarena", date(2026, 11, 22))
    assert [(r[0], r[3]) for r in ask(settings, RATINGS)] == [
        ("gpt-4-0314", 1186.5), ("Claude-3-5-Sonnet-20240620", 1268.0), ("gpt-4-0314", 1190.0), ("new", 1300.0)]
    # What the later file says again is the earlier file's duplicate.
    assert ask(settings, "select record_count, kept_count, duplicate_count from core.landing_file order by landed_day") == [(3, 2, 1), (2, 2, 0)]


def test_a_catalogue_without_days_is_rated_on_the_day_it_came(settings, tmp_path):
    path = log(tmp_path / "elo.csv", b"model,overall,hard,coding,cpmi,launch,end,source\nm1,1500,1490,,10,2026-06,,\nm2,,,1400,,,,\n")
    ingest_capabilities(settings, "elo", str(path), "elo_price", DAY)
    assert ask(settings, "select scale, rated_name, cast(rated_day as varchar), rating from core.capability order by 1") == [
        ("coding", "m2", "2026-11-20", 1400.0), ("hard", "m1", "2026-11-20", 1490.0), ("overall", "m1", "2026-11-20", 1500.0)]


@pytest.mark.parametrize(("content", "format", "error", "says"), [
    (b"model,score\nm,1\n", "elo_price", StopTheLine, "do not read as elo_price"),
    (b",m\n20250101,0.0\n", "lmarena", StopTheLine, "hold no rating at all"),
    (b",m\n20250101,best\n", "lmarena", StopTheLine, "do not read as lmarena"),
    (BOARD, "my_board", NotConfigured, "warehouse/staging/capability/my_board.sql"),
])
def test_what_is_no_leaderboard_stops(settings, tmp_path: Path, content, format, error, says):
    with pytest.raises(error, match=says):
        ingest_capabilities(settings, "arena", str(log(tmp_path / "x.csv", content)), format, DAY)


def test_the_ledger_agrees_with_what_is_held(settings, tmp_path):
    ingest_capabilities(settings, "arena", str(log(tmp_path / "a.csv", BOARD)), "lmarena", DAY)
    ingest_capabilities(settings, "arena", str(log(tmp_path / "b.csv", b",gpt-4-0314,new\n20250108,1190,1300\n")), "lmarena", date(2026, 11, 22))
    build_table(settings, "marts.reconciliation")
    assert ask(settings, "select source, target_table, record_count, duplicate_count, expected_rows, row_count from marts.reconciliation") == [
        ("arena", "core.capability", 5, 1, 4, 4)]
