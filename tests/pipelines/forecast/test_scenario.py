"""What-ifs against costs worked out by hand."""

from __future__ import annotations

from datetime import date

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipelines.errors import NotConfigured
from pipelines.forecast import scenario

KEYS = pd.DataFrame(
    [("acme", "chat", "anthropic", "opus"), ("acme", "chat", "openai", "mini"), ("beta", "batch", "anthropic", "opus"), (None, None, None, None)], columns=scenario.KEY)
# USD per million: opus 5 in, 0.5 cached, 25 out; mini 0.1 in, 0.4 out.
LINES = [
    (0, "anthropic", "opus", "input_uncached", 6e6, 5e-6), (0, "anthropic", "opus", "cache_read", 2e6, 0.5e-6), (0, "anthropic", "opus", "output_text", 1e6, 25e-6),
    (1, "openai", "mini", "input_uncached", 10e6, 0.1e-6), (1, "openai", "mini", "output_text", 5e6, 0.4e-6),
    (3, None, None, scenario.UNKNOWN, 1.0, 1.0),
    (2, "anthropic", "opus", "input_uncached", 1e6, 5e-6), (2, "anthropic", "opus", "output_text", 1e6, 25e-6),
]
BEFORE = np.array([6 * 5 + 2 * 0.5 + 25, 10 * 0.1 + 5 * 0.4, 30.0, 0.0])  # 56, 3, 30, and a part that nothing is known of
LISTED = {("google", "flash"): {"input_uncached": 0.3e-6, "cache_read": 0.03e-6, "output_text": 2.5e-6}}


def cost(text: str, elasticity: float | None = None) -> dict[tuple[str, ...], float]:
    used = scenario.Use(
        KEYS, pd.DataFrame(LINES, columns=["part", "provider_name", "model_name", "token_class", "tokens", "price"]),
        lambda provider, model: {seller: told for seller, told in LISTED.items() if seller[1] == model and provider in (None, seller[0])},
        scenario.Elasticity(elasticity, "identified" if elasticity else "volumes stay as they are"))
    answer = scenario.apply(scenario.read(text), used)
    cost.notes = answer.notes
    return dict(zip(answer.keys.itertuples(index=False, name=None), answer.ratio @ BEFORE, strict=True))


def total(text: str, elasticity: float | None = None) -> float:
    return sum(cost(text, elasticity).values())


@pytest.mark.parametrize(("text", "usd"), [
    ("price(anthropic) * 0.5", 43 + 3),
    ("price(mini) * 2", 86 + 6),
    ("price(*) * 0", 0),
    ("volume(acme) * 1.5", 59 * 1.5 + 30),
    ("volume(batch) * 50%", 59 + 15),
    # Half of opus' tokens at mini's prices: cached input has no price there and is charged as input.
    ("migrate(opus -> mini, 0.5)", 28 + 15 + 3 + 0.5 * (8 * 0.1 + 0.4) + 0.5 * (0.1 + 0.4)),
    ("migrate(mini -> google/flash)", 86 + 10 * 0.3 + 5 * 2.5),
    ("cache_share(acme) = 0.5", 4 * 5 + 4 * 0.5 + 25 + 3 + 30),
    ("cache_share(opus) - 25%", 8 * 5 + 25 + 3 + 30),
    # In order: prices halve first, so what migrates later is dear still at half.
    ("price(openai) * 0.5; migrate(opus -> mini)", 1.5 + 0.5 * (8 * 0.1 + 0.4) + 0.5 * 0.5),
    ("volume(chat) * 2; price(opus) * 0.5", 56 + 6 + 15),
])
def test_costs_follow_from_tokens_and_prices(text: str, usd: float) -> None:
    if "cache_share" in text:  # mini sells no cached input
        LISTED[("openai", "mini")] = {"input_uncached": 0.1e-6, "cache_read": 0.1e-6, "output_text": 0.4e-6}
        LISTED[("anthropic", "opus")] = {"cache_read": 0.5e-6}
    assert total(text) == pytest.approx(usd)


def test_calls_that_migrate_are_found_at_the_other_model() -> None:
    after = cost("migrate(mini -> flash, 40%)")
    assert after[("acme", "chat", "google", "flash")] == pytest.approx(0.4 * 15.5) and after[("acme", "chat", "openai", "mini")] == pytest.approx(0.6 * 3)
    assert any("today's list prices" in note for note in cost.notes)


def test_use_responds_to_prices_where_that_was_identified_and_the_answer_says_so() -> None:
    assert total("price(anthropic) * 0.5", elasticity=-1.0) == pytest.approx(86 + 3) and cost.notes == ["identified"]
    assert total("price(anthropic) * 0.5", elasticity=-0.5) == pytest.approx(43 * 0.5**-0.5 + 3)
    assert total("price(anthropic) * 0.5") == pytest.approx(46) and cost.notes == ["volumes stay as they are"]


