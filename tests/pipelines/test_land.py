"""Landing: bytes at a URL → the same bytes under the hash of them, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from datetime import date
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.errors import NotConfigured, RetryLater, SourceUnreadable
from pipelines.land import land, landed_paths, origins, redacted, scrubbed
from pipelines.settings import Settings

DAY, LATER = date(2026, 11, 20), date(2026, 11, 23)


class Breaking(MemoryFileSystem):
    """A store whose connection breaks: reads of `raises*` fail, those of `closes*` end early."""

    protocol = "breaking"
    store: dict = {}  # noqa: RUF012 - as fsspec has it
    pseudo_dirs = [""]  # noqa: RUF012
    mended = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("breaking://"))

    def _open(self, path, mode="rb", **kwargs):
        opened = super()._open(path, mode, **kwargs)
        vars(opened).pop("readinto", None)
        name = path.rsplit("/", 1)[-1]
        if mode == "rb" and not self.mended:
            if name.startswith("closes"):
                return super()._open("/half", mode, **kwargs)
            if name.startswith("raises"):
                opened.readinto = self._raise
        return opened

    def _raise(self, _):
        raise RuntimeError("peer closed connection without sending complete message body")

    def info(self, path, **kwargs):
        if "unreachable" in path:
            raise OSError("cannot connect to host, url='http://host/x?sig=s3cr3t', nor http://me:s3cr3t@host/x, nor as s3cr3t")
        return super().info(path, **kwargs)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def breaking() -> Breaking:
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    fs = fsspec.filesystem("breaking")
    fs.store.clear()
    fs.mended = False
    return fs


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("pipelines.land._copy.retry.sleep", lambda _: None)


def write(path: Path, raw: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def test_bytes_land_unchanged_under_their_hash(settings, tmp_path):
    raw = b'{"a": 1}\r\n\x00\xff'
    write(tmp_path / "logs/gateway.JSONL.gz", raw)
    (landed,) = land(settings, "app", str(tmp_path / "logs"), DAY)
    assert landed.path == f"app/day=2026-11-20/{hashlib.sha256(raw).hexdigest()}.jsonl.gz"
    assert (settings.home / "landing" / landed.path).read_bytes() == raw
    assert landed.day == DAY


def test_the_same_bytes_are_one_file_wherever_and_whenever_they_come_from(settings, tmp_path):
    for name in ("a", "b", "deep/c"):
        write(tmp_path / f"logs/{name}.jsonl", b"{}\n")
    first = land(settings, "app", str(tmp_path / "logs"), DAY)
    (settings.home / "origins.db").unlink()
    again = land(settings, "app", str(tmp_path / "logs"), LATER)
    assert {f.path for f in first + again} == set(landed_paths(settings, "app"))
    assert len(landed_paths(settings, "app")) == 1


def test_a_feed_that_returns_to_what_it_was_lands_again(settings, tmp_path):
    path = write(tmp_path / "prices.json", b"{}")
    for day in (DAY, LATER, LATER):
        land(settings, "feed", str(path), day, each_day=True)
    assert [p.split("/")[1] for p in landed_paths(settings, "feed")] == ["day=2026-11-20", "day=2026-11-23"]


def test_a_known_file_is_not_read_again_and_a_grown_one_is(settings, tmp_path):
    path, copied = write(tmp_path / "a.jsonl", b"{}\n"), []
    for _ in range(2):
        land(settings, "app", str(path), DAY, copied.append)
    assert copied == [3]
    with path.open("ab") as file:
        file.write(b"{}\n")
    land(settings, "app", str(path), DAY, copied.append)
    assert copied == [3, 6]


@pytest.mark.parametrize("name", ["raises.jsonl", "closes.jsonl"])
def test_a_connection_that_breaks_leaves_nothing_and_the_next_run_lands(settings, breaking, name):
    raw = b'{"a": 1}\n' * 100_000
    breaking.pipe(f"/logs/{name}", raw)
    breaking.pipe("/half", raw[: len(raw) // 2])
    with pytest.raises(RetryLater, match=rf"{name} (could not be landed|ended after 450,000 of 900,000 bytes)"):
        land(settings, "app", f"breaking://logs/{name}", DAY)
    assert [p for p in (settings.home / "landing").rglob("*") if p.is_file()] == []
    breaking.mended = True
    (landed,) = land(settings, "app", f"breaking://logs/{name}", DAY)
    assert (settings.home / "landing" / landed.path).read_bytes() == raw


def test_files_that_landed_before_the_break_stay(settings, breaking):
    breaking.pipe("/logs/a.jsonl", b"{}\n")
    breaking.pipe("/logs/raises.jsonl", b"{}\n{}\n")
    with pytest.raises(RetryLater):
        land(settings, "app", "breaking://logs", DAY)
    assert len(landed_paths(settings, "app")) == 1


@pytest.mark.parametrize("url", ["breaking://unreachable/logs", "breaking://unreachable/*.jsonl", "breaking://unreachable/{day}"])
def test_a_store_that_cannot_be_reached_is_no_empty_store(breaking, url):
    with pytest.raises(RetryLater, match="cannot connect to host"):
        origins(url, DAY)


def test_landing_in_a_remote_store(tmp_path):
    remote = Settings(home=tmp_path / "home", landing_url="memory://bucket/landing")
    write(tmp_path / "a.jsonl", b"{}\n")
    (landed,) = land(remote, "app", str(tmp_path / "a.jsonl"), DAY)
    assert fsspec.filesystem("memory").cat(f"/bucket/landing/{landed.path}") == b"{}\n"
    assert landed_paths(remote, "app") == [landed.path]


def test_what_a_url_stands_for(tmp_path):
    for name in ("2026-11-20/a.jsonl", "2026-11-20/.hidden", "2026-11-20/_SUCCESS", "2026-11-21/b.jsonl"):
        write(tmp_path / "logs" / name, b"")

    def found(url, day=None):
        return [Path(p).relative_to(tmp_path / "logs").as_posix() for p in origins(f"{tmp_path}/logs{url}", day)[1]]

    assert found("") == ["2026-11-20/a.jsonl", "2026-11-21/b.jsonl"]
    assert found("/*/b.*") == ["2026-11-21/b.jsonl"]
    assert found("/{day}", DAY) == ["2026-11-20/a.jsonl"]
    assert found("/{day}", LATER) == []
    with pytest.raises(NotConfigured, match="there is nothing at"):
        found("/nowhere")
    with pytest.raises(NotConfigured, match="needs a day"):
        found("/{day}")


@pytest.mark.parametrize("name", ["b[1].jsonl", "_c.jsonl", ".d.jsonl", "what?.jsonl", "f[1]/a.jsonl"])
def test_what_is_named_outright_is_meant_whatever_its_name(settings, tmp_path, name):
    path = write(tmp_path / "logs" / name, b"{}\n")
    write(tmp_path / "logs/b1.jsonl", b"another")
    for url in (path, path.parent) if "/" in name else (path,):
        assert [Path(p) for p in origins(str(url))[1]] == [path]
        assert len(land(settings, "app", str(url), DAY)) == 1


@pytest.mark.parametrize("name", ["ho[1]me", "ho*me", "ho me"])
def test_a_home_of_any_name_is_no_glob(tmp_path, name):
    write(tmp_path / "a.jsonl", b"{}\n")
    home = Settings(home=tmp_path / name)
    (landed,) = land(home, "app", str(tmp_path / "a.jsonl"), DAY)
    assert landed_paths(home, "app") == [landed.path]


@pytest.mark.parametrize("name", ["../elsewhere", "", ".hidden", "a/b", "a b", "*"])
def test_a_source_cannot_land_elsewhere(settings, tmp_path, name):
    path = write(tmp_path / "a.jsonl", b"{}\n")
    with pytest.raises(NotConfigured, match="is no name for a source"):
        land(settings, name, str(path), DAY)


def test_what_is_listed_and_is_not_there_costs_no_other_file(settings, tmp_path):
    good = [write(tmp_path / f"logs/{name}.jsonl", name.encode()) for name in "az"]
    (tmp_path / "logs/b.jsonl").symlink_to(tmp_path / "nowhere")
    for _ in range(2):
        with pytest.raises(SourceUnreadable, match=r"app: 1 files were listed and are not there .*/logs/b\.jsonl$"):
            land(settings, "app", str(tmp_path / "logs"), DAY)
        assert len(landed_paths(settings, "app")) == len(good)
    lost: list[str] = []
    assert len(land(settings, "app", str(tmp_path / "logs"), DAY, lost=lost)) == len(good)
    assert lost == [f"file://{tmp_path}/logs/b.jsonl"]


def test_a_file_that_goes_between_a_look_and_a_read_costs_no_other(settings, breaking, monkeypatch):
    for name in "abc":
        breaking.pipe(f"/logs/{name}.jsonl", name.encode())
    opened = Breaking._open
    monkeypatch.setattr(Breaking, "_open", lambda self, path, **given: opened(self, path.replace("b.jsonl", "gone"), **given))
    with pytest.raises(SourceUnreadable, match=r"breaking:///logs/b\.jsonl"):
        land(settings, "app", "breaking://logs", DAY)
    assert len(landed_paths(settings, "app")) == 2


def test_what_is_no_file_is_left_out(settings, tmp_path):
    write(tmp_path / "logs/a.jsonl", b"{}\n")
    os.mkfifo(tmp_path / "logs/b.jsonl")
    (tmp_path / "logs/c.jsonl").symlink_to("/dev/zero")
    (tmp_path / "logs/d.jsonl").symlink_to(tmp_path / "logs")
    for url in ("logs", "logs/*.jsonl"):
        assert len(land(settings, "app", str(tmp_path / url), DAY)) == 1


def test_a_name_that_is_not_utf8_lands_like_others(settings, tmp_path):
    write(tmp_path / "logs/\udcff.jsonl", b"{}\n")
    copied: list[int] = []
    for _ in range(2):
        (landed,) = land(settings, "app", str(tmp_path / "logs"), DAY, copied.append)
        assert landed.origin.endswith("/logs/\\udcff.jsonl")
    assert copied == [3]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://key:secret@bucket/logs?sig=secret#secret", "s3://bucket/logs"), ("filecache::http://me:secret@host/x?sig=secret::secret", "filecache::http://host/x"),
        ("zip://*::http://me:secret@host/a.zip?sig=secret", "zip://*::http://host/a.zip"), ("filecache::simplecache::s3://key:secret@b/x", "filecache::simplecache::s3://b/x"),
        ("http://me:sec#ret@host/x", "http://host/x"), ("http://[::1]:80/x", "http://[::1]:80/x"), ("file:///logs/what?.jsonl", "file:///logs/what?.jsonl"),
        ("/logs/a::b@c?.jsonl", "/logs/a::b@c?.jsonl"),
    ],
)  # fmt: skip
def test_a_url_is_told_without_its_secrets(url, told):
    assert redacted(url) == told


@pytest.mark.parametrize(
    ("text", "url", "told"),
    [
        ("403, url='http://host/x?sig=secret'", "", "403, url='http://host/x'"), ("Not Found for url: https://api.host/repos/me/secret/x", "github://me:secret@r/x", "Not Found for url: https://api.host/repos/me/…/x"),
        ("refused with url: /x?sig=secret (Caused by 'http://me:secret@host')", "", "refused with url: /x (Caused by 'http://host')"),
        ("530 p@ss w/o s", "ftp://me:p%40ss@host/x", "530 … w/o s"), ("as it was: a@b, C:/x, ::1", "s3://bucket/x", "as it was: a@b, C:/x, ::1"),
    ],
)  # fmt: skip
def test_a_drivers_own_text_is_told_without_secrets(text, url, told):
    assert scrubbed(text, url) == told


def test_no_secret_of_a_url_is_told(breaking):
    with pytest.raises(RetryLater, match="cannot connect to host") as unreachable:
        origins("breaking://me:s3cr3t@unreachable/logs")
    assert "s3cr3t" not in str(unreachable.value)
    with pytest.raises(NotConfigured) as absent:
        origins("memory://user:s3cr3t@nowhere/logs")
    assert "s3cr3t" not in str(absent.value)
    with pytest.raises(NotConfigured) as error:
        origins("memory://user:s3cr3t@nowhere/logs")
    assert "s3cr3t" not in str(error.value)
