"""Is anything lost or doubled when the pipeline is killed anywhere?

    python -m tests.benchmarks.kill9 [--kills 200] [--in-a-row 10] [--seed 1] [--minutes 60]
    python -m tests.benchmarks.kill9 --changes [--step 1]

Draws logs with duplicates, newer versions, late and broken lines, and takes them in and builds the marts once undisturbed.
Then, in fresh warehouses, kills the same work with SIGKILL at random times, several times in a row, lets it run to the end,
and compares every table with the undisturbed one by a hash of its ordered content. Exits with 1 when any differs. After `--minutes` it
begins no further warehouse and says how far it came; another --seed draws other times, so that several runs add up.

With `--changes` it leaves nothing to chance: prices, logs and marts are brought in, and the process dies right before its first
upload, commit, strike or swap of views, in the next warehouse before its second, and so on to the last.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from pipelines.settings import Settings
from tests.support.lakehouse import CHANGES, DAY, call, crash_at, hashes, log, priced, run, started, unaccounted, warehouse


def draw(folder: Path) -> None:
    """Two files that repeat, correct and contradict each other, with lines that must be refused."""
    first = [call(f"c{n}", at=f"2026-11-{18 + n % 3}T0{n % 10}:00:00Z", said="x" * (n % 300)) for n in range(400)]
    newer = [call(f"c{n}", at=f"2026-11-{18 + n % 3}T0{n % 10}:00:00Z", seconds=9.0) for n in range(0, 400, 7)]
    log(folder / "a.jsonl", [*first, "{broken", "", call("early", at="1970-01-01T00:00:00Z"), *first[:40]])
    log(folder / "b.jsonl", [*newer, *first[100:150], call("late", at="2026-11-10T00:00:00Z"), b"\xff\xfe"])


def work(home: Path, logs: Path) -> None:
    run(settings_of(home, logs))


def settings_of(home: Path, logs: Path) -> Settings:
    return priced(warehouse(home, logs), home.parent / "feed")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--in-a-row", type=int, default=10)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin no warehouse after so long")
    options.add_argument("--changes", action="store_true", help="die before each change of the warehouse instead of at random times")
    options.add_argument("--step", type=int, default=1, help="of the changes, every so many")
    given = options.parse_args()
    if given.changes:
        sys.exit(prove_changes(given.step))
    sys.exit(prove(given.kills, given.in_a_row, given.seed, given.minutes))


def prove(kills: int, in_a_row: int, seed: int, minutes: float) -> int:
    """Kill `kills` times, or as often as the time allows; returns 1 when a warehouse came out different."""
    from pipelines.prices import ingest_feed

    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="kill9-"))
    try:
        began = time.monotonic()
        draw(folder / "logs")
        # Every warehouse begins with the same prices, taken in once; all have the same path, as tables know theirs.
        home, prices = folder / "world" / "home", folder / "prices"
        calm = settings_of(home, folder / "logs")
        ingest_feed(calm, "litellm", DAY)
        shutil.copytree(home, prices)
        with started(work, home, folder / "logs") as process:
            since = time.monotonic()
            process.join()
            whole = time.monotonic() - since
        expected = hashes(calm)
        print(f"undisturbed: {whole:.1f} s, {sum(n for n, _ in expected.values()):,} rows in {len(expected)} tables", flush=True)
        done = different = rounds = 0
        while done < kills and time.monotonic() - began < 60 * minutes:
            rounds += 1
            shutil.rmtree(home)
            shutil.copytree(prices, home)
            hit = 0
            while hit < min(in_a_row, kills - done):
                with started(work, home, folder / "logs") as process:
                    # What is left to do becomes less from kill to kill; times near the whole would find it done.
                    process.join(chance.uniform(0, whole * 0.6))
                    if not process.is_alive():
                        break
                hit += 1
            done += hit
            with started(work, home, folder / "logs") as process:
                process.join()
            found = hashes(settings_of(home, folder / "logs"))
            wrong = sorted(t for t in expected.keys() | found.keys() if expected.get(t) != found.get(t))
            left_over = unaccounted(settings_of(home, folder / "logs"))
            different += bool(wrong or left_over)
            took = time.monotonic() - began
            print(f"{done} of {kills} kills in mid-work, {took / 60:.1f} min: {', '.join(wrong) or 'all tables equal'} {left_over or ''}", flush=True)
        print(f"{done} kills in {rounds} warehouses, {different} different")
        return int(different > 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def whole_work(home: Path, logs: Path, crash_before: int | None = None) -> None:
    """Prices, logs and marts; dying right before a change of the warehouse."""
    from pipelines.prices import ingest_feed

    if crash_before:
        crash_at(crash_before, after=False, changes=(*CHANGES, "upload"))
    ingest_feed(settings_of(home, logs), "litellm", DAY)
    run(settings_of(home, logs))


def prove_changes(step: int) -> int:
    """Die before every change in turn; returns 1 when a warehouse came out different."""
    folder = Path(tempfile.mkdtemp(prefix="kill9-"))
    try:
        draw(folder / "logs")
        with started(whole_work, folder / "calm" / "home", folder / "logs") as process:
            process.join()
        expected = hashes(settings_of(folder / "calm" / "home", folder / "logs"))
        different, n = 0, 1
        while True:
            home = folder / f"change-{n}" / "home"
            with started(whole_work, home, folder / "logs", n) as process:
                process.join()
            if process.exitcode == 0:
                break
            with started(whole_work, home, folder / "logs") as process:
                process.join()
            found = hashes(settings_of(home, folder / "logs"))
            wrong = sorted(t for t in expected.keys() | found.keys() if expected.get(t) != found.get(t))
            left_over = unaccounted(settings_of(home, folder / "logs"))
            different += bool(wrong or left_over or process.exitcode)
            print(f"died before change {n}: {', '.join(wrong) or 'all tables equal'} {left_over or ''}", flush=True)
            shutil.rmtree(home.parent)
            n += step
        print(f"{len(range(1, n, step))} of {n - 1} changes, {different} warehouses different")
        return int(different > 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
