"""Routers: which model should answer this request, learned from what answers were worth.

All have scikit-learn's manners (`fit`, `predict`, `get_params`, `clone`, usable as the last step of a Pipeline) and one shape:

    fit(X, rewards, costs=None, sample_weight=None, propensity=None)
        X           rows (a DataFrame, or texts), or a matrix of features
        rewards     (n, k), 0..1: what each arm's answer was worth; NaN where it was not seen. A DataFrame's columns name the arms
        costs       (n, k): what each answer cost, in any one currency; NaN where unknown
        propensity  (n,): how likely the one arm seen was to be chosen, for the log of a policy that explored. It is checked, and not
                    weighed by: a model of what rewards depend on needs no weights where the log holds what the old policy saw, and
                    weighing costs rows (it won nothing on real outcomes). Whoever judges the router needs it (`offpolicy`)
    predict_value(X)    (n, k) expected reward; NaN for an arm never seen
    predict_cost(X)     (n, k) expected cost; NaN for an arm of which no cost was ever seen
    predict(X, willingness_to_pay, allowed, fallback)    (n,) the arm to call

The choice maximises value · willingness_to_pay − cost (RouterBench's λ·P − cost, arXiv 2403.12031): the money one is ready to pay
for one whole unit of reward. Infinite, the default, asks for quality alone; 0 asks for the cheapest.

Differences between arms are small against the noise of one answer, so everything here shrinks: a router learns first the *level*
(how well any arm does on such a request), then each arm's *advantage* over that level, and believes the second less. Where one arm
a request was seen, taking away the level takes away noise that has nothing to do with the choice (Nie & Wager 2021, "R-learner").
Deterministic: the same input and parameters give the same router.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import minimize, nnls
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.preprocessing import OneHotEncoder, normalize
from sklearn.utils.validation import check_is_fitted

from pipelines.errors import StopTheLine
from pipelines.learn.features import PromptFeatures, labels_of, shape_of, texts
from pipelines.learn.frontier import calibration_error


def candidates(
    arms: pd.DataFrame, *, regions: Sequence[str] | None = None, service_tiers: Sequence[str] | None = None,
    max_latency_ms: float | None = None, context_tokens: Sequence[float] | None = None,
) -> np.ndarray:
    """Which arms may answer: (k,), or (n, k) with the `context_tokens` of n requests. An unknown fact does not pass a limit on it.

    arms: one row an arm, in the router's order, with the columns its limits need: region, service_tier, latency_ms, context_window_tokens.
    """
    allowed = np.ones(len(arms), dtype=bool)
    if regions is not None:
        allowed &= arms["region"].isin(regions).to_numpy()
    if service_tiers is not None:
        allowed &= arms["service_tier"].isin(service_tiers).to_numpy()
    if max_latency_ms is not None:
        allowed &= arms["latency_ms"].to_numpy(dtype=float, na_value=np.nan) <= max_latency_ms
    if context_tokens is None:
        return allowed
    return allowed & (np.asarray(context_tokens, dtype=float)[:, None] <= arms["context_window_tokens"].to_numpy(dtype=float, na_value=np.nan))


class Router(BaseEstimator):
    """What all routers share: the form of what they are given, costs, and the choice. See the module."""

    wants_rows = False  # inside a combination: rows as they came, not the features made of them

    def fit(self, X: Any, rewards: Any, costs: Any = None, sample_weight: Any = None, propensity: Any = None) -> Router:
        """Learns. Raises ValueError where shapes do not match, rewards lie outside 0..1, or none was seen."""
        self.arms_ = rewards.columns.tolist() if isinstance(rewards, pd.DataFrame) else list(range(np.shape(rewards)[1]))
        rewards = np.array(rewards, dtype=float)
        seen = ~np.isnan(rewards)
        if len(rewards) != _length(X):
            raise ValueError(f"{_length(X)} rows of X, but {len(rewards)} of rewards")
        if not seen.any():
            raise ValueError("not one reward was seen: nothing can be learned")
        if not ((rewards[seen] >= 0) & (rewards[seen] <= 1)).all():
            raise ValueError("rewards must lie in 0..1, and be NaN where an arm was not seen")
        weight = np.ones(len(rewards)) if sample_weight is None else np.array(sample_weight, dtype=float)
        if len(weight) != len(rewards) or not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
            raise ValueError("sample_weight must be one finite number ≥ 0 a row, not all of them 0")
        if propensity is not None:
            _check_propensity(np.asarray(propensity, dtype=float), seen)
        weight = weight / weight.mean()
        rewards[weight == 0] = np.nan
        seen &= weight[:, None] > 0
        self.is_seen_ = seen.any(axis=0)
        rewards, seen = rewards[:, self.is_seen_], seen[:, self.is_seen_]
        self.arm_mean_ = (np.where(seen, rewards, 0) * weight[:, None]).sum(axis=0) / (seen * weight[:, None]).sum(axis=0)
        self._learn(X, rewards, weight)
        self.cost_model_ = None if costs is None else CostModel(self._features_parameter()).fit(X, costs)
        return self

    def predict_value(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "arm_mean_")
        value = np.full((_length(X), len(self.arms_)), np.nan)
        if len(value):
            value[:, self.is_seen_] = np.clip(self._value(X), 0, 1)
        return value

    def predict_cost(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "arm_mean_")
        if self.cost_model_ is None:
            raise ValueError("no costs were given to fit: only willingness_to_pay=inf can be asked for")
        return self.cost_model_.predict(X)

    def predict(
        self, X: Any, willingness_to_pay: float = np.inf, allowed: np.ndarray | None = None, fallback: Any = None
    ) -> np.ndarray:
        """(n,) arms, as `arms_` names them.

        allowed: (k,) or (n, k), as `candidates` answers; fallback: the arm for rows that allow none. An arm of unknown value, or of
        unknown cost where cost counts, is not chosen. Raises StopTheLine where a row is left with no arm and there is no fallback.
        """
        utility = self.predict_value(X)
        if np.isfinite(willingness_to_pay):
            utility = utility * willingness_to_pay - self.predict_cost(X)
        elif self.cost_model_ is not None:  # of equally good arms the one that is cheaper on the whole
            utility = utility - 1e-12 * self.cost_model_.rank_
        utility[np.isnan(utility)] = -np.inf
        if allowed is not None:
            utility = np.where(allowed, utility, -np.inf)
        choice = np.array(self.arms_)[utility.argmax(axis=1)]
        without = np.isneginf(utility).all(axis=1)
        if without.any():
            if fallback is None:
                raise StopTheLine(
                    f"{without.sum()} of {len(without)} requests (the first is row {without.argmax()}) have no arm that is allowed and known. "
                    "Widen the limits, or name a fallback arm."
                )
            if fallback not in self.arms_:
                raise ValueError(f"the fallback {fallback!r} is none of the arms {self.arms_}")
            choice[without] = fallback
        return choice

    def score(self, X: Any, rewards: Any, sample_weight: Any = None) -> float:
        """Mean reward of the arms chosen for quality alone, over rows where the chosen arm's was seen; NaN where none was.

        What scikit-learn's searches compare. On logs of one arm a row it is fair only where that arm was drawn evenly: judge by `offpolicy`.
        """
        value = np.nan_to_num(self.predict_value(X), nan=-np.inf)
        got = np.take_along_axis(np.asarray(rewards, dtype=float), value.argmax(axis=1)[:, None], axis=1)[:, 0]
        seen = ~np.isnan(got)
        return float(np.average(got[seen], weights=None if sample_weight is None else np.asarray(sample_weight)[seen])) if seen.any() else float("nan")

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        raise NotImplementedError

    def _value(self, X: Any) -> np.ndarray:
        raise NotImplementedError

    def _features_parameter(self) -> Any:
        return getattr(self, "features", None)

    def _span(self, name: str, given: tuple[int, int] | None) -> tuple[int, int]:
        """The columns (from, to) of a kind of feature: where fitted features put them, else those given for a matrix; (0, 0) where there are none."""
        return getattr(self.features_, "columns_", {}).get(name, given) or (0, 0)

    def _fit_matrix(self, X: Any) -> Any:
        """X as a matrix; where X is rows, by a fresh copy of `features` (plain PromptFeatures by default) that is kept."""
        self.features_ = None
        if _is_matrix(X):
            return X
        self.features_ = clone(self.features) if self.features is not None else PromptFeatures()
        return self.features_.fit_transform(X)

    def _matrix(self, X: Any) -> Any:
        return X if self.features_ is None else self.features_.transform(X)


def _check_propensity(propensity: np.ndarray, seen: np.ndarray) -> None:
    if (seen.sum(axis=1) > 1).any():
        raise ValueError("propensities are for rows where one arm was seen; these have several")
    if propensity.shape != seen.shape[:1] or not ((propensity > 0) & (propensity <= 1)).all():
        raise ValueError("propensity must be one number in ]0, 1] a row")


def _is_matrix(X: Any) -> bool:
    return sparse.issparse(X) or (isinstance(X, np.ndarray) and X.ndim == 2)


def _length(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _take(X: Any, rows: np.ndarray) -> Any:
    if isinstance(X, pd.DataFrame):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else [X[i] for i in rows]


def _level_and_advantage(sums: np.ndarray, counts: np.ndarray, arm_mean: np.ndarray, shrinkage: float) -> np.ndarray:
    """Values from (…, k) sums of rewards less their arm's mean and counts of them: level and advantage, each drawn to nothing by `shrinkage` rows."""
    level = sums.sum(axis=-1, keepdims=True) / (counts.sum(axis=-1, keepdims=True) + shrinkage)
    return arm_mean + level + (sums - level * counts) / (counts + shrinkage)


