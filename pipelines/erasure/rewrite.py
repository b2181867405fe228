"""Landed files without the records of whom is erased: found by their bytes, written anew under the hash of what is left.

A file that holds nothing of theirs is not touched. Of one that does, all other lines are copied byte for byte, in their
order; a file of which nothing is left becomes an empty file, so that the ledger can say what became of it. An array or
pretty-printed file becomes one record a line; records keep their order.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipelines.contracts import quoted
from pipelines.erasure.belonging import Belonging, Identifier, containers
from pipelines.erasure.needles import Needles, pieces
from pipelines.errors import StopTheLine
from pipelines.lake import Lake
from pipelines.land import LineCounter, Lines, is_local, landed_paths, origin_memory
from pipelines.readable import Readable, readable
from pipelines.settings import Settings
from pipelines.stage import Staged, format_sql

log = logging.getLogger(__name__)

Held = Callable[[dict[str, set[int]]], dict[str, dict[int, frozenset[str]]]]
"""Of lines of landed files: the ids of the rows that core has of others from each, as the logs have them."""
ROUNDS = 6
"""Ids lead to ids: a trace to its spans, a span to the signals about it. Real chains end after two."""


@dataclass
class Rewritten:
    """What was done to landed files. `files`: what takes the place of each that changed."""

    files: dict[str, str] = field(default_factory=dict)
    records: int = 0
    shared: int = 0
    mentions: int = 0


@dataclass
class Search:
    """Where landed files hold any of the strings: numbers of lines, as in their readable form."""

    lines: dict[str, set[int]] = field(default_factory=dict)
    texts: set[bytes] = field(default_factory=set)
    """Of the sentences looked for, those that stand in no line without an identifier."""
    files: int = 0
    byte_count: int = 0


class Landing:
    """The landed files of a sweep, each unpacked at most once while it is needed."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings, self.scratch = settings, scratch
        self._open: dict[str, Readable] = {}

    def readable(self, path: str) -> Readable:
        """One record a line."""
        if path not in self._open:
            folder = self.scratch / uuid.uuid4().hex
            folder.mkdir(parents=True)
            self._open[path] = readable(self.settings, path, folder)
        return self._open[path]

    def rows(self, path: str, lines: Iterable[int]) -> dict[int, int]:
        """By line, as core counts them: the line of the readable form, which leaves out what is no object in an array."""
        return self._numbers(path, "line", "row", lines)

    def _numbers(self, path: str, given: str, wanted: str, of: Iterable[int]) -> dict[int, int]:
        """One way of counting lines by the other: `line` is core's, `row` that of the readable form."""
        index = self.readable(path).lines
        if index is None:
            return {number: number for number in of}
        table = pq.read_table(index)
        known = dict(zip(table[given].to_pylist(), table[wanted].to_pylist(), strict=True))
        return {number: known[number] for number in of if number in known}

    def others(self, wanted: dict[str, set[int]], held: Held) -> dict[str, dict[int, frozenset[str]]]:
        """Of lines of the readable forms: the ids of the rows that core has of others from each."""
        lines = {path: self._numbers(path, "row", "line", rows) for path, rows in wanted.items()}
        found = held({path: set(rows.values()) for path, rows in lines.items()})
        return {path: {row: found[path][line] for row, line in rows.items() if line in found[path]} for path, rows in lines.items() if path in found}

    def forget(self, path: str) -> None:
        """It holds nothing of theirs: its unpacked copy is not needed again."""
        done = self._open.pop(path, None)
        if done and done.scratch:
            done.path.unlink(missing_ok=True)

    def search(
        self, paths: Iterable[str], words: Iterable[bytes], texts: Iterable[bytes], theirs: dict[str, set[int]], report: Callable[[str], None] = lambda text: None
    ) -> Search:
        """Look for identifiers, and for sentences of theirs: one that stands in a line of others without any identifier is theirs too, and is given up.

        `theirs`: lines of which core says that they are of whom is erased; they are found in any case.
        """
        words, found = set(words), Search({path: set(lines) for path, lines in theirs.items()}, set(texts))
        needles = Needles(words, found.texts)
        for path in paths:
            report(path)
            file = self.readable(path)
            found.files += 1
            before = 0
            with file.path.open("rb") as opened:
                for _, data, fresh in pieces(opened):
                    found.byte_count += len(data) - fresh
                    # Numbered by the newlines before it; what starts in the overlap was found with the piece before.
                    base = before - data.count(b"\n", 0, fresh)
                    hits = sorted((at, needles.strings[n]) for at, n in needles.found(data))
                    said: dict[int, set[bytes]] = {}
                    named: set[int] = set()
                    at_line, at_byte = base, 0
                    for at, string in hits:
                        at_line += data.count(b"\n", at_byte, at)
                        at_byte = at
                        said.setdefault(at_line + 1, set()).add(string) if string in found.texts else named.add(at_line + 1)
                    if named:
                        found.lines.setdefault(path, set()).update(named)
                    common = {s for line, strings in said.items() if line not in found.lines.get(path, ()) for s in strings}
                    if common:
                        found.texts -= common
                        needles = Needles(words, found.texts)
                    before += data.count(b"\n", fresh)
            if path not in found.lines:
                self.forget(path)
        return found


