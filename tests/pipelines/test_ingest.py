"""Files in, whatever is in them and however they come → every record a row, a duplicate, or in quarantine with its reason."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import random
import resource
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipelines import ingest, land
from pipelines.errors import FlywheelError, RetryLater, SourceUnreadable, StopTheLine
from pipelines.gate import data_docs
from pipelines.ingest import ingest_landed, ingest_source, land_source
from pipelines.lake import Lake
from pipelines.settings import Source
from tests.benchmarks import writers
from tests.support.lakehouse import (
    DAY,
    LINEAGE,
    ask,
    call,
    hashes,
    lines,
    log,
    run,
    started,
    unaccounted,
    warehouse,
)  # fmt: skip

CORE = ("core.inference", "core.inference_content")
DEEP = "[" * 100_000 + "]" * 100_000


def spoilt(id: str, key: str, text: str) -> str:
    """A line with a value written as it stands."""
    return json.dumps(call(id) | {key: "@"}).replace('"@"', text)


BEYOND = [
    '"294247-01-01T00:00:00Z"', '"294247-01-01"', '"10000-01-01 00:00:00"', '"9999-12-31T23:59:59-12:00"', '"0001-01-01T00:00:00+14:00"',
    '"290309-12-22 (BC) 00:00:00"', '"0044-03-15 (BC) 12:00:00Z"', "-9e10", "-62135596801", '"infinity"', "9e18",
]  # fmt: skip
"""Times outside the years 1 to 9999, as text and as numbers."""

# File → bytes; ids that are kept; quarantined lines with a word of their promises or reason.
HOSTILE: dict[str, tuple[bytes, set[str], dict[int, str]]] = {
    "truncated.jsonl.gz": (
        gzip.compress(lines(call(f"t{n}", said=hashlib.sha512(b"%d" % n).hexdigest() * 2) for n in range(200)))[:-5000],
        {"t0", "t1", "t2"}, {},
    ),
    "garbage.jsonl.gz": (b"\x1f\x8bnot gzip at all", set(), {1: "cannot be unpacked"}),
    "bomb.jsonl.gz": (gzip.compress(b"0" * 80 * 2**20), set(), {1: "taken for a bomb"}),
    "long.jsonl": (
        lines([call("l1"), '{"id": "' + "y" * 100 * 2**20 + '"}', call("l2")]), {"l1", "l2"}, {2: "line of more than 16,777,216 bytes"},
    ),
    "deep.jsonl": (lines([spoilt("deep", "messages", DEEP), spoilt("deep2", "unread", DEEP), call("d3")]), {"deep", "deep2", "d3"}, {}),
    "twice.jsonl": (
        lines([spoilt("k1", "model", '"gpt-4o", "model": "gpt-5"'), spoilt("k2", "unread", '1, "unread": 2')]), {"k2"}, {1: "a key given twice"},
    ),
    "numbers.jsonl": (
        lines([spoilt(f"n{n}", key, text) for n, (key, text) in enumerate([
            ("prompt_tokens", "NaN"), ("response_cost", "Infinity"), ("startTime", "-1e30"), ("endTime", "1e300"), ("startTime", "-Infinity"),
            ("prompt_tokens", "-5"), ("response_cost", "-1"), ("prompt_tokens", "9" * 40), ("completion_tokens", '"many"')])]),
        set(), dict.fromkeys(range(1, 10), ""),
    ),
    "years.jsonl": (
        lines([call("y1", at="1970-01-01T00:00:00Z"), call("y2", at="2999-01-01T00:00:00Z"), spoilt("y3", "startTime", '"0001-01-01T00:00:00Z"'),
               *(spoilt(f"y{n}", "startTime", text) for n, text in enumerate(BEYOND, 4)), spoilt("y99", "endTime", BEYOND[0])]),
        set(), {1: "started_not_before_time", 2: "started_not_after_landing", 3: "started_not_before_time",
                **dict.fromkeys(range(4, 4 + len(BEYOND)), "startTime cannot be read"), 4 + len(BEYOND): "endTime cannot be read"},
    ),
    "ids.jsonl": (
        lines([call("'; drop table core.inference; --"), call("../../etc/passwd"), call("%2e%2e/\\..\\"), call('"} or 1=1'), call("🎉"),
               call("nul\x00"), call("x" * 5000), call(""), call("line\nbreak")]),
        {"'; drop table core.inference; --", "../../etc/passwd", "%2e%2e/\\..\\", '"} or 1=1', "🎉"},
        {6: "inference_id_plain", 7: "inference_id_plain", 8: "inference_id", 9: "inference_id_plain"},
    ),
    "names.jsonl": (
        lines([call("m1", model="../../x' or '1'='1"), call("m2", metadata={"user_api_key_team_id": "=cmd|' /C calc'!A0"}), call("m3", said="a\x00b")]),
        {"m1", "m2", "m3"}, {},
    ),
    "surrogates.jsonl": (lines(['{"id": "\\ud800"}', call("s1")]), {"s1"}, {1: "no valid JSON"}),
    "encoding.jsonl": (lines([call("e1"), b'{"id": "\xff\xfe"}', b'{"id": "\x00"}', call("e2")]), {"e1", "e2"}, {2: "UTF-8", 3: "NUL"}),
    "bom.jsonl": (b"\xef\xbb\xbf" + lines([call("b1"), call("b2")]), {"b1", "b2"}, {}),
    "crlf.jsonl": (lines([call("c1"), call("c2")]).replace(b"\n", b"\r\n"), {"c1", "c2"}, {}),
    "blank.jsonl": (b"\n\n" + lines([call("w1")]) + b"  \n" + lines([call("w2"), "{"]), {"w1", "w2"}, {6: "no valid JSON"}),
    "empty.jsonl": (b"", set(), {}),
    "white.jsonl": (b" \n\n\t\n", set(), {}),
    "text.jsonl": (b"hello\nworld\n", set(), {1: "no valid JSON", 2: "no valid JSON"}),
    "page.jsonl": (b"<html>\n<body>502</body>\n", set(), {1: "no valid JSON", 2: "no valid JSON"}),
    "scalars.jsonl": (lines([call("v1"), "1", "null", '"x"', "[]", "{}"]), {"v1"}, {2: "object", 3: "object", 4: "object", 5: "object", 6: "given"}),
    "array.json": (json.dumps([call("a1"), 5, call("a2"), None]).encode(), {"a1", "a2"}, {2: "no JSON object", 4: "no JSON object"}),
    "arrays.jsonl": (lines(["[1, 2]", call("r1")]), {"r1"}, {1: "no JSON object"}),
    "pretty.json": (b"\n".join(json.dumps(call(id), indent=2).encode() for id in ("p1", "p2")), {"p1", "p2"}, {}),
    "cut.json": (json.dumps(call("cut"), indent=2).encode()[:-40], set(), {1: "no readable JSON"}),
    "types.jsonl": (
        lines([call("o1", metadata="x"), call("o2", messages=3), call("o3", response=[1]), call("o4", metadata=[[]]),
               call("o5", prompt_tokens={}), call("o6", startTime=[1])]),
        {"o1", "o2", "o3", "o4"}, {6: "startTime cannot be read"},
    ),
}  # fmt: skip


def landed(name: str) -> str:
    raw = HOSTILE[name][0]
    return f"app/day={DAY}/{hashlib.sha256(raw).hexdigest()}{name[name.index('.'):]}"


def ingest_and_weigh(settings, out: Path) -> None:
    ingest_source(settings, "app", DAY)
    out.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """All hostile files, taken in in one run of a process of its own, so that a crash or its memory is seen."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (raw, _, _) in HOSTILE.items():
        log(folder / "logs" / name, raw)
    settings = warehouse(folder / "home")
    with started(ingest_and_weigh, settings, folder / "bytes") as process:
        process.join()
    assert process.exitcode == 0
    return settings


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_costs_no_good_line(hostile, name):
    _, kept, refused = HOSTILE[name]
    found = {row[0].removeprefix("litellm:") for row in ask(hostile, f"select inference_id from core.inference where landing_file = '{landed(name)}'")}
    reasons = dict(ask(hostile, f"select landing_line, promises || ' ' || reason from core.quarantine where landing_file = '{landed(name)}'"))
    if name == "truncated.jsonl.gz":
        assert kept <= found
        assert set(reasons.values()) <= {"readable archive ends in the middle", "readable no valid JSON"}
        assert "readable archive ends in the middle" in reasons.values()
        return
    assert found == kept
    if name != "types.jsonl":
        assert set(reasons) == set(refused)
    for line, word in refused.items():
        assert word in reasons[line]


