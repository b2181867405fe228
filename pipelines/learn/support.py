"""Can these logs tell at all? What carries the weight, what the target does that was never tried, and whether propensities are true."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom, norm
from sklearn.tree import DecisionTreeClassifier

from pipelines.learn.intervals import standard_error
from pipelines.learn.logged_data import LoggedData

TREE_ROWS = 5_000
"""Rows that regions are learnt from; what was found is tested on all."""


@dataclass(frozen=True)
class Limit:
    """A figure beyond which an estimate is refused, and why there."""

    limit: float
    because: str


LIMITS = {
    "effective_sample_size": Limit(200, "below it intervals fall short of their level, and two policies closer than 5 % cannot be told apart"),
    "effective_sample_size, estimated": Limit(250, "estimated propensities err too, which weights do not show; from here on DR intervals covered as often as with the true ones"),
    "row_count, estimated": Limit(3_000, "propensities learnt from few calls err in ways intervals do not show: of equal policies, 6 % were called better at 1,000 and 2,000 calls of confounded logs"),
    "effective_heavy_count": Limit(20, "so few heavy traces do not show how far estimates scatter: where a draw holds few by chance, intervals covered 91 %"),
    "max_weight_share": Limit(0.05, "one trace that carries more than a twentieth of all weight decides the result alone"),
    "min_propensity": Limit(0.01, "a weight above 100 rests on one call in a hundred, and an error of 0.005 in such a propensity doubles it"),
    "low_propensity_weight_share": Limit(0.01, "rows below the smallest propensity may be there while they carry next to no weight"),
    "unsupported_share": Limit(1e-9, "what was never tried has no outcome to learn from; the error may be as large as this share"),
    "unseen_region_share": Limit(0.001, "outcomes lie in 0..1, so what is never tried there moves the value by no more than this"),
    "reward_range": Limit(0, "nothing shows how much they can differ, so none is better than another"),
    "false_alarm": Limit(0.001, "chance that any one check of the propensities refuses logs that are in order"),
}


@dataclass(frozen=True, eq=False)
class Regions:
    """What the context says about where actions were logged, whatever the target."""

    unseen: np.ndarray
    """n×k: in the row's region the action was logged never, or far less often than even the smallest of its propensities would have it."""
    likelihood_z: float
    """How much better a small tree foretells the logged actions than the propensities do, in clustered standard errors."""


@dataclass(frozen=True)
class Diagnostics:
    """What the weights of a target policy on logged decisions look like. Shares are of the rows' number or of the target's probability mass."""

    row_count: int
    cluster_count: int
    reward_range: float
    """The largest logged reward less the smallest."""
    propensity_kind: str
    effective_sample_size: float
    """Kish's (sum w)² / sum w² over clusters: as many independent, equally weighted traces would tell as much."""
    effective_sample_share: float
    """`effective_sample_size` over `cluster_count`."""
    effective_heavy_count: float
    """(sum w²)² / sum w⁴ over clusters: as many equally heavy traces would show as well how far weights, and so estimates, scatter. Where a few
    traces weigh much, chance alone decides how many there are, and `effective_sample_size` is the larger the fewer."""
    max_weight: float
    max_weight_share: float
    """Part of all weight that the heaviest cluster carries."""
    min_propensity: float
    """Smallest propensity among rows the target puts weight on."""
    low_propensity_weight_share: float
    """Part of all weight on propensities below the limit of `min_propensity`; of the target's mass, where all propensities are known."""
    mean_weight: float
    """1 in expectation where propensities are true and the target is supported."""
    mean_weight_z: float
    action_names: tuple[str, ...]
    action_z: tuple[float, ...]
    """By action: weight seen against the target's mass, in standard errors; nan where too few rows say."""
    candidate_z: tuple[float, ...]
    """The same for a target that would try everything: by action, inverse propensities seen against the calls it was a candidate of."""
    overlap_share: float
    """Part of the logged decisions the target could have made too (its probability above zero)."""
    unsupported_share: float
    """Target mass that certainly had no chance to be logged: on no candidate, on an action never logged, beside a choice made with certainty."""
    unseen_region_share: float
    """Target mass in regions of the context where the action was logged never, or far less often than even its smallest propensity would have it."""
    likelihood_z: float
    """How much better a small tree foretells the logged actions than the propensities do, in standard errors: true ones cannot be beaten."""


