"""Make landed files readable: unpacked, one JSON object a line, the unreadable lines set aside with their reason.

A plain, well-formed file is read where it lies: it costs one look at its bytes. Only a file that needs it is copied:
unpacked (gzip, zstd) with a guard against bombs, turned into lines (arrays, pretty-printed objects), or, when DuckDB's
fast reader refuses it, taken apart line by line.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipelines.contracts import literal
from pipelines.engine import connect
from pipelines.errors import RetryLater, SourceUnreadable
from pipelines.land import LineCounter, Lines, is_local, landing_url, scrubbed
from pipelines.settings import Settings

CHUNK = 2**20
PACKED = (".gz", ".zst")
SNIFF = 2**20

class Unreadable(Exception):
    """A whole file that cannot be read; the text says why, without its content."""


@dataclass
class Readable:
    """A landed file ready for DuckDB: `path` holds one JSON object a line, in the order of the original."""

    landing_file: str
    path: Path
    byte_count: int
    """Bytes in landing, packed as they came."""
    line_count: int
    """Lines of the original that hold anything, unreadable ones included."""
    bad: list[tuple[int, str]] = field(default_factory=list)
    """Unreadable lines of the original, 1-based, with the reason."""
    lines: Path | None = None
    """Parquet of (row, line) when the n-th line here is not the n-th of the original."""
    scratch: bool = False
    suspicious: bool = False
    """Bytes were seen that the fast reader is known to stumble over."""

    @property
    def rows(self) -> int:
        return self.line_count - len(self.bad)


def readable(settings: Settings, landing_file: str, scratch: Path, lines: Lines | None = None) -> Readable:
    """Make one landed file readable, as cheaply as its shape allows; `lines` saves counting them. A file past reading comes back with no rows and one bad line."""
    size = 0
    try:
        with _opened(settings, landing_file) as (raw, size):
            local = _local_path(settings, landing_file)
            if local is None or landing_file.endswith(PACKED):
                local = scratch / f"{Path(landing_file).name}.unpacked"
                _unpack(settings, raw, landing_file, size, local)
                copied = True
            else:
                copied = False
        shape = _shape(local)
        if shape == "lines":
            seen = _count_lines(local) if copied or lines is None else lines
            return Readable(landing_file, local, size, seen.count, scratch=copied, suspicious=seen.is_suspicious)
        try:
            return _to_lines(settings, landing_file, size, local, shape, scratch)
        except Unreadable:
            if not _holds_lines(local, settings.max_line_bytes, 2 if shape == "array" else 1):
                raise
            # Lines after all, and the first of them broken: only taking them apart tells which.
            return Readable(landing_file, local, size, _count_lines(local).count, scratch=copied, suspicious=True)
    except Unreadable as reason:
        return Readable(landing_file, _empty(scratch), size, 1, bad=[(1, str(reason))], scratch=True)


def unpacked(settings: Settings, landing_file: str, scratch: Path) -> Path:
    """A local, unpacked copy of a landed file, or the file itself where that is what it is. Raises `SourceUnreadable`."""
    local = _local_path(settings, landing_file)
    if local is not None and not landing_file.endswith(PACKED):
        return local
    target = scratch / f"{Path(landing_file).parent.name}-{Path(landing_file).name}.unpacked"
    try:
        with _opened(settings, landing_file) as (raw, size):
            _unpack(settings, raw, landing_file, size, target)
    except Unreadable as reason:
        raise SourceUnreadable(f"{landing_file}: {reason}") from reason
    return target


def take_apart(settings: Settings, file: Readable, scratch: Path, keys: list[str]) -> Readable:
    """The slow, safe way: judge every line by itself and copy the good ones, remembering where each came from.

    A line is judged as the fast reader would judge it, so that its fate does not hang on its neighbours: `keys` are the
    ones that the format reads, and a line that gives one of them twice does not say which it means.
    """
    clean = scratch / f"{Path(file.landing_file).name}.clean"
    bad: list[tuple[int, str]] = []
    count = row = 0
    with connect(settings) as con, clean.open("wb") as out, pq.ParquetWriter(
        lines := clean.with_suffix(".lines.parquet"), pa.schema([("row", pa.int64()), ("line", pa.int64())])
    ) as index:
        for batch in _batches(_lines(file.path, settings.max_line_bytes)):
            numbers, texts = [], []
            for number, line, fault in batch:
                count += 1
                if fault is None:
                    numbers.append(number)
                    texts.append(line)
                else:
                    bad.append((number, fault))
            if not numbers:
                continue
            judged = con.execute(
                "select case when not json_valid(t) then 'no valid JSON' when json_type(t) <> 'OBJECT' then 'no JSON object' "
                "when len(list_filter(json_keys(t), lambda k: list_contains($keys, k))) "
                "<> list_unique(list_filter(json_keys(t), lambda k: list_contains($keys, k))) then 'a key given twice' end "
                "from (select unnest($texts) as t)",
                {"texts": texts, "keys": keys},
            ).fetchnumpy()
            faults = [None if f is None or f != f else str(f) for f in next(iter(judged.values())).tolist()]
            good = [n for n, fault in zip(numbers, faults, strict=True) if fault is None]
            bad += [(n, fault) for n, fault in zip(numbers, faults, strict=True) if fault]
            out.writelines(t.encode() + b"\n" for t, fault in zip(texts, faults, strict=True) if fault is None)
            index.write_table(pa.table({"row": pa.array(range(row + 1, row + 1 + len(good)), pa.int64()), "line": pa.array(good, pa.int64())}))
            row += len(good)
    if file.scratch:
        file.path.unlink(missing_ok=True)
    return Readable(file.landing_file, clean, file.byte_count, count, sorted(bad), lines, scratch=True)


@contextmanager
def _opened(settings: Settings, landing_file: str) -> Iterator[tuple[BinaryIO, int]]:
    fs, path = fsspec.core.url_to_fs(landing_url(settings, landing_file))
    try:
        with fs.open(path, "rb") as raw:
            yield raw, fs.size(path)
    except OSError as error:
        raise RetryLater(f"{landing_file} in landing cannot be read: {type(error).__name__}: {scrubbed(str(error))}") from error


def _local_path(settings: Settings, landing_file: str) -> Path | None:
    fs, path = fsspec.core.url_to_fs(landing_url(settings, landing_file))
    return Path(path) if is_local(fs) else None


def _unpack(settings: Settings, raw: BinaryIO, name: str, size: int, target: Path) -> None:
    if name.endswith(".gz"):
        chunks = _read(gzip.GzipFile(fileobj=raw))
    elif name.endswith(".zst"):
        chunks = _unzstd(raw)
    else:
        chunks = _read(raw)
    # A log packs 5 to 50 times; small files are let off, as their headers weigh more.
    limit = min(settings.max_file_bytes, max(64 * 2**20, size * settings.max_expansion))
    count = 0
    try:
        with target.open("wb") as out:
            for chunk in chunks:
                count += len(chunk)
                if count > limit:
                    raise Unreadable(f"unpacks to more than {limit:,} bytes from {size:,}: taken for a bomb")
                out.write(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        # What was unpacked before the break is good and is kept; the break itself becomes a bad line.
        if count == 0:
            raise Unreadable(f"cannot be unpacked: {error}") from error
        with target.open("ab") as out:
            out.write(b"\n<truncated archive>\n")


def _read(reader: BinaryIO) -> Iterator[bytes]:
    while chunk := getattr(reader, "read1", reader.read)(CHUNK):
        yield chunk


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    """Unpacked bytes of one or more frames. Raises `EOFError` where the last one breaks off, which zstandard's reader does not."""
    whole, frame = zstandard.ZstdDecompressor(max_window_size=2**31), None
    # By little: each block of a few bytes may unpack to 128 KiB.
    while packed := raw.read(2**12):
        while packed:
            frame = frame or whole.decompressobj()
            yield frame.decompress(packed)
            packed = frame.unused_data
            if frame.eof:
                frame = None
    if frame:
        raise EOFError("the last frame has no end")


