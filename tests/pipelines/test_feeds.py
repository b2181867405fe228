from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.engine import views
from pipelines.errors import NotConfigured, RetryLater, SourceUnreadable, StopTheLine
from pipelines.feeds import FEEDS, embedded_genai_prices, fetch, snapshots
from pipelines.ingest import ingest_source
from pipelines.land import PRICES, feed_name, landed_as, source_name
from pipelines.prices import ingest_feed
from pipelines.settings import ROOT, Feed, Settings, Source
from tests.support.lakehouse import ask, call, log

Answer = Callable[[BaseHTTPRequestHandler], None]
GOOD = b'{"m": {"input_cost_per_token": 1e-06}}'
BETTER = b'{"m": {"input_cost_per_token": 2e-06}}'


def says(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


class Publisher:
    """A real HTTP server whose next answer can be set, and which remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = says(GOOD)
        self.asked: list[dict[str, str]] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append({name.lower(): value for name, value in self.headers.items()})
                publisher.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/prices.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.server.shutdown()
    publisher.server.server_close()


def test_a_feed_is_kept_as_it_came(publisher, tmp_path):
    before = datetime.now(UTC)
    got = fetch(publisher.url, tmp_path)
    assert got.path.read_bytes() == GOOD
    assert (got.is_new, got.is_stale) == (True, False)
    assert before <= got.quoted_at <= datetime.now(UTC)


def test_not_modified_saves_the_transfer(publisher, tmp_path):
    publisher.answer = says(GOOD, ETag='"v1"', Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
    first = fetch(publisher.url, tmp_path)
    publisher.answer = says(b"", 304)
    second = fetch(publisher.url, tmp_path)
    assert (publisher.asked[1]["if-none-match"], publisher.asked[1]["if-modified-since"]) == (
        '"v1"',
        "Mon, 01 Jan 2024 00:00:00 GMT",
    )
    assert (second.path, second.quoted_at, second.is_new, second.is_stale) == (first.path, first.quoted_at, False, False)


def test_the_same_bytes_again_are_not_new_and_other_bytes_are(publisher, tmp_path):
    first = fetch(publisher.url, tmp_path)
    again = fetch(publisher.url, tmp_path)
    assert (again.is_new, again.quoted_at) == (False, first.quoted_at)
    publisher.answer = says(BETTER)
    changed = fetch(publisher.url, tmp_path)
    assert (changed.is_new, changed.path.read_bytes()) == (True, BETTER)
    assert changed.quoted_at > first.quoted_at


def test_packed_on_the_way(publisher, tmp_path):
    publisher.answer = says(gzip.compress(GOOD), Content_Encoding="gzip")
    assert fetch(publisher.url, tmp_path).path.read_bytes() == GOOD


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(40):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def cut_short(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(GOOD) + 100))
    request.end_headers()
    request.wfile.write(GOOD)


FAULTS = {
    "server error": (says(b"{}", 500), RetryLater),
    "too many requests": (says(b"", 429), RetryLater),
    "not found": (says(b"", 404), SourceUnreadable),
    "cut short": (cut_short, RetryLater),
    "cut short within a packed body": (says(gzip.compress(GOOD * 50)[:-20], Content_Encoding="gzip"), RetryLater),
    "a login page": (says(b"<html>please log in</html>"), RetryLater),
    "half a document": (says(GOOD[:-2]), RetryLater),
    "an empty object": (says(b"{}"), RetryLater),
    "only a word": (says(b'"sorry"'), RetryLater),
    "too large": (says(b"[" + b"1," * 60_000 + b"1]"), SourceUnreadable),
    "a bomb": (says(gzip.compress(b"[" + b" " * 50_000_000 + b"]"), Content_Encoding="gzip"), SourceUnreadable),
    "too slow": (drip, RetryLater),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_when_the_server_fails_the_last_good_file_stands_in(fault, publisher, tmp_path, caplog):
    good = fetch(publisher.url, tmp_path)
    publisher.answer, _ = FAULTS[fault]
    with caplog.at_level(logging.WARNING):
        got = fetch(publisher.url, tmp_path, max_bytes=100_000, timeout_s=0.5)
    assert (got.path, got.quoted_at, got.is_new, got.is_stale) == (good.path, good.quoted_at, False, True)
    assert got.path.read_bytes() == GOOD
    assert "going on with the file of" in caplog.text


@pytest.mark.parametrize("fault", FAULTS)
def test_when_there_is_no_earlier_file_the_error_says_whether_to_retry(fault, publisher, tmp_path):
    publisher.answer, error = FAULTS[fault]
    with pytest.raises(error, match="there is no earlier file"):
        fetch(publisher.url, tmp_path, max_bytes=100_000, timeout_s=0.5)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens(tmp_path):
    with pytest.raises(RetryLater):
        fetch("http://127.0.0.1:9/prices.json", tmp_path, timeout_s=0.5)


def test_a_file_that_was_tampered_with_does_not_stand_in(publisher, tmp_path):
    publisher.answer = says(GOOD, ETag='"v1"')
    fetch(publisher.url, tmp_path).path.write_bytes(b"half a fi")
    assert fetch(publisher.url, tmp_path).path.read_bytes() == GOOD
    assert "if-none-match" not in publisher.asked[1]


@pytest.mark.parametrize("url", ["http://example.com/a.json", "ftp://example.com/a.json", "file:///etc/passwd"])
def test_only_https(url, tmp_path):
    with pytest.raises(NotConfigured, match="https only"):
        fetch(url, tmp_path)


def test_a_redirect_may_not_lead_away_from_https(publisher, tmp_path):
    publisher.answer = says(b"", 302, Location="http://example.com/prices.json")
    with pytest.raises(NotConfigured, match="https only"):
        fetch(publisher.url, tmp_path)


@pytest.mark.parametrize("answer", [says(GOOD), says(b"", 503)])
def test_no_secret_in_log_or_error(answer, publisher, tmp_path, caplog):
    publisher.answer = answer
    url = publisher.url.replace("http://", "http://user:hunter2@") + "?token=sesame"
    with caplog.at_level(logging.DEBUG):
        try:
            fetch(url, tmp_path)
        except RetryLater as error:
            caplog.records.append(logging.makeLogRecord({"msg": str(error)}))
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "hunter2" not in told
    assert "sesame" not in told
    assert not any("sesame" in path.name + path.read_text() for path in tmp_path.iterdir())


def test_snapshots_of_a_folder_oldest_first(tmp_path, caplog):
    names = [
        "2024-10-12.json.gz",
        "2024-10-05.json",
        "2024-10-12T0630.json.zst",
        "2024-10-12-b.json",
        "readme.md",
        "2024-13-01.json",
    ]
    for name in names:
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        found = snapshots(str(tmp_path))
    assert [(Path(path).name, at.isoformat()) for path, at in found] == [
        ("2024-10-05.json", "2024-10-05T23:59:59+00:00"),
        ("2024-10-12T0630.json.zst", "2024-10-12T06:30:00+00:00"),
        ("2024-10-12.json.gz", "2024-10-12T23:59:59+00:00"),
        ("2024-10-12-b.json", "2024-10-12T23:59:59+00:00"),
    ]
    assert "2 files named without a day are left out: 2024-13-01.json, readme.md" in caplog.text


def test_snapshots_of_a_url(tmp_path):
    (tmp_path / "2024-10-05.json").touch()
    assert [Path(path).name for path, _ in snapshots(f"file://{tmp_path}")] == ["2024-10-05.json"]


def test_a_folder_without_snapshots(tmp_path):
    with pytest.raises(NotConfigured, match="holds no snapshots"):
        snapshots(str(tmp_path / "nowhere"))


def test_the_embedded_feed_is_whole_and_the_same_every_time(tmp_path):
    first, second = tmp_path / "a" / "data.json", tmp_path / "data.json"
    assert embedded_genai_prices(first) == embedded_genai_prices(second)
    assert first.read_bytes() == second.read_bytes()
    providers = {provider["id"]: provider for provider in json.loads(first.read_bytes())}
    (haiku,) = (model for model in providers["anthropic"]["models"] if model["id"] == "claude-3-haiku")
    assert haiku["prices"]["input_mtok"] == "0.25"


def test_every_feed_has_its_select():
    folder = Path(__file__).parents[2] / "warehouse/staging/price"
    assert {path.stem for path in folder.glob("*.sql")} == set(FEEDS)
    assert all(url.startswith("https://") for url in FEEDS.values())


def test_a_price_select_of_ones_own_may_know_fewer_columns(tmp_path):
    """Written before the feed was known to say since when it lists a model."""
    own = tmp_path / "formats" / "price" / "mine.sql"
    own.parent.mkdir(parents=True)
    theirs = (ROOT / "warehouse" / "staging" / "price" / "litellm.sql").read_text()
    own.write_text(theirs.replace("    cast(null as date) as listed_day,\n", ""))
    assert own.read_text() != theirs
    listed = tmp_path / "2026-11-02.json"
    listed.write_text(json.dumps({"gpt-x": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}}))
    settings = Settings(home=tmp_path / "home", user_formats=tmp_path / "formats", feeds={"mine": Feed(url=str(tmp_path), format="mine")})
    ingest_feed(settings, "mine", date(2026, 11, 2))
    with views(settings) as con:
        assert con.execute("select count(*), count(listed_day) from core.price_quote where feed = 'mine'").fetchone() == (2, 0)


def lists(**usd: float) -> bytes:
    """A list in LiteLLM's format: models and what a million input tokens cost."""
    return json.dumps({m: {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": u / 1e6} for m, u in usd.items()}).encode()


def book(settings: Settings) -> list[tuple]:
    """What is believed now: model, USD a million tokens, from when the price holds."""
    return ask(settings, "select feed_model, cast(price_usd_per_unit * 1000000 as double), valid_from from core.price where known_to is null order by valid_from, 1")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home", memory_limit="400MB", threads=2)


def test_what_an_address_says_now_is_no_news_of_a_past_day(publisher, settings, caplog):
    settings.feeds = {"live": Feed(url=publisher.url, format="litellm")}
    today, started = datetime.now(UTC).date(), datetime.now(UTC).replace(tzinfo=None)
    publisher.answer = says(lists(m=10))
    assert ingest_feed(settings, "live", today - timedelta(days=30)).files == 0
    assert "nothing of that day has landed" in caplog.text
    assert ingest_feed(settings, "live", today).kept == 1
    before = book(settings)
    publisher.answer = says(lists(m=20))
    for past in (150, 30, 2):
        assert ingest_feed(settings, "live", today - timedelta(days=past)).files == 0
    assert book(settings) == before
    # The daily run of a day starts after its end; what it receives is of the new day.
    assert ingest_feed(settings, "live", today - timedelta(days=1)).kept == 1
    (_, first, first_from), (_, second, second_from) = book(settings)
    assert (first, second) == (10, 20)
    assert started - timedelta(milliseconds=1) <= first_from < second_from <= datetime.now(UTC).replace(tzinfo=None)


def test_an_address_that_takes_back_a_rise_on_the_same_day_is_believed_at_once(publisher, settings):
    settings.feeds = {"live": Feed(url=publisher.url, format="litellm")}
    for usd in (10, 20, 10, 10):
        publisher.answer = says(lists(m=usd))
        ingest_feed(settings, "live", datetime.now(UTC).date())
    assert [usd for _, usd, _ in book(settings)] == [10, 20, 10]
    assert ask(settings, "select count(*), count(distinct quoted_at) from core.price_quote") == [(3, 3)]


def test_snapshots_of_one_day_hold_from_their_times(settings, tmp_path):
    said = {"2026-10-01": 10, "2026-10-12T0600": 10, "2026-10-12T1800": 5, "2026-10-20": 6, "2026-10-20-b": 5, "2026-10-20-c": 4}
    for name, usd in said.items():
        log(tmp_path / f"snapshots/{name}.json", lists(m=usd))
    packed = tmp_path / "snapshots/2026-10-22T063000.json.gz"
    packed.write_bytes(gzip.compress(lists(m=3)))
    settings.feeds = {"f": Feed(url=str(tmp_path / "snapshots"), format="litellm")}
    assert ingest_feed(settings, "f", date(2026, 11, 1)).kept == 7
    assert [(usd, str(at)[:19]) for _, usd, at in book(settings)] == [
        (10, "2026-10-02 00:00:00"), (5, "2026-10-12 18:00:00"), (6, "2026-10-21 00:00:00"), (5, "2026-10-21 00:00:00"), (4, "2026-10-21 00:00:00"), (3, "2026-10-22 06:30:00"),
    ]  # fmt: skip
    assert ingest_feed(settings, "f", date(2026, 11, 1)).files == 0


def test_a_run_counts_what_was_held_back_of_its_own_files_only(settings, tmp_path):
    for day, usd in ((1, 10), (8, 10), (15, 10_000)):
        log(tmp_path / f"snapshots/2026-10-{day:02}.json", lists(m=usd))
    settings.feeds = {"f": Feed(url=str(tmp_path / "snapshots"), format="litellm")}
    told = [ingest_feed(settings, "f", date(2026, 11, 1)) for _ in range(2)]
    assert [(report.files, report.kept, report.quarantined) for report in told] == [(3, 2, 1), (0, 0, 0)]


def test_of_two_files_brought_in_for_one_day_the_later_holds(settings, tmp_path):
    settings.feeds = {"f": Feed(url=str(tmp_path / "list.json"), format="litellm")}
    for usd, files in ((10, 1), (20, 1), (20, 0), (5, 1), (10, 1)):
        log(tmp_path / "list.json", lists(m=usd))
        assert ingest_feed(settings, "f", date(2026, 11, 20)).files == files
        _, last, since = book(settings)[-1]
        assert (last, since.replace(microsecond=0)) == (usd, datetime(2026, 11, 21))


LOGS = "core.inference"


@pytest.mark.parametrize(
    ("format", "feeds", "sources", "landed", "feed_called", "source_called"),
    [
        ("litellm", [], [], set(), "litellm_prices", "litellm"),
        ("litellm", ["litellm"], [], set(), "litellm", "litellm_logs"),
        ("litellm", [], ["litellm"], set(), "litellm_prices", "litellm"),
        # Each goes on under the name that it has landed under.
        ("litellm", [], [], {PRICES}, "litellm", "litellm_logs"),
        ("litellm", [], [], {LOGS}, "litellm_prices", "litellm"),
        ("litellm", ["litellm"], [], {LOGS}, "litellm_prices", "litellm"),
        ("litellm", [], ["litellm"], {PRICES}, "litellm", "litellm_logs"),
        ("litellm", ["litellm"], ["litellm"], {PRICES, LOGS}, "litellm_prices", "litellm"),
        # Formats of price lists alone, and of logs alone.
        ("models_dev", [], [], set(), "models_dev", "models_dev"),
        ("openai", [], [], set(), "openai_prices", "openai"),
    ],
)
def test_a_feed_and_a_source_are_never_called_the_same(settings, monkeypatch, format, feeds, sources, landed, feed_called, source_called):
    monkeypatch.setattr("pipelines.land.landed_as", lambda settings, name: landed if name == format else set())
    settings.feeds = {name: Feed(url="nowhere", format=format) for name in feeds}
    settings.sources = {name: Source(url="nowhere", format=format) for name in sources}
    assert (feed_name(settings, format), source_name(settings, format)) == (feed_called, source_called)


def test_what_has_landed_under_a_name_keeps_it(settings, tmp_path):
    path = log(tmp_path / "list.json", lists(m=1))
    settings.feeds = {name: Feed(url=str(path), format="litellm") for name in ("prices", "app")}
    settings.sources = {name: Source(url=str(log(tmp_path / "a.jsonl", [call("a")])), format="litellm") for name in ("prices", "app")}
    settings.sources.pop("prices")
    ingest_feed(settings, "prices", date(2026, 11, 1))
    settings.sources["prices"] = settings.sources["app"]
    with pytest.raises(NotConfigured, match=r"prices is a feed, .*--source prices_logs"):
        ingest_source(settings, "prices", date(2026, 11, 1))
    assert ingest_feed(settings, "prices", date(2026, 11, 1)).files == 0
    for _ in range(2):  # before its logs have landed, and after
        with pytest.raises(NotConfigured, match=r"app is a source, .*--feed app_prices"):
            ingest_feed(settings, "app", date(2026, 11, 1))
        ingest_source(settings, "app", date(2026, 11, 1))
    assert [landed_as(settings, name) for name in ("prices", "app", "other")] == [{PRICES}, {LOGS}, set()]


def test_a_broken_snapshot_costs_no_other(settings, tmp_path):
    for day in range(1, 7):
        log(tmp_path / f"snapshots/2026-11-0{day}.json", lists(m=day))
    log(tmp_path / "snapshots/2026-11-02.json", lists(m=2)[:-20])
    log(tmp_path / "snapshots/2026-11-05.json", b'{"data": []}')
    (tmp_path / "snapshots/2026-11-06.json").rename(cut := tmp_path / "snapshots/2026-11-06.json.gz")
    cut.write_bytes(gzip.compress(cut.read_bytes())[:-12])
    settings.feeds = {"f": Feed(url=str(tmp_path / "snapshots"), format="litellm")}
    with pytest.raises(SourceUnreadable, match="3 snapshots were set aside") as told:
        ingest_feed(settings, "f", date(2026, 11, 7))
    assert [name for name in ("-01", "-02", "-03", "-04", "-05", "-06") if f"2026-11{name}.json" in str(told.value)] == ["-02", "-05", "-06"]
    assert [usd for _, usd, _ in book(settings)] == [1, 3, 4]
    assert ask(settings, "select landing_file[7:16], promises, reason from core.quarantine where target_table = 'core.price_quote' order by 1") == [
        ("2026-11-02", "readable", "does not read as litellm"), ("2026-11-05", "readable", "no price at all as litellm"), ("2026-11-06", "readable", "does not read as litellm"),
    ]  # fmt: skip
    assert ask(settings, "select sum(record_count), sum(kept_count), sum(quarantined_count) from core.landing_file") == [(6, 3, 3)]
    # None of them holds back what comes later, nor is told again.
    settings.feeds = {"f": Feed(url=str(log(tmp_path / "list.json", lists(m=9))), format="litellm")}
    assert ingest_feed(settings, "f", date(2026, 11, 8)).kept == 1
    assert [usd for _, usd, _ in book(settings)] == [1, 3, 4, 9]


def test_a_snapshot_set_aside_is_taken_in_once_its_select_is_mended(settings, tmp_path):
    theirs = (ROOT / "warehouse/staging/price/litellm.sql").read_text()
    own = log(tmp_path / "formats/price/mine.sql", f"from ({theirs}) union all from ({theirs})".encode())
    settings.user_formats = tmp_path / "formats"
    settings.feeds = {"f": Feed(url=str(log(tmp_path / "list.json", lists(m=1))), format="mine")}
    for _ in range(2):  # who asks for it again is told again
        with pytest.raises(SourceUnreadable, match=r"(?s)list\.json: .*grain_unique is broken"):
            ingest_feed(settings, "f", date(2026, 11, 1))
    assert ask(settings, "select promises, source from core.quarantine") == [("grain_unique", "f")]
    own.write_text(theirs)
    assert ingest_feed(settings, "f", date(2026, 11, 1)).kept == 1
    assert ask(settings, "select count(*) from core.quarantine") == [(0,)]
    assert ask(settings, "select kept_count, quarantined_count from core.landing_file") == [(1, 0)]


def test_a_select_that_does_not_run_is_no_fault_of_the_snapshots(settings, tmp_path):
    log(tmp_path / "formats/price/mine.sql", b"select nothing from nowhere")
    settings.user_formats = tmp_path / "formats"
    settings.feeds = {"f": Feed(url=str(log(tmp_path / "list.json", lists(m=1))), format="mine")}
    with pytest.raises(StopTheLine, match="the select of mine does not run"):
        ingest_feed(settings, "f", date(2026, 11, 1))
    log(tmp_path / "formats/price/mine.sql", (ROOT / "warehouse/staging/price/litellm.sql").read_bytes())
    assert ingest_feed(settings, "f", date(2026, 11, 1)).kept == 1


@pytest.mark.parametrize("format", ["litellm", "models_dev", "genai_prices"])
def test_a_negative_price_holds_back_no_other(settings, tmp_path, format):
    said = {
        "litellm": json.loads(lists(good=1, bad=-1)),
        "models_dev": {"lab": {"models": {"good": {"cost": {"input": 1}}, "bad": {"cost": {"input": -1}}}}},
        "genai_prices": [{"id": "lab", "models": [{"id": "good", "prices": {"input_mtok": 1}}, {"id": "bad", "prices": {"input_mtok": -1}}]}],
    }[format]
    settings.feeds = {"f": Feed(url=str(log(tmp_path / "list.json", json.dumps(said).encode())), format=format)}
    report = ingest_feed(settings, "f", date(2026, 11, 1))
    assert (report.rows_in, report.kept, report.quarantined) == (2, 1, 1)
    assert [(model.removeprefix("lab/"), usd) for model, usd, _ in book(settings)] == [("good", 1)]
    [(key, promises)] = ask(settings, "select row_key, promises from core.quarantine")
    assert (key.removeprefix("lab/"), promises) == ("bad input_uncached", "price_not_negative")
    assert ask(settings, "select record_count, kept_count, quarantined_count from core.landing_file") == [(2, 1, 1)]
