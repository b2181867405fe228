"""Run one staging select over lines or files, as the pipeline does, and see its rows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb

STAGING = Path(__file__).parents[2] / "warehouse" / "staging"


def stage(table: str, format: str, lines_or_files: Iterable[dict[str, Any] | str | Path]) -> list[dict[str, Any]]:
    """Rows that `warehouse/staging/<table>/<format>.sql` gives, in the order of the lines.

    A dict is one line, a str one line as it stands, a Path a file of lines; lines share one file.
    """
    given = list(lines_or_files)
    sql = (STAGING / table / f"{format}.sql").read_text()
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as con:
        for name in ("macros", "usage"):
            con.execute((STAGING / f"{name}.sql").read_text())
        con.execute("set timezone = 'UTC'")
        files = [str(item) for item in given if isinstance(item, Path)]
        if lines := [item if isinstance(item, str) else json.dumps(item) for item in given if not isinstance(item, Path)]:
            files.append(str(Path(folder) / "lines.jsonl"))
            Path(files[-1]).write_text("".join(f"{line}\n" for line in lines))
        found = con.execute(sql, {"files": files})
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