@dataclass(frozen=True)
class Verdict:
    """Whether the logs can tell; `reasons` why not, in plain words."""

    can_tell: bool
    reasons: tuple[str, ...]


def weights(logged: LoggedData, policy: np.ndarray) -> np.ndarray:
    """Importance weights: the target's probability of the logged action over its propensity."""
    return policy[np.arange(len(logged)), logged.action] / logged.propensity


def diagnose(logged: LoggedData, policy: np.ndarray, regions: Regions) -> Diagnostics:
    """Measure what `verdict` judges. `policy` is n×k probabilities."""
    n, rows = len(logged), np.arange(len(logged))
    chosen_mass = policy[rows, logged.action]
    weight = chosen_mass / logged.propensity
    by_cluster = np.bincount(logged.cluster, weights=weight, minlength=logged.cluster_count)
    total, carried = weight.sum(), weight > 0
    effective = float(total**2 / (by_cluster @ by_cluster)) if total > 0 else 0.0
    limit, known = LIMITS["min_propensity"].limit, logged.logging_policy
    if known is None:
        low = weight[logged.propensity < limit].sum() / total if total > 0 else 1.0
    else:
        low = policy[known < limit].sum() / n
    return Diagnostics(
        row_count=n,
        cluster_count=logged.cluster_count,
        reward_range=float(np.ptp(logged.reward)),
        propensity_kind=logged.propensity_kind,
        effective_sample_size=effective,
        effective_sample_share=effective / logged.cluster_count,
        effective_heavy_count=float((squares := (by_cluster / by_cluster.max()) ** 2).sum() ** 2 / (squares @ squares)) if total > 0 else 0.0,
        max_weight=float(weight.max()),
        max_weight_share=float(by_cluster.max() / total) if total > 0 else 1.0,
        min_propensity=float(logged.propensity[carried].min()) if carried.any() else math.nan,
        low_propensity_weight_share=float(low),
        mean_weight=float(weight.mean()),
        mean_weight_z=_z(weight - 1, logged),
        action_names=tuple(logged.action_names),
        action_z=tuple(_action_z(logged, policy, weight, action) for action in range(logged.action_count)),
        candidate_z=tuple(_action_z(logged, logged.candidates, 1 / logged.propensity, action) for action in range(logged.action_count)),
        overlap_share=float(carried.mean()),
        unsupported_share=_unsupported(logged, policy),
        unseen_region_share=float(policy[regions.unseen].sum() / n),
        likelihood_z=regions.likelihood_z,
    )


