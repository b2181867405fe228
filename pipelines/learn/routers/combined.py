"""The router to use: what several foretell, weighed by how right each proved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from pipelines.learn.features import texts
from pipelines.learn.frontier import calibration_error
from pipelines.learn.routers.base import Router, length_of, rows_of
from pipelines.learn.routers.lines import LogisticRouter
from pipelines.learn.routers.trees import ForestRouter


class CombinedRouter(Router):
    """The one to use: lines and trees over one set of features, weighed by what each foretold of rows it had not seen.

    Members are fitted on folds (equal texts in one fold), their out-of-fold levels and advantages are weighed by non-negative least squares
    (stacking, Wolpert 1992; Breiman 1996), separately, each against having nothing to say; members of no weight are dropped, the
    others fitted again on all rows. Where nothing can be foretold it becomes the best single arm. The least squares calibrate: a
    value is as far from the arm's mean as it proved right to be. `calibration_error_` is (k,) the expected calibration error that is
    left, out of fold. (A sigmoid an arm after it, Platt 1999, left that error as it was and cost a hundredth of APGR.)

    members: (name, router) pairs in place of the own ones; a router that has `wants_rows` is given the rows, the others the features.
    """

    def __init__(self, features: Any = None, members: Sequence[tuple[str, Router]] | None = None, folds: int = 5, random_state: int = 0):
        self.features = features
        self.members = members
        self.folds = folds
        self.random_state = random_state

    def _own_members(self) -> list[tuple[str, Router]]:
        at = getattr(self.features_, "columns_", {})
        plain = [at[name] for name in ("shape", "numbers") if name in at]
        return [
            ("logistic", LogisticRouter(word_columns=at.get("words"), label_columns=at.get("labels"), random_state=self.random_state)),
            ("forest", ForestRouter(label_columns=at.get("labels"), plain_columns=plain, random_state=self.random_state)),
        ]

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        Z = self._fit_matrix(X)
        members = list(self.members) if self.members is not None else self._own_members()
        foretold = np.broadcast_to(self.arm_mean_, (len(members), *rewards.shape)).copy()
        for learn, hold in self._folds(X, len(rewards)):
            for m, (_, member) in enumerate(members):
                rows = X if member.wants_rows else Z
                foretold[m, hold] = self._fit(member, rows_of(rows, learn), rewards[learn], weight[learn], rows_of(rows, hold))
        seen = ~np.isnan(rewards)
        rest = np.where(seen, rewards - self.arm_mean_, 0)
        level, advantage = self._parts(foretold)
        some = seen.any(axis=1)
        met = rest.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
        self.level_weight_ = _weigh(level[:, some], met[some], weight[some])
        # Where all arms were seen, their level is known; else it is what the members say.
        base = np.where(seen.all(axis=1), met, self.level_weight_ @ level)
        self.advantage_weight_ = _weigh(advantage[:, seen], (rest - base[:, None])[seen], np.broadcast_to(weight[:, None], seen.shape)[seen])
        self.member_names_ = [name for name, _ in members]
        stacked = self._stack(level, advantage)
        self.calibration_error_ = np.array([calibration_error(stacked[o, j].clip(0, 1), rewards[o, j]) for j, o in enumerate(seen.T)])
        self.fitted_ = []
        for (_, member), in_level, in_advantage in zip(members, self.level_weight_, self.advantage_weight_, strict=True):
            used = in_level > 0 or in_advantage > 0
            self.fitted_.append(clone(member).fit(X if member.wants_rows else Z, rewards, sample_weight=weight) if used else None)

    def _folds(self, X: Any, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Equal texts in one fold; that two rows have no text, or that all have the same, does not make them the same request."""
        same = np.arange(n)
        if self.features_ is not None:
            found = np.array(texts(X, self.features_.text), dtype=object)
            first = pd.factorize(found)[0]
            same = np.where(found == "", n + same, first) if first.any() else same
        groups = len(np.unique(same))
        return list(GroupKFold(min(self.folds, groups), shuffle=True, random_state=self.random_state).split(same, groups=same)) if groups > 1 else []

    def _fit(self, member: Router, rows: Any, rewards: np.ndarray, weight: np.ndarray, held: Any) -> np.ndarray:
        try:
            value = clone(member).fit(rows, rewards, sample_weight=weight).predict_value(held)
        except ValueError:
            if not np.isnan(rewards).all() and weight.any():
                raise
            return np.tile(self.arm_mean_, (length_of(held), 1))
        return np.where(np.isnan(value), self.arm_mean_, value)

    def _parts(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m, n) levels and (m, n, k) advantages, both as differences to what the arms' means already say."""
        levels = values.mean(axis=2)
        mean = self.arm_mean_.mean()
        return levels - mean, values - levels[:, :, None] - (self.arm_mean_ - mean)

    def _stack(self, level: np.ndarray, advantage: np.ndarray) -> np.ndarray:
        return self.arm_mean_ + (self.level_weight_ @ level)[:, None] + np.tensordot(self.advantage_weight_, advantage, axes=1)

    def _value(self, X: Any) -> np.ndarray:
        Z = self._matrix(X)
        values = np.empty((len(self.fitted_), length_of(X), len(self.arm_mean_)))
        for m, member in enumerate(self.fitted_):
            values[m] = self.arm_mean_ if member is None else member.predict_value(X if member.wants_rows else Z)
        return self._stack(*self._parts(values))


def _weigh(foretold: np.ndarray, met: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(m,) non-negative weights with which what (m, rows) members foretold comes nearest to what was met."""
    root = np.sqrt(weight)
    return nnls((foretold * root).T, met * root)[0]
