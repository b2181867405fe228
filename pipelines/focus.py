"""Write exports.focus as a FinOps FOCUS file: the standard's own column names, Parquet or CSV, to any fsspec URL."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import fsspec

from pipelines.contracts import contract, literal, quoted
from pipelines.engine import views
from pipelines.errors import NotConfigured, RetryLater
from pipelines.settings import Settings

ISO = "timestampformat '%Y-%m-%dT%H:%M:%SZ'"
"""FOCUS' Date/Time Format: ISO 8601 in UTC."""
FORMATS = {".parquet": "format parquet, compression zstd", ".csv": f"format csv, header, {ISO}", ".csv.gz": f"format csv, header, compression gzip, {ISO}"}


@dataclass(frozen=True)
class FocusReport:
    """What was written, and how many calls have no row in it because their cost is not known."""

    url: str
    rows: int
    unknown_calls: int

    def __str__(self) -> str:
        return f"{self.rows:,} FOCUS rows in {self.url}; {self.unknown_calls:,} calls of unknown cost are not in it (marts.spend_daily, unpriced_count)"


def focus_name(column: str) -> str:
    """FOCUS' name of a column of exports.focus: `billed_cost` is BilledCost, `x_model_name` is x_ModelName."""
    prefix = "x_" if column.startswith("x_") else ""
    return prefix + "".join(word.capitalize() for word in column.removeprefix("x_").split("_"))


def export_focus(settings: Settings, url: str, from_day: date | None = None, until_day: date | None = None) -> FocusReport:
    """Write the charges of the days from `from_day` to before `until_day` (default: all) to `url`, as its ending says.

    The file appears whole or not at all where the store can rename; an older one of that name is replaced. Raises `NotConfigured` for an
    unknown ending or a table not built yet, `RetryLater` when the place cannot be written.
    """
    ending = next((e for e in sorted(FORMATS, key=len, reverse=True) if url.endswith(e)), None)
    if ending is None:
        raise NotConfigured(f"{url} should end in {', '.join(FORMATS)}: the ending says how it is written")
    zone = " at time zone 'UTC'"
    columns = ", ".join(
        f"{quoted(c.name)}{zone if c.type == 'timestamp' else ''} as {quoted(focus_name(c.name))}" for c in contract("exports.focus").columns)
    span = {"from_day": from_day or date.min, "until_day": until_day or date.max}
    where = "charge_period_start >= $from_day and charge_period_start < $until_day"
    with tempfile.TemporaryDirectory() as folder, views(settings) as con:
        local = Path(folder) / f"focus{ending}"
        try:
            rows = con.execute(
                f"copy (select {columns} from exports.focus where {where} order by charge_period_start, provider_name, sku_price_id, x_price_id, tags) "
                f"to {literal(str(local))} ({FORMATS[ending]})", span,
            ).fetchone()[0]
            unknown = con.execute("select coalesce(sum(unpriced_count), 0) from marts.spend_daily where usage_day >= $from_day and usage_day < $until_day", span).fetchone()[0]
        except duckdb.CatalogException as error:
            raise NotConfigured("exports.focus is not built yet; flywheel build fills it") from error
        try:
            fs, path = fsspec.core.url_to_fs(url)
            fs.makedirs(fs._parent(path), exist_ok=True)
            fs.put_file(str(local), f"{path}.part")
            fs.mv(f"{path}.part", path)
        except OSError as error:
            raise RetryLater(f"{url} cannot be written: {type(error).__name__}: {error}") from error
    return FocusReport(url, rows, unknown)
