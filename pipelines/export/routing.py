"""Routing datasets as files: RouterBench, LLMRouter, RouteLLM, Not Diamond, Parquet and JSONL.

| format        | from                  | a row is                                                                                        |
|---------------|-----------------------|-------------------------------------------------------------------------------------------------|
| `parquet`     | datasets.routing_log  | a call: the bandit log                                                                          |
| `jsonl`       | datasets.routing_log  | the same                                                                                        |
| `llmrouter`   | datasets.routing_log  | a call in LLMRouter's long format (task_name, query, model_name, response, performance, …)     |
| `routerbench` | datasets.routing_wide | a prompt: sample_id, prompt, eval_name, and <model>, <model>|model_response, <model>|total_cost |
| `routellm`    | datasets.routing_wide | a pair of models on a prompt whose outcomes differ: idx, prompt, model_a, model_b, winner       |
| `notdiamond`  | datasets.routing_wide | a prompt: prompt, <provider/model>/response, <provider/model>/score                             |

One file a split (train, validation, test), and card.md and manifest.json beside them. What was not observed is empty. The same
snapshots give the same bytes. Files are written under another name and renamed at the end, the manifest last: a folder without
a manifest is not whole.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.build import build_tables
from pipelines.contracts import contract, literal, quoted
from pipelines.engine import MART_MACROS, connect
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.export.folder import listed, publish
from pipelines.lake import Lake, storage
from pipelines.settings import Settings

SPLITS = ("train", "validation", "test")
TABLES = ("datasets.routing_log", "datasets.routing_split", "datasets.routing_wide", "core.inference_content")
NO_ORACLE = "no_model_correct"
"""RouterBench's word where no model is right."""
RUNS = "^[=+@\\t\\r\\n＝＋＠－-]"
"""How a cell begins that a spreadsheet takes for a formula (OWASP, CSV injection)."""
MARGIN = 0.2
"""Outcomes of a pair that differ by less have no winner worth learning from."""

# The rows of the log that can be learnt from, step by step: each step keeps what the one before kept.
LOG_STEPS = (
    ("calls with a choice among two or more models", "true"),
    ("matured", "is_matured"),
    ("with a known outcome", "reward is not null"),
    ("in one split", "split in ('train', 'validation', 'test')"),
)
WIDE_STEPS = (
    ("prompt and model pairs of prompts that two or more models answered", "true"),
    ("observed", "is_observed"),
    ("in one split", "split in ('train', 'validation', 'test')"),
)


@dataclass(frozen=True)
class Format:
    """How an export is made: its table, file ending, and the select of its rows, ordered."""

    source: str
    ending: str
    select: str


CSV_NOTE = """
So that no spreadsheet runs a cell, one that begins with = + - @, a tab or a line break has a ' before it, a column's name too: take it off
(`re.sub("^'(?=[=+@\\t\\r\\n＝＋＠－-])", "", cell)`) for the text as it was, or use the format parquet or jsonl, which change nothing."""
LOG = "(select log.*, parts.split, parts.group_key from datasets.routing_log as log join datasets.routing_split as parts using (inference_id))"
KEPT_LOG = f"(select * from {LOG} where {' and '.join(test for _, test in LOG_STEPS)})"
KEPT_WIDE = f"(select * from datasets.routing_wide where {' and '.join(test for _, test in WIDE_STEPS)})"
FORMATS = {
    "parquet": Format("datasets.routing_log", "parquet", f"select * from {KEPT_LOG} order by started_at, inference_id"),
    "jsonl": Format("datasets.routing_log", "jsonl", f"select * from {KEPT_LOG} order by started_at, inference_id"),
    "llmrouter": Format(
        "datasets.routing_log", "jsonl",
        f"""select l.workload as task_name, l.prompt as query, null::varchar as ground_truth, 'resolved_outcome' as metric, null::varchar as choices,
            l.inference_id as task_id, l.action as model_name, answer_text(c.output_messages) as response,
            l.input_tokens + l.output_tokens as token_num, l.input_tokens, l.output_tokens, l.latency_ms / 1000 as response_time, round(l.reward, 6) as performance,
            dense_rank() over (order by l.prompt_key) - 1 as embedding_id, null::varchar as user_id, cast(l.list_cost_usd as double) as cost,
            round(l.propensity_share, 6) as propensity, l.propensity_kind, l.split
        from {KEPT_LOG} as l left join core.inference_content as c on c.inference_id = l.inference_id and c.started_at = l.started_at
        where l.prompt is not null order by l.started_at, l.inference_id""",
    ),
    "routellm": Format(
        "datasets.routing_wide", "jsonl",
        f"""select concat(a.prompt_key, ':', dense_rank() over (partition by a.prompt_key order by a.action, b.action)) as idx, a.prompt,
            a.action as model_a, b.action as model_b, case when a.reward > b.reward then 'model_a' else 'model_b' end as winner,
            round(abs(a.reward - b.reward), 6) as margin, a.split
        from {KEPT_WIDE} as a join {KEPT_WIDE} as b on a.prompt_key = b.prompt_key and a.action < b.action
        where abs(a.reward - b.reward) >= {MARGIN} order by a.prompt_key, a.action, b.action""",
    ),
    "routerbench": Format("datasets.routing_wide", "csv", ""),
    "notdiamond": Format("datasets.routing_wide", "csv", ""),
}  # fmt: skip


