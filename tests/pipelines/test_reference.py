"""Reference files: the embedded ones, a user's own in their place, and what is built of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipelines.build import build_table, stale_days
from pipelines.engine import connect
from pipelines.errors import NotConfigured
from pipelines.ingest import ingest_source
from pipelines.settings import Settings
from tests.support.lakehouse import DAY, ask, call, log, warehouse

RULE = "policy,tenant,team,environment,allowed\neurope,,,,eu\n"


def test_every_embedded_file_can_be_read(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with connect(settings, references=True) as con:
        rows = {name: con.execute(f"select count(*) from reference.{name}").fetchone()[0] for name in settings.reference_files()}
    # What only the user can know is empty.
    assert {name for name, count in rows.items() if count == 0} == {"commitment", "contract_discount", "residency_policy", "training_consent", "training_spend"}


def test_a_file_of_ones_own_takes_the_place_of_the_embedded_one(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "residency_policy.csv").write_text("# mine\nallowed,policy,tenant,note,team,environment\neu,europe,,why,,\n")
    with connect(Settings(home=tmp_path, reference=own), references=True) as con:
        assert con.execute("select policy, tenant, allowed from reference.residency_policy").fetchall() == [("europe", None, "eu")]
        assert con.execute("select count(*) from reference.region").fetchone()[0] > 100


def test_what_nothing_reads_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "residency_policies.csv").write_text(RULE)
    with pytest.raises(NotConfigured, match="residency_policies"):
        Settings(home=tmp_path, reference=own).reference_files()
    with pytest.raises(NotConfigured, match="no such folder"):
        Settings(home=tmp_path, reference=tmp_path / "gone").reference_files()


def test_a_new_rule_makes_its_table_stale_and_no_other(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    log(tmp_path / "logs" / "a.jsonl", [call("a")])
    settings = warehouse(tmp_path / "home", reference=own)
    ingest_source(settings, "app", DAY)
    tables = ("marts.residency", "marts.placement")
    for table in tables:
        build_table(settings, table)
    assert ask(settings, "select verdict from marts.residency") == [("no_policy",)]
    (own / "residency_policy.csv").write_text(RULE)
    assert [stale_days(settings, table) for table in tables] == [[date(2026, 11, 20)], []]
    build_table(settings, "marts.residency")
    assert ask(settings, "select verdict, policy from marts.residency") == [("unknown_region", "europe")]
