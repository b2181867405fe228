"""The gate: staged rows in → broken promises out, with the keys and never the content."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from pipelines import gate
from pipelines.contracts import Contract, Promise, contract, literal
from pipelines.engine import connect
from pipelines.errors import PromiseBroken, StopTheLine
from pipelines.settings import ROOT, Settings
from tests.benchmarks import gate_speed

CANARY = "sk-canary the patient said"
CALL = Contract.model_validate(
    {
        "table": "core.call",
        "sentence": "A call.",
        "grain": ["call_id"],
        "partition": {"column": "started_at", "transform": "day"},
        "columns": [
            {"name": "call_id", "type": "varchar", "required": True, "means": "Id"},
            {"name": "status", "type": "varchar", "one_of": ["ok", "error"], "means": "How it ended"},
            {"name": "tokens", "type": "bigint", "means": "Tokens"},
            {"name": "said", "type": "varchar", "personal": "content", "means": "What was said"},
            {"name": "started_at", "type": "timestamp", "means": "When"},
        ],
        "promises": [
            {"name": "tokens_counted", "sql": "tokens >= 0", "because": "Less than none is a fault."},
            {"name": "tokens_few", "sql": "tokens < 100", "because": "Less than none is a fault."},
            {"name": "said_plain", "sql": r"not regexp_matches(said, '[\x00-\x1f]{1,2}')", "because": "It's said in one line."},
            {"name": "seldom_long", "sql": "tokens < 50", "severity": "warn", "because": "Long calls are worth a look."},
            {"name": "some_ok", "level": "table", "severity": "warn", "because": "Somebody should look.",
             "sql": "select 1 from (select count(*) filter (where status = 'ok') as ok from {table}) as t where ok = 0"},
        ],
    }
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", memory_limit="500MB", threads=2)


def staged(folder: Path, rows: str, name: str = "staged.parquet", promised: Contract = CALL) -> str:
    """Rows drawn as SQL values → a Parquet file with the contract's types."""
    path = str(folder / name)
    names = ", ".join(promised.names)
    duckdb.execute(
        f"copy (select {', '.join(promised.typed())} from (values {rows}) as t ({names})) to {literal(path)} (format parquet)"
    )
    return path


def broken(rows: str, promised: Contract = CALL) -> list[tuple]:
    """Rows drawn as SQL values → (key, promises, reason) of the broken ones."""
    relation = f"(select {', '.join(promised.typed())} from (values {rows}) as t ({', '.join(promised.names)}))"
    return sorted(duckdb.execute(gate.broken_sql(promised, relation, promised.grain)).fetchall(), key=str)


def held(audit: gate.Audit) -> dict[str, int]:
    return {r.promise: r.broken_count for r in audit.results if not r.held}


def test_a_broken_row_is_found_with_its_promises_and_each_reason_once():
    assert broken("""
        ('good', 'ok', 1, 'hi', '2026-11-20'),
        ('both', 'ok', -1, 'hi' || chr(10) || chr(10), '2026-11-20'),
        ('odd', 'maybe', 100, 'hi', '2026-11-20'),
        (null, 'ok', 1, 'hi', '2026-11-20')""") == [
        ("both", "tokens_counted,said_plain", "Less than none is a fault. It's said in one line."),
        ("odd", "status_known,tokens_few", "Every reader of the table counts on these values only. Less than none is a fault."),
        (None, "call_id_given", "Nothing can be done with a row without it."),
    ]  # fmt: skip


def test_what_is_unknown_breaks_nothing():
    assert broken("('unknown', null, null, null, null)") == []


def test_a_warning_sends_no_row_to_quarantine():
    assert broken("('long', 'ok', 60, 'hi', null)") == []


def test_a_contract_without_row_promises_finds_nothing():
    bare = Contract.model_validate(
        {"table": "core.bare", "sentence": "Bare.", "grain": ["a"], "columns": [{"name": "a", "type": "bigint", "means": "A"}]}
    )
    assert broken("(1), (null)", bare) == []


