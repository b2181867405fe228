"""One name, everywhere: the contract, the select, the test and the asset of a table carry the same name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from pipelines.build import mart_order
from pipelines.contracts import contract, tables
from pipelines.engine import MART_MACROS
from pipelines.settings import ROOT

SELECTS = sorted(p for folder in ("marts", "datasets", "exports") for p in (ROOT / "warehouse" / folder).glob("*.sql"))


def test_every_select_has_its_contract_and_every_mart_its_select() -> None:
    selects = {f"{p.parent.name}.{p.stem}" for p in SELECTS}
    assert selects == set(mart_order())
    assert {t for t in tables() if t.startswith(("marts.", "exports."))} <= selects


@pytest.mark.parametrize("table", tables())
def test_a_contract_says_what_everything_means(table: str) -> None:
    promised = contract(table)
    assert promised.sentence.endswith(".")
    assert set(promised.grain) <= set(promised.names)
    assert len(promised.names) == len(set(promised.names))
    for column in promised.columns:
        assert column.means, column.name
        for suffix, unit in (("_usd", "usd"), ("_tokens", "tokens")):
            if column.name.endswith(suffix):
                assert column.unit == unit, f"{table}.{column.name}"
        if column.name.endswith("_at"):
            assert column.type == "timestamp", column.name
        if column.name.endswith("_day"):
            assert column.type == "date", column.name
    assert all(p.because for p in promised.promises)


def test_the_same_name_has_the_same_type_everywhere() -> None:
    types: dict[str, dict[str, str]] = {}
    for table in tables():
        for column in contract(table).columns:
            # Sums need more digits than what they sum.
            types.setdefault(column.name, {})[column.type.replace("decimal(38,12)", "decimal(18,12)")] = table
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize("path", SELECTS, ids=lambda p: p.stem)
def test_marts_keep_to_sql_that_another_engine_can_run(path: Path) -> None:
    """No ASOF join; functions are those that sqlglot can say in another dialect, Spark's own, the project's macros, and few of DuckDB's alone."""
    [tree] = sqlglot.parse(path.read_text(), read="duckdb")
    assert isinstance(tree, exp.Query)
    assert not [join for join in tree.find_all(exp.Join) if (join.args.get("method") or "").upper() == "ASOF"]
    macros = {name for file in MART_MACROS for name in re.findall(r"create or replace macro (\w+)\(", (ROOT / "warehouse" / file).read_text())}
    assert {f.name.lower() for f in tree.find_all(exp.Anonymous)} <= macros | {"hash", "json_array_length", "to_json"} | {"json_valid", "list_sum", "to_milliseconds"}


def test_every_format_has_a_test() -> None:
    formats = {p.stem for folder in ("inference", "feedback") for p in (ROOT / "warehouse/staging" / folder).glob("*.sql")}
    tested = " ".join(p.stem for p in (ROOT / "tests/warehouse/staging").rglob("test_*.py"))
    assert {f for f in formats if f not in tested} == set()