class ArmMeanRouter(Router):
    """The same for every request: the best single arm, and at willingness_to_pay=0 the cheapest. Two baselines in one."""

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        pass

    def _value(self, X: Any) -> np.ndarray:
        return np.tile(self.arm_mean_, (_length(X), 1))


class RandomRouter(Router):
    """A baseline: all arms worth the same, but for a random order in each row that `random_state` fixes."""

    def __init__(self, random_state: int = 0):
        self.random_state = random_state

    def _learn(self, X: Any, rewards: np.ndarray, weight: np.ndarray) -> None:
        pass

    def _value(self, X: Any) -> np.ndarray:
        return self.arm_mean_.mean() + 1e-9 * np.random.default_rng(self.random_state).random((_length(X), len(self.arm_mean_)))


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
        self.value_of_key_ = np.vstack([_level_and_advantage(sums, counts, self.arm_mean_, self.shrinkage), self.arm_mean_])

    def _value(self, X: Any) -> np.ndarray:
        return self.value_of_key_[[self.row_of_key_.get(key, -1) for key in self._keys(X)]]

    def _keys(self, X: Any) -> list[str]:
        return ["\x1f".join(row) for row in labels_of(X, self.labels)]


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
        self.told_ = _told_by_labels(labels, rest, weight, self.label_shrinkage)
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
        return _level_and_advantage(self.sum_[near].sum(axis=1), self.count_[near].sum(axis=1), self.arm_mean_, self.shrinkage * many)

    def _unit(self, Z: Any) -> tuple[sparse.csr_matrix, np.ndarray]:
        Z = sparse.csr_matrix(Z)
        thin, thick = Z[:, self.thin_columns_], Z[:, self.thick_columns_].toarray()
        length = np.sqrt(np.asarray(thin.multiply(thin).sum(axis=1)) + (thick**2).sum(axis=1, keepdims=True))
        length[length == 0] = 1
        return sparse.diags(1 / length[:, 0]) @ thin, thick / length


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
        self.told_ = _told_by_labels(labels, rest, weight, self.label_shrinkage)
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