def test_clean_rows_pass_the_audit(settings, tmp_path):
    audit = gate.audit(
        settings,
        CALL,
        [staged(tmp_path, "('a', 'ok', 1, 'x', '2026-11-20'), ('b', 'ok', null, null, null)")],
        batch="b",
        expected_rows=2,
    )
    assert (audit.rows, held(audit), audit.warnings) == (2, {}, [])
    assert [r.promise for r in audit.results] == [
        "call_id_given", "status_known", "tokens_counted", "tokens_few", "said_plain", "seldom_long",
        "grain_unique", "some_ok", "rows_as_staged",
    ]  # fmt: skip


def test_a_broken_stop_refuses_the_batch_and_names_keys_but_no_content(settings, tmp_path):
    path = staged(
        tmp_path,
        f"('a', 'ok', -1, '{CANARY}', null), ('b', 'ok', -2, '{CANARY}' || chr(7), null), ('c', 'ok', 1, '{CANARY}', null)",
    )
    with pytest.raises(PromiseBroken) as refusal:
        gate.audit(settings, CALL, [path], batch="batch-7")
    told = str(refusal.value)
    for word in (
        "core.call",
        "batch-7",
        "tokens_counted",
        "broken 2 times",
        "Less than none",
        "'a'",
        "'b'",
        "said_plain",
        "schemas/core/call.yml",
    ):
        assert word in told
    assert CANARY not in told
    assert held(refusal.value.audit) == {"tokens_counted": 2, "said_plain": 1}


def test_at_most_five_keys_are_named_and_long_ones_by_their_length_only(settings, tmp_path):
    rows = ", ".join(f"('{'k' * 500}{n}', 'ok', -1, 'x', null)" for n in range(9))
    with pytest.raises(PromiseBroken) as refusal:
        gate.audit(settings, CALL, [staged(tmp_path, rows)], batch="b")
    assert "broken 9 times" in str(refusal.value)
    assert str(refusal.value).count("call_id '<501 characters>'") == 5
    assert "kk" not in str(refusal.value)


def test_warnings_are_returned(settings, tmp_path):
    audit = gate.audit(settings, CALL, [staged(tmp_path, "('a', 'error', 60, 'x', null)")], batch="b")
    assert {r.promise: r.broken_count for r in audit.warnings} == {"seldom_long": 1, "some_ok": 1}
    assert audit.broken == []


@pytest.mark.parametrize(
    ("rows", "repeated"),
    [
        ("('a', 'ok', 1, 'x', '2026-11-20 01:00'), ('a', 'ok', 1, 'x', '2026-11-20 23:00')", 1),
        ("('a', 'ok', 1, 'x', '2026-11-20 23:59'), ('a', 'ok', 1, 'x', '2026-11-21 00:00')", 0),
        ("('a', 'ok', 1, 'x', null), ('a', 'ok', 1, 'y', null), ('b', 'ok', 1, 'x', null)", 1),
    ],
)
def test_a_key_is_given_once_a_partition(settings, tmp_path, rows, repeated):
    path = staged(tmp_path, rows)
    if repeated:
        with pytest.raises(gate.BatchRefused) as refusal:
            gate.audit(settings, CALL, [path], batch="b")
        assert held(refusal.value.audit) == {"grain_unique": repeated}
        assert "call_id 'a'" in str(refusal.value)
    else:
        gate.audit(settings, CALL, [path], batch="b")


def test_several_files_are_one_batch(settings, tmp_path):
    one = staged(tmp_path, "('a', 'ok', 1, 'x', null)", "one.parquet")
    two = staged(tmp_path, "('b', 'ok', 1, 'x', null)", "two.parquet")
    assert gate.audit(settings, CALL, [one, two], batch="b", expected_rows=2).rows == 2
    with pytest.raises(PromiseBroken, match="grain_unique"):
        gate.audit(settings, CALL, [one, one], batch="b")


def test_no_files_are_no_rows(settings):
    assert gate.audit(settings, contract("core.inference"), [], batch="b", expected_rows=0).rows == 0
    with pytest.raises(PromiseBroken, match="rows_as_staged"):
        gate.audit(settings, contract("core.inference"), [], batch="b", expected_rows=1)


