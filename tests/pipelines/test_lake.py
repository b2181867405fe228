"""Commits: files in → a snapshot that everybody sees whole, whoever else is writing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy.exc import OperationalError

from pipelines.contracts import contract
from pipelines.engine import connect, write
from pipelines.errors import NotConfigured, RetryLater
from pipelines.lake import Conflict, Lake, storage
from pipelines.settings import Settings
from tests.benchmarks import writers
from tests.support.lakehouse import ask

TABLE = "core.quarantine"
DAY = date(2026, 11, 20)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(Settings(home=tmp_path / "home"))


def staged(lake: Lake, *keys: str) -> Path:
    """A staged file of quarantine rows."""
    rows = ", ".join(f"('{key}')" for key in keys)
    with connect(lake.settings) as con:
        return write(con, lake.settings.scratch / f"{'-'.join(keys)}.parquet", f"""
            select {", ".join(contract(TABLE).typed())} from (select 'core.inference' as target_table, 'app' as source, 'litellm' as source_format,
                '2026-11-20' as landed_day, 'f' as landing_file, 1 as landing_line, 1 as landing_item, k as row_key, 'p' as promises, 'r' as reason
            from (values {rows}) as t (k))""")  # fmt: skip


def keys(lake: Lake) -> list[str]:
    lake.publish_views()
    return [row[0] for row in ask(lake.settings, f"select row_key from {TABLE} order by 1")]


def test_an_uploaded_file_is_seen_only_once_it_is_committed(lake):
    path = lake.upload(staged(lake, "a"), TABLE)
    lake.table(TABLE)
    assert keys(lake) == []
    lake.commit(lake.snapshot(TABLE), [path])
    assert keys(lake) == ["a"]


def test_files_come_and_go_in_one_step(lake):
    lake.append(TABLE, [(staged(lake, "a", "b"), None)])
    seen = lake.snapshot(TABLE)
    lake.commit(seen, [lake.upload(staged(lake, "b", "c"), TABLE)], seen.files)
    assert keys(lake) == ["b", "c"]


@pytest.mark.parametrize("change", ["rows", "rows away", "properties"])
def test_nothing_is_committed_on_what_is_no_longer_there(lake, change):
    lake.append(TABLE, [(staged(lake, "a"), None)])
    seen = lake.snapshot(TABLE)
    lake.append(TABLE, [(staged(lake, "b"), None)])
    add = [lake.upload(staged(lake, "c"), TABLE)] if change == "rows" else []
    with pytest.raises(Conflict):
        lake.commit(seen, add, seen.files if change == "rows away" else [], {"said": "x"} if change == "properties" else None)
    assert keys(lake) == ["a", "b"]


def test_an_empty_table_is_a_state_too(lake):
    seen = lake.snapshot(TABLE)
    lake.append(TABLE, [(staged(lake, "a"), None)])
    with pytest.raises(Conflict):
        lake.commit(seen, [lake.upload(staged(lake, "b"), TABLE)])
    assert keys(lake) == ["a"]


def test_what_was_decided_is_decided_anew_after_a_conflict(lake):
    seen_keys = []

    def attempt(seen):
        if not seen_keys:
            lake.append(TABLE, [(staged(lake, "first"), None)])
        seen_keys.append(sum(e.rows for e in seen.files))
        lake.commit(seen, [lake.upload(staged(lake, "mine"), TABLE)])

    lake.settle(TABLE, attempt)
    assert seen_keys == [0, 1]
    assert keys(lake) == ["first", "mine"]


def test_two_strike_one_property(lake):
    lake.commit(lake.snapshot(TABLE), [], properties={"said": "x"})
    one, other = lake.snapshot(TABLE), lake.snapshot(TABLE)
    lake.strike(one, "said")
    lake.strike(other, "said")
    assert "said" not in lake.table(TABLE).properties


def test_a_path_is_what_it_says_whatever_a_partition_is_called(lake):
    path = lake.upload(staged(lake, "a"), "core.price", "../../etc/passwd")
    assert Path(path.removeprefix("file://")).resolve().is_relative_to(lake.settings.home / "warehouse/core/price/data")


def test_partitions_are_read_alone(lake):
    with connect(lake.settings) as con:
        for day in ("2026-11-20", "2026-11-21"):
            row = write(con, lake.settings.scratch / f"{day}.parquet", f"""
                select {", ".join(contract("core.feedback").typed(["feedback_id", "given_at"]))}
                from (select 'x:{day}' as feedback_id, timestamp '{day} 10:00:00' as given_at)""")  # fmt: skip
            lake.append("core.feedback", [(row, date.fromisoformat(day))])
        lake.attach(con, "core.feedback", [DAY])
        assert con.execute("select feedback_id from core.feedback").fetchall() == [("x:2026-11-20",)]


def test_readers_of_the_old_views_are_not_disturbed(lake):
    lake.append(TABLE, [(staged(lake, "a"), None)])
    lake.publish_views()
    with duckdb.connect(str(lake.settings.views), read_only=True) as reader:
        lake.append(TABLE, [(staged(lake, "b"), None)])
        lake.publish_views()
        assert reader.execute(f"select count(*) from {TABLE}").fetchone() == (1,)
    assert keys(lake) == ["a", "b"]
    assert [p.name for p in lake.settings.scratch.iterdir()] == []


def test_a_home_with_an_awkward_name(tmp_path):
    lake = Lake(Settings(home=tmp_path / "my 'home' é"))
    lake.append(TABLE, [(staged(lake, "a"), None)])
    assert keys(lake) == ["a"]


def test_data_in_a_remote_store(tmp_path):
    lake = Lake(Settings(home=tmp_path / "home", warehouse_url="memory://lake"))
    lake.upload(staged(lake, "a"), TABLE)
    assert len(fsspec.filesystem("memory").find("/lake/core/quarantine/data")) == 1


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), duckdb.IOException("could not write"), duckdb.OutOfMemoryException("failed to allocate\n\nsecret advice"),
    OSError("url='https://host/x?sig=secret'"), OperationalError("insert", {"said": "secret"}, Exception("disk full"))]
)
def test_a_failure_of_storage_is_worth_another_try_and_quotes_no_values(failure):
    with pytest.raises(RetryLater, match="ingest stopped, as storage failed") as error, storage("ingest"):
        raise failure
    assert "secret" not in str(error.value)


def test_what_a_person_must_change_is_told_from_a_full_disk(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file/home"):
        with pytest.raises(NotConfigured, match=r"the setting `home` is .*, where no folder can be made: (File exists|Not a directory)"):
            Lake(Settings(home=home))
        with pytest.raises(NotConfigured, match="ingest stopped"), storage("ingest"):
            home.mkdir()
    with pytest.raises(NotConfigured, match=r"the catalog at .* cannot be opened: OperationalError: unable to open database file$"):
        Lake(Settings(home=tmp_path / "home", catalog_uri=f"sqlite:///{tmp_path}/nowhere/x.db"))

    def full(*_, **__):
        raise OperationalError("create table secret", {}, Exception("disk I/O error"))

    monkeypatch.setattr("pipelines.lake._Catalog", full)
    with pytest.raises(RetryLater, match=r"the catalog at .* cannot be opened: Exception: disk I/O error$"):
        Lake(Settings(home=tmp_path / "home"))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RetryLater, match="No space left on device"):
        Lake(Settings(home=tmp_path / "another"))


class Unplugged(MemoryFileSystem):
    """A store that has gone."""

    protocol = "unplugged"

    def glob(self, path, **given):
        raise LookupError("no route to host")


def test_a_store_that_fails_while_duckdb_reads_is_worth_another_try():
    with duckdb.connect() as con:
        con.register_filesystem(Unplugged())
        with pytest.raises(RetryLater, match=r"^build stopped, as the store failed: LookupError: no route to host$"), storage("build"):
            con.execute("select * from read_parquet('unplugged://lake/a.parquet')")
        with pytest.raises(duckdb.BinderException), storage("build"):
            con.execute("select a")


def test_an_unknown_table_has_no_contract(lake):
    with pytest.raises(NotConfigured, match=r"no table named core\.nothing"):
        lake.table("core.nothing")


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    assert writers.appended(tmp_path, count=8, commits=2) == (16, 16, 0)