def sweep(
    landing: Landing, paths: list[str], identifiers: set[Identifier], texts: set[bytes], unowned: Callable[[set[Identifier]], set[Identifier]],
    inside: Callable[[str], list[list[str]]], systems: Callable[[str], frozenset[str]], theirs: dict[str, set[int]], held: Held,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[Search, set[Identifier]]:
    """Lines that hold something of theirs, and all identifiers that were found on the way, those that led there included.

    `theirs`: lines that core attributes to them, as core counts them; `held`: rows of others.
    """
    there = set(paths)
    owned = {path: set(landing.rows(path, lines).values()) for path, lines in theirs.items() if path in there}
    found, known, fresh = Search({path: set(rows) for path, rows in owned.items()}, set(texts)), set(identifiers), set(identifiers)
    asked: dict[str, set[int]] = {}
    others_on: dict[str, dict[int, frozenset[str]]] = {}
    for _ in range(ROUNDS):
        if not fresh:
            break
        first = not found.files
        one = landing.search(paths, {n for i in fresh for n in i.needles}, found.texts if first else (), owned if first else {}, report)
        if first:
            found = one
        else:
            for path, lines in one.lines.items():
                found.lines.setdefault(path, set()).update(lines)
        unasked = {path: more for path, lines in found.lines.items() if (more := lines - asked.get(path, set()))}
        for path, told in landing.others(unasked, held).items():
            others_on.setdefault(path, {}).update(told)
        asked = {path: set(lines) for path, lines in found.lines.items()}
        belonging, links = Belonging(known), set()
        for path, wanted in found.lines.items():
            own, containers, prefixes, theirs_there = others_on.get(path, {}), inside(path), systems(path), owned.get(path, set())
            with landing.readable(path).path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if number in wanted:
                        pruned = belonging.prune(
                            line.decode(errors="replace"), containers, prefixes, theirs=number in theirs_there, others=own.get(number, frozenset()))  # fmt: skip
                        links |= pruned.links
        links -= known
        fresh = links - unowned(links) if links else set()
        known |= fresh
    return found, known


def rewrite(
    landing: Landing, path: str, wanted: set[int], theirs: set[int], others: dict[int, frozenset[str]], belonging: Belonging, inside: list[list[str]],
    systems: frozenset[str], done: Rewritten, present: dict[str, str],
) -> str | None:
    """Write a landed file without what is theirs on the `wanted` lines; None when nothing changes. `theirs`, `others`: what core says of these lines.

    The new file is in landing when this returns; the old one is still there.
    """
    file = landing.readable(path)
    fs, root = fsspec.core.url_to_fs(landing.settings.landing)
    folder = path.rpartition("/")[0]
    part = f"{root}/{folder}/{uuid.uuid4().hex}.part"
    changed, counter = False, LineCounter()
    counts = [0, 0, 0]
    with fs.open(part, "wb") as raw:
        hashed = _Hashed(raw)
        packed = _packer(hashed, path)
        with file.path.open("rb", buffering=2**20) as lines:
            for number, line in enumerate(lines, 1):
                if number in wanted:
                    text = line.decode(errors="surrogateescape").rstrip("\r\n")
                    pruned = belonging.prune(text, inside, systems, theirs=number in theirs, others=others.get(number, frozenset()))
                    counts = [n + m for n, m in zip(counts, (pruned.records, pruned.shared, pruned.mentions), strict=True)]
                    if pruned.text is None:
                        changed = True
                        continue
                    if pruned.text != text:
                        changed = True
                        line = pruned.text.encode(errors="surrogateescape") + b"\n"
                packed.write(line)
                counter.feed(bytearray(line), len(line))
        if packed is not hashed:
            packed.close()
    if not changed:
        fs.rm_file(part)
        return None
    name = hashed.digest.hexdigest() + re.search(r"(\.[a-z0-9]{1,10}){0,2}$", path.rsplit("/", 1)[-1])[0]
    new = present.get(name, f"{folder}/{name}")
    if name in present:
        fs.rm_file(part)
    else:
        os.replace(part, f"{root}/{new}") if is_local(fs) else fs.mv(part, f"{root}/{new}")
    present[name] = new
    done.files[path] = new
    done.records, done.shared, done.mentions = done.records + counts[0], done.shared + counts[1], done.mentions + counts[2]
    remember(landing.settings, {path: (new, counter.seen)})
    return new


def discard(settings: Settings, paths: Iterable[str]) -> None:
    """Delete landed files whose place others have taken."""
    fs, root = fsspec.core.url_to_fs(settings.landing)
    for path in paths:
        with suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{path}")


def remember(settings: Settings, renamed: dict[str, tuple[str, Lines]]) -> None:
    """So that a source's file that was landed before is known to be landed still, under its new name, and is not read again."""
    with closing(origin_memory(settings)) as memory:
        memory.execute("pragma secure_delete = on")
        for old, (new, lines) in renamed.items():
            memory.execute("update origin set landing_file = ?, line_count = ?, is_suspicious = 1 where landing_file = ?", [new, lines.count, old])
        memory.commit()


def refuse_erased(settings: Settings, lake: Lake, staged: Staged, source: str, format: str, scratch: Path) -> dict[str, str]:
    """Take out of the landed files of a batch what has a tombstone, before it is taken in; says what took the place of which file.

    Ids of the records that were taken out get tombstones too, so that what refers to them later is known.
    """
    from pipelines.erasure import tombstones

    stones = tombstones.known(lake)
    identifiers, lines = tombstones.screen(settings, staged, stones, scratch)
    if not identifiers and not lines:
        return {}
    landing, done = Landing(settings, scratch), Rewritten()
    paths = [f.landing_file for f in staged.files]
    present = {p.rsplit("/", 1)[-1]: p for p in landed_paths(settings, source)}
    system = frozenset(r[0] for r in staged.con.execute(f"select distinct split_part({staged.target.grain[0]}, ':', 1) from candidate where {staged.target.grain[0]} is not null").fetchall())
    if staged.target.table == "core.feedback":
        system = frozenset()
    owned = {tombstones.tombstone_hash(settings, i.kind, i.text) for i in identifiers}
    inside, theirs = containers_of(settings, format), by_file(lines)

    def held(wanted: dict[str, set[int]]) -> dict[str, dict[int, frozenset[str]]]:
        """The columns that the select gives say whose a row is."""
        key = quoted(staged.target.grain[0])
        rows = ids_on(staged.con, f"select landing_file, landing_line, {key}::varchar as id from candidate where not is_context and {key} is not null", wanted)
        return {path: {line: ids for line, ids in on.items() if line not in theirs.get(path, ())} for path, on in rows.items()}

    found, known = sweep(
        landing, paths, identifiers, set(), lambda links: others(lake, links, stones), lambda path: inside, lambda path: system, theirs, held)  # fmt: skip
    told = stones.keys() | owned
    if fresh := {i for i in known if i.is_telling and tombstones.tombstone_hash(settings, i.kind, i.text) not in told}:
        from datetime import UTC, datetime

        tombstones.bury(lake, fresh, next(iter(_erasures(lake, owned)), "arrival"), datetime.now(UTC).replace(tzinfo=None), opens=False)
    belonging = Belonging(known)
    others_on = landing.others(found.lines, held)
    for path, wanted in found.lines.items():
        owned_there = set(landing.rows(path, theirs.get(path, set())).values())
        rewrite(landing, path, wanted, owned_there, others_on.get(path, {}), belonging, inside, system, done, present)
    if not done.files and lines:
        raise StopTheLine(f"{source}: {len(lines)} lines hold what was erased, and cannot be taken out of {', '.join(sorted({p for p, _ in lines}))}")
    log.info("%s: %s records of whom was erased taken out of %s files that arrived", source, done.records, len(done.files))
    discard(settings, done.files)
    return done.files


def others(lake: Lake, links: set[Identifier], stones: dict[str, Any], theirs: set[str] | None = None) -> set[Identifier]:
    """Of some sessions, traces and calls, those of rows that core still has of somebody else (`theirs`: calls that are to go)."""
    from pipelines.engine import connect

    if not lake.exists("core.inference"):
        return set()
    with connect(lake.settings) as con:
        lake.attach(con, "core.inference")
        con.register("_theirs", pa.table({"id": pa.array(sorted(theirs or ()), pa.string())}))
        con.register("_links", pa.table({"text": pa.array(sorted({i.text for i in links}), pa.string())}))
        held = {r[0] for r in con.execute(
            """with kept as (select * from core.inference where inference_id not in (select id from _theirs))
            select text from _links where text in (select session_id from kept union all select trace_id from kept
                union all select regexp_extract(inference_id, '([^:]+)$', 1) from kept)""").fetchall()}
    return {i for i in links if i.text in held}


def _erasures(lake: Lake, hashes: set[str]) -> list[str]:
    from pipelines.engine import connect
    from pipelines.erasure import tombstones

    with connect(lake.settings) as con:
        lake.attach(con, tombstones.TABLE)
        return sorted(e for e, h in con.execute(f"select erasure_id, identifier_hash from {tombstones.TABLE}").fetchall() if h in hashes)


def by_file(lines: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    """Lines by their file."""
    found: dict[str, set[int]] = {}
    for path, line in lines:
        found.setdefault(path, set()).add(line)
    return found


def ids_on(con: Any, rows: str, wanted: dict[str, set[int]]) -> dict[str, dict[int, frozenset[str]]]:
    """By landed file and line: the ids of `rows` as the logs may have them, without the system, and of a span without its trace."""
    places = [(path, line) for path, lines in wanted.items() for line in lines]
    con.register("_wanted", pa.table({"landing_file": pa.array([p for p, _ in places], pa.string()), "landing_line": pa.array([n for _, n in places], pa.int64())}))
    found: dict[str, dict[int, frozenset[str]]] = {}
    for path, line, ids in con.execute(f"select landing_file, landing_line, list(id) from ({rows}) semi join _wanted using (landing_file, landing_line) group by all").fetchall():
        texts = {text for id in ids for text in (id.partition(":")[2], id.rpartition(":")[2]) if text}
        found.setdefault(path, {})[line] = frozenset(texts | {n.decode() for text in texts for n in Identifier("call", text).needles})
    con.unregister("_wanted")
    return found


def containers_of(settings: Settings, format: str) -> list[list[str]]:
    """Where the lines of a format hold several records, by both of its selects."""
    return [path for target in ("inference", "feedback") if (sql := format_sql(settings, target, format)) for path in containers(sql)]


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw, self.digest = raw, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.raw.write(data)

    def flush(self) -> None:
        self.raw.flush()


def _packer(file: Any, name: str) -> Any:
    if name.endswith(".gz"):
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
    if name.endswith(".zst"):
        return zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False)
    return file


