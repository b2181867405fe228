"""Routers that are linear in the features."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from pipelines.learn.features import texts
from pipelines.learn.routers.base import Router, told_by_labels


class RidgeRouter(Router):
    """Linear, on what the labels leave unexplained: ridge regression of the level on the features, then of each arm's advantage over it.

    First each label's advantage, as `TaskMeanRouter` has it. Where some arms of a row were not seen, the level taken away is one that
    other folds' rows predict, so that it has not seen the answer.

    label_columns: the columns (from, to) of a matrix X that are one-hot labels; with rows they are known.
    """

    def __init__(
        self, features: Any = None, label_columns: tuple[int, int] | None = None, alpha: float = 30.0, level_alpha: float = 3.0,
        label_shrinkage: float = 10.0, folds: int = 5, random_state: int = 0,
    ):
        self.features = features
        self.label_columns = label_columns
        self.alpha = alpha
        self.level_alpha = level_alpha
        self.label_shrinkage = label_shrinkage
        self.folds = folds
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        Z = self._fit_matrix(X)
        some = np.flatnonzero(~np.isnan(rewards).all(axis=1))
        Z, rest, weight = Z[some], rewards[some] - self.arm_mean_, weight[some]
        seen = ~np.isnan(rest)
        self.labels_ = self._span("labels", self.label_columns)
        labels = Z[:, slice(*self.labels_)]
        self.told_ = told_by_labels(labels, rest, weight, self.label_shrinkage)
        rest = rest - labels @ self.told_
        level = np.where(seen, rest, 0).sum(axis=1) / seen.sum(axis=1)
        self.level_ = self._ridge(self.level_alpha, Z).fit(Z, level, weight)
        if seen.all():
            advantage = self._ridge(self.alpha, Z).fit(Z, rest - level[:, None], weight)
            self.coef_, self.intercept_ = np.atleast_2d(advantage.coef_).T, np.atleast_1d(advantage.intercept_)
            return
        folds = KFold(min(self.folds, len(level)), shuffle=True, random_state=self.random_state).split(level) if len(level) > 1 else []
        foreseen = np.zeros(len(level))
        for learn, hold in folds:
            foreseen[hold] = self._ridge(self.level_alpha, Z).fit(Z[learn], level[learn], weight[learn]).predict(Z[hold])
        self.coef_, self.intercept_ = np.zeros((Z.shape[1], seen.shape[1])), np.zeros(seen.shape[1])
        for arm in range(seen.shape[1]):
            rows = np.flatnonzero(seen[:, arm])
            advantage = self._ridge(self.alpha, Z).fit(Z[rows], rest[rows, arm] - foreseen[rows], weight[rows])
            self.coef_[:, arm], self.intercept_[arm] = advantage.coef_, advantage.intercept_

    def _value(self, X: Any) -> np.ndarray:
        Z = self._matrix(X)
        return self.arm_mean_ + Z[:, slice(*self.labels_)] @ self.told_ + self.level_.predict(Z)[:, None] + Z @ self.coef_ + self.intercept_

    @staticmethod
    def _ridge(alpha: float, Z: Any) -> Ridge:
        return Ridge(alpha=alpha, solver="sparse_cg" if sparse.issparse(Z) else "cholesky", tol=1e-4)


class LengthRouter(RidgeRouter):
    """A baseline: only the text's length, logarithmic, and its square."""

    wants_rows = True

    def __init__(self, text: str = "prompt", alpha: float = 1.0):
        super().__init__(alpha=alpha)
        self.text = text

    def _fit_matrix(self, X: Any) -> np.ndarray:
        self.features_ = None
        return self._matrix(X)

    def _matrix(self, X: Any) -> np.ndarray:
        length = np.log1p([len(prompt) for prompt in texts(X, self.text)])[:, None] - 6
        return np.hstack([length, length**2])


