"""Fine-tuning datasets as files for those who train.

| format         | kinds                 | a line is                                                                                        |
|----------------|-----------------------|--------------------------------------------------------------------------------------------------|
| `trl`          | all                   | SFT: prompt, completion (or messages, where all answers are trained on); DPO: prompt, chosen, rejected; KTO: prompt, completion, label; tools as JSON text |
| `trl_parquet`  | all                   | the same as Parquet, arguments of tool calls as JSON text, so that all rows have one type        |
| `openai`       | sft, eval, preference | messages with `weight`, tools; or input, preferred_output, non_preferred_output                  |
| `axolotl`      | sft, eval, preference | messages with `train` (message_field_training); or messages, chosen, rejected (chat_template.default) |
| `llamafactory` | all                   | ShareGPT turns, system, tools; chosen, rejected; kto_tag; with dataset_info.json                 |
| `nemo`         | sft, eval             | messages with arguments as objects, tools                                                        |

One file a split that holds anything, with a Hugging Face card (README.md), Croissant metadata and a manifest. The same version
gives the same bytes.

What a trainer would skip or misread is left out, and counted in the card and the manifest: for LLaMA-Factory conversations that do not
alternate (a person who speaks after a tool, an assistant who begins), for Axolotl's preferences those with tool calls, of which it reads
the text only. LLaMA-Factory has no place for text beside tool calls, which is lost and counted; results of parallel calls are one turn,
a JSON list.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.contracts import contract, literal
from pipelines.engine import MART_MACROS, connect
from pipelines.errors import NotConfigured
from pipelines.export.folder import listed, publish
from pipelines.export.presidio import redacted
from pipelines.finetune.recipe import Recipe
from pipelines.finetune.stages import FOLDER
from pipelines.finetune.versions import FUNNEL, version_facts
from pipelines.finetune.withdrawal import remember_export
from pipelines.lake import Lake, storage
from pipelines.settings import Settings

SPLITS = ("train", "validation", "test")
TOOLS_TEXT = "field('tools', to_json(tools)::varchar)"
TOOLS = "field('tools', tools)"
SYSTEM = "field('system', to_json(system_text(prompt))::varchar)"

# By format and kind: the fields of a line. `{earlier}` says whether earlier answers are trained on.
LINES = {
    ("trl", "sft"): f"case when {{all}} then [field('messages', with_objects(one_list(prompt, answer))), {TOOLS_TEXT}] else [field('prompt', with_objects(prompt)), field('completion', with_objects(answer)), {TOOLS_TEXT}] end",
    ("trl", "preference"): f"[field('prompt', with_objects(prompt)), field('chosen', with_objects(answer)), field('rejected', with_objects(rejected)), {TOOLS_TEXT}]",
    ("trl", "kto"): f"[field('prompt', with_objects(prompt)), field('completion', with_objects(answer)), field('label', is_good::varchar), {TOOLS_TEXT}]",
    ("openai", "sft"): f"[field('messages', one_list(marked(prompt, 'weight', case when {{all}} then '1' else '0' end), marked(answer, 'weight', '1'))), {TOOLS}, field('parallel_tool_calls', case when tools is not null then 'true' end)]",
    ("openai", "preference"): f"[field('input', object_of([field('messages', prompt), {TOOLS}, field('parallel_tool_calls', case when tools is not null then 'true' end)])), field('preferred_output', answer), field('non_preferred_output', rejected)]",
    ("axolotl", "sft"): f"[field('messages', one_list(marked(with_objects(prompt), 'train', case when {{all}} then 'true' else 'false' end), marked(with_objects(answer), 'train', 'true'))), {TOOLS}]",
    ("axolotl", "preference"): f"[field('messages', with_objects(prompt)), field('chosen', json_extract(with_objects(answer)::json, '$[0]')::varchar), field('rejected', json_extract(with_objects(rejected)::json, '$[0]')::varchar), {TOOLS}]",
    ("llamafactory", "sft"): f"[field('conversations', sharegpt(one_list(prompt, answer))), {SYSTEM}, field('tools', to_json(coalesce(tools, ''))::varchar)]",
    ("llamafactory", "preference"): f"[field('conversations', sharegpt(prompt)), field('chosen', json_extract(sharegpt(answer)::json, '$[0]')::varchar), field('rejected', json_extract(sharegpt(rejected)::json, '$[0]')::varchar), {SYSTEM}, field('tools', to_json(coalesce(tools, ''))::varchar)]",
    ("llamafactory", "kto"): f"[field('conversations', sharegpt(one_list(prompt, answer))), field('kto_tag', is_good::varchar), {SYSTEM}, field('tools', to_json(coalesce(tools, ''))::varchar)]",
    ("nemo", "sft"): f"[field('messages', with_objects(one_list(prompt, answer))), {TOOLS}]",
}  # fmt: skip
# By format and kind: examples that its trainer skips or misreads, by the reason.
ALTERNATING = {"turns do not alternate": "not alternates(prompt)"}
LEFT_OUT = {
    ("llamafactory", "sft"): ALTERNATING, ("llamafactory", "kto"): ALTERNATING,
    ("llamafactory", "preference"): ALTERNATING | {"the same answer but for ids and text beside tool calls": "sharegpt(answer) = sharegpt(rejected)"},
    ("axolotl", "preference"): {"has tool calls": "has_tool_calls(prompt) or has_tool_calls(answer) or has_tool_calls(rejected)"},
}  # fmt: skip
MESSAGE = '[{"role":"VARCHAR","content":"VARCHAR"}]'
TOOL_MESSAGE = (
    '[{"role":"VARCHAR","content":"VARCHAR","tool_calls":[{"id":"VARCHAR","type":"VARCHAR","function":{"name":"VARCHAR","arguments":"VARCHAR"}}],'
    '"tool_call_id":"VARCHAR"}]'
)
PARQUET = {"sft": {"prompt": "prompt", "completion": "answer"}, "preference": {"prompt": "prompt", "chosen": "answer", "rejected": "rejected"}, "kto": {"prompt": "prompt", "completion": "answer"}}
FORMATS = ("trl", "trl_parquet", "openai", "axolotl", "llamafactory", "nemo")


@dataclass
class Export:
    """What an export wrote."""

    dataset_version: str
    format: str
    to: str
    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    lost_texts: int = 0
    train_tokens: int = 0
    training_cost_usd: float | None = None
    personal: dict[str, int] | None = None

    def __str__(self) -> str:
        rows = ", ".join(f"{split} {n:,}" for split, n in self.rows.items())
        cost = "" if self.training_cost_usd is None else f", about {self.training_cost_usd:,.2f} USD an epoch"
        return f"{self.dataset_version} as {self.format}: {rows}; {self.train_tokens:,} tokens to train on{cost}, in {self.to}{''.join(f'; {said}' for said in self.losses())}"

    def losses(self) -> list[str]:
        """What of the version is not in the files, in words."""
        left_out = [f"left out, as its trainer cannot read them: {', '.join(f'{reason} {n:,}' for reason, n in self.left_out.items())}"] if self.left_out else []
        return left_out + ([f"texts beside tool calls lost: {self.lost_texts:,}"] if self.lost_texts else [])


@storage("export")
def export_dataset(settings: Settings, dataset_version: str, format: str, to: str, training_usd_per_mtok: float | None = None, presidio: str | None = None) -> Export:
    """Write a version to a folder at any fsspec URL; files of the same names there are replaced. With `presidio`, the name or path of a
    spaCy model, what that finds is replaced too (the extra `presidio`); the version itself stays as it is.

    Raises `NotConfigured` for an unknown version or format, or a format that has no shape for that kind of dataset or for any of its examples.
    """
    lake, done = Lake(settings), Export(dataset_version, format, to)
    scratch = settings.scratch / f"export-{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    try:
        with connect(settings, MART_MACROS) as con:
            con.execute("set threads = 1")  # the same bytes every time
            for name in ("chat", "export"):
                con.execute((FOLDER / f"{name}.sql").read_text())
            facts = version_facts(lake, con, dataset_version)
            if facts["withdrawn_at"] is not None:
                raise NotConfigured(f"{dataset_version} was withdrawn ({facts['withdrawn_because']}); {'use ' + facts['replaced_by'] if facts['replaced_by'] else 'flywheel dataset build makes a clean one'}")
            recipe = Recipe.model_validate_json(facts["recipe_text"])
            kind = "sft" if recipe.kind == "eval" else recipe.kind
            if format not in FORMATS or (format != "trl_parquet" and (format, kind) not in LINES):
                raise NotConfigured(f"no format {format!r} for a {recipe.kind} dataset; there are: {', '.join(f for f in FORMATS if f == 'trl_parquet' or (f, kind) in LINES)}")
            lake.attach(con, recipe.table, [dataset_version])
            # Versions of before the gate on redacted texts may hold some.
            whole = [f"case when json_valid({part}) then json_valid(with_objects({part})) else false end" for part in ("prompt", "answer", *(("rejected",) if kind == "preference" else ()))]
            [(broken,)] = con.execute(f"select count(*) from {recipe.table} where dataset_version = $name and not ({' and '.join(whole)})", {"name": dataset_version}).fetchall()
            if broken:
                raise NotConfigured(f"{dataset_version} holds {broken:,} examples whose messages or tool arguments are no JSON, which no trainer reads; flywheel dataset build makes a version without them")
            source = recipe.table
            if presidio is not None:
                done.personal = redacted(con, recipe.table, f"dataset_version = {literal(dataset_version)}", presidio)
                source = "presidio_row"
            of = f"from {source} where dataset_version = {literal(dataset_version)}"
            unfit = LEFT_OUT.get((format, kind), {})
            if unfit:
                fate = f"case {' '.join(f'when {test} then {literal(reason)}' for reason, test in unfit.items())} end"
                done.left_out = dict(con.execute(f"select {fate} as reason, count(*) {of} and {fate} is not null group by 1 order by 1").fetchall())
                of += f" and {fate} is null"
            counted = {split: (rows, tokens) for split, rows, tokens in con.execute(f"select split, count(*), sum(prompt_tokens + answer_tokens)::bigint {of} group by split").fetchall()}
            if done.left_out and not counted:
                raise NotConfigured(f"no example of {dataset_version} can be read as {format}: {', '.join(f'{reason} {n:,}' for reason, n in done.left_out.items())}; use another format")
            files: dict[str, int | None] = {}
            for split in SPLITS:
                name = f"{split}.{'parquet' if format == 'trl_parquet' else 'jsonl'}"
                done.rows[split], tokens = counted.get(split, (0, 0))
                if done.rows[split]:
                    _write(con, format, kind, recipe, of, split, scratch / name)
                    files[name] = done.rows[split]
                if split == "train":
                    done.train_tokens = tokens or 0
            if format == "llamafactory":
                turns = ("prompt", "answer", *(("rejected",) if kind == "preference" else ()))
                [(done.lost_texts,)] = con.execute(f"select sum({' + '.join(f'texts_beside_calls({t})' for t in turns)})::bigint {of}").fetchall()
            if training_usd_per_mtok is not None:
                done.training_cost_usd = round(done.train_tokens * training_usd_per_mtok / 1e6, 6)
            lake.attach(con, FUNNEL)
            funnel = con.execute(f"select stage, unit, before_count, dropped_count, kept_count, reasons from {FUNNEL} where dataset_version = $name order by stage_number", {"name": dataset_version}).fetchall()
            review = con.execute(
                f"""select count(*) filter (where is_doubted), count(doubt_share), arg_max(example_id, {{'doubt': doubt_share, 'id': example_id}}, 10) filter (where doubt_share is not null)
                from {recipe.table} where dataset_version = $name""", {"name": dataset_version}).fetchall()[0]
            mix = con.execute(f"select coalesce(workload, 'none') || ', ' || difficulty, count(*) from {recipe.table} where dataset_version = $name group by 1 order by 2 desc, 1 limit 30", {"name": dataset_version}).fetchall()
            longer = con.execute(f"select avg((length(answer) > length(rejected))::int) from {recipe.table} where dataset_version = $name", {"name": dataset_version}).fetchall()[0][0] if kind == "preference" else None
        if format == "llamafactory":
            files["dataset_info.json"] = None
            (scratch / "dataset_info.json").write_text(json.dumps(_dataset_info(dataset_version, kind, list(files)), indent=1) + "\n")
        (scratch / "README.md").write_text(_card(done, recipe, facts, funnel, list(files), longer, review, mix))
        (scratch / "croissant.json").write_text(json.dumps(_croissant(done, recipe, facts, listed(scratch, {n: r for n, r in files.items() if r})), indent=1, sort_keys=True) + "\n")
        manifest = {
            "dataset_version": dataset_version, "format": format, "rows": done.rows, "left_out": done.left_out, "lost_texts": done.lost_texts, "train_tokens": done.train_tokens, "content_sha256": facts["content_sha256"],
            "recipe_sha256": facts["recipe_sha256"], "code_sha256": facts["code_sha256"], "snapshots": json.loads(facts["snapshots"]), "benchmarks": json.loads(facts["benchmarks"]),
            "files": listed(scratch, files | {"README.md": None, "croissant.json": None}),
        }  # fmt: skip
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        publish(scratch, to)
        remember_export(settings, dataset_version, format, to, manifest["files"])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return done


def _write(con: Any, format: str, kind: str, recipe: Recipe, of: str, split: str, path: Path) -> None:
    where = f"{of} and split = {literal(split)} order by example_id"
    if format == "trl_parquet":
        # Files of all splits have one type.
        said = "concat(prompt, answer, rejected)" if kind == "preference" else "concat(prompt, answer)"
        (has_tools,) = con.execute(f"select coalesce(bool_or(contains({said}, '\"tool_call') or tools is not null), false) {of}").fetchall()[0]
        shape = TOOL_MESSAGE if has_tools else MESSAGE
        turns = PARQUET[kind] if kind != "sft" or recipe.trains_on == "last_answer" else {"messages": "one_list(prompt, answer)"}
        columns = [f"from_json({value}, {literal(shape)}) as {name}" for name, value in turns.items()]
        columns += ["is_good as label"] if kind == "kto" else []
        columns += ["tools"] if has_tools else []
        con.execute(f"copy (select {', '.join(columns)} {where}) to {literal(str(path))} (format parquet, compression zstd)")
        return
    fields = LINES[format, kind].replace("{all}", "true" if recipe.trains_on == "all_answers" else "false")
    # JSON has no raw control signs, so the line stands as it is.
    con.execute(f"copy (select object_of({fields}) {where}) to {literal(str(path))} (format csv, header false, quote '', escape '', delimiter '\x01')")


def _dataset_info(version: str, kind: str, files: list[str]) -> dict[str, Any]:
    """LLaMA-Factory's register: one entry a file."""
    columns = {"messages": "conversations", "system": "system", "tools": "tools"}
    columns |= {"preference": {"chosen": "chosen", "rejected": "rejected"}, "kto": {"kto_tag": "kto_tag"}}.get(kind, {})
    entry = {"formatting": "sharegpt", "columns": columns} | ({"ranking": True} if kind == "preference" else {})
    return {f"{version}_{name.split('.')[0]}": {"file_name": name} | entry for name in files if name.endswith(".jsonl")}


