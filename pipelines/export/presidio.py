"""Names, places and other personal data that need a language model to be seen, replaced in what is exported: Microsoft Presidio, an extra.

Slow (some 10 kB a second and core) and never complete; keys, e-mails, cards and the like were replaced by pattern before. Install with
`pip install 'inference-flywheel[presidio]'` and a spaCy model. Nothing is fetched from the network: a model that is not there is an error.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.errors import NotConfigured

ENTITIES = ("PERSON", "LOCATION", "PHONE_NUMBER", "EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "UK_NHS", "MEDICAL_LICENSE", "CRYPTO")
FIELDS = ("prompt", "answer", "rejected", "tools")
BATCH = 256
KEPT = ("role", "type", "id", "tool_call_id", "name", "required", "format", "pattern", "$ref", "$schema", "$id")
"""Fields of chat messages and of the schemas of tools that are form, not text."""
DATA = ("arguments", "content", "default", "enum", "const", "example", "examples")
"""Fields that hold what somebody said: below them a name or an id is a person's as likely as not."""


def analyzer(model: str) -> Any:
    """Presidio's analyzer over a spaCy model: its name, or the path of its folder. Raises `NotConfigured` where either is not installed."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError as error:
        raise NotConfigured(f"presidio is not installed ({error}): pip install 'inference-flywheel[presidio]'") from error
    found = model
    if not spacy.util.is_package(model) and not Path(model).exists():
        # A package of another name may hold it; presidio would ask the network for it.
        spec = importlib.util.find_spec(model) if model.isidentifier() else None
        folder = Path(spec.origin).parent if spec and spec.origin else None
        configured = next((p.parent for p in sorted(folder.rglob("config.cfg"))), None) if folder else None
        if configured is None:
            raise NotConfigured(f"there is no spaCy model {model!r} here: install its package (python -m spacy download {model}, where the network may be asked), or give the path of its folder")
        found = str(configured)
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": found}]}).create_engine()
    return AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])


def redacted(con: Any, table: str, where: str, model: str) -> dict[str, int]:
    """Make the temporary table `presidio_row` of a table's rows, with a stand-in for each entity, the same all through a group; returns distinct values by class."""
    engine, counted = analyzer(model), Counter()
    con.execute(f"create or replace temp table presidio_row as select * from {table} where false")
    con.execute(f"create or replace temp table presidio_order as select * from {table} where {where}")
    columns = con.sql("select * from presidio_order").columns
    [(rows,)] = con.execute("select count(*) from presidio_order").fetchall()
    group, seen = None, {}
    for start in range(0, rows, BATCH):
        batch = con.sql(f"select * from presidio_order order by group_key, example_id limit {BATCH} offset {start}").to_arrow_table()
        texts: dict[str, list[str | None]] = {name: [] for name in FIELDS if name in columns}
        keys = batch.column("group_key").to_pylist()
        for n, key in enumerate(keys):
            if key != group:
                counted.update(label for label, _ in seen.values())
                group, seen = key, {}
            for name, done in texts.items():
                said = batch.column(name)[n].as_py()
                done.append(None if said is None else json.dumps(_walk(json.loads(said), lambda text, seen=seen: _replaced(engine, text, seen)), ensure_ascii=False, separators=(",", ":")))
        for name, done in texts.items():
            place = batch.column_names.index(name)
            batch = batch.set_column(place, name, pa.array(done, pa.string()))
        con.register("presidio_batch", batch)
        con.execute("insert into presidio_row by name select * from presidio_batch")
        con.unregister("presidio_batch")
    counted.update(label for label, _ in seen.values())
    con.execute("drop table presidio_order")
    return {label.lower(): n for label, n in sorted(counted.items())}


def _walk(value: Any, change: Callable[[str], str], key: str = "", is_data: bool = False) -> Any:
    """Messages or tools with their texts changed; roles, types, ids and the names of tools and fields stay."""
    if isinstance(value, dict):
        # What a schema calls the properties are names of the user's, whatever they are called.
        return {k: _walk(v, change, "" if key == "properties" and not is_data else k, is_data or (k in DATA and key != "properties")) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(v, change, key, is_data) for v in value]
    if not isinstance(value, str) or (key in KEPT and not is_data):
        return value
    if key == "arguments":
        # JSON in a text: what stands in it is changed, not its form.
        try:
            return json.dumps(_walk(json.loads(value), change, is_data=True), ensure_ascii=False, separators=(",", ":"))
        except ValueError:
            return change(value)
    return change(value)


def _replaced(engine: Any, text: str, seen: dict[str, tuple[str, str]]) -> str:
    """The text with a stand-in for each entity; `seen` keeps which value got which."""
    found = sorted(engine.analyze(text=text, language="en", entities=list(ENTITIES)), key=lambda r: (r.start, -r.end, -r.score))
    parts, end = [], 0
    for result in found:
        value = text[result.start : result.end]
        # Stand-ins of the pattern layer are no names, and of two findings that overlap the first counts.
        if result.start < end or (value.strip("[]").rpartition("_")[2].isdigit() and "_" in value):
            continue
        if value not in seen:
            label = result.entity_type
            seen[value] = (label, f"[{label}_{1 + sum(kind == label for kind, _ in seen.values())}]")
        parts += [text[end : result.start], seen[value][1]]
        end = result.end
    return "".join([*parts, text[end:]])
