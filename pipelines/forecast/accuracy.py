"""The record of forecasts as a page: what to expect of them at which lead, beside the naive ones, also where they lose."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from pipelines.drawing import saved

LEVELS = {"part": "spend of a tenant, workload and model", "total": "spend in all", "price_change": "change of a list price", "capability_price": "price of a capability"}
SHOWN = {
    "method": "method", "origin_count": "origins", "forecast_count": "forecasts", "mase": "MASE", "rmsse": "RMSSE", "bias_share": "bias", "exact_hit_share": "exact",
    "scrps": "sCRPS", "mean_absolute_log_error": "log error", "brier": "Brier", "log_loss": "log-loss", "coverage_80_share": "in 80 %", "coverage_90_share": "in 90 %", "coverage_95_share": "in 95 %",
    "width_80_share": "width 80", "width_90_share": "width 90", "width_95_share": "width 95", "dm_statistic": "DM", "dm_p_share": "DM p",
}
SHARES = {"bias_share", "exact_hit_share", "coverage_80_share", "coverage_90_share", "coverage_95_share"}
SHIPPED, NAIVE = "#1f5fa8", "#b5651d"


def steps(row: pd.Series) -> str:
    """How far ahead a row looks, in words."""
    unit = "month" if row["level"] in ("price_change", "capability_price") else "day"
    first, last = int(row["first_step"]), int(row["last_step"])
    if unit == "month":
        return f"within {last} month{'s' if last > 1 else ''}" if row["level"] == "price_change" else f"{last} month{'s' if last > 1 else ''} ahead"
    return f"{first} day ahead" if first == last == 1 else f"{first} to {last} days ahead"


def sentences(rows: pd.DataFrame) -> list[str]:
    """What the latest record says, in words; where the naive is as good, that."""
    said = []
    for level, part in rows.groupby("level", sort=False):
        ours, naive = part[part["method"] == "shipped"], part[part["method"].isin(["best_naive", "constant"])]
        both = ours.merge(naive, on=["first_step", "last_step"], suffixes=("", "_naive"))
        if both.empty:
            continue
        if level in ("part", "total"):
            row = both.iloc[(both["last_step"] - both["first_step"]).argmax()]
            gain = 1 - row["scrps"] / row["scrps_naive"] if row["scrps_naive"] else 0.0
            against = f"{abs(gain):.1%} {'better' if gain > 0 else 'worse'} than the better naive by sCRPS" if abs(gain) >= 0.0005 else "as good as the better naive, no better"
            said.append(f"{LEVELS[level].capitalize()}, {steps(row)}: {against}; 90 % intervals held {row['coverage_90_share']:.1%} of days.")
        elif level == "price_change":
            gain = 1 - both["log_loss"] / both["log_loss_naive"]
            said.append(f"{LEVELS[level].capitalize()}: log-loss {gain.min():+.1%} to {gain.max():+.1%} better than a constant hazard, by horizon; as a point, the last or announced price, which was exact {both['exact_hit_share'].min():.1%} to {both['exact_hit_share'].max():.1%} of the time.")
        else:
            said.append(f"{LEVELS[level].capitalize()}: 90 % intervals held {both['coverage_90_share'].min():.1%} to {both['coverage_90_share'].max():.1%}, by horizon.")
    return said


def draw(rows: pd.DataFrame):
    """A figure of the latest record: error and coverage by lead for spend, log-loss by horizon for list prices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    (error, total), (coverage, price) = figure.subplots(2, 2)
    for axes, level in ((error, "part"), (total, "total")):
        part = _bands(rows[rows["level"] == level])
        for name, colour, word in (("shipped", SHIPPED, "shipped"), ("best_naive", NAIVE, "better naive")):
            one = part[part["method"] == name]
            axes.bar([n + (0.2 if name == "best_naive" else -0.2) for n in range(len(one))], one["scrps"].astype(float), 0.38, color=colour, label=word)
        _ticks(axes, part[part["method"] == "shipped"])
        axes.set(title=f"{LEVELS[level].capitalize()}: CRPS over the mean", xlabel="days ahead")
    part = _bands(rows[(rows["level"] == "part") & (rows["method"] == "shipped")])
    for share, colour in ((80, "#7fa8d6"), (90, SHIPPED), (95, "#0b2e57")):
        coverage.plot(range(len(part)), 100 * part[f"coverage_{share}_share"].astype(float), marker="o", color=colour, label=f"{share} % interval")
        coverage.axhline(share, color=colour, linestyle=":", linewidth=1)
    _ticks(coverage, part)
    coverage.set(title="Spend of parts: share of days inside (dotted: meant)", xlabel="days ahead", ylabel="%", ylim=(60, 101))
    listed = rows[rows["level"] == "price_change"]
    for n, (name, colour, word) in enumerate((("shipped", SHIPPED, "shipped"), ("constant", NAIVE, "constant hazard"), ("rate", "#999999", "one rate a list"))):
        one = listed[listed["method"] == name].sort_values("last_step")
        price.bar([k + 0.27 * (n - 1) for k in range(len(one))], one["log_loss"].astype(float), 0.25, color=colour, label=word)
        price.set_xticks(range(len(one)), [f"{int(v)}" for v in one["last_step"]])
    price.set(title="Change of a list price: log-loss", xlabel="within months")
    for axes in (error, total, coverage, price):
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.has_data() and axes.get_legend_handles_labels()[0] and (len(axes.patches) or len(axes.lines)):
            axes.legend(fontsize="small", frameon=False)
        else:
            axes.text(0.5, 0.5, "no record yet", ha="center", transform=axes.transAxes, color="#666666")
    return figure


