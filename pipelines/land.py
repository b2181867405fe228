"""Land: copy raw bytes, unchanged, to `landing/<source>/day=<arrival>/<sha256><suffix>`.

Landing is the truth that all else can be rebuilt from. A file appears there whole or not at all, under the hash of its
bytes, so that landing the same bytes twice is one file.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, date
from pathlib import Path
from urllib.parse import unquote

import fsspec
from fsspec import AbstractFileSystem
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipelines.errors import NotConfigured, RetryLater, SourceUnreadable
from pipelines.settings import Settings

CHUNK = 2**18
"""Bytes copied at a time: what fits the processor's cache. Writes of several MiB were measured three times slower here."""
LONG_LINE = 8 * 2**20
"""A line beyond this is looked at more closely before DuckDB's reader is let near it."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
"""A source's name is a folder in landing."""
PRICES = "core.price_quote"
SUFFIX = re.compile(r"(\.[a-z0-9]{1,10}){0,2}$")


@dataclass(frozen=True)
class Lines:
    """Newline-ended (or last) lines of a file, and whether bytes were seen that DuckDB's fast reader stumbles over."""

    count: int
    is_suspicious: bool


class LineCounter:
    """Counts lines chunk by chunk, as the bytes come by anyway."""

    def __init__(self) -> None:
        self._count, self._gap, self._last, self._suspicious = 0, 0, b"\n", False

    def feed(self, chunk: bytearray, size: int) -> None:
        newlines = chunk.count(b"\n", 0, size)
        self._count += newlines
        # A line too long to read; a byte order mark or an empty line where a line starts.
        self._gap = 0 if newlines else self._gap + size
        self._suspicious = self._suspicious or self._gap > LONG_LINE or (self._last == b"\n" and chunk[:1] in (b"\n", b"\xef"))
        self._last = bytes(chunk[size - 1 : size])

    @property
    def seen(self) -> Lines:
        return Lines(self._count + (self._last != b"\n"), self._suspicious)


@dataclass(frozen=True)
class Landed:
    """A file in landing. `path` is relative to the landing folder and names it everywhere in the warehouse."""

    path: str
    byte_count: int
    origin: str
    lines: Lines

    @property
    def day(self) -> date:
        return landed_day(self.path)


def landed_day(path: str) -> date:
    """The arrival day in a landing path."""
    return date.fromisoformat(re.search(r"/day=(\d{4}-\d{2}-\d{2})/", path)[1])


def is_local(fs: AbstractFileSystem) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple | list) else [fs.protocol])


def origins(url: str, day: date | None = None) -> tuple[AbstractFileSystem, list[str]]:
    """The files that a source's URL stands for, sorted: a file, all files below a folder, or a glob; `{day}` is filled in.
    Of a local folder or glob, what is no file (a pipe, a device, a link to a folder) is left out: reading it may never end.

    Raises `RetryLater` when the store cannot be reached and `NotConfigured` when nothing can ever match. A folder or a
    glob with no file in it is an empty list: a day without calls is no fault.
    """
    dated = "{day}" in url
    if dated:
        if day is None:
            raise NotConfigured(f"{redacted(url)} needs a day")
        url = url.replace("{day}", day.isoformat())
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise NotConfigured(f"{redacted(url)} cannot be opened: {scrubbed(str(error), url)}") from error
    fs.invalidate_cache()
    try:
        # Asked outright, as `exists`, `find` and `glob` may take a store that does not answer for an empty one.
        with suppress(FileNotFoundError):
            fs.info(path if not (magic := re.search(r"[*?\[]", path)) else path[: magic.start()].rpartition("/")[0])
        # What is there by this very name is no glob, and a file that is named outright is wanted whatever its name.
        if fs.isdir(path):
            found = fs.find(path)
        elif fs.exists(path):
            return fs, [path]
        elif magic:
            found = [p for p in fs.glob(path) if not fs.isdir(p)]
        elif dated:
            found = []
        else:
            raise NotConfigured(f"there is nothing at {redacted(url)}")
    except NotConfigured:
        raise
    except Exception as error:  # every store's driver has errors of its own
        raise RetryLater(f"{redacted(url)} cannot be listed: {type(error).__name__}: {scrubbed(str(error), url)}") from error
    found = [p for p in found if not p.rsplit("/", 1)[-1].startswith((".", "_"))]
    if is_local(fs):
        found = [p for p in found if Path(p).is_file() or not Path(p).exists()]
    return fs, sorted(found)


