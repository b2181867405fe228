"""One Airflow for the whole test run: a tiny home with two sources, filled by the real scheduler."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipelines.local_run import LocalAirflow
from pipelines.simulate import simulate

ROOT = Path(__file__).resolve().parents[2]
FIRST_DAY = date(2026, 3, 1)
DAYS = 6
FORMATS = ("litellm", "anthropic")

# Airflow reads its configuration when first imported: keep it out of the developer's own ~/airflow.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="flywheel-dagbag-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@dataclass
class Flywheel:
    """A home with simulated logs, the settings file its tasks read, and the Airflow that runs on it."""

    home: Path
    logs: Path
    airflow: LocalAirflow

    @property
    def config(self) -> Path:
        return self.home / "flywheel.toml"

    def set_sources(self, **formats: str) -> None:
        """Say which format each source has; tasks that start from now on see it."""
        lines = [f"home = {json.dumps(str(self.home))}"]
        for source, name in formats.items():
            lines += [f"[sources.{source}]", f'url = "{self.logs}/{source}/{{day}}"', f'format = "{name}"']
        self.config.write_text("\n".join(lines))


@pytest.fixture(scope="session")
def flywheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flywheel]:
    home = tmp_path_factory.mktemp("flywheel")
    simulate(home / "in", calls=120, days=DAYS, first_day=FIRST_DAY, seed=7, formats=FORMATS, dirt_share=0.0)
    airflow = LocalAirflow(home, env={"FLYWHEEL_CONFIG": str(home / "flywheel.toml")})
    world = Flywheel(home, home / "in" / "logs", airflow)
    world.set_sources(**{name: name for name in FORMATS})
    with airflow:
        airflow.unpause()
        yield world


@pytest.fixture
def since(flywheel: Flywheel) -> datetime:
    """The moment a test began, to tell its runs from those of the tests before it."""
    return datetime.now(UTC)
