"""Routers of trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor

from pipelines.learn.routers.base import Router, told_by_labels


class BoostingRouter(Router):
    """Gradient-boosted trees an arm, over `components` of the features' singular value decomposition (LSA, Deerwester et al. 1990)."""

    def __init__(self, features: Any = None, components: int = 64, iterations: int = 100, learning_rate: float = 0.05, random_state: int = 0):
        self.features = features
        self.components = components
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        Z = self._fit_matrix(X)
        self.svd_ = TruncatedSVD(min(self.components, Z.shape[1] - 1), random_state=self.random_state) if Z.shape[1] > self.components else None
        H = self.svd_.fit_transform(Z) if self.svd_ else self._dense(Z)
        self.trees_ = []
        for arm in range(rewards.shape[1]):
            rows = ~np.isnan(rewards[:, arm])
            trees = HistGradientBoostingRegressor(
                max_iter=self.iterations, learning_rate=self.learning_rate, max_leaf_nodes=15, min_samples_leaf=20, l2_regularization=5.0,
                random_state=self.random_state,
            )
            self.trees_.append(trees.fit(H[rows], rewards[rows, arm], weight[rows]))

    def _value(self, X: Any) -> np.ndarray:
        Z = self._matrix(X)
        H = self.svd_.transform(Z) if self.svd_ else self._dense(Z)
        return np.column_stack([trees.predict(H) for trees in self.trees_])

    @staticmethod
    def _dense(Z: Any) -> np.ndarray:
        return Z.toarray() if sparse.issparse(Z) else Z


class ForestRouter(Router):
    """Extremely randomised trees (Geurts et al. 2006), to whom a label is what it says of each arm: a hierarchy, with one partition for all arms.

    They are given each label's advantages, as `TaskMeanRouter` has them, the text's marks, the numbers and `components` of a singular value
    decomposition of words and embedding. One forest learns the level, another all arms' advantages: they share its leaves, so what is
    learned of one arm serves the others. Where some arms of a row were not seen, each arm has its own, over what the first foretells of
    rows its trees were not drawn with.

    label_columns: the columns (from, to) of a matrix X that are one-hot labels; with rows they are known.
    """

    def __init__(
        self, features: Any = None, label_columns: tuple[int, int] | None = None, plain_columns: Sequence[tuple[int, int]] = (), components: int = 32,
        trees: int = 60, least_rows: int = 40, label_shrinkage: float = 10.0, random_state: int = 0,
    ):
        self.features = features
        self.label_columns = label_columns
        self.plain_columns = plain_columns
        self.components = components
        self.trees = trees
        self.least_rows = least_rows
        self.label_shrinkage = label_shrinkage
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        Z = sparse.csr_matrix(self._fit_matrix(X))
        columns = getattr(self.features_, "columns_", {})
        labels = np.arange(*self._span("labels", self.label_columns))
        spans = [columns[name] for name in ("shape", "numbers") if name in columns] or list(self.plain_columns)
        plain = np.concatenate([np.arange(*span) for span in spans]) if spans else np.arange(0)
        other = np.setdiff1d(np.arange(Z.shape[1]), np.concatenate([labels, plain]))
        k = rewards.shape[1]
        # All that the trees are given is a product with the features: labels as what they say of each arm, plain columns as they are.
        is_wide = min(Z.shape[0], len(other)) > self.components
        plain = plain if is_wide else np.concatenate([plain, other])
        self.small_ = sparse.lil_matrix((Z.shape[1], k + len(plain)))
        self.small_[labels, :k] = told_by_labels(Z[:, labels], rewards - self.arm_mean_, weight, self.label_shrinkage)
        self.small_[plain, k + np.arange(len(plain))] = 1
        self.small_ = self.small_.tocsr()
        self.components_ = np.zeros((Z.shape[1], self.components if is_wide else 0), dtype=np.float32)
        if is_wide:
            self.components_[other] = TruncatedSVD(self.components, random_state=self.random_state).fit(Z[:, other]).components_.T
        some = np.flatnonzero(~np.isnan(rewards).all(axis=1))
        H, rest, weight = self._inputs(Z[some]), rewards[some] - self.arm_mean_, weight[some]
        seen = ~np.isnan(rest)
        level = np.nanmean(rest, axis=1)
        # Level and advantage together would part rows by level, which is most of what varies and says nothing of the choice.
        if seen.all():
            forests = [self._forest().fit(H, level, weight), self._forest().fit(H, rest - level[:, None], weight)]
        else:
            of_level = self._forest(bootstrap=True, oob_score=True).fit(H, level, weight)
            rest = rest - of_level.oob_prediction_[:, None]
            forests = [of_level, *(self._forest().fit(H[o], rest[o, arm], weight[o]) for arm, o in enumerate(seen.T))]
        self.forests_ = [_as_arrays([tree.tree_ for tree in forest.estimators_]) for forest in forests]

    def _forest(self, **how: Any) -> ExtraTreesRegressor:
        return ExtraTreesRegressor(self.trees, min_samples_leaf=self.least_rows, max_features=0.5, random_state=self.random_state, **how)

    def _value(self, X: Any) -> np.ndarray:
        H = self._inputs(sparse.csr_matrix(self._matrix(X)))
        level, *advantages = [np.vstack([_leaves(forest, H[start : start + 512]) for start in range(0, len(H), 512)]) for forest in self.forests_]
        return self.arm_mean_ + level + np.hstack(advantages)

    def _inputs(self, Z: sparse.csr_matrix) -> np.ndarray:
        return np.hstack([(Z @ self.small_).toarray(), Z @ self.components_]).astype(np.float32)


def _as_arrays(trees: Sequence[Any]) -> dict[str, np.ndarray]:
    """Fitted trees as plain arrays over all their nodes; a leaf's two children are itself.

    A file of them can be read without trusting compiled objects, and one row passes all trees in a few array operations.
    """
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    nodes = np.arange(starts[-1])
    offset = np.repeat(starts[:-1], np.diff(starts))
    left, right, feature, threshold = (np.concatenate([getattr(tree, name) for tree in trees]) for name in ("children_left", "children_right", "feature", "threshold"))
    is_leaf = left < 0
    return {
        "root": starts[:-1], "left": np.where(is_leaf, nodes, left + offset), "right": np.where(is_leaf, nodes, right + offset),
        "feature": np.where(is_leaf, 0, feature), "threshold": threshold, "value": np.concatenate([tree.value[:, :, 0] for tree in trees]),
        "depth": np.array(max(tree.max_depth for tree in trees)),
    }


def _leaves(forest: dict[str, np.ndarray], H: np.ndarray) -> np.ndarray:
    """(n, outputs) mean over the trees of the leaf each row falls into."""
    at, rows = np.tile(forest["root"], (len(H), 1)), np.arange(len(H))[:, None]
    for _ in range(int(forest["depth"])):
        at = np.where(H[rows, forest["feature"][at]] <= forest["threshold"][at], forest["left"][at], forest["right"][at])
    return forest["value"][at].mean(axis=1)