def land(
    settings: Settings,
    source: str,
    url: str,
    day: date,
    progress: Callable[[int], None] | None = None,
    *,
    each_day: bool = False,
    mark: str = "",
    outlived: frozenset[str] = frozenset(),
    misdated: frozenset[str] = frozenset(),
    lost: list[str] | None = None,
) -> list[Landed]:
    """Copy what is at `url` into landing as having arrived on `day`; returns the files landed or found landed already.

    A file that was landed before and has not changed since (size, time or ETag) is not read again. `progress` is told
    the bytes copied. With `each_day` the same bytes land again on another day: a price list that returns to what it was is
    news. A `mark` stands in the name that files land under, before their own suffix. What is `outlived` (paths of files that
    were taken in and are kept no longer) is not landed again. What is `misdated` (paths of files with records from after the day
    they landed under) lands again on a later day, unless it was last changed before. Files that were listed and are not there
    are named in `lost`; who gives none gets `SourceUnreadable`, once all the others have landed. Raises `RetryLater` when a read or
    write fails part-way; nothing half-copied is left visible.
    """
    if not NAME.fullmatch(source):
        raise NotConfigured(f"{source!r} is no name for a source: letters, digits, -, _ and . only, a letter or digit first")
    if not each_day and landed_as(settings, source) == {PRICES}:
        raise NotConfigured(
            f"{source} is a feed, whose price lists land under that name: give the source another, "
            f"[sources.{source}_logs] in flywheel.toml or --source {source}_logs"
        )
    fs, paths = origins(url, day)
    landed: list[Landed] = []
    fresh: list[tuple] = []
    missing: list[str] = [] if lost is None else lost
    with closing(origin_memory(settings)) as memory:
        known = {
            (origin, version): (path, Lines(count, bool(suspicious)))
            for origin, version, path, count, suspicious in memory.execute(
                "select origin, version, landing_file, line_count, is_suspicious from origin where source = ?", [source]
            )
        }
        out, root = fsspec.core.url_to_fs(settings.landing)
        present = {
            path.rsplit("/", 1)[-1]: path
            for path in landed_paths(settings, source)
            if (not each_day or landed_day(path) == day) and not (path in misdated and landed_day(path) < day)
        } | {path.rsplit("/", 1)[-1]: path for path in outlived}
        for path in paths:
            origin = redacted(fs.unstrip_protocol(path))
            try:
                version = _version(fs, path)
            except FileNotFoundError:  # a link to nowhere, or gone since it was listed
                missing.append(origin)
                continue
            before, lines = known.get((origin, version), (None, None))
            if before in outlived:
                continue
            came_later = before in misdated and landed_day(before) < day and _changed_after(fs, path, landed_day(before))
            if before and not each_day and not came_later and out.exists(f"{root}/{before}"):
                landed.append(Landed(before, out.size(f"{root}/{before}"), origin, lines))
                continue
            try:
                one = _copy(settings, fs, path, source, day, origin, mark, progress, present)
            except SourceUnreadable:
                missing.append(origin)
                continue
            fresh.append((source, origin, version, one.path, one.lines.count, one.lines.is_suspicious))
            if one.path not in outlived:
                landed.append(one)
                present[one.path.rsplit("/", 1)[-1]] = one.path
            if len(fresh) >= 500:
                _remember(memory, fresh)
        _remember(memory, fresh)
    if missing and lost is None:
        raise not_there(source, missing)
    return landed


def not_there(source: str, lost: list[str]) -> SourceUnreadable:
    """What to raise of files that were listed and are not there, when all else is done."""
    return SourceUnreadable(f"{source}: {len(lost)} files were listed and are not there (links to nowhere, or taken away meanwhile): {', '.join(lost[:5])}")