@dataclass
class Export:
    """What an export wrote."""

    format: str
    to: str
    rows: dict[str, int] = field(default_factory=dict)
    funnel: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.format}: {sum(self.rows.values()):,} rows ({', '.join(f'{split} {n:,}' for split, n in self.rows.items())}) in {self.to}"


@storage("export")
def export_routing(settings: Settings, format: str, to: str) -> Export:
    """Write a routing dataset to a folder at any fsspec URL; a file of the same name there is replaced.

    Raises `NotConfigured` for an unknown format or a warehouse without the datasets, `StopTheLine` when nothing can be learnt from.
    """
    if format not in FORMATS:
        raise NotConfigured(f"no routing format {format!r}; there are {', '.join(FORMATS)}")
    chosen, lake = FORMATS[format], Lake(settings)
    if not lake.exists("datasets.routing_log"):
        raise NotConfigured("there is no datasets.routing_log yet; flywheel build makes it")
    build_tables(settings, ["datasets.routing_split", *([chosen.source] if contract(chosen.source).on_demand else [])])
    scratch = settings.scratch / f"export-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    done = Export(format, to)
    try:
        with connect(settings, MART_MACROS) as con:
            con.execute("set threads = 1")  # the same bytes every time
            snapshots = {name: seen.id for name in TABLES if (seen := lake.attach(con, name))}
            done.funnel = _funnel(con, LOG if chosen.source == "datasets.routing_log" else "datasets.routing_wide",
                                  LOG_STEPS if chosen.source == "datasets.routing_log" else WIDE_STEPS)
            wide = [] if chosen.select else _wide(con, format)
            con.execute(f"create temp table exported as {chosen.select or _by_place(wide)}")
            files = [_write(con, chosen, split, scratch, [name for name, _ in wide]) for split in SPLITS]
            done.rows = {split: rows for split, (_, rows) in zip(SPLITS, files, strict=True)}
            done.funnel += _written(con, format, done.funnel[-1]["rows"], sum(done.rows.values()))
            if not sum(done.rows.values()):
                steps = "; ".join(f"{s['kept']}: {s['rows']}" for s in done.funnel)
                (matured,) = con.execute("select count(*) from datasets.routing_log where is_matured").fetchone()
                advice = f"{chosen.source} says what each step means" if matured else "no outcome is final yet; flywheel build works outcomes out, and young calls take some days"
                raise StopTheLine(f"nothing to export as {format}: {steps}; {advice}")
        _describe(scratch, done, chosen, snapshots, files)
        publish(scratch, to)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return done


