"""Logged decisions: what was known, what was chosen, how likely that was, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.preprocessing import StandardScaler

from pipelines.errors import StopTheLine

FOLDS = 3
"""Folds of cross-fitting. Two give away half of the rows of a rarely chosen action; more than three cost time and change little."""
PENALTIES = np.logspace(1, 5, 5)
SMALLEST, LARGEST = 1e-12, 1e30
"""No propensity is smaller and no feature or cost larger: sums of squares overflow beyond."""


@dataclass(frozen=True, eq=False)
class LoggedData:
    """n decisions among k actions, checked when made; arrays come out as float64, int64 and bool.

    `context` n×d features known before the decision (d may be 0); `action` n numbers 0..k-1; `reward` n values in [0, 1];
    `propensity` n probabilities of the logged action, or n×k probabilities of all actions, in which case `logging_policy` keeps them;
    `candidates` n×k, which actions could be chosen at all (default: all); `cluster` n labels: rows that share one (a trace, a tenant)
    may depend on each other, rows that do not are taken to be independent (default: each row alone); `cost_usd` n costs of the logged calls;
    `action_names` k names, of models say, for whoever reads why logs cannot tell (default: "action 0" and so on).
    Rows whose reward is unknown are to be left out before, and said so.

    Raises `StopTheLine` where a value cannot be what it is said to be, naming the first row.
    """

    context: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray
    action_count: int
    candidates: np.ndarray | None = None
    cluster: np.ndarray | None = None
    cost_usd: np.ndarray | None = None
    propensity_kind: Literal["logged", "estimated"] = "logged"
    logging_policy: np.ndarray | None = None
    action_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        keep = object.__setattr__
        n, k = len(self.action), self.action_count
        if n == 0:
            raise StopTheLine("no logged decisions: nothing can be said about any policy; look at the filter that chose the rows")
        if k < 2:
            raise StopTheLine(f"{k} action: with fewer than two there is no decision to judge; give all candidates as actions, chosen or not")
        if self.propensity_kind not in ("logged", "estimated"):
            raise StopTheLine(f"propensity_kind is {self.propensity_kind!r}; it is 'logged' or 'estimated'")
        names = tuple(f"action {number}" for number in range(k)) if self.action_names is None else tuple(self.action_names)
        if len(names) != k:
            raise StopTheLine(f"{len(names)} action_names, where {k} are needed")
        context = _floats("context", self.context, (n, None))
        _refuse("context", (np.abs(context) > LARGEST).any(axis=1), f"beyond {LARGEST:g}; scale it first")
        if context.shape[1] == 0:
            context = np.zeros((n, 1))
        given = _floats("action", self.action, (n,))
        _refuse("action", (given != np.floor(given)) | (given < 0) | (given >= k), f"not a number from 0 to {k - 1}")
        action = given.astype(np.int64)
        reward = _floats("reward", self.reward, (n,))
        _refuse("reward", (reward < 0) | (reward > 1), "outside 0..1; scale it first, the limits of intervals rest on it")
        candidates = np.ones((n, k), dtype=bool) if self.candidates is None else _matrix("candidates", self.candidates, (n, k)).astype(bool)
        rows = np.arange(n)
        _refuse("action", ~candidates[rows, action], "chosen though it was no candidate; candidates or actions are wrong")
        propensity = np.asarray(self.propensity)
        logging_policy = self.logging_policy
        if propensity.ndim == 2:
            logging_policy = propensity
        if logging_policy is not None:
            logging_policy = probabilities("propensity", logging_policy, (n, k))
            _refuse("propensity", ((logging_policy > 0) & ~candidates).any(axis=1), "above zero for an action that was no candidate")
            if propensity.ndim == 2:
                propensity = logging_policy[rows, action]
        propensity = _floats("propensity", propensity, (n,))
        _refuse("propensity", (propensity <= 0) | (propensity > 1), "not in (0, 1]; what was chosen had a chance, and weights divide by it")
        _refuse("propensity", propensity < SMALLEST, f"below {SMALLEST:g}: what is so unlikely is never chosen; give the probability it was drawn with")
        cluster = rows if self.cluster is None else _numbered(_matrix("cluster", self.cluster, (n,)))
        cost = None if self.cost_usd is None else _floats("cost_usd", self.cost_usd, (n,))
        if cost is not None:
            _refuse("cost_usd", (cost < 0) | (cost > LARGEST), f"below zero or beyond {LARGEST:g}")
        for name, value in {
            "context": context, "action": action, "reward": reward, "propensity": propensity, "candidates": candidates,
            "cluster": cluster, "cost_usd": cost, "logging_policy": logging_policy, "action_names": names,
        }.items():
            keep(self, name, value)

    def __len__(self) -> int:
        return len(self.action)

    @property
    def cluster_count(self) -> int:
        """How many independent pieces the rows fall into."""
        return int(self.cluster.max()) + 1

    def folds(self, count: int = FOLDS, seed: int = 0) -> Iterator[np.ndarray]:
        """Masks of the rows of each fold; a cluster is never divided. Raises `StopTheLine` with fewer clusters than folds."""
        if self.cluster_count < count:
            raise StopTheLine(f"{self.cluster_count} clusters cannot make {count} folds; gather logs of more traces or tenants")
        fold = (np.random.default_rng(seed).permutation(self.cluster_count) % count)[self.cluster]
        return (fold == number for number in range(count))


def probabilities(name: str, value: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """n×k action probabilities, checked: none below zero, each row sums to one (to 1e-6). Raises `StopTheLine`."""
    checked = _floats(name, value, shape)
    _refuse(name, (checked < 0).any(axis=1) | (np.abs(checked.sum(axis=1) - 1) > 1e-6), "not probabilities that sum to one")
    return checked


def fit_reward(
    logged: LoggedData, model: BaseEstimator | None = None, *, outcome: np.ndarray | None = None, folds: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """n×k predictions of the reward of every action, each row's made without the fold its cluster is in (cross-fitting, so that the
    intervals of doubly robust estimators need not trust the model; Chernozhukov et al. 2018).

    Default: ridge regression on standardised features in three steps: each action's mean, what the context adds for all actions alike, and
    what it adds for one action beside that. So a rarely chosen action borrows from all others what makes a call hard. Penalties are chosen by
    leave-one-out error. With `model`, any scikit-learn regressor, or a classifier where all rewards are 0 or 1: one an action, and an action
    that a fold cannot learn gets the mean of all rewards. Predictions are kept within the rewards seen. `outcome` replaces the reward, for
    example by `cost_usd`.
    """
    target = logged.reward if outcome is None else outcome
    if model is not None and is_classifier(model) and not np.isin(target, (0, 1)).all():
        raise StopTheLine("a classifier as reward model needs rewards of 0 and 1; give a regressor")
    predicted = np.empty((len(logged), logged.action_count))
    for test in logged.folds(folds, seed):
        known = logged.context[~test], logged.action[~test], target[~test], logged.context[test], logged.action_count
        predicted[test] = _borrowing(*known) if model is None else _one_an_action(model, *known)
    return np.clip(predicted, target.min(), target.max())


def _borrowing(context: np.ndarray, action: np.ndarray, target: np.ndarray, asked: np.ndarray, action_count: int) -> np.ndarray:
    scale = StandardScaler().fit(context)
    context, asked = scale.transform(context), scale.transform(asked)
    # Shrunk towards all actions: three equal rewards say little.
    count = np.bincount(action, minlength=action_count)
    mean = (np.bincount(action, weights=target, minlength=action_count) + 2 * target.mean()) / (count + 2)
    left = target - mean[action]
    slopes, level = _ridge(context, left)
    left = left - (context @ slopes + level)
    predicted = (asked @ slopes + level)[:, None] + mean
    for one in np.flatnonzero(count >= 10):
        seen = action == one
        slopes, level = _ridge(context[seen], left[seen])
        predicted[:, one] += asked @ slopes + level
    return predicted


def _ridge(features: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Slopes and level of ridge regression, the penalty the one of `PENALTIES` with the least leave-one-out error. What scikit-learn's RidgeCV
    gives, in a sixth of its time where rows are many: all penalties share one eigendecomposition of the features' small Gram matrix.
    """
    middle, level = features.mean(axis=0), target.mean()
    centred, wanted = features - middle, target - level
    values, vectors = np.linalg.eigh(centred.T @ centred)
    rotated = centred @ vectors
    seen, squares = rotated.T @ wanted, rotated**2

    def left_out_error(penalty: float) -> float:
        shrunk = 1 / (np.maximum(values, 0) + penalty)
        residual = (wanted - rotated @ (shrunk * seen)) / (1 - 1 / len(target) - squares @ shrunk)
        return float(residual @ residual)

    slopes = vectors @ (seen / (np.maximum(values, 0) + min(PENALTIES, key=left_out_error)))
    return slopes, float(level - middle @ slopes)


