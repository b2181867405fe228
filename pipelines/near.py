"""Texts that are nearly the same, and texts that hold pieces of others: word n-grams as arrays of hashes.

Texts come as lists of word hashes (`word_hashes` in warehouse/core/macros.sql), so that a text is taken apart once, whatever is
asked of it. Near-duplicates are found by MinHash (Broder 1997) in bands (rensa computes the signatures) and then verified by the exact
Jaccard similarity of their three-word shingles, so that bands only cost recall, never precision. Contamination is any common
run of 13 words, as in GPT-3 (Brown et al. 2020, appendix C); a benchmark text of 8 to 12 words counts as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BANDS, ROWS = 16, 4
"""A pair of similarity 0.8 shares a band with probability 0.9997, one of 0.7 with 0.988."""
SHINGLE, GRAM, SHORT_GRAM = 3, 13, 8
CROWD = 50
"""In a band shared by more texts than this each is compared with the first of them and its neighbour only."""
BATCH = 8_192
PAIRS = 50_000
"""Candidates that are verified at a time."""
FACTOR, MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def batches(con: Any, texts: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of a select of (no, word): numbers, the hashes of all words in order, and the borders between texts."""
    reader = con.sql(f"select no, word from ({texts}) as text").to_arrow_reader(BATCH)
    # The next batch is made while this one is worked on.
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(next, reader, None)
        while (batch := coming.result()) is not None:
            coming = ahead.submit(next, reader, None)
            listed = batch.column(1)
            offsets = listed.offsets.to_numpy().astype(np.int64)
            yield batch.column(0).to_numpy(), listed.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.uint64), offsets - offsets[0]


def grams(word: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `length` words that lie within one text, and the borders between texts among them."""
    borders = np.r_[0, np.cumsum(np.maximum(np.diff(offsets) - length + 1, 0))]
    last = len(word) - length + 1
    if last <= 0 or not borders[-1]:
        return np.empty(0, np.uint64), borders
    run = word[:last] + FACTOR
    for n in range(1, length):
        run *= FACTOR
        run += word[n : n + last]
    run ^= run >> np.uint64(32)
    run *= MIX
    within = np.ones(last, bool)
    for n in range(1, length):
        # No run begins among the last words of a text.
        ends = offsets[1:] - n
        ends = ends[(ends >= offsets[:-1]) & (ends < last)]
        within[ends] = False
    return run[within], borders


def shingles(word: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `grams` of three words; a shorter text is one shingle, one without words none."""
    run, borders = grams(word, offsets, SHINGLE)
    sizes = np.diff(offsets)
    short = np.flatnonzero((sizes > 0) & (sizes < SHINGLE))
    if not len(short):
        return run, borders
    whole = word[offsets[:-1][short]] * MIX + np.where(sizes[short] > 1, word[offsets[1:][short] - 1] ^ MIX, 0)
    return np.insert(run, borders[short], whole), borders + np.r_[0, np.cumsum((sizes > 0) & (sizes < SHINGLE))]


def banded(run: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """The bands of each text's signature, one row a text."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.ascontiguousarray(run), borders.astype(np.uint64), num_perm=BANDS * ROWS, seed=42)
    signature = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(borders) - 1, BANDS, ROWS)
    band = np.zeros((len(borders) - 1, BANDS), np.uint64)
    for n in range(ROWS):
        band = band * FACTOR + signature[:, :, n] + np.uint64(1)
    return band


def near_pairs(con: Any, texts: str, similarity: float, group: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (a < b) of numbers in a select of (no, word) whose shingles have a Jaccard similarity of at least `similarity`. Deterministic.

    With `group`, a number for each no: texts of one group are not compared, nor those that pairs found before bring into one. So the pairs
    connect all that is alike, but are not all there are.
    """
    numbers, bands = [], []
    for no, word, offsets in batches(con, texts):
        run, borders = shingles(word, offsets)
        said = np.diff(borders) > 0
        numbers.append(no[said])
        bands.append(banded(run, borders)[said])
    if not numbers:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    no, band = np.concatenate(numbers), np.concatenate(bands)
    order = np.argsort(no, kind="stable")
    no, band = no[order], band[order]
    found = [(no[:0], no[:0])]
    if group is None:
        a, b = _candidates(no, band)
        for n in range(0, len(a), PAIRS):
            found.append(_verified(con, texts, a[n : n + PAIRS], b[n : n + PAIRS], similarity))
        return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])
    # Band by band: what one has brought into one group is no candidate of the next.
    unlike = np.empty(0, np.int64)
    for n in range(BANDS):
        a, b = _sharing(no, band[:, n], group)
        while len(a):
            apart = (group[a] != group[b]) & ~np.isin(_pair(a, b), unlike)
            a, b = a[apart], b[apart]
            if not len(a):
                break
            found.append(_verified(con, texts, a[:PAIRS], b[:PAIRS], similarity))
            unlike = np.union1d(unlike, np.setdiff1d(_pair(a[:PAIRS], b[:PAIRS]), _pair(*found[-1])))
            a, b = a[PAIRS:], b[PAIRS:]
            group = _joined(group, *found[-1])
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def _pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One number for a pair of numbers below 2^31."""
    return a * np.int64(2**31) + b


def _joined(group: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The groups when those of each pair become one."""
    return components(int(group.max()) + 1, group[a], group[b])[group]


