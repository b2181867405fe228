"""What does it cost to erase one user among many calls, and is only what held something of theirs written anew?

    python tests/benchmarks/erase.py --calls 1000000 [--days 20] [--theirs 40]

Writes LiteLLM payloads with messages (about 2 kB each), a file a day; one user has `--theirs` calls on three of the days.
Takes them in, erases that user, and prints seconds, processor seconds and peak memory by step, landed and data files written
anew of all, and what a search of the same bytes by grep alone takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipelines.erasure.erase import erase
from pipelines.ingest import ingest_source
from pipelines.lake import Lake
from pipelines.settings import Settings, Source

USER = "erase-me-0001@example.com"
FIRST = date(2026, 10, 1)


def write_logs(folder: Path, calls: int, days: int, theirs: int) -> None:
    """A file a day; the user's calls on the first, middle and last one."""
    words = ["the", "quick", "brown", "fox", "asks", "a", "lazy", "model", "for", "an", "answer", "about", "invoices", "and", "contracts", "in", "the", "north"]
    con = duckdb.connect()
    con.execute("create macro prose(seed, many) as list_aggregate(list_transform(range(many), lambda k: ($w)[1 + (hash(seed * 1000 + k) % len($w))::bigint]), 'string_agg', ' ')".replace("$w", str(words)))
    per_day = calls // days
    for day in range(days):
        mine = f"case when n % {per_day} < {theirs // 3 + 1} then '{USER}' else 'user-' || lpad((hash(n) % 20000)::varchar, 5, '0') end" if day in (0, days // 2, days - 1) else "'user-' || lpad((hash(n) % 20000)::varchar, 5, '0')"
        at = int((FIRST + timedelta(days=day) - date(1970, 1, 1)).total_seconds())
        con.execute(
            f"""copy (select to_json({{'id': 'call-' || md5(n::varchar), 'session_id': 's-' || md5((n // 3)::varchar), 'call_type': 'acompletion', 'status': 'success',
                'custom_llm_provider': 'openai', 'model': 'gpt-4o', 'startTime': {at} + n % 80000, 'endTime': {at} + n % 80000 + 2, 'prompt_tokens': 400,
                'completion_tokens': 60, 'response_cost': 0.0016, 'end_user': {mine},
                'messages': [{{'role': 'user', 'content': prose(n, 220) || ' ' || md5(n::varchar || 'said')}}],
                'response': {{'model': 'gpt-4o', 'choices': [{{'finish_reason': 'stop', 'message': {{'role': 'assistant', 'content': prose(n + 1, 80)}}}}]}}}})::varchar as line
                from range({day * per_day}, {(day + 1) * per_day}) t(n)) to '{folder}/{day:03}.jsonl' (format csv, header false, quote '', escape '', delimiter '\x01')"""
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--days", type=int, default=20)
    options.add_argument("--theirs", type=int, default=40)
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="erase-"))
    try:
        (folder / "logs").mkdir()
        write_logs(folder / "logs", given.calls, given.days, given.theirs)
        settings = Settings(home=folder / "home", sources={"app": Source(url=str(folder / "logs"), format="litellm")}, pseudonym_key="k")
        timed("taken in", lambda: ingest_source(settings, "app", FIRST + timedelta(days=given.days)))
        size = sum(p.stat().st_size for p in (folder / "home" / "landing").rglob("*.jsonl"))
        print(f"{given.calls:,} calls of {given.days} days, {size / 1e9:.2f} GB in landing", flush=True)
        tables = ("core.inference", "core.inference_content")
        before = {t: {e.path for e in Lake(settings).snapshot(t).files} for t in tables}
        landed = {p.name for p in (folder / "home" / "landing").rglob("*.jsonl")}
        done = timed("erased and proved", lambda: erase(settings, "user", USER))
        print(done)
        print(json.dumps(done.landing))
        after = {p.name for p in (folder / "home" / "landing").rglob("*.jsonl")}
        print(f"landing: {len(after - landed)} of {len(after)} files written anew")
        for t in tables:
            now = {e.path for e in Lake(settings).snapshot(t).files}
            print(f"{t}: {len(before[t] - now)} of {len(before[t])} data files written anew")
        timed("grep of landing alone, for one word", lambda: subprocess.run(["grep", "-rlF", USER, str(folder / "home" / "landing")], check=False, env={"LC_ALL": "C"}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def timed(name: str, work):
    """Run and print wall and processor seconds and the peak memory of the process so far."""
    start, cpu = time.monotonic(), time.process_time()
    found = work()
    print(f"{name}: {time.monotonic() - start:.1f} s, {time.process_time() - cpu:.1f} s of processor time, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB", flush=True)
    return found


if __name__ == "__main__":
    main()
