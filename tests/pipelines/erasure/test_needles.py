"""Many strings looked for at once: what a plain search finds, and nothing else."""

from __future__ import annotations

import io
import random
import re

import pytest

from pipelines.erasure.needles import Needles, pieces


def plain(strings: set[bytes], data: bytes) -> set[tuple[int, bytes]]:
    return {(at, s) for s in strings for at in range(len(data)) if data.startswith(s, at)}


@pytest.mark.parametrize("seed", range(5))
def test_finds_what_a_plain_search_finds(seed: int) -> None:
    chance = random.Random(seed)
    words = [b"a", b"bc", b"invoice", b"the", b"-", b" ", b"4711"]
    data = b"".join(chance.choices(words, k=4_000))
    strings = {data[at : at + size] for size in (4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 90) for at in chance.sample(range(len(data) - 90), 6)} | {b"not in there at all", b"nope-1"}
    needles = Needles((), strings)
    assert {(at, needles.strings[n]) for at, n in needles.found(data)} == plain(strings, data)


def test_a_word_is_found_only_where_it_stands_alone() -> None:
    needles = Needles([b"user-01-001", b"anna@example.com"])
    data = b'"user-01-001" user-01-0019 xuser-01-001 say\\nuser-01-001, joanna@example.com <anna@example.com>. \\u00e9anna@example.com'
    assert sorted(at for at, _ in needles.found(data)) == [1, data.index(b"user-01-001,"), data.index(b"<anna") + 1, data.rindex(b"anna@")]


def test_nothing_hides_on_the_border_of_two_pieces() -> None:
    data = b"x" * 995 + b" needle-in-a-haystack " + b"y" * 500
    needles = Needles([b"needle-in-a-haystack"])
    for size in range(990, 1020):
        found = {at + offset for offset, piece, _ in pieces(io.BytesIO(data), size) for at, _ in needles.found(piece)}
        assert found == {996}
    assert b"".join(piece[fresh:] for _, piece, fresh in pieces(io.BytesIO(data), 64)) == data
    assert re.search(rb"needle", data)


@pytest.mark.parametrize("string", [b"abc", b"x" * 1025])
def test_what_is_too_short_or_too_long_is_refused(string: bytes) -> None:
    with pytest.raises(ValueError, match="4 to 1024"):
        Needles([string])
