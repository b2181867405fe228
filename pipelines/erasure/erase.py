"""Erase a user, tenant, session or call: from landing, every table, every dataset, every old snapshot; and prove it.

Landing is rewritten first in the open: a file that holds something of theirs gets a successor without it, and one commit puts
the successor's rows in the place of the old file's, in core, quarantine and ledger. What is built from core is then stale and
is built anew. Tombstones come before all else, so that neither a run under way nor a file that arrives later brings anything
back. Killed anywhere and run again, an erasure ends the same: whatever is left is found by the identifier or, where only
tombstones know it any more, by its hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import sqlite3
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import fsspec
import pyarrow as pa

from pipelines.contracts import contract, tables
from pipelines.engine import connect, write
from pipelines.erasure import tombstones
from pipelines.erasure.belonging import Belonging, Identifier
from pipelines.erasure.needles import Needles
from pipelines.erasure.proof import Searched, places, search_everything, search_file
from pipelines.erasure.removal import drop_rows, expire_all, rebuild, replace_version, sources
from pipelines.erasure.report import STAYS_OPEN, Erasure, go_on, read_report, report_time, write_report
from pipelines.erasure.retention import retain
from pipelines.erasure.rewrite import Held, Landing, Rewritten, by_file, containers_of, discard, ids_on, others, rewrite, sweep
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.follow import recover, settle
from pipelines.ingest import ingest_landed
from pipelines.lake import Lake, storage
from pipelines.land import landed_paths, redacted
from pipelines.settings import Settings
from pipelines.stage import Report, silent

log = logging.getLogger(__name__)

Kind = Literal["user", "tenant", "session", "call"]
SENTENCES = 500
"""Sentences of theirs that are looked for; of more, an even sample."""
PASSES = 4
DATASETS = ("datasets.eval", "datasets.sft", "datasets.preference", "datasets.kto")
"""Tables that hold versions, the ones that others read first."""
PERSONAL = frozenset(("core.inference", "core.inference_content", "core.feedback", "core.quarantine", "core.landing_file", "core.gate_result"))


@dataclass
class _Theirs:
    """What belongs to whom is erased, as core has it."""

    calls: set[str] = field(default_factory=set)
    signals: set[str] = field(default_factory=set)
    identifiers: set[Identifier] = field(default_factory=set)
    lines: set[tuple[str, int]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.calls or self.signals)


@storage("erasure")
def erase(settings: Settings, kind: Kind, text: str, report: Report = silent) -> Erasure:
    """Erase whom or what an identifier names, as it stands in the logs; a user's may also be given as core's pseudonym.

    Raises `NotConfigured` when nothing of it is there and nothing ever was. Erasing twice leaves what erasing once leaves.
    """
    lake, began = Lake(settings), datetime.now(UTC).replace(tzinfo=None)
    raw = _as_logged(settings, lake, text) if kind == "user" else text
    subject = Identifier(kind, raw)
    erasure_id = tombstones.tombstone_hash(settings, kind, raw)[:12]
    stones = tombstones.known(lake)
    before = tombstones.tombstone_hash(settings, kind, raw) in stones
    done = Erasure(erasure_id, kind, began.isoformat(timespec="seconds"), before)
    if not settings.pseudonym_key.get_secret_value():
        done.warnings.append("pseudonym_key is not set: whoever can guess an identifier can tell that it was erased")
    return _erase(settings, lake, subject, done, began, stones, report)


@storage("erasure")
def finish(settings: Settings, report: Report = silent) -> list[Erasure]:
    """Finish erasures that a crash cut off, by what their tombstones still know; returns those that are through."""
    lake, done = Lake(settings), []
    for erasure_id, began in tombstones.unfinished(lake).items():
        one = Erasure(erasure_id, "crashed erasure", began.isoformat(timespec="seconds"), True)
        done.append(_erase(settings, lake, None, one, began, tombstones.known(lake), report))
    return [one for one in done if one.is_clean]


def _erase(settings: Settings, lake: Lake, subject: Identifier | None, done: Erasure, began: datetime, stones: dict, report: Report) -> Erasure:
    scratch = settings.scratch / f"erase-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    earlier = read_report(settings, done.erasure_id) if done.erasure_id in tombstones.unfinished(lake) else None
    try:
        for name in tables():
            if lake.exists(name):
                recover(lake, name)
        rows = _rows(lake)
        subjects = {subject} if subject else set()
        if done.erased_before:
            # Whatever was found before and is still there, after a crash say, is known by its hash.
            subjects |= _left_over(settings, scratch, stones, done.erasure_id, lake, report)
        theirs = _theirs(settings, lake, subjects)
        texts = _sentences(settings, lake, theirs, done)
        landing = Landing(settings, scratch)
        formats = _Formats(settings, lake)
        systems = _systems(settings, lake)
        paths = [p for s in sources(settings) for p in landed_paths(settings, s)
                 if formats.told.get(p, {"core.inference": ""}).keys() & {"core.inference", "core.feedback"}]

        def unowned(links: set[Identifier]) -> set[Identifier]:
            return others(lake, links, {}, theirs.calls)

        def held(wanted: dict[str, set[int]]) -> dict[str, dict[int, frozenset[str]]]:
            return _rows_of_others(lake, theirs, wanted)

        def told(path: str) -> None:
            report(f"looking through {path[:60]}", None)

        owned = by_file(theirs.lines)
        found, known = sweep(
            landing, paths, subjects | theirs.identifiers, texts, unowned, formats.inside, lambda p: systems.get(p.split("/")[0], frozenset()), owned, held, told)  # fmt: skip
        if not theirs and not found.lines and not done.erased_before:
            raise NotConfigured(
                f"nothing of this {done.kind} is in the warehouse or in the {found.files:,} landed files ({found.byte_count:,} bytes) that were looked through; nothing was changed"
            )
        done.calls, done.signals = len(theirs.calls), len(theirs.signals)
        done.identifiers = {k: sum(i.kind == k for i in known) for k in sorted({i.kind for i in known})}
        report("leaving tombstones", None)
        tombstones.bury(lake, known, done.erasure_id, began, opens=True)
        _touch(lake, done.erasure_id)
        totals = Rewritten()
        changed: dict[str, str] = {}
        for _ in range(PASSES):
            one = _rewrite(settings, landing, found.lines, owned, held, known, formats, systems, report)
            changed |= one.files
            totals.records, totals.shared, totals.mentions = totals.records + one.records, totals.shared + one.shared, totals.mentions + one.mentions
            _take_over(settings, one.files, formats, report)
            discard(settings, one.files)
            # What core still has: what came in meanwhile, or what only the format's select can read out of its line.
            left = _theirs(settings, lake, subjects | known)
            theirs.calls, theirs.signals = theirs.calls | left.calls, theirs.signals | left.signals
            theirs.identifiers |= left.identifiers
            if not left.lines:
                break
            tombstones.bury(lake, left.identifiers, done.erasure_id, began, opens=True)
            known |= left.identifiers
            there = {path for s in sources(settings) for path in landed_paths(settings, s)}
            if not any(path in there for path, _ in left.lines):
                _strike_rows(lake, scratch, left)
                break
            owned, found.lines = by_file(left.lines), {}
            formats = _Formats(settings, lake)
        else:
            raise StopTheLine(f"{len(left.lines)} records are in core again after each removal; something brings them in while they are erased")
        done.landing = {"files": len(changed), "records": totals.records, "with_what_they_shared": totals.shared, "mentions_replaced": totals.mentions, "looked_through_files": found.files, "looked_through_bytes": found.byte_count}
        if totals.shared:
            done.warnings.append(f"{totals.shared} records of others went too: what their line shares with them (a resource, a trace) was of whom was erased")
        _forget_origins(settings, known)
        if settings.retention:
            retain(settings)  # what was taken in anew may be older than its table keeps
        _strike_named(lake, scratch, known)
        rebuild(settings, lake, report)
        needles, done.not_searched = _needles(settings, known, found.texts)
        _datasets(settings, lake, needles, done, began, report)
        _models(lake, theirs, done)
        done.tables = {t: {"before": rows.get(t, 0), "after": n} for t, n in _rows(lake).items() if rows.get(t, 0) != n and t not in (tombstones.TABLE, "core.gate_result")}
        _expire(settings, lake, done)
        lake.publish_views()
        shutil.rmtree(scratch, ignore_errors=True)
        _prove(settings, lake, needles, done, earlier.found if earlier else {}, report)
        if earlier:
            go_on(done, earlier)
        if done.is_clean:
            tombstones.close(lake, done.erasure_id)
        else:
            done.warnings.append(STAYS_OPEN)
            log.warning("erasure %s is not through: something of theirs is in %s files", done.erasure_id, len(done.found))
        write_report(settings, done)
        return done
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _as_logged(settings: Settings, lake: Lake, user: str) -> str:
    """A user's id as the logs have it, given so or as core's pseudonym."""
    if not re.fullmatch("[0-9a-f]{32}", user) or not lake.exists("core.inference"):
        return user
    with connect(settings) as con:
        lake.attach(con, "core.inference")
        lines = con.execute("select landing_file, landing_line from core.inference where user_id = $user limit 20", {"user": user}).fetchall()
    if not lines:
        return user
    scratch = settings.scratch / f"name-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    try:
        landing = Landing(settings, scratch)
        stones = {tombstones.tombstone_hash_of_pseudonym(settings, user): ("user", None)}
        # The line itself, or for formats that bring a trace's user together, any line of the files around it.
        for path, line in lines:
            with landing.readable(path).path.open(errors="replace") as opened:
                wanted = [text for n, text in enumerate(opened, 1) if n == line]
            if found := tombstones.recognised(settings, wanted, stones):
                return next(iter(found)).text
        for path in sorted({p for s in {p.split("/")[0] for p, _ in lines} for p in landed_paths(settings, s)}):
            with landing.readable(path).path.open(errors="replace") as opened:
                if found := tombstones.recognised(settings, opened, stones):
                    return next(iter(found)).text
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    raise NotConfigured("that is a pseudonym of core, but no landed file has the id it stands for any more; give the id itself")


def _left_over(settings: Settings, scratch: Path, stones: dict, erasure_id: str, lake: Lake, report: Report) -> set[Identifier]:
    """Identifiers in core and landing that have a tombstone of this erasure."""
    with connect(settings) as con:
        lake.attach(con, tombstones.TABLE)
        own = {r[0] for r in con.execute(f"select identifier_hash from {tombstones.TABLE} where erasure_id = $id", {"id": erasure_id}).fetchall()}
    own_stones = {h: s for h, s in stones.items() if h in own}
    found: set[Identifier] = set()
    landing = Landing(settings, scratch)
    for source in sources(settings):
        for path in landed_paths(settings, source):
            report(f"looking for what is left in {path[:60]}", None)
            with landing.readable(path).path.open(errors="replace") as opened:
                found |= tombstones.recognised(settings, opened, own_stones)
            landing.forget(path)
    return found


def _theirs(settings: Settings, lake: Lake, subjects: set[Identifier]) -> _Theirs:
    """Calls and signals in core that belong to some identifiers, and the sessions and traces that are theirs alone."""
    found = _Theirs()
    if not lake.exists("core.inference") and not lake.exists("core.feedback"):
        return found
    with connect(settings) as con:
        for name in ("core.inference", "core.feedback"):
            lake.attach(con, name)
        by_kind = {k: pa.array(sorted(text for i in subjects if i.kind == k for text in _as_in_core(settings, i)), pa.string())
                   for k in ("user", "tenant", "session", "trace", "call")}
        for kind, texts in by_kind.items():
            con.register(f"_{kind}", pa.table({"text": texts}))
        con.execute(
            """create temp table mine as select inference_id, user_id, tenant, session_id, trace_id, landing_file, landing_line from core.inference
            where user_id in (from _user) or tenant in (from _tenant) or session_id in (from _session) or trace_id in (from _trace)
                or inference_id in (from _call) or regexp_extract(inference_id, '([^:]+)$', 1) in (from _call) or regexp_extract(inference_id, '^[^:]*:(.+)$', 1) in (from _call)"""
        )
        # A session or trace is theirs when nobody else is known in it. Who is somebody else hangs on what is erased.
        kinds = {i.kind for i in subjects}
        somebody = "c.user_id is not null" if "user" in kinds else "c.tenant is not null" if "tenant" in kinds else "c.session_id is not null" if "session" in kinds else "true"
        con.execute("create temp table owned (kind varchar, text varchar)")
        for _ in range(4):
            for kind, column in (("session", "session_id"), ("trace", "trace_id")):
                con.execute(
                    f"""insert into owned select distinct '{kind}', {column} from mine where {column} is not null
                    and {column} not in (select text from owned where kind = '{kind}')
                    and {column} not in (select {column} from core.inference c where {column} is not null and {somebody}
                        and inference_id not in (select inference_id from mine))"""
                )
            [(added,)] = con.execute(
                """insert into mine select inference_id, user_id, tenant, session_id, trace_id, landing_file, landing_line from core.inference
                where inference_id not in (select inference_id from mine)
                and (session_id in (select text from owned where kind = 'session') or trace_id in (select text from owned where kind = 'trace'))"""
            ).fetchall()
            if not added:
                break
        signals = con.execute(
            """select feedback_id, landing_file, landing_line from core.feedback
            where rater_id in (from _user) or feedback_id in (from _call) or regexp_extract(feedback_id, '^[^:]*:(.+)$', 1) in (from _call)
                or (target_kind = 'call' and (target_id in (select inference_id from mine) or target_id in (from _call)
                    or regexp_extract(target_id, '^[^:]*:(.+)$', 1) in (from _call)))
                or (target_kind = 'session' and (target_id in (select text from owned where kind = 'session') or target_id in (from _session)))
                or (target_kind = 'trace' and (target_id in (select text from owned where kind = 'trace') or target_id in (from _trace)))
                or trace_id in (select text from owned where kind = 'trace') or trace_id in (from _trace)"""
        ).fetchall()
        calls = con.execute("select distinct inference_id, landing_file, landing_line from mine").fetchall()
        found.calls, found.signals = {c[0] for c in calls}, {s[0] for s in signals}
        found.lines = {c[1:] for c in calls} | {s[1:] for s in signals}
        found.identifiers = {Identifier(kind, text) for kind, text in con.execute("select distinct kind, text from owned").fetchall()}
        for id in found.calls | found.signals:
            system, _, native = id.partition(":")
            found.identifiers.add(Identifier("call", id))
            last = native.rpartition(":")[2] if system == "otel" else native
            if last and last != id:
                plain = Identifier("call", last)
                found.identifiers.add(plain if plain.is_telling else Identifier("call", last, frozenset((system,))))
    return found


def _as_in_core(settings: Settings, one: Identifier) -> list[str]:
    """How core has an identifier; one of some systems' calls only with their prefixes."""
    if one.kind == "user":
        return [tombstones.pseudonym(settings, one.text)]
    return [f"{system}:{one.text}" for system in one.systems] if one.systems else [one.text]


