"""Which calls a person should look at first, so that most errors are found: for datasets.review_queue.

What is known of some calls tells how likely others failed. Three witnesses, all from text and context: `local`, the failures
among the nearest prompts that the same model answered; `others`, the same among answers of other models (k nearest neighbours in latent
semantic space, Cover & Hart 1967); `linear`, a logistic regression on words, labels and model. Known calls are predicted by folds that
share no thread with them, and a logistic regression on these weighs the witnesses, their disagreement and their entropy
(stacking, Wolpert 1992), so that what comes out is a probability. A call's own weak evidence then counts by its likelihood ratio. The
queue is ordered by that: the expected number of errors found by looking at a call is its probability of being one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse
from scipy.special import expit, logit
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import OneHotEncoder, normalize

from pipelines.learn.features import PromptFeatures

NEIGHBOURS = 30
DIMENSIONS = 64
FOLDS = 3
FEWEST_KNOWN = 200
"""With fewer known calls, or all of one thread, the outcomes alone order the queue."""
DRAWN_TO = 5.0
"""Neighbours' failures are drawn to the model's by as many calls."""
WITNESSES = ("local_error_share", "others_error_share", "linear_error_share")
MOST_KNOWN, MOST_OPEN = 3_000, 5_000
"""The newest of each."""
KNOWN_CONFIDENCE, OPEN_CONFIDENCE = 0.5, 0.8
KNOWN_DAYS = 60
"""Known calls older than this tell little of today's models, and are not read."""
WINDOW_DAYS = 10
"""A review counts like any signal: only if given within 14 days of the call. So older calls are not asked about."""

CALLS = f"""
create or replace temp table review_call as
with looked_at as (
    select distinct inference_id from marts.outcome_signal where started_at >= $known_from and rater_kind = 'user' and shape = 'judgement' and level = 'call'
),
call as (
    select outcome.inference_id, outcome.started_at, outcome.outcome_share, outcome.confidence_share, outcome.evidence_weight,
        thread_of(call.source, call.session_id, call.trace_id, call.inference_id) as thread,
        coalesce(call.workload, '') as workload, coalesce(cost.model_name, lower(call.request_model), '') as model_name,
        outcome.outcome_status = 'resolved' and outcome.confidence_share >= {KNOWN_CONFIDENCE} as is_known,
        outcome.confidence_share < {OPEN_CONFIDENCE} and call.status = 'ok' and looked_at.inference_id is null
            and outcome.started_at >= $open_from as is_open
    from marts.call_outcome as outcome
    join core.inference as call on call.inference_id = outcome.inference_id and call.started_at = outcome.started_at and call.started_at >= $known_from
    left join marts.call_cost as cost on cost.inference_id = outcome.inference_id and cost.started_at = outcome.started_at and cost.started_at >= $known_from
    left join looked_at on looked_at.inference_id = outcome.inference_id
    where outcome.is_matured and outcome.outcome_share is not null and outcome.started_at >= $known_from
),
placed as (
    select *, row_number() over (partition by is_known order by started_at desc, inference_id) as known_place,
        row_number() over (partition by is_open order by started_at desc, inference_id) as open_place
    from call where is_known or is_open
)
select placed.*, asked.prompt
from placed join marts.prompt as asked on asked.inference_id = placed.inference_id and asked.started_at = placed.started_at and asked.started_at >= $known_from
where (is_known and known_place <= {MOST_KNOWN} or is_open and open_place <= {MOST_OPEN}) and trim(asked.prompt) <> ''"""
SCORED = {
    "inference_id": "varchar", "expected_error_share": "double", **dict.fromkeys(WITNESSES, "double"), "disagreement_share": "double", "entropy_nats": "double",
    "like_count": "bigint",
}  # fmt: skip


