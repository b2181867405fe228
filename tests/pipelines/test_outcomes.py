"""Delays that are seen only in part."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.outcomes import DELAY_SIGNALS, LATEST_MS, matured_after

HOUR = 3_600_000


@pytest.mark.parametrize("seed", range(5))
def test_the_late_ones_that_are_not_here_yet_are_allowed_for(seed: int) -> None:
    draw = np.random.default_rng(seed)
    delay, watched = draw.exponential(10 * HOUR, 20_000), draw.uniform(0, 72 * HOUR, 20_000)
    seen = delay <= watched
    found = matured_after(delay[seen].astype(int), watched[seen].astype(int), 0)
    plain = np.quantile(delay[seen], 0.95)
    true = -np.log(0.05) * 10 * HOUR
    assert abs(found - true) < 0.07 * true < abs(plain - true)


def test_few_signals_leave_the_rule_and_nothing_is_waited_for_without_end() -> None:
    none = np.array([], dtype=int)
    assert matured_after(none, none, HOUR) == HOUR
    assert matured_after(np.array([5 * HOUR]), np.array([9 * HOUR]), HOUR) == 5 * HOUR
    late = np.full(DELAY_SIGNALS, 2 * LATEST_MS)
    assert matured_after(late, late, HOUR) == LATEST_MS