def _funnel(con: Any, source: str, steps: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    """Rows before and after each step: what a step drops and what it keeps make what the step before kept."""
    counts = con.execute(f"select {', '.join(f'count(*) filter (where {chr(32).join(_all(steps, n))})' for n in range(len(steps)))} from {source}").fetchone()
    return [{"kept": name, "unit": "table row", "rows": rows, "dropped": before - rows} for (name, _), rows, before in zip(steps, counts, (counts[0], *counts), strict=False)]


def _written(con: Any, format: str, kept: int, written: int) -> list[dict[str, Any]]:
    """The steps from rows of the table to rows of a file; a step that begins another unit drops none."""
    if format in ("routerbench", "notdiamond"):
        return [{"kept": "put together, a row a prompt", "unit": "prompt", "rows": written, "dropped": 0}]
    if format == "routellm":
        (pairs,) = con.execute(f"select cast(coalesce(sum(n * (n - 1) // 2), 0) as bigint) from (select count(*) as n from {KEPT_WIDE} group by prompt_key)").fetchone()
        return [{"kept": "put together, a row a pair of models on a prompt", "unit": "pair", "rows": pairs, "dropped": 0},
                {"kept": f"whose outcomes differ by {MARGIN} or more", "unit": "pair", "rows": written, "dropped": pairs - written}]  # fmt: skip
    return [{"kept": "written", "unit": "table row", "rows": written, "dropped": kept - written}]


def _all(steps: tuple[tuple[str, str], ...], n: int) -> list[str]:
    return [" and ".join(f"({test})" for _, test in steps[: n + 1])]


def _wide(con: Any, format: str) -> list[tuple[str, str]]:
    """Columns by name, with those of every model that was observed; empty where a model did not answer. Raises `NotConfigured` where two have one name."""
    models = con.execute(f"select action, min(provider_name) from {KEPT_WIDE} group by action order by action").fetchall()

    def cell(value: str, model: str, name: str) -> tuple[str, str]:
        return name, f"max(case when action = {literal(model)} then {value} end)"

    if format == "routerbench":
        columns = [("sample_id", "prompt_key"), ("prompt", "any_value(prompt)"), ("eval_name", "coalesce(any_value(workload), 'unknown')")]
        columns += [cell("round(reward, 6)", m, m) for m, _ in models]
        columns += [cell("response", m, f"{m}|model_response") for m, _ in models]
        columns += [cell("cast(list_cost_usd as double)", m, f"{m}|total_cost") for m, _ in models]
        # The best of what was observed, the cheaper of equals.
        best = f"case when max(reward) >= 0.5 then arg_min(action, {{'r': -round(reward, 6), 'c': coalesce(list_cost_usd, 1e6), 'a': action}}) else {literal(NO_ORACLE)} end"
        columns.append(("oracle_model_to_route_to", best))
    else:
        columns = [("prompt", "any_value(prompt)"), *(
            c for m, provider in models for label in [f"{provider}/{m}" if provider else m]
            for c in (cell("response", m, f"{label}/response"), cell("round(reward, 6)", m, f"{label}/score"))
        )]  # fmt: skip
    twice = sorted(name for name, n in Counter(_safe(name) for name, _ in columns).items() if n > 1)
    if twice:
        raise NotConfigured(f"{format} has a column a model, and two would be named {', '.join(map(repr, twice))}; use the format parquet, jsonl, llmrouter or routellm")
    return columns


def _by_place(columns: list[tuple[str, str]]) -> str:
    """A select of the columns as c0, c1 and so on: to DuckDB names that differ in case only are one."""
    body = ", ".join(f"{value} as c{n}" for n, (_, value) in enumerate(columns))
    return f"select {body}, any_value(split) as split from {KEPT_WIDE} group by prompt_key order by prompt_key"


def _write(con: Any, chosen: Format, split: str, folder: Path, header: list[str]) -> tuple[str, int]:
    """One split as a file; returns its name and rows. A CSV's header is its first row."""
    kinds = dict(con.execute("select column_name, data_type from duckdb_columns() where table_name = 'exported' order by column_index").fetchall())
    columns = [quoted(c) for c in kinds if c != "split" or chosen.source == "datasets.routing_log"]
    first = ""
    if chosen.ending == "csv":
        first = f"select {', '.join(literal(_safe(name)) for name in header)} union all "
        # A cell that a spreadsheet would run is made text (OWASP, CSV injection): a quote goes before what it would begin with.
        columns = [f"case when regexp_matches({c}, {literal(RUNS)}) then '''' || {c} else {c} end" if kind == "VARCHAR" else f"{c}::varchar" for c, kind in kinds.items() if c != "split"]
    name = f"{split}.{chosen.ending}"
    how = {"csv": "format csv, header false", "jsonl": "format json", "parquet": "format parquet, compression zstd"}[chosen.ending]
    con.execute(f"copy ({first}select {', '.join(columns)} from exported where split = {literal(split)}) to {literal(str(folder / name))} ({how})")
    (rows,) = con.execute("select count(*) from exported where split = $split", {"split": split}).fetchone()
    return name, rows


def _safe(name: str) -> str:
    return f"'{name}" if re.match(RUNS, name) else name


def _describe(folder: Path, done: Export, chosen: Format, snapshots: dict[str, int], files: list[tuple[str, int]]) -> None:
    """Write the card, then the manifest, which also holds the card's hash."""
    promised = contract(chosen.source)
    funnel = "\n".join(f"| {s['kept']} | {s['rows']:,} | {s['dropped']:,} |" for s in done.funnel)
    fields = "\n".join(f"| `{c.name}` | {c.type} | {c.means} |" for c in promised.columns)
    (folder / "card.md").write_text(f"""---
pretty_name: Routing dataset ({done.format})
task_categories: [tabular-classification]
configs:
- config_name: default
  data_files:
{chr(10).join(f"  - {{split: {name.split('.')[0]}, path: {name}}}" for name, rows in files if rows)}
---

# Routing dataset, format {done.format}

{promised.sentence} Made from {", ".join(f"`{name}` (snapshot {snapshot})" for name, snapshot in snapshots.items())}.

Outcomes are not labels: each is a probability resolved from feedback, evaluators and behaviour (`marts.call_outcome`), and one
whose status is *silent* tells models apart little. Logged calls show the chosen model only; read them with their propensities.
Prompts answered by several models are often those that were asked again, so they are harder than the rest (`is_asked_again`).
The files hold prompts and answers as they were logged: treat them as personal data.{CSV_NOTE if chosen.ending == "csv" else ""}

Splits are by time (70, 10, 20 %), and no session, trace or nearly equal prompt of three words or more is in two of them.

| rows kept | rows | dropped |
|---|---|---|
{funnel}

| field | type | meaning |
|---|---|---|
{fields}
""")
    manifest = {
        "format": done.format, "table": chosen.source, "snapshots": {name: str(snapshot) for name, snapshot in snapshots.items()},
        "funnel": done.funnel, "rows": done.rows,
        "files": listed(folder, dict(files) | {"card.md": None}),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
