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

from pipelines.learn.routers.base import CostModel, Router, candidates
from pipelines.learn.routers.baselines import ArmMeanRouter, RandomRouter, TaskMeanRouter
from pipelines.learn.routers.combined import CombinedRouter
from pipelines.learn.routers.lines import LengthRouter, LogisticRouter, RidgeRouter
from pipelines.learn.routers.neighbours import KNNRouter
from pipelines.learn.routers.trees import BoostingRouter, ForestRouter

__all__ = [
    "ArmMeanRouter", "BoostingRouter", "CombinedRouter", "CostModel", "ForestRouter", "KNNRouter", "LengthRouter", "LogisticRouter", "RandomRouter",
    "RidgeRouter", "Router", "TaskMeanRouter", "candidates",
]