def components(size: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The group of each of `size` things, numbered from 0, when the pairs (a, b) tie them together."""
    return connected_components(coo_array((np.ones(len(a), np.int8), (a, b)), shape=(size, size)), directed=False)[1]


def _candidates(no: np.ndarray, bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that share a band, in order, each once; `no` ascends."""
    pairs = np.concatenate([np.stack(_sharing(no, bands[:, n])) for n in range(bands.shape[1])], axis=1)
    pairs = pairs[:, np.lexsort((pairs[1], pairs[0]))]
    new = np.r_[True, (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)] if pairs.shape[1] else np.empty(0, bool)
    return pairs[0][new], pairs[1][new]


def _sharing(no: np.ndarray, band: np.ndarray, group: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of equal bands, neighbours first: those alone would bring most of what is alike into one group. None where all is of one group."""
    place = np.argsort(band, kind="stable")
    key = band[place]
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    size = np.diff(np.r_[first, len(key)])
    worth = size > 1
    if group is not None:
        of = group[no[place]]
        worth &= np.minimum.reduceat(of, first) != np.maximum.reduceat(of, first)
    # Nearly all bands are of one text: only the others are looked at further.
    place, size = place[np.repeat(worth, size)], size[worth]
    rank = np.arange(len(place)) - np.repeat(np.cumsum(size) - size, size)
    size = np.repeat(size, size)
    found = [(no[:0], no[:0])]
    for step in range(1, min(CROWD, int(size.max(initial=1)))):
        later = np.flatnonzero((rank >= step) & ((size <= CROWD) | (step == 1)))
        found.append((no[place[later - step]], no[place[later]]))
        if step == 1:
            crowd = np.flatnonzero((size > CROWD) & (rank > 1))
            found.append((no[place[crowd - rank[crowd]]], no[place[crowd]]))
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _verified(con: Any, texts: str, a: np.ndarray, b: np.ndarray, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Those of the candidates that are truly alike."""
    con.register("near_candidate", pa.table({"no": np.union1d(a, b)}))
    con.execute("create or replace temp table near_held as select * from near_candidate")
    con.unregister("near_candidate")
    owner, shingle = [], []
    for no, word, offsets in batches(con, f"select no, word from ({texts}) as text where no in (select no from near_held)"):
        run, borders = shingles(word, offsets)
        owner.append(np.repeat(no, np.diff(borders)))
        shingle.append(run)
    # Each text's shingles as a set: sorted by text and shingle, each once.
    owner, shingle = np.concatenate(owner), np.concatenate(shingle)
    order = np.lexsort((shingle, owner))
    owner, shingle = owner[order], shingle[order]
    once = np.r_[True, (owner[1:] != owner[:-1]) | (shingle[1:] != shingle[:-1])]
    owner, shingle = owner[once], shingle[once]
    held, start, size = np.unique(owner, return_index=True, return_counts=True)
    pa_, pb = np.searchsorted(held, a), np.searchsorted(held, b)
    # All shingles of both texts of a pair, by pair: one that comes twice is shared.
    pair = np.concatenate([np.repeat(np.arange(len(a)), size[pa_]), np.repeat(np.arange(len(b)), size[pb])])
    value = np.concatenate([shingle[_spans(start[pa_], size[pa_])], shingle[_spans(start[pb], size[pb])]])
    order = np.lexsort((value, pair))
    pair, value = pair[order], value[order]
    shared = np.bincount(pair[1:][(pair[1:] == pair[:-1]) & (value[1:] == value[:-1])], minlength=len(a))
    alike = shared >= similarity * (size[pa_] + size[pb] - shared)
    return a[alike], b[alike]


def _spans(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Places start, start + 1, … of each span, one after the other."""
    return np.repeat(start - np.cumsum(size) + size, size) + np.arange(size.sum())


def first_of_each(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Numbers that go when, in ascending order, each that is like one that stays goes: a chain of likenesses drops no stranger."""
    gone = np.zeros(int(b.max(initial=-1)) + 1, bool)
    order = np.argsort(b, kind="stable")
    a, b = a[order], b[order]
    starts = np.flatnonzero(np.r_[True, b[1:] != b[:-1]]) if len(b) else np.empty(0, np.int64)
    for start, end in zip(starts, np.r_[starts[1:], len(b)], strict=False):
        gone[b[start]] = not gone[a[start:end]].all()
    return np.flatnonzero(gone)


class Benchmark:
    """Word runs of benchmark texts (a select of (no, word)), by length."""

    def __init__(self, con: Any, texts: str):
        runs: dict[int, list[np.ndarray]] = {GRAM: []}
        for _, word, offsets in batches(con, texts):
            runs[GRAM].append(grams(word, offsets, GRAM)[0])
            sizes = np.diff(offsets)
            for length in range(SHORT_GRAM, GRAM):
                run, borders = grams(word, offsets, length)
                runs.setdefault(length, []).append(run[borders[:-1][sizes == length]])
        self.runs = {length: np.unique(np.concatenate(parts)) for length, parts in runs.items() if parts and sum(map(len, parts))}
        # Nearly all runs are in no benchmark: a table of bits says so at once.
        self.maybe = {}
        for length, run in self.runs.items():
            bits = np.zeros(2**24, bool)
            bits[run >> np.uint64(40)] = True
            self.maybe[length] = bits

    def met_in(self, no: np.ndarray, word: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Numbers of a batch of texts that hold one of the runs."""
        met = [np.empty(0, np.int64)]
        for length, known in self.runs.items():
            run, borders = grams(word, offsets, length)
            suspect = np.flatnonzero(self.maybe[length][run >> np.uint64(40)])
            suspect = suspect[np.isin(run[suspect], known)]
            met.append(no[np.searchsorted(borders, suspect, side="right") - 1])
        return np.unique(np.concatenate(met))