def _rows_of_others(lake: Lake, theirs: _Theirs, wanted: dict[str, set[int]]) -> dict[str, dict[int, frozenset[str]]]:
    """Of some landed lines: the ids of the rows that core has from them and that are not theirs."""
    parts = []
    with connect(lake.settings) as con:
        con.register("_ids", pa.table({"id": pa.array(sorted(theirs.calls | theirs.signals), pa.string())}))
        for table, key in (("core.inference", "inference_id"), ("core.feedback", "feedback_id")):
            if lake.exists(table):
                lake.attach(con, table)
                parts.append(f"select landing_file, landing_line, {key} as id from {table} where {key} not in (select id from _ids)")
        return ids_on(con, " union all ".join(parts), wanted) if parts and wanted else {}


def _sentences(settings: Settings, lake: Lake, theirs: _Theirs, done: Erasure) -> set[bytes]:
    """Stretches of what they said and were told, of letters that are written the same in any JSON; an even sample of many."""
    if not theirs.calls or not lake.exists("core.inference_content"):
        return set()
    with connect(settings) as con:
        lake.attach(con, "core.inference_content")
        con.register("_mine", pa.table({"id": sorted(theirs.calls)}))
        said = con.execute(
            """select distinct unnest(regexp_extract_all(concat_ws(' ', input_messages, output_messages), '[A-Za-z0-9 ,.;:()-]{32,160}')) as s
            from core.inference_content where inference_id in (from _mine) order by md5(s) limit 5000"""
        ).fetchall()
    sentences = sorted({s.strip().encode() for (s,) in said if len(s.strip()) >= 32 and " " in s.strip()}, key=lambda s: hashlib.md5(s, usedforsecurity=False).digest())
    done.not_searched["sentences beyond an even sample"] = max(0, len(sentences) - SENTENCES)
    return set(sentences[:SENTENCES])


