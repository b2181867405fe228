"""The data dictionary: every table and column of the warehouse in words, from the contracts alone."""

from __future__ import annotations

from pipelines.contracts import Column, Contract, contract, tables

SCHEMAS = {
    "core": "What was taken in, cleaned and checked, as it was said.",
    "marts": "What is worked out from it, rebuilt where something changed.",
    "datasets": "What models learn from.",
    "forecasts": "What is expected, with intervals.",
    "exports": "What leaves the warehouse.",
}


def dictionary() -> str:
    """All contracts as one Markdown page: tables by schema, with grain, sources, columns, units and promises."""
    names = tables()
    page = ["# Data dictionary", "", "Made from the contracts in [schemas/](../schemas) by `flywheel dictionary`; change those, not this page.",
            "Null is unknown, zero is zero. Times are UTC.", ""]
    for schema in dict.fromkeys(name.split(".")[0] for name in names):
        page += [f"## {schema}", "", SCHEMAS[schema], "", "| table | what it is |", "|---|---|"]
        page += [f"| {_link(n)} | {_cell(contract(n).sentence)} |" for n in names if n.startswith(f"{schema}.")]
        page.append("")
        for name in names:
            if name.startswith(f"{schema}."):
                page += _table(contract(name))
    return "\n".join(page).rstrip() + "\n"


def _table(promised: Contract) -> list[str]:
    told = [f"### {promised.table}", "", promised.sentence, "", f"One row for each {', '.join(f'`{n}`' for n in promised.grain)}."]
    if promised.partition:
        told.append(f"Partitioned by {promised.partition.period} of `{promised.partition.column}`." if promised.partition.transform == "day"
                    else f"Partitioned by `{promised.partition.column}`.")
    if promised.reads:
        told.append(f"Made from {', '.join(_link(n) for n in promised.reads)}.")
    told += ["", "| column | type | unit | meaning |", "|---|---|---|---|"]
    told += [f"| `{c.name}` | {c.type} | {c.unit or ''} | {_cell(_meaning(c))} |" for c in promised.columns]
    if promised.promises:
        told += ["", "| promise | if broken | because |", "|---|---|---|"]
        told += [f"| `{p.name}` | {'nothing is published' if p.severity == 'stop' else 'a warning'} | {_cell(p.because)} |" for p in promised.promises]
    return [*told, ""]


def _link(table: str) -> str:
    return f"[{table}](#{table.replace('.', '')})"


def _meaning(column: Column) -> str:
    notes = [column.means]
    if column.one_of:
        notes.append(f"One of {', '.join(column.one_of)}")
    if column.required:
        notes.append("Never null")
    if column.personal != "none":
        notes.append(f"Personal data: {column.personal}")
    return ". ".join(notes)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
