"""Maintenance: many small files, old snapshots and strays in → fewer, fewer and none, and the same answers."""

from __future__ import annotations

import os
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipelines.ingest import ingest_source
from pipelines.lake import Lake
from pipelines.maintenance import MaintenanceReport, _awaited, _remove_orphans, _remove_parts, maintain
from pipelines.settings import Settings
from tests.support.lakehouse import build_marts, call, crashed_ingest, hashes, log, started, unaccounted, warehouse

NOTHING = MaintenanceReport()
AT_ONCE = {"keep_snapshots": timedelta(0), "keep_orphans": timedelta(0)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """A warehouse filled in three runs, so that every day has several small files."""
    folder = tmp_path_factory.mktemp("maintenance")
    settings = warehouse(folder / "home")
    for n in range(3):
        log(folder / f"logs/{n}.jsonl", [*(call(f"c{n}-{k}", at=f"2026-11-{18 + k % 2}T09:00:00Z") for k in range(6)), "{broken"])
        ingest_source(settings, "app", date(2026, 11, 20 + n))
    build_marts(settings)
    return settings


def files(settings: Settings) -> set[Path]:
    return {p for p in (settings.home / "warehouse").rglob("*") if p.is_file()}


def old(path: Path, days: float = 2) -> Path:
    """A stray file as if it had been written some days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("stray")
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_small_files_are_put_together_and_answers_stay(settings):
    before, many = hashes(settings), len(Lake(settings).snapshot("core.inference").files)
    done = maintain(settings)
    assert many == 6
    assert len(Lake(settings).snapshot("core.inference").files) == 2
    assert done.compacted_files >= 6
    assert (done.expired_snapshots, done.removed_files) == (0, 0)
    assert hashes(settings) == before
    assert unaccounted(settings) == []


def test_twice_is_once(settings):
    maintain(settings)
    before, there = hashes(settings), files(settings)
    assert maintain(settings) == NOTHING
    assert (hashes(settings), files(settings)) == (before, there)


def test_marts_are_as_they_were_when_built_after_it(settings):
    maintain(settings)
    before = hashes(settings, ["marts.call_cost", "marts.spend_daily", "marts.reconciliation"])
    build_marts(settings)
    assert hashes(settings, before) == before


def test_old_snapshots_go_with_all_that_only_they_held(settings):
    before = hashes(settings)
    done = maintain(settings, **AT_ONCE)
    assert done.expired_snapshots > 0
    assert done.removed_files > 0
    lake = Lake(settings)
    for table in before:
        known = lake.all_files(table)
        assert len(lake.table(table).snapshots()) == 1
        assert {str(p) for p in files(settings) if f"/{table.replace('.', '/')}/" in str(p)} == known
    assert hashes(settings) == before
    assert maintain(settings, **AT_ONCE) == NOTHING


def test_strays_go_and_what_is_under_way_stays(settings):
    home = settings.home
    strays = [old(home / p) for p in ("warehouse/core/inference/data/2026-11-20/x.parquet", "warehouse/core/inference/metadata/x.avro")]
    litter = [old(home / p) for p in ("scratch/x.parquet", "scratch/run/y.parquet", "landing/app/day=2026-11-20/x.part")]
    os.utime(home / "scratch/run", (time.time() - 2 * 86400,) * 2)
    under_way = [old(home / p, 0.5) for p in (
        "warehouse/core/inference/data/2026-11-20/z.parquet", "scratch/z.parquet", "landing/app/day=2026-11-20/z.part")]  # fmt: skip
    done = maintain(settings)
    assert done.removed_files == len(strays)
    assert [p for p in strays + litter if p.exists()] == []
    assert [p for p in under_way if not p.exists()] == []
    assert len(list((home / "landing").rglob("*.jsonl"))) == 3


@pytest.mark.parametrize("name", ["ho[1]me", "ho*me"])
def test_a_home_of_any_name_is_no_glob(tmp_path, name):
    home, another = Settings(home=tmp_path / name), Settings(home=tmp_path / "ho1me")
    litter, theirs = (old(s.home / "landing/app/day=2026-11-20/x.part") for s in (home, another))
    kept = old(home.home / "landing/app/day=2026-11-20/x.part.jsonl")
    _remove_parts(home, timedelta(days=1))
    assert (litter.exists(), kept.exists(), theirs.exists()) == (False, True, True)


def test_it_finishes_what_a_crash_cut_off(tmp_path):
    """Files that an announcement names stay, however old, and what it announces is done."""
    log(tmp_path / "logs/a.jsonl", [call("a"), call("b"), "{broken"])
    settings, whole = warehouse(tmp_path / "home"), warehouse(tmp_path / "whole")
    ingest_source(whole, "app", date(2026, 11, 20))
    with started(crashed_ingest, settings, 1, True) as process:
        process.join()
    for path in files(settings):
        os.utime(path, (time.time() - 5 * 86400,) * 2)
    announced = {p for p in files(settings) if "inference_content/data" in str(p)}
    lake = Lake(settings)
    _remove_orphans(settings, lake, "core.inference_content", timedelta(0), _awaited(lake))
    assert {p for p in files(settings) if "inference_content/data" in str(p)} == announced != set()
    maintain(settings)
    assert hashes(settings) == hashes(whole)