class _Formats:
    """The format that read each landed file, as the ledger says: a source's may change. Of a file that was not taken in yet, the settings' one."""

    def __init__(self, settings: Settings, lake: Lake) -> None:
        self._settings = settings
        self.told: dict[str, dict[str, str]] = {}
        """By landed file and table that its records went to."""
        self._inside: dict[str, list[list[str]]] = {}
        if lake.exists("core.landing_file"):
            with connect(settings) as con:
                lake.attach(con, "core.landing_file")
                for path, target, format in con.execute("select landing_file, target_table, source_format from core.landing_file").fetchall():
                    self.told.setdefault(path, {})[target] = format

    def inside(self, path: str) -> list[list[str]]:
        """Where the lines of a landed file hold several records."""
        source = self._settings.sources.get(path.split("/")[0])
        formats = set(self.told.get(path, {}).values()) or ({source.format} if source else set())
        for format in formats - self._inside.keys():
            self._inside[format] = containers_of(self._settings, format)
        return [steps for format in sorted(formats) for steps in self._inside[format]]


def _systems(settings: Settings, lake: Lake) -> dict[str, frozenset[str]]:
    """The prefixes of the calls of each source."""
    if not lake.exists("core.inference"):
        return {}
    with connect(settings) as con:
        lake.attach(con, "core.inference")
        rows = con.execute("select source, split_part(inference_id, ':', 1) from core.inference group by all").fetchall()
    return {s: frozenset(p for source, p in rows if source == s) for s, _ in rows}


