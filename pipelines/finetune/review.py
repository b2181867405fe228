"""Labels that look wrong, ranked for a person to look at: cross-validated confident learning (Northcutt et al. 2021). Nothing is dropped by it.

A linear model over hashed words, fitted without the example's own group, says how probable the example's label is. Bad answers to
compare with are those of the set (kto), the rejected ones (preference), or bad answers among the calls the recipe speaks of (sft, eval).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.near import MIX, batches

WIDTH = 2**18
FOLDS = 3
FITTED = 20_000
"""Examples of each label, at most, that the models learn from; all are scored."""
LEAST = 30
"""Fewer of either label, and nothing is ranked."""


def _features(word: np.ndarray, offsets: np.ndarray, asked: np.ndarray, pair: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, weight and row of all words: a word of the prompt is another feature than the same word of the answer; in a pair the worse answer counts against the better."""
    sizes = np.diff(offsets)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(word)) - np.repeat(offsets[:-1], sizes)
    of_prompt = place < asked[row]
    column = (np.where(of_prompt, word * MIX, word) >> np.uint64(3)) % np.uint64(WIDTH)
    weight = np.ones(len(word))
    if pair is not None:
        # The prompt is the same on both sides and tells nothing.
        weight = np.where(of_prompt, 0.0, np.where(place < pair[row], 1.0, -1.0))
    return column.astype(np.int64), weight / np.sqrt(np.maximum(sizes, 1))[row], row


def _matrix(con: Any, texts: str, told: dict[str, np.ndarray], is_pair: bool) -> Any:
    """Sparse features of a select of (no, word), one row a text, in the order of `told`."""
    from scipy.sparse import csr_matrix, vstack

    parts, numbers = [csr_matrix((0, WIDTH))], [np.empty(0, np.int64)]
    for no, word, offsets in batches(con, texts):
        at = np.searchsorted(told["no"], no)
        column, weight, row = _features(word, offsets, told["asked"][at], told["pair"][at] if is_pair else None)
        parts.append(csr_matrix((weight, (row, column)), shape=(len(no), WIDTH)))
        numbers.append(no)
    return vstack(parts).tocsr()[np.argsort(np.concatenate(numbers), kind="stable")]


def review(con: Any, kind: str) -> None:
    """Fill `work.review` (example_no, doubt_share, is_doubted) for what is left; nothing where there is too little to learn from."""
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    is_pair = kind == "preference"
    # Numbers below zero: bad answers beside the set, which are in no fold and never scored.
    beside = "" if kind in ("preference", "kto") else "union all select -held_no, word, prompt_words, prompt_words, false, -1, held_no from contrast"
    con.execute(f"""create or replace temp table review_text as
        select example_no as no, word, prompt_words as asked, prompt_words + answer_words as pair, coalesce(is_good, true) as is_good,
            ('0x' || left(md5(group_key), 8))::bigint % {FOLDS} as fold, row_number() over (partition by is_good, fold order by md5(example_id)) as nth
        from (select example_no, example_id, is_good from living) as l join words using (example_no) join parted using (example_no) {beside}""")
    learnt = f"from review_text where nth <= {FITTED // FOLDS} or fold < 0"
    told = con.execute(f"select no, asked, pair, is_good, fold {learnt} order by no").fetchnumpy()
    matrix, label, fold = _matrix(con, f"select no, word {learnt}", told, is_pair), np.asarray(told["is_good"], bool), np.asarray(told["fold"], np.int64)
    if is_pair:
        # A pair seen from the other side is a bad one.
        matrix, label, fold = vstack([matrix, -matrix]).tocsr(), np.r_[label, ~label], np.r_[fold, fold]
    known = [fold != n for n in range(FOLDS)]
    if all(min(label[k].sum(), (~label[k]).sum()) >= LEAST for k in known):
        with threadpool_limits(1):
            models = [LogisticRegression(C=10, solver="liblinear", class_weight="balanced", random_state=0, fit_intercept=not is_pair).fit(matrix[np.flatnonzero(k)], label[k]) for k in known]
        _score(con, np.stack([m.coef_[0] for m in models]), np.array([float(np.squeeze(m.intercept_)) for m in models]), is_pair)
    con.execute("drop table review_text")


def _score(con: Any, weights: np.ndarray, base: np.ndarray, is_pair: bool) -> None:
    """Each example by the model that has not seen its group."""
    places = con.execute("select no, asked, pair, is_good, fold from review_text where fold >= 0 order by no").fetchnumpy()
    good = np.empty(len(places["no"]))
    for no, word, offsets in batches(con, "select no, word from review_text where fold >= 0"):
        at = np.searchsorted(places["no"], no)
        column, weight, row = _features(word, offsets, places["asked"][at], places["pair"][at] if is_pair else None)
        of = np.asarray(places["fold"][at], np.int64)
        good[at] = 1 / (1 + np.exp(-(np.bincount(row, weights[of[row], column] * weight, minlength=len(no)) + base[of])))
    is_good = np.asarray(places["is_good"], bool)
    # A label is doubted where the other one is at least as probable as it is, on average, where it is given.
    likely_good = good[is_good].mean() if is_good.any() else 0.5
    likely_bad = (1 - good)[~is_good].mean() if (~is_good).any() else likely_good
    doubt = np.where(is_good, 1 - good, good)
    # Rounded, so that another order of adding up makes no other version.
    doubt = np.round(doubt, 3)
    con.register("scored", pa.table({"example_no": places["no"], "doubt_share": doubt, "is_doubted": doubt >= np.round(np.where(is_good, likely_bad, likely_good), 3)}))
    con.execute("insert into work.review select * from scored")
    con.unregister("scored")
