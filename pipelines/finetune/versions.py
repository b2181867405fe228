"""Versions of fine-tuning datasets: made from pinned snapshots, named by their content, published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from pipelines import gate
from pipelines.contracts import Contract, contract, literal, quoted
from pipelines.engine import connect, write
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.finetune import stages
from pipelines.finetune.recipe import Recipe
from pipelines.follow import announcement, follow, recover, replacement, results, settle
from pipelines.lake import Lake, Snapshot, storage
from pipelines.settings import Settings

log = logging.getLogger(__name__)

VERSION, FUNNEL = "datasets.version", "datasets.funnel"


@dataclass
class Built:
    """A version, as it was found or made."""

    dataset_version: str
    table: str
    is_new: bool
    counts: dict[str, int]
    funnel: list[dict[str, Any]] = field(default_factory=list)
    personal: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = ", ".join(f"{split} {n:,}" for split, n in self.counts.items())
        return f"{self.dataset_version}: {sum(self.counts.values()):,} examples ({counts}) in {self.table}{'' if self.is_new else ', there already'}"


@storage("dataset build")
def build_dataset(settings: Settings, recipe: Recipe) -> Built:
    """Make a version of a recipe's dataset out of what the warehouse holds now.

    The same inputs give the same version, and then nothing is written. Rows, funnel and the version's own row appear
    together; a crash leaves all of them or none, or what the next build completes. Raises `StopTheLine` when no example is
    left, with the funnel in the message, and `PromiseBroken` when a promise of the table does not hold.
    """
    lake, promised = Lake(settings), contract(recipe.table)
    recover(lake, recipe.table)
    scratch = settings.scratch / f"dataset-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    try:
        with connect(settings) as con:
            snapshots = {name: str(seen.id) for name in promised.reads if (seen := lake.attach(con, name)) and seen.id}
            if "core.inference_content" not in snapshots:
                raise NotConfigured("there is no core.inference_content yet; flywheel ingest fills it")
            made = stages.run(con, recipe)
            counts = dict(con.execute("select split, count(*) from example group by split").fetchall())
            counts = {split: counts.get(split, 0) for split in ("train", "validation", "test")}
            if not sum(counts.values()):
                told = "; ".join(f"{s['stage']}: {s['kept_count']} of {s['before_count']} {s['unit']} {s['reasons']}" for s in made.funnel)
                raise StopTheLine(f"recipe {recipe.recipe}: no example is left. {told}. Mend the recipe, or schemas/reference/training_consent.csv and provider_terms.csv (setting `reference`)")
            rows = [c for c in promised.columns if c.name != "dataset_version"]
            typed = ", ".join(f"cast({quoted(c.name)} as {c.type}) as {quoted(c.name)}" for c in rows)
            # Of the hashes of rows in their order, so that no text of the whole is ever put together.
            (content,) = con.execute(f"select coalesce(sha256(string_agg(md5(to_json(r)::varchar), '' order by r.example_id)), '') from (select {typed} from example) as r").fetchall()[0]
            name = f"{recipe.recipe}-{hashlib.sha256((recipe.sha256 + content).encode()).hexdigest()[:16]}"
            built = Built(name, recipe.table, True, counts, made.funnel, made.personal)
            con.execute("set preserve_insertion_order = true")
            path = write(con, scratch / "rows.parquet", f"select {literal(name)} as dataset_version, {typed} from example order by example_id")
            facts = {
                "dataset_version": name, "dataset_table": recipe.table, "recipe": recipe.recipe, "recipe_text": recipe.model_dump_json(),
                "recipe_sha256": recipe.sha256, "code_sha256": _code(), "snapshots": json.dumps(snapshots, sort_keys=True),
                "benchmarks": json.dumps({url: _file_sha256(url) for url in recipe.gates.benchmarks}, sort_keys=True), "content_sha256": content,
                **{f"{split}_count": n for split, n in counts.items()}, "personal_values": json.dumps(made.personal, sort_keys=True),
            }  # fmt: skip
            version = _rows(con, contract(VERSION), [facts], scratch)
            funnel = _rows(con, contract(FUNNEL), [{"dataset_version": name} | s for s in made.funnel], scratch)
        _publish(settings, lake, promised, built, path, version, funnel, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lake.publish_views()
    log.info("%s", built)
    return built


def _publish(settings: Settings, lake: Lake, promised: Contract, built: Built, path: Path, version: Path, funnel: Path, scratch: Path) -> None:
    name = built.dataset_version
    audits = [gate.audit(settings, p, [str(f)], batch=name) for p, f in ((promised, path), (contract(FUNNEL), funnel), (contract(VERSION), version))]

    def attempt(seen: Snapshot) -> None:
        if seen.of([name]):
            built.is_new = False
            return
        batch = uuid.uuid4().hex
        drop = Path(shutil.copy(version, scratch / f"{batch}.parquet"))
        on = {"dataset_version": "dataset_version"}
        steps = [replacement(lake, table, [(Path(shutil.copy(staged, scratch / f"{uuid.uuid4().hex}.parquet")), None)], drop, on)
                 for table, staged in ((FUNNEL, funnel), (VERSION, version))]
        steps += [results(lake, audit, scratch) for audit in audits]
        copied = Path(shutil.copy(path, scratch / f"{uuid.uuid4().hex}.parquet"))
        lake.commit(seen, [lake.upload(copied, promised.table, name)], properties=announcement(batch, steps))
        follow(lake, promised.table, batch, steps)

    settle(lake, promised.table, attempt)


def _rows(con: Any, promised: Contract, rows: list[dict[str, Any]], scratch: Path) -> Path:
    import pyarrow as pa

    con.register("fact_rows", pa.Table.from_pylist(rows))
    path = write(con, scratch / f"{uuid.uuid4().hex}.parquet", f"select {', '.join(promised.typed(list(rows[0])))} from fact_rows")
    con.unregister("fact_rows")
    return path


def _code() -> str:
    """A hash of all code and SQL that makes a dataset."""
    files = sorted([*Path(__file__).parent.glob("*.py"), *stages.FOLDER.glob("*.sql")])
    return hashlib.sha256(b"\n".join(path.read_bytes() for path in files)).hexdigest()


def _file_sha256(url: str) -> str:
    with fsspec.open(url, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_facts(lake: Lake, con: Any, dataset_version: str) -> dict[str, Any]:
    """The row of a version. Raises `NotConfigured` when there is none, and names those there are."""
    lake.attach(con, VERSION)
    found = con.execute(f"select * from {VERSION} where dataset_version = $name", {"name": dataset_version})
    names = [d[0] for d in found.description]
    row = found.fetchone()
    if row is None:
        known = [r[0] for r in con.execute(f"select dataset_version from {VERSION} order by 1").fetchall()]
        raise NotConfigured(f"there is no dataset version {dataset_version}; there are: {', '.join(known) or 'none; flywheel dataset build makes one'}")
    return dict(zip(names, row, strict=True))


def difference(settings: Settings, before: str, after: str) -> dict[str, Any]:
    """What two versions of one table do not share: rows added, removed and changed, and what else differs (recipe, code, snapshots)."""
    lake = Lake(settings)
    with connect(settings) as con:
        old, new = (version_facts(lake, con, v) for v in (before, after))
        if old["dataset_table"] != new["dataset_table"]:
            raise NotConfigured(f"{before} is in {old['dataset_table']}, {after} in {new['dataset_table']}: only versions of one table can be compared")
        table = new["dataset_table"]
        lake.attach(con, table, [before, after])
        body = ", ".join(quoted(c) for c in contract(table).names if c not in ("dataset_version", "split", "group_key"))
        added, removed, changed, moved, same = con.execute(
            f"""with o as (select example_id, split, md5(cast(row({body}) as varchar)) as body from {table} where dataset_version = $before),
            n as (select example_id, split, md5(cast(row({body}) as varchar)) as body from {table} where dataset_version = $after)
            select count(*) filter (where o.example_id is null), count(*) filter (where n.example_id is null), count(*) filter (where o.body <> n.body),
                count(*) filter (where o.body = n.body and o.split <> n.split), count(*) filter (where o.body = n.body and o.split = n.split)
            from o full join n using (example_id)""",
            {"before": before, "after": after},
        ).fetchone()
    causes = [name for name in ("recipe_sha256", "code_sha256", "snapshots", "benchmarks") if old[name] != new[name]]
    return {"added": added, "removed": removed, "changed": changed, "moved to another split": moved, "the same": same, "differs in": ", ".join(causes) or "nothing else"}
