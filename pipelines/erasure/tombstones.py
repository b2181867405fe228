"""Tombstones: keyed hashes of what was erased, and the search for it in what arrives.

A hash is `left(sha256(pseudonym_key || ':tombstone:' || kind || ':' || text), 32)`; a user's text is the pseudonym that
core has in its place. Whoever has the tables but not the key learns nothing from them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts import contract, literal, quoted
from pipelines.engine import connect
from pipelines.erasure.belonging import KINDS, Identifier, tokens
from pipelines.lake import Lake
from pipelines.readable import unpacked
from pipelines.settings import Settings
from pipelines.stage import Staged

TABLE = "core.tombstone"
OPEN = "flywheel.erasing."
"""Property of the table for as long as an erasure is not through."""


def pseudonym(settings: Settings, user: str) -> str:
    """What core has in the place of a user's id."""
    return _keyed(settings, user)


def tombstone_hash(settings: Settings, kind: str, text: str) -> str:
    """The hash of an identifier as it stands in the logs."""
    if kind == "user":
        return tombstone_hash_of_pseudonym(settings, pseudonym(settings, text))
    return _keyed(settings, f"tombstone:{kind}:{text}")


def tombstone_hash_of_pseudonym(settings: Settings, known_as: str) -> str:
    """The hash of a user whose pseudonym is known, and whose id is not."""
    return _keyed(settings, f"tombstone:user:{known_as}")


def _keyed(settings: Settings, text: str) -> str:
    return hashlib.sha256(f"{settings.pseudonym_key.get_secret_value()}:{text}".encode()).hexdigest()[:32]


def version(lake: Lake) -> int | None:
    """What changes with every tombstone; None while there are none."""
    return lake.snapshot(TABLE).id if lake.exists(TABLE) else None


def known(lake: Lake) -> dict[str, tuple[str, frozenset[str] | None]]:
    """(kind, systems) of every tombstone, by hash."""
    if not lake.exists(TABLE):
        return {}
    with connect(lake.settings) as con:
        lake.attach(con, TABLE)
        rows = con.execute(f"select identifier_hash, kind, systems from {TABLE}").fetchall()
    return {h: (kind, frozenset(systems.split(",")) if systems else None) for h, kind, systems in rows}


def bury(lake: Lake, identifiers: Iterable[Identifier], erasure_id: str, at: datetime, *, opens: bool) -> int:
    """Commit tombstones for what has none yet, and the erasure as begun; returns how many were new."""
    settings, new = lake.settings, 0
    by_hash = {tombstone_hash(settings, i.kind, i.text): i for i in identifiers}
    settings.scratch.mkdir(parents=True, exist_ok=True)
    lake.table(TABLE)

    def attempt(seen: Any) -> None:
        nonlocal new
        there = known(lake)
        rows = [
            {"identifier_hash": h, "kind": i.kind, "systems": ",".join(sorted(i.systems)) if i.systems else None, "erasure_id": erasure_id, "erased_at": at}
            for h, i in sorted(by_hash.items()) if h not in there
        ]  # fmt: skip
        new = len(rows)
        add = []
        if rows:
            path = settings.scratch / f"{uuid.uuid4().hex}.parquet"
            schema = pa.schema([(c.name, pa.timestamp("us") if c.type == "timestamp" else pa.string()) for c in contract(TABLE).columns])
            pq.write_table(pa.Table.from_pylist(rows, schema), path)
            add = [lake.upload(path, TABLE)]
        if add or opens:
            lake.commit(seen, add, properties={OPEN + erasure_id: at.isoformat()} if opens else None)

    lake.settle(TABLE, attempt)
    return new


def close(lake: Lake, erasure_id: str) -> None:
    """The erasure is through."""
    lake.settle(TABLE, lambda seen: lake.strike(seen, OPEN + erasure_id))


def unfinished(lake: Lake) -> dict[str, datetime]:
    """Erasures that were begun and not finished, with their beginning."""
    if not lake.exists(TABLE):
        return {}
    return {k.removeprefix(OPEN): datetime.fromisoformat(v) for k, v in lake.table(TABLE).properties.items() if k.startswith(OPEN)}


