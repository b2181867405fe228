"""From simulated source files in nine formats, dirt and all, to costs: held against what was simulated."""

from __future__ import annotations

from datetime import timedelta

from pipelines.build import build_all
from pipelines.ingest import ingest_source
from tests.conftest import ARRIVAL, World


def test_every_call_is_where_it_should_be(world: World) -> None:
    """Calls in core.inference, spoilt ones not; none invented."""
    found = world.ask("""
        select t.lands_in, i.inference_id is not null as is_in_core, count(*)
        from truth.call t left join core.inference i using (inference_id) group by all""")
    assert {(lands_in, is_in_core) for lands_in, is_in_core, _ in found} == {("core.inference", True), ("core.quarantine", False)}
    # A call whose line lost its id is kept under a hash of its other fields, where the format allows that.
    others = world.ask("select inference_id from core.inference anti join truth.call using (inference_id)")
    assert all(":sha256:" in inference_id for (inference_id,) in others)
    assert len(others) <= world.ask("select count(*) from truth.call where dirt_kind = 'missing_id'")[0][0]


def test_spoilt_calls_are_in_quarantine_with_a_reason(world: World) -> None:
    [(spoilt,)] = world.ask("select count(*) from truth.call where lands_in = 'core.quarantine'")
    [(refused,)] = world.ask("select count(*) from core.quarantine where target_table = 'core.inference' and reason <> ''")
    [(renamed,)] = world.ask("select count(*) from core.inference where inference_id like '%:sha256:%'")
    # A doubled line that is spoilt too is refused twice.
    assert spoilt <= refused + renamed <= spoilt * 1.1
    assert world.ask("select count(*) from core.quarantine q join core.inference i on i.inference_id = q.row_key where q.target_table = 'core.inference'") == [(0,)]


def test_tokens_come_back_in_disjoint_classes(world: World) -> None:
    classes = ["input_uncached", "cache_read", "cache_write_5m", "cache_write_1h"]
    differs = " or ".join(f"coalesce(i.{c}_tokens, 0) <> coalesce(t.{c}_tokens, 0)" for c in classes)
    output = "coalesce(i.output_text_tokens, 0) + coalesce(i.reasoning_tokens, 0) <> coalesce(t.output_text_tokens, 0) + coalesce(t.reasoning_tokens, 0)"
    assert world.ask(f"select t.inference_id from truth.call t join core.inference i using (inference_id) where {differs} or {output}") == []


def test_costs_are_the_price_lists_to_the_last_unit(world: World) -> None:
    """Against genai-prices' own arithmetic, at the tier and hour of the call; formats that do not tell the tier aside."""
    compared, wrong = world.ask("""
        select count(*), count(*) filter (where abs(c.list_cost_usd - t.true_cost_usd) > 1e-11)
        from truth.call t join marts.call_cost c using (inference_id) join core.inference i using (inference_id)
        where i.service_tier is not distinct from t.service_tier or t.service_tier = 'standard'""")[0]
    assert compared > 2000
    assert wrong == 0
    assert world.ask("select count(*) from marts.call_cost where cost_status in ('unpriced', 'no_usage')") == [(0,)]


def test_nothing_is_costed_with_later_knowledge(world: World) -> None:
    assert world.ask("""
        select count(*) from marts.call_cost c, unnest(string_split(c.price_ids_then, ',')) as used (price_id)
        join core.price p using (price_id) where p.known_from > c.started_at""") == [(0,)]


def test_rows_and_spend_reconcile(world: World) -> None:
    rows = world.ask("select source, target_table, row_difference, reported_cost_usd = held_cost_usd from marts.reconciliation where target_table <> 'core.price_quote'")
    assert len(rows) >= 10
    assert all(difference == 0 and agrees in (None, True) for _, _, difference, agrees in rows)
    for report in world.reports:
        assert report.rows_in == report.kept + report.duplicate + report.quarantined + report.context, report


def test_spend_daily_is_call_cost_summed(world: World) -> None:
    assert world.ask("select sum(list_cost_usd), sum(call_count) from marts.spend_daily") == world.ask("select sum(list_cost_usd), count(*) from marts.call_cost")


def test_feedback_finds_its_call(world: World) -> None:
    [(signals, found)] = world.ask("""
        select count(*), count(i.inference_id) from core.feedback f left join core.inference i on i.inference_id = f.target_id
        where f.target_kind = 'call'""")
    assert signals > 100
    assert found / signals > 0.9


def test_users_are_pseudonyms_and_content_is_apart(world: World) -> None:
    assert world.ask("select count(*) from core.inference where user_id is not null and not regexp_matches(user_id, '^[0-9a-f]{32}$')") == [(0,)]
    assert world.ask("select (select count(*) from core.inference) - (select count(*) from core.inference_content)") == [(0,)]
    assert world.ask("select count(*) from core.inference_content where input_messages is null and output_messages is null") == [(0,)]


def test_a_second_run_changes_nothing(world: World) -> None:
    before = world.ask("select md5(string_agg(t::varchar, '' order by inference_id)) from marts.call_cost t")
    for name in world.settings.sources:
        for report in ingest_source(world.settings, name, ARRIVAL + timedelta(days=1)):
            assert (report.files, report.rows_in) == (0, 0)
    assert all(report.days == [] for report in build_all(world.settings))
    assert world.ask("select md5(string_agg(t::varchar, '' order by inference_id)) from marts.call_cost t") == before
