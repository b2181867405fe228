"""Price feeds: fetch one over https, list a folder of dated snapshots, write out the one that comes with genai-prices.

A feed is public data of small size that changes a few times a week, so the last good file is kept: it saves the transfer while
the server says "not modified" and stands in while the server fails.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import os
import re
import tempfile
import time
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
import httpx

from pipelines.errors import NotConfigured, RetryLater, SourceUnreadable
from pipelines.land import redacted

log = logging.getLogger(__name__)

# httpx tells every URL at INFO, query string and all; a private mirror may have its token there.
logging.getLogger("httpx").setLevel(logging.WARNING)

FEEDS = {
    "litellm": "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json",
    "openrouter": "https://openrouter.ai/api/v1/models",
    "models_dev": "https://models.dev/api.json",
    "genai_prices": "https://raw.githubusercontent.com/pydantic/genai-prices/main/prices/new_data/v2/data.json",
}
"""Feeds by name (a file in warehouse/staging/price) and where their publishers keep them."""

SNAPSHOT = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:[T_](?P<hour>\d{2})[-:]?(?P<minute>\d{2})(?:[-:]?(?P<second>\d{2}))?Z?)?[^/]*\.json(?:\.gz|\.zst)?"
)
LAST_SECOND = time_of_day(23, 59, 59)
GONE_FOR_GOOD = range(400, 500)
MAY_COME_BACK = {408, 425, 429}


@dataclass(frozen=True)
class FetchedFile:
    """A feed as last fetched with success."""

    path: Path
    quoted_at: datetime
    """When these bytes were first received (UTC); asking again and getting the same does not move it."""
    is_new: bool
    """Whether this call received bytes that were not here before."""
    is_stale: bool
    """Whether the server failed and this is the last good file."""


class _Unusable(Exception):
    """An answer that is no good; `lasting` when asking again will hardly help."""

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.lasting = lasting


def fetch(url: str, cache_dir: Path, *, max_bytes: int = 64 * 2**20, timeout_s: float = 30.0) -> FetchedFile:
    """Fetch a JSON feed, or the last good file when that fails (logged as a warning).

    Guarantees: only https, save to the machine itself, on redirects too; at most `max_bytes` after unpacking; no longer than
    about `timeout_s` in all; what is in `cache_dir` is always a whole JSON object or array. Neither log nor error holds the
    query string or credentials of the URL.

    Raises `RetryLater` when the server fails and there is no earlier file, `SourceUnreadable` when it moreover will go on so
    (not found, not allowed, too large), `NotConfigured` for a URL that may not be fetched.
    """
    _insist_on_https(httpx.URL(url))
    cache_dir.mkdir(parents=True, exist_ok=True)
    stem = hashlib.sha256(url.encode()).hexdigest()[:24]
    path, note = cache_dir / f"{stem}.json", cache_dir / f"{stem}.note.json"
    known = _read_note(path, note)
    try:
        answer = _get(url, known, max_bytes, timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, _Unusable) as error:
        # httpx writes the URL into some of its messages
        why = str(error) if isinstance(error, _Unusable) else type(error).__name__
        if known:
            log.warning("%s: %s; going on with the file of %s", redacted(url), why, known["quoted_at"])
            return FetchedFile(path, datetime.fromisoformat(known["quoted_at"]), is_new=False, is_stale=True)
        if isinstance(error, _Unusable) and error.lasting:
            raise SourceUnreadable(f"{redacted(url)}: {why}, and there is no earlier file; see [feeds] in flywheel.toml") from None
        raise RetryLater(f"{redacted(url)}: {why}, and there is no earlier file") from None
    if answer is None:
        return FetchedFile(path, datetime.fromisoformat(known["quoted_at"]), is_new=False, is_stale=False)
    body, headers = answer
    digest = hashlib.sha256(body).hexdigest()
    is_new = digest != known.get("sha256")
    quoted_at = datetime.now(UTC) if is_new else datetime.fromisoformat(known["quoted_at"])
    # The note names the bytes that it is of, so that a stop between the two writes only costs a transfer.
    _write(path, body)
    told = {name: headers.get(name.replace("_", "-")) for name in ("etag", "last_modified")}
    _write(note, json.dumps({"sha256": digest, "quoted_at": quoted_at.isoformat(), **told}).encode())
    return FetchedFile(path, quoted_at, is_new=is_new, is_stale=False)


def snapshots(folder: str | os.PathLike[str]) -> list[tuple[str, datetime]]:
    """Snapshots of a feed in a folder (a path or any fsspec URL), oldest first, with the time each was taken (UTC).

    A name starts with the day, and may go on with the time: `2024-10-12.json.gz`, `2024-10-12T0630.json`, `2024-10-12-b.json`.
    A day alone means its last second, so that nothing counts as known before it can have been; of one moment, the names tell which
    is the later. Other files are left out, with a warning. Raises `NotConfigured` when there is no snapshot.
    """
    folder = os.fspath(folder)
    fs, root = fsspec.core.url_to_fs(folder)
    found, left_out = [], []
    for path in sorted(fs.ls(root, detail=False)) if fs.isdir(root) else []:
        taken_at = _taken_at(path.rsplit("/", 1)[-1])
        if taken_at:
            found.append((path if "file" in fs.protocol else fs.unstrip_protocol(path), taken_at))
        else:
            left_out.append(path.rsplit("/", 1)[-1])
    if left_out:
        log.warning("%s: %d files named without a day are left out: %s", redacted(folder), len(left_out), ", ".join(left_out[:5]))
    if not found:
        raise NotConfigured(f"{redacted(folder)} holds no snapshots; they are named like 2024-10-12.json, .json.gz or .json.zst")
    return sorted(found, key=lambda snapshot: (snapshot[1], snapshot[0].rsplit("/", 1)[-1].partition(".")[0], snapshot[0]))


def embedded_genai_prices(path: Path) -> str:
    """Write the prices inside the installed genai-prices package as its `data.json`, and return the package's version.

    The same version gives the same bytes. Prices are written as strings, which keeps every digit. The package does not say of
    which day its data is; what it knows of days stands in the prices themselves.
    """
    from genai_prices.data import providers  # takes most of a second

    kept = {
        "Provider": {"id", "name", "models"},
        "ModelInfo": {"id", "name", "match", "context_window", "deprecated", "prices", "price_variants"},
    }

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            names = kept.get(type(value).__name__) or {field.name for field in fields(value)}
            values = {field.name: getattr(value, field.name) for field in fields(value) if field.name in names}
            return {name.rstrip("_"): plain(item) for name, item in values.items() if item is not None}
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, Decimal):
            return format(value, "f")
        if isinstance(value, date | time_of_day):
            return value.isoformat()
        if value is None or isinstance(value, str | int | float):
            return value
        # ModelPrice: a bag of prices by key
        return {name: plain(item) for name, item in vars(value).items() if item is not None}

    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps([plain(provider) for provider in providers], ensure_ascii=False, separators=(",", ":")).encode())
    return version("genai-prices")


def _get(url: str, known: dict[str, Any], max_bytes: int, timeout_s: float) -> tuple[bytes, httpx.Headers] | None:
    """Body and headers of a good answer; None when the server says that what is known still holds."""
    asked = {"accept": "application/json", "accept-encoding": "gzip"}
    if known.get("etag"):
        asked["if-none-match"] = known["etag"]
    if known.get("last_modified"):
        asked["if-modified-since"] = known["last_modified"]
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    hooks = {"request": [lambda request: _insist_on_https(request.url)]}
    with (
        httpx.Client(timeout=timeout_s, follow_redirects=True, max_redirects=5, event_hooks=hooks) as client,
        client.stream("GET", url, headers=asked) as answer,
    ):
        if answer.status_code == httpx.codes.NOT_MODIFIED and known:
            return None
        if answer.status_code != httpx.codes.OK:
            lasting = answer.status_code in GONE_FOR_GOOD and answer.status_code not in MAY_COME_BACK
            raise _Unusable(f"the server answers {answer.status_code}", lasting=lasting)
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise _Unusable(f"it is larger than {max_bytes:,} bytes", lasting=True)
            if time.monotonic() > deadline:
                raise _Unusable(f"it was not here after {timeout_s:g} s")
        headers = answer.headers
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise _Unusable("it is not JSON") from None
    if not isinstance(parsed, dict | list) or not parsed:
        raise _Unusable("it is no JSON object or array with anything in it")
    return bytes(body), headers


def _insist_on_https(url: httpx.URL) -> None:
    if url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host)):
        return
    raise NotConfigured(f"{redacted(str(url))}: price feeds are fetched over https only, lest somebody on the way change a price")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _taken_at(name: str) -> datetime | None:
    """When the snapshot of that file name was taken; None when the name does not say."""
    match = SNAPSHOT.fullmatch(name)
    if not match:
        return None
    hour, minute, second = (match[part] for part in ("hour", "minute", "second"))
    try:
        clock = LAST_SECOND if hour is None else time_of_day(int(hour), int(minute), int(second or 0))
        return datetime.combine(date.fromisoformat(match["day"]), clock, UTC)
    except ValueError:
        return None


def _read_note(path: Path, note: Path) -> dict[str, Any]:
    """What is known of the last good file; empty when there is none or it is not the one that the note is of."""
    try:
        known = json.loads(note.read_bytes())
        is_whole = known["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        datetime.fromisoformat(known["quoted_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return known if is_whole else {}


def _write(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