def _card(done: Export, recipe: Recipe, facts: dict[str, Any], funnel: list[tuple], files: list[str], longer: float | None, review: tuple, mix: list[tuple]) -> str:
    data = "\n".join(f"  - {{split: {name.split('.')[0]}, path: {name}}}" for name in files if name.split(".")[0] in SPLITS)
    steps = "\n".join(f"| {stage} | {unit} | {before:,} | {gone:,} | {kept:,} | {', '.join(f'{r} {n:,}' for r, n in json.loads(reasons).items())} |" for stage, unit, before, gone, kept, reasons in funnel)
    personal = ", ".join(f"{n:,} {name}" for name, n in json.loads(facts["personal_values"]).items()) or "none found"
    bias = "" if longer is None else f"\nThe better answer is the longer one in {longer:.0%} of the pairs.\n"
    named = "" if done.personal is None else f" In this export Presidio replaced {', '.join(f'{n:,} {name}' for name, n in done.personal.items()) or 'nothing'} more; it misses some."
    doubted, ranked, first = review
    doubts = "Labels were not ranked for review: too few examples, or none of the other label to compare with." if not ranked else (
        f"Labels to review: confident learning holds {doubted:,} of {ranked:,} for wrong; none was left out for it. `select example_id, doubt_share from {recipe.table} "
        f"where dataset_version = '{facts['dataset_version']}' order by doubt_share desc` ranks them, beginning with {', '.join(f'`{i}`' for i in first)}.")  # fmt: skip
    mixed = "; ".join(f"{name} {n:,}" for name, n in mix)
    size = sum(done.rows.values())
    category = next(name for limit, name in ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e12, "1M<n<10M")) if size < limit)
    trained = "All of an assistant's turns carry loss." if recipe.trains_on == "all_answers" and recipe.kind == "sft" else "Only the last answer carries loss."
    if done.format == "llamafactory" and recipe.kind == "sft" and recipe.trains_on == "last_answer":
        trained = "Only the last answer is meant to carry loss: set `mask_history: true`, else LLaMA-Factory trains on all."
    lost = "" if not done.losses() else f"\nNot everything is here: {'; '.join(done.losses())}. Splits and tokens count what is here, all else the whole version.\n"
    cost = "" if done.training_cost_usd is None else f" At the price given, an epoch costs about {done.training_cost_usd:,.2f} USD."
    return f"""---
pretty_name: {recipe.recipe} ({done.format})
task_categories: [text-generation]
size_categories: [{category}]
configs:
- config_name: default
  data_files:
{data}
---

# {facts["dataset_version"]}, format {done.format}

{recipe.sentence} {contract(recipe.table).sentence}

{trained} {done.train_tokens:,} tokens to train on.{cost} Tokens are those the provider counted, else a quarter of the bytes.
{bias}{lost}
What is good or bad is a probability resolved from feedback, evaluators and behaviour, no label by hand. An image stands as
`<image>`; its bytes are not here. Replaced by stand-ins, the same one all through a conversation: {personal} (distinct values).
Found by pattern and checksum: not found are names and addresses of people, phone numbers without separators or prefix, what is spelt
out ("at", "dot"), digits of other scripts, and keys broken over lines or of unknown form.{named}

{doubts}

Examples by workload and difficulty (turns, tools and length of the prompt): {mixed}.

Splits: {", ".join(f"{split} {n:,}" for split, n in done.rows.items())}; parted by {recipe.split.by}, kept together: {", ".join(recipe.split.together)}. No group is in two splits.

| stage | unit | before | dropped | kept | reasons |
|---|---|---|---|---|---|
{steps}

Made from {", ".join(f"`{name}` (snapshot {snapshot})" for name, snapshot in json.loads(facts["snapshots"]).items())};
recipe {facts["recipe_sha256"][:16]}, code {facts["code_sha256"][:16]}, content {facts["content_sha256"][:16]}.
"""


