"""One simulated world, taken in and built once, for all tests that only look at it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import duckdb
import pytest
from xdist.scheduler import LoadFileScheduling

from pipelines.build import build_all
from pipelines.ingest import IngestReport, ingest_source
from pipelines.prices import ingest_feed
from pipelines.settings import ROOT, Settings, Source
from pipelines.simulate import FORMATS, simulate

os.environ["GX_ANALYTICS_ENABLED"] = "false"

CALLS, FIRST_DAY, DAYS, ARRIVAL = 2_700, date(2026, 10, 5), 3, date(2026, 10, 12)


@dataclass(frozen=True)
class World:
    """Settings of a built warehouse, the truth it should hold, and what was reported while it was filled."""

    settings: Settings
    truth: Path
    reports: list[IngestReport]

    def ask(self, sql: str) -> list[tuple]:
        """Query the published views; the truth is there as tables call, dirt and feedback of schema truth."""
        with duckdb.connect() as con:
            con.execute(f"attach '{self.settings.views}' as w (read_only)")
            con.execute("use w")
            con.execute("create schema memory.truth")
            for name in ("call", "dirt", "feedback"):
                con.execute(f"create view memory.truth.{name} as select * from read_parquet('{self.truth / name}.parquet')")
            return con.execute(sql.replace("truth.", "memory.truth.")).fetchall()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    simulate(folder, calls=CALLS, days=DAYS, first_day=FIRST_DAY, seed=11, formats=FORMATS, dirt_share=0.06)
    logs = folder / "logs"
    sources = {p.name: Source(url=str(p), format=p.name) for p in sorted(logs.iterdir())}
    settings = Settings.load(home=folder / "home", sources=sources, pseudonym_key="test key")
    ingest_feed(settings, "genai_prices", FIRST_DAY - timedelta(days=1))
    reports = [report for name in sources for report in ingest_source(settings, name, ARRIVAL)]
    build_all(settings)
    return World(settings, folder / "truth", reports)


class Rooms(LoadFileScheduling):
    """Side by side, a file's tests stay in one process, and so do all files that share the world or Airflow: each is made once."""

    def _split_scope(self, nodeid: str) -> str:
        return room(super()._split_scope(nodeid))


@cache
def room(path: str) -> str:
    text = (ROOT / path).read_text()
    return "airflow" if "pytest.mark.airflow" in text else "world" if re.search(r"\bworld(: World)?[,)]", text) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Rooms:
    return Rooms(config, log)
