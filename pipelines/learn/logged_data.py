"""Logged decisions: what was known, what was chosen, how likely that was, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from pipelines.errors import StopTheLine

FOLDS = 3
"""Folds of cross-fitting. Two give away half of the rows of a rarely chosen action; more than three cost time and change little."""
CHOICES = 30
"""Choices that a calibrated probability rests on at least: its error is then a sixth of it or so."""
LEARNT = 200_000
"""Calls, or candidates of calls, that propensities are learnt from; of more every so many are taken. They are calibrated on all."""
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


def estimate_propensity(logged: LoggedData, models: Sequence[BaseEstimator] | None = None, *, folds: int = FOLDS, seed: int = 0) -> LoggedData:
    """The same decisions with propensities estimated from `context` and the candidates, marked as estimated; those given before are not looked
    at, so for logs that have none, ones will do.

    Each of `models` is cross-fitted by cluster, calibrated on held-out choices, and renormalised over each row's candidates; the one under which
    the held-out actions are likeliest is taken. Default: multinomial logistic regression, which fits policies that lean on many features a
    little, a tree, which finds rules with steps, and boosted trees, for what lies between. Those given are scikit-learn classifiers with
    probabilities, which see the context and beside it which of the candidates that are not everywhere the row had.

    Calibrated means: no step of a probability rests on fewer than `CHOICES` choices, so that no weight is a guess, and each action is foretold
    as often as it was chosen. What chose the action but is not in `context` stays unseen: then estimates are biased, and no check can tell.
    Raises `StopTheLine` where too few actions were chosen.
    """
    rows, best, best_likelihood = np.arange(len(logged)), None, -np.inf
    some = logged.candidates.any(axis=0) & ~logged.candidates.all(axis=0)
    shown = np.hstack([logged.context, logged.candidates[:, some]])
    boosting = HistGradientBoostingClassifier(early_stopping=False, min_samples_leaf=40, random_state=seed)
    ways = [(model, _chances) for model in models] if models else [
        (make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300)), _chances),
        (DecisionTreeClassifier(max_leaf_nodes=32, min_samples_leaf=50, random_state=seed), _chances),
        (clone(boosting).set_params(max_iter=100, max_leaf_nodes=31), _chances_of_pairs) if some.any()
        else (clone(boosting).set_params(max_iter=40, max_leaf_nodes=4), _chances),
    ]
    for model, learn in ways:
        policy = np.empty((len(logged), logged.action_count))
        for test in logged.folds(folds, seed):
            # Trees this small are done before threads have met; on a busy machine waiting for one another takes minutes.
            with threadpool_limits(1, user_api="openmp"):
                policy[test] = learn(model, shown, logged, test)
        policy = _shared_out(np.maximum(policy, 1 / len(logged)), logged.candidates)
        propensity = _calibrated(policy, logged, folds, seed)[rows, logged.action]
        if (likelihood := np.log(propensity).mean()) > best_likelihood:
            best, best_likelihood = propensity, likelihood
    return replace(logged, propensity=best, propensity_kind="estimated", logging_policy=None)


def _chances(model: BaseEstimator, shown: np.ndarray, logged: LoggedData, test: np.ndarray) -> np.ndarray:
    """k probabilities a row of `test`, learnt from all others."""
    seen, counts = np.unique(logged.action[~test], return_counts=True)
    # Of fewer rows nothing is learnt; such an action keeps the floor.
    learnable = seen[counts >= 10]
    if learnable.size < 2:
        raise StopTheLine("fewer than two actions were chosen often enough to estimate propensities; there is no exploration to learn from")
    train, chances = np.flatnonzero(~test & np.isin(logged.action, learnable)), np.zeros((test.sum(), logged.action_count))
    train = train[:: -(-len(train) // LEARNT)]
    fitted = clone(model).fit(shown[train], logged.action[train])
    chances[:, fitted.classes_] = fitted.predict_proba(shown[test])
    return chances


def _chances_of_pairs(model: BaseEstimator, shown: np.ndarray, logged: LoggedData, test: np.ndarray) -> np.ndarray:
    """The same, asked of each candidate of a row: was it chosen? What counts is which others it stood beside, so one model for all actions
    learns more than one an action; it sees the action's number, and how many of the others are chosen more often where they can be.
    """
    offered, k = logged.candidates, logged.action_count
    chosen = np.bincount(logged.action[~test], minlength=k) / np.maximum(offered[~test].sum(axis=0), 1)

    def features(rows: np.ndarray, action: np.ndarray) -> np.ndarray:
        rivals = (offered[rows] & (chosen > chosen[action][:, None])).sum(axis=1)
        return np.column_stack([action, rivals, offered[rows].sum(axis=1), shown[rows]])

    train = np.flatnonzero(~test)
    train = train[:: -(-int(offered[train].sum()) // LEARNT)]
    at, action = np.nonzero(offered[train])
    row = train[at]
    # More categories than bins are left in the order of their numbers.
    fitted = clone(model).set_params(categorical_features=[0] if k < 255 else None).fit(features(row, action), logged.action[row] == action)
    chances, place = np.zeros((len(logged), k)), np.flatnonzero(test)
    for one in range(k):
        if (rows := place[offered[place, one]]).size:
            chances[rows, one] = fitted.predict_proba(features(rows, np.full(len(rows), one)))[:, 1]
    return chances[place]


def _shared_out(chances: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Over candidates alone, each row's sum one."""
    chances = chances * candidates
    return chances / chances.sum(axis=1, keepdims=True)