def test_every_line_is_accounted_for(hostile):
    assert unaccounted(hostile) == []
    assert ask(hostile, "select count(*) from core.landing_file") == [(len({raw for raw, _, _ in HOSTILE.values()}),)]


def test_memory_is_bounded(hostile):
    assert int((hostile.home.parent / "bytes").read_text()) < 1.5 * 2**30


def drawn() -> tuple[list[dict], dict[str, str]]:
    """Calls of which some come again in later versions, shuffled; and what was said last in each."""
    chance, calls, last = random.Random(7), [], {}
    for n in range(40):
        for version in range(1 + n % 3):
            calls.append(call(f"c{n}", at=f"2026-11-{16 + n % 4}T10:00:00Z", seconds=1 + version, said=f"{n} version {version}"))
            last[f"litellm:c{n}"] = f"{n} version {version}"
    chance.shuffle(calls)
    return calls, last


ARRIVALS = {
    "tidy": lambda calls: [(DAY, calls)],
    "the same file twice, on other days": lambda calls: [(DAY, calls), (date(2026, 11, 24), [*calls, *calls])],
    "shuffled": lambda calls: [(DAY, random.Random(1).sample(calls, len(calls)))],
    "late by days, in parts": lambda calls: [(date(2026, 11, 20 + n), calls[n::3]) for n in range(3)],
    "newest version first": lambda calls: [
        (DAY, [c for c in calls if c["endTime"] - c["startTime"] > 2]), (DAY, [c for c in calls if c["endTime"] - c["startTime"] <= 2]), (DAY, calls[:9]),
    ],
    "oldest version first": lambda calls: [(DAY, sorted(calls, key=lambda c: c["endTime"])[:30]), (DAY, calls)],
}  # fmt: skip


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_however_calls_arrive_the_last_version_is_held_once(tmp_path, arrival):
    calls, last = drawn()
    settings = warehouse(tmp_path / "home")
    for n, (day, part) in enumerate(ARRIVALS[arrival](calls)):
        log(tmp_path / f"logs/{n}.jsonl", part)
        ingest_source(settings, "app", day)
    assert unaccounted(settings) == []
    assert dict(ask(settings, "select inference_id, input_messages::json ->> '$[0].content' from core.inference_content")) == last
    seconds = "date_diff('second', started_at, finished_at)"
    assert dict(ask(settings, f"select inference_id, {seconds} from core.inference")) == {k: int(v[-1]) + 1 for k, v in last.items()}


