"""A router's file gives back the same router, and nothing else is ever opened."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from skops import io as skops

from pipelines.errors import StopTheLine
from pipelines.learn.features import PromptFeatures, UniversalSentenceEncoder
from pipelines.learn.model_file import load, save
from pipelines.learn.routers import (
    ArmMeanRouter,
    BoostingRouter,
    CombinedRouter,
    ForestRouter,
    KNNRouter,
    LengthRouter,
    LogisticRouter,
    RandomRouter,
    RidgeRouter,
    TaskMeanRouter,
)

TEXT = PromptFeatures(labels=["task"], numbers=["tools"])
ROWS = pd.DataFrame({"prompt": [f"word{i % 7} other{i % 3}" for i in range(60)], "task": ["a", "b", "c"] * 20, "tools": [0.0, 1.0] * 30})
REWARDS = pd.DataFrame(np.eye(2)[np.arange(60) % 2], columns=["small", "large"])
COSTS = pd.DataFrame(np.tile([0.1, 0.2], (60, 1)), columns=REWARDS.columns)
ALL = [
    ArmMeanRouter(), RandomRouter(), LengthRouter(), TaskMeanRouter(), KNNRouter(TEXT), RidgeRouter(TEXT), LogisticRouter(TEXT),
    BoostingRouter(TEXT, iterations=5), ForestRouter(TEXT, components=4, trees=5, least_rows=5), CombinedRouter(TEXT, folds=3),
]


class Bomb:
    """Leaves a mark where it is made from a pickle."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def hashed(path: Path) -> Path:
    """As one would who can write both files."""
    Path(f"{path}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest() + f"  {path.name}\n")
    return path


@pytest.mark.parametrize("router", ALL, ids=lambda router: type(router).__name__)
def test_the_same_router_comes_back(router, tmp_path: Path) -> None:
    router.fit(ROWS, REWARDS, COSTS)
    digest = save(router, tmp_path / "models" / "router.skops")
    assert (tmp_path / "models" / "router.skops.sha256").read_text() == f"{digest}  router.skops\n"
    again = load(tmp_path / "models" / "router.skops")
    assert (again.predict_value(ROWS) == router.predict_value(ROWS)).all()
    assert again.predict(ROWS, 0.5).tolist() == router.predict(ROWS, 0.5).tolist()
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["router.skops", "router.skops.sha256"]


def test_a_file_comes_back_that_names_routers_by_their_package(tmp_path: Path) -> None:
    router = CombinedRouter(TEXT, folds=3).fit(ROWS, REWARDS, COSTS)
    save(router, tmp_path / "new.skops")
    with zipfile.ZipFile(tmp_path / "new.skops") as new, zipfile.ZipFile(tmp_path / "old.skops", "w") as old:
        for name in new.namelist():
            old.writestr(name, re.sub(rb"(pipelines\.learn\.routers)\.\w+\"", rb'\1"', new.read(name)))
    assert "pipelines.learn.routers.CombinedRouter" in skops.get_untrusted_types(file=tmp_path / "old.skops")
    assert (load(hashed(tmp_path / "old.skops")).predict_value(ROWS) == router.predict_value(ROWS)).all()


@pytest.mark.parametrize("write", [lambda b, p: p.write_bytes(pickle.dumps(b)), joblib.dump], ids=["pickle", "joblib"])
def test_a_pickle_is_never_opened(write, tmp_path: Path) -> None:
    path, mark = tmp_path / "router.skops", tmp_path / "mark"
    write(Bomb(mark), path)
    with pytest.raises(StopTheLine, match=r"no skops file"):
        load(hashed(path))
    assert not mark.exists()
    pickle.loads(path.read_bytes()) if write is not joblib.dump else joblib.load(path)
    assert mark.exists()  # it would have gone off


def test_a_type_that_is_not_trusted_is_never_made(tmp_path: Path) -> None:
    router = ArmMeanRouter().fit(ROWS, REWARDS)
    mark = tmp_path / "mark"
    router.cost_model_ = partial(os.mkdir, str(mark))
    path = tmp_path / "router.skops"
    path.write_bytes(skops.dumps(router))
    with pytest.raises(StopTheLine, match="not trusted"):
        load(hashed(path))
    assert not mark.exists()


def test_a_changed_cut_or_lone_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "router.skops"
    save(ArmMeanRouter().fit(ROWS, REWARDS), path)
    whole = path.read_bytes()
    for changed in (whole[:-1], whole.replace(b"arm_mean_", b"arm_meam_"), whole[:30] + bytes([whole[30] ^ 1]) + whole[31:], b""):
        path.write_bytes(changed)
        with pytest.raises(StopTheLine, match="changed or cut"):
            load(path)
        with pytest.raises(StopTheLine):
            load(hashed(path))
        (tmp_path / "router.skops.sha256").write_text(hashlib.sha256(whole).hexdigest())
    path.write_bytes(whole)
    assert load(path).predict(ROWS).tolist()
    Path(f"{path}.sha256").unlink()
    with pytest.raises(StopTheLine, match="No router"):
        load(path)
    with pytest.raises(StopTheLine, match="No router"):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    ("part", "content"),
    [("schema.json", b"[]"), ("schema.json", b"{}"), ("schema.json", b"\xff"), ("schema.json", b'"' * 5), ("schema.json", b"[" * 100_000), (".npy", b""), (".npy", "pickle")],
)
def test_a_crafted_file_is_refused_and_runs_nothing(part: str, content: bytes | str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps(Bomb(mark)) if content == "pickle" else content
    save(RidgeRouter(TEXT).fit(ROWS, REWARDS), tmp_path / "whole.skops")
    with zipfile.ZipFile(tmp_path / "whole.skops") as whole, zipfile.ZipFile(tmp_path / "router.skops", "w") as crafted:
        for name in whole.namelist():
            crafted.writestr(name, content if name.endswith(part) else whole.read(name))
    with pytest.raises(StopTheLine, match=r"router\.skops (is no skops file|holds parts)"):
        load(hashed(tmp_path / "router.skops"))
    assert not mark.exists()


def test_what_is_no_router_is_refused(tmp_path: Path) -> None:
    (tmp_path / "router.skops").write_bytes(skops.dumps({"arms": [1, 2]}))
    with pytest.raises(StopTheLine, match="no router, but something of type dict"):
        load(hashed(tmp_path / "router.skops"))


class Embedder:
    """A user's own."""

    def transform(self, prompts: list[str]) -> np.ndarray:
        return np.ones((len(prompts), 2))


def test_a_users_embedder_is_trusted_by_name_and_the_encoder_by_us(tmp_path: Path) -> None:
    path = tmp_path / "router.skops"
    save(RidgeRouter(PromptFeatures(embedder=Embedder())).fit(ROWS, REWARDS), path)
    with pytest.raises(StopTheLine, match="Embedder"):
        load(path)
    name = f"{Embedder.__module__}.Embedder"
    assert load(path, trusted=[name]).predict(ROWS).shape == (60,)
    save(RidgeRouter(PromptFeatures(embedder=UniversalSentenceEncoder())), path)
    assert load(path).features.embedder.characters == 2000
    assert path.stat().st_size < 20_000
