"""Erasing: nothing of theirs in any byte (searched here by other code than the report's), all of the others' as it was."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from pipelines import ingest
from pipelines.build import build_tables
from pipelines.contracts import contract
from pipelines.erasure.erase import erase, finish
from pipelines.erasure.tombstones import pseudonym, unfinished
from pipelines.errors import NotConfigured, RetryLater
from pipelines.export.finetune import export_dataset
from pipelines.finetune.versions import build_dataset
from pipelines.ingest import ingest_landed, ingest_source
from pipelines.lake import Lake
from pipelines.settings import Settings, Source
from pipelines.simulate import FORMATS, simulate
from tests.support.every_byte import grep
from tests.support.finetune import recipe, said, stored
from tests.support.lakehouse import (
    DAY,
    LINEAGE,
    MARTS,
    ask,
    call,
    crash_at,
    hashes,
    log,
    processes,
    started,
    unaccounted,
    warehouse,
)

ARRIVAL = date(2026, 10, 12)


class Sample:
    """A simulated world that was taken in; what its truth says is whose."""

    def __init__(self, folder: Path) -> None:
        simulate(folder, calls=360, days=2, first_day=date(2026, 10, 5), seed=5, formats=FORMATS, dirt_share=0.06)
        self.folder, self.logs = folder, folder / "logs"
        self.settings = self.at(folder / "home", self.logs)
        for name in self.settings.sources:
            ingest_source(self.settings, name, ARRIVAL)
        build_tables(self.settings, MARTS)

    def at(self, home: Path, logs: Path) -> Settings:
        sources = {p.name: Source(url=str(p), format=p.name) for p in sorted(logs.iterdir())}
        return Settings.load(home=home, sources=sources, pseudonym_key="test key", threads=2)

    def truth(self, sql: str) -> list[tuple]:
        return duckdb.sql(sql.replace("truth.call", f"read_parquet('{self.folder}/truth/call.parquet')")).fetchall()

    def ids(self, where: str) -> set[str]:
        """Every identifier that the truth knows of some calls."""
        rows = self.truth(f"select inference_id, regexp_extract(inference_id, '([^:]+)$', 1), session_id, trace_id from truth.call where {where}")
        return {x for row in rows for x in row if x}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("erase"))


def rows(settings: Settings, table: str, where: str = "true") -> list[tuple]:
    """A hash of each row, whatever line it came from."""
    columns = ", ".join(f'"{c}"' for c in contract(table).names if c not in LINEAGE)
    return ask(settings, f"select md5(cast(row({columns}) as varchar)) from {table} where {where} order by 1")


def test_a_tenant_of_all_formats_goes_without_a_trace_and_never_comes_back(sample: Sample) -> None:
    settings = sample.settings
    [(tenant, formats)] = sample.truth("select tenant, count(distinct format) from truth.call group by 1 order by 2 desc, count(*) limit 1")
    assert formats == len([f for f in FORMATS if f != "feedback"])
    where = f"tenant = '{tenant}'"
    # A spoilt line may break off before it says whose it is; nobody can tell then.
    ids = sample.ids(f"{where} and dirt_kind is null")
    users = {u for (u,) in sample.truth(f"select distinct user_id from truth.call where {where}")}
    held = {r[0] for r in ask(settings, f"select inference_id from core.inference where {where}")}
    signals = {r[0] for r in ask(settings, "select feedback_id from core.feedback where target_id in (select inference_id from core.inference where "
        f"{where} union all select session_id from core.inference where {where} union all select trace_id from core.inference where {where})")}
    theirs = "(" + ", ".join(f"'{i}'" for i in held) + ")"
    before = {t: rows(settings, t, f"{k} not in {theirs}") for t, k in (("core.inference", "inference_id"), ("core.inference_content", "inference_id"))}
    spoken = [s for (s,) in ask(settings, f"select regexp_extract(input_messages, 'Reference [0-9]+: [a-z, ]+', 0) from core.inference_content where inference_id in {theirs}") if s]
    assert grep(settings.home, [tenant])
    assert len(spoken) > 10

    done = erase(settings, "tenant", tenant)

    assert done.is_clean, str(done)
    assert (done.calls, done.signals >= len(signals)) == (len(held), True)
    assert grep(settings.home, [tenant, *ids, *held, *signals, *spoken]) == {}
    assert {t: rows(settings, t) for t in before} == before
    assert unaccounted(settings) == []
    assert ask(settings, "select source, target_table, row_difference from marts.reconciliation where row_difference <> 0") == []
    assert users
    report = json.loads((settings.home / "erasures" / f"{done.erasure_id}.json").read_text())
    assert report["found"] == {}
    assert sum(report["searched"]["files"].values()) >= len(list((settings.home / "warehouse").rglob("*.parquet")))

    # The same logs again: other names, other folders, the lines the other way round, and nothing remembered of the first time.
    again, tables = sample.folder / "again", ["core.inference", "core.feedback", "core.inference_content", "core.quarantine"]
    counted = hashes(settings, tables[:3], without=LINEAGE)
    for path in sorted(p for p in sample.logs.rglob("*") if p.is_file()):
        target = again / path.relative_to(sample.logs).with_name(f"x-{path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".gz", ".zst"):
            shutil.copy(path, target)
        else:
            target.write_bytes(b"".join(line.rstrip(b"\n") + b"\n" for line in reversed(path.read_bytes().splitlines(True))))
    (settings.home / "origins.db").unlink()
    returned = sample.at(settings.home, again)
    for name in ("litellm", "otel", "langfuse", "tensorzero", "feedback"):
        ingest_source(returned, name, ARRIVAL + timedelta(days=1))
    assert hashes(settings, tables[:3], without=LINEAGE) == counted
    assert unaccounted(settings) == []
    assert {p: f for p, f in grep(settings.home, [tenant, *ids]).items() if not p.startswith("origins.db")} == {}


def test_a_user_goes_from_what_is_built_anew_from_landing_too(sample: Sample) -> None:
    settings = sample.settings
    user = sample.truth("select user_id from truth.call group by 1 order by count(distinct format) desc, count(*) desc, 1")
    user = next(u for (u,) in user if ask(settings, f"select 1 from core.inference where user_id = '{pseudonym(settings, u)}' limit 1"))
    done = erase(settings, "user", pseudonym(settings, user))
    assert done.is_clean, str(done)
    assert done.calls > 0
    assert grep(settings.home, [user, pseudonym(settings, user)]) == {}
    assert erase(settings, "user", user).calls == 0
    fresh = sample.at(sample.folder / "fresh", sample.logs)
    shutil.copytree(settings.landing, fresh.landing)
    names = ["langfuse", "otel"]
    for name in names:
        ingest_landed(fresh, name, name)
    both = [rows(s, "core.inference", f"source in ({', '.join(map(repr, names))})") for s in (settings, fresh)]
    assert both[0] == both[1]


def test_somebody_unknown_is_told_and_nothing_changes(tmp_path: Path) -> None:
    settings = taken_in(tmp_path)
    before = sorted((settings.home / "landing").rglob("*"))
    with pytest.raises(NotConfigured, match="nothing of this user"):
        erase(settings, "user", "nobody-000-111")
    assert sorted((settings.home / "landing").rglob("*")) == before
    assert not Lake(settings).exists("core.tombstone")


def taken_in(folder: Path) -> Settings:
    """Two users in files that share calls, a duplicate, a newer version and a broken line; a session of one of them."""
    a = [call(f"a{n}", end_user="anna-0001@example.com", session_id="s-anna-000001", said=f"my cat is called Number{n}") for n in range(3)]
    b = [call(f"b{n}", end_user="ben-0002@example.com", said="please write to anna-0001@example.com for me") for n in range(3)]
    log(folder / "logs/1.jsonl", [*a, *b, a[0], "{broken"])
    log(folder / "logs/2.jsonl", [call("a1", end_user="anna-0001@example.com", session_id="s-anna-000001", seconds=9.0), b[0], call("loose", session_id="s-anna-000001")])
    log(folder / "logs/3.jsonl", [call("b2", end_user="ben-0002@example.com", seconds=5.0), '{"id": "x1", "end_user": "anna-0001@example.com", broken'])
    settings = warehouse(folder / "home", folder / "logs", pseudonym_key="k")
    ingest_source(settings, "app", DAY)
    return settings


THEIRS = ["anna-0001@example.com", "s-anna-000001", pseudonym(Settings(pseudonym_key="k"), "anna-0001@example.com"), "Number1"]


def check_anna_is_gone(settings: Settings) -> None:
    assert grep(settings.home, THEIRS) == {}
    assert ask(settings, "select inference_id from core.inference order by 1") == [("litellm:b0",), ("litellm:b1",), ("litellm:b2",)]
    assert ask(settings, "select sum(reported_cost_usd) = 3 * 0.00045 from core.inference") == [(True,)]
    assert ask(settings, "select date_diff('second', started_at, finished_at) from core.inference where inference_id = 'litellm:b2'") == [(5,)]
    assert ask(settings, "select count(*) from core.inference_content where input_messages like '%write to [erased] for me%'") == [(2,)]
    assert unaccounted(settings) == []
    assert unfinished(Lake(settings)) == {}


def test_versions_duplicates_mentions_and_broken_lines(tmp_path: Path) -> None:
    settings = taken_in(tmp_path)
    done = erase(settings, "user", "anna-0001@example.com")
    assert done.is_clean, str(done)
    assert done.calls == 4
    check_anna_is_gone(settings)
    ingest_source(settings, "app", DAY)
    check_anna_is_gone(settings)
    log(tmp_path / "logs/late.jsonl", [call("new", end_user="anna-0001@example.com"), call("a0"), call("b1", end_user="ben-0002@example.com", said="please write to [erased] for me")])
    ingest_source(settings, "app", DAY)
    check_anna_is_gone(settings)


def crashed_erase(settings: Settings, n: int) -> None:
    crash_at(n, after=False)
    erase(settings, "user", "anna-0001@example.com")


def test_killed_anywhere_and_finished_by_whoever_comes_next(tmp_path: Path) -> None:
    processes.set_forkserver_preload(["pipelines.erasure.erase", "pipelines.build", "pipelines.expectations", "tests.support.lakehouse"])
    for n in (2, 4, 9):
        settings = taken_in(tmp_path / str(n))
        with started(crashed_erase, settings, n) as process:
            process.join()
        assert process.exitcode == -9
        if n % 4:
            ingest_source(settings, "app", DAY)  # somebody else's run comes in between
            erase(settings, "user", "anna-0001@example.com")
        else:
            assert len(finish(settings)) == 1
        check_anna_is_gone(settings)


def test_published_datasets_are_withdrawn_and_issued_anew_and_exports_are_named(tmp_path: Path) -> None:
    carl = "carl-0003@example.com"
    calls = [said(f"openai:call-{n:04}", asked=f"How heavy is flywheel number {n} of the {w} works?", answered=f"It weighs {n * 17 + 3} kilograms, says the {w} sheet.", good=None,
                  user_id=pseudonym(Settings(pseudonym_key=""), carl if n == 3 else f"user-{n:04}"), session_id=f"session-{n:04}") for n, w in enumerate(["north", "south", "east", "western", "upper", "lower"])]  # fmt: skip
    mended = [{"target_id": c["id"], "value_text": c["answered"].replace("weighs", "weighs about"), "rater_kind": "user", "source": "app", "landing_file": "f", "landing_line": 1} for c in calls]
    settings = stored(tmp_path / "home", calls, mended)
    drawn = recipe("preference")
    version = build_dataset(settings, drawn).dataset_version
    export_dataset(settings, version, "trl", str(tmp_path / "out"))
    done = erase(settings, "user", carl)
    assert done.is_clean, str(done)
    [one] = done.datasets
    assert (one["dataset_version"], one["clean_version"] not in (None, version)) == (version, True)
    assert [(e["url"], "train.jsonl" in {f["name"] for f in e["files"]}) for e in done.exports] == [(str(tmp_path / "out"), True)]
    assert ask(settings, "select dataset_version, withdrawn_because, replaced_by, withdrawn_at is null from datasets.version order by withdrawn_at is null") == [
        (version, "erasure", one["clean_version"], False), (one["clean_version"], None, None, True)]  # fmt: skip
    assert ask(settings, "select count(*), count(distinct dataset_version) from datasets.preference") == [(5, 1)]
    assert grep(settings.home, ["openai:call-0003", "session-0003", "says the western sheet"]) == {}
    with pytest.raises(NotConfigured, match="withdrawn"):
        export_dataset(settings, version, "trl", str(tmp_path / "again"))


def test_a_run_that_looked_before_the_erasure_brings_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has staged its rows; then somebody is erased; then it commits."""
    settings = taken_in(tmp_path)
    log(tmp_path / "logs/4.jsonl", [call("late1", end_user="anna-0001@example.com"), call("late2", end_user="ben-0002@example.com")])
    real, calls = ingest.settle, []

    def interrupted(lake: Lake, table: str, attempt) -> None:
        calls.append(table)
        if len(calls) == 1:
            erase(settings, "user", "anna-0001@example.com")
        real(lake, table, attempt)

    monkeypatch.setattr(ingest, "settle", interrupted)
    with pytest.raises(RetryLater, match="in landing cannot be read"):
        ingest_source(settings, "app", DAY)
    check_anna_is_gone(settings)
    ingest_source(settings, "app", DAY)
    assert [i for (i,) in ask(settings, "select inference_id from core.inference order by 1")] == ["litellm:b0", "litellm:b1", "litellm:b2", "litellm:late2"]
    assert erase(settings, "user", "anna-0001@example.com").is_clean
    assert grep(settings.home, THEIRS) == {}