def _one_an_action(
    model: BaseEstimator, context: np.ndarray, action: np.ndarray, target: np.ndarray, asked: np.ndarray, action_count: int
) -> np.ndarray:
    predicted = np.empty((len(asked), action_count))
    for one in range(action_count):
        seen = action == one
        learnt = target[seen]
        if learnt.size < 2 or (learnt == learnt[0]).all():
            predicted[:, one] = (learnt.sum() + 2 * target.mean()) / (learnt.size + 2)
            continue
        fitted = clone(model).fit(context[seen], learnt)
        predicted[:, one] = fitted.predict_proba(asked)[:, 1] if is_classifier(fitted) else fitted.predict(asked)
    return predicted


def _numbered(labels: np.ndarray) -> np.ndarray:
    _refuse("cluster", pd.isna(labels), "missing; a row that belongs to no trace gets a label of its own")
    try:
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise StopTheLine(f"cluster mixes kinds of labels that cannot be put in order: {error}") from error


def _matrix(name: str, value: object, shape: tuple[int | None, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != len(shape) or any(want is not None and have != want for have, want in zip(array.shape, shape, strict=True)):
        wanted = " × ".join("any" if want is None else f"{want:,}" for want in shape)
        raise StopTheLine(f"{name} has the shape {array.shape}, where {wanted} is needed")
    return array


def _floats(name: str, value: object, shape: tuple[int | None, ...]) -> np.ndarray:
    try:
        array = _matrix(name, value, shape).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise StopTheLine(f"{name} is not numbers: {error}") from error
    _refuse(name, ~np.isfinite(array).reshape(len(array), -1).all(axis=1), "missing, infinite or no numbers")
    return array


def _refuse(name: str, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        raise StopTheLine(f"{name}: {int(wrong.sum()):,} of {wrong.size:,} rows are {what}; the first is row {int(wrong.argmax())}")