def test_a_contract_of_table_promises_alone_can_be_audited(settings, tmp_path):
    keyed = Contract.model_validate(
        {"table": "core.keyed", "sentence": "Keyed.", "grain": ["a"], "columns": [{"name": "a", "type": "bigint", "means": "A"}]}
    )
    assert held(gate.audit(settings, keyed, [], batch="b")) == {}
    assert held(gate.audit(settings, keyed, [staged(tmp_path, "(1), (2), (null)", promised=keyed)], batch="b")) == {}
    with pytest.raises(gate.BatchRefused) as refusal:
        gate.audit(settings, keyed, [staged(tmp_path, "(1), (1), (2), (2), (2), (3)", promised=keyed)], batch="b")
    assert held(refusal.value.audit) == {"grain_unique": 2}


def test_a_column_missing_or_of_another_type_refuses_the_batch(settings, tmp_path):
    path = str(tmp_path / "odd.parquet")
    duckdb.execute(
        f"copy (select 'a' as call_id, 'ok' as status, 1 as tokens, 'x' as said, 2 as extra) to '{path}' (format parquet)"
    )
    with pytest.raises(PromiseBroken) as refusal:
        gate.audit(settings, CALL, [path], batch="b")
    for fault in (
        "extra is integer, not in the contract",
        "started_at is missing, not timestamp",
        "tokens is integer, not bigint",
    ):
        assert fault in str(refusal.value)


@pytest.mark.parametrize(
    ("sql", "told"),
    [("cast(said as bigint) > 0", "ConversionException"), ("sad is not null", 'column "sad"'), ("tokens >>", "does not run")],
)
def test_a_promise_that_cannot_be_computed_is_named_without_the_value_it_failed_on(settings, tmp_path, sql, told):
    wrong = CALL.model_copy(
        update={"promises": (CALL.promises[0], CALL.promises[1].model_copy(update={"name": "wrong", "sql": sql}))}
    )
    with pytest.raises(StopTheLine, match="promise wrong") as failure:
        gate.audit(settings, wrong, [staged(tmp_path, f"('a', 'ok', 1, '{CANARY}', null)")], batch="b")
    assert told in str(failure.value)
    assert "schemas/core/call.yml" in str(failure.value)
    seen: BaseException | None = failure.value
    while seen:
        assert CANARY not in str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def test_results_are_rows_of_their_own_table_and_the_same_each_time(settings, tmp_path):
    path = staged(tmp_path, "('a', 'error', 1, 'x', null)")
    first, second = (gate.audit(settings, CALL, [path], batch="it's {b}").write(tmp_path / f"{n}.parquet") for n in range(2))
    assert first.read_bytes() == second.read_bytes()
    rows = duckdb.execute(
        f"select promise, severity, held, broken_count, checked_rows, batch from '{first}' where not held"
    ).fetchall()
    assert rows == [("some_ok", "warn", False, 1, 1, "it's {b}")]
    gate.audit(settings, contract("core.gate_result"), [str(first)], batch="results")


def test_the_data_docs_show_promises_and_counts_of_refused_batches_too_and_no_content(settings, tmp_path):
    calls = contract("core.inference")
    with connect(settings) as con:
        gate_speed.make_clean(con, tmp_path / "clean.parquet", 100)
        con.execute(
            f"copy (select * replace (case when landing_line = 5 then 42 else http_status end as http_status, "
            f"'{CANARY}' as tags, '{CANARY}' as traffic_kind) from '{tmp_path}/clean.parquet') to '{tmp_path}/faulty.parquet'"
        )
    gate.audit(settings, calls, [str(tmp_path / "clean.parquet")], batch="day/20")
    with pytest.raises(PromiseBroken) as refusal:
        gate.audit(settings, calls, [str(tmp_path / "faulty.parquet")], batch="day/21")
    assert CANARY not in str(refusal.value)
    index = gate.data_docs(settings)
    assert index.is_file()
    assert index.is_relative_to(settings.home / "gx")
    pages = {p: p.read_text() for p in index.parent.rglob("*.html")}
    stored = {p: p.read_text() for p in (settings.home / "gx").rglob("*.json")}
    assert "day-20" in pages[index]
    assert any(
        "http_status_real" in page and "HTTP has no others." in page for path, page in pages.items() if "day-21" in str(path)
    )
    assert not any(CANARY in text for text in [*pages.values(), *stored.values()])
    assert not any("web-assets" in page or "dataContextId" in page for page in pages.values()), (
        "no beacon when a page is looked at"
    )
    refused = next(page for path, page in pages.items() if "day-21" in str(path))
    assert "1 broken" in refused
    assert "100 broken" in refused
    successes = sorted(json.loads(text)["success"] for path, text in stored.items() if "validations" in str(path))
    assert successes == [False, True]