class ErrorFinder:
    """How likely calls failed, learnt from calls of which it is known.

    Rows are DataFrames with `prompt`, `model_name` and the columns named by `labels`.
    """

    def __init__(self, labels: tuple[str, ...] = ("workload",)):
        self.labels = labels

    def fit(self, rows: pd.DataFrame, failure: np.ndarray, weight: np.ndarray, thread: np.ndarray) -> ErrorFinder:
        """`failure` 0..1: whether, or how surely, a call failed; `weight` 0..1: how much that is believed. Deterministic."""
        # Words and places are learnt of all the prompts at once, as no outcome is looked at for them.
        self.features_ = PromptFeatures(labels=self.labels, most_words=50_000)
        words = self.features_.fit_transform(rows)
        self.svd_ = TruncatedSVD(min(DIMENSIONS, words.shape[1] - 1), random_state=0).fit(words) if words.shape[1] > 2 else None
        seen = _Seen(rows["model_name"].to_numpy(object), words, self._place(words))
        folds = np.zeros((len(rows), len(WITNESSES)))
        for learn, test in GroupKFold(min(FOLDS, len(set(thread)))).split(rows, groups=thread):
            folds[test] = _Witnesses(seen.at(learn), failure[learn], weight[learn]).say(seen.at(test))
        self.weighing_ = _soft(LogisticRegression(C=1.0), _told(folds), failure, weight)
        self.witnesses_ = _Witnesses(seen, failure, weight)
        return self

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """By row: `expected_error_share`, each witness, their disagreement (greatest less least) and the entropy (nats) of the expected share."""
        words = self.features_.transform(rows) if len(rows) else None
        said = self.witnesses_.say(_Seen(rows["model_name"].to_numpy(object), words, self._place(words))) if len(rows) else np.empty((0, len(WITNESSES)))
        expected = self.weighing_.predict_proba(_told(said))[:, 1] if len(rows) else np.empty(0)
        return pd.DataFrame({"expected_error_share": expected, **dict(zip(WITNESSES, said.T, strict=True))}, index=rows.index).assign(
            disagreement_share=np.ptp(said, axis=1), entropy_nats=_entropy(expected))

    def _place(self, words: sparse.csr_matrix) -> np.ndarray:
        return normalize(self.svd_.transform(words) if self.svd_ else words.toarray())


@dataclass(frozen=True)
class _Seen:
    """Calls: the model asked, the words of the prompt, and its place in semantic space (unit vectors)."""

    model: np.ndarray
    words: sparse.csr_matrix
    place: np.ndarray

    def at(self, rows: np.ndarray) -> _Seen:
        return _Seen(self.model[rows], self.words[rows], self.place[rows])