def _touch(lake: Lake, erasure_id: str) -> None:
    """A commit to what ingest fills: whoever is about to commit there must look again, and then sees the tombstones."""
    for table in ("core.inference", "core.feedback"):
        if lake.exists(table):
            settle(lake, table, lambda seen: lake.commit(seen, [], properties={"flywheel.erased": f"{erasure_id} {uuid.uuid4().hex}"}))


def _rewrite(
    settings: Settings, landing: Landing, lines: dict[str, set[int]], theirs: dict[str, set[int]], held: Held, known: set[Identifier],
    formats: _Formats, systems: dict[str, frozenset[str]], report: Report,
) -> Rewritten:
    """`lines` hold their identifiers; `theirs` core attributes to them, by its own count of lines."""
    done, belonging = Rewritten(), Belonging(known)
    there = {p for s in {p.split("/")[0] for p in lines.keys() | theirs.keys()} for p in landed_paths(settings, s)}
    owned = {path: set(landing.rows(path, of).values()) for path, of in theirs.items() if path in there}
    wanted = {path: lines.get(path, set()) | owned.get(path, set()) for path in sorted(lines.keys() | owned.keys()) if path in there}
    others_on = landing.others(wanted, held)
    present: dict[str, dict[str, str]] = {}
    for path in wanted:
        report(f"writing {path[:60]} anew", None)
        source = path.split("/")[0]
        if source not in present:
            present[source] = {p.rsplit("/", 1)[-1]: p for p in landed_paths(settings, source)}
        rewrite(
            landing, path, wanted[path], owned.get(path, set()), others_on.get(path, {}), belonging, formats.inside(path), systems.get(source, frozenset()), done, present[source])  # fmt: skip
        landing.forget(path)
    return done