def test_taking_in_again_what_was_superseded_keeps_the_ledger_straight(tmp_path):
    settings = warehouse(tmp_path / "home")
    for n in range(2):
        log(tmp_path / f"logs/{n}.jsonl", [call("same", seconds=1 + n), call(f"other{n}"), "{"])
        ingest_source(settings, "app", DAY)
    before = hashes(settings, without=LINEAGE)
    files = [row[0] for row in ask(settings, "select landing_file from core.landing_file order by 1")]
    for again in ([files[0]], [files[1]], files):
        ingest_landed(settings, "app", "litellm", only=again)
        assert unaccounted(settings) == []
    after = hashes(settings, without=LINEAGE)
    assert [after[t] for t in (*CORE, "core.quarantine", "core.landing_file")] == [before[t] for t in (*CORE, "core.quarantine", "core.landing_file")]


def test_nothing_new_changes_nothing(tmp_path):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a"), "{"])
    ingest_source(settings, "app", DAY)
    before, snapshots = hashes(settings), {t: Lake(settings).snapshot(t).id for t in CORE}
    (report,) = ingest_source(settings, "app", date(2026, 11, 22))
    assert (report.files, report.rows_in) == (0, 0)
    assert hashes(settings) == before
    assert {t: Lake(settings).snapshot(t).id for t in CORE} == snapshots


def test_the_ledger_is_asked_once_a_table_however_many_files_have_landed(tmp_path, monkeypatch):
    settings, asked, real = warehouse(tmp_path / "home", tmp_path / "logs"), [], ingest._done
    for n in range(3):
        log(tmp_path / f"logs/{n}.jsonl", [call(f"c{n}")])
    monkeypatch.setattr(ingest, "_done", lambda settings, lake, table, source: asked.append(table) or real(settings, lake, table, source))
    for _ in range(2):
        ingest_source(settings, "app", DAY)
    assert len(asked) == 2 * len(set(asked))


def test_processes_that_ingest_overlapping_files_at_once_repeat_and_lose_nothing(tmp_path):
    logs = writers.overlapping(tmp_path / "logs", 4, 24)
    settings, alone = warehouse(tmp_path / "home", logs), warehouse(tmp_path / "alone", logs)
    assert writers.together(4, writers.take_in, settings, logs) == 0
    ingest_source(alone, "app", DAY)
    assert hashes(settings, CORE, LINEAGE) == hashes(alone, CORE, LINEAGE)
    assert unaccounted(settings) == []


def test_killed_at_any_time(tmp_path):
    """Killed again and again after a random time, and run to the end: the same as never killed."""
    log(tmp_path / "logs/a.jsonl", [*(call(f"c{n}", at=f"2026-11-{16 + n % 3}T10:00:00Z") for n in range(60)), "{broken", call("c0", at="2026-11-16T10:00:00Z")])
    undisturbed, killed, chance = warehouse(tmp_path / "whole"), warehouse(tmp_path / "home"), random.Random(3)
    ingest_source(undisturbed, "app", DAY)
    for n in range(3):
        with started(ingest_source, killed, "app", DAY) as process:
            process.join((n + chance.random()) * 0.5)
    ingest_source(killed, "app", DAY)
    assert hashes(killed) == hashes(undisturbed)
    assert unaccounted(killed) == []


def test_a_run_that_died_before_its_rows_could_be_seen_is_made_up_for(tmp_path, monkeypatch):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a")])

    def die(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lake, "publish_views", die)
        ingest_source(settings, "app", DAY)
    (report,) = ingest_source(settings, "app", DAY)
    assert report.files == 0
    assert ask(settings, "select inference_id from core.inference") == [("litellm:a",)]


def full_disk(settings, limit: int, out: Path) -> None:
    """Ingest where no file may grow beyond `limit` bytes; what is raised goes to `out`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        ingest_source(settings, "app", DAY)
    except FlywheelError as error:
        told = f"{type(error).__name__}: {error}"
    except BaseException as error:
        told = f"not ours: {type(error).__name__}: {error}"
    else:
        told = "nothing"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    out.write_text(told)


def test_a_full_disk_is_told_and_leaves_nothing_half_visible(tmp_path):
    log(tmp_path / "logs/a.jsonl", [*(call(f"c{n}", at=f"2026-11-{16 + n % 3}T10:00:00Z") for n in range(60)), "{broken"])
    settings, undisturbed = warehouse(tmp_path / "home"), warehouse(tmp_path / "whole")
    ingest_source(undisturbed, "app", DAY)
    told = []
    for limit in (2_000, 24_000, 30_000, 150_000):
        with started(full_disk, settings, limit, tmp_path / "told") as process:
            process.join()
        assert process.exitcode == 0
        told.append((tmp_path / "told").read_text())
        if settings.views.exists():
            assert ask(settings, "select count(*) from core.inference") in ([(0,)], [(60,)])
    assert all(text.startswith("RetryLater: ") for text in told), told
    ingest_source(settings, "app", DAY)
    assert hashes(settings) == hashes(undisturbed)


def test_a_file_that_is_not_there_is_told_once_the_others_are_taken_in(tmp_path):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a")])
    (tmp_path / "logs/b.jsonl").symlink_to(tmp_path / "nowhere")
    for id in "az":
        log(tmp_path / f"logs/{id}.jsonl", [call(id)])
        with pytest.raises(SourceUnreadable, match=r"1 files were listed and are not there .*b\.jsonl"):
            ingest_source(settings, "app", DAY)
    assert ask(settings, "select inference_id from core.inference order by 1") == [("litellm:a",), ("litellm:z",)]


def test_batches_are_bounded_by_files_and_by_bytes(tmp_path, monkeypatch):
    settings = warehouse(tmp_path / "home")
    for n in range(5):
        log(tmp_path / f"logs/{n}.jsonl", b"x" * 10 + b"%d" % n)
    land_source(settings, "app", str(tmp_path / "logs"), DAY)

    def sizes() -> list[int]:
        return [len(batch) for batch in ingest._batches(settings, Lake(settings), "app", "litellm", "inference", None, {})]

    assert sizes() == [5]
    monkeypatch.setattr(ingest, "BATCH_BYTES", 25)
    assert sizes() == [2, 2, 1]
    monkeypatch.setattr(ingest, "BATCH_BYTES", 1)
    assert sizes() == [1] * 5
    monkeypatch.setattr(ingest, "BATCH_BYTES", 2**30)
    monkeypatch.setattr(ingest, "BATCH_FILES", 3)
    assert sizes() == [3, 2]


def user_format(folder: Path, tokens: str) -> Path:
    """A user's format that reads lines of {id, at, tokens}."""
    path = folder / "inference" / "mine.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"""
        select landing_file, 'mine:' || id as inference_id, cast("at" as timestamp) as started_at, 'ok' as status, 'gpt-4o' as request_model,
            unreadable('tokens', tokens, {tokens}) as unreadable, {tokens} as input_uncached_tokens, said as input_messages
        from read_json($files, format = 'newline_delimited', filename = 'landing_file',
            columns = {{id: 'VARCHAR', "at": 'VARCHAR', tokens: 'VARCHAR', said: 'VARCHAR'}})""")  # fmt: skip
    return folder


def own(id: str, tokens: str = "5", **other: str) -> str:
    return json.dumps({"id": id, "at": "2026-11-20 10:00:00", "tokens": tokens, "said": "hi"} | other)


def test_replay_after_the_select_was_mended(tmp_path):
    log(tmp_path / "logs/a.jsonl", [own("a"), own("b", "7 tokens"), own("c", "none at all"), "{"])
    settings = warehouse(tmp_path / "home", format="mine", user_formats=user_format(tmp_path / "formats", "as_count(tokens)"))
    ingest_source(settings, "app", DAY)
    assert ask(settings, "select row_key, reason from core.quarantine order by landing_line") == [
        ("mine:b", "tokens cannot be read"), ("mine:c", "tokens cannot be read"), (None, "no valid JSON"),
    ]  # fmt: skip
    user_format(tmp_path / "formats", "as_count(replace(tokens, ' tokens', ''))")
    files = [row[0] for row in ask(settings, "select distinct landing_file from core.quarantine")]
    (report,) = ingest_landed(settings, "app", "mine", only=files)
    assert (report.rows_in, report.kept, report.duplicate, report.quarantined) == (4, 2, 0, 2)
    assert ask(settings, "select inference_id, input_uncached_tokens from core.inference order by 1") == [("mine:a", 5), ("mine:b", 7)]
    assert ask(settings, "select row_key from core.quarantine order by landing_line") == [("mine:c",), (None,)]
    assert unaccounted(settings) == []


def span(id: int) -> dict:
    """A line of OTLP: one call at 2026-11-20 09:00."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in said.items()]
    at = {"startTimeUnixNano": str(1795165200 * 10**9), "endTimeUnixNano": str(1795165202 * 10**9)}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": f"{id:032x}", "spanId": f"{id:016x}", "attributes": attributes} | at]}]}]}


LEDGER = "select target_table, source_format, record_count, kept_count, quarantined_count from core.landing_file order by all"


def test_a_file_stays_with_the_format_that_read_it(tmp_path):
    """Also where the next format reads its neighbours along."""
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a"), call("b")])
    ingest_source(settings, "app", DAY)
    settings.sources["app"] = Source(url=str(tmp_path / "logs"), format="otel")
    log(tmp_path / "logs/b.jsonl", [span(1)])
    ingest_source(settings, "app", date(2026, 11, 21))
    assert ask(settings, "select source_format, count(*) from core.inference group by all order by all") == [("litellm", 2), ("otel", 1)]
    assert ask(settings, "select * from core.quarantine") == []
    assert ask(settings, LEDGER) == [
        ("core.feedback", "otel", 1, 0, 0), ("core.inference", "litellm", 2, 2, 0), ("core.inference", "otel", 1, 1, 0),
    ]  # fmt: skip
    assert unaccounted(settings) == []


@pytest.mark.parametrize("wrong", ["openai", "helicone"])  # the latter looks for feedback too
def test_a_format_that_could_read_nothing_gives_way_to_the_right_one(tmp_path, wrong):
    settings = warehouse(tmp_path / "home", format=wrong)
    log(tmp_path / "logs/a.jsonl", [call("a"), call("b"), "{"])
    ingest_source(settings, "app", DAY)
    refused = [("core.inference", wrong, 3, 0, 3)]
    assert ask(settings, LEDGER) == ([("core.feedback", wrong, 3, 0, 1), *refused] if wrong == "helicone" else refused)
    settings.sources["app"] = Source(url=str(tmp_path / "logs"), format="litellm")
    assert [(r.files, r.kept) for r in ingest_source(settings, "app", DAY)] == [(1, 2)]
    assert ask(settings, LEDGER) == [("core.inference", "litellm", 3, 2, 1)]
    assert ask(settings, "select target_table, source_format, landing_line from core.quarantine") == [("core.inference", "litellm", 3)]
    assert unaccounted(settings) == []
    assert [r.files for r in ingest_source(settings, "app", DAY)] == [0]


# Day on which the file was changed; runs of which days keep and refuse how many of its records, where the last call is of the 25th.
MISDATED = {
    "a backfill before the right day": (25, {1: (0, 2), 2: (0, 2), 25: (2, 0), 26: (0, 0)}),
    "partly after its day": (25, {20: (1, 1), 25: (2, 0), 26: (0, 0)}),
    "changed before, so the time in the log is wrong": (19, {20: (1, 1), 25: (0, 0)}),
}


@pytest.mark.parametrize("name", MISDATED)
def test_what_landed_under_a_day_too_early_lands_on_a_later_one(tmp_path, name):
    changed, runs = MISDATED[name]
    settings = warehouse(tmp_path / "home")
    path = log(tmp_path / "logs/a.jsonl", [call("a", at="2026-11-20T09:00:00Z"), call("b", at="2026-11-25T09:00:00Z")])
    os.utime(path, (datetime(2026, 11, changed, 12, tzinfo=UTC).timestamp(),) * 2)
    for day, (kept, refused) in runs.items():
        (report,) = ingest_source(settings, "app", date(2026, 11, day))
        assert (report.kept, report.quarantined) == (kept, refused), day
        assert unaccounted(settings) == []
    landed = [str(p.relative_to(settings.home / "landing")) for p in (settings.home / "landing").rglob("*.jsonl")]
    assert ask(settings, "select landing_file from core.landing_file") == [(p,) for p in landed]
    assert len(landed) == 1


def test_a_run_that_died_while_a_file_changed_its_day_is_made_up_for(tmp_path, monkeypatch):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a")])
    ingest_source(settings, "app", date(2026, 11, 1))

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ingest, "ingest_landed", die)
        ingest_source(settings, "app", DAY)
    ingest_source(settings, "app", DAY)
    assert ask(settings, LEDGER) == [("core.inference", "litellm", 1, 1, 0)]
    assert ask(settings, "select * from core.quarantine") == []


