"""Calls, texts and outcomes in → topics and where a model fails more often; planted topics found, no labels looked at first."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pipelines.learn.confusion import likely_failures, more_failures, topics
from tests.support.confusionworld import MODELS, World, warehouse, world
from tests.support.outcomebook import build

TABLE = "marts.confusion"


@pytest.fixture(scope="module")
def made() -> World:
    return world(1, calls=3_000, topics=5, planted=2)


@pytest.fixture(scope="module")
def con(made: World):
    return build(warehouse(made, made.outcomes(np.random.default_rng(2))), (TABLE,))


def test_planted_topics_are_found_with_their_model_and_no_others(con, made: World) -> None:
    found = con.execute(f"select cluster_id, model_name, lift, example_ids from {TABLE} where verdict = 'confused' and model_name is not null").fetchall()
    member = dict(con.execute("select inference_id, cluster_id from confusion_member").fetchall())
    topic = made.calls.assign(cluster_id=[member[f"c{n:06}"] for n in range(len(made.calls))]).groupby("cluster_id")["topic"].agg(lambda t: t.mode()[0])
    assert {(topic[cluster], model) for cluster, model, *_ in found} == {(0, MODELS[0]), (1, MODELS[1])}
    for cluster, model, lift, examples in found:
        assert lift > 1.5
        for one in json.loads(examples):
            assert member[one] == cluster
            assert MODELS[made.calls["model_no"][int(one[1:])]] == model


def test_a_better_model_is_named_where_there_is_one(con) -> None:
    rows = con.execute(f"select model_name, better_model_name, better_failure_share < failure_share from {TABLE} where better_model_name is not null and model_name is not null").fetchall()
    assert {model for model, *_ in rows} == set(MODELS[:2])
    assert all(model != better and is_less for model, better, is_less in rows)


def test_a_row_of_all_models_names_the_one_that_does_better_than_the_others_together(con) -> None:
    rows = con.execute(f"""select one.better_model_name, own.failure_share < one.failure_share from {TABLE} as one
        left join {TABLE} as own on own.cluster_id = one.cluster_id and own.model_name = one.better_model_name
        where one.model_name is null and one.better_model_name is not null""").fetchall()
    assert rows
    assert all(is_less for _, is_less in rows)


@pytest.mark.parametrize("many", [20, 25, 39, 40, 41])
def test_few_prompts_make_few_topics(many: int) -> None:
    ids, labels = topics([f"{('tax', 'tea', 'sun')[n % 3]} {('now', 'late')[n % 2]} word word{n}" for n in range(many)], np.array([f"t{n}" for n in range(many)], dtype=object))
    assert len(ids) == many
    assert 1 <= len(set(ids)) < many
    assert set(ids) <= set(labels)


def test_every_call_is_in_one_cluster_and_costs_add_up(con, made: World) -> None:
    assert con.execute(f"select sum(call_count), sum(list_cost_usd), count(*) filter (where failed_cost_usd > list_cost_usd) from {TABLE} where model_name is null").fetchone() == (
        len(made.calls), pytest.approx(0.01 * len(made.calls)), 0)


def test_the_same_again_and_outcomes_do_not_move_clusters(con, made: World) -> None:
    member = con.execute("select * from confusion_member order by all").fetchall()
    again = build(warehouse(made, made.outcomes(np.random.default_rng(3))), (TABLE,))
    assert again.execute("select * from confusion_member order by all").fetchall() == member


def test_a_cluster_is_named_by_a_word_of_its_topic_and_keeps_its_id_with_more_prompts(made: World) -> None:
    said, thread, topic = made.calls["prompt"].tolist(), made.calls["session"].to_numpy(), made.calls["topic"].to_numpy()
    fewer, more = topics(said[:2_700], thread[:2_700]), topics(said, thread)
    assert np.mean(fewer[0] == more[0][:2_700]) > 0.9
    for cluster, label in more[1].items():
        word = label.split(" · ")[0]
        of = topic[[word in text.split() for text in said]]
        assert np.mean(of == np.bincount(topic[more[0] == cluster]).argmax()) > 0.9


def test_labels_hold_no_personal_data_and_no_word_of_one_thread() -> None:
    draw = np.random.default_rng(0)
    said = [f"refund parcel order {n} {draw.choice(['late', 'broken', 'lost'])} {'zanzibar' if n < 40 else 'other'}" for n in range(100)]
    thread = np.array(["one" if n < 40 else f"t{n}" for n in range(100)], dtype=object)
    _, labels = topics(said, thread)
    words = " ".join(labels.values()).split()
    assert "zanzibar" not in words
    assert {"refund", "parcel", "late", "broken", "lost", "order", "other"} & set(words)


def test_mail_addresses_and_numbers_are_out_before_anything_is_learnt(made: World) -> None:
    leaky = World(made.calls.head(300).assign(prompt=lambda c: c["prompt"] + " ann.lee@example.com +49 170 1234567"), 0)
    con = build(warehouse(leaky, leaky.outcomes(np.random.default_rng(0))), (TABLE,))
    assert con.execute("select count(*) from confusion_prompt where said like '%@%' or said like '%1234567%' or said like '%example%'").fetchone() == (0,)


def test_silence_does_not_hide_how_often_calls_fail() -> None:
    """Four in five calls are silent; the mean of their probabilities would say 0.16."""
    draw = np.random.default_rng(0)
    failed, width = draw.random(20_000) < 0.4, np.where(draw.random(20_000) < 0.8, 0.0, 2.5)
    ratio = np.exp(np.where(failed, -1, 1) * width**2 / 2 + width * draw.normal(size=20_000))
    share, low, high = likely_failures(ratio, np.arange(20_000), np.zeros(20_000, int), 1, 0.1)
    assert low[0] < 0.4 < high[0]
    assert high[0] - low[0] < 0.06
    assert share[0] == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("size", [1, 8])
def test_chance_is_kept_to_where_calls_of_a_thread_fail_together(size: int) -> None:
    """No cell differs: a p-value below 0.05 in a twentieth of tests at most, also with all calls of a thread alike."""
    draw, below = np.random.default_rng(size), []
    for _ in range(60):
        failed = np.repeat(draw.random(2_400 // size) < 0.1, size).astype(float)
        cell = np.repeat(draw.integers(20, size=2_400 // size), size)
        below.append(more_failures(failed, np.arange(2_400) // size, cell, 20) < 0.05)
    assert 0.005 < np.mean(below) < 0.06


def test_too_few_prompts_have_no_topics(made: World) -> None:
    few = World(made.calls.head(10), 0)
    con = build(warehouse(few, pd.DataFrame({"evidence_weight": [0.0] * 10, "failure_share": [0.1] * 10})), (TABLE,))
    assert con.execute(f"select count(*) from {TABLE}").fetchone() == (0,)