def _take_over(settings: Settings, renamed: dict[str, str], formats: _Formats, report: Report) -> None:
    """Bring core from the old files to those that take their place, a source, table and format at a time, each in one commit."""
    for target in ("inference", "feedback"):
        taken: dict[tuple[str, str], dict[str, str]] = {}
        for old, new in renamed.items():
            if format := formats.told.get(old, {}).get(f"core.{target}"):
                taken.setdefault((old.split("/")[0], format), {})[old] = new
        for (source, format), files in sorted(taken.items()):
            report(f"{source}: taking {len(files)} files in anew", None)
            ingest_landed(settings, source, format, report, only=set(files.values()), replaced=files, target=target)


def _strike_rows(lake: Lake, scratch: Path, left: _Theirs) -> None:
    """Rows whose landed file is no more (it outlived its retention): they go from the tables themselves, and are told in the ledger."""
    with connect(lake.settings) as con:
        con.register("_ids", pa.table({"id": sorted(left.calls | left.signals)}))
        drop = write(con, scratch / "struck.parquet", "select id from _ids")
        gone: dict[str, pa.Table] = {}
        for table, key in (("core.inference", "inference_id"), ("core.feedback", "feedback_id")):
            if lake.exists(table):
                lake.attach(con, table)
                gone[table] = con.sql(f"select landing_file, count(*) as n from {table} where {key} in (select id from _ids) group by 1").to_arrow_table()
    for table, key in (("core.inference_content", "inference_id"), ("core.inference", "inference_id"), ("core.feedback", "feedback_id")):
        if lake.exists(table):
            drop_rows(lake, table, drop, {key: "id"}, gone.get(table))