def recognised(settings: Settings, lines: Iterable[str], stones: dict[str, tuple[str, frozenset[str] | None]]) -> set[Identifier]:
    """The identifiers in some lines that have a tombstone."""
    kinds = {kind for kind, _ in stones.values()}
    found: set[Identifier] = set()
    seen: set[str] = set()
    for line in lines:
        for token in tokens(line) - seen:
            seen.add(token)
            for text in {token, token.partition(":")[2], token.rpartition("/")[2]} - {""}:
                for kind in kinds:
                    if stone := stones.get(tombstone_hash(settings, kind, text)):
                        found.add(Identifier(kind, text, stone[1]))
    return found


def screen(
    settings: Settings, staged: Staged, stones: dict[str, tuple[str, frozenset[str] | None]], scratch: Path
) -> tuple[set[Identifier], set[tuple[str, int]]]:
    """What of a staged batch has a tombstone: the identifiers as the logs have them, and (landing file, line) of the records.

    Rows are told by the columns that their format's select gives. A line that gave no row (a trace, a score, one that cannot
    be read) is told by its values.
    """
    con, promised = staged.con, staged.target
    con.execute(f"set variable tombstone_key = {literal(settings.pseudonym_key.get_secret_value() + ':tombstone:')}")
    con.register("_stone", pa.table({"h": list(stones), "kind": [k for k, _ in stones.values()]}))
    kinds = {kind for kind, _ in stones.values()}
    grain = promised.grain[0]
    columns = {
        "user": ["user_id", "rater_id"], "tenant": ["tenant"], "session": ["session_id"], "trace": ["trace_id"], "call": [grain],
    }  # fmt: skip
    if "target_id" in promised.names:
        columns |= {kind: [*columns[kind], "target_id"] for kind in ("call", "session", "trace")}
    parts = []
    for kind in KINDS:
        for column in columns[kind]:
            if kind not in kinds or column not in promised.names:
                continue
            texts = [quoted(column)] + ([f"nullif(regexp_extract({quoted(column)}, '^[^:]*:(.+)$', 1), '')"] if kind == "call" else [])
            parts += [f"select landing_file, landing_line, {literal(kind)} as kind, {text} as text, {quoted(column)} as whole from candidate" for text in texts]
    hits = con.execute(
        f"""with said as ({" union all ".join(parts)}),
        stone as (select distinct kind, text from said where text is not null),
        fits as (select stone.kind, text, h from stone join _stone on _stone.kind = stone.kind
            and _stone.h = left(sha256(getvariable('tombstone_key') || stone.kind || ':' || text), 32))
        select distinct landing_file, landing_line, kind, text, whole, h from said join fits using (kind, text)"""
    ).fetchall() if parts else []
    found: set[Identifier] = set()
    lines: set[tuple[str, int]] = set()
    for file, line, kind, text, whole, hashed in hits:
        systems = stones[hashed][1]
        if systems and whole.partition(":")[0] not in systems:
            continue
        lines.add((file, line))
        if kind != "user":  # core has only the pseudonym; the line itself gives the id
            found.add(Identifier(kind, text, systems))
    by_file: dict[str, set[int]] = {}
    for file, line in lines | {r[:2] for r in _context_lines(staged)}:
        by_file.setdefault(file, set()).add(line)
    for file in staged.files:
        if wanted := by_file.get(file.landing_file):
            found |= recognised(settings, _numbered(file.path, wanted, file.lines), stones)
        if file.bad:
            found |= recognised(settings, _numbered(unpacked(settings, file.landing_file, scratch), {n for n, _ in file.bad}, None), stones)
    con.unregister("_stone")
    return found, lines


def _context_lines(staged: Staged) -> list[tuple[str, int]]:
    """Lines of which no record is a row: only their values can tell whose they are."""
    return staged.con.execute("select landing_file, landing_line from candidate group by all having bool_or(is_context)").fetchall()


def _numbered(path: Path, wanted: set[int], lines: Path | None) -> Iterable[str]:
    """Lines of a file by their numbers, which are those of the file it was cleaned from where `lines` maps them."""
    table = pq.read_table(lines) if lines else None
    mapped = dict(zip(table["row"].to_pylist(), table["line"].to_pylist(), strict=True)) if table else None
    with path.open("rb") as file:
        for row, line in enumerate(file, 1):
            if (mapped[row] if mapped else row) in wanted:
                yield line.decode(errors="replace")
