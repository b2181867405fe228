"""How likely was each logged choice, where the log does not say? Propensities estimated from what was known before the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from pipelines.errors import StopTheLine
from pipelines.learn.logged_data import FOLDS, LoggedData

CHOICES = 30
"""Choices that a calibrated probability rests on at least: its error is then a sixth of it or so."""
LEARNT = 200_000
"""Calls, or candidates of calls, that propensities are learnt from; of more every so many are taken. They are calibrated on all."""


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
    rounds, leaves, boosted = (100, 31, _chances_of_pairs) if some.any() else (40, 4, _chances)
    ways = [(model, _chances) for model in models] if models else [
        (make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300)), _chances),
        (DecisionTreeClassifier(max_leaf_nodes=32, min_samples_leaf=50, random_state=seed), _chances),
        (HistGradientBoostingClassifier(max_iter=rounds, max_leaf_nodes=leaves, min_samples_leaf=40, early_stopping=False, random_state=seed), boosted),
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
