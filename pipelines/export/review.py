"""The review queue for people: printed, or as lines of the `feedback` format that come back with answers.

A line names the call and asks for `value`: true where the call did its job, false where it did not. Taken in again
(`flywheel ingest FILE --format feedback --source review`) an answer is a row of core.feedback by the name `review_correct`, read by the
rule `task` of schemas/reference/signal.csv: it weighs what such judgements prove to be worth, and the call leaves the queue.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

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

    def __str__(self) -> str:
        return f"{self.calls:,} calls in {self.path}; about {self.expected_errors:.0f} of them failed. Set each value to true or false, then: flywheel ingest {self.path} --format feedback --source review"


@storage("review")
def queue(settings: Settings, limit: int, *, with_text: bool = False) -> tuple[list[tuple], list[str]]:
    """The first of the queue and the names of the columns; with what was asked and answered where that is wished."""
    if not Lake(settings).exists("datasets.review_queue"):
        raise NotConfigured("there is no datasets.review_queue yet; flywheel build makes it")
    text = ", prompt, response" if with_text else ""
    joined = """left join (select inference_id, started_at, input_messages as prompt, output_messages as response from core.inference_content
        where inference_id in (select inference_id from datasets.review_queue where rank_number <= $limit)) as content using (inference_id, started_at)"""
    with duckdb.connect(str(settings.views), read_only=True) as con:
        con.execute("set timezone = 'UTC'")
        rows = con.execute(f"select {', '.join(SHOWN)}{text} from datasets.review_queue {joined if with_text else ''} where rank_number <= $limit order by rank_number", {"limit": limit}).fetchall()
    return rows, [*SHOWN.values(), *(["prompt", "response"] if with_text else [])]


def write_queue(settings: Settings, path: Path, limit: int, *, with_text: bool = False) -> Written:
    """Write the first of the queue as JSON lines; the file appears whole."""
    rows, names = queue(settings, limit, with_text=with_text)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        for row in rows:
            told = dict(zip(names, row, strict=True))
            line = {"inference_id": told.pop("inference_id"), "name": NAME, "value": None, "at": now, "rater_kind": "user"}
            told["by"] = f"{told['by']:%Y-%m-%dT%H:%M:%SZ}"
            file.write(json.dumps(line | {"asked": told}, ensure_ascii=False) + "\n")
    os.replace(part, path)
    return Written(path, len(rows), sum(row[names.index("expected")] for row in rows))
