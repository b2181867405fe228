"""Find many strings in many bytes at once: what an erasure looks for, and what proves that it is gone.

A window of eight bytes out of each string is looked up at every offset by a multiplicative hash, so the time hangs on the
bytes alone, not on how many strings there are (Rabin and Karp 1987, with a table instead of a rolling hash). What the
table lets through is compared exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

CHUNK = 8 * 2**20
LONGEST = 1024
"""No string looked for is longer, so that pieces of a file need to overlap by no more."""
WINDOWS = (8, 4)
_MULTIPLIER = {8: np.uint64(0x9E3779B97F4A7C15), 4: np.uint32(0x9E3779B1)}
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_ESCAPED = re.compile(rb"\\(?:[nrtbf]|u[0-9a-fA-F]{4})\Z")


class Needles:
    """Strings to look for. `words` count only where they stand alone (`user-1` is not in `user-12`); `texts` count anywhere.

    Strings of fewer than four bytes cannot be looked for and raise `ValueError`.
    """

    def __init__(self, words: Iterable[bytes], texts: Iterable[bytes] = ()) -> None:
        words = set(words)
        self.strings = sorted(words | set(texts))
        self._stands_alone = [s in words for s in self.strings]
        self._groups: list[tuple[int, np.ndarray, np.ndarray, dict[int, list[int]], int]] = []
        for width in WINDOWS:
            tails: dict[int, list[int]] = {}
            for n, string in enumerate(self.strings):
                if len(string) < WINDOWS[-1] or len(string) > LONGEST:
                    raise ValueError("a string to look for has 4 to 1024 bytes")
                if (len(string) >= WINDOWS[0]) == (width == WINDOWS[0]):
                    # The end of an id tells more than its prefix.
                    tails.setdefault(int.from_bytes(string[-width:], "little"), []).append(n)
            if tails:
                keys = np.array(sorted(tails), dtype=f"<u{width}")
                # Small enough for the processor's cache, large enough to let little through.
                bits = min(20, max(14, len(keys).bit_length() + 7))
                table = np.zeros(2**bits, dtype=bool)
                table[_slots(keys, width, bits)] = True
                self._groups.append((width, keys, table, tails, bits))
        # Long ones are told by more of their end before they are compared one by one: words of a language share eight bytes often.
        self._ends = {n: np.array(sorted({_mixed(s[-n:]) for s in self.strings if len(s) >= n}), dtype="<u8") for n in (16, 32)}
        self._short = {n: np.array(sorted({int.from_bytes(s[-8:], "little") for s in self.strings if 8 <= len(s) < n}), dtype="<u8") for n in (16, 32)}

    def __bool__(self) -> bool:
        return bool(self.strings)

    def found(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[int, int]]:
        """(offset, number of the string in `strings`) of every find, in no order."""
        whole = np.frombuffer(data, dtype=np.uint8)
        for width, keys, table, tails, bits in self._groups:
            for shift in range(width):
                size = (len(whole) - shift) // width
                if size <= 0:
                    continue
                windows = whole[shift : shift + size * width].view(keys.dtype)
                likely = np.flatnonzero(table[_slots(windows, width, bits)])
                if not len(likely):
                    continue
                values = windows[likely]
                exact = keys[np.minimum(np.searchsorted(keys, values), len(keys) - 1)] == values
                ends, values = shift + likely[exact] * width + width, values[exact]
                if width == 8:
                    for n in (16, 32):
                        stays = np.isin(values, self._short[n])
                        far = np.flatnonzero(~stays & (ends >= n))
                        if len(far):
                            words = whole[ends[far, None] + np.arange(-n, 0)].view("<u8")
                            stays[far] = np.isin((words * _MIX[: n // 8]).sum(axis=1, dtype=np.uint64), self._ends[n])
                        ends, values = ends[stays], values[stays]
                for end, value in zip(ends.tolist(), values.tolist(), strict=True):
                    for n in tails[value]:
                        start = end - len(self.strings[n])
                        if start >= 0 and bytes(whole[start:end]) == self.strings[n] and (not self._stands_alone[n] or _alone(whole, start, end)):
                            yield start, n


def _mixed(end: bytes) -> int:
    return int((np.frombuffer(end, dtype="<u8") * _MIX[: len(end) // 8]).sum(dtype=np.uint64))


def _slots(values: np.ndarray, width: int, bits: int) -> np.ndarray:
    return (values * _MULTIPLIER[width]) >> values.dtype.type(8 * width - bits)


def _alone(whole: np.ndarray, start: int, end: int) -> bool:
    """Whether no letter, digit, - or _ touches it; the n of a JSON `\\n` is no letter."""
    if end < len(whole) and int(whole[end]) in _WORD and int(whole[start]) in _WORD:
        return False
    if start == 0 or int(whole[start - 1]) not in _WORD or int(whole[start]) not in _WORD:
        return True
    return bool(_ESCAPED.search(bytes(whole[max(0, start - 6) : start])))


def pieces(file, size: int = CHUNK) -> Iterator[tuple[int, bytes, int]]:
    """(offset, bytes, where the new ones start) of a file in pieces that overlap, so that nothing hides on a border."""
    offset, rest = 0, b""
    while chunk := file.read(size):
        yield offset - len(rest), rest + chunk, len(rest)
        offset += len(chunk)
        rest = (rest + chunk)[-LONGEST - 8 :]
