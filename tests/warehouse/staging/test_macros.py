"""The readers that every staging select shares: text → value, or null for what cannot be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

MACROS = Path(__file__).parents[3] / "warehouse" / "staging" / "macros.sql"
NINE = datetime(2026, 11, 20, 9, 0, 1)


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.execute(MACROS.read_text())
        yield con


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20 09:00:01", NINE),
        ("2026-11-20T09:00:01.5", NINE + timedelta(seconds=0.5)),
        ("2026/11/20 09:00:01", NINE),
        ("2026-11-20", datetime(2026, 11, 20)),
        ("2026-11-20T09:00:01Z", NINE),
        ("2026-11-20 09:00:01 UTC", NINE),
        ("2026-11-20T09:00:01.000 GMT", NINE),
        ("2026-11-20 09:00:01 Etc/UTC", NINE),
        ("2026-11-20T09:00:01+05:30", NINE - timedelta(hours=5.5)),
        ("2026-11-20 09:00:01.000000-05", NINE + timedelta(hours=5)),
        ("2026-11-20 09:00:01 GMT+02:00", NINE - timedelta(hours=2)),
        # What a cast would drop, hours of difference with it.
        ("2026-11-20T09:00:01 PST", None),
        ("2026-11-20 09:00:01 EST", None),
        ("2026-11-20 09:00:01 CET", None),
        ("2026-11-20 09:00:01 America/New_York", None),
        ("2026-11-20 09:00:01 GMT+2", None),
        ("2026-11-20 09:00:01 -5", None),
        ("2026-11-20 09:00:01 +5", None),
        ("2026-11-20 09:00:01 PM", None),
    ],
)
def test_a_time_is_read_with_its_zone_or_not_at_all(con, text, moment):
    assert con.execute("select as_utc($text)", {"text": text}).fetchone()[0] == moment