def _remember(memory: sqlite3.Connection, fresh: list[tuple]) -> None:
    """Write down what was landed from where, at once: others wait for as long as a write is open."""
    memory.executemany("insert or replace into origin values (?, ?, ?, ?, ?, ?)", fresh)
    memory.commit()
    fresh.clear()


def counted_lines(settings: Settings, source: str) -> dict[str, Lines]:
    """Lines of the landed files of a source, as counted while they were copied; what is not in it must be counted again."""
    with closing(origin_memory(settings)) as memory:
        rows = memory.execute("select landing_file, line_count, is_suspicious from origin where source = ?", [source])
        return {path: Lines(count, bool(suspicious)) for path, count, suspicious in rows}


def origin_memory(settings: Settings) -> sqlite3.Connection:
    """What was landed from where, and how many lines it had: SQLite's table `origin`, for who closes it again.

    A cache: without it, files are read once more and land where they were.
    """
    settings.make_home()
    memory = sqlite3.connect(settings.home / "origins.db", timeout=60)
    memory.execute("create table if not exists origin (source text, origin text, version text, landing_file text, "
        "line_count integer, is_suspicious integer, primary key (source, origin))")
    return memory


def landed_as(settings: Settings, name: str) -> set[str]:
    """The tables that what has landed under a name was meant for.

    A source and a feed may not share a name, as each would read the other's files. Where an earlier version let both land, the source
    keeps it: under another its calls would count twice, while a feed loses nothing.
    """
    from pipelines.engine import connect
    from pipelines.lake import Lake  # which needs this module

    lake = Lake(settings)
    if not lake.exists("core.landing_file"):
        return set()
    with connect(settings) as con:
        lake.attach(con, "core.landing_file")
        # A file of which nothing was kept counts too, unless it gave rows to another table: it was read as what it is not.
        return {table for (table,) in con.execute(
            """select distinct target_table from core.landing_file
            where source = $name and (kept_count > 0 or landing_file not in (select landing_file from core.landing_file where source = $name and kept_count > 0))""",
            {"name": name},
        ).fetchall()}


def source_name(settings: Settings, format: str) -> str:
    """What a source is called that is given no name: as its format, unless that is a feed's name."""
    landed = landed_as(settings, format)
    is_feed = PRICES in landed or format in settings.feeds
    return f"{format}_logs" if is_feed and not landed - {PRICES} else format


def feed_name(settings: Settings, format: str) -> str:
    """What a feed is called that is given no name: as its format, unless that is a source's name or may become one, as logs have such a format."""
    landed = landed_as(settings, format)
    if landed:
        return format if landed == {PRICES} else f"{format}_prices"
    may_be_source = format not in settings.feeds and any(settings.staging_sql(target, format) for target in ("inference", "feedback"))
    return f"{format}_prices" if may_be_source or format in settings.sources else format


def landing_url(settings: Settings, path: str) -> str:
    """Full URL of a landed file, from its relative path."""
    return f"{settings.landing}/{path}"


def landed_paths(settings: Settings, source: str) -> list[str]:
    """All files in landing of one source, relative to the landing folder, in order of arrival day and name."""
    return list(landed_sizes(settings, source))


def landed_sizes(settings: Settings, source: str) -> dict[str, int]:
    """`landed_paths` with the bytes of each."""
    fs, root = fsspec.core.url_to_fs(settings.landing)
    fs.invalidate_cache()
    # No glob: the root may hold characters that mean something in one.
    found = fs.find(f"{root}/{source}", maxdepth=2, withdirs=True, detail=True)
    return {
        p[len(root) :].lstrip("/"): info["size"] or 0
        for p, info in sorted(found.items()) if re.search(r"/day=[^/]*/[^/]+$", p) and not p.endswith(".part")
    }  # fmt: skip


def _url_until(end: str) -> re.Pattern:
    """scheme://, user, host with path, query: up to one of the `end` characters or the next link of a chain (`filecache::https://…`)."""
    return re.compile(rf"(?<![\w+.-])(\w[\w+.-]*://)(?!/)(?:[^/{end}]*@)?([^?#{end}]*?)(?:[?#][^{end}]*?)?(?=::\w[\w+.-]*:[:/]|[{end}]|$)")


