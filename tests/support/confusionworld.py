"""Calls on topics that are known, some of which one model fails on more often: for marts.confusion."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
from scipy.special import expit, logit

from tests.support.outcomebook import build, connection, put

MODELS = ("amber", "birch", "cedar", "dune")
SYLLABLES = ("ba", "ko", "ri", "tu", "me", "lo", "sa", "ven", "dor", "mi", "pel", "ga", "nu", "shi", "tar", "fo")
USUAL, PLANTED = 0.1, 0.4
"""A model fails on a tenth of its calls, on four times as many where it was planted."""


@dataclass
class World:
    """Calls with their texts, topics (numbers), models and sessions; the first `planted` topics confuse one model each: topic n, model n."""

    calls: pd.DataFrame
    planted: int

    def is_planted(self) -> np.ndarray:
        return ((self.calls["topic"] < self.planted) & (self.calls["model_no"] == self.calls["topic"] % len(MODELS))).to_numpy()

    def outcomes(self, draw: np.random.Generator, together: float = 0.7) -> pd.DataFrame:
        """Fresh outcomes: failures that come together within sessions (normal effects on the probit scale), seen through noisy evidence; two in five are silent.

        The evidence is what it says it is: its likelihood ratio is the true one.
        """
        from scipy.stats import norm

        rate = np.where(self.is_planted(), PLANTED, USUAL)
        effect = draw.normal(size=self.calls["session"].max() + 1)[self.calls["session"]]
        failed = np.sqrt(1 - together**2) * draw.normal(size=len(rate)) + together * effect < norm.ppf(rate)
        width = np.where(draw.random(len(rate)) < 0.4, 0.0, 2.5)
        weight = np.clip(np.where(failed, -1, 1) * width**2 / 2 + width * draw.normal(size=len(rate)), -6, 6)
        return pd.DataFrame({"evidence_weight": weight, "failure_share": 1 - expit(logit(1 - USUAL) + weight), "failed": failed})


def zipf(size: int) -> np.ndarray:
    share = 1 / np.arange(1, size + 1)
    return share / share.sum()


def world(seed: int, calls: int = 6_000, topics: int = 20, planted: int = 4) -> World:
    """Sessions of one to eight calls, four in five of them on the session's topic; texts of topic words among common ones."""
    draw = np.random.default_rng(seed)
    made = np.array(sorted({"".join(draw.choice(SYLLABLES, 3)) for _ in range(4_000)}))
    draw.shuffle(made)
    common, own = made[:150], made[150 : 150 + 25 * topics].reshape(topics, 25)
    rows = []
    session = 0
    while len(rows) < calls:
        of_session = draw.integers(topics)
        for _ in range(draw.integers(1, 9)):
            topic = of_session if draw.random() < 0.8 else draw.integers(topics)
            length = draw.integers(10, 30)
            said = np.where(draw.random(length) < 0.4, draw.choice(own[topic], length, p=zipf(25)), draw.choice(common, length, p=zipf(150)))
            rows.append((" ".join(said), topic, draw.integers(len(MODELS)), session))
        session += 1
    return World(pd.DataFrame(rows[:calls], columns=["prompt", "topic", "model_no", "session"]), planted)


def warehouse(made: World, outcomes: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    """The tables that marts.confusion reads, over four weeks of one month."""
    con = connection()
    put(con, "core.inference", [
        {"inference_id": f"c{n:06}", "started_at": datetime(2026, 10, 1) + timedelta(minutes=6 * n), "source": "app", "session_id": f"s{call.session}", "status": "ok",
         "operation_name": "chat", "request_model": MODELS[call.model_no]} for n, call in enumerate(made.calls.itertuples())
    ])  # fmt: skip
    con.execute("insert into marts.call_cost by name select inference_id, started_at, request_model as model_name, 0.01 as list_cost_usd from core.inference")
    con.register("text", pd.DataFrame({"inference_id": [f"c{n:06}" for n in range(len(made.calls))], "said": [json.dumps([{"role": "user", "content": t}]) for t in made.calls["prompt"]]}))
    con.execute("insert into core.inference_content by name select inference_id, started_at, said as input_messages from text join core.inference using (inference_id)")
    build(con, ("marts.prompt",))
    con.register("outcome", outcomes.assign(inference_id=[f"c{n:06}" for n in range(len(outcomes))]))
    con.execute("""create table marts.call_outcome as select inference_id, started_at, 1 - failure_share as outcome_share, evidence_weight from outcome join core.inference using (inference_id)""")
    return con