def test_what_is_written_into_the_folder_of_a_day_after_its_end_comes_with_the_next_day(tmp_path, monkeypatch):
    settings, copied, real = warehouse(tmp_path / "home", str(tmp_path / "logs/{day}/*.jsonl")), [], land._copy
    monkeypatch.setattr(land, "_copy", lambda settings, fs, path, *rest: copied.append(Path(path).name) or real(settings, fs, path, *rest))
    log(tmp_path / "logs/2026-11-20/a.jsonl", [call("a", at="2026-11-20T23:00:00Z")])
    ingest_source(settings, "app", DAY)
    log(tmp_path / "logs/2026-11-20/late.jsonl", [call("late", at="2026-11-20T23:59:00Z")])
    log(tmp_path / "logs/2026-11-21/b.jsonl", [call("b", at="2026-11-21T01:00:00Z")])
    (report,) = ingest_source(settings, "app", date(2026, 11, 21))
    assert (report.kept, report.days) == (2, [DAY, date(2026, 11, 21)])
    assert copied == ["a.jsonl", "late.jsonl", "b.jsonl"]
    assert ask(settings, "select inference_id, cast(landed_on as varchar) from (select *, regexp_extract(landing_file, '\\d{4}-\\d\\d-\\d\\d') as landed_on "
        "from core.inference) order by 1") == [("litellm:a", "2026-11-20"), ("litellm:b", "2026-11-21"), ("litellm:late", "2026-11-20")]  # fmt: skip


