"""Training sets out of public feedback, all the way from raw lines to files with cards."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.settings import ROOT
from tests.benchmarks.feedback_sets import training_sets

DATA = ROOT.parent / "shared" / "data"
FILES = ("feedback/realhumaneval/chat_data.csv.gz", "outcomes/routellm/gsm8k/gsm8k_responses.csv.gz")


def test_copies_and_right_answers_become_training_sets(tmp_path: Path) -> None:
    data = next((d for d in (DATA, ROOT.parents[1] / "shared" / "data") if all((d / f).is_file() for f in FILES)), None)
    if data is None:
        pytest.skip(f"needs {' and '.join(FILES)} in {DATA}")
    for kind, built in training_sets(data, tmp_path, 150).items():
        for unit in ("calls", "examples"):
            steps = [s for s in built.funnel if s["unit"] == unit]
            assert all(s["before_count"] - s["dropped_count"] == s["kept_count"] for s in steps) and all(a["kept_count"] == b["before_count"] for a, b in pairwise(steps))
        assert built.funnel[-1]["kept_count"] == sum(built.counts.values()) > 20
        rows = [json.loads(line) for path in (tmp_path / kind).glob("*.jsonl") for line in path.read_text().splitlines()]
        assert len(rows) == sum(built.counts.values())
        card = (tmp_path / kind / "README.md").read_text()
        assert built.dataset_version in card and all(f"| {s['stage']} | {s['unit']} |" in card for s in built.funnel)
        if kind == "kto":
            assert {r["label"] for r in rows} == {True, False}
        if kind == "preference":
            assert all(r["chosen"] != r["rejected"] for r in rows)
