"""Routing datasets as files: what is written is what the tables hold, in the words of each format."""

from __future__ import annotations

import csv
import hashlib
import json
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from pipelines.build import build_table
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.export import routing
from pipelines.export.routing import FORMATS, SPLITS, export_routing
from tests.support.lakehouse import warehouse


def read(folder: Path) -> list[dict]:
    """All rows of an export, with the split of each."""
    rows = []
    for split in SPLITS:
        (path,) = folder.glob(f"{split}.*")
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                rows += [row | {"split": split} for row in csv.DictReader(file)]
        elif path.suffix == ".jsonl":
            rows += [json.loads(line) | {"split": split} for line in path.read_text().splitlines()]
        else:
            found = duckdb.sql(f"from read_parquet('{path}')")
            rows += [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    return rows


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_whole_counted_and_the_same_again(world, tmp_path, format):
    done = export_routing(world.settings, format, str(tmp_path / "a"))
    export_routing(world.settings, format, f"file://{tmp_path / 'b'}")
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {f"{split}.{FORMATS[format].ending}" for split in SPLITS} | {"card.md", "manifest.json"}
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert {f["name"]: f["sha256"] for f in manifest["files"]} == {
        n: hashlib.sha256((tmp_path / "a" / n).read_bytes()).hexdigest() for n in names - {"manifest.json"}
    }
    assert manifest["snapshots"]["datasets.routing_log"].isdigit()
    rows = read(tmp_path / "a")
    assert len(rows) == sum(done.rows.values()) == sum(manifest["rows"].values()) > 0
    funnel = manifest["funnel"]
    assert all(step["rows"] + step["dropped"] == before["rows"] for before, step in pairwise(funnel) if step["unit"] == before["unit"])
    assert funnel[-1]["rows"] == len(rows)
    assert funnel[0]["rows"] == world.ask(f"select count(*) from {FORMATS[format].source}")[0][0]


def test_the_log_comes_out_as_it_is(world, tmp_path):
    export_routing(world.settings, "jsonl", str(tmp_path))
    rows = {r["inference_id"]: (r["action"], r["propensity_share"], r["reward"]) for r in read(tmp_path)}
    held = world.ask(
        "select inference_id, action, propensity_share, reward from datasets.routing_log join datasets.routing_split using (inference_id) "
        "where is_matured and reward is not null and split <> 'straddling'"
    )
    assert rows == {id: tuple(rest) for id, *rest in held}


def test_wide_formats_hold_what_was_observed_and_no_more(world, tmp_path):
    export_routing(world.settings, "routerbench", str(tmp_path / "r"))
    export_routing(world.settings, "notdiamond", str(tmp_path / "n"))
    export_routing(world.settings, "routellm", str(tmp_path / "l"))
    observed = {(k, a): r for k, a, r in world.ask("select prompt_key, action, reward from datasets.routing_wide where is_observed and split <> 'straddling'")}
    rows = read(tmp_path / "r")
    models = {a for _, a in observed}
    found = {(r["sample_id"], m): float(r[m]) for r in rows for m in models if r[m]}
    assert found == pytest.approx(observed, abs=1e-6)
    for row in rows:
        best = max((v for (k, _), v in observed.items() if k == row["sample_id"]))
        chosen = row["oracle_model_to_route_to"]
        assert observed[row["sample_id"], chosen] == pytest.approx(best, abs=1e-6) if best >= 0.5 else chosen == "no_model_correct"
    scores = sorted(float(v) for r in read(tmp_path / "n") for k, v in r.items() if k.endswith("/score") and v)
    assert scores == pytest.approx(sorted(observed.values()), abs=1e-6)
    for pair in read(tmp_path / "l"):
        key = pair["idx"].split(":")[0]
        better, worse = (pair["model_a"], pair["model_b"]) if pair["winner"] == "model_a" else (pair["model_b"], pair["model_a"])
        assert observed[key, better] > observed[key, worse]


def test_llmrouters_fields_are_there(world, tmp_path):
    export_routing(world.settings, "llmrouter", str(tmp_path))
    rows = read(tmp_path)
    wanted = {"task_name", "query", "ground_truth", "metric", "choices", "task_id", "model_name", "response", "token_num", "input_tokens", "output_tokens", "response_time", "performance", "embedding_id", "user_id"}
    assert all(wanted <= set(row) for row in rows)
    assert all(0 <= row["performance"] <= 1 for row in rows)
    ids = {}
    assert all(ids.setdefault(row["embedding_id"], row["query"]) == row["query"] for row in rows)


def test_cells_that_a_spreadsheet_would_run_are_text(world, tmp_path, monkeypatch):
    plain = routing._wide
    monkeypatch.setattr(routing, "_wide", lambda con, format: [(name, "'=cmd|'' /C calc''!A0'" if name == "prompt" else value) for name, value in plain(con, format)])
    export_routing(world.settings, "notdiamond", str(tmp_path))
    prompts = {row["prompt"] for row in read(tmp_path)}
    assert prompts == {"'=cmd|' /C calc'!A0"}


@pytest.mark.parametrize("format", ["routerbench", "notdiamond"])
def test_models_whose_names_differ_in_case_only_have_columns_of_their_own_names(tmp_path, format):
    models = ["Qwen/Qwen3-32B", "=sum", "prompt", "qwen/qwen3-32b", "QWEN/qwen3-32b"]
    with duckdb.connect() as con:
        con.execute("create schema datasets; create table datasets.routing_wide (prompt_key text, prompt text, workload text, action text, provider_name text, reward double, response text, list_cost_usd decimal(18, 12), is_observed bool, split text)")
        con.executemany("insert into datasets.routing_wide values ('k', 'p', 'w', ?, 'lab', ?, ?, 0.5, true, 'train')", [[m, n / 10, f"says {m}"] for n, m in enumerate(models) if format == "notdiamond" or m != "prompt"])
        wide = routing._wide(con, format)
        con.execute(f"create temp table exported as {routing._by_place(wide)}")
        for split in SPLITS:
            routing._write(con, FORMATS[format], split, tmp_path, [name for name, _ in wide])
        [row] = read(tmp_path)
        named = [f"lab/{m}/{{}}" if format == "notdiamond" else "'=sum{}" if m == "=sum" else f"{m}{{}}" for m in models if format == "notdiamond" or m != "prompt"]
        said, score = ("response", "score") if format == "notdiamond" else ("|model_response", "")
        assert [(row[name.format(said)], row[name.format(score)]) for name in named] == [(f"says {m}", str(n / 10)) for n, m in enumerate(models) if format == "notdiamond" or m != "prompt"]
        con.execute("update datasets.routing_wide set action = 'prompt', provider_name = null where action = '=sum'")
        if format == "routerbench":
            with pytest.raises(NotConfigured, match="two would be named 'prompt'"):
                routing._wide(con, format)


def test_what_is_not_there_is_named(world, tmp_path):
    with pytest.raises(NotConfigured, match="routerbench"):
        export_routing(world.settings, "routebench", str(tmp_path))
    with pytest.raises(NotConfigured, match="flywheel build"):
        export_routing(warehouse(tmp_path / "home"), "parquet", str(tmp_path / "out"))


def test_a_log_built_without_outcomes_names_what_builds_them(tmp_path):
    settings = warehouse(tmp_path / "home")
    build_table(settings, "datasets.routing_log")
    with pytest.raises(StopTheLine, match="no outcome is final yet; flywheel build works outcomes out"):
        export_routing(settings, "parquet", str(tmp_path / "out"))
