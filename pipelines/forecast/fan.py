"""Fan charts: what was, what is expected, and the 80, 90 and 95 % intervals around it."""

from __future__ import annotations

import html
from datetime import timedelta
from pathlib import Path

import pandas as pd

from pipelines.drawing import saved
from pipelines.forecast.spend import QUANTILE_COLUMNS, Forecast


def draw_total(found: Forecast, rows: pd.DataFrame, path: Path) -> tuple[Path, Path]:
    """Writes `path`.png and `path`.html (one file, nothing loaded from elsewhere) of the daily total; returns both paths.

    `rows` are those of `Forecast.rows`, with or without what-ifs.
    """
    from matplotlib.figure import Figure

    total = rows[rows["level"] == "total"].sort_values("usage_day")
    points = rows[rows["level"] == "part"].astype({"forecast_usd": float}).groupby("usage_day")["forecast_usd"].sum().to_numpy()
    title, before = "Daily list cost, USD", found.total_values[0, -120:]
    days = [found.series.end - timedelta(days=len(before) - n) for n in range(len(before))]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(days, before, color="C0", label="seen")
    axes.plot(total["usage_day"], points, color="C1", label="expected")
    for low, high, shade, level in ((0, 6, 0.12, 95), (1, 5, 0.2, 90), (2, 4, 0.3, 80)):
        axes.fill_between(total["usage_day"], total[QUANTILE_COLUMNS[low]], total[QUANTILE_COLUMNS[high]], color="C1", alpha=shade, linewidth=0, label=f"{level} %")
    axes.set(title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    axes.tick_params(axis="x", rotation=30)
    page = path.with_suffix(".html")
    png, svg = saved(figure, path)
    cells = "".join(
        f"<tr><td>{day}</td><td>{point:,.2f}</td><td>{low:,.2f}</td><td>{high:,.2f}</td></tr>"
        for day, point, low, high in zip(total["usage_day"], points, total["forecast_q05_usd"], total["forecast_q95_usd"], strict=True))
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;margin:2em auto;max-width:60em}svg{width:100%;height:auto}td,th{padding:0 1em;text-align:right}</style>"
        f"<h1>{html.escape(title)}</h1>{svg}"
        f"<table><tr><th>day</th><th>expected</th><th>90 % from</th><th>to</th></tr>{cells}</table>\n")
    return png, page