def verdict(found: Diagnostics) -> Verdict:
    """Refuse where an estimate would look more certain than it can be; each limit and its reason is in `LIMITS`."""
    reasons = []
    given = "estimated" if found.propensity_kind == "estimated" else "logged"

    def refuse(limit: str, text: str) -> None:
        reasons.append(f"{text}: {LIMITS[limit].because}")

    if found.reward_range <= LIMITS["reward_range"].limit:
        refuse("reward_range", "all rewards are alike")
    if found.unsupported_share > LIMITS["unsupported_share"].limit:
        refuse("unsupported_share", f"{_percent(found.unsupported_share)} of the target's choices had no chance to be logged")
    if found.unseen_region_share > LIMITS["unseen_region_share"].limit:
        refuse("unseen_region_share", f"{_percent(found.unseen_region_share)} of the target's choices lie in regions where that action was not logged")
    needed = "effective_sample_size" if given == "logged" else "effective_sample_size, estimated"
    if found.effective_sample_size < LIMITS[needed].limit:
        refuse(needed, f"the logs tell as much as {found.effective_sample_size:.0f} traces of the target, under {LIMITS[needed].limit}")
    if given == "estimated" and found.row_count < LIMITS["row_count, estimated"].limit:
        refuse("row_count, estimated", f"propensities are estimated from {found.row_count:,} calls, under {LIMITS['row_count, estimated'].limit:,}")
    if found.effective_heavy_count < LIMITS["effective_heavy_count"].limit:
        refuse("effective_heavy_count", f"what is heavy weighs as much as {found.effective_heavy_count:.0f} traces, under {LIMITS['effective_heavy_count'].limit}")
    if found.max_weight_share > LIMITS["max_weight_share"].limit:
        refuse("max_weight_share", f"one trace carries {_percent(found.max_weight_share)} of the weight")
    if found.low_propensity_weight_share > LIMITS["low_propensity_weight_share"].limit:
        refuse("min_propensity", f"{_percent(found.low_propensity_weight_share)} of the weight is on propensities under {LIMITS['min_propensity'].limit}, the smallest {found.min_propensity:.2g}")
    alarm = LIMITS["false_alarm"].limit
    if abs(found.mean_weight_z) > norm.isf(alarm / 2):
        reasons.append(
            f"weights average {found.mean_weight:.3f}, {found.mean_weight_z:+.1f} standard errors from 1: "
            f"the {given} propensities are wrong, or part of what the target does was never tried"
        )
    # What is never chosen because nothing is explored there is a matter of support, not of this: only logged propensities that say too little.
    for name, z in zip(found.action_names, found.candidate_z, strict=True):
        if given == "logged" and z > norm.isf(alarm / 2 / len(found.candidate_z)):
            reasons.append(f"{name} was logged more often than its {given} propensities say wherever it was a candidate, by {z:.1f} standard errors")
    for name, z in zip(found.action_names, found.action_z, strict=True):
        if abs(z) > norm.isf(alarm / 2 / len(found.action_z)):
            reasons.append(f"{name} was logged {'more' if z > 0 else 'less'} often than its {given} propensities say, by {abs(z):.1f} standard errors")
    if found.likelihood_z > norm.isf(alarm):
        reasons.append(f"a small tree foretells the logged actions better than the {given} propensities, by {found.likelihood_z:.1f} standard errors: they are wrong")
    return Verdict(not reasons, tuple(reasons))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _z(values: np.ndarray, logged: LoggedData, unseen: float = 0.0) -> float:
    """Mean of values against zero, in clustered standard errors. `unseen`: variance of the sum that is known to be there beside what the rows show."""
    by_cluster = np.bincount(logged.cluster, weights=values, minlength=logged.cluster_count)
    size = np.bincount(logged.cluster, minlength=logged.cluster_count)
    mean = values.mean()
    error = math.hypot(standard_error((by_cluster - mean * size) / len(values)), math.sqrt(unseen) / len(values))
    # All alike: no error to measure with. Weights of 1 are right; any other constant is not, and never by chance.
    return float(mean / error) if error > 1e-12 else (0.0 if abs(mean) < 1e-9 else math.copysign(math.inf, mean))


def _action_z(logged: LoggedData, policy: np.ndarray, weight: np.ndarray, action: int) -> float:
    seen = logged.action == action
    if (seen & (weight > 0)).sum() < 30:
        return math.nan
    more = seen * weight - policy[:, action]
    # What is lacking may belong to calls that rarely take this action: few were to come, each with a large weight, and that none came is no wonder.
    return _z(more, logged, unseen=max(-more.sum(), 0) / logged.propensity[seen].min())


def _unsupported(logged: LoggedData, policy: np.ndarray) -> float:
    never = np.bincount(logged.action, minlength=logged.action_count) == 0
    known = logged.logging_policy
    share = (policy * (never | (~logged.candidates if known is None else known == 0))).sum(axis=1)
    # A choice made with certainty leaves nothing to its neighbours. Estimated propensities are never that sure.
    certain = np.flatnonzero(logged.propensity >= 1 - 1e-9)
    share[certain] = 1 - policy[certain, logged.action[certain]]
    return float(np.clip(share, 0, 1).mean())


