"""Every byte that is kept, searched for what was erased: packed files unpacked, Parquet cells decoded, archives opened."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from pipelines.contracts import quoted
from pipelines.erasure.needles import Needles, pieces
from pipelines.settings import Settings

BATCH_ROWS = 2_048


@dataclass
class Searched:
    """What was searched, and in which files something was found (path → how often)."""

    files: dict[str, int] = field(default_factory=dict)
    """By place: landing, warehouse, home."""
    paths: set[str] = field(default_factory=set)
    byte_count: dict[str, int] = field(default_factory=dict)
    decoded_byte_count: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    """Files that could not be unpacked to their end, with the reason; their raw bytes were searched all the same."""


def places(settings: Settings) -> dict[str, str]:
    """The folders that are searched; a place inside another is searched once, with that."""
    urls = {"home": str(settings.home), "landing": settings.landing, "warehouse": settings.warehouse}
    home = f"{settings.home}/"
    return {name: url for name, url in urls.items() if name == "home" or not url.removeprefix("file://").startswith(home)}


def files_of(url: str) -> Iterator[str]:
    """All files below a folder, as full paths of its store."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    if fs.exists(root):
        yield from sorted(fs.find(root))


def search_everything(settings: Settings, needles: Needles, report: Callable[[str], None] = lambda text: None) -> Searched:
    """Search all files of landing, warehouse and home, whatever they are and whether anything refers to them or not."""
    done = Searched()
    for name, url in places(settings).items():
        fs, _ = fsspec.core.url_to_fs(url)
        for path in files_of(url):
            place = name
            if name == "home":
                place = path.removeprefix(f"{settings.home}/").split("/")[0] if "/" in path.removeprefix(f"{settings.home}/") else "home"
            report(path)
            try:
                search_file(fs, path, place, needles, done)
            except FileNotFoundError:
                continue  # another process has removed it meanwhile
    return done


def search_file(fs: Any, path: str, place: str, needles: Needles, done: Searched) -> None:
    """Search one file: its raw bytes and its name, and what is packed or encoded in it."""
    done.files[place] = done.files.get(place, 0) + 1
    done.paths.add(path)
    hits = sum(1 for _ in needles.found(path.encode()))
    with fs.open(path, "rb") as file:
        for _, data, fresh in pieces(file):
            done.byte_count[place] = done.byte_count.get(place, 0) + len(data) - fresh
            hits += sum(1 for _ in needles.found(data))
        file.seek(0)
        try:
            for data in _decoded(path, file):
                done.decoded_byte_count[place] = done.decoded_byte_count.get(place, 0) + len(data)
                hits += sum(1 for _ in needles.found(data))
        except (OSError, EOFError, zlib.error, zstandard.ZstdError, zipfile.BadZipFile, pa.ArrowException, duckdb.Error, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            done.unread[path] = type(error).__name__
    if hits:
        done.found[path] = hits


def _decoded(path: str, file: BinaryIO) -> Iterator[bytes]:
    head, mark = file.read(4), file.read(8)[4:]
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        yield from (data for _, data, _ in pieces(gzip.GzipFile(fileobj=file)))
    elif head == b"\x28\xb5\x2f\xfd":
        yield from (data for _, data, _ in pieces(zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file, read_across_frames=True)))
    elif head == b"PAR1":
        yield from _cells(file)
    elif mark == b"DUCK":
        yield from _duckdb(path)
    elif head == b"Obj\x01":
        yield from _avro_blocks(file.read())
    elif head == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            for name in archive.namelist():
                yield name.encode()
                with archive.open(name) as member:
                    yield from (data for _, data, _ in pieces(member))


def _cells(file: BinaryIO) -> Iterator[bytes]:
    """The texts of a Parquet file, decoded, one a line, by column and batch of rows."""
    for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS):
        for column in batch.columns:
            yield from _texts(column)


def _duckdb(path: str) -> Iterator[bytes]:
    """The texts of a DuckDB file's tables, which it packs, and what its views say."""
    with duckdb.connect(path, read_only=True) as con:
        for (sql,) in con.execute("select sql from duckdb_views() where not internal").fetchall():
            yield (sql or "").encode()
        for schema, table in con.execute("select schema_name, table_name from duckdb_tables() where not internal").fetchall():
            for batch in con.sql(f"select columns(*)::varchar from {quoted(schema)}.{quoted(table)}").to_arrow_reader(BATCH_ROWS):
                for column in batch.columns:
                    yield from _texts(column)


def _texts(column: pa.Array) -> Iterator[bytes]:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(column.flatten())
    elif pa.types.is_struct(kind):
        for part in column.flatten():
            yield from _texts(part)
    elif pa.types.is_map(kind):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_dictionary(kind):
        yield from _texts(column.dictionary)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        texts = pc.fill_null(column.cast(pa.binary()), b"")
        one = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        # A newline between the cells, so that an id ends where its cell does; quotes, so that a short one is found as a whole.
        yield b'"' + pc.binary_join(one, b'"\n"')[0].as_py() + b'"' if len(texts) else b""


def _avro_blocks(data: bytes) -> Iterator[bytes]:
    """The unpacked blocks of an Avro file (Iceberg's manifests), as the Avro 1.11 specification lays them out."""
    at = 4

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def piece() -> bytes:
        nonlocal at
        size = number()
        at += size
        return data[at - size : at]

    facts: dict[bytes, bytes] = {}
    while count := number():
        if count < 0:
            number()
        for _ in range(abs(count)):
            name = piece()
            facts[name] = piece()
    at += 16
    while at < len(data):
        number()
        block = piece()
        at += 16
        codec = facts.get(b"avro.codec", b"null")
        yield zlib.decompress(block, -15) if codec == b"deflate" else zstandard.ZstdDecompressor().decompress(block) if codec == b"zstandard" else block
