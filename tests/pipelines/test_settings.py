"""Settings: what is wrong is named, in words, and never shown; what cannot work is told before any work."""

from __future__ import annotations

import importlib.util
import os

import pytest

from pipelines import settings
from pipelines.errors import NotConfigured
from pipelines.settings import Settings

SECRET = "90210911"
TOO_FEW_OR_MANY = ("1KB", "0%", "10MB", "0.0000001%", "101%", "999999999999999GB")
BOUNDED = ("max_line_bytes", "max_file_bytes", "max_expansion", "threads")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What is said of a flywheel.toml, of which the environment sets nothing."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLYWHEEL_")]:
        monkeypatch.delenv(name)

    def load(text: str) -> str:
        (tmp_path / "flywheel.toml").write_text(text)
        with pytest.raises(NotConfigured) as error:
            Settings.load()
        return str(error.value)

    return load


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f'catalog_url = "postgresql://u:{SECRET}@host/x"', "catalog_url"), (f"pseudonym_key = {SECRET}", "pseudonym_key"),
        (f'[sources.app]\nurl = ["s3://u:{SECRET}@x"]\nformat = "litellm"', "sources.app.url"),
        (f'[routing]\npassword = "{SECRET}"', "routing.password"), (f'retention = "{SECRET}"', "retention"),
        (f'catalog_uri = "{SECRET}"', "catalog_uri"), (f'catalog_uri = "nothing://u:{SECRET}@host/x"', "catalog_uri"),
        (f'landing_url = "nothing://u:{SECRET}@host/x"', "landing_url"), (f'memory_limit = "{SECRET}"', "memory_limit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_shown(told, text, named):
    assert f"\n{named}\n" in told(text)
    assert SECRET not in told(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('memory_limit = "lots"', "is no size such as 800MB"), *((f'memory_limit = "{limit}"', "is no size that DuckDB can work with") for limit in TOO_FEW_OR_MANY),
        *((f"{name} = {least}", f"{name}\n  Input should be greater than or equal to 1") for name in BOUNDED for least in (0, -1)),
        ("[retention]\nlanding = 99999999999", "retention.landing\n  Input should be less than or equal to 36500"), ("window_days = 9999999", "window_days\n"),
        ('catalog_uri = "nonsense"', "is no SQLAlchemy URL"),
        ('catalog_uri = "mysql://u@host/x"', "the driver of this database is not installed: No module named 'MySQLdb'"),
        ('landing_url = "s3://lake/landing"', "the driver of s3:// is not installed: Install s3fs"),
        ('warehouse_url = "nothing://lake/x"', "no store is known by nothing://"),
        ('home = "a#b"', "a path with # in it"), ('home = "a%20b"', "a path with %20 in it"), ('home = "a?b"', "a path with ? in it"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_before_any_work(told, monkeypatch, text, says):
    monkeypatch.setattr(settings, "find_spec", lambda name: None if name == "s3fs" else importlib.util.find_spec(name))
    assert says in told(text)


@pytest.mark.parametrize("limit", ["1GB", "400MB", "1.5 GiB", "80%"])
def test_sizes_that_duckdb_knows(limit):
    assert Settings(memory_limit=limit).memory_limit == limit