@dataclass(frozen=True, eq=False)
class _Half:
    """What a tree grown on the other half says of these rows, whatever their propensities: `path` rows×nodes, the rest counts clusters by node."""

    rows: np.ndarray
    path: csr_matrix
    chance: np.ndarray
    possible: np.ndarray
    seen: np.ndarray


def look_for_regions(logged: LoggedData, *, seed: int = 0) -> Regions:
    """Find regions of the context where an action was not logged, and whether a tree foretells actions better than the propensities.

    The rows (whole clusters) are halved; a tree that foretells the action from the context is grown on one half and tested on the other, both
    ways round, so that nothing it found by chance counts. True probabilities have the highest likelihood in expectation (Gibbs' inequality).
    """
    return weigh_regions(grow_regions(logged, seed=seed), logged)


def grow_regions(logged: LoggedData, *, seed: int = 0) -> list[_Half]:
    """The part of `look_for_regions` that takes time, and that does not look at propensities. Empty where there are too few rows."""
    k, halves = logged.action_count, []
    half = (np.random.default_rng(seed).permutation(logged.cluster_count) % 2)[logged.cluster].astype(bool)
    if min(half.sum(), (~half).sum()) < 50:
        return halves
    context = logged.context.astype(np.float32)
    for grown in (half, ~half):
        train, test = np.flatnonzero(grown), np.flatnonzero(~grown)
        # Rows may be in order of time; every so many rows are taken, not the first.
        train = train[:: -(-len(train) // TREE_ROWS)]
        tree = DecisionTreeClassifier(max_leaf_nodes=32, min_samples_leaf=25, random_state=seed).fit(context[train], logged.action[train])
        learnt = np.zeros((tree.tree_.node_count, k))
        np.add.at(learnt, (tree.apply(context[train]), logged.action[train]), 1)
        # Learnt frequencies over the row's candidates, with one call's worth of doubt spread evenly.
        chance = (learnt[tree.apply(context[test])] + 1 / k) * logged.candidates[test]
        # Every node is a region, for a leaf may be too small to show what its parent shows. Not "never": edges are guessed, so a few calls from
        # beyond one may lie inside.
        path = tree.decision_path(context[test])
        # Clusters are counted, not rows: a session may stick to the model it began with.
        member = csr_matrix((np.ones(len(test)), (logged.cluster[test], np.arange(len(test)))))
        possible, seen = (
            np.column_stack([((member @ path.multiply(rows[:, [action]])) > 0).sum(axis=0).A1 for action in range(k)])
            for rows in (logged.candidates[test], np.eye(k, dtype=bool)[logged.action[test]])
        )
        halves.append(_Half(test, path, chance[np.arange(len(test)), logged.action[test]] / chance.sum(axis=1), possible, seen))
    return halves


def weigh_regions(halves: list[_Half], logged: LoggedData) -> Regions:
    """The part of `look_for_regions` that compares what was grown with the propensities of `logged`."""
    n, k = len(logged), logged.action_count
    unseen, gain = np.zeros((n, k), dtype=bool), np.zeros(n)
    least = np.ones(k)
    np.minimum.at(least, logged.action, logged.propensity)
    least = np.clip(least, LIMITS["min_propensity"].limit, 1 - 1e-9)
    for half in halves:
        gain[half.rows] = np.log(half.chance / logged.propensity[half.rows])
        chance_of_so_few = binom.cdf(half.seen, half.possible, least)
        unseen[half.rows] = half.path @ (chance_of_so_few < LIMITS["false_alarm"].limit / chance_of_so_few.size).astype(np.float64) > 0
    return Regions(unseen, _z(gain, logged) if halves else 0.0)
