"""Published versions that must not be used any more: their rows go, their word stays, and their exports can be found."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.contracts import contract
from pipelines.engine import connect
from pipelines.finetune.versions import VERSION, _rows, version_facts
from pipelines.follow import announcement, follow, replacement, settle
from pipelines.lake import Lake
from pipelines.land import redacted
from pipelines.settings import Settings

EXPORT = "datasets.export"


def withdraw(settings: Settings, dataset_version: str, at: datetime, because: str, replaced_by: str | None) -> None:
    """Take the rows of a version away and say since when, why and what replaces it. Withdrawing twice keeps the first word."""
    lake = Lake(settings)
    scratch = settings.scratch / f"withdraw-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    try:
        with connect(settings) as con:
            facts = version_facts(lake, con, dataset_version)
        with connect(settings) as con:
            if facts["withdrawn_at"] is None:
                facts |= {"withdrawn_at": at, "withdrawn_because": because, "replaced_by": replaced_by}
            row = _rows(con, contract(VERSION), [facts], scratch)
        batch, drop = uuid.uuid4().hex, Path(shutil.copy(row, scratch / "drop.parquet"))
        steps = [replacement(lake, VERSION, [(row, None)], drop, {"dataset_version": "dataset_version"})]
        settle(lake, facts["dataset_table"], lambda seen: lake.commit(seen, [], seen.of([dataset_version]), properties=announcement(batch, steps)))
        follow(lake, facts["dataset_table"], batch, steps)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remember_export(settings: Settings, dataset_version: str, format: str, url: str, files: list[dict[str, Any]]) -> None:
    """Write down where an export lies (datasets.export): whoever withdraws the version must be able to recall it."""
    lake = Lake(settings)
    scratch = settings.scratch / f"exported-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    try:
        name = hashlib.sha256(json.dumps([dataset_version, format, redacted(url)]).encode()).hexdigest()[:16]
        row = {"export_id": name, "dataset_version": dataset_version, "format": format, "url": redacted(url), "files": json.dumps(files),
               "exported_at": datetime.now(UTC).replace(tzinfo=None)}  # fmt: skip
        with connect(settings) as con:
            path = _rows(con, contract(EXPORT), [row], scratch)
        batch, drop = uuid.uuid4().hex, Path(shutil.copy(path, scratch / "drop.parquet"))
        steps = [replacement(lake, EXPORT, [(path, None)], drop, {"export_id": "export_id"})]
        settle(lake, EXPORT, lambda seen: lake.commit(seen, [], properties=announcement(batch, steps)))
        follow(lake, EXPORT, batch, steps)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
