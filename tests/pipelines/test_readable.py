"""Landed bytes of any shape → one object a line, in order, each traced to its place; and what cannot be read, with why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.errors import RetryLater, SourceUnreadable
from pipelines.readable import Readable, readable, take_apart, unpacked
from pipelines.settings import Settings

A, B, C = ({"id": name, "n": 1} for name in "abc")


def plain(*objects: object) -> bytes:
    return b"".join(json.dumps(o).encode() + b"\n" for o in objects)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "scratch").mkdir()
    return Settings(home=tmp_path / "home", max_line_bytes=2**20)


def look(settings: Settings, raw: bytes, name: str = "f.jsonl") -> Readable:
    path = settings.home / "landing" / "app" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return readable(settings, f"app/{name}", settings.home.parent / "scratch")


def apart(settings: Settings, raw: bytes) -> tuple[list, list[int], list[tuple[int, str]]]:
    """The objects, their lines and the bad lines, line-wise."""
    found = take_apart(settings, look(settings, raw), settings.home.parent / "scratch", ["id"])
    assert found.line_count == found.rows + len(found.bad)
    return [json.loads(t) for t in found.path.read_bytes().splitlines()], pq.read_table(found.lines)["line"].to_pylist(), found.bad


def test_a_plain_file_is_read_where_it_lies(settings):
    found = look(settings, plain(A, B))
    assert found.path == settings.home / "landing/app/f.jsonl"
    assert (found.line_count, found.bad, found.suspicious) == (2, [], False)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("f.jsonl.gz", gzip.compress), ("f.jsonl.gz", lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:])),
     ("f.jsonl.zst", zstandard.compress), ("f.jsonl.zst", lambda raw: zstandard.compress(raw[:9]) + zstandard.compress(raw[9:]))],
    ids=["gzip", "gzip of two members", "zstd", "zstd of two frames"],
)  # fmt: skip
def test_a_packed_file_is_unpacked(settings, name, pack):
    found = look(settings, pack(plain(A, B)), name)
    assert found.path.read_bytes() == plain(A, B)
    assert found.byte_count == len(pack(plain(A, B)))


@pytest.mark.parametrize("name", ["f.jsonl.gz", "f.jsonl.zst"])
def test_a_broken_archive_keeps_what_was_whole(settings, name):
    raw = plain(*({"id": str(n), "x": "".join(chr(33 + (n * k) % 90) for k in range(500))} for n in range(4000)))
    packed = (gzip.compress if name.endswith("gz") else zstandard.compress)(raw)
    found = look(settings, packed[: len(packed) // 2], name)
    found = take_apart(settings, found, settings.home.parent / "scratch", ["id"])
    assert found.rows > 100
    assert [reason for _, reason in found.bad][-1] == "archive ends in the middle"
    assert found.path.read_bytes() == b"".join(raw.splitlines(keepends=True)[: found.rows])


def test_no_archive_behind_the_name(settings):
    found = look(settings, b"\x1f\x8bnothing", "f.jsonl.gz")
    assert (found.rows, len(found.bad)) == (0, 1)
    assert found.bad[0][1].startswith("cannot be unpacked")


@pytest.mark.parametrize(("name", "pack"), [("f.jsonl.gz", gzip.compress), ("f.jsonl.zst", zstandard.compress)])
def test_a_bomb_is_stopped_early(settings, name, pack):
    found = look(settings, pack(b"0" * 200 * 2**20), name)
    assert found.rows == 0
    assert "taken for a bomb" in found.bad[0][1]
    assert sum(p.stat().st_size for p in (settings.home.parent / "scratch").iterdir()) <= 65 * 2**20


@pytest.mark.parametrize(
    "raw",
    [json.dumps([A, B]).encode(), json.dumps([A, B], indent=2).encode(), b"\xef\xbb\xbf" + json.dumps([A, B]).encode(),
     b"\n".join(json.dumps(o, indent=4).encode() for o in (A, B)), json.dumps(A).encode() + json.dumps(B).encode()],
    ids=["array", "array over many lines", "array after a byte order mark", "pretty-printed", "side by side"],
)  # fmt: skip
def test_records_that_are_not_lines_become_lines(settings, raw):
    found = look(settings, raw, "f.json")
    assert [json.loads(t) for t in found.path.read_bytes().splitlines()] == [A, B]
    assert (found.line_count, found.bad) == (2, [])


def test_an_array_with_other_things_between(settings):
    found = look(settings, json.dumps([1, A, None, B, "x"]).encode(), "f.json")
    assert [json.loads(t) for t in found.path.read_bytes().splitlines()] == [A, B]
    assert found.bad == [(n, "no JSON object") for n in (1, 3, 5)]
    assert pq.read_table(found.lines)["line"].to_pylist() == [2, 4]


@pytest.mark.parametrize("raw", [b"", b" \n\n\t\n", b"\xef\xbb\xbf"])
def test_nothing_in_a_file(settings, raw):
    assert apart(settings, raw) == ([], [], [])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(b'{"id": "x', "no valid JSON"), (b"hello", "no valid JSON"), (b"5", "no JSON object"), (b"null", "no JSON object"),
     (b"[1, 2]", "no JSON object"), (b'{"id": "\xff"}', "no valid UTF-8"), (b'{"id": "\x00"}', "NUL byte in the line"),
     (b'{"id": "\\ud800"}', "no valid JSON"), (b'{"id": 1, "id": 2}', "a key given twice"),
     (b'{"id": "' + b"x" * 2**21 + b'"}', "line of more than 1,048,576 bytes")],
    ids=["cut", "text", "number", "null", "array", "utf-8", "nul", "surrogate", "twice", "long"],
)  # fmt: skip
@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_bad_line_costs_no_other(settings, bad, reason, place):
    lines = [plain(o).strip() for o in (A, B, C)]
    lines.insert(place - 1, bad)
    objects, numbers, faults = apart(settings, b"\n".join(lines) + b"\n")
    assert objects == [A, B, C]
    assert numbers == [n for n in (1, 2, 3, 4) if n != place]
    assert faults == [(place, reason)]


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("broken", [b'{"id": "x", "said": "line one\nline two"}', b'{"id": "x",\n"n": }', b"[09:00:01] started\n[09:00:02] listening"])
def test_a_record_torn_by_a_newline_costs_no_other(settings, broken, place):
    lines = [plain(o).strip() for o in (A, B, C)]
    lines.insert(place - 1, broken)
    objects, numbers, faults = apart(settings, b"\n".join(lines) + b"\n")
    assert objects == [A, B, C]
    assert numbers == [n for n in (1, 2, 3, 4, 5) if n not in (place, place + 1)]
    assert [n for n, _ in faults] == [place, place + 1]


@pytest.mark.parametrize(
    "raw",
    [json.dumps([A, B], indent=2).encode()[:-4], b'{\n  "id": "a",\n  "said": [\n    {"role": "user"}\n  ],\n', b"[\n" + plain(A)[:-1] + b",\n{broken,\n" + plain(B) + b"]"],
    ids=["array", "object", "array with a broken record"],
)
def test_half_an_object_is_not_taken_for_lines(settings, raw):
    found = look(settings, raw)
    assert (found.path.read_bytes(), found.bad) == (b"", [(1, "no readable JSON: neither one object a line, nor an array, nor whole objects")])


@pytest.mark.parametrize(
    ("raw", "numbers"),
    [(b"\xef\xbb\xbf" + plain(A, B), [1, 2]), (plain(A, B).replace(b"\n", b"\r\n"), [1, 2]), (b"\n\n" + plain(A) + b"  \n" + plain(B), [3, 5]),
     (plain(A, B)[:-1], [1, 2]), (b'{"id": "cut\n\n' + plain(A, B), [3, 4])],
    ids=["byte order mark", "crlf", "blank lines", "no last newline", "blank after a broken first"],
)  # fmt: skip
def test_lines_are_numbered_as_in_the_original(settings, raw, numbers):
    objects, found, _ = apart(settings, raw)
    assert (objects, found) == ([A, B], numbers)


def test_only_keys_that_are_read_must_be_given_once(settings):
    assert apart(settings, b'{"id": "a", "n": 0, "n": 1}\n')[2] == []


def test_deep_json_is_a_line_like_others(settings):
    deep = b'{"id": "deep", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    found = take_apart(settings, look(settings, deep + plain(A)), settings.home.parent / "scratch", ["id"])
    assert found.rows + len(found.bad) == 2
    assert found.path.read_bytes().endswith(plain(A))


def test_a_price_list_that_cannot_be_unpacked_stops_the_line(settings):
    look(settings, b"\x1f\x8bnothing", "f.json.gz")
    with pytest.raises(SourceUnreadable, match=r"f\.json\.gz: cannot be unpacked"):
        unpacked(settings, "app/f.json.gz", settings.home.parent / "scratch")


def test_landing_that_cannot_be_reached_is_worth_another_try(settings):
    with pytest.raises(RetryLater, match="in landing cannot be read"):
        readable(settings, "app/gone.jsonl", settings.home.parent / "scratch")


def test_landing_in_a_remote_store(settings):
    fsspec.filesystem("memory").pipe("/readable/landing/app/f.jsonl", plain(A))
    remote = settings.model_copy(update={"landing_url": "memory://readable/landing"})
    found = readable(remote, "app/f.jsonl", settings.home.parent / "scratch")
    assert found.path.read_bytes() == plain(A)
