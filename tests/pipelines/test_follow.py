"""Several tables change as if they were one: a commit announces what must follow, and whoever comes next finishes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import follow as following
from pipelines.contracts import contract
from pipelines.engine import connect, write
from pipelines.follow import Announced, announced, announcement, follow, follow_all, recover, replacement, settle
from pipelines.ingest import ingest_source
from pipelines.lake import Lake
from pipelines.settings import Settings
from tests.support.lakehouse import DAY, ask, call, crashed_ingest, hashes, log, started, unaccounted, warehouse

ANNOUNCER, OTHER, TABLE = "core.feedback", "core.inference", "core.quarantine"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(Settings(home=tmp_path / "home"))


def quarantined(lake: Lake, name: str, *rows: tuple[str, str]) -> Path:
    """A file of quarantine rows, given as landing file and key."""
    values = ", ".join(f"('{file}', '{key}')" for file, key in rows)
    with connect(lake.settings) as con:
        return write(con, lake.settings.scratch / f"{name}.parquet", f"""
            select {", ".join(contract(TABLE).typed())} from (select 'core.feedback' as target_table, 'app' as source, 'x' as source_format,
                '2026-11-20' as landed_day, f as landing_file, 1 as landing_line, 1 as landing_item, k as row_key, 'p' as promises, 'r' as reason
            from (values {values}) as t (f, k))""")  # fmt: skip


def step(lake: Lake, name: str, file: str, *keys: str) -> dict:
    """The step that puts keys in the place of what is there of a landing file."""
    with connect(lake.settings) as con:
        drop = write(con, lake.settings.scratch / f"{name}-drop.parquet", f"select '{file}' as landing_file")
    staged = [(quarantined(lake, name, *((file, key) for key in keys)), None)] if keys else []
    return replacement(lake, TABLE, staged, drop, {"landing_file": "landing_file"})


def announce(lake: Lake, name: str, steps: list[dict]) -> None:
    settle(lake, ANNOUNCER, lambda seen: lake.commit(seen, [], properties=announcement(name, steps)))


def held(lake: Lake) -> list[tuple]:
    lake.publish_views()
    return ask(lake.settings, f"select landing_file, row_key from {TABLE} order by all")


def test_a_step_puts_rows_in_the_place_of_others(lake):
    lake.append(TABLE, [(quarantined(lake, "old", ("f", "old"), ("g", "stays")), None)])
    steps = [step(lake, "one", "f", "new")]
    announce(lake, "one", steps)
    assert held(lake) == [("f", "old"), ("g", "stays")]
    follow(lake, ANNOUNCER, "one", steps)
    assert held(lake) == [("f", "new"), ("g", "stays")]
    assert announced(lake.table(ANNOUNCER)) == {}


def test_a_step_that_only_takes_away(lake):
    lake.append(TABLE, [(quarantined(lake, "old", ("f", "old"), ("g", "stays")), None)])
    announce(lake, "one", [step(lake, "one", "f")])
    recover(lake, ANNOUNCER)
    assert held(lake) == [("g", "stays")]


def test_whoever_commits_next_finishes_first(lake):
    announce(lake, "one", [step(lake, "one", "f", "first")])
    announce(lake, "two", [step(lake, "two", "f", "second")])
    assert set(announced(lake.table(ANNOUNCER))) == {"two"}
    assert held(lake) == [("f", "first")]
    recover(lake, ANNOUNCER)
    assert held(lake) == [("f", "second")]


def test_doing_it_again_does_nothing(lake):
    steps = [step(lake, "one", "f", "a")]
    announce(lake, "one", steps)
    for _ in range(3):
        follow(lake, ANNOUNCER, "one", steps)
    assert held(lake) == [("f", "a")]


def test_a_helper_that_comes_late_undoes_nothing(lake):
    """It read the announcement, then slept: meanwhile the step was done and the next commit replaced its rows."""
    late = [step(lake, "one", "f", "first")]
    announce(lake, "one", late)
    announce(lake, "two", [step(lake, "two", "f", "second")])
    recover(lake, ANNOUNCER)
    follow(lake, ANNOUNCER, "one", late)
    assert held(lake) == [("f", "second")]


def test_a_crash_between_two_steps(lake):
    steps = [step(lake, "a", "f", "a"), step(lake, "b", "g", "b")]
    announce(lake, "one", steps)
    lake.settle(TABLE, lambda seen: following._do(lake, seen, [(Announced(ANNOUNCER, "one", steps), steps[0])]))
    assert held(lake) == [("f", "a")]
    recover(lake, ANNOUNCER)
    assert held(lake) == [("f", "a"), ("g", "b")]


def test_steps_of_several_commits_are_one_commit(lake):
    lake.append(TABLE, [(quarantined(lake, "old", ("f", "old"), ("g", "old"), ("h", "stays")), None)])
    commits = [Announced(ANNOUNCER, "one", [step(lake, "one", "f", "new")]), Announced(OTHER, "two", [step(lake, "two", "g", "new")])]
    for commit in commits:
        settle(lake, commit.table, lambda seen, commit=commit: lake.commit(seen, [], properties=announcement(commit.name, commit.steps)))
    before = len(lake.table(TABLE).snapshots())
    follow_all(lake, commits)
    assert held(lake) == [("f", "new"), ("g", "new"), ("h", "stays")]
    assert len(lake.table(TABLE).snapshots()) - before <= 2  # an overwrite is a deletion and an addition
    assert announced(lake.table(ANNOUNCER)) == announced(lake.table(OTHER)) == {}
    follow_all(lake, commits)
    assert held(lake) == [("f", "new"), ("g", "new"), ("h", "stays")]


def test_an_announcement_names_files_and_holds_no_rows(lake):
    said = json.dumps(announcement("one", [step(lake, "one", "f", "secret")]))
    assert "secret" not in said


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("follow") / "logs"
    log(folder / "a.jsonl", [*(call(f"c{n}", at=f"2026-11-{18 + n % 2}T09:00:00Z", said="old") for n in range(20)), "{broken"])
    return folder


@pytest.fixture(scope="module")
def undisturbed(logs) -> dict:
    return hashes(taken_in(warehouse(logs.parent / "undisturbed", logs), logs))


def taken_in(settings: Settings, logs: Path) -> Settings:
    ingest_source(settings, "app", DAY)
    return settings


def test_killed_at_one_commit_after_the_other(logs, undisturbed):
    """Each run dies at another commit or strike, before or after it, and each takes up where the one before fell."""
    settings = warehouse(logs.parent / "killed", logs)
    for n, after in ((1, False), (1, True), (1, True), (2, False), (1, True), (2, True)):
        with started(crashed_ingest, settings, n, after) as process:
            process.join()
        assert process.exitcode == -9
    taken_in(settings, logs)
    assert hashes(settings) == undisturbed
    assert unaccounted(settings) == []
