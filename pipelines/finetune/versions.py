"""Versions of fine-tuning datasets: made from pinned snapshots, named by their content, published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import fsspec

from pipelines import finetune, gate
from pipelines.contracts import Contract, contract, literal, quoted
from pipelines.engine import MART_MACROS, connect, write
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.finetune import stages
from pipelines.finetune.recipe import Recipe, load
from pipelines.follow import announcement, follow, recover, replacement, results, settle
from pipelines.lake import Lake, Snapshot, storage
from pipelines.settings import ROOT, Settings

log = logging.getLogger(__name__)

VERSION, FUNNEL = "datasets.version", "datasets.funnel"


class NothingLeft(StopTheLine):
    """No example is left: the recipe asks for more than there is."""


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
    folder = settings.scratch / f"dataset-{uuid.uuid4().hex}"
    try:
        with _opened(settings, folder) as con:
            for step in finetune.STEPS:
                _step(settings, con, recipe, step)
            return _published(settings, con, recipe, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@storage("dataset build")
def task_step(settings: Settings, recipe: str, day: date, step: str) -> list[dict[str, Any]]:
    """One step of the build of a day, for those who run each as a task; returns its rows of the funnel.

    A step is done whole or not at all, and done again it changes nothing. The first pins the snapshots that are read.
    """
    asked = load(recipe)
    folder = _folder(settings, asked, day)
    if step == finetune.STEPS[0]:
        # What builds of other days left when they failed holds texts, and is of no use any more.
        for left in folder.parent.parent.glob("*"):
            if left != folder.parent:
                shutil.rmtree(left, ignore_errors=True)
    with _opened(settings, folder) as con:
        return _step(settings, con, asked, step)


@storage("dataset build")
def task_publish(settings: Settings, recipe: str, day: date) -> Built:
    """Publish what the steps of a day left, as `build_dataset` does, and remove it."""
    asked = load(recipe)
    folder = _folder(settings, asked, day)
    try:
        with _opened(settings, folder) as con:
            built = _published(settings, con, asked, folder)
    except NothingLeft:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return built


def _folder(settings: Settings, recipe: Recipe, day: date) -> Path:
    # Steps of other code or of another recipe are not gone on from.
    return settings.scratch / "finetune" / str(day) / f"{recipe.recipe}-{recipe.sha256[:16]}-{_code()[:16]}"


@contextmanager
def _opened(settings: Settings, folder: Path) -> Iterator[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with connect(settings, MART_MACROS, references=True) as con:
        stages.open_work(con, folder / "work.duckdb")
        yield con


def _step(settings: Settings, con: Any, recipe: Recipe, step: str) -> list[dict[str, Any]]:
    done = {name: stages.Made(**json.loads(made)) for name, made in con.execute("select step, made from done").fetchall()}
    before = finetune.STEPS[: finetune.STEPS.index(step)]
    if missing := [name for name in before if name not in done]:
        raise StopTheLine(f"recipe {recipe.recipe}: step {step} comes after {missing[0]}, which has not been done; run that first")
    made = done[before[-1]] if before else stages.Made()
    told = len(made.funnel)
    if step in done:
        return done[step].funnel[told:]
    if not before:
        lake = Lake(settings)
        made.snapshots = {name: str(seen.id) for name in contract(recipe.table).reads if (seen := lake.attach(con, name)) and seen.id}
        if "core.inference_content" not in made.snapshots:
            raise NotConfigured("there is no core.inference_content yet; flywheel ingest fills it")
    con.execute("begin")
    for stage in stages.STEPS[step]:
        stage(con, recipe, made)
    con.execute("insert into work.done values ($step, $made)", {"step": step, "made": json.dumps(asdict(made))})
    con.execute("commit")
    return made.funnel[told:]


def _published(settings: Settings, con: Any, recipe: Recipe, folder: Path) -> Built:
    lake, promised = Lake(settings), contract(recipe.table)
    recover(lake, recipe.table)
    found = con.execute("select made from done where step = $last", {"last": finetune.STEPS[-1]}).fetchone()
    if found is None:
        raise StopTheLine(f"recipe {recipe.recipe}: nothing to publish in {folder}, as not all steps have been done; run them first")
    made = stages.Made(**json.loads(found[0]))
    counts = dict(con.execute("select split, count(*) from living join parted using (example_no) group by split").fetchall())
    counts = {split: counts.get(split, 0) for split in ("train", "validation", "test")}
    if not sum(counts.values()):
        told = "; ".join(f"{s['stage']}: {s['kept_count']} of {s['before_count']} {s['unit']} {s['reasons']}" for s in made.funnel if s["before_count"])
        raise NothingLeft(f"recipe {recipe.recipe}: no example is left. {told}. Mend the recipe, or schemas/reference/training_consent.csv and provider_terms.csv (setting `reference`)")
    rows = [c for c in promised.columns if c.name != "dataset_version"]
    typed = ", ".join(f"cast({quoted(c.name)} as {c.type}) as {quoted(c.name)}" for c in rows)
    # Of the hashes of rows in their order, so that no text of the whole is ever put together.
    (content,) = con.execute(f"select coalesce(sha256(string_agg(md5, '' order by example_id)), '') from (select example_id, md5(to_json(r)::varchar) as md5 from (select {typed} from dataset_row) as r) as hashed").fetchall()[0]
    name = f"{recipe.recipe}-{hashlib.sha256((recipe.sha256 + content).encode()).hexdigest()[:16]}"
    built = Built(name, recipe.table, True, counts, made.funnel, made.personal)
    con.execute("set preserve_insertion_order = true")
    path = write(con, folder / "rows.parquet", f"select {literal(name)} as dataset_version, {typed} from dataset_row order by example_id")
    facts = {
        "dataset_version": name, "dataset_table": recipe.table, "recipe": recipe.recipe, "recipe_text": recipe.model_dump_json(),
        "recipe_sha256": recipe.sha256, "code_sha256": _code(), "snapshots": json.dumps(made.snapshots, sort_keys=True),
        "benchmarks": json.dumps({url: _file_sha256(url) for url in recipe.gates.files}, sort_keys=True), "content_sha256": content,
        **{f"{split}_count": n for split, n in counts.items()}, "personal_values": json.dumps(made.personal, sort_keys=True),
    }  # fmt: skip
    version = _rows(con, contract(VERSION), [facts], folder)
    funnel = _rows(con, contract(FUNNEL), [{"dataset_version": name} | s for s in made.funnel], folder)
    _publish(settings, lake, promised, built, path, version, funnel, folder)
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
    files = sorted([*Path(__file__).parent.glob("*.py"), *stages.FOLDER.glob("*.sql"), ROOT / "pipelines" / "near.py", ROOT / "warehouse" / "core" / "macros.sql"])
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
