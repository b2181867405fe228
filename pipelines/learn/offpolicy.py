"""What a policy would have earned on decisions that another policy made: off-policy evaluation of logged, bandit-like feedback.

    logged = LoggedData(context, action, reward, propensity, action_count=3, cluster=trace)
    judge = OffPolicy(logged)
    found = judge.evaluate(policy)                    # policy: n×k probabilities of the target
    found.verdict.can_tell, found.reward["dr"].value, found.reward["dr"].interval
    judge.compare(None, policy).better                # against what was logged: True, False or None (cannot tell)

Names follow the literature: DM direct method; IPS inverse propensity score (Horvitz & Thompson 1952); SNIPS self-normalised (Swaminathan &
Joachims 2015); DR doubly robust (Dudík, Langford & Li 2011); SNDR self-normalised doubly robust; Switch-DR (Wang, Agarwal & Dudík 2017), its
threshold chosen by SLOPE (Su, Srinath & Krishnamurthy 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from sklearn.base import BaseEstimator

from pipelines.errors import StopTheLine
from pipelines.learn import intervals
from pipelines.learn.intervals import Interval, Terms
from pipelines.learn.logged_data import LoggedData, fit_reward, probabilities
from pipelines.learn.support import Diagnostics, Regions, Verdict, diagnose, look_for_regions, verdict, weights

ESTIMATORS = ("dm", "ips", "snips", "dr", "sndr", "switch_dr")
RECOMMENDED = "dr"
"""As small an error as any, and intervals that keep their level (tests/benchmarks/offpolicy.py)."""

NO_INTERVAL = {
    "dm": "its error is the reward model's, which no resampling of the same rows shows: plain intervals covered 17-32 % instead of 95 %",
    "switch_dr": "the part it takes from the reward model has an unknown error, and its threshold was chosen on the same rows",
}
NO_INTERVAL_ESTIMATED = "it leans on estimated propensities alone, and their error is not in its spread: intervals covered 79-89 %; see dr"
"""Of IPS and SNIPS; where the reward model stands behind (DR), errors of either cancel to first order."""
ALL_ALIKE = "all outcomes in the log are alike: nothing shows how much they can differ"
ROUNDING = 1e-9
"""A difference smaller than this, of outcomes in 0..1, is the arithmetic's."""
Method = Literal["skewed", "normal", "bootstrap", "empirical_bernstein"]


@dataclass(frozen=True)
class Estimate:
    """One estimator's figure for the mean outcome a call; `interval` None where none can be trusted, then `because` says why."""

    estimator: str
    value: float
    standard_error: float | None
    interval: Interval | None
    because: str = ""


@dataclass(frozen=True)
class Evaluation:
    """All estimates for one policy. Where `verdict.can_tell` is False, the figures are for looking at, not for deciding."""

    reward: dict[str, Estimate]
    cost_usd: dict[str, Estimate] | None
    diagnostics: Diagnostics
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """B minus A on the same rows. `better`: True, B beats A; False, A beats B; None, these logs cannot tell."""

    difference: Estimate
    better: bool | None
    verdict: Verdict


