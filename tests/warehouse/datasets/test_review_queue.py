"""Calls, texts and outcomes in → a queue that finds errors sooner than chance, of calls worth looking at."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from tests.support.confusionworld import World, warehouse, world
from tests.support.outcomebook import build

TABLE = "datasets.review_queue"
CALLS = 2_000


def drawn(made: World, outcomes: pd.DataFrame, looked_at: tuple[str, ...] = ()):
    con = warehouse(made, outcomes)
    con.execute("update core.inference set started_at = started_at - interval 1 day")  # so that all calls of the last ten days are few
    con.execute("""create or replace table marts.call_outcome as select inference_id, started_at, 1 - failure_share as outcome_share, abs(2 / (1 + exp(-evidence_weight)) - 1) as confidence_share,
        evidence_weight, true as is_matured, case when evidence_weight = 0 then 'silent' else 'resolved' end as outcome_status from outcome join core.inference using (inference_id)""")
    con.execute("update marts.prompt set started_at = started_at - interval 1 day; update marts.call_cost set started_at = started_at - interval 1 day")
    con.execute("create table marts.outcome_signal (inference_id varchar, started_at timestamp default '2026-10-10', rater_kind varchar, shape varchar, level varchar)")
    con.executemany("insert into marts.outcome_signal (inference_id, rater_kind, shape, level) values (?, 'user', 'judgement', 'call')", [[one] for one in looked_at] or [["none"]])
    return build(con, (TABLE,))


@pytest.fixture(scope="module")
def world_and_truth():
    made = world(3, calls=CALLS, topics=5, planted=2)
    return made, made.outcomes(np.random.default_rng(3))


@pytest.fixture(scope="module")
def con(world_and_truth):
    return drawn(*world_and_truth, looked_at=("c001999",))


def test_the_first_are_errors_more_often_than_chance(con, world_and_truth) -> None:
    failed = world_and_truth[1]["failed"].to_numpy()
    queue = [int(one[1:]) for (one,) in con.execute(f"select inference_id from {TABLE} order by rank_number").fetchall()]
    assert len(queue) > 500
    assert failed[queue[:100]].mean() > 2 * failed[queue].mean()


def test_what_is_sure_or_was_looked_at_is_not_asked_about(con) -> None:
    assert con.execute(f"select count(*) from {TABLE} where confidence_share >= 0.8 or inference_id = 'c001999'").fetchone() == (0,)


def test_the_gain_adds_up_and_reviews_are_in_time(con) -> None:
    assert con.execute(f"select max(expected_errors_count) - sum(expected_error_share), min(rank_number), max(rank_number) - count(*), bool_and(review_by_at = started_at + interval 14 day) from {TABLE}").fetchone() == (
        pytest.approx(0, abs=1e-6), 1, 0, True)


def test_equal_prompts_are_asked_about_once(world_and_truth) -> None:
    made, outcomes = world_and_truth
    same = World(made.calls.head(300).assign(prompt="the very same prompt"), 0)
    con = drawn(same, outcomes.head(300))
    assert con.execute(f"select count(*) <= 4, sum(like_count) > 100, max(local_error_share) is null from {TABLE}").fetchone() == (True, True, True)


def test_old_calls_are_left_alone(world_and_truth) -> None:
    made, outcomes = world_and_truth
    con = drawn(World(made.calls.head(50), 0), outcomes.head(50))
    con.execute("insert into core.inference by name select * replace ('late' as inference_id, ? as started_at) from core.inference limit 1", [datetime(2026, 10, 1) + timedelta(days=30)])
    con.execute("insert into marts.call_outcome by name select * replace ('late' as inference_id, ? as started_at) from marts.call_outcome limit 1", [datetime(2026, 10, 1) + timedelta(days=30)])
    assert build(con, (TABLE,)).execute(f"select count(*) from {TABLE}").fetchone() == (0,)


def test_calls_of_one_thread_are_ordered_by_their_outcomes(world_and_truth) -> None:
    made, outcomes = world_and_truth
    con = drawn(World(made.calls.assign(session=0), 0), outcomes)
    assert con.execute("select count(*) filter (where is_known) >= 200, count(distinct thread) from review_call").fetchone() == (True, 1)
    assert con.execute(f"select count(*) > 500, max(linear_error_share) is null from {TABLE}").fetchone() == (True, True)
