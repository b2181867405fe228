"""The review queue for people: printed, or as lines of the `feedback` format that come back with answers.

A line names the call and asks for `value`: true where the call did its job, false where it did not. Taken in again
(`flywheel ingest FILE --format feedback --source review`) an answer is a row of core.feedback by the name `review_correct`, read by the
rule `key` of schemas/reference/signal.csv: it weighs what such judgements prove to be worth, and the call leaves the queue.
An answer counts only up to `review_by_at`, so calls for which that has passed are not handed out.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.engine import views
from pipelines.errors import NotConfigured
from pipelines.lake import Lake, storage
from pipelines.settings import Settings

NAME = "review_correct"
SHOWN = {"rank_number": "rank", "inference_id": "inference_id", "workload": "workload", "model_name": "model", "expected_error_share": "expected", "reasons": "why", "review_by_at": "by"}


@dataclass
class Written:
    """What was written."""

    path: Path
    calls: int
    expected_errors: float
    too_late: int
    """Calls of the queue that are left out, for an answer would no longer count."""

    def __str__(self) -> str:
        told = f"{self.calls:,} calls in {self.path}"
        if self.calls:
            told += f"; about {self.expected_errors:.0f} of them failed. Set each value to true or false, then: flywheel ingest {self.path} --format feedback --source review"
        if self.too_late:
            told += f"\n{self.too_late:,} calls of the queue are left out: they are more than 14 days old, and an answer would no longer count. Take in newer logs, then: flywheel build"
        return told


@storage("review")
def queue(settings: Settings, limit: int, *, with_text: bool = False, after: datetime | None = None) -> tuple[list[tuple], list[str]]:
    """The first of the queue and the names of the columns; with what was asked and answered where that is wished. Given `after`, the first of
    those to which an answer counts still after then."""
    if not Lake(settings).exists("datasets.review_queue"):
        raise NotConfigured("there is no datasets.review_queue yet; flywheel build makes it")
    text = ", prompt, response" if with_text else ""
    joined = """left join (select inference_id, started_at, input_messages as prompt, output_messages as response from core.inference_content
        where inference_id in (select inference_id from first)) as content using (inference_id, started_at)"""
    first = "select * from datasets.review_queue where review_by_at > coalesce(cast($after as timestamp), '-infinity') order by rank_number limit $limit"
    with views(settings) as con:
        rows = con.execute(
            f"with first as ({first}) select {', '.join(SHOWN)}{text} from first {joined if with_text else ''} order by rank_number", {"limit": limit, "after": after}
        ).fetchall()
    return rows, [*SHOWN.values(), *(["prompt", "response"] if with_text else [])]


def write_queue(settings: Settings, path: Path, limit: int, *, with_text: bool = False, now: datetime | None = None) -> Written:
    """Write the first of the queue to which an answer given now (UTC) counts, as JSON lines; the file appears whole."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    rows, names = queue(settings, limit, with_text=with_text, after=now)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        for row in rows:
            told = dict(zip(names, row, strict=True))
            line = {"inference_id": told.pop("inference_id"), "name": NAME, "value": None, "at": f"{now:%Y-%m-%dT%H:%M:%SZ}", "rater_kind": "user"}
            told["by"] = f"{told['by']:%Y-%m-%dT%H:%M:%SZ}"
            file.write(json.dumps(line | {"asked": told}, ensure_ascii=False) + "\n")
    os.replace(part, path)
    return Written(path, len(rows), sum(row[names.index("expected")] for row in rows), _too_late(settings, now))


@storage("review")
def _too_late(settings: Settings, now: datetime) -> int:
    with views(settings) as con:
        return con.execute("select count(*) from datasets.review_queue where review_by_at <= $now", {"now": now}).fetchone()[0]