class _Witnesses:
    def __init__(self, seen: _Seen, failure: np.ndarray, weight: np.ndarray):
        self.failure, self.weight, self.model, self.place = failure, weight, seen.model, seen.place
        self.usual = float(np.average(failure, weights=weight))
        self.by_model = {m: self._drawn(failure[self.model == m] @ weight[self.model == m], weight[self.model == m].sum(), self.usual) for m in set(self.model)}
        self.models = OneHotEncoder(handle_unknown="ignore").fit(self.model[:, None])
        self.linear = _soft(LogisticRegression(C=2.0, solver="liblinear"), self._wide(seen), failure, weight)

    @staticmethod
    def _drawn(failed: Any, calls: Any, usual: Any) -> Any:
        return (failed + DRAWN_TO * usual) / (calls + DRAWN_TO)

    def _wide(self, seen: _Seen) -> sparse.csr_matrix:
        return sparse.hstack([seen.words, self.models.transform(seen.model[:, None])], format="csr")

    def say(self, seen: _Seen) -> np.ndarray:
        """(n, 3), as WITNESSES."""
        usual = np.array([self.by_model.get(m, self.usual) for m in seen.model])
        local, others = usual.copy(), np.full(len(usual), self.usual)
        for m in set(seen.model):
            mine = np.flatnonzero(seen.model == m)
            local[mine] = self._near(seen.place[mine], self.model == m, usual[mine])
            others[mine] = self._near(seen.place[mine], self.model != m, others[mine])
        return np.column_stack([local, others, self.linear.predict_proba(self._wide(seen))[:, 1]])

    def _near(self, place: np.ndarray, among: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """Failures among the nearest, the nearer the weightier, drawn to what is usual."""
        known = np.flatnonzero(among)
        if not len(known):
            return usual
        said = np.empty(len(place))
        for start in range(0, len(place), 2_000):
            like = place[start : start + 2_000] @ self.place[known].T
            k = min(NEIGHBOURS, len(known))
            near = np.argpartition(-like, k - 1, axis=1)[:, :k]
            w = np.clip(np.take_along_axis(like, near, axis=1), 0, None) ** 2 * self.weight[known][near]
            said[start : start + 2_000] = self._drawn((w * self.failure[known][near]).sum(axis=1), w.sum(axis=1), usual[start : start + 2_000])
        return said


def _soft(model: LogisticRegression, X: Any, failure: np.ndarray, weight: np.ndarray) -> LogisticRegression:
    """Fitted to probabilities: each row counts as a failure and as a success, by its share."""
    both = sparse.vstack([X, X], format="csr") if sparse.issparse(X) else np.vstack([X, X])
    # A thousandth of either, so that both classes are there.
    share = np.clip(np.concatenate([failure, 1 - failure]), 1e-3, 1)
    return model.fit(both, np.repeat([1, 0], len(failure)), sample_weight=share * np.concatenate([weight, weight]))


def _told(said: np.ndarray) -> np.ndarray:
    safe = np.clip(said, 0.005, 0.995)
    return np.column_stack([logit(safe), np.ptp(said, axis=1), _entropy(safe.mean(axis=1))]) if len(said) else np.empty((0, len(WITNESSES) + 2))


def _entropy(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


def prepare(con: Any) -> None:
    """Make the temporary tables `review_call` and `review_scored`, a row an open call, of equal prompts to one model the likeliest error only."""
    [(newest,)] = con.execute("select coalesce(max(started_at), timestamp '1970-03-01') from marts.call_outcome").fetchall()
    con.execute(CALLS, {"known_from": newest - timedelta(KNOWN_DAYS), "open_from": newest - timedelta(WINDOW_DAYS)})
    con.execute(f"create or replace temp table review_scored ({', '.join(f'{name} {kind}' for name, kind in SCORED.items())})")
    calls = con.execute("select inference_id, thread, workload, model_name, prompt, 1 - outcome_share as failure, confidence_share, evidence_weight, is_known, is_open from review_call order by inference_id").df()
    if not calls["is_open"].any():
        return
    known, queue = calls[calls["is_known"]], calls[calls["is_open"]].reset_index(drop=True)
    # Of one thread, no part is new to what the rest taught.
    if len(known) >= FEWEST_KNOWN and known["thread"].nunique() > 1:
        finder = ErrorFinder().fit(known, known["failure"].to_numpy(), known["confidence_share"].to_numpy(), known["thread"].to_numpy())
        scored = finder.predict(queue)
        # Who speaks is often disappointed: the known fail more often than all do. The level is that of all calls.
        prior = logit(np.clip(scored["expected_error_share"], 1e-4, 1 - 1e-4))
        odds = prior + _shift(prior, float(queue["failure"].mean())) - np.clip(queue["evidence_weight"], -6, 6)
        scored["expected_error_share"] = expit(odds)
        scored["entropy_nats"] = _entropy(scored["expected_error_share"].to_numpy())
    else:
        scored = pd.DataFrame({"expected_error_share": queue["failure"], "entropy_nats": _entropy(queue["failure"].to_numpy())})
        scored = scored.reindex(columns=[c for c in SCORED if c not in ("inference_id", "like_count")])
    queue = pd.concat([queue[["inference_id", "model_name", "prompt"]], scored], axis=1)
    same = queue.groupby([queue["prompt"].str.lower().str.split().str.join(" "), "model_name"])
    queue["like_count"] = same["inference_id"].transform("size")
    queue = queue.sort_values(["expected_error_share", "inference_id"], ascending=[False, True])
    queue = queue.loc[~queue.assign(said=queue["prompt"].str.lower().str.split().str.join(" ")).duplicated(["said", "model_name"])]
    con.register("reviewed", pa.Table.from_pandas(queue[list(SCORED)], preserve_index=False))
    con.execute("insert into review_scored by name select * from reviewed")
    con.unregister("reviewed")


def _shift(odds: np.ndarray, level: float) -> float:
    """What to add to log odds so that their mean probability is `level`."""
    low, high = -10.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(odds + middle).mean() < level else (low, middle)
    return (low + high) / 2
