"""A published policy: plain numbers, read with nothing installed, saying what the router said."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.learn import plain_policy, policy_reader
from pipelines.learn.policy_reader import Policy

MODELS = ["big", "small"]


def toy(willingness_to_pay_usd=None, exploration_share=0.1, candidates=None) -> tuple[dict, pd.DataFrame, np.ndarray]:
    """Prompts about contracts, where `big` does better, and about greetings, where both do alike; big costs ten times as much."""
    rows = pd.DataFrame({"prompt": ["check the contract clause"] * 40 + ["say hello to them"] * 40, "workload": ["legal"] * 40 + ["chat"] * 40})
    values = np.array([[0.9, 0.3]] * 40 + [[0.8, 0.79]] * 40)
    costs = np.tile([0.01, 0.001], (80, 1))
    plain = plain_policy.distil(
        rows["prompt"], rows["workload"], values, MODELS, costs, policy_version="v1",
        willingness_to_pay_usd=willingness_to_pay_usd, exploration_share=exploration_share, candidates=candidates or {},
    )
    return json.loads(json.dumps(plain)), rows, values


def test_it_says_what_the_router_said():
    plain, rows, values = toy()
    policy = Policy(plain)
    told = np.array([policy.values(p, w) for p, w in zip(rows["prompt"], rows["workload"], strict=True)])
    assert np.abs(told - values).max() < 0.05
    assert policy.values("", None) and all(0 <= v <= 1 for v in policy.values("", None))


def test_what_a_call_is_worth_decides():
    assert Policy(toy(None)[0]).probabilities("say hello to them", "chat")["big"] == pytest.approx(0.95)
    thrifty = Policy(toy(0.1)[0])
    assert thrifty.probabilities("say hello to them", "chat")["small"] == pytest.approx(0.95)
    assert thrifty.probabilities("check the contract clause", "legal")["big"] == pytest.approx(0.95)


def test_propensities_are_the_chances():
    policy, rng = Policy(toy(exploration_share=0.4)[0]), random.Random(1)
    decisions = [policy.choose("check the contract clause", "legal", rng=rng) for _ in range(5_000)]
    seen = Counter(d.model for d in decisions)
    for decision in {d.model: d for d in decisions}.values():
        assert seen[decision.model] / 5_000 == pytest.approx(decision.propensity, abs=0.02)
    assert {d.is_explored for d in decisions if d.model == "small"} == {True}
    assert decisions[0].as_log() == {"policy": "v1", "candidates": MODELS, "propensity": decisions[0].propensity}
    assert sum(policy.probabilities("x").values()) == pytest.approx(1)


def test_only_what_is_allowed_is_chosen():
    policy = Policy(toy()[0])
    decision = policy.choose("check the contract clause", "legal", allowed=["small", "unheard-of"])
    assert (decision.model, decision.propensity) == ("small", 1.0)
    with pytest.raises(ValueError, match="none of the models allowed"):
        policy.choose("hello", allowed=["unheard-of"])


def test_untold_it_chooses_among_what_was_judged():
    policy = Policy(toy(candidates={"legal": ["small"], "chat": MODELS})[0])
    assert policy.choose("check the contract clause", "legal").candidates == ("small",)
    assert policy.choose("check the contract clause", "legal", allowed=["big"]).model == "big"
    for workload in ("chat", "never seen", None):
        assert policy.choose("say hello to them", workload).candidates == tuple(MODELS)
    older = toy()[0]
    del older["candidates"]
    assert Policy(older).choose("check the contract clause", "legal").candidates == tuple(MODELS)


def test_chances_of_many_rows_are_those_of_the_reader():
    plain, rows, _ = toy()
    allowed = np.ones((80, 2), dtype=bool)
    allowed[0] = [False, True]
    chances = plain_policy.probabilities(Policy(plain), rows["prompt"], rows["workload"], allowed, MODELS)
    assert chances[0].tolist() == [0, 1]
    assert chances[1, 0] == pytest.approx(0.95)
    unknown = plain_policy.probabilities(Policy(plain), rows["prompt"], rows["workload"], allowed, ["new", "newer"])
    assert np.isnan(unknown).all()


def test_the_reader_needs_nothing_and_is_quick(tmp_path: Path):
    """Copied alone, in an interpreter that sees no packages; well under 5 ms a choice."""
    plain, *_ = toy()
    words = [f"word{n}" for n in range(4_000)]
    plain["value"]["terms"] |= {w: [0.1, -0.1] for w in words}
    plain["value"]["idf"] |= dict.fromkeys(words, 3.0)
    (tmp_path / "policy.json").write_text(json.dumps(plain))
    (tmp_path / "policy_reader.py").write_text(Path(policy_reader.__file__).read_text())
    (tmp_path / "try.py").write_text(
        "import time, policy_reader\n"
        "p = policy_reader.Policy.load('policy.json')\n"
        "text = ' '.join(f'word{n % 5000}' for n in range(300))\n"
        "took = []\n"
        "for _ in range(200):\n    t = time.process_time(); d = p.choose(text, 'legal'); took.append(time.process_time() - t)\n"
        "print(sorted(took)[100])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); exec(open('try.py').read())"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.005


def test_a_foreign_file_is_no_policy(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="no policy"):
        Policy.load(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["[1]", '"x"', "null", "", "[" * 100_000, '{"format": "inference-flywheel-policy/1"}', b"\xff"])
def test_whatever_else_is_in_a_file_is_no_policy(tmp_path: Path, text):
    (tmp_path / "x.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError):  # json has words of its own
        Policy.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("key", "worse"),
    [
        ("exploration_share", 5), ("exploration_share", -0.1), ("exploration_share", math.nan), ("exploration_share", "0.1"), ("models", None), ("models", []),
        ("models", ["big"]), ("models", ["big", "big"]), ("willingness_to_pay_usd", 0), ("value", {}), ("value", []), ("cost_usd", {"base": [1, 1], "per_character": [0, None]}),
        ("cost_usd", {"base": [1, 10**400], "per_character": [0, 0]}), ("candidates", {"legal": 1}), ("candidates", []), ("policy_version", None),
    ],
)  # fmt: skip
def test_a_policy_that_is_not_whole_is_refused_before_it_is_asked(key, worse):
    plain, *_ = toy()
    assert Policy(plain)
    with pytest.raises(ValueError, match="this policy cannot be used"):
        Policy(plain | {key: worse})
    del plain[key]
    if key != "candidates":
        with pytest.raises(ValueError, match="this policy cannot be used"):
            Policy(plain)
    plain, *_ = toy()
    del plain["value"]["idf"]["contract"]
    with pytest.raises(ValueError, match="this policy cannot be used"):
        Policy(plain)


def test_a_long_prompt_is_read_at_both_ends():
    plain, *_ = toy()
    policy = Policy(plain)
    started = time.process_time()
    value = policy.values("check the contract clause " + "x " * 2_000_000 + "check the contract clause", "legal")
    assert time.process_time() - started < 1 and not any(math.isnan(v) for v in value)
