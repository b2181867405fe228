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


def pair(id: str | None, user: str, said: str = "hello there", **other) -> dict:
    """A call as the openai format has it; without an id it failed, and core tells it by a hash."""
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": said}]} | other.pop("request", {})
    answered = {"id": id, "object": "chat.completion", "created": 1795165203, "model": "gpt-5", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}
    return {"timestamp": 1795165201, "user_id": user, "request": asked, "response": answered if id else {"error": {"type": "rate_limit_error"}}} | other


def small(folder: Path, format: str, lines: list) -> Settings:
    log(folder / "logs" / "1.jsonl", lines)
    settings = warehouse(folder / "home", folder / "logs", format, pseudonym_key="k")
    ingest_source(settings, "app", DAY)
    return settings


def calls(settings: Settings) -> list[str]:
    return [id for (id,) in ask(settings, "select inference_id from core.inference order by 1")]


def test_a_source_that_changed_its_format_keeps_the_others_rows_of_both(tmp_path: Path) -> None:
    settings = small(tmp_path, "openai", [pair("chatcmpl-a1", "anna-0001@example.com"), pair("chatcmpl-a2", "ben-0002@example.com")])
    log(tmp_path / "logs/2.jsonl", [call("b1", end_user="anna-0001@example.com"), call("b2", end_user="ben-0002@example.com")])
    settings = warehouse(tmp_path / "home", tmp_path / "logs", "litellm", pseudonym_key="k")
    ingest_source(settings, "app", DAY)
    done = erase(settings, "user", "anna-0001@example.com")
    assert (done.is_clean, done.calls, calls(settings)) == (True, 2, ["litellm:b2", "openai:chatcmpl-a2"])
    assert ask(settings, "select source_format, record_count, kept_count, quarantined_count from core.landing_file order by 1") == [("litellm", 1, 1, 0), ("openai", 1, 1, 0)]


CLAUDE_CODE = json.dumps({"device_id": "d3adb33f", "account_uuid": "11112222-aaaa"})
CLAUDE = {"timestamp": 1795165201, "response": {"type": "error", "error": {"type": "overloaded_error"}}}


@pytest.mark.parametrize(
    ("format", "user", "lines"),
    [
        ("anthropic", CLAUDE_CODE, [CLAUDE | {"request": {"model": "claude-sonnet-5", "metadata": {"user_id": user}, "messages": [{"role": "user", "content": said}]}}
                                    for user, said in ((CLAUDE_CODE, "my secret plan"), ("ben-0002", "his open plan"))]),
        ("openai", "anna-0001@example.com", [pair(None, None, said, request={"safety_identifier": user}) for user, said in
                                             (("anna-0001@example.com", "my secret plan"), ("ben-0002@example.com", "his open plan"))]),
    ],
)  # fmt: skip
def test_a_call_without_an_id_goes_with_what_was_said_in_it(tmp_path: Path, format: str, user: str, lines: list) -> None:
    settings = small(tmp_path, format, lines)
    done = erase(settings, "user", user)
    assert (done.is_clean, done.calls, done.landing["records"], done.landing["mentions_replaced"]) == (True, 1, 1, 0)
    assert grep(settings.home, ["my secret plan"]) == {}
    assert grep(settings.home, ["his open plan"])


def test_an_id_that_ollama_draws_anew_names_no_call(tmp_path: Path) -> None:
    calls = [pair("chatcmpl-712", f"{who}-0001@example.com", f"hello from {who}") for who in ("anna", "ben", "carl")]
    settings = small(tmp_path, "openai", [c | {"response": c["response"] | {"system_fingerprint": "fp_ollama"}} for c in calls])
    kept = ask(settings, f"select inference_id from core.inference where user_id <> '{THEIRS[2]}' order by 1")
    done = erase(settings, "user", "anna-0001@example.com")
    assert (done.is_clean, done.calls, len(kept), ask(settings, "select inference_id from core.inference order by 1")) == (True, 1, 2, kept)


