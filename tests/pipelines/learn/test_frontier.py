"""Figures of routers, on curves small enough to be reckoned by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.learn.frontier import (
    Curve,
    aiq,
    calibration_error,
    cost_at_quality,
    draw,
    gain_interval,
    gap_closed,
    hull,
    oracle_choice,
    pair_figures,
    pareto,
    reward_of,
)


def test_apgr_and_cpt_of_a_curve_made_by_hand() -> None:
    # Ten requests; the strong arm gains on five of them, and the score puts these five first.
    score = np.arange(10.0)
    weak, strong = np.zeros(10), np.repeat([0.0, 1.0], 5)
    figures = pair_figures(score, weak, strong)
    # Quality gained rises to all of it at half the calls, then stays: triangle of 0.25 and block of 0.5.
    assert figures.share.tolist() == pytest.approx(np.linspace(0, 1, 11).tolist())
    assert figures.apgr == pytest.approx(0.75)
    assert figures.cpt50_share == pytest.approx(0.25)
    assert pair_figures(-score, weak, strong).apgr == pytest.approx(0.25)


def test_a_score_without_knowledge_has_half_the_area() -> None:
    rng = np.random.default_rng(0)
    weak, strong = (rng.random(20_000) < 0.6).astype(float), (rng.random(20_000) < 0.8).astype(float)
    figures = pair_figures(rng.random(20_000), weak, strong)
    assert figures.apgr == pytest.approx(0.5, abs=0.03)
    assert figures.cpt80_share == pytest.approx(0.8, abs=0.05)
    assert pair_figures(np.zeros(20_000), weak, strong).apgr == pytest.approx(0.5)
    assert pair_figures(strong - weak + 1e-6 * rng.random(20_000), weak, strong).apgr > 1  # the oracle passes the strong arm
    with pytest.raises(ValueError, match="not better"):
        pair_figures(rng.random(20_000), strong, weak)


def test_pareto_and_hull() -> None:
    cost = np.array([1.0, 2.0, 3.0, 4.0, 2.5, 1.0])
    quality = np.array([0.2, 0.3, 0.8, 0.7, 0.8, 0.2])
    assert pareto(cost, quality).tolist() == [True, True, False, False, True, True]  # equal points stand or fall together
    x, y = hull(cost, quality)
    assert (x.tolist(), y.tolist()) == ([1.0, 2.5], [0.2, 0.8])
    assert cost_at_quality(cost, quality, 0.5) == pytest.approx(1.75)
    assert np.isnan(cost_at_quality(cost, quality, 0.9))


def test_hull_holds_every_point_and_bends_one_way() -> None:
    rng = np.random.default_rng(3)
    cost, quality = rng.random(500), rng.random(500)
    x, y = hull(cost, quality)
    inside = cost >= x[0]
    assert (np.interp(cost[inside], x, y) >= quality[inside] - 1e-12).all()
    assert (np.diff(y) > 0).all()
    assert (np.diff(np.diff(y) / np.diff(x)) < 0).all()


def test_aiq_is_the_mean_height_of_the_hull() -> None:
    assert aiq(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0, 1) == pytest.approx(0.5)
    assert aiq(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0, 2) == pytest.approx(0.75)  # level after its best point
    assert aiq(np.array([1.0]), np.array([0.6]), 0, 2) == pytest.approx(0.3)  # nothing to offer below its cheapest


def test_rewards_of_a_choice_and_the_gap() -> None:
    rewards = np.array([[0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
    best = oracle_choice(rewards, np.array([[1.0, 9.0], [1.0, 9.0], [1.0, 9.0]]))
    assert best.tolist() == [1, 0, 0]
    assert reward_of(best, rewards).tolist() == [1.0, 1.0, 0.5]
    assert gap_closed(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert gap_closed(0.5, 0.6, 0.8) < 0


def test_an_interval_of_gain_widens_with_groups_and_covers_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(1)
    noise = np.repeat(rng.normal(size=100), 20)
    gain, low, high = gain_interval(noise + 0.5, np.zeros(2000))
    assert low < gain < high
    _, low_of_groups, high_of_groups = gain_interval(noise + 0.5, np.zeros(2000), groups=np.repeat(np.arange(100), 20))
    assert high_of_groups - low_of_groups > 3 * (high - low)


def test_calibration_error() -> None:
    assert calibration_error(np.array([0.25, 0.25, 0.25, 0.25]), np.array([1, 0, 0, 0])) == 0
    assert calibration_error(np.full(10, 0.9), np.zeros(10)) == pytest.approx(0.9)


def test_a_drawing_is_one_png_and_one_page_that_loads_nothing(tmp_path: Path) -> None:
    line = Curve("ours <b>", np.array([1.0, 2.0]), np.array([0.5, 0.6]))
    png, page = draw([line, Curve("arms", np.array([1.0]), np.array([0.5]), is_line=False)], tmp_path / "frontier", "Quality by cost", "cost", "quality")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "<svg" in text and "ours &lt;b&gt;" in text and "ours <b>" not in text.split("<table>")[1]
    assert "<script" not in text and "src=" not in text
