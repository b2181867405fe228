"""What an erasure tells: the record it leaves, without an identifier or anything that was said, and the same to read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.settings import Settings

STAYS_OPEN = "the erasure stays open: flywheel maintain, or the same command, goes on with it"


@dataclass
class Erasure:
    """What an erasure did, and what the search of all bytes found afterwards. Holds no identifier and nothing that was said."""

    erasure_id: str
    kind: str
    began_at: str
    erased_before: bool = False
    """Whether tombstones of it were there already."""
    calls: int = 0
    signals: int = 0
    """Feedback."""
    identifiers: dict[str, int] = field(default_factory=dict)
    landing: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows before and after, of the tables that changed."""
    datasets: list[dict[str, Any]] = field(default_factory=list)
    exports: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    snapshots_expired: int = 0
    files_deleted: int = 0
    searched: dict[str, Any] = field(default_factory=dict)
    not_searched: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing of theirs was found, and every table file could be searched."""
        return not self.found and not any(p.endswith((".parquet", ".avro")) for p in self.searched.get("could_not_be_unpacked", ()))

    def __str__(self) -> str:
        files, size = (sum(self.searched.get(k, {}).values()) for k in ("files", "bytes"))
        rows = sum(t["before"] - t["after"] for t in self.tables.values() if t["after"] < t["before"])
        lines = [
            f"erasure {self.erasure_id} of a {self.kind}{' (erased before)' if self.erased_before else ''}: {self.calls:,} calls and {self.signals:,} signals; "
            f"{self.landing.get('records', 0):,} records out of {self.landing.get('files', 0):,} landed files, {rows:,} rows out of {len(self.tables)} tables",
            f"{len(self.datasets)} dataset versions withdrawn, {len(self.exports)} exports to recall, {self.snapshots_expired:,} snapshots expired, {self.files_deleted:,} files deleted",
            f"searched {files:,} files, {size:,} bytes ({sum(self.searched.get('decoded_bytes', {}).values()):,} decoded): "
            + ("nothing found" if not self.found else f"FOUND in {len(self.found)} files"),
        ]
        lines += [f"  not decoded: {path} ({why})" for path, why in sorted(self.searched.get("could_not_be_unpacked", {}).items())]
        lines += [f"  found {n} times in {path}" for path, n in sorted(self.found.items())]
        lines += [f"  recall {e['url']} ({e['dataset_version']}, {e['format']})" for e in self.exports]
        return "\n".join(lines + [f"  note: {w}" for w in self.warnings])


def write_report(settings: Settings, done: Erasure) -> None:
    """`<home>/erasures/<erasure_id>.json`, and the same to read beside it."""
    folder = settings.home / "erasures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((f"{done.erasure_id}.json", json.dumps(asdict(done), indent=1, default=str) + "\n"), (f"{done.erasure_id}.md", _page(done))):
        part = folder / f".{name}.part"
        part.write_text(text)
        part.replace(folder / name)


def read_report(settings: Settings, erasure_id: str) -> Erasure | None:
    """What an erasure last told; None when it never did."""
    path = settings.home / "erasures" / f"{erasure_id}.json"
    return Erasure(**json.loads(path.read_text())) if path.is_file() else None


def report_time(settings: Settings, erasure_id: str) -> float:
    """When an erasure last told something; 0 when it never did."""
    path = settings.home / "erasures" / f"{erasure_id}.json"
    return path.stat().st_mtime if path.is_file() else 0.0


def go_on(done: Erasure, earlier: Erasure) -> None:
    """Add what the earlier runs of an erasure that was left open did to what this one did."""
    done.kind, done.erased_before = earlier.kind, earlier.erased_before
    for name in ("calls", "signals", "snapshots_expired", "files_deleted"):
        setattr(done, name, getattr(earlier, name) + getattr(done, name))
    for name in ("datasets", "exports", "models", "warnings"):
        own = getattr(done, name)
        setattr(done, name, [one for one in getattr(earlier, name) if one not in own and one != STAYS_OPEN] + own)
    done.identifiers = {kind: max(earlier.identifiers.get(kind, 0), done.identifiers.get(kind, 0)) for kind in sorted(earlier.identifiers | done.identifiers)}
    done.landing = {what: earlier.landing.get(what, 0) + n for what, n in done.landing.items()}
    for table, rows in earlier.tables.items():
        done.tables[table] = {"before": rows["before"], "after": done.tables.get(table, rows)["after"]}
    done.not_searched = earlier.not_searched | done.not_searched


def _page(done: Erasure) -> str:
    searched = "\n".join(
        f"| {place} | {n:,} | {done.searched['bytes'].get(place, 0):,} | {done.searched['decoded_bytes'].get(place, 0):,} |" for place, n in done.searched["files"].items())
    changed = "\n".join(f"| {t} | {n['before']:,} | {n['after']:,} |" for t, n in done.tables.items())
    sets = "\n".join(f"- {d['dataset_version']}: withdrawn; {'clean version ' + d['clean_version'] if d['clean_version'] else d['why_none']}" for d in done.datasets) or "none held anything of theirs"
    recall = "\n".join(f"- {e['url']} ({e['dataset_version']}, {e['format']}, {e['exported_at']})" for e in done.exports) or "none is known of"
    left_out = "\n".join(f"- {n:,} {reason}" for reason, n in done.not_searched.items() if n) or "nothing"
    notes = "\n".join(f"- {w}" for w in done.warnings) or "none"
    found = "Nothing was found." if not done.found else "\n".join(f"- **{n} times in {path}**" for path, n in done.found.items())
    return f"""# Erasure {done.erasure_id}

Of a {done.kind}, begun {done.began_at} UTC. {done.calls:,} calls, {done.signals:,} signals; {done.landing.get('records', 0):,} records taken out of
{done.landing.get('files', 0):,} landed files, {done.landing.get('mentions_replaced', 0):,} mentions in records of others replaced. {done.snapshots_expired:,} snapshots expired,
{done.files_deleted:,} files deleted.

## The search

{done.searched['identifiers_and_sentences']:,} identifiers and sentences were looked for in every byte, packed files unpacked, Parquet decoded.

| place | files | bytes | of these or beyond, decoded |
|---|---|---|---|
{searched}

{found}

Not looked for:

{left_out}

## Rows

| table | before | after |
|---|---|---|
{changed}

## Dataset versions

{sets}

## Exports to delete and recall

{recall}

## Notes

{notes}
"""
