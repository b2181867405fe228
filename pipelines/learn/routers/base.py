"""What all routers share: the form of what they are given, the choice, what labels tell, and what an answer will cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from pipelines.errors import StopTheLine
from pipelines.learn.features import PromptFeatures, labels_of, shape_of, texts


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
        if len(rewards) != length_of(X):
            raise ValueError(f"{length_of(X)} rows of X, but {len(rewards)} of rewards")
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
        value = np.full((length_of(X), len(self.arms_)), np.nan)
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
        if is_matrix(X):
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


def is_matrix(X: Any) -> bool:
    return sparse.issparse(X) or (isinstance(X, np.ndarray) and X.ndim == 2)


def length_of(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def rows_of(X: Any, rows: np.ndarray) -> Any:
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else [X[i] for i in rows]


def level_and_advantage(sums: np.ndarray, counts: np.ndarray, arm_mean: np.ndarray, shrinkage: float) -> np.ndarray:
    """Values from (…, k) sums of rewards less their arm's mean and counts of them: level and advantage, each drawn to nothing by `shrinkage` rows."""
    level = sums.sum(axis=-1, keepdims=True) / (counts.sum(axis=-1, keepdims=True) + shrinkage)
    return arm_mean + level + (sums - level * counts) / (counts + shrinkage)


def told_by_labels(one_hot: Any, rest: np.ndarray, weight: np.ndarray, shrinkage: float) -> np.ndarray:
    """(labels, k) to multiply the one-hot columns with, of whatever scale: what each label says of the rewards less their arm's mean, as `TaskMeanRouter` has it."""
    scale = one_hot.max() if one_hot.shape[1] and one_hot.max() > 0 else 1.0
    member = (one_hot.T @ sparse.diags(weight)) / scale
    seen = ~np.isnan(rest)
    return level_and_advantage(member @ np.where(seen, rest, 0), member @ seen.astype(float), np.zeros(rest.shape[1]), shrinkage) / scale


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
        self.text_ = None if is_matrix(X) else text
        self.labels_ = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(labels_of(X, labels)) if labels and not is_matrix(X) else None
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
        if not length_of(X):
            return np.empty((0, len(self.mean_)))
        return np.clip(self._matrix(X) @ self.coef_ + self.intercept_, self.least_, self.most_)

    def _matrix(self, X: Any) -> Any:
        if self.text_ is None:
            return X
        prompts = texts(X, self.text_)
        blocks = [shape_of(prompts), np.array([len(p) for p in prompts], dtype=float)[:, None] / 1000]
        return np.hstack(blocks if self.labels_ is None else [*blocks, self.labels_.transform(labels_of(X, self.label_names_))])
