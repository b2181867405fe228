"""Recipes: what a fine-tuning dataset is to hold, as a YAML contract.

A recipe is a file of your own, or the name of one in schemas/recipe. Every field has a meaning in the text beside it.
"""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.errors import NotConfigured
from pipelines.settings import ROOT

MOST_BYTES = 2**16
"""A recipe of more is something else."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calls(_Strict):
    """Which calls; what is not given does not matter."""

    from_day: date | None = Field(None, description="First UTC day")
    until_day: date | None = Field(None, description="UTC day before which to end")
    sources: tuple[str, ...] | None = None
    tenants: tuple[str, ...] | None = None
    workloads: tuple[str, ...] | None = None
    environments: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = Field(None, description="Names asked for")
    must_have_tools: bool = Field(False, description="Only calls that offered tools")


class Outcome(_Strict):
    """What is good and what is bad, by marts.call_outcome."""

    good_share: float = Field(0.7, ge=0, le=1, description="outcome_share from which an answer is good")
    bad_share: float = Field(0.3, ge=0, le=1, description="outcome_share up to which an answer is bad (kto)")
    confidence_share: float = Field(0.1, ge=0, le=1, description="Least confidence_share: silence alone is no evidence")
    margin: float = Field(0.2, ge=0, le=1, description="Least difference of outcome_share within a pair (preference)")


class Rights(_Strict):
    """Whose calls may be used."""

    consent: Literal["required", "assumed"] = Field("required", description="required: reference/training_consent.csv must say yes; assumed: it must not say no")
    licences: tuple[str, ...] | None = Field(None, description="Licences allowed, as in training_consent.csv")
    jurisdictions: tuple[str, ...] | None = Field(None, description="Only calls served in these, as in reference/region.csv; an unknown region is refused")
    is_distillation: bool = Field(False, description="The set teaches another model: only providers that reference/provider_terms.csv says yes to")
    trains_provider: str | None = Field(None, description="The provider whose own models are to be trained: its terms allow its own answers")


class Toxicity(_Strict):
    """What is too toxic to learn from; one of the two. No list and no model comes with this."""

    words: str | None = Field(None, description="File (fsspec URL) of words and phrases, one a line; an example that holds one is dropped")
    scorer: str | None = Field(None, description="A function of your own, module:name: gets a list of texts, returns as many numbers, the more the worse")
    max_score: float = Field(0.5, description="An example of which the scorer says more than this is dropped")

    @model_validator(mode="after")
    def _one(self) -> Toxicity:
        if (self.words is None) == (self.scorer is None):
            raise ValueError("toxicity asks for words or for a scorer")
        return self


class Gates(_Strict):
    """What an example must be."""

    languages: tuple[str, ...] | None = Field(None, description="ISO 639-1; an example in another known language is dropped")
    min_answer_tokens: int = Field(1, ge=0)
    max_tokens: int = Field(32_000, ge=1, description="Prompt and answer together")
    near_duplicate_share: float = Field(0.8, gt=0, le=1, description="Jaccard similarity of three-word shingles from which the later of two goes")
    benchmarks: tuple[str, ...] = Field((), description="Files (fsspec URLs; .jsonl, .json, .csv, .parquet, .txt, packed or not) that must not be met in training")
    toxicity: Toxicity | None = None
    is_redacted: bool = Field(True, description="Personal data and keys are replaced; turn off only for data that is made up")

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the gates read."""
        return (*self.benchmarks, self.toxicity.words) if self.toxicity and self.toxicity.words else self.benchmarks


class Split(_Strict):
    """How examples are parted."""

    together: tuple[Literal["near_duplicate", "conversation", "tenant"], ...] = ("near_duplicate", "conversation")
    by: Literal["time", "group"] = Field("time", description="time: a group goes where its first call lies and what it has beyond the border is used nowhere; group: by a hash of the group")
    validation_share: float = Field(0.1, ge=0, lt=1)
    test_share: float = Field(0.1, ge=0, lt=1)


class Mix(_Strict):
    """How much of what."""

    max_examples: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1, description="Token budget of the whole set")
    workload_shares: dict[str, float] | None = Field(None, description="Share of the budget by workload; one not named gets nothing")
    difficulty_shares: dict[Literal["easy", "medium", "hard"], float] | None = Field(None, description="Share by difficulty, within a workload's share; one not named gets nothing. hard: several turns with tools, four turns, or 4,000 tokens asked; easy: one turn, no tools, below 300 tokens")


class Recipe(_Strict):
    """One dataset: what goes in, and by which rules."""

    recipe: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    sentence: str
    kind: Literal["sft", "preference", "kto", "eval"]
    calls: Calls = Calls()
    outcome: Outcome = Outcome()
    rights: Rights = Rights()
    gates: Gates = Gates()
    split: Split = Split()
    mix: Mix = Mix()
    eval_share: float = Field(0.1, gt=0, le=1, description="Share of the conversations to hold back (eval)")
    trains_on: Literal["last_answer", "all_answers"] = Field("last_answer", description="Which turns carry loss in formats that can say so")

    @property
    def table(self) -> str:
        return f"datasets.{self.kind}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load(name: str) -> Recipe:
    """The recipe of a path or of a name in schemas/recipe. Raises `NotConfigured` when there is none or a field is wrong."""
    path = Path(name) if name.endswith((".yml", ".yaml")) else ROOT / "schemas" / "recipe" / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (ROOT / "schemas" / "recipe").glob("*.yml")))
        raise NotConfigured(f"there is no recipe {name}: give the path of a .yml file, or one of {known}")
    if path.stat().st_size > MOST_BYTES:
        raise NotConfigured(f"{path} is no valid recipe: it is larger than {MOST_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise NotConfigured(f"{path} is no valid recipe: an alias (*name) stands in it, and a few of them can stand for more than fits in memory")
        return Recipe.model_validate(yaml.safe_load(text))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # not UTF-8 and what pydantic refuses are ValueErrors
        raise NotConfigured(f"{path} is no valid recipe: {error}") from error
