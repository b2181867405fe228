"""A log in a file of one's own: the same figures as from arrays, and what is wrong with a file told in plain words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import StopTheLine
from pipelines.learn.log_file import Columns, evaluate_file, tables
from pipelines.learn.logged_data import LoggedData
from pipelines.learn.offpolicy import OffPolicy
from pipelines.settings import Settings
from tests.pipelines.test_cli import Flywheel

MODELS = ["it's small", "large", "middling"]


def log(n: int = 3_000, seed: int = 0) -> pd.DataFrame:
    """Three in ten calls explore; code suits the large model."""
    rng = np.random.default_rng(seed)
    hard, label = rng.standard_normal(n), np.array(["chat", "code", "say \"it's\""])[rng.integers(0, 3, n)]
    chance = 1 / (1 + np.exp(-hard[:, None] - np.array([0.0, 0.8, 0.3]) * (label == "code")[:, None]))
    logging = 0.7 * np.eye(3)[(hard > 0).astype(int)] + 0.1
    action = (rng.random((n, 1)) > logging.cumsum(axis=1)[:, :-1]).sum(axis=1)
    rows, names = np.arange(n), np.array(MODELS)
    table = pd.DataFrame({
        "action": names[action], "propensity": logging[rows, action], "reward": (rng.random(n) < chance[rows, action]).astype(float), "context_hard": hard,
        "context_label": label, "cost_usd": np.array([0.001, 0.01, 0.004])[action], "cluster": rng.integers(0, 1_000, n), "target": names[np.where(label == "code", 1, 2)],
    })
    for n, name in enumerate(MODELS):
        table[f"soft_{name}"] = 0.9 * (table["target"] == name) + 0.1 / 3
        table[f"logging_{name}"] = logging[:, n]
    return table


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def write(table: pd.DataFrame, path: Path) -> str:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        table.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.csv.gz", "log.jsonl"])
def test_a_file_gives_the_figures_of_its_arrays(name: str, tmp_path: Path, settings: Settings) -> None:
    table = log()
    table.loc[[3, 77], "reward"] = None
    judged = evaluate_file(settings, write(table, tmp_path / name), Columns(against="soft"))
    kept = table.drop(index=[3, 77])
    place = {model: n for n, model in enumerate(MODELS)}
    labels = np.column_stack([kept["context_label"] == one for one in sorted(set(table["context_label"]))]).astype(float)
    logged = LoggedData(
        np.column_stack([kept["context_hard"], labels]), kept["action"].map(place).to_numpy(), kept["reward"].to_numpy(),
        kept[[f"logging_{model}" for model in MODELS]].to_numpy(), 3, cluster=kept["cluster"].to_numpy(), cost_usd=kept["cost_usd"].to_numpy(),
    )
    target = np.eye(3)[kept["target"].map(place)]
    judge = OffPolicy(logged)
    expected = judge.evaluate(target)
    assert judged.unknown_reward_count == 2
    assert judged.actions == MODELS
    assert judged.evaluation.verdict == expected.verdict
    assert judged.evaluation.verdict.can_tell
    for one in expected.reward:
        assert judged.evaluation.reward[one].value == pytest.approx(expected.reward[one].value, abs=1e-9), one
        assert judged.evaluation.cost_usd[one].value == pytest.approx(expected.cost_usd[one].value, abs=1e-9), one
    assert judged.evaluation.reward["dr"].interval.low == pytest.approx(expected.reward["dr"].interval.low, abs=1e-9)
    against = judge.compare(kept[[f"soft_{model}" for model in MODELS]].to_numpy(), target)
    assert judged.against.difference.value == pytest.approx(against.difference.value, abs=1e-9)
    assert [row.epsilon_share for row in judged.advice] == [0.01, 0.02, 0.05, 0.1, 0.2]


def test_candidates_limit_what_may_be_chosen(tmp_path: Path, settings: Settings) -> None:
    table = log().drop(columns=[f"logging_{model}" for model in MODELS])
    table["candidates"] = [json.dumps(sorted({action, MODELS[0]})) for action in table["action"]]
    judged = evaluate_file(settings, write(table, tmp_path / "log.csv"))
    share = (table["target"] != table["action"]).mean()
    assert judged.evaluation.diagnostics.unsupported_share == pytest.approx(share)
    assert not judged.evaluation.verdict.can_tell


def test_reasons_name_the_model(tmp_path: Path, settings: Settings) -> None:
    table = log().drop(columns=[f"logging_{model}" for model in MODELS]).assign(propensity=1 / 3)
    reasons = evaluate_file(settings, write(table, tmp_path / "log.parquet")).evaluation.verdict.reasons
    assert any(reason.startswith(f"{MODELS[1]} was logged") for reason in reasons), reasons


def test_rows_without_a_trace_stand_alone(tmp_path: Path, settings: Settings) -> None:
    table = log()
    table["cluster"] = [None, "it's one", None, *(f"trace {n // 2}" for n in range(2_997))]
    judged = evaluate_file(settings, write(table, tmp_path / "log.parquet"))
    assert judged.logged.cluster_count == 2 + 1 + 1_499
    assert (np.bincount(judged.logged.cluster[3:]) <= 2).all()


def test_without_context_or_propensities(tmp_path: Path, settings: Settings) -> None:
    table = log().drop(columns=["propensity", *(f"logging_{model}" for model in MODELS)])
    path = write(table, tmp_path / "log.parquet")
    with pytest.raises(StopTheLine, match=r"no column 'propensity'.*estimated from the context"):
        evaluate_file(settings, path)
    judged = evaluate_file(settings, path, estimated=True)
    assert judged.evaluation.diagnostics.propensity_kind == "estimated"
    assert judged.evaluation.reward["ips"].interval is None
    bare = evaluate_file(settings, write(log()[["action", "reward", "target", "propensity"]], tmp_path / "bare.parquet"))
    assert not bare.has_context
    assert np.isfinite(bare.evaluation.reward["dr"].value)


def test_costs_are_judged_where_every_row_has_one(tmp_path: Path, settings: Settings) -> None:
    table = log()
    whole = evaluate_file(settings, write(table, tmp_path / "whole.parquet"))
    table.loc[5:66, "cost_usd"] = None
    path = write(table, tmp_path / "log.parquet")
    judged = evaluate_file(settings, path)
    assert judged.evaluation.reward == whole.evaluation.reward
    assert (judged.evaluation.cost_usd, judged.unknown_cost_count, judged.as_dict()["unknown_cost_count"]) == (None, 62, 62)
    assert ("Cost a call, USD", ["not judged because"], [("62 of 3,000 rows have no cost",)]) in tables(judged)
    without = evaluate_file(settings, path, Columns(cost_usd=""))
    assert (without.evaluation.cost_usd, without.unknown_cost_count) == (None, 0)
    assert "Cost a call, USD" not in [title for title, *_ in tables(without)]


def test_rewards_that_are_all_alike_tell_nothing_and_give_no_advice(tmp_path: Path, settings: Settings) -> None:
    judged = evaluate_file(settings, write(log().assign(reward=1.0), tmp_path / "log.parquet"))
    assert not judged.evaluation.verdict.can_tell
    assert "all rewards are alike" in judged.evaluation.verdict.reasons[0]
    assert judged.advice == []


def test_columns_that_only_begin_as_probabilities_do_are_none(tmp_path: Path, settings: Settings) -> None:
    """And an action that was never logged is one, if the target may choose it."""
    table = log().drop(columns=["target", *(f"logging_{model}" for model in MODELS)])
    table = table.assign(**{f"target_{model}": 1 / 3 for model in MODELS}, logging_policy="v7")
    plain = evaluate_file(settings, write(table, tmp_path / "log.parquet"))
    assert (plain.actions, plain.evaluation.verdict.can_tell) == (MODELS, True)
    more = table.assign(target_name="new", target_ms=120.0, target_is_new=True)
    assert evaluate_file(settings, write(more, tmp_path / "more.parquet")).evaluation.reward == plain.evaluation.reward
    untried = evaluate_file(settings, write(table.assign(target_large=0.0, target_huge=1 / 3), tmp_path / "untried.parquet"))
    assert "huge" in untried.actions
    assert untried.evaluation.diagnostics.unsupported_share == pytest.approx(1 / 3)


SPOILT = {
    "propensity above one": (lambda t: t.assign(propensity=1.5), r"propensity: 3,000 of 3,000 rows are not in \(0, 1\]"),
    "propensity zero": (lambda t: t.assign(propensity=t["propensity"].where(t.index != 5, 0.0)), "the first is row 6$"),
    "after rows without a reward": (lambda t: t.assign(reward=t["reward"].where(t.index > 1_200), propensity=t["propensity"].where(t.index != 1_300)), "the first is row 1,301$"),
    "propensity missing": (lambda t: t.assign(propensity=t["propensity"].where(t.index != 7)), "propensity: 1 of 3,000 rows are missing, infinite or no numbers; the first is row 8$"),
    "propensity a word": (lambda t: t.assign(propensity="often"), "propensity: 3,000 of 3,000 rows are missing, infinite or no numbers"),
    "reward outside": (lambda t: t.assign(reward=5.0), "outside 0..1; scale it first"),
    "no reward at all": (lambda t: t.assign(reward=None), "none with a reward"),
    "action missing": (lambda t: t.assign(action=t["action"].where(t.index > 2)), "action is missing in 3 rows"),
    "target missing": (lambda t: t.assign(target=t["target"].where(t.index > 2)), "target is missing in 3 rows"),
    "no target": (lambda t: t.drop(columns="target"), "no column 'target'.*target_<action> columns.*It has action, propensity"),
    "no action": (lambda t: t.drop(columns="action"), "no column 'action': name it with --action"),
    "wrong sums": (lambda t: t.drop(columns="target").assign(**{f"target_{m}": 0.4 for m in MODELS}), "target_it's small .*middling: 3,000 of 3,000 rows are not probabilities that sum to one; the first is row 1$"),
    "a probability missing": (lambda t: t.drop(columns="target").assign(**{f"target_{m}": t["propensity"].where(t.index != 9) for m in MODELS}), "target_it's small is missing or no number in 1 rows; the first is row 10$"),
    "a model forgotten": (lambda t: t.drop(columns="target").assign(target_large=1.0), "none for the logged it's small, middling"),
    "one action": (lambda t: t.assign(action="large", target="large"), "fewer than two there is no decision"),
    "a context of free text": (lambda t: t.assign(context_prompt=[f"prompt {n}" for n in t.index]), "context_prompt has more than 50 different texts"),
    "a context that is a day": (lambda t: t.assign(context_day=pd.Timestamp("2026-01-01")), "context_day is TIMESTAMP"),
    "cost below zero": (lambda t: t.assign(cost_usd=-1.0), "cost_usd: 3,000 of 3,000 rows are below zero"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_wrong_is_told(what: str, tmp_path: Path, settings: Settings) -> None:
    spoil, message = SPOILT[what]
    table = spoil(log().drop(columns=[f"logging_{model}" for model in MODELS]))
    with pytest.raises(StopTheLine, match=message):
        evaluate_file(settings, write(table, tmp_path / "log.parquet"))


def test_no_such_file_and_no_such_format(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(StopTheLine, match="cannot be read"):
        evaluate_file(settings, str(tmp_path / "none.parquet"))
    with pytest.raises(StopTheLine, match="told by its ending"):
        evaluate_file(settings, str(tmp_path / "log.xlsx"))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StopTheLine, match="cannot be read"):
        evaluate_file(settings, str(tmp_path / "torn.parquet"))


def test_on_the_command_line(tmp_path: Path, monkeypatch, capsys) -> None:
    flywheel = Flywheel(tmp_path, monkeypatch, capsys)
    path = write(log(), tmp_path / "log.parquet")
    code, out, _ = flywheel("routing", "evaluate", path, "--against", "soft", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["can_tell"] is True
    assert found["reward"]["dr"]["interval"]["low"] < found["reward"]["dr"]["value"]
    assert found["reward"]["dm"]["interval"] is None
    code, out, _ = flywheel("routing", "evaluate", path)
    assert code == 0
    assert "this log can tell" in out
    assert "What exploring would buy" in out
    few = write(log(60), tmp_path / "few.csv")
    code, out, _ = flywheel("routing", "evaluate", few)
    assert code == 0
    assert "this log cannot tell:" in out
    assert "effective sample" in out
    wide = json.loads(flywheel("routing", "evaluate", path, "--json", "--intervals", "empirical_bernstein")[1])["reward"]["dr"]["interval"]
    assert wide["low"] < found["reward"]["dr"]["interval"]["low"]
    code, _, err = flywheel("routing", "evaluate", path, "--reward", "stars")
    assert code == 1
    assert "no column 'stars'" in err


def test_tables_show_every_estimator(tmp_path: Path, settings: Settings) -> None:
    judged = evaluate_file(settings, write(log(), tmp_path / "log.parquet"))
    shown = {title: rows for title, _, rows in tables(judged)}
    assert [row[0] for row in shown["Reward a call"]] == ["what was logged", "dm", "ips", "snips", "dr", "sndr", "switch_dr"]
    assert len(tables(replace(judged, advice=[]))) == len(shown) - 1
