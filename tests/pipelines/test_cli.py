"""The command line: the same steps, in plain words, with an exit code that says whether trying again may help."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cli, ingest
from pipelines.errors import RetryLater
from pipelines.settings import ROOT
from tests.pipelines.test_ingest import own, user_format
from tests.support.lakehouse import call, lines, log

SECRET = "hunter2-4711"


class Flywheel:
    """`flywheel …` in this process, in a home of its own."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self.home, self._patch, self._capsys = folder, folder / "home", monkeypatch, capsys
        for name, value in {"HOME": self.home, "USER_FORMATS": folder / "formats", "PSEUDONYM_KEY": SECRET, "THREADS": 2}.items():
            monkeypatch.setenv(f"FLYWHEEL_{name}", str(value))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        self._patch.setattr(sys, "argv", ["flywheel", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code or 0
        out, err = self._capsys.readouterr()
        assert SECRET not in out + err
        assert "Traceback" not in err
        return code, out, err


@pytest.fixture
def flywheel(tmp_path, monkeypatch, capsys):
    yield Flywheel(tmp_path, monkeypatch, capsys)
    logging.getLogger("great_expectations").setLevel(logging.NOTSET)


def test_from_a_log_to_an_answer(flywheel):
    path = log(flywheel.folder / "logs/a.jsonl", [own("a"), own("b", "7 tokens"), own("a"), "{broken"])
    user_format(flywheel.folder / "formats", "as_count(tokens)")

    code, out, _ = flywheel("land", path, "--format", "mine", "--day", "2026-11-20")
    assert (code, out) == (0, f"mine: 1 files, {path.stat().st_size} bytes in landing\n")
    code, out, _ = flywheel("ingest", path, "--format", "mine", "--day", "2026-11-20")
    assert code == 0
    assert "mine → core.inference: 1 files, 4 records in, 1 kept, 1 duplicate, 2 quarantined, 0 context" in out
    assert "quarantined by readable: 2" in out
    code, out, _ = flywheel("ingest", path, "--format", "mine", "--day", "2026-11-23")
    assert "0 files, 0 records in" in out

    assert flywheel("sql", "select count(*) as calls from core.inference")[0] == 0
    user_format(flywheel.folder / "formats", "as_count(replace(tokens, ' tokens', ''))")
    code, out, _ = flywheel("replay")
    assert (code, "4 records in, 2 kept, 1 duplicate, 1 quarantined" in out) == (0, True)
    code, out, _ = flywheel("replay", "another")
    assert (code, "nothing of these sources is in quarantine" in out) == (0, True)

    code, out, _ = flywheel("build")
    assert code == 0
    assert "marts.call_cost: 2 rows, 1 days" in out
    code, out, _ = flywheel("sql", "select inference_id, cost_status from marts.call_cost order by 1")
    assert code == 0
    assert out.index("mine:a") < out.index("mine:b")
    code, out, _ = flywheel("status")
    assert (code, "core.quarantine" in out, "Sources against warehouse" in out) == (0, True, True)
    code, out, _ = flywheel("maintain")
    assert (code, "old snapshots expired" in out) == (0, True)
    assert flywheel("sql", "select 1 / count(*) from core.quarantine where reason = 'no valid JSON'")[0] == 0


def test_sources_of_the_settings(flywheel):
    log(flywheel.folder / "logs/2026-11-20/a.jsonl", [call("a")])
    (flywheel.folder / "flywheel.toml").write_text(
        f'[sources.gateway]\nurl = "{flywheel.folder}/logs/{{day}}"\nformat = "litellm"\n[sources.other]\nurl = "nowhere"\nformat = "litellm"\n'
    )
    code, out, _ = flywheel("ingest", "--source", "gateway", "--day", "2026-11-20")
    assert (code, "gateway → core.inference: 1 files, 1 records in, 1 kept" in out) == (0, True)
    code, out, _ = flywheel("ingest", "--source", "gateway", "--day", "2026-11-21")
    assert (code, "0 files" in out) == (0, True)
    code, _, err = flywheel("ingest", "--source", "third")
    assert (code, "no source named 'third'; sources set: gateway, other" in err) == (cli.EXIT_STOP, True)


@pytest.mark.parametrize("order", [("prices", "ingest"), ("ingest", "prices")])
def test_price_lists_and_logs_of_one_format_do_not_mix_in_any_order_twice(flywheel, order):
    log(flywheel.folder / "logs/a.jsonl", [call("a")])
    log(flywheel.folder / "snapshots/2026-10-01.json", json.dumps({"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-6}}).encode())
    folders = {"prices": flywheel.folder / "snapshots", "ingest": flywheel.folder / "logs"}
    for command in order * 2:
        assert flywheel(command, folders[command], "--format", "litellm")[0] == 0
    found = "select distinct feed, feed_model, delisted_at, (select count(*) from core.quarantine) as bad, (select any_value(source) from core.inference) as source from core.price"
    code, out, _ = flywheel("sql", found, "--output", "csv")
    assert (code, out.splitlines()[1:]) == (0, ["litellm_prices,gpt-4o,,0,litellm"])
    # A name that the other kind has is refused in clear words.
    for command, option, name, says in (("prices", "--feed", "litellm", "litellm is a source"), ("ingest", "--source", "litellm_prices", "litellm_prices is a feed")):
        code, _, err = flywheel(command, folders[command], "--format", "litellm", option, name)
        assert (code, says in " ".join(err.split())) == (cli.EXIT_STOP, True)


def test_a_price_list_that_cannot_be_read_leaves_the_others_their_turn(flywheel):
    (flywheel.folder / "bad.json").write_text("{")
    (flywheel.folder / "good.json").write_text(json.dumps({"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-6}}))
    (flywheel.folder / "flywheel.toml").write_text("".join(
        f'[feeds.{name}]\nurl = "{flywheel.folder}/{file}.json"\nformat = "litellm"\n' for name, file in (("a", "bad"), ("b", "good"), ("c", "missing"))
    ))  # fmt: skip
    code, out, err = flywheel("prices", "--day", "2026-11-20")
    assert (code, "b → core.price: 1 files" in out) == (cli.EXIT_STOP, True)
    assert "a: 1 snapshots were set aside" in err and "feed c: there is nothing" in err
    assert "gpt-4o" in flywheel("sql", "select feed_model from core.price")[1]


def test_a_source_that_cannot_be_read_leaves_the_others_their_turn(flywheel, monkeypatch):
    log(flywheel.folder / "good/a.jsonl", [call("a"), "{broken"])
    (flywheel.folder / "flywheel.toml").write_text("".join(
        f'[sources.{name}]\nurl = "{flywheel.folder}/{folder}"\nformat = "litellm"\n' for name, folder in (("a", "nowhere"), ("b", "good"), ("c", "missing"))
    ))  # fmt: skip
    for command, says in (("land", "b: 1 files"), ("ingest", "b → core.inference: 1 files")):
        code, out, err = flywheel(command, "--day", "2026-11-20")
        assert (code, says in out) == (cli.EXIT_STOP, True)
        assert all(f"there is nothing at {flywheel.folder}/{folder}" in err.replace("\n", "").replace("at/", "at /") for folder in ("nowhere", "missing"))
    log(flywheel.folder / "good/b.jsonl", [call("b"), "{broken"])
    flywheel("ingest", flywheel.folder / "good/b.jsonl", "--format", "litellm", "--source", "a", "--day", "2026-11-20")
    take = ingest.ingest_landed

    def busy(settings, source, *rest, **given):
        if source == "a":
            raise RetryLater("a is busy")
        return take(settings, source, *rest, **given)

    monkeypatch.setattr(ingest, "ingest_landed", busy)
    code, out, err = flywheel("replay")
    assert (code, "a is busy" in err, "b → core.inference: 1 files, 2 records in" in out) == (cli.EXIT_RETRY, True, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ingest"], "no sources"), (["ingest", "x.jsonl"], "--format says how to read"), (["ingest", "x.jsonl", "--format", "../x"], "is no format name"),
        (["ingest", "nowhere.jsonl", "--format", "litellm"], "there is nothing at nowhere.jsonl"), (["sql", "select 1"], "bring logs in first"),
        (["replay"], "nothing was ever taken in"), (["build", "marts.nothing"], "no table named marts.nothing"), (["prices", "--feed", "x"], "no feed named 'x'"),
        (["ingest", f"nothing://me:{SECRET}@host/x?sig={SECRET}", "--format", "litellm"], "nothing://host/x cannot be opened"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(flywheel, arguments, says):
    code, out, err = flywheel(*arguments)
    assert code == cli.EXIT_STOP
    assert says in " ".join(err.split())
    assert out == ""


@pytest.mark.parametrize("arguments", [["dictionary", "--to", "held/x.md"], ["simulate", "held/x", "--calls", "10", "--days", "1"]])
def test_what_cannot_be_written_is_one_clear_line(flywheel, arguments):
    (flywheel.folder / "held").write_text("a file, and no folder")
    code, _, err = flywheel(*arguments)
    assert (code, f"{arguments[-1] if 'simulate' not in arguments else 'held/x'} cannot be written" in " ".join(err.split())) == (cli.EXIT_STOP, True)


@pytest.mark.parametrize("home", ["held", "held/home"])
@pytest.mark.parametrize("arguments", [["status"], ["ingest", "held", "--format", "litellm"], ["build"], ["prices"]])
def test_a_home_that_cannot_be_is_one_clear_line(flywheel, monkeypatch, arguments, home):
    (flywheel.folder / "held").write_text("a file, and no folder")
    monkeypatch.setenv("FLYWHEEL_HOME", str(flywheel.folder / home))
    code, _, err = flywheel(*arguments)
    assert (code, "where no folder can be made" in " ".join(err.split())) == (cli.EXIT_STOP, True)


def test_a_format_that_is_not_utf8_is_one_clear_line(flywheel):
    log(flywheel.folder / "formats/inference/mine.sql", b"\xff\xfe")
    code, _, err = flywheel("ingest", log(flywheel.folder / "a.jsonl", ["{}"]), "--format", "mine")
    assert (code, "mine.sql cannot be read" in "".join(err.splitlines())) == (cli.EXIT_STOP, True)


@pytest.mark.parametrize(("number", "exit_code"), [(28, cli.EXIT_RETRY), (13, cli.EXIT_STOP)])
def test_a_disk_that_fails_anywhere_is_one_clear_line(flywheel, monkeypatch, number, exit_code):
    monkeypatch.setattr("pipelines.engine.views", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number), "x")))
    log(flywheel.home / "warehouse.duckdb", b"")
    code, _, err = flywheel("replay")
    assert (code, os.strerror(number) in err) == (exit_code, True)


def test_a_replay_reads_with_the_format_of_the_settings_what_another_could_not_read(flywheel):
    path = log(flywheel.folder / "logs/a.jsonl", [call("a")])
    assert "1 quarantined" in flywheel("ingest", path, "--format", "openai", "--source", "app", "--day", "2026-11-20")[1]
    (flywheel.folder / "flywheel.toml").write_text(f'[sources.app]\nurl = "{path}"\nformat = "litellm"\n')
    code, out, _ = flywheel("replay")
    assert (code, "1 records in, 1 kept" in out) == (0, True)
    assert "nothing of these sources is in quarantine" in flywheel("replay")[1]


def test_a_wrong_setting_is_named(flywheel, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_WINDOW_DAYS", "0")
    code, _, err = flywheel("status")
    assert (code, "window_days" in err) == (cli.EXIT_STOP, True)


def test_what_may_mend_itself_has_another_exit_code(flywheel, monkeypatch):
    path = log(flywheel.folder / "a.jsonl", lines([call("a")]))
    monkeypatch.setattr("pipelines.land._copy.retry.sleep", lambda _: None)
    monkeypatch.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    code, _, err = flywheel("ingest", path, "--format", "litellm")
    assert (code, "try again later" in err, "No space left on device" in err) == (cli.EXIT_RETRY, True, True)


def test_a_question_that_does_not_run(flywheel):
    path = log(flywheel.folder / "a.jsonl", [call("a")])
    flywheel("ingest", path, "--format", "litellm")
    written = flywheel.folder / "written.csv"
    for query, says in {
        "selec": "the query does not run", "select * from core.nothing": "the query does not run", "": "no question was asked", " ;": "no question was asked",
        "/* nothing */": "no question was asked", "select 1; select 2": "these are 2 statements", "create table x (i int)": "this is no select: CREATE",
        "drop view core.inference": "this is no select: DROP", f"copy core.inference to '{written}'": "this is no select: COPY",
        f"explain analyze copy core.inference to '{written}'": "this is no select: EXPLAIN",
    }.items():  # fmt: skip
        for output in ("table", "csv"):
            code, out, err = flywheel("sql", query, "--output", output)
            assert (code, out, says in " ".join(err.split())) == (cli.EXIT_STOP, "", True), query
    assert not written.exists()
    assert flywheel("sql", "pivot core.inference on status using count(*)")[0] == 0
    code, out, _ = flywheel("sql", "select range from range(300)")
    assert "more rows; add a limit" in out


@pytest.mark.parametrize("output, line", [("csv", b"n,word\n0,a b\n"), ("json", b'{"n":0,"word":"a b"}\n'), ("table", b"0  a b")])
def test_answers_for_other_programs_are_whole(flywheel, output, line):
    flywheel("ingest", log(flywheel.folder / "a.jsonl", [call("a")]), "--format", "litellm")
    asked = [sys.executable, "-m", "pipelines.cli", "sql", "--output", output, "select range as n, 'a b' as word from range(300); -- all"]
    told = subprocess.run(asked, capture_output=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}).stdout
    assert line in told
    assert told.count(b"a b") == (200 if output == "table" else 300)


def test_an_answer_goes_behind_what_a_file_holds_and_a_reader_may_go_away(flywheel):
    flywheel("ingest", log(flywheel.folder / "a.jsonl", [call("a")]), "--format", "litellm")
    asked = [sys.executable, "-m", "pipelines.cli", "sql", "--output", "csv", "select 2 as b"]
    held = log(flywheel.folder / "held.csv", b"a\n1\n")
    with held.open("ab") as out:
        subprocess.run(asked, stdout=out, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert held.read_bytes() == b"a\n1\nb\n2\n"
    reader, writer = os.pipe()
    os.close(reader)
    left = subprocess.run([*asked[:-1], "from range(100_000)"], stdout=writer, stderr=subprocess.PIPE, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    os.close(writer)
    assert (left.returncode, left.stderr) == (1, b"")


def test_simulated_logs_are_the_same_from_the_same_seed(flywheel):
    for folder in ("one", "two"):
        code, out, _ = flywheel("simulate", flywheel.folder / folder, "--calls", "50", "--days", "1", "--first-day", "2026-11-20", "--formats", "litellm")
        assert (code, "50 calls" in out) == (0, True)
    one, two = ({p.name: p.read_bytes() for p in (flywheel.folder / f / "logs").rglob("*") if p.is_file()} for f in ("one", "two"))
    assert one == two
    assert all(json.loads(line) for raw in one.values() for line in raw.splitlines()[:3])


def test_an_explanation_a_dictionary_and_ratings(flywheel):
    code, _, err = flywheel("explain", "spend", "--from", "2026-10", "--to", "2026-11")
    assert code == 1
    assert "flywheel ingest" in err
    code, out, _ = flywheel("capabilities", log(flywheel.folder / "board.csv", b",m\n20250101,1186\n"), "--format", "lmarena", "--day", "2026-11-20")
    assert (code, out) == (0, "lmarena → core.capability: 1 files, 1 records in, 1 kept, 0 duplicate, 0 quarantined, 0 context\n")
    code, out, err = flywheel("explain", "spend", "--from", "2026-10", "--to", "soon")
    assert code == 1
    assert "'soon' is no span of days" in err
    code, out, _ = flywheel("dictionary", "--to", flywheel.folder / "docs/dictionary.md")
    assert code == 0
    assert "### marts.spend_variance" in (flywheel.folder / "docs/dictionary.md").read_text()