def _shape(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(SNIFF)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "lines"
    first, _, rest = text.partition(b"\n")
    first, rest = first.strip(), rest.lstrip()
    if text[:1] not in (b"{", b"[") or (text[:1] == b"{" and len(first) >= SNIFF - 8):
        return "lines"
    try:
        json.loads(first)
        return "array" if text[:1] == b"[" and not rest else "lines"
    except (ValueError, RecursionError):
        pass
    if text[:1] == b"[":
        return "array"
    # A first line that is no object by itself: a pretty-printed file, or lines of which the first is broken.
    return "lines" if rest.startswith(b"{") and len(first) > 1 else "objects"


def _holds_lines(path: Path, longest: int, enough: int) -> bool:
    """Whether so many lines are objects by themselves. Indented ones are part of a larger object, and one alone may be an array's last."""
    found = 0
    with path.open("rb", buffering=CHUNK) as file:
        while found < enough and (line := file.readline(longest + 1)):
            if line.startswith(b"{"):
                try:
                    json.loads(line)
                    found += 1
                except (ValueError, RecursionError):
                    pass
    return found >= enough


def _count_lines(path: Path) -> Lines:
    counter, chunk = LineCounter(), bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(chunk):
            counter.feed(chunk, size)
    return counter.seen


def _lines(path: Path, longest: int) -> Iterator[tuple[int, str | None, str | None]]:
    """Every line that holds anything: its number, its text, and what is wrong with its bytes."""
    number = 0
    with path.open("rb", buffering=CHUNK) as file:
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest and not line.endswith(b"\n"):
                length = len(line)
                while (rest := file.readline(CHUNK)) and not rest.endswith(b"\n"):
                    length += len(rest)
                yield number, None, f"line of more than {longest:,} bytes"
                continue
            line = line.removeprefix(b"\xef\xbb\xbf").strip(b"\r\n \t")
            if not line:
                continue
            if b"\x00" in line:
                yield number, None, "NUL byte in the line"
            elif line == b"<truncated archive>":
                yield number, None, "archive ends in the middle"
            else:
                try:
                    yield number, line.decode(), None
                except UnicodeDecodeError:
                    yield number, None, "no valid UTF-8"


def _batches(lines: Iterator, size: int = 20_000, weight: int = 32 * 2**20) -> Iterator[list]:
    batch, heavy = [], 0
    for item in lines:
        batch.append(item)
        heavy += len(item[1] or "")
        if len(batch) >= size or heavy >= weight:
            yield batch
            batch, heavy = [], 0
    if batch:
        yield batch


def _to_lines(settings: Settings, landing_file: str, size: int, path: Path, shape: str, scratch: Path) -> Readable:
    """An array or a run of (pretty-printed) objects → one object a line; a "line" is then a record of the file."""
    target = scratch / f"{Path(landing_file).name}.lines"
    count, bad = 0, []
    format = "array" if shape == "array" else "unstructured"
    try:
        with connect(settings) as con, target.open("wb") as out:
            con.execute(
                # Extracting the whole re-writes it without white space, so that it fits on one line.
                f"select json_extract(json, '$')::varchar as line from read_json_objects({literal(str(path))}, format = '{format}', "
                f"compression = 'uncompressed', maximum_object_size = {settings.max_line_bytes})"
            )
            # Not through Arrow, which tells of bad JSON in the middle as if the disk had failed.
            while batch := con.fetchmany(5_000):
                for (line,) in batch:
                    count += 1
                    if not line.startswith("{"):
                        bad.append((count, "no JSON object"))
                        line = "{}"
                    out.write(line.encode() + b"\n")
    except duckdb.Error as error:
        raise Unreadable("no readable JSON: neither one object a line, nor an array, nor whole objects") from error
    if bad:
        wrong = {n for n, _ in bad}
        clean = target.with_suffix(".objects")
        rows = [n for n in range(1, count + 1) if n not in wrong]
        with target.open("rb") as lines, clean.open("wb") as out:
            out.writelines(line for n, line in enumerate(lines, 1) if n not in wrong)
        pq.write_table(
            pa.table({"row": pa.array(range(1, len(rows) + 1), pa.int64()), "line": pa.array(rows, pa.int64())}),
            index := clean.with_suffix(".lines.parquet"),
        )
        return Readable(landing_file, clean, size, count, bad, index, scratch=True)
    return Readable(landing_file, target, size, count, scratch=True)


def _empty(scratch: Path) -> Path:
    path = scratch / "empty.jsonl"
    path.touch()
    return path


