"""What exploring would buy, and what it would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from pipelines.errors import StopTheLine
from pipelines.learn.logged_data import LoggedData, probabilities


@dataclass(frozen=True)
class Exploration:
    """What to expect after `call_count` calls where a share `epsilon_share` of them is sent to any candidate, evenly."""

    epsilon_share: float
    call_count: int
    effective_sample_size: float
    half_width: float
    """Of the doubly robust 95 % interval of the target's mean reward."""
    detectable_difference: float
    """Smallest true difference between the target and the greedy policy that would be found in 80 % of the cases."""
    regret: float
    """Reward a call that exploring gives up against always choosing greedily; negative where the greedy choice is not the best."""
    extra_cost_usd: float | None
    """Cost a call that exploring adds; None where no costs are given."""

    def scaled(self, spread: float) -> Exploration:
        """The same in the units of rewards that were divided by `spread` to lie within 0..1."""
        return replace(self, half_width=spread * self.half_width, detectable_difference=spread * self.detectable_difference, regret=spread * self.regret)


def advise(
    logged: LoggedData, greedy: np.ndarray, target: np.ndarray, predicted: np.ndarray, *, calls_per_day: int, days: int = 7,
    epsilons: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2), predicted_cost_usd: np.ndarray | None = None,
) -> list[Exploration]:
    """One row an ε, for logging by (1 - ε) · `greedy` + ε · even over candidates; `greedy` and `target` are n×k probabilities on the calls of
    `logged`, `predicted` their n×k rewards (`fit_reward`).

    The width follows from the variance of the doubly robust score: Var q(target) + E sum target²/logging · noise, with the noise of each
    action the mean square error of `predicted` where that action was logged (inverse-propensity weighted). Calls are taken to be independent.
    """
    if calls_per_day < 1 or days < 1:
        raise StopTheLine("calls_per_day and days are at least 1")
    shape = (len(logged), logged.action_count)
    greedy, target = probabilities("greedy", greedy, shape), probabilities("target", target, shape)
    even = logged.candidates / logged.candidates.sum(axis=1, keepdims=True)
    error = (logged.reward - predicted[np.arange(len(logged)), logged.action]) ** 2
    noise = np.full(logged.action_count, np.average(error, weights=1 / logged.propensity))
    for action in range(logged.action_count):
        seen = logged.action == action
        if seen.sum() >= 30:
            noise[action] = np.average(error[seen], weights=1 / logged.propensity[seen])
    calls, advice = calls_per_day * days, []
    for epsilon in epsilons:
        if not 0 < epsilon <= 1:
            raise StopTheLine(f"ε is {epsilon}; it is in (0, 1]")
        logging = (1 - epsilon) * greedy + epsilon * even

        def per_row(numerator: np.ndarray, over: np.ndarray = logging) -> np.ndarray:
            return np.divide(numerator, over, out=np.zeros_like(over), where=over > 0)

        if (target[logging == 0] > 0).any():
            raise StopTheLine("the target chooses what is no candidate; no exploration would show it")
        gap = target - greedy
        variance = np.einsum("nk,nk->n", target, predicted).var() + (per_row(target**2) @ noise).mean()
        variance_of_gap = np.einsum("nk,nk->n", gap, predicted).var() + (per_row(gap**2) @ noise).mean()
        advice.append(
            Exploration(
                epsilon_share=epsilon,
                call_count=calls,
                effective_sample_size=calls / per_row(target**2).sum(axis=1).mean(),
                half_width=norm.ppf(0.975) * math.sqrt(variance / calls),
                detectable_difference=(norm.ppf(0.975) + norm.ppf(0.8)) * math.sqrt(variance_of_gap / calls),
                regret=epsilon * float(((greedy - even) * predicted).sum(axis=1).mean()),
                extra_cost_usd=None if predicted_cost_usd is None else epsilon * float(((even - greedy) * predicted_cost_usd).sum(axis=1).mean()),
            )
        )
    return advice
