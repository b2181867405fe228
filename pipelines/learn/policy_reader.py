"""Reads a published routing policy and chooses a model. Standard library only: copy this one file into your gateway.

    policy = Policy.load("policy.json")
    decision = policy.choose("Summarise this contract: …", workload="contract_summary")
    decision.model                      # call this
    log["routing_decision"] = decision.as_log()   # and log this: the next policy is learnt from it

The policy scores every model from the words of the prompt, its length and its workload, takes off what the call will cost, and picks
the best; with the planned share of exploration it picks any candidate, evenly. The propensity it gives is exact: the probability with
which this model was chosen for this prompt, which is what off-policy evaluation divides by.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = "inference-flywheel-policy/1"
WORD = re.compile(r"\w+")
READ_CHARACTERS = 8_000
"""Of longer prompts the beginning and the end are read: where the task is said."""


def terms(prompt: str) -> list[str]:
    """The words and word pairs of a prompt, as the policy knows them."""
    if len(prompt) > READ_CHARACTERS:
        prompt = prompt[: READ_CHARACTERS // 2] + " " + prompt[-READ_CHARACTERS // 2 :]
    words = WORD.findall(prompt.lower())
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]


@dataclass(frozen=True)
class Decision:
    """What was chosen, how likely that was, and among what."""

    model: str
    propensity: float
    policy: str
    candidates: tuple[str, ...]
    is_explored: bool

    def as_log(self) -> dict[str, Any]:
        """What to put in the call's log, as `routing_decision` in LiteLLM's metadata."""
        return {"policy": self.policy, "candidates": list(self.candidates), "propensity": self.propensity}


def _is_whole(plain: dict[str, Any]) -> bool:
    """Whether a policy has all that a choice needs, for each of its models; raises KeyError, TypeError and the like where it has something else."""
    models, value, cost, worth = plain["models"], plain["value"], plain["cost_usd"], plain["willingness_to_pay_usd"]
    by_model = [value["intercept"], value["log_length"], cost["base"], cost["per_character"], *value["workload"].values(), *value["terms"].values()]
    return (
        all(isinstance(name, str) for name in [plain["policy_version"], *models])
        and len(models) == len(set(models)) > 0
        and 0 <= plain["exploration_share"] <= 1
        and (worth is None or 0 < worth < math.inf)
        and all(len(numbers) == len(models) and all(map(math.isfinite, numbers)) for numbers in by_model)
        and all(math.isfinite(value["idf"][term]) for term in value["terms"])
        and all(isinstance(names, list) for names in plain.get("candidates", {}).values())
    )


class Policy:
    """A policy as published. Safe to share between threads; `choose` changes nothing in it."""

    def __init__(self, plain: dict[str, Any]):
        """Raises ValueError where this is no policy: found out here, and not at a caller's first prompt."""
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise ValueError(f"this is no policy of the format {FORMAT}")
        try:
            is_whole = _is_whole(plain)
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise ValueError(f"this policy cannot be used: {type(error).__name__}: {error}") from error
        if not is_whole:
            raise ValueError("this policy cannot be used: a number is missing or outside its range")
        self.version: str = plain["policy_version"]
        self.models: list[str] = plain["models"]
        self.epsilon: float = plain["exploration_share"]
        self.willingness_to_pay_usd: float | None = plain["willingness_to_pay_usd"]
        self._value, self._cost, self._candidates = plain["value"], plain["cost_usd"], plain.get("candidates", {})

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Raises ValueError where the file is no policy."""
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
        except RecursionError as error:
            raise ValueError(f"this is no policy of the format {FORMAT}") from error
        return cls(plain)

    def values(self, prompt: str, workload: str | None = None) -> list[float]:
        """Expected outcome (0..1) of each of `models`."""
        value = self._value
        scores = list(value["intercept"])
        for n, weight in enumerate(value["workload"].get(workload or "", ())):
            scores[n] += weight
        size = math.log1p(len(prompt))
        for n, weight in enumerate(value["log_length"]):
            scores[n] += weight * size
        counts: dict[str, int] = {}
        known = value["terms"]
        for term in terms(prompt):
            if term in known:
                counts[term] = counts.get(term, 0) + 1
        if counts:
            weights = {term: (1 + math.log(count)) * value["idf"][term] for term, count in counts.items()}
            norm = math.sqrt(sum(w * w for w in weights.values()))
            for term, weight in weights.items():
                for n, by_model in enumerate(known[term]):
                    scores[n] += weight / norm * by_model
        return [min(max(score, 0.0), 1.0) for score in scores]

    def costs_usd(self, prompt: str) -> list[float]:
        """Expected cost of each of `models`, from the prompt's length."""
        return [max(0.0, base + slope * len(prompt)) for base, slope in zip(self._cost["base"], self._cost["per_character"])]  # noqa: B905

    def probabilities(self, prompt: str, workload: str | None = None, allowed: list[str] | None = None) -> dict[str, float]:
        """Probability of each candidate. `allowed` names the models that may be called; those the policy does not know are left out.
        Without it these are the models that were candidates for this workload when the policy was judged, as what others would do there was not; of a
        workload that the log does not have, all.

        Raises ValueError where none is left.
        """
        if allowed is None:
            allowed = self._candidates.get(workload or "", self.models)
        candidates = [n for n, model in enumerate(self.models) if model in allowed]
        if not candidates:
            raise ValueError(f"none of the models allowed is known to policy {self.version}")
        utility = self.values(prompt, workload)
        if self.willingness_to_pay_usd is not None:
            utility = [value - cost / self.willingness_to_pay_usd for value, cost in zip(utility, self.costs_usd(prompt))]  # noqa: B905
        best = max(candidates, key=lambda n: utility[n])
        even = self.epsilon / len(candidates)
        return {self.models[n]: even + (1 - self.epsilon if n == best else 0.0) for n in candidates}

    def choose(
        self, prompt: str, workload: str | None = None, allowed: list[str] | None = None, rng: random.Random | None = None
    ) -> Decision:
        """Choose a model; the drawn exploration is part of the propensity."""
        chances = self.probabilities(prompt, workload, allowed)
        models = list(chances)
        [model] = (rng or random).choices(models, weights=[chances[m] for m in models])
        return Decision(model, chances[model], self.version, tuple(models), chances[model] < max(chances.values()))
