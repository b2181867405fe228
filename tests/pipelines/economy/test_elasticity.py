"""Elasticity: use made by a known response to price in, that response out, or a reason why not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines.economy.elasticity import pooled, within


def panel(seed: int, elasticity: float, *, models: int = 30, weeks: int = 60, change: float = 0.03, noise: float = 0.1, common: float = 0.3):
    """Levels by model and week: better models are dearer and used more; prices change now and then; whole weeks swing together."""
    chance = np.random.default_rng(seed)
    quality = chance.normal(0, 1, models)
    steps = np.where(chance.random((models, weeks)) < change, chance.normal(-0.4, 0.4, (models, weeks)), 0.0)
    price = quality[:, None] + np.cumsum(steps, axis=1)
    drift = np.cumsum(chance.normal(0.01, 0.02, (models, weeks)), axis=1)
    use = 2.5 * quality[:, None] + elasticity * np.cumsum(steps, axis=1) + drift + chance.normal(0, common, weeks) + chance.normal(0, noise, (models, weeks))
    return price, use


def differences(price: np.ndarray, use: np.ndarray):
    models, weeks = price.shape
    first = np.full((models, 1), np.nan)
    model, week = np.repeat(np.arange(models), weeks), np.tile(np.arange(weeks), models)
    return model, week, np.hstack([first, np.diff(use)]).ravel(), np.hstack([first, np.diff(price)]).ravel()


@pytest.mark.parametrize("truth", [-1.11, 0.0, -0.4])
def test_a_known_response_is_found_where_the_naive_slope_is_not(truth):
    found, traps, covered = [], [], 0
    for seed in range(20):
        price, use = panel(seed, truth)
        told = within(*differences(price, use))
        found.append(told.elasticity)
        traps.append(pooled(use.ravel(), price.ravel()))
        covered += told.low <= truth <= told.high
    assert np.mean(found) == pytest.approx(truth, abs=0.05)
    assert covered >= 16
    # Better models are dearer and used more.
    assert min(traps) > 0.5


def test_few_models_with_a_change_make_a_wide_interval():
    """Three changed of forty, each with a response of its own: the interval is that of three."""
    covered, worlds, models, weeks = 0, 100, 40, 20
    model, week = np.repeat(np.arange(models), weeks), np.tile(np.arange(weeks), models)
    for seed in range(worlds):
        chance = np.random.default_rng(seed)
        price, response = np.zeros((models, weeks)), np.full(models, -1.0)
        price[[0, 1, 2], [3, 8, 13]] = np.log(0.5)
        response[:3] += chance.normal(0, 0.8, 3)
        told = within(model, week, (response[:, None] * price + chance.normal(0, 0.15, price.shape)).ravel(), price.ravel())
        assert (told.high - told.elasticity) / told.standard_error == pytest.approx(stats.t.ppf(0.975, 2))
        covered += told.low <= -1 <= told.high
    assert covered >= 84  # of 95 expected; 70 where all forty count


def test_a_response_that_takes_three_weeks_is_summed_up():
    chance = np.random.default_rng(5)
    price, _ = panel(5, 0)
    steps = np.hstack([np.zeros((len(price), 1)), np.diff(price)])
    late = sum(share * np.hstack([np.zeros((len(price), lag)), steps[:, : steps.shape[1] - lag]]) for lag, share in enumerate([-0.5, -0.3, -0.2]))
    use = np.cumsum(late, axis=1) + chance.normal(0, 0.03, price.shape)
    told = differences(price, use)
    assert within(*told, horizon_weeks=0).elasticity == pytest.approx(-0.5, abs=0.1)
    assert within(*told, horizon_weeks=3).elasticity == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize(("given", "reason"), [
    ({"change": 0.0}, "the price of 0 models changed"),
    ({"weeks": 6, "change": 0.5}, "5 weeks to compare, 8 are needed"),
    ({"weeks": 2, "change": 0.5}, "1 week to compare, 8 are needed"),
    ({"models": 1, "change": 0.2}, "the price of 1 model changed while it was in use, "),
    ({"models": 2, "change": 0.2}, "the price of 2 models changed"),
])
def test_without_what_identifies_it_there_is_no_number(given, reason):
    told = within(*differences(*panel(1, -1.0, **given)))
    assert told.elasticity is told.low is told.high is told.standard_error is None
    assert told.reason.startswith(reason)


def test_prices_that_all_move_together_tell_nothing():
    price, use = panel(1, -1.0)
    price = np.tile(np.where(np.arange(60) > 30, -0.5, 0.0), (30, 1))
    assert "same weeks" in within(*differences(price, use)).reason