def test_what_maintenance_cannot_look_for_is_not_closed_by_it(tmp_path: Path) -> None:
    settings = small(tmp_path, "openai", [pair("chatcmpl-a1", "anna-0001@example.com"), pair("chatcmpl-a2", "ben-0002@example.com")])
    notes = settings.home / "notes.txt"  # nothing of the warehouse's own: no run removes it
    notes.write_text("ask anna-0001@example.com")
    done = erase(settings, "user", "anna-0001@example.com")
    assert (done.is_clean, list(done.found)) == (False, [str(notes)])
    assert finish(settings) == []
    told = json.loads((settings.home / "erasures" / f"{done.erasure_id}.json").read_text())
    assert (told["kind"], told["calls"], told["found"], list(unfinished(Lake(settings)))) == ("user", 1, {str(notes): 1}, [done.erasure_id])
    notes.unlink()
    assert [one.is_clean for one in finish(settings)] == [True]
    assert unfinished(Lake(settings)) == {}


def test_whose_a_call_is_its_columns_say_and_not_what_it_refers_to(tmp_path: Path) -> None:
    settings = small(tmp_path, "openai", [
        pair("resp_00000001", "anna-0001", tenant="acme-2026"),
        pair("resp_00000002", "ben-0002", tenant="umbrella", request={"previous_response_id": "resp_00000001"}),
        pair("resp_00000003", "globex:anna-0001", tenant="umbrella"),
        pair("resp_00000004", "initech/anna-0001", tenant="umbrella"),
        pair("resp_00000005", "acme-2026", tenant="umbrella"),
        pair("resp_00000006", "carl-0003", tenant="umbrella", request_tags={"parent_id": "resp_00000005"}),
    ])  # fmt: skip
    others = [f"openai:resp_0000000{n}" for n in (2, 3, 4, 5, 6)]
    done = erase(settings, "user", "anna-0001")
    assert (done.is_clean, done.calls, done.landing["records"], calls(settings)) == (True, 1, 1, others)
    log(tmp_path / "logs/2.jsonl", [pair("resp_00000007", "acme-2026", tenant="umbrella"), pair("resp_00000008", "dora-0004", tenant="acme-2026")])
    ingest_source(settings, "app", DAY)
    done = erase(settings, "tenant", "acme-2026")
    assert (done.is_clean, done.calls, calls(settings)) == (True, 1, [*others, "openai:resp_00000007"])
    done = erase(settings, "call", "openai:resp_00000005")
    assert (done.is_clean, done.calls, calls(settings)) == (True, 1, [*others[:3], others[4], "openai:resp_00000007"])


def test_a_line_is_the_one_that_core_means_in_an_array_that_holds_more_than_objects(tmp_path: Path) -> None:
    people = ["ben-0002@example.com", "anna-0001@example.com", "carl-0003@example.com"]
    log(tmp_path / "logs/1.json", json.dumps(["no object", *(pair(None, p, f"a story of {p[:4]}") for p in people)], indent=1).encode())
    settings = warehouse(tmp_path / "home", tmp_path / "logs", "openai", pseudonym_key="k")
    ingest_source(settings, "app", DAY)
    assert erase(settings, "user", people[1]).is_clean
    assert sorted(t for (t,) in ask(settings, "select regexp_extract(input_messages, 'story of (....)', 1) from core.inference_content")) == ["ben-", "carl"]


@pytest.mark.parametrize(("user", "written"), [("anna+app-0001@example.com", "anna\\u002Bapp-0001@example.com"), ("acme/anna-0001", "acme\\/anna-0001")])
def test_a_mention_is_found_however_its_writer_escapes(tmp_path: Path, user: str, written: str) -> None:
    theirs, others = (json.dumps(pair(f"chatcmpl-a{n}", u, f"please ask {user} for me")).replace(user, written) for n, u in ((1, user), (2, "ben-0002")))
    settings = small(tmp_path, "openai", [theirs, others, others.replace('"prompt_tokens": 9', '"prompt_tokens": -9').replace("chatcmpl-a2", "chatcmpl-a3")])
    stray = settings.home / "stray.txt"
    stray.write_text(f'"{written}"')
    done = erase(settings, "user", user)
    assert list(done.found) == [str(stray)]
    assert grep(settings.home, [user, written]) == {"stray.txt": {written.encode()}}
    assert calls(settings) == ["openai:chatcmpl-a2"]
