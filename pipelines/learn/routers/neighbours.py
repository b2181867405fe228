"""A router that asks what came of the requests most like this one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from pipelines.learn.routers.base import Router, level_and_advantage, told_by_labels


class KNNRouter(Router):
    """What the labels say, and of what they leave unexplained the mean over the requests most like this one (cosine of the other features).

    First each label's advantage, as `TaskMeanRouter` has it; what the neighbours add is drawn to nothing by `shrinkage` times as many rows.
    Exact search: an answer costs time in proportion to the rows learned from. More than `most_rows` are thinned evenly by chance.

    label_columns: the columns (from, to) of a matrix X that are one-hot labels; with rows they are known.
    """

    def __init__(
        self, features: Any = None, label_columns: tuple[int, int] | None = None, neighbours: int = 100, shrinkage: float = 0.5,
        label_shrinkage: float = 10.0, most_rows: int = 50_000, random_state: int = 0,
    ):
        self.features = features
        self.label_columns = label_columns
        self.neighbours = neighbours
        self.shrinkage = shrinkage
        self.label_shrinkage = label_shrinkage
        self.most_rows = most_rows
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        Z = self._fit_matrix(X)
        self.labels_ = self._span("labels", self.label_columns)
        labels, rest = Z[:, slice(*self.labels_)], rewards - self.arm_mean_
        self.told_ = told_by_labels(labels, rest, weight, self.label_shrinkage)
        rest = rest - labels @ self.told_
        if len(rest) > self.most_rows:
            kept = np.sort(np.random.default_rng(self.random_state).choice(len(rest), self.most_rows, replace=False))
            Z, rest, weight = Z[kept], rest[kept], weight[kept]
        # Columns that are nearly always filled go through dense products, which are far faster there.
        is_thick = Z.getnnz(axis=0) > 0.3 * Z.shape[0] if sparse.issparse(Z) else np.ones(Z.shape[1], dtype=bool)
        is_compared = np.ones(Z.shape[1], dtype=bool)
        is_compared[slice(*self.labels_)] = False
        self.thin_columns_, self.thick_columns_ = np.flatnonzero(is_compared & ~is_thick), np.flatnonzero(is_compared & is_thick)
        thin, thick = self._unit(Z)
        self.thin_, self.thick_ = thin.T.tocsr(), np.ascontiguousarray(thick.T)
        seen = ~np.isnan(rest)
        self.sum_ = np.where(seen, rest, 0) * weight[:, None]
        self.count_ = seen * weight[:, None]

    def _value(self, X: Any) -> np.ndarray:
        Z = self._matrix(X)
        near = np.vstack([self._value_of(Z[start : start + 512]) for start in range(0, Z.shape[0], 512)])
        return near + Z[:, slice(*self.labels_)] @ self.told_

    def _value_of(self, Z: Any) -> np.ndarray:
        thin, thick = self._unit(Z)
        like = (thin @ self.thin_).toarray() + thick @ self.thick_
        many = min(self.neighbours, like.shape[1])
        near = np.argpartition(like, like.shape[1] - many, axis=1)[:, like.shape[1] - many :]
        return level_and_advantage(self.sum_[near].sum(axis=1), self.count_[near].sum(axis=1), self.arm_mean_, self.shrinkage * many)

    def _unit(self, Z: Any) -> tuple[sparse.csr_matrix, np.ndarray]:
        Z = sparse.csr_matrix(Z)
        thin, thick = Z[:, self.thin_columns_], Z[:, self.thick_columns_].toarray()
        length = np.sqrt(np.asarray(thin.multiply(thin).sum(axis=1)) + (thick**2).sum(axis=1, keepdims=True))
        length[length == 0] = 1
        return sparse.diags(1 / length[:, 0]) @ thin, thick / length