def _told_by_labels(one_hot: Any, rest: np.ndarray, weight: np.ndarray, shrinkage: float) -> np.ndarray:
    """(labels, k) to multiply the one-hot columns with, of whatever scale: what each label says of the rewards less their arm's mean, as `TaskMeanRouter` has it."""
    scale = one_hot.max() if one_hot.shape[1] and one_hot.max() > 0 else 1.0
    member = (one_hot.T @ sparse.diags(weight)) / scale
    seen = ~np.isnan(rest)
    return _level_and_advantage(member @ np.where(seen, rest, 0), member @ seen.astype(float), np.zeros(rest.shape[1]), shrinkage) / scale


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
        self.small_[labels, :k] = _told_by_labels(Z[:, labels], rewards - self.arm_mean_, weight, self.label_shrinkage)
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
                foretold[m, hold] = self._fit(member, _take(rows, learn), rewards[learn], weight[learn], _take(rows, hold))
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
            return np.tile(self.arm_mean_, (_length(held), 1))
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
        values = np.empty((len(self.fitted_), _length(X), len(self.arm_mean_)))
        for m, member in enumerate(self.fitted_):
            values[m] = self.arm_mean_ if member is None else member.predict_value(X if member.wants_rows else Z)
        return self._stack(*self._parts(values))