_WHOLE, _IN_TEXT = _url_until("\n"), _url_until(r"\s'\"<>")


def redacted(url: str) -> str:
    """A URL fit for a log line and a database: no user, password or query string, and of a name that is not UTF-8 its bytes."""
    return _WHOLE.sub(r"\1\2", url).encode(errors="backslashreplace").decode()


def scrubbed(text: str, url: str = "") -> str:
    """A driver's own text, fit for a message: URLs in it without users, passwords and queries, and none of the passwords in `url`."""
    for secret in re.findall(r"://[^/@:]*:([^/]+)@", url):
        text = re.sub(rf"(?<!\w)({re.escape(secret)}|{re.escape(unquote(secret))})(?!\w)", "…", text)
    text = re.sub(r"(url: /[^\s?]*)\?\S*", r"\1", text)  # requests names the host elsewhere
    return _IN_TEXT.sub(r"\1\2", text).encode(errors="backslashreplace").decode()


@retry(
    retry=retry_if_exception_type(RetryLater),
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(multiplier=0.2, max=3),
    reraise=True,
)
def _copy(
    settings: Settings,
    fs: AbstractFileSystem,
    path: str,
    source: str,
    day: date,
    origin: str,
    mark: str,
    progress: Callable[[int], None] | None,
    present: dict[str, str],
) -> Landed:
    out, root = fsspec.core.url_to_fs(settings.landing)
    folder = f"{root}/{source}/day={day.isoformat()}"
    out.makedirs(folder, exist_ok=True)
    part = f"{folder}/{uuid.uuid4().hex}.part"
    digest, lines = hashlib.sha256(), LineCounter()
    count = 0
    try:
        try:
            expected = fs.size(path)
            with fs.open(path, "rb") as reader, out.open(part, "wb") as writer, ThreadPoolExecutor(1) as aside:
                if expected and is_local(out):
                    # Reserving the space first is several times faster and fails at once on a full disk.
                    os.posix_fallocate(writer.fileno(), 0, expected)
                # One buffer for all: fresh memory for every chunk costs more than the copying.
                buffer = bytearray(CHUNK)
                view = memoryview(buffer)
                while size := reader.readinto(view):
                    hashed = aside.submit(digest.update, view[:size])
                    writer.write(view[:size])
                    lines.feed(buffer, size)
                    hashed.result()
                    count += size
                    if progress:
                        progress(size)
                if is_local(out):
                    writer.truncate(count)
        except FileNotFoundError as error:
            raise SourceUnreadable(f"{origin} vanished while it was being landed") from error
        except Exception as error:  # every store's driver has errors of its own
            raise RetryLater(
                f"{origin} could not be landed in {redacted(settings.landing)} after {count:,} bytes: {type(error).__name__}: {scrubbed(str(error))}"
            ) from error
        if expected is not None and count < expected:
            raise RetryLater(f"{origin} ended after {count:,} of {expected:,} bytes; the connection broke or the file is being rewritten")
        name = digest.hexdigest() + mark + SUFFIX.search(path.rsplit("/", 1)[-1].lower())[0]
        if name in present:
            return Landed(present[name], count, origin, lines.seen)
        final = f"{folder}/{name}"
        out.mv(part, final) if not is_local(out) else os.replace(part, final)
        return Landed(final[len(root) :].lstrip("/"), count, origin, lines.seen)
    finally:
        if out.exists(part):
            out.rm_file(part)


def _version(fs: AbstractFileSystem, path: str) -> str:
    """What tells one state of a file from the next without reading it."""
    info = fs.info(path)
    marks = [str(info.get(k)) for k in ("size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated") if info.get(k)]
    return "|".join(marks)


def _changed_after(fs: AbstractFileSystem, path: str, day: date) -> bool:
    """Whether a file was changed after a day, and so cannot have arrived on it as it is; yes where the store does not tell."""
    try:
        return fs.modified(path).astimezone(UTC).date() > day
    except NotImplementedError:
        return True
