"""A company's own stores: the catalog in PostgreSQL, landing and tables on S3. The tables are those of a warehouse in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.build import build_table
from pipelines.engine import views
from pipelines.errors import RetryLater
from pipelines.ingest import ingest_source
from pipelines.lake import Lake
from pipelines.maintenance import maintain
from pipelines.prices import ingest_feed
from pipelines.settings import Settings
from tests.benchmarks import writers
from tests.support import lakehouse, servers
from tests.support.lakehouse import DAY, call, hashes, log, priced, run, unaccounted, warehouse

needs_postgres = pytest.mark.skipif(servers.no_postgres() is not None, reason=str(servers.no_postgres()))
needs_s3 = pytest.mark.skipif(servers.no_s3() is not None, reason=str(servers.no_s3()))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "logs"
    calls = [call(f"c{n}", at=f"2026-11-{18 + n % 2}T09:00:00Z") for n in range(60)]
    log(folder / "a.jsonl", [*calls, "{broken", calls[0]])
    return folder


def filled(settings: Settings, logs: Path) -> Settings:
    """Prices, logs, marts; then newer versions of some calls, so that files are rewritten."""
    priced(settings, logs.parent / "feed")
    ingest_feed(settings, "litellm", DAY)
    run(settings)
    newer = log(logs.parent / "newer" / "b.jsonl", [call(f"c{n}", at=f"2026-11-{18 + n % 2}T09:00:00Z", seconds=5.0) for n in range(0, 60, 7)])
    settings.sources["app"].url = str(newer.parent)
    run(settings)
    return settings


@pytest.fixture(scope="module")
def in_a_folder(logs: Path) -> dict[str, tuple[int, str]]:
    return hashes(filled(warehouse(logs.parent / "local", logs), logs))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory):
    with servers.postgres(tmp_path_factory.mktemp("server") / "postgres") as url:
        yield url


@needs_postgres
def test_a_catalog_in_postgresql(logs, in_a_folder, postgres, tmp_path):
    settings = filled(warehouse(tmp_path / "home", logs, catalog_uri=postgres), logs)
    assert hashes(settings) == in_a_folder
    assert unaccounted(settings) == []
    assert not (settings.home / "catalog.db").exists()
    maintain(settings)
    assert hashes(settings) == in_a_folder


@needs_postgres
def test_writers_at_once_on_postgresql(tmp_path):
    with servers.postgres(tmp_path / "postgres") as url:
        drawn = writers.overlapping(tmp_path / "logs", 2, 24)
        settings = warehouse(tmp_path / "home", drawn, catalog_uri=url)
        assert writers.together(2, writers.take_in, settings, drawn) == 0
        assert unaccounted(settings) == []
        alone = warehouse(tmp_path / "alone", drawn)
        ingest_source(alone, "app", DAY)
        both = ["core.inference", "core.inference_content"]
        assert hashes(settings, both, lakehouse.LINEAGE) == hashes(alone, both, lakehouse.LINEAGE)


@needs_postgres
def test_a_catalog_that_does_not_answer_is_tried_again_later(logs, tmp_path):
    settings = warehouse(tmp_path / "home", logs, catalog_uri=f"postgresql+psycopg2://flywheel:secret@127.0.0.1:{servers.free_port()}/x")
    with pytest.raises(RetryLater) as told:
        ingest_source(settings, "app", DAY)
    assert "secret" not in str(told.value)


@needs_s3
def test_landing_and_tables_on_s3(logs, in_a_folder, tmp_path, monkeypatch):
    with servers.s3(tmp_path, "lake") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        at = {"landing_url": "s3://lake/landing", "warehouse_url": "s3://lake/warehouse"}
        settings = filled(warehouse(tmp_path / "home", logs, **at), logs)
        assert hashes(settings) == in_a_folder
        assert unaccounted(settings) == []
        assert not (settings.home / "warehouse").exists()
        with views(settings) as con:
            assert con.execute("select count(*) from marts.call_cost where cost_status <> 'unpriced'").fetchall() == [(60,)]
        maintain(settings)
        assert hashes(settings) == in_a_folder
        # Logs that lie on S3 too, and are added to while the process runs.
        bucket = Lake(settings).catalog._load_file_io().get_fs("s3")
        bucket.pipe("lake/logs/day.jsonl", lakehouse.lines([call("on-s3")]))
        settings.sources["app"].url = "s3://lake/logs/*.jsonl"
        assert [r.kept for r in ingest_source(settings, "app", DAY)] == [1]
        bucket.pipe("lake/logs/day-2.jsonl", lakehouse.lines([call("on-s3-too")]))
        assert [r.kept for r in ingest_source(settings, "app", DAY)] == [1]
    # The server is gone.
    settings.sources["app"].url = str(logs)
    with pytest.raises(RetryLater, match="store"):
        build_table(settings, "marts.call_cost", [DAY])