def _strike_named(lake: Lake, scratch: Path, known: set[Identifier]) -> None:
    """Rows of tables that nothing rebuilds (forecasts of a tenant) and that name what is erased in a column of its kind."""
    columns = {"tenant": "tenant", "session": "session_id", "trace": "trace_id"}
    for table in tables():
        if contract(table).is_built or table.split(".")[0] not in ("forecasts",) or not lake.exists(table):
            continue
        for kind, column in columns.items():
            texts = sorted(i.text for i in known if i.kind == kind)
            if texts and column in contract(table).names:
                with connect(lake.settings) as con:
                    con.register("_texts", pa.table({"text": texts}))
                    drop = write(con, scratch / f"{uuid.uuid4().hex}.parquet", "select text from _texts")
                drop_rows(lake, table, drop, {column: "text"})


def _needles(settings: Settings, known: set[Identifier], texts: set[bytes]) -> tuple[Needles, dict[str, int]]:
    """What all bytes are searched for; and what not, by the reason."""
    words, short = set(), 0
    for one in known:
        if one.is_telling:
            words |= set(one.needles)
        else:
            short += 1
        if one.kind == "user":
            words.add(tombstones.pseudonym(settings, one.text).encode())
    skipped = {"ids too short or too common to be told from other words; they were looked for as values of their kind": short}
    return Needles(words, texts), {reason: n for reason, n in skipped.items() if n}


def _datasets(settings: Settings, lake: Lake, needles: Needles, done: Erasure, began: datetime, report: Report) -> None:
    """Withdraw every version that holds something of theirs, and issue a clean one of the same recipe."""
    from pipelines.finetune.versions import VERSION

    fs_of = fsspec.core.url_to_fs
    for table in DATASETS:
        if not lake.exists(table):
            continue
        held = set()
        for entry in lake.snapshot(table).files:
            report(f"looking through {table} {entry.partition}", None)
            fs, path = fs_of(entry.path)
            one = Searched()
            search_file(fs, path, table, needles, one)
            if one.found:
                held.add(str(entry.partition))
        for version in sorted(held):
            report(f"{version}: making a clean version", None)
            clean, why = replace_version(settings, lake, version, began, "erasure")
            done.datasets.append({"dataset_version": version, "table": table, "clean_version": clean, "why_none": why})
    if lake.exists(VERSION) and lake.exists("datasets.export"):
        with connect(settings) as con:
            lake.attach(con, "datasets.export")
            lake.attach(con, VERSION)
            rows = con.execute(
                f"""select e.dataset_version, e.format, e.url, cast(e.exported_at as varchar), e.files from datasets.export e join {VERSION} v using (dataset_version)
                where v.withdrawn_because = 'erasure' order by e.exported_at, e.url""").fetchall()
        held_now = {d["dataset_version"] for d in done.datasets}
        done.exports = [{"dataset_version": v, "format": f, "url": u, "exported_at": at, "files": json.loads(files)} for v, f, u, at, files in rows if v in held_now or done.erased_before]
    if done.exports:
        done.warnings.append(f"{len(done.exports)} exports were written outside and must be deleted and recalled by hand")