def _croissant(done: Export, recipe: Recipe, facts: dict[str, Any], files: list[dict[str, Any]]) -> dict[str, Any]:
    """Croissant 1.0 (MLCommons) metadata: the files with their hashes, and the fields of a record."""
    kind = "sft" if recipe.kind == "eval" else recipe.kind
    media = "application/x-parquet" if done.format == "trl_parquet" else "application/jsonlines"
    names = list(PARQUET[kind]) if done.format in ("trl", "trl_parquet") else []
    if names and kind == "sft" and recipe.trains_on == "all_answers":
        names = ["messages"]

    def field_of(split: str, file: str, path: str, type: str = "sc:Text") -> dict[str, Any]:
        column, _, part = path.partition("/")
        source = {"fileObject": {"@id": file}, "extract": {"column": column}} | ({"transform": {"jsonPath": part}} if part else {})
        return {"@type": "cr:Field", "@id": f"{split}/{path}", "name": part or column, "dataType": type, "source": source}

    sets = []
    for f in files if names else ():
        split = f["name"].split(".")[0]
        # A column of messages is a list of objects: a repeated field with parts.
        fields = [{"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "repeated": True, "subField": [field_of(split, f["name"], f"{name}/{part}") for part in ("role", "content")]} for name in names]
        fields += [field_of(split, f["name"], "label", "sc:Boolean")] if kind == "kto" else []
        sets.append({"@type": "cr:RecordSet", "@id": split, "name": split, "field": fields})
    return {
        "@context": {
            "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
            "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"},
            "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes",
            "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
            "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
            "subField": "cr:subField", "transform": "cr:transform",
        },
        "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0", "name": facts["dataset_version"], "description": recipe.sentence,
        "version": "1.0.0", "distribution": [
            {"@type": "cr:FileObject", "@id": f["name"], "name": f["name"], "contentUrl": f["name"], "encodingFormat": media, "sha256": f["sha256"], "contentSize": f"{f['bytes']} B"} for f in files],
        "recordSet": sets,
    }  # fmt: skip