CANARY = "canary-4711"


def test_no_prompt_and_no_secret_is_told(tmp_path, caplog, capfd):
    """What was said is in landing and in core.inference_content, a key of ours nowhere."""
    caplog.set_level(logging.DEBUG)
    log(tmp_path / "logs/a.jsonl", [
        call("a", said=CANARY), call("b", said=CANARY, prompt_tokens=-1), '{"id": "cut", "messages": "' + CANARY,
        call("c", model=f"{CANARY} " * 40, response=None), call("d", startTime=CANARY), call("e", prompt_tokens=CANARY), call("f", response_cost=CANARY),
        call("g", error_str=CANARY, status="failure"), json.dumps(CANARY), call("h", metadata={"user_api_key_user_id": f"someone@{CANARY}.example"}),
    ])  # fmt: skip
    settings = warehouse(tmp_path / "home", pseudonym_key=f"key-{CANARY}")
    run(settings)
    data_docs(settings)
    told = caplog.text + "".join(capfd.readouterr())
    assert ask(settings, f"select inference_id from core.inference_content where input_messages like '%{CANARY}%'") == [("litellm:a",)]
    for table in ("core.inference", "core.quarantine", "core.gate_result", "core.landing_file", "marts.call_cost"):
        assert ask(settings, f"select count(*) from {table} t where cast(t as varchar) like '%{CANARY}%'") == [(0,)], table
    for path in settings.home.rglob("*"):
        if path.is_file() and "landing/" not in str(path) and "inference_content/data" not in str(path):
            assert CANARY.encode() not in path.read_bytes(), path
    for entry in Lake(settings).snapshot("core.inference_content").files:
        assert CANARY not in str(entry.data_file.upper_bounds) + str(entry.data_file.lower_bounds)
    assert CANARY not in told


