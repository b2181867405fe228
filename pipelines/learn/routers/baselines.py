"""Routers that read no text: beside them every other is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from pipelines.learn.features import labels_of
from pipelines.learn.routers.base import Router, length_of, level_and_advantage


class ArmMeanRouter(Router):
    """The same for every request: the best single arm, and at willingness_to_pay=0 the cheapest. Two baselines in one."""

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        pass

    def _value(self, X: Any) -> np.ndarray:
        return np.tile(self.arm_mean_, (length_of(X), 1))


class RandomRouter(Router):
    """A baseline: all arms worth the same, but for a random order in each row that `random_state` fixes."""

    def __init__(self, random_state: int = 0):
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        pass

    def _value(self, X: Any) -> np.ndarray:
        return self.arm_mean_.mean() + 1e-9 * np.random.default_rng(self.random_state).random((length_of(X), len(self.arm_mean_)))


class TaskMeanRouter(Router):
    """Each label's (each combination of labels') mean of each arm, drawn towards the arm's overall mean.

    A lookup, and hard to beat where tasks differ. `shrinkage`: how many answers the overall mean counts for (empirical Bayes, with
    the ratio of noise to signal given). An unknown label has the overall means.
    """

    wants_rows = True

    def __init__(self, labels: Sequence[str] = ("task",), shrinkage: float = 20.0):
        self.labels = labels
        self.shrinkage = shrinkage

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        keys, member = np.unique(self._keys(X), return_inverse=True)
        self.row_of_key_ = {key: i for i, key in enumerate(keys.tolist())}
        seen = ~np.isnan(rewards)
        add = sparse.csr_matrix((weight, (member, np.arange(len(member)))), shape=(len(keys), len(member)))
        sums, counts = add @ np.where(seen, rewards - self.arm_mean_, 0), add @ seen.astype(float)
        self.value_of_key_ = np.vstack([level_and_advantage(sums, counts, self.arm_mean_, self.shrinkage), self.arm_mean_])

    def _value(self, X: Any) -> np.ndarray:
        return self.value_of_key_[[self.row_of_key_.get(key, -1) for key in self._keys(X)]]

    def _keys(self, X: Any) -> list[str]:
        return ["\x1f".join(row) for row in labels_of(X, self.labels)]