def _calibrated(policy: np.ndarray, logged: LoggedData, folds: int, seed: int) -> np.ndarray:
    """`policy` with each fold's chances put right by what was chosen in the others: a chance says how often candidates of such a chance were
    chosen, whichever they are (isotonic), and then each action is as likely, over all rows, as it was chosen (iterative proportional fitting).
    """
    taken, free = np.eye(logged.action_count, dtype=bool)[logged.action], logged.candidates.sum(axis=1) > 1
    better = policy.copy()
    for test in logged.folds(folds, seed):
        known, asked = ~test & free, test & free
        if not known.any():
            continue
        pairs = logged.candidates[known]
        edges, share = _steps(policy[known][pairs], taken[known][pairs])

        def stepped(chances: np.ndarray, rows: np.ndarray, edges: np.ndarray = edges, share: np.ndarray = share) -> np.ndarray:
            return _shared_out(share[np.maximum(np.searchsorted(edges, chances[rows], side="right") - 1, 0)], logged.candidates[rows])

        learnt, factor = stepped(policy, known), np.ones(logged.action_count)
        # One call's worth of doubt, for an action never chosen.
        seen = taken[known].sum(axis=0) + 1
        for _ in range(20):
            factor *= seen / (_shared_out(learnt * factor, logged.candidates[known]).sum(axis=0) + 1)
        better[asked] = _shared_out(stepped(policy, asked) * factor, logged.candidates[asked])
    return better


def _steps(chance: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each step of the isotonic fit of `chosen` on `chance` begins, and its share chosen. Steps of fewer than `CHOICES` choices, which
    would make weights of hundreds at the lower end, are merged into whichever neighbour is nearer.
    """
    order = np.argsort(chance, kind="stable")
    chance, chosen = chance[order], chosen[order].astype(np.float64)
    fitted = IsotonicRegression().fit_transform(chance, chosen)
    first = np.flatnonzero(np.diff(fitted, prepend=-1) > 0)
    edges, hits, size = list(chance[first]), list(np.add.reduceat(chosen, first)), list(np.diff(first, append=len(chance)))
    while len(hits) > 1 and min(hits) < CHOICES:
        here, share = int(np.argmin(hits)), np.divide(hits, size)
        below = here == len(hits) - 1 or (here > 0 and share[here] - share[here - 1] < share[here + 1] - share[here])
        after = here if below else here + 1
        edges.pop(after)
        hits[after - 1] += hits.pop(after)
        size[after - 1] += size.pop(after)
    return np.array(edges), np.divide(hits, size)


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
