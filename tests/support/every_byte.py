"""Looking for strings in every byte below a folder, packed or encoded; written apart from the search that the erasure report makes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import zstandard


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
    """Files in which any of the strings stands alone."""
    wanted = re.compile(b"|".join(rb"(?<![\w-])" + re.escape(s.encode()) + rb"(?![\w-])" for s in sorted(strings)))
    return {str(p.relative_to(folder)): set(wanted.findall(data)) for p in folder.rglob("*") if p.is_file() for data in haystack(p) if wanted.search(data)}
