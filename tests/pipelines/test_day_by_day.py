"""A select taken apart and written a day at a time gives what it gives as a whole."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import day_by_day
from pipelines.build import build_table
from pipelines.contracts import contract
from pipelines.day_by_day import taken_apart, write_each_day
from pipelines.ingest import ingest_source
from pipelines.prices import ingest_feed
from pipelines.stage import silent
from tests.support.lakehouse import DAY, ask, call, hashes, log, priced, warehouse

SQL = """-- A comment with a ) and the word with.
with seen as not materialized (select n, made_at from call where made_at >= $from_day and made_at < $to_day),
-- what holds for all (of them
rate as materialized (select ')' as mark, max(n) as most, count(*) as rows from seen),
joined as (
    select seen.*, rate.most, rate.rows, rate.mark, (select 1) as one from seen, rate
)
select n, made_at, most, rows, mark from joined where one = 1
"""
DAYS = [date(2026, 11, 20) + timedelta(days=n) for n in range(4)]


def test_it_is_taken_apart_where_its_parts_meet() -> None:
    members, rest = taken_apart(SQL)
    assert [(m.name, m.is_materialized) for m in members] == [("seen", False), ("rate", True), ("joined", False)]
    assert members[1].body == "select ')' as mark, max(n) as most, count(*) as rows from seen"
    assert rest.strip() == "select n, made_at, most, rows, mark from joined where one = 1"
    assert taken_apart("select 1") == ([], "select 1")


def test_every_table_written_so_can_be_taken_apart() -> None:
    promised = contract("marts.call_cost")
    members, rest = taken_apart(promised.select)
    assert promised.day_by_day
    assert {"asked", "card"} <= {m.name for m in members if m.is_materialized}
    assert rest.startswith("select") and " with " not in rest
    assert duckdb.extract_statements(f"with {', '.join(f'{m.name} as ({m.body})' for m in members)} {rest}")


def test_each_day_has_its_file_and_what_is_materialized_holds_for_all(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        # The third day has no rows.
        con.execute("create table call as select n, timestamp '2026-11-20 06:00' + to_days([0, 1, 3][1 + n % 3]::int) as made_at from range(1000) t (n)")
        bound = {"from_day": DAYS[0], "to_day": DAYS[-1] + timedelta(days=1)}
        whole = con.execute(f"select * from ({SQL}) order by n", bound).fetchall()
        written = write_each_day(
            con, SQL, {name: name for name in ("n", "made_at", "most", "rows", "mark")}, DAYS, tmp_path / "out", report=silent, doing="",
            run=lambda own, query, given: own.execute(query, {k: v for k, v in given.items() if f"${k}" in query}))
        assert con.execute(f"select * from read_parquet({[str(p) for p, _ in written]}) order by n").fetchall() == whole
        assert len(whole) == 1000
        assert pq.read_schema(written[0][0]).field("mark").type == pa.string(), "joined as a number, and a text to readers"
        for path, day in written:
            assert con.execute(f"select distinct cast(made_at as date) from read_parquet('{path}')").fetchall() == [(day,)]
        assert [day for _, day in written] == [DAYS[0], DAYS[1], DAYS[3]]


def test_small_days_parted_and_large_ones_by_themselves_are_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices change in the middle of a day, which must not matter to either way."""
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call(f"c{n}", at=f"2026-11-{16 + n % 5:02}T{n:02}:00:00Z", prompt_tokens=n) for n in range(24)])
    ingest_feed(priced(settings, tmp_path / "feed"), "litellm", date(2026, 11, 10))
    ingest_feed(priced(settings, tmp_path / "feed", input_text=1.0, output_text=5.0), "litellm", date(2026, 11, 18))
    ingest_source(settings, "app", DAY)
    days = [date(2026, 11, 15) + timedelta(days=n) for n in range(7)]
    parted = build_table(settings, "marts.call_cost", days)
    before = hashes(settings, ["marts.call_cost"])
    assert ask(settings, "select count(*), count(distinct price_ids) from marts.call_cost") == [(24, 2)]
    monkeypatch.setattr(day_by_day, "WORTH_A_STREAM", 0)
    assert build_table(settings, "marts.call_cost", days).rows == parted.rows == 24
    assert hashes(settings, ["marts.call_cost"]) == before
