"""Texts that are nearly the same, and texts that hold pieces of others: word n-grams as arrays of hashes.

Near-duplicates are found by MinHash (Broder 1997) in bands (rensa computes the signatures) and then verified by the exact
Jaccard similarity of their three-word shingles, so that bands only cost recall, never precision. Contamination is any common
run of 13 words, as in GPT-3 (Brown et al. 2020, appendix C); a benchmark text of 8 to 12 words counts as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from rensa import RMinHash
from scipy.sparse import csr_array

BANDS, ROWS = 16, 4
"""A pair of similarity 0.8 shares a band with probability 0.9997, one of 0.7 with 0.988."""
SHINGLE, GRAM, SHORT_GRAM = 3, 13, 8
CROWD = 50
"""In a band shared by more texts than this each is compared with the first of them and its neighbour only."""
BATCH = 8_192
PAIRS_WEIGHT = 8_000_000
"""Shingles of the pairs that are compared at a time."""
FACTOR, MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def word_hashes(con: Any, texts: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of a select of (no, said): numbers, hashes of all their words in order, and the borders between texts."""
    for batch in con.sql(f"select no, list_transform(text_words(said), lambda w: hash(w)) as word from ({texts}) as text").to_arrow_reader(BATCH):
        listed = batch.column(1)
        offsets = listed.offsets.to_numpy().astype(np.int64)
        yield batch.column(0).to_numpy(), listed.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0]