def _weigh(foretold: np.ndarray, met: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(m,) non-negative weights with which what (m, rows) members foretold comes nearest to what was met."""
    root = np.sqrt(weight)
    return nnls((foretold * root).T, met * root)[0]


class CostModel(BaseEstimator):
    """Expected cost of each arm: a line in the text's length and marks and its labels, kept within what was seen of the arm."""

    def __init__(self, features: Any = None):
        self.features = features

    def fit(self, X: Any, costs: Any) -> CostModel:
        costs = np.array(costs, dtype=float)
        seen = ~np.isnan(costs)
        if np.isinf(costs).any() or (costs[seen] < 0).any():
            raise ValueError("costs must be finite and ≥ 0, and NaN where unknown")
        text, labels = getattr(self.features, "text", "prompt"), list(getattr(self.features, "labels", ()))
        self.text_ = None if _is_matrix(X) else text
        self.labels_ = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(labels_of(X, labels)) if labels and not _is_matrix(X) else None
        self.label_names_ = labels
        Z = self._matrix(X)
        k = costs.shape[1]
        self.least_, self.most_, self.mean_ = (np.full(k, np.nan) for _ in range(3))
        self.coef_, self.intercept_ = np.full((Z.shape[1], k), np.nan), np.full(k, np.nan)
        for arm in range(k):
            rows = np.flatnonzero(seen[:, arm])
            if len(rows):
                line = Ridge(alpha=1.0, solver="auto").fit(Z[rows], costs[rows, arm])
                self.coef_[:, arm], self.intercept_[arm] = line.coef_, line.intercept_
                self.least_[arm], self.most_[arm], self.mean_[arm] = costs[rows, arm].min(), costs[rows, arm].max(), costs[rows, arm].mean()
        self.rank_ = np.argsort(np.argsort(np.nan_to_num(self.mean_, nan=np.inf), kind="stable")) / k
        return self

    def predict(self, X: Any) -> np.ndarray:
        if not _length(X):
            return np.empty((0, len(self.mean_)))
        return np.clip(self._matrix(X) @ self.coef_ + self.intercept_, self.least_, self.most_)

    def _matrix(self, X: Any) -> Any:
        if self.text_ is None:
            return X
        prompts = texts(X, self.text_)
        blocks = [shape_of(prompts), np.array([len(p) for p in prompts], dtype=float)[:, None] / 1000]
        return np.hstack(blocks if self.labels_ is None else [*blocks, self.labels_.transform(labels_of(X, self.label_names_))])