def _models(lake: Lake, theirs: _Theirs, done: Erasure) -> None:
    """Routing policies that were trained while these calls were in the log. What they learnt stays in their weights."""
    if not theirs.calls or not lake.exists("datasets.policy"):
        return
    with connect(lake.settings) as con:
        lake.attach(con, "datasets.policy")
        done.models = [{"policy_version": v, "status": s} for v, s in con.execute("select policy_version, status from datasets.policy order by 1").fetchall()]
    if done.models:
        done.warnings.append(
            f"{len(done.models)} routing policies may have learnt from these calls; weights are not unlearned. "
            + ("Train anew (flywheel routing train) and replace the champion" if any(m["status"] == "champion" for m in done.models) else "None of them is in force")
        )


def personal_tables() -> list[str]:
    """Tables that hold, or are made from, what people did."""
    found = set(PERSONAL)
    for _ in range(len(tables())):
        more = {t for t in tables() if t not in found and (t.startswith(("datasets.", "forecasts.", "exports.")) or found & set(contract(t).reads))}
        if not more:
            break
        found |= more
    return [t for t in tables() if t in found]


def _expire(settings: Settings, lake: Lake, done: Erasure) -> None:
    for name in personal_tables():
        if lake.exists(name):
            snapshots, files = expire_all(settings, lake, name)
            done.snapshots_expired, done.files_deleted = done.snapshots_expired + snapshots, done.files_deleted + files


def _prove(settings: Settings, lake: Lake, needles: Needles, done: Erasure, earlier: dict[str, int], report: Report) -> None:
    """Search all bytes. A file that nothing refers to (of a crashed run, in scratch) is deleted where it holds something.

    `earlier`: what the last search of this erasure found. This one may know less to look for (ids and sentences went with their
    rows), so files of these that are there unchanged hold it still; where nothing at all is known, changed ones too.
    """
    spill = settings.home / "spill"
    for path in spill.iterdir() if spill.is_dir() else ():
        path.unlink(missing_ok=True) if path.is_file() else None  # spilt pages are packed; who has one open keeps it
    for path in settings.scratch.rglob("*.duckdb*") if settings.scratch.is_dir() else ():
        path.unlink(missing_ok=True)  # what a dataset's steps hand on; a build under way is begun anew
    searched = search_everything(settings, needles, lambda path: report(f"searching {path[-60:]}", None))
    live = {path for name in tables() if lake.exists(name) for path in lake.all_files(name)}
    told_at = report_time(settings, done.erasure_id)
    still = {path: n for path, n in earlier.items() if path in searched.paths - searched.found.keys() and not (needles and Path(path).is_file() and Path(path).stat().st_mtime > told_at)}
    if still:
        done.warnings.append(f"{len(still)} files in which an earlier search found something are still there; this one did not know all that was looked for then")
    searched.found |= still
    warehouse = fsspec.core.url_to_fs(settings.warehouse)[1].rstrip("/") + "/"
    for path in list(searched.found):
        stray = (path.startswith(warehouse) and path not in live) or path.startswith(f"{settings.scratch}/")
        if stray:
            fs, _ = fsspec.core.url_to_fs(settings.warehouse if path.startswith(warehouse) else str(settings.home))
            with suppress(FileNotFoundError):
                fs.rm_file(path)
            done.files_deleted += 1
            del searched.found[path]
    done.found = dict(sorted(searched.found.items()))
    done.searched = {
        "identifiers_and_sentences": len(needles.strings), "places": {n: redacted(u) for n, u in places(settings).items()}, "files": searched.files,
        "bytes": searched.byte_count, "decoded_bytes": searched.decoded_byte_count, "could_not_be_unpacked": searched.unread,
    }  # fmt: skip


def _forget_origins(settings: Settings, known: set[Identifier]) -> None:
    """Names of source files may hold an identifier; the cache of what was landed from where forgets them, and its free pages."""
    path = settings.home / "origins.db"
    if not path.is_file():
        return
    belonging = Needles({n for i in known if i.is_telling for n in i.needles})
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as memory:
        memory.execute("pragma secure_delete = on")
        with suppress(sqlite3.OperationalError):  # no table yet
            for (origin,) in memory.execute("select distinct origin from origin").fetchall():
                if belonging and any(True for _ in belonging.found(origin.encode())):
                    memory.execute("delete from origin where origin = ?", [origin])
            memory.execute("vacuum")


def _rows(lake: Lake) -> dict[str, int]:
    return {name: sum(e.rows for e in lake.snapshot(name).files) for name in tables() if lake.exists(name)}
