"""Build: calls and a small price book in → costed calls, daily spend and the reconciliation, day by day and whole or not at all."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines import lake
from pipelines.build import build_table, build_tables, mart_order, stale_days
from pipelines.contracts import Contract, contract
from pipelines.engine import MART_MACROS, connect, write
from pipelines.errors import NotConfigured, PromiseBroken, StopTheLine
from pipelines.ingest import ingest_source
from pipelines.lake import Lake
from pipelines.learn.confusion import topics
from pipelines.prices import ingest_feed
from pipelines.settings import ROOT
from tests.support.lakehouse import (
    DAY,
    MARTS,
    ask,
    build_marts,
    call,
    crashed_build,
    hashes,
    log,
    priced,
    started,
    unaccounted,
    warehouse,
)
from tests.support.outcomebook import OUTCOMES

FIRST, CUT = date(2026, 11, 10), date(2026, 11, 18)
"""Days on which the price lists were fetched: gpt-4o costs 2.5 and 10 USD a million tokens, then 1 and 5."""
CALLS = [
    call("before", at="2026-11-08T09:00:00Z"),
    call("old", at="2026-11-16T09:00:00Z"),
    call("new", at="2026-11-20T09:00:00Z"),
    call("failed", at="2026-11-20T10:00:00Z", status="failure", prompt_tokens=0, completion_tokens=0, response_cost=0),
    call("house", at="2026-11-20T11:00:00Z", model="house-model", custom_llm_provider="our-own", response_cost=None, response={"model": "house-model"}),
    call("refused", at="2026-11-20T12:00:00Z", prompt_tokens=-5),
    call("new", at="2026-11-20T09:00:00Z"),
]


def brought_in(folder: Path) -> object:
    """Calls and both price lists, nothing built yet."""
    settings = warehouse(folder / "home")
    log(folder / "logs/a.jsonl", [*CALLS, "{broken"])
    ingest_feed(priced(settings, folder / "feed"), "litellm", FIRST)
    ingest_feed(priced(settings, folder / "feed", input_text=1.0, output_text=5.0), "litellm", CUT)
    ingest_source(settings, "app", DAY)
    return settings


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    settings = brought_in(tmp_path_factory.mktemp("build"))
    build_marts(settings)
    return settings


def test_calls_cost_what_the_list_said_when_they_were_made(built):
    rows = ask(built, "select inference_id, list_cost_usd, cost_status, list_cost_then_usd, cost_status_then from marts.call_cost order by started_at")
    dear, cheap = Decimal("0.00045"), Decimal("0.0002")
    assert rows == [
        # The first list we saw is carried back; but then we did not know it.
        ("litellm:before", dear, "estimated", None, "unpriced"),
        ("litellm:old", dear, "priced", dear, "priced"),
        ("litellm:new", cheap, "priced", cheap, "priced"),
        ("litellm:failed", Decimal(0), "priced", Decimal(0), "priced"),
        ("litellm:house", None, "unpriced", None, "unpriced"),
    ]


def test_every_cost_can_be_traced_to_its_prices(built):
    assert ask(
        built,
        """select distinct p.token_class, p.price_usd_per_unit * 1000000 from marts.call_cost c
        join core.price p on list_contains(string_split(c.price_ids, ','), p.price_id) where c.inference_id = 'litellm:new' order by 1""",
    ) == [("input_uncached", Decimal(1)), ("output_text", Decimal(5))]


def test_daily_spend_is_the_sum_of_its_calls(built):
    assert ask(
        built,
        """select usage_day, model_name, call_count, error_count, input_tokens, list_cost_usd, reported_cost_usd, priced_count, estimated_count, unpriced_count
        from marts.spend_daily where model_name <> 'gpt-4o' or usage_day < '2026-11-20' order by 1""",
    ) == [
        (date(2026, 11, 8), "gpt-4o", 1, 0, 100, Decimal("0.00045"), Decimal("0.00045"), 0, 1, 0),
        (date(2026, 11, 16), "gpt-4o", 1, 0, 100, Decimal("0.00045"), Decimal("0.00045"), 1, 0, 0),
        (date(2026, 11, 20), "house-model", 1, 0, 100, None, None, 0, 0, 1),
    ]
    assert ask(built, "select sum(call_count), sum(list_cost_usd), sum(error_count) from marts.spend_daily") == ask(
        built, "select count(*), sum(list_cost_usd), count(*) filter (status = 'error') from marts.call_cost"
    )


def test_sources_reconcile_with_the_warehouse(built):
    assert unaccounted(built) == []
    assert ask(
        built,
        """select line_count, record_count, duplicate_count, quarantined_count, expected_rows, row_count, row_difference, reported_cost_usd, list_cost_usd
        from marts.reconciliation where source = 'app'""",
    ) == [(8, 8, 1, 2, 5, 5, 0, Decimal("0.00135"), Decimal("0.0011"))]
    assert ask(built, "select row_difference from marts.reconciliation where source = 'litellm'") == [(0,)]


def test_marts_come_after_what_they_read():
    order = mart_order()
    assert order.index("marts.call_cost") < order.index("marts.spend_daily")
    assert order.index("marts.call_cost") < order.index("marts.reconciliation")


def test_a_day_that_is_asked_for_is_filled_with_what_there_is(built):
    before = hashes(built, ["marts.call_cost"])
    report = build_table(built, "marts.call_cost", [date(2026, 11, 20), date(2026, 11, 1)])
    assert (report.rows, len(report.days)) == (3, 2)
    assert hashes(built, ["marts.call_cost"]) == before


def test_a_broken_promise_replaces_nothing_and_is_told_in_the_gates_results(built, monkeypatch):
    told = f"select broken_count from core.gate_result where target_table = 'marts.call_cost' and batch = '{DAY} to {DAY}' and promise = 'cost_not_negative' and not held"
    before = {name: seen for name, seen in hashes(built).items() if name != "core.gate_result"}
    select = Contract.select.fget
    with monkeypatch.context() as patched:
        patched.setattr(Contract, "select", property(lambda promised: f"select * replace (-1 as list_cost_usd) from ({select(promised)})"))
        with pytest.raises(PromiseBroken, match="cost_not_negative"):
            build_table(built, "marts.call_cost", [DAY])
    assert {name: seen for name, seen in hashes(built).items() if name != "core.gate_result"} == before, "what readers see"
    assert ask(built, told) == [(3,)]
    build_table(built, "marts.call_cost", [DAY])
    assert ask(built, told) == []


def test_sql_that_does_not_run_is_named(built, monkeypatch):
    monkeypatch.setattr(Contract, "select", property(lambda promised: "select nothing from nowhere"))
    for table in ("marts.call_cost", "marts.reconciliation"):
        with pytest.raises(StopTheLine, match=rf"warehouse/{table.replace('.', '/')}\.sql does not run"):
            build_table(built, table, [DAY])


def test_what_fails_by_surprise_is_named_and_stops_no_other_table(built, monkeypatch):
    prepare = Contract.prepare
    monkeypatch.setattr(Contract, "prepare", lambda promised: (lambda con, *days: topics(None, None)) if promised.table == "marts.spend_daily" else prepare(promised))
    done = []
    with pytest.raises(StopTheLine, match=r"^marts\.spend_daily: pipelines/learn/confusion\.py, line \d+, failed with TypeError$"):
        build_tables(built, ["marts.spend_daily", "marts.reconciliation"], [DAY], tell=done.append)
    assert [report.table for report in done] == ["marts.reconciliation"]


def test_what_was_built_is_shown_to_readers_though_the_next_table_fails(built, monkeypatch):
    shown = []
    monkeypatch.setattr(Lake, "publish_views", lambda lake: shown.append(True))
    monkeypatch.setattr("pipelines.build.gate.audit", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_tables(built, ["marts.reconciliation"], [DAY])
    assert shown == [True]


@pytest.mark.parametrize("table", ["core.inference", "marts.nothing", "drop table"])
def test_only_marts_are_built(built, table):
    with pytest.raises(NotConfigured):
        build_table(built, table)


def test_a_build_killed_at_one_change_after_the_other(built, tmp_path):
    """Each run dies at another commit, strike or swap of views; the last one runs to the end."""
    settings = brought_in(tmp_path)
    for n, after in ((1, True), (2, False), (4, True)):
        with started(crashed_build, settings, n, after) as process:
            process.join()
        assert process.exitcode == -9
    build_marts(settings)
    marts = [*MARTS, "core.quarantine", "core.landing_file", "core.price", "core.inference"]
    assert hashes(settings, marts) == hashes(built, marts)


def test_only_days_with_other_calls_or_other_prices_are_built_again(built):
    settings, folder = built, built.home.parent
    before = hashes(settings)
    assert stale_days(settings, "marts.call_cost") == []
    assert build_table(settings, "marts.call_cost").days == []
    assert hashes(settings) == before

    log(folder / "logs/late.jsonl", [call("late", at="2026-11-16T23:59:59.999999Z")])
    ingest_source(settings, "app", date(2026, 11, 21))
    assert build_table(settings, "marts.call_cost").days == [date(2026, 11, 16)]

    ingest_feed(priced(settings, folder / "feed", input_text=2.0), "litellm", date(2026, 11, 19))
    assert build_table(settings, "marts.call_cost").days == [date(2026, 11, 20)]
    assert ask(settings, "select list_cost_usd from marts.call_cost where inference_id = 'litellm:new'") == [(Decimal("0.0004"),)]


def test_no_call_names_a_price_that_a_late_older_snapshot_has_dated_anew(tmp_path):
    settings = brought_in(tmp_path)
    build_tables(settings, ["marts.call_cost", "exports.focus"])
    dead = """select distinct cast(started_at as date) from (select started_at, unnest(string_split(concat_ws(',', price_ids, price_ids_then), ',')) as price_id from marts.call_cost)
        where price_id <> '' and price_id not in (select price_id from core.price) order by 1"""
    charged = "select round(sum(list_cost), 9) from exports.focus"
    [(spent,)] = ask(settings, "select sum(list_cost_usd) from marts.call_cost")
    days = [date(2026, 11, 8), date(2026, 11, 16), DAY]
    for fetched, usd, stale in (
        (date(2026, 11, 19), (1.0, 5.0), []),  # nothing new
        (date(2026, 11, 5), (2.5, 10.0), days[:2]),  # the first list is known from earlier on
        (date(2026, 11, 17), (1.0, 5.0), days),  # the cut is: the row that it closed has another end
    ):
        ingest_feed(priced(settings, tmp_path / "feed", input_text=usd[0], output_text=usd[1]), "litellm", fetched)
        assert [day for (day,) in ask(settings, dead)] == stale
        assert stale_days(settings, "marts.call_cost") == stale
        build_tables(settings, ["marts.call_cost", "exports.focus"])
        assert (ask(settings, dead), stale_days(settings, "marts.call_cost"), ask(settings, charged)) == ([], [], [(spent,)])


def test_a_feeds_correction_of_who_sells_a_model_reaches_the_costs(tmp_path):
    settings = warehouse(tmp_path / "home")
    log(tmp_path / "logs/a.jsonl", [call("a")])
    ingest_source(settings, "app", DAY)
    feed = Path(priced(settings, tmp_path / "feed").feeds["litellm"].url)
    right = feed.read_text()
    status = "select cost_status from marts.call_cost"
    for said, fetched, found in ((right.replace("openai", "mistral"), FIRST, "unpriced"), (right, date(2026, 11, 25), "priced")):
        feed.write_text(said)
        ingest_feed(settings, "litellm", fetched)
        build_tables(settings, ["marts.call_cost"])
        assert ask(settings, status) == [(found,)]


def test_other_precedence_of_feeds_or_other_macros_make_all_that_is_computed_with_them_stale(tmp_path, monkeypatch):
    settings = brought_in(tmp_path)
    build_tables(settings, ["marts.call_cost", "marts.usage_daily"])
    days = [date(2026, 11, 8), date(2026, 11, 16), DAY]
    other = settings.model_copy(update={"feed_precedence": ["models_dev", "litellm"]})
    assert (stale_days(settings, "marts.call_cost"), stale_days(other, "marts.call_cost"), stale_days(other, "marts.usage_daily")) == ([], days, [])
    own = tmp_path / "macros.sql"
    own.write_text((ROOT / "warehouse" / MART_MACROS[0]).read_text() + "-- another\n")
    monkeypatch.setattr("pipelines.build.MART_MACROS", (str(own),))
    assert stale_days(settings, "marts.call_cost") == days


def test_what_comes_out_as_before_stays_and_nothing_that_reads_it_is_stale(tmp_path):
    settings = brought_in(tmp_path)
    build_tables(settings, ["marts.call_cost", "marts.usage_daily", "marts.price_paid", "marts.provider_share"])
    lake = Lake(settings)
    files = {name: {e.path for e in lake.snapshot(name).files} for name in ("marts.call_cost", "marts.usage_daily", "marts.provider_share")}
    # Built again from the same calls and prices.
    build_table(settings, "marts.call_cost", [date(2026, 11, 16), DAY])
    build_table(settings, "marts.provider_share", [DAY])
    assert {name: {e.path for e in lake.snapshot(name).files} for name in files} == files
    assert stale_days(settings, "marts.usage_daily") == []
    # One day's calls come out otherwise: the files of the others stay.
    log(tmp_path / "logs/late.jsonl", [call("late", at="2026-11-16T23:59:59Z")])
    ingest_source(settings, "app", date(2026, 11, 21))
    build_table(settings, "marts.call_cost", [date(2026, 11, 8), date(2026, 11, 16), date(2026, 11, 20)])
    assert {e.partition for e in lake.snapshot("marts.call_cost").files if e.path not in files["marts.call_cost"]} == {date(2026, 11, 16)}
    assert stale_days(settings, "marts.usage_daily") == [date(2026, 11, 16)]


def test_weeks_and_months_are_stale_once_each(tmp_path):
    settings = brought_in(tmp_path)
    build_tables(settings, ["marts.prompt", *OUTCOMES[:-1], "marts.call_cost"])
    assert stale_days(settings, "marts.confusion") == [date(2026, 11, 1)]
    assert build_table(settings, "marts.evaluator", [DAY]).days == [DAY - timedelta(DAY.weekday())]
    assert stale_days(settings, "marts.evaluator") == []


def test_a_month_is_stale_when_a_price_changes_on_any_of_its_days_and_not_after(tmp_path):
    settings, table = brought_in(tmp_path), "marts.provider_share"
    build_tables(settings, ["marts.call_cost", "marts.usage_daily", table])
    for fetched, stale in ((date(2026, 12, 1), []), (date(2026, 11, 27), [date(2026, 11, 1)])):
        ingest_feed(priced(settings, tmp_path / "feed", input_text=7.0 + fetched.day), "litellm", fetched)
        assert stale_days(settings, table) == stale


def test_a_table_that_an_earlier_version_parted_otherwise_is_made_anew(tmp_path, monkeypatch):
    settings, table = brought_in(tmp_path), "marts.spend_daily"
    build_marts(settings)
    rows, lakehouse = ask(settings, f"from {table} order by all"), Lake(settings)
    with connect(settings) as con:
        lakehouse.attach(con, table)
        earlier = write(con, tmp_path / "earlier.parquet", f"from {table}")
    lakehouse.catalog.drop_table(table)
    monkeypatch.setattr(lake, "contract", lambda name: contract(name).model_copy(update={"partition": None}))
    lakehouse.append(table, [(earlier, None)])
    monkeypatch.undo()
    build_marts(settings)
    assert ask(settings, f"from {table} order by all") == rows
    assert None not in {e.partition for e in lakehouse.snapshot(table).files}