def grams(word: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `length` words that lie within one text, and the place of that text in the batch, ascending."""
    if len(word) < length:
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    last = len(word) - length + 1
    run = np.zeros(last, np.uint64)
    with np.errstate(over="ignore"):
        for n in range(length):
            run = run * FACTOR + word[n : n + last]
        run = (run ^ (run >> np.uint64(32))) * MIX
    text = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[:last]
    within = np.arange(last) + length <= offsets[1:][text]
    return text[within], run[within]


def shingles(word: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `grams` of three words; a shorter text is one shingle."""
    text, run = grams(word, offsets, SHINGLE)
    sizes = np.diff(offsets)
    for length in range(1, SHINGLE):
        short_text, short_run = grams(word, offsets, length)
        whole = sizes[short_text] == length
        text, run = np.concatenate([text, short_text[whole]]), np.concatenate([run, short_run[whole]])
    order = np.argsort(text, kind="stable")
    return text[order], run[order]


def near_pairs(con: Any, texts: str, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (a < b) of numbers in a select of (no, said) whose shingles have a Jaccard similarity of at least `similarity`. Deterministic."""
    numbers, bands = [], []
    for no, word, offsets in word_hashes(con, texts):
        text, run = shingles(word, offsets)
        borders = np.searchsorted(text, np.arange(len(no) + 1))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.ascontiguousarray(run), borders.astype(np.uint64), num_perm=BANDS * ROWS, seed=42)
        signature = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(no), BANDS, ROWS)
        with np.errstate(over="ignore"):
            band = np.zeros((len(no), BANDS), np.uint64)
            for n in range(ROWS):
                band = band * FACTOR + signature[:, :, n] + np.uint64(1)
        said = np.diff(borders) > 0
        numbers.append(no[said])
        bands.append(band[said])
    if not numbers:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    a, b = _candidates(np.concatenate(numbers), np.concatenate(bands))
    return _verified(con, texts, a, b, similarity)


def _candidates(no: np.ndarray, bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(no, kind="stable")
    no, bands = no[order], bands[order]
    found = []
    for n in range(bands.shape[1]):
        place = np.argsort(bands[:, n], kind="stable")
        key = bands[place, n]
        first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        size = np.diff(np.r_[first, len(key)])
        rank = np.arange(len(key)) - np.repeat(first, size)
        size = np.repeat(size, size)
        for step in range(1, min(CROWD, int(size.max(initial=1)))):
            later = np.flatnonzero((rank >= step) & ((size <= CROWD) | (step == 1)))
            found.append(np.stack([no[place[later - step]], no[place[later]]]))
        crowd = np.flatnonzero((size > CROWD) & (rank > 1))
        found.append(np.stack([no[place[crowd - rank[crowd]]], no[place[crowd]]]))
    pairs = np.unique(np.concatenate(found, axis=1), axis=1) if found else np.empty((2, 0), np.int64)
    return pairs[0], pairs[1]


def _verified(con: Any, texts: str, a: np.ndarray, b: np.ndarray, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Those of the candidates that are truly alike."""
    if not len(a):
        return a, b
    con.register("near_candidate", pa.table({"a": a, "b": b}))
    con.execute("create or replace temp table near_pair as select * from near_candidate")
    con.unregister("near_candidate")
    numbers, runs, sizes = [], [], []
    held = f"select no, said from ({texts}) as text where no in (select a from near_pair union all select b from near_pair)"
    for no, word, offsets in word_hashes(con, held):
        text, run = shingles(word, offsets)
        order = np.lexsort((run, text))
        text, run = text[order], run[order]
        new = np.r_[True, (text[1:] != text[:-1]) | (run[1:] != run[:-1])] if len(text) else np.empty(0, bool)
        numbers.append(no)
        runs.append(run[new])
        sizes.append(np.bincount(text[new], minlength=len(no)))
    no, run, size = np.concatenate(numbers), np.concatenate(runs), np.concatenate(sizes)
    # A row a text, a column a shingle (63 bits of its hash, ascending in each row): what two texts share is where both rows have something.
    column = (run >> np.uint64(1)).astype(np.int64)
    has = csr_array((np.ones(len(run), np.int8), column, np.r_[0, np.cumsum(size)]), shape=(len(no), 2**63 - 1))
    row_of = np.argsort(no, kind="stable")
    row_a, row_b = (row_of[np.searchsorted(no[row_of], x)] for x in (a, b))
    possible = np.minimum(size[row_a], size[row_b]) >= similarity * np.maximum(size[row_a], size[row_b])
    a, b, row_a, row_b = a[possible], b[possible], row_a[possible], row_b[possible]
    shared = np.empty(len(a), np.int64)
    weight = np.cumsum(size[row_a] + size[row_b])
    for start, end in pairwise([0, *np.searchsorted(weight, np.arange(PAIRS_WEIGHT, weight.max(initial=0), PAIRS_WEIGHT)), len(a)]):
        shared[start:end] = np.diff(has[row_a[start:end]].multiply(has[row_b[start:end]]).indptr)
    alike = shared >= similarity * (size[row_a] + size[row_b] - shared)
    return a[alike], b[alike]


def first_of_each(size: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Numbers 0 to size - 1 that go when, in ascending order, each that is like one that stays goes: a chain of likenesses drops no stranger."""
    gone = np.zeros(size, bool)
    order = np.argsort(b, kind="stable")
    a, b = a[order], b[order]
    starts = np.flatnonzero(np.r_[True, b[1:] != b[:-1]]) if len(b) else np.empty(0, np.int64)
    for start, end in zip(starts, np.r_[starts[1:], len(b)], strict=False):
        gone[b[start]] = not gone[a[start:end]].all()
    return np.flatnonzero(gone)


class Benchmark:
    """Word runs of benchmark texts, by length."""

    def __init__(self, con: Any, texts: str):
        runs: dict[int, list[np.ndarray]] = {GRAM: []}
        for _, word, offsets in word_hashes(con, texts):
            runs[GRAM].append(grams(word, offsets, GRAM)[1])
            sizes = np.diff(offsets)
            for length in range(SHORT_GRAM, GRAM):
                text, run = grams(word, offsets, length)
                runs.setdefault(length, []).append(run[sizes[text] == length])
        self.runs = {length: np.unique(np.concatenate(parts)) for length, parts in runs.items() if parts and sum(map(len, parts))}
        # Nearly all runs are in no benchmark: a table of bits says so at once.
        self.maybe = {}
        for length, run in self.runs.items():
            bits = np.zeros(2**24, bool)
            bits[run >> np.uint64(40)] = True
            self.maybe[length] = bits

    def met_in(self, con: Any, texts: str) -> np.ndarray:
        """Numbers of a select of (no, said) that hold one of the runs."""
        met = [np.empty(0, np.int64)]
        for no, word, offsets in word_hashes(con, texts) if self.runs else ():
            for length, known in self.runs.items():
                text, run = grams(word, offsets, length)
                suspect = np.flatnonzero(self.maybe[length][run >> np.uint64(40)])
                met.append(no[np.unique(text[suspect][np.isin(run[suspect], known)])])
        return np.unique(np.concatenate(met))