@pytest.mark.parametrize(
    ("tokens", "error", "says"),
    [("cast(tokens as bigint)", SourceUnreadable, "does not fit its type"), ("nothing", StopTheLine, "does not run")],
)  # fmt: skip
def test_a_select_that_fails_is_named_and_quotes_nobody(tmp_path, tokens, error, says):
    log(tmp_path / "logs/a.jsonl", [own("a", CANARY, said=CANARY)])
    settings = warehouse(tmp_path / "home", format="mine", user_formats=user_format(tmp_path / "formats", tokens))
    with pytest.raises(error, match=says) as raised:
        ingest_source(settings, "app", DAY)
    assert "mine.sql" in str(raised.value)
    assert CANARY not in str(raised.value)


def test_a_source_that_is_not_there_is_no_empty_source(tmp_path):
    settings = warehouse(tmp_path / "home")
    with pytest.raises(FlywheelError, match="there is nothing at"):
        ingest_source(settings, "app", DAY)
    settings.sources["app"] = Source(url=str(tmp_path / "logs"), format="nothing")
    log(tmp_path / "logs/a.jsonl", [call("a")])
    with pytest.raises(StopTheLine, match="no format named 'nothing'"):
        ingest_source(settings, "app", DAY)


def test_landing_that_lost_a_file_is_told(tmp_path):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a")])
    ingest_source(settings, "app", DAY)
    (path,) = (settings.home / "landing/app").rglob("*.jsonl")
    path.rename(tmp_path / "aside")
    path.mkdir()
    with pytest.raises(RetryLater, match="in landing cannot be read"):
        ingest_landed(settings, "app", "litellm", only=[f"app/day={DAY}/{path.name}"])
    assert ask(settings, "select count(*) from core.inference") == [(1,)]