@pytest.mark.parametrize(("rows", "value", "told"), [
    ([(-1.1, -1.4, -0.8, 4, None), (-0.6, -0.9, -0.3, 1, None)], -1.1, "-1.10 (95 % -1.40 to -0.80) within 4 weeks"),
    ([(None, None, None, 4, "too few weeks"), (-0.6, -0.9, -0.3, 1, None)], -0.6, "within 1 week"),
    ([(None, None, None, 4, "prices of 1 model changed")], None, "not identified (prices of 1 model changed)"),
    ([], None, "not identified (no use yet)"),
    (None, None, "marts.demand_elasticity is not built"),
], ids=["identified", "at a shorter horizon", "not identified", "empty", "not built"])
def test_the_elasticity_is_the_longest_that_was_identified(rows: list[tuple] | None, value: float | None, told: str) -> None:
    con = duckdb.connect()
    con.execute("""create schema marts; create table marts.usage_daily as select date '2026-01-01' as usage_day, 'acme' as tenant, 'chat' as workload, 'anthropic' as provider_name,
        'opus' as model_name, 'priced' as cost_status, 10 as charged_count, 0 as request_cost_usd, 0 as cache_write_1h_cost_usd, 0 as cache_write_cost_usd""")
    for name in (*scenario.INPUT, "input_media", "output_text", "reasoning", "output_media"):
        con.execute(f"alter table marts.usage_daily add column {name}_tokens bigint default {1000000 if name == 'output_text' else 0}")
        if not name.startswith("cache_write"):
            con.execute(f"alter table marts.usage_daily add column {name}_cost_usd double default {25.0 if name == 'output_text' else 0.0}")
    if rows is not None:
        con.execute("create table marts.demand_elasticity (elasticity double, elasticity_low double, elasticity_high double, horizon_weeks integer, reason varchar)")
        for row in rows:
            con.execute("insert into marts.demand_elasticity values (?, ?, ?, ?, ?)", row)
    answer = scenario.apply(scenario.read("price(anthropic) * 0.5"), scenario.use(con, KEYS[:1], date(2026, 1, 2)))
    assert answer.ratio[0, 0] == pytest.approx(0.5 * 0.5 ** (value or 0))
    assert len(answer.notes) == 1 and told in answer.notes[0] and "1 weeks" not in answer.notes[0]


def test_a_seller_who_is_not_said_is_asked_of_as_nobody_and_pays_what_was_paid() -> None:
    """As DuckDB and pandas hand them over: a part without a provider, whose model has a list price elsewhere."""
    asked = []
    keys = pd.DataFrame([("acme", "chat", "openai", "mini"), ("acme", "chat", None, "nano"), ("acme", "chat", None, "nano-2")], columns=scenario.KEY).fillna(np.nan)
    lines = pd.DataFrame([
        (0, "openai", "mini", "input_uncached", 1e6, 2e-6), (0, "openai", "mini", "output_text", 1e6, 8e-6),
        (1, np.nan, "nano", "input_uncached", 1e6, 1e-6), (1, np.nan, "nano", "output_text", 1e6, 4e-6),
        (2, np.nan, "nano-2", "input_uncached", 1e6, 1e-6),
    ], columns=["part", "provider_name", "model_name", "token_class", "tokens", "price"])

    def listed(provider: str | None, model: str) -> dict:
        asked.append(provider)
        return {("openai", model): {"input_uncached": 9e-6, "cache_read": 0.1e-6, "output_text": 9e-6}} if model == "nano" else {}

    def costs(text: str) -> list[float]:
        answer = scenario.apply(scenario.read(text), scenario.Use(keys, lines, listed))
        costs.notes = answer.notes
        return (answer.ratio @ np.array([10.0, 5.0, 1.0])).tolist()

    # What is paid, not what is listed; cached input, which nobody bought, at the list's price.
    assert costs("migrate(mini -> nano, 0.5)") == pytest.approx([5, 7.5, 1])
    assert "mini -> unknown/nano: the same tokens at what is paid for it now" in costs.notes[0]
    assert costs("cache_share(*) = 0.5") == pytest.approx([10, 4 + 0.5 + 0.05, 1])
    assert "no price of cached input of openai/mini, unknown/nano-2: left as it is" in costs.notes[0]
    assert None in asked and not [name for name in asked if name != name]


def test_a_share_goes_no_further_than_it_can() -> None:
    assert total("cache_share(beta) + 100%") == pytest.approx(59 + 1 * 0.5 + 25)


def test_a_model_that_sells_no_cached_input_is_left_as_it_is_and_named(monkeypatch) -> None:
    monkeypatch.delitem(LISTED, ("openai", "mini"), raising=False)
    monkeypatch.setitem(LISTED, ("anthropic", "opus"), {"cache_read": 0.5e-6})
    after = cost("cache_share(*) = 0.5")
    assert after[("acme", "chat", "openai", "mini")] == pytest.approx(3) and after[("acme", "chat", "anthropic", "opus")] == pytest.approx(4 * 5 + 4 * 0.5 + 25)
    assert "no price of cached input of openai/mini: left as it is" in cost.notes[0]
    with pytest.raises(NotConfigured, match="no price of cached input of openai/mini"):
        cost("cache_share(mini) = 0.5")


@pytest.mark.parametrize(("text", "told"), [
    ("price(antropic) * 0.5", "did you mean anthropic"), ("volume(chatt) * 2", "did you mean chat"), ("migrate(opsu -> mini)", "did you mean opus"),
    ("migrate(opus -> flsh)", "nothing has the name flsh"), ("price(opus) + 1", "not understood"), ("migrate(opus -> mini, 3)", "a share is at most 1"), (" ; ", "is empty"),
])
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(NotConfigured, match=told):
        total(text)