def _bands(part: pd.DataFrame) -> pd.DataFrame:
    """Bands of lead time, without the one over all where there are several."""
    whole = (part["first_step"] == 1) & (part["last_step"] == part["last_step"].max())
    return part[~whole | (part["last_step"] == 1) | whole.all()].sort_values("first_step")


def _ticks(axes, part: pd.DataFrame) -> None:
    axes.set_xticks(range(len(part)), [f"{int(a)}" if a == b else f"{int(a)} to {int(b)}" for a, b in zip(part["first_step"], part["last_step"], strict=True)])


def write(record: pd.DataFrame, path: Path) -> tuple[Path, Path]:
    """Writes `path` as .html (one file, nothing loaded from elsewhere) and .png of the rows of forecasts.backtest; returns (page, picture)."""
    latest = record[record["origin_at"] == record.groupby("level")["origin_at"].transform("max")]
    latest = latest.sort_values(["level", "first_step", "last_step", "method"], key=lambda s: s.map(list(LEVELS).index) if s.name == "level" else s)
    figure = draw(latest)
    page = path.with_suffix(".html")
    picture, svg = saved(figure, path)
    body = [f"<h1>How good are the forecasts?</h1><ul>{''.join(f'<li>{html.escape(s)}</li>' for s in sentences(latest))}</ul>{svg}"]
    for level, part in latest.groupby("level", sort=False):
        body.append(f"<h2>{html.escape(LEVELS[level].capitalize())}</h2><p>Record before {part['origin_at'].iloc[0]:%Y-%m-%d}.</p>")
        shown = [c for c in SHOWN if c in part and part[c].notna().any()]
        body.append("<table><tr><th>lead</th>" + "".join(f"<th>{html.escape(SHOWN[c])}</th>" for c in shown) + "</tr>")
        for _, row in part.iterrows():
            cells = "".join(f"<td>{_cell(c, row[c])}</td>" for c in shown)
            body.append(f"<tr class='{'ours' if row['method'] == 'shipped' else ''}'><td>{steps(row)}</td>{cells}</tr>")
        body.append("</table>")
    past = _history(record)
    if len(past) > 1:
        body.append("<h2>Over time</h2><table><tr><th>origin</th><th>forecast</th><th>sCRPS</th><th>better naive</th><th>in 90 %</th></tr>")
        body += [f"<tr><td>{o:%Y-%m-%d}</td><td>{LEVELS[level]}</td><td>{a:.3f}</td><td>{b:.3f}</td><td>{c:.1%}</td></tr>" for o, level, a, b, c in past.itertuples(index=False)]
        body.append("</table>")
    body.append(
        "<p>MASE and RMSSE are in units of the change from a week before, at least a tenth of the mean. sCRPS: continuous ranked probability score over the mean, the median "
        "of series. Width: of the interval, over the mean. Bias: mean error over the mean; above zero is too high. DM: Diebold-Mariano statistic against the better naive; "
        "below zero is better; p is two-sided. Every forecast was made from what was known at its origin.</p>")
    page.write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>How good are the forecasts?</title><style>body{font:15px/1.5 sans-serif;margin:2em auto;max-width:72em;padding:0 1em}"
        "svg{width:100%;height:auto}table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}td,th{padding:.15em .6em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}"
        f"td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){{text-align:left}}.ours{{font-weight:bold}}</style>{''.join(body)}</html>\n")
    return page, picture


def _cell(column: str, value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return html.escape(value)
    if column.endswith("_count"):
        return f"{int(value):,}"
    return f"{value:.1%}" if column in SHARES else f"{value:.3f}"


def _history(record: pd.DataFrame) -> pd.DataFrame:
    """Shipped beside the better naive over all leads, by origin of the record."""
    spend = record[record["level"].isin(["part", "total"])]
    whole = spend[(spend["first_step"] == 1) & (spend["last_step"] == spend.groupby(["origin_at", "level"])["last_step"].transform("max"))]
    ours, naive = (whole[whole["method"] == name].set_index(["origin_at", "level"]) for name in ("shipped", "best_naive"))
    both = ours[["scrps", "coverage_90_share"]].join(naive["scrps"].rename("naive")).reset_index()
    return both[["origin_at", "level", "scrps", "naive", "coverage_90_share"]].astype({"scrps": float, "naive": float, "coverage_90_share": float})