class OffPolicy:
    """Evaluates and compares policies on the same logged decisions; the reward model and the look for regions are fitted once, when first needed.

    `reward_model` and `predicted`: see `fit_reward`; `predicted` are cross-fitted rewards made elsewhere. `method` makes the intervals:
    "skewed" (default), "normal", "bootstrap" and the wide "empirical_bernstein", see intervals.py; all by cluster. The same seed gives the same figures.
    """

    def __init__(
        self, logged: LoggedData, *, reward_model: BaseEstimator | None = None, predicted: np.ndarray | None = None,
        method: Method = "skewed", seed: int = 0,
    ) -> None:
        if method not in get_args(Method):
            raise StopTheLine(f"no interval method {method!r}; there are {', '.join(get_args(Method))}")
        if predicted is not None and predicted.shape != (len(logged), logged.action_count):
            raise StopTheLine(f"predicted has the shape {predicted.shape}, where {(len(logged), logged.action_count)} is needed")
        self.logged, self.method, self.seed = logged, method, seed
        self._model, self._given = reward_model, predicted

    @cached_property
    def predicted(self) -> np.ndarray:
        """n×k cross-fitted rewards."""
        return fit_reward(self.logged, self._model, seed=self.seed) if self._given is None else self._given

    @cached_property
    def predicted_cost_usd(self) -> np.ndarray:
        """n×k cross-fitted costs in USD."""
        return fit_reward(self.logged, outcome=self.logged.cost_usd, seed=self.seed)

    @cached_property
    def regions(self) -> Regions:
        """Where actions were never seen, whatever the target."""
        return look_for_regions(self.logged, seed=self.seed)

    def evaluate(self, policy: np.ndarray) -> Evaluation:
        """The mean reward a call, and where costs were logged the mean cost in USD, under `policy`: n×k probabilities that sum to one."""
        policy = self._checked("policy", policy)
        found = diagnose(self.logged, policy, self.regions)
        cost = None
        if (spent := self.logged.cost_usd) is not None:
            cost = self._estimates(policy, spent, self.predicted_cost_usd, float(spent.max()))
        return Evaluation(self._estimates(policy, self.logged.reward, self.predicted, 1.0), cost, found, verdict(found))

    def compare(self, policy_a: np.ndarray | None, policy_b: np.ndarray, *, estimator: str = RECOMMENDED) -> Comparison:
        """Does B earn more than A? Paired on the same rows, so that what is alike in both cancels out.

        `policy_a` None is the policy that was logged: its value is the mean reward. "Beats" means that the two-sided 95 % interval of the
        difference lies above zero, so B is called better in at most 2.5 % of the cases where both are alike. Refuses where either is refused.
        """
        if estimator in NO_INTERVAL or estimator not in ESTIMATORS:
            raise StopTheLine(f"no comparison by {estimator!r}: choose one with an interval: {', '.join(e for e in ESTIMATORS if e not in NO_INTERVAL)}")
        sides, reasons, span = [], [], 0.0
        for sign, name, policy in ((-1, "A", policy_a), (1, "B", policy_b)):
            if policy is None:
                sides.append((sign, Terms(None, self.logged.reward, None)))
                span += 1
                continue
            policy = self._checked(f"policy {name}", policy)
            weight = weights(self.logged, policy)
            sides.append((sign, self._terms(estimator, policy, weight, self.logged.reward, self.predicted)))
            span += _span(estimator, weight, 1.0)
            reasons += [f"{name}: {reason}" for reason in verdict(diagnose(self.logged, policy, self.regions)).reasons]
        difference = self._estimate(f"{estimator}, B minus A", sides, span, alike=np.ptp(self.logged.reward) == 0)
        judged, better = Verdict(not reasons, tuple(reasons)), None
        if judged.can_tell and difference.interval is not None:
            better = True if difference.interval.low > ROUNDING else False if difference.interval.high < -ROUNDING else None
        return Comparison(difference, better, judged)

    def _checked(self, name: str, policy: np.ndarray) -> np.ndarray:
        return probabilities(name, policy, (len(self.logged), self.logged.action_count))

    def _terms(self, estimator: str, policy: np.ndarray, weight: np.ndarray, outcome: np.ndarray, predicted: np.ndarray) -> Terms:
        if estimator in ("ips", "snips"):
            return Terms(None, weight * outcome, None if estimator == "ips" else weight)
        base = np.einsum("nk,nk->n", policy, predicted)
        if estimator == "dm":
            return Terms(base, np.zeros_like(base), None)
        surprise = weight * (outcome - predicted[np.arange(len(outcome)), self.logged.action])
        return Terms(base, surprise, weight if estimator == "sndr" else None)

    def _estimates(self, policy: np.ndarray, outcome: np.ndarray, predicted: np.ndarray, top: float) -> dict[str, Estimate]:
        weight, found = weights(self.logged, policy), {}
        for estimator in ESTIMATORS:
            terms = self._terms("dr" if estimator == "switch_dr" else estimator, policy, weight, outcome, predicted)
            if estimator == "switch_dr":
                found[estimator] = Estimate(estimator, self._switched(terms, weight), None, None, NO_INTERVAL[estimator])
            else:
                found[estimator] = self._estimate(estimator, [(1, terms)], _span(estimator, weight, top), alike=np.ptp(outcome) == 0)
        return found

    def _estimate(self, name: str, sides: list[tuple[int, Terms]], span: float, *, alike: bool = False) -> Estimate:
        """A signed sum of estimates with its interval; none where all outcomes are `alike`."""
        sums = [(sign, terms.sums(self.logged.cluster, self.logged.cluster_count)) for sign, terms in sides]
        if any(s[:, 2].sum() == 0 for _, s in sums):
            return Estimate(name, float("nan"), None, None, "the target never chooses what was logged: all weights are zero")
        estimate = float(sum(sign * intervals.value(s.sum(axis=0)) for sign, s in sums))
        if name in NO_INTERVAL:
            return Estimate(name, estimate, None, None, NO_INTERVAL[name])
        if self.logged.cluster_count < 2:
            return Estimate(name, estimate, None, None, "all rows belong to one trace: nothing shows how much traces differ")
        if alike:
            return Estimate(name, estimate, None, None, ALL_ALIKE)
        if self.logged.propensity_kind == "estimated" and any(terms.base is None and sign > 0 for sign, terms in sides):
            return Estimate(name, estimate, None, None, NO_INTERVAL_ESTIMATED)
        moves = sum(sign * intervals.influence(s) for sign, s in sums)
        error = intervals.standard_error(moves)
        match self.method:
            case "skewed":
                return Estimate(name, estimate, error, intervals.skewed(estimate, moves))
            case "normal":
                return Estimate(name, estimate, error, intervals.normal(estimate, moves))
            case "bootstrap":
                return Estimate(name, estimate, error, intervals.bootstrap(sums, seed=self.seed))
        if any(terms.normaliser is not None for _, terms in sides):
            return Estimate(name, estimate, error, None, "a ratio: the empirical Bernstein bound is for means")
        scores = sum(sign * (s[:, 0] + s[:, 1]) for sign, s in sums)
        return Estimate(name, estimate, error, intervals.empirical_bernstein(scores, sums[0][1][:, 3], span))

    def _switched(self, terms: Terms, weight: np.ndarray) -> float:
        """Switch-DR: rows whose weight is above a threshold are left to the reward model.

        SLOPE picks the threshold: from no bias (all rows corrected) to none corrected, each step has less variance and more bias; it goes on
        while the bands estimate ± 2 standard errors still have a point in common. It looks at the spread of the estimates, never at a truth.
        """
        low, high, chosen = -np.inf, np.inf, float("nan")
        positive = weight[weight > 0]
        steps = np.unique(np.quantile(positive, [0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1.0]))[::-1] if positive.size else []
        for threshold in [*steps, 0.0]:
            kept = Terms(terms.base, np.where(weight <= threshold, terms.correction, 0.0), None)
            sums = kept.sums(self.logged.cluster, self.logged.cluster_count)
            estimate, band = float(intervals.value(sums.sum(axis=0))), 2 * intervals.standard_error(intervals.influence(sums))
            low, high = max(low, estimate - band), min(high, estimate + band)
            if low > high:
                break
            chosen = estimate
        return chosen


def _span(estimator: str, weight: np.ndarray, top: float) -> float:
    """Width of the range one row's score can take: outcomes in 0..top, weights up to the largest seen."""
    heaviest = float(weight.max())
    return top * heaviest if estimator in ("ips", "snips") else top * (1 + 2 * heaviest)
