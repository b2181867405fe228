"""Draw calls with what was said and how it went, and run the stages of a dataset over them, in a DuckDB in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb

from pipelines.contracts import contract
from pipelines.engine import MART_MACROS, connect, write
from pipelines.finetune import stages
from pipelines.finetune.recipe import Recipe
from pipelines.lake import Lake
from pipelines.settings import Settings
from tests.support.marts import DAY, at, fill

Row = dict[str, Any]


def said(id: str, asked: Any = "What is a flywheel?", answered: Any = "A wheel that stores energy.", good: float | None = 0.9, **other: Any) -> Row:
    """A call: a question (or messages), an answer (or messages) and the outcome that was resolved for it."""
    return {"id": id, "asked": asked, "answered": answered, "good": good} | other


def recipe(kind: str = "sft", **other: Any) -> Recipe:
    """A recipe that takes consent for granted."""
    return Recipe.model_validate({"recipe": "drawn", "sentence": "Drawn.", "kind": kind, "rights": {"consent": "assumed"}} | other)


def drawn_tables(calls: list[Row], feedback: list[Row] = (), held: list[Row] = ()) -> dict[str, list[Row]]:
    """Rows of the tables that a dataset reads."""
    tables: dict[str, list[Row]] = {"core.inference": [], "core.inference_content": [], "marts.call_outcome": [], "core.feedback": [], "datasets.eval": list(held)}
    for n, c in enumerate(calls):
        started = at("09:00") + timedelta(minutes=n)
        messages = c["asked"] if isinstance(c["asked"], list) else [{"role": "user", "content": c["asked"]}]
        answer = c["answered"] if isinstance(c["answered"], list) else [{"role": "assistant", "content": c["answered"]}]
        key = {"inference_id": c["id"], "started_at": started}
        fields = {k: v for k, v in c.items() if k not in ("id", "asked", "answered", "good", "confidence", "conflicting", "tools", "system")}
        tables["core.inference"].append(key | {"source": "app", "status": "ok", "request_model": "m", "landing_line": 1, "landing_file": "f"} | fields)
        tables["core.inference_content"].append(key | {"input_messages": json.dumps(messages), "output_messages": json.dumps(answer), "tool_definitions": c.get("tools"),
                                                       "system_instructions": c.get("system"), "landing_file": "f"})  # fmt: skip
        tables["marts.call_outcome"].append(key | {"source": "app", "outcome_share": c["good"], "confidence_share": c.get("confidence", 0.5), "is_matured": True, "signal_count": 1,
                                                   "outcome_status": "resolved" if c["good"] is not None else "unknown", "is_conflicting": c.get("conflicting", False)})  # fmt: skip
    for n, f in enumerate(feedback):
        tables["core.feedback"].append({"feedback_id": f"f{n}", "target_kind": "call", "kind": "correction", "given_at": at("12:00"), "name": "correction"} | f)
    return tables


@contextmanager
def staged(recipe: Recipe, calls: list[Row], feedback: list[Row] = (), held: list[Row] = (), **reference: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, stages.Made]]:
    """The connection after all stages, with the examples that stayed in `example`, and the funnel."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in reference.items():
            (Path(folder) / f"{name}.csv").write_text(text.strip() + "\n")
        with connect(Settings(home=Path(folder) / "home", reference=folder if reference else None, threads=2), MART_MACROS, references=True) as con:
            for name, rows in drawn_tables(calls, feedback, held).items():
                fill(con, contract(name), rows)
            yield con, stages.run(con, recipe)


def dropped(made: stages.Made) -> dict[str, int]:
    """All reasons of the funnel with their counts; fails where the funnel does not add up."""
    for unit in ("calls", "examples"):
        steps = [s for s in made.funnel if s["unit"] == unit]
        assert all(s["before_count"] - s["dropped_count"] == s["kept_count"] for s in steps)
        assert all(a["kept_count"] == b["before_count"] for a, b in pairwise(steps))
    return {reason: n for s in made.funnel for reason, n in json.loads(s["reasons"]).items()}


def stored(home: Path, calls: list[Row], feedback: list[Row] = ()) -> Settings:
    """Settings of a real warehouse that holds the drawn rows."""
    settings = Settings(home=home, memory_limit="400MB", threads=2)
    lake = Lake(settings)
    with connect(settings) as con:
        for name, rows in drawn_tables(calls, feedback).items():
            if rows:
                fill(con, contract(name), rows)
                path = write(con, settings.scratch / f"{name}.parquet", f"select * from {name}")
                lake.append(name, [(path, DAY)])
    return settings
