"""A small warehouse in a folder: logs drawn as calls, taken in by the real pipelines, seen as anyone sees it, through `warehouse.duckdb`."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.build import BuildReport, build_tables
from pipelines.contracts import contract, tables
from pipelines.engine import views
from pipelines.ingest import IngestReport, ingest_source
from pipelines.lake import Lake
from pipelines.settings import Settings, Source

DAY = date(2026, 11, 20)
LINEAGE = ("landing_file", "landing_line", "landed_day")

processes = multiprocessing.get_context("forkserver")
"""Processes that start with the imports done, so that a kill at a random time hits work and not an import."""
processes.set_forkserver_preload(["pipelines.build", "pipelines.expectations", "pipelines.maintenance", "pipelines.prices", "tests.support.lakehouse"])


MARTS = ["marts.call_cost", "marts.spend_daily", "marts.price_change", "marts.reconciliation"]
"""By day from core, by day from another mart, and whole: what is true of how these are built is true of all."""


def build_marts(settings: Settings) -> list[BuildReport]:
    """Build whatever is stale of `MARTS`."""
    return build_tables(settings, MARTS)


def warehouse(home: Path, url: str | Path | None = None, format: str = "litellm", **given: Any) -> Settings:
    """Settings of a warehouse at `home` with one source, `app`."""
    sources = {"app": Source(url=str(url or home.parent / "logs"), format=format)}
    return Settings(home=home, sources=sources, memory_limit="400MB", threads=2, **given)


def call(id: str, *, at: str = "2026-11-20T09:00:00Z", seconds: float = 1.0, said: str = "hello", **other: Any) -> dict[str, Any]:
    """One LiteLLM log record. `at` is its start; the later it ends, the later its version."""
    started = datetime.fromisoformat(at)
    return {
        "id": id, "call_type": "acompletion", "status": "success", "custom_llm_provider": "openai", "model": "gpt-4o",
        "startTime": started.timestamp(), "endTime": (started + timedelta(seconds=seconds)).timestamp(),
        "prompt_tokens": 100, "completion_tokens": 20, "response_cost": 0.00045, "metadata": {"user_api_key_team_id": "search"},
        "messages": [{"role": "user", "content": said}], "response": {"model": "gpt-4o", "choices": [{"finish_reason": "stop"}]},
    } | other  # fmt: skip


def lines(calls: Iterable[dict[str, Any] | str | bytes]) -> bytes:
    """Records, or lines as they stand, as a file of lines."""
    raw = (c if isinstance(c, bytes) else (c if isinstance(c, str) else json.dumps(c)).encode() for c in calls)
    return b"".join(line + b"\n" for line in raw)


def log(path: Path, calls: Iterable[dict[str, Any] | str | bytes] | bytes) -> Path:
    """Write a log file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(calls if isinstance(calls, bytes) else lines(calls))
    return path


def priced(settings: Settings, folder: Path, **rates: float) -> Settings:
    """The same settings with a price feed of one model, gpt-4o, in LiteLLM's format; USD a million tokens."""
    from pipelines.settings import Feed

    usd = {"input_text": 2.5, "output_text": 10.0} | rates
    entry = {
        "litellm_provider": "openai", "mode": "chat",
        "input_cost_per_token": usd["input_text"] / 1e6, "output_cost_per_token": usd["output_text"] / 1e6,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model_prices.json"
    path.write_text(json.dumps({"gpt-4o": entry}))
    settings.feeds = {"litellm": Feed(url=str(path), format="litellm")}
    return settings


def run(settings: Settings, day: date = DAY) -> list[IngestReport]:
    """Ingest `app` and build all marts."""
    reports = ingest_source(settings, "app", day)
    build_marts(settings)
    return reports


def ask(settings: Settings, query: str) -> list[tuple]:
    """Rows of a query, as any reader gets them."""
    with views(settings) as con:
        return con.execute(query).fetchall()


def hashes(settings: Settings, names: Iterable[str] | None = None, without: Iterable[str] = ()) -> dict[str, tuple[int, str]]:
    """Rows and a hash of the ordered content of every table that is there."""
    held: dict[str, tuple[int, str]] = {}
    with views(settings) as con:
        there = {f"{schema}.{name}" for schema, name in con.execute("select schema_name, view_name from duckdb_views() where not internal").fetchall()}
        for table in sorted(there & set(names or tables())):
            columns = ", ".join(f'"{c}"' for c in contract(table).names if c not in without)
            held[table] = con.execute(
                f"select count(*), md5(string_agg(r, chr(10) order by r)) from (select cast(row({columns}) as varchar) as r from {table})"
            ).fetchone()
    return held


def unaccounted(settings: Settings) -> list[tuple]:
    """Rows of the ledger that do not add up, and sources whose tables hold other than the ledger says."""
    return ask(
        settings,
        """
        select 'ledger', landing_file, record_count - context_count - kept_count - duplicate_count - quarantined_count from core.landing_file
        where record_count <> context_count + kept_count + duplicate_count + quarantined_count
        union all
        select 'quarantine', landing_file, quarantined_count - coalesce(n, 0) from core.landing_file
        left join (select landing_file, target_table, count(*) as n from core.quarantine group by all) using (landing_file, target_table)
        where quarantined_count <> coalesce(n, 0) and target_table in ('core.inference', 'core.feedback')
        union all
        select 'rows', target_table, sum(kept_count) - sum(superseded_count) - any_value(n)
        from core.landing_file join (select 'core.inference' as target_table, count(*) as n from core.inference) using (target_table)
        group by target_table having sum(kept_count) - sum(superseded_count) <> any_value(n)
        union all
        select 'content', inference_id, count(*) from (
            select inference_id from core.inference union all select inference_id from core.inference_content) group by 2 having count(*) <> 2""",
    )


CHANGES = ("commit", "strike", "publish_views")


def crash_at(n: int, *, after: bool, changes: Iterable[str] = CHANGES) -> None:
    """Make this process die, as by kill -9, at the n-th change of the warehouse from now: before or after it happens."""
    left = n

    def mortal(method: Callable) -> Callable:
        def changed(*args: Any, **given: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = method(*args, **given)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return changed

    for name in changes:
        setattr(Lake, name, mortal(getattr(Lake, name)))


def crashed_ingest(settings: Settings, n: int, after: bool) -> None:
    """Ingest `app`, but for a crash at the n-th change."""
    crash_at(n, after=after)
    ingest_source(settings, "app", DAY)


def crashed_build(settings: Settings, n: int, after: bool) -> None:
    """Build all marts, but for a crash at the n-th change."""
    crash_at(n, after=after)
    build_marts(settings)


@contextmanager
def started(work: Callable[..., object], *args: object) -> Iterator[multiprocessing.Process]:
    """A process at work; killed at the end when it is still there."""
    process = processes.Process(target=work, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