def test_only_the_latest_audits_of_a_table_are_kept_for_the_docs(settings, tmp_path, monkeypatch):
    from pipelines import expectations

    monkeypatch.setattr(expectations, "KEPT_RUNS", 2)
    path = staged(tmp_path, "('a', 'ok', 1, 'x', null)")
    for n in range(4):
        gate.audit(settings, CALL, [path], batch=f"batch-{n}")
    kept = (settings.home / "gx" / "uncommitted" / "validations").rglob("*.json")
    assert sorted(p.parents[1].name for p in kept) == ["batch-2", "batch-3"]


def test_an_audit_is_quiet_keeps_to_its_folder_and_calls_nobody(tmp_path):
    """In a process of its own: cwd, HOME and the network are watched, and DuckDB stages while Great Expectations is imported."""
    path = staged(tmp_path, "('a', 'ok', 1, 'x', null)")
    in_utc = Promise(
        name="in_utc", sql="cast(timestamptz '2026-11-20 01:00:00+00' as date) = date '2026-11-20'", because="Days are UTC."
    )
    (tmp_path / "call.json").write_text(CALL.model_copy(update={"promises": (*CALL.promises, in_utc)}).model_dump_json())
    (tmp_path / "cwd").mkdir()
    code = f"""
import pathlib, socket, sys, threading
def refuse(*a, **k): print("network!", a); raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
sys.path.insert(0, {str(ROOT)!r})
import duckdb
from pipelines import gate
from pipelines.contracts import Contract
from pipelines.settings import Settings
thread = threading.Thread(target=gate.warm)
thread.start()
while thread.is_alive():
    duckdb.connect().execute("select count(*) from range(10000) t (i) where i > ?", [5]).fetchall()
call = Contract.model_validate_json(pathlib.Path({str(tmp_path / "call.json")!r}).read_text())
gate.audit(Settings(home=pathlib.Path({str(tmp_path / "home")!r})), call, [{path!r}], batch="b")
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "cwd",
        env={"HOME": str(tmp_path / "cwd"), "PATH": "", "TZ": "America/New_York"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list((tmp_path / "cwd").iterdir()) == []


def test_the_gate_module_alone_does_not_import_great_expectations():
    code = "import sys, pipelines.gate; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_audit_logs_no_content(settings, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(PromiseBroken):
        gate.audit(settings, CALL, [staged(tmp_path, f"('a', '{CANARY}', -1, '{CANARY}', null)")], batch="b")
    assert CANARY not in caplog.text


def test_settings_bound_the_audit(tmp_path):
    tight = Settings(home=tmp_path / "home", memory_limit="20MB", threads=1)
    with connect(tight) as con:
        gate_speed.make_clean(con, tmp_path / "clean.parquet", 1000)
        assert con.execute("select current_setting('memory_limit'), current_setting('threads')").fetchone() == ("19.0 MiB", 1)
    assert gate.audit(tight, contract("core.inference"), [str(tmp_path / "clean.parquet")], batch="b").broken == []


def test_every_planted_fault_is_caught_at_its_key_and_nothing_else(settings, tmp_path):
    rows = 20_000
    clean, faulty = tmp_path / "clean.parquet", tmp_path / "faulty.parquet"
    with connect(settings) as con:
        gate_speed.make_clean(con, clean, rows)
        planted = gate_speed.plant(con, clean, faulty, rows)
        batch = gate_speed.batch_faults(con, settings, clean, tmp_path, rows)
    assert len(gate_speed.FAULTS) + len(batch) >= 30
    assert gate_speed.find(settings, clean) == {}
    assert held(gate.audit(settings, gate_speed.TABLE, [str(clean)], batch="clean", expected_rows=rows)) == {}
    found = gate_speed.find(settings, faulty)
    assert gate_speed.wrongly_found(found, planted) == []
    refused = gate_speed.refused(settings, [faulty])
    assert {p: n for p, n in refused.items() if p != "grain_unique"} == {
        p: sum(p in broke for broke in found.values()) for p in set().union(*found.values())
    }
    assert all(batch.values()), batch
