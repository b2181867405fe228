"""Looking for strings in every byte below a folder, packed or encoded; written apart from the search that the erasure report makes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import zstandard

WORD = re.compile(rb"[\w-]+")


def haystack(path: Path) -> Iterable[bytes]:
    """A file's bytes, unpacked and decoded."""
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".gz":
        yield gzip.decompress(raw)
    elif path.suffix == ".zst":
        yield zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
    elif path.suffix == ".parquet":
        yield json.dumps(pq.read_table(path).to_pylist(), default=str).encode()


def grep(folder: Path, strings: Iterable[str]) -> dict[str, set[bytes]]:
    """Files in which any of the strings stands alone. Looked for is only what begins with a word of the file."""
    by_word: dict[bytes, list[re.Pattern[bytes]]] = {}
    for s in {s.encode() for s in strings}:
        by_word.setdefault(WORD.search(s)[0], []).append(re.compile(rb"(?<![\w-])" + re.escape(s) + rb"(?![\w-])"))
    found: dict[str, set[bytes]] = {}
    for path in folder.rglob("*"):
        for data in haystack(path) if path.is_file() else ():
            words = by_word.keys() & set(WORD.findall(data))
            if hits := {hit[0] for word in words for wanted in by_word[word] if (hit := wanted.search(data))}:
                found.setdefault(str(path.relative_to(folder)), set()).update(hits)
    return found
