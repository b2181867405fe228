"""A router as plain numbers: what `policy_reader` reads in a millisecond, with nothing installed.

A router may be a forest or a search among neighbours. What goes to production is a line: words, workload and length, fitted to what
the router says of the training prompts (distillation, Hinton, Vinyals & Dean 2015). It is the line that is evaluated and published,
never the router in its stead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from pipelines.learn.policy_reader import FORMAT, Policy, terms

MOST_TERMS = 4_000
DIGITS = 6


def distil(
    prompts: pd.Series, workloads: pd.Series, values: np.ndarray, models: list[str], costs_usd: np.ndarray, *,
    policy_version: str, willingness_to_pay_usd: float | None, exploration_share: float, candidates: dict[str, list[str]],
) -> dict[str, Any]:
    """A plain policy that says of these prompts nearly what `values` (n×k, 0..1) say. The same input gives the same numbers.

    `costs_usd` n×k, NaN where a cost was not seen; a model of which none was seen costs what the dearest does. `candidates` by workload: what
    the reader chooses among where it is not told.
    """
    texts = prompts.fillna("").tolist()
    labels = workloads.fillna("").astype(str)
    kinds = sorted(labels.unique())
    vectors = TfidfVectorizer(analyzer=terms, sublinear_tf=True, max_features=MOST_TERMS, min_df=2 if len(texts) > 50 else 1)
    try:
        words = vectors.fit_transform(texts)
    except ValueError:  # not one word in all the texts
        vectors, words = None, sparse.csr_matrix((len(texts), 0))
    one_hot = sparse.csr_matrix((np.ones(len(labels)), (np.arange(len(labels)), np.searchsorted(kinds, labels))), shape=(len(labels), len(kinds)))
    length = np.log1p(prompts.fillna("").str.len().to_numpy(dtype=float))[:, None]
    fitted = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-6).fit(sparse.hstack([words, one_hot, length]).tocsr(), values)
    weights = fitted.coef_.reshape(len(models), -1).T
    names = vectors.get_feature_names_out() if vectors is not None else []
    base, slope = _cost_lines(np.expm1(length[:, 0]), costs_usd)
    return {
        "format": FORMAT,
        "policy_version": policy_version,
        "models": models,
        "exploration_share": exploration_share,
        "willingness_to_pay_usd": willingness_to_pay_usd,
        "candidates": candidates,
        "value": {
            "intercept": _rounded(np.atleast_1d(fitted.intercept_)),
            "workload": {kind: _rounded(weights[len(names) + n]) for n, kind in enumerate(kinds)},
            "log_length": _rounded(weights[-1]),
            "idf": {name: round(float(vectors.idf_[n]), DIGITS) for n, name in enumerate(names)},
            "terms": {name: _rounded(weights[n]) for n, name in enumerate(names)},
        },
        "cost_usd": {"base": [float(f"{v:.6g}") for v in base], "per_character": [float(f"{v:.6g}") for v in slope]},
    }


def probabilities(policy: Policy, prompts: pd.Series, workloads: pd.Series, candidates: np.ndarray, models: list[str]) -> np.ndarray:
    """n×k probabilities of the policy, by the reader itself: what is judged is what will run.

    `models` names the columns of `candidates` (n×k). A row of whose candidates the policy knows none is all NaN.
    """
    chances = np.zeros(candidates.shape)
    place = {model: n for n, model in enumerate(models)}
    for row, (prompt, workload) in enumerate(zip(prompts.fillna("").tolist(), workloads.fillna("").tolist(), strict=True)):
        allowed = [models[n] for n in np.flatnonzero(candidates[row])]
        if not set(allowed) & set(policy.models):
            chances[row] = math.nan
            continue
        for model, chance in policy.probabilities(prompt, workload or None, allowed).items():
            chances[row, place[model]] = chance
    return chances


def _cost_lines(characters: np.ndarray, costs_usd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By model: a straight line of cost over length, never falling."""
    base, slope = np.full(costs_usd.shape[1], np.nan), np.zeros(costs_usd.shape[1])
    for model in range(costs_usd.shape[1]):
        seen = ~np.isnan(costs_usd[:, model])
        if not seen.any():
            continue
        x, y = characters[seen], costs_usd[seen, model]
        spread = ((x - x.mean()) ** 2).sum()
        slope[model] = max(0.0, ((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 0.0
        base[model] = y.mean() - slope[model] * x.mean()
    return np.where(np.isnan(base), np.nanmax(base) if not np.isnan(base).all() else 0.0, base), slope


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), DIGITS) for v in values]