class LogisticRouter(Router):
    """Logistic regressions of all arms at once; a reward between 0 and 1 counts as so much of each.

    Each arm's line is one that all arms share, times `shared`, plus its own, and both are drawn to nothing (multi-task learning, Evgeniou &
    Pontil 2004): what makes a request hard for any arm is learned from every answer. Where one arm a request was seen, `shared`
    counts twice.

    Beside the features themselves it is given `components` of the words' singular value decomposition (LSA, Deerwester et al. 1990), and
    these again for each label alone: what a topic says of an arm may differ by task. Fewer words than components: neither.

    word_columns, label_columns: the columns (from, to) of a matrix X that are words and one-hot labels; with rows they are known.
    """

    def __init__(
        self, features: Any = None, word_columns: tuple[int, int] | None = None, label_columns: tuple[int, int] | None = None, C: float = 0.1,
        shared: float = 0.75, components: int = 100, random_state: int = 0,
    ):
        self.features = features
        self.word_columns = word_columns
        self.label_columns = label_columns
        self.C = C
        self.shared = shared
        self.components = components
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        Z = sparse.csr_matrix(self._fit_matrix(X))
        self.words_, self.labels_ = self._span("words", self.word_columns), self._span("labels", self.label_columns)
        words = Z[:, slice(*self.words_)]
        is_wide = min(words.shape) > self.components
        svd = TruncatedSVD(self.components, random_state=self.random_state).fit(words) if is_wide else None
        self.components_ = svd.components_.T.astype(np.float32) if svd else np.zeros((words.shape[1], 0), dtype=np.float32)
        Z = self._inputs(Z)
        differs = (self.arm_mean_ > 0) & (self.arm_mean_ < 1)
        self.coef_ = np.zeros((Z.shape[1], rewards.shape[1]))
        self.intercept_ = np.where(self.arm_mean_ > 0.5, np.inf, -np.inf)  # of an arm that always failed, or always did well
        if differs.any():
            # Of answers to one request the difference is free of how hard it is, and a lone answer is not: the more of these, the more that is to be told by the shared line.
            arms_seen = (~np.isnan(rewards)).sum(axis=1)
            alone = (arms_seen * weight)[arms_seen == 1].sum() / (arms_seen * weight).sum()
            self.coef_[:, differs], self.intercept_[differs] = _logistic(Z, rewards[:, differs], weight, self.C, self.shared * (1 + alone))

    def _value(self, X: Any) -> np.ndarray:
        return _sigmoid(self._inputs(sparse.csr_matrix(self._matrix(X))) @ self.coef_ + self.intercept_)

    def _inputs(self, Z: sparse.csr_matrix) -> sparse.csr_matrix:
        """The features, the topics, and the topics times each label."""
        words = Z[:, slice(*self.words_)].astype(np.float32)  # else the product copies all components to 64 bits, for one row too
        labels, topics = Z[:, slice(*self.labels_)], words @ self.components_
        labels, topics = (normalize(block) if block.shape[1] else block for block in (labels, topics))
        d = topics.shape[1]
        of_row = np.repeat(np.arange(len(topics)), np.diff(labels.indptr))
        by_label = sparse.csr_matrix(
            ((labels.data[:, None] * topics[of_row]).ravel(), (labels.indices[:, None] * d + np.arange(d)).ravel(), labels.indptr * d),
            shape=(len(topics), labels.shape[1] * d),
        )
        return sparse.hstack([Z, sparse.csr_matrix(0.7 * topics), by_label], format="csr")


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(x / 2)


def _logistic(Z: sparse.csr_matrix, rewards: np.ndarray, weight: np.ndarray, C: float, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """(d, k) coefficients and (k,) intercepts, the latter not drawn to nothing; cells of NaN are left out.

    As one line over rows that stand once for every arm, with the features written twice, a library's regression would find the same
    in some ten times the memory.
    """
    (_, d), k = Z.shape, rewards.shape[1]
    seen = ~np.isnan(rewards)
    count = C * seen * weight[:, None]
    rewards = np.where(seen, rewards, 0.0)
    back = Z.T.tocsr()
    mean = ((count * rewards).sum(axis=0) / count.sum(axis=0)).clip(1e-6, 1 - 1e-6)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        common, own, intercept = at[:d], at[d:-k].reshape(d, k), at[-k:]
        logit = Z @ (own + shared * common[:, None]) + intercept
        error = count * (_sigmoid(logit) - rewards)
        slope = back @ error
        slopes = np.concatenate([shared * slope.sum(axis=1) + common, (slope + own).ravel(), error.sum(axis=0)])
        return (count * (np.logaddexp(0, logit) - rewards * logit)).sum() + 0.5 * (at[:-k] @ at[:-k]), slopes

    start = np.concatenate([np.zeros(d * (k + 1)), np.log(mean / (1 - mean))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-6}).x
    return found[d:-k].reshape(d, k) + shared * found[:d, None], found[-k:]
