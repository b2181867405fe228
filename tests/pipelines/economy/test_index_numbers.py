"""Index numbers: the tests that the theory asks of them (axioms), and what each is known to fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.economy.index_numbers import WINDOW_MONTHS, chained, direct, geks, log_tornqvist, rolling_geks

EXACT = 1e-12


@st.composite
def markets(draw_, gaps: bool = False):
    """Prices and quantities of some items over some months; with gaps, items come and go, but the first is always there."""
    months, items = draw_(st.integers(2, 9)), draw_(st.integers(1, 6))
    chance = np.random.default_rng(draw_(st.integers(0, 2**32)))
    price, quantity = np.exp(chance.normal(0, 2, (months, items))), np.exp(chance.normal(0, 3, (months, items)))
    if gaps:
        price[:, 1:][chance.random((months, items - 1)) < 0.4] = np.nan
    return price, np.where(np.isfinite(price), quantity, np.nan)


@given(markets(gaps=True))
@settings(max_examples=60, deadline=None)
def test_the_axioms_that_tornqvist_and_geks_satisfy(market):
    price, quantity = market
    cost = price * quantity
    bilateral = log_tornqvist(price, cost)
    levels = geks(bilateral)
    # identity, and time reversal
    assert np.abs(np.diagonal(bilateral)).max() <= EXACT
    assert np.abs(bilateral + bilateral.T).max() <= EXACT
    # transitivity inside the window: through any month it is the same way
    pairs = np.exp(levels[None, :] - levels[:, None])
    assert np.abs(pairs[:, :, None] * pairs[None, :, :] / pairs[:, None, :] - 1).max() <= EXACT
    # GEKS is the mean over all bridges; the reverse order of time gives the same
    assert levels - levels[0] == pytest.approx(bilateral.mean(axis=0) - bilateral.mean(axis=0)[0], abs=1e-11)
    assert geks(bilateral[::-1, ::-1])[::-1] - geks(bilateral[::-1, ::-1])[-1] == pytest.approx(levels, abs=1e-11)
    # proportionality: all prices times k in one month, with the same quantities, moves the index by k
    dearer = price.copy()
    dearer[-1] = price[0] * 3
    same = np.where(np.isfinite(dearer[-1]), quantity[0], np.nan)
    assert log_tornqvist(dearer, np.vstack([cost[:-1], dearer[-1] * same]))[0, -1] == pytest.approx(np.log(3), abs=EXACT)
    # commensurability: another unit of an item changes nothing
    units = np.exp(np.linspace(-3, 3, price.shape[1]))
    assert log_tornqvist(price * units, cost) == pytest.approx(bilateral, abs=1e-10)


@given(markets())
@settings(max_examples=40, deadline=None)
def test_prices_and_quantities_that_return_bring_geks_back_to_one(market):
    price, quantity = market
    price, cost = np.vstack([price, price[:1]]), np.vstack([price * quantity, price[:1] * quantity[:1]])
    assert np.exp(geks(log_tornqvist(price, cost))[-1]) == pytest.approx(1, abs=EXACT)
    laspeyres, paasche, _ = direct(price, cost)
    assert (laspeyres[-1], paasche[-1]) == (pytest.approx(1, abs=EXACT), pytest.approx(1, abs=EXACT))


def test_the_chain_drifts_as_documented():
    """A sale and its stocking up (Diewert's example): all is as before, and the chained index says nearly three per cent cheaper."""
    price = np.array([[1.0, 1.0], [0.5, 1.0], [1.0, 1.0], [1.0, 1.0]])
    quantity = np.array([[10.0, 100.0], [5000.0, 100.0], [1.0, 100.0], [10.0, 100.0]])
    bilateral = log_tornqvist(price, price * quantity)
    assert np.exp(chained(bilateral)[-1]) == pytest.approx(0.9727, abs=1e-3)
    assert np.exp(geks(bilateral)[-1]) == pytest.approx(1, abs=EXACT)
    laspeyres, paasche, _ = direct(price, price * quantity)
    assert laspeyres[-1] == paasche[-1] == pytest.approx(1)


@given(st.integers(0, 2**32), st.floats(0.2, 3))
@settings(max_examples=40, deadline=None)
def test_paasche_below_fisher_below_laspeyres_where_people_substitute(seed, elasticity):
    chance = np.random.default_rng(seed)
    price = np.exp(chance.normal(0, 1, (4, 5)))
    taste = np.exp(chance.normal(0, 1, 5))
    # Everyone buys less of what became dearer: shares fall with the price, so the bounds must hold.
    quantity = taste * price ** -(1 + elasticity)
    laspeyres, paasche, matched = direct(price, price * quantity)
    fisher = np.sqrt(laspeyres * paasche)
    assert np.all(paasche <= fisher * (1 + EXACT))
    assert np.all(fisher <= laspeyres * (1 + EXACT))
    assert matched == pytest.approx(1)


def test_months_that_nothing_joins_are_unknown_and_gaps_are_bridged():
    nan = np.nan
    price = np.array([[1.0, nan], [nan, 4.0], [1.0, 4.0], [nan, 8.0]])
    levels = np.exp(geks(log_tornqvist(price, price)))
    assert levels == pytest.approx([1, 1, 1, 2])
    assert np.isnan(chained(log_tornqvist(price, price))[1:]).all()
    alone = np.exp(geks(log_tornqvist(np.array([[1.0, nan], [nan, 4.0]]), np.ones((2, 2)))))
    assert alone[0] == 1
    assert np.isnan(alone[1])


def test_after_the_first_window_nothing_is_revised():
    chance = np.random.default_rng(3)
    price = np.exp(np.cumsum(chance.normal(-0.03, 0.1, (40, 12)), axis=0))
    cost = price * np.exp(chance.normal(0, 1, price.shape))
    bilateral = log_tornqvist(price, cost)
    whole, spread = rolling_geks(bilateral)
    for months in (WINDOW_MONTHS, 30, 39):
        assert rolling_geks(bilateral[:months, :months])[0] == pytest.approx(whole[:months], abs=1e-12)
    assert np.isnan(spread[:WINDOW_MONTHS]).all()
    assert (spread[WINDOW_MONTHS:] > 0).all()
    # The splice is close to what one window over all months would say.
    assert whole[-1] == pytest.approx(geks(bilateral)[-1], abs=0.1)
