"""The stages of a fine-tuning dataset, one function each: from calls to examples, and which of them stay.

Every stage drops with a reason and changes no other count; the funnel is what they say. Tables in the connection: `call`
(usable calls), `told` (what was said in them), `example`, `fate` (example_no, reason) and the view `living` of those without one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipelines.contracts import literal
from pipelines.errors import NotConfigured
from pipelines.finetune.recipe import Recipe
from pipelines.near import Benchmark, first_of_each, near_pairs
from pipelines.settings import ROOT

FOLDER = ROOT / "warehouse" / "finetune"
PROMPT_LIKE = 0.7
"""Jaccard similarity from which two prompts must not be in two splits."""
TEXT = "turns_text(prompt) || chr(10) || turns_text(answer) || coalesce(chr(10) || turns_text(rejected), '')"
REFUSAL = (
    r"^\s*(?:i(?:\W?m| am) (?:really |very |so )?sorry,? (?:but )?|sorry,? (?:but )?|unfortunately,? |i apologi[sz]e,? (?:but )?)?"
    r"(?:i (?:can(?:no|\W)?t|won\W?t|am (?:unable|not able) to|must decline to)|i\W?m (?:unable|not able) to)\W+(?:\w+\W+){0,2}?"
    r"(?:help|assist|provide|comply|fulfil|answer|do (?:that|this)|generate|create|write|share|give|support|engage|continue|discuss|access|browse|process)\b|^\s*as an ai\b"
)
TRUNCATED = "^(length|max_tokens|max_output_tokens|model_length|model_context_window_exceeded)$"
FILTERED = "content_filter|refusal|safety|guardrail|prohibited|blocklist|recitation|spii"


@dataclass
class Made:
    """What the stages leave beside the examples: the funnel, and how many personal values were replaced, by class."""

    funnel: list[dict[str, Any]] = field(default_factory=list)
    personal: dict[str, int] = field(default_factory=dict)

    def count(self, stage: str, unit: str, before: int, reasons: dict[str, int]) -> None:
        dropped = sum(reasons.values())
        self.funnel.append({
            "stage_number": len(self.funnel) + 1, "stage": stage, "unit": unit, "before_count": before, "dropped_count": dropped,
            "kept_count": before - dropped, "reasons": json.dumps(reasons, sort_keys=True),
        })  # fmt: skip


def run(con: Any, recipe: Recipe) -> Made:
    """All stages in order over the attached tables. Leaves `example` cut down to what stays, with split and group_key, and says what it did."""
    for name in ("chat", "text", "personal"):
        con.execute((FOLDER / f"{name}.sql").read_text())
    made = Made()
    rights(con, recipe, made)
    chosen(con, recipe, made)
    schema(con, recipe, made)
    refusals(con, recipe, made)
    languages(con, recipe, made)
    lengths(con, recipe, made)
    exact_duplicates(con, recipe, made)
    near_duplicates(con, recipe, made)
    benchmarks(con, recipe, made)
    budget(con, recipe, made)
    personal_data(con, recipe, made)
    splits(con, recipe, made)
    return made


def _sql(name: str) -> str:
    return (FOLDER / f"{name}.sql").read_text().strip().rstrip(";")


def _bound(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f"${name}" in sql}


def _values(recipe: Recipe) -> dict[str, Any]:
    rights, outcome = recipe.rights, recipe.outcome
    lists = {"sources": recipe.calls.sources, "tenants": recipe.calls.tenants, "workloads": recipe.calls.workloads, "environments": recipe.calls.environments,
             "models": recipe.calls.models, "licences": rights.licences, "jurisdictions": rights.jurisdictions}  # fmt: skip
    return {name: None if value is None else list(value) for name, value in lists.items()} | {
        "from_day": recipe.calls.from_day, "until_day": recipe.calls.until_day, "consent_is_required": rights.consent == "required",
        "is_distillation": rights.is_distillation, "trains_provider": rights.trains_provider, "good_share": outcome.good_share,
        "bad_share": outcome.bad_share, "confidence_share": outcome.confidence_share, "margin": outcome.margin, "eval_share": recipe.eval_share,
    }  # fmt: skip


def _drop(con: Any, made: Made, stage: str, reasons: str) -> None:
    """Give a fate to the living that a select of (example_no, reason) names; a null reason spares."""
    (before,) = con.execute("select count(*) from living").fetchall()[0]
    con.execute(f"create or replace temp table doomed as select example_no, reason from ({reasons}) as r where reason is not null")
    counted = dict(con.execute("select reason, count(*) from doomed group by reason order by reason").fetchall())
    con.execute("insert into fate select * from doomed")
    made.count(stage, "examples", before, counted)


def _numbers(con: Any, no: np.ndarray, reason: str) -> str:
    """A select of the given examples with one reason, for `_drop`."""
    con.register("number_list", pa.table({"example_no": np.asarray(no, np.int64)}))
    con.execute("create or replace temp table numbered as select * from number_list")
    con.unregister("number_list")
    return f"select example_no, {literal(reason)} as reason from numbered"


def rights(con: Any, recipe: Recipe, made: Made) -> None:
    """Calls that were answered, and that consent, licence, residency and the provider's terms allow."""
    sql = _sql("call")
    con.execute(f"create or replace temp table asked_for as {sql}", _bound(sql, _values(recipe)))
    (before,) = con.execute("select count(*) from asked_for").fetchall()[0]
    made.count("rights", "calls", before, dict(con.execute("select refusal, count(*) from asked_for where refusal is not null group by refusal order by refusal").fetchall()))
    # What was held back for evaluation is no training material, nor is the rest of its conversation.
    con.execute("create or replace temp table call as select * exclude (refusal) from asked_for where refusal is null")
    if recipe.kind != "eval":
        (before,) = con.execute("select count(*) from call").fetchall()[0]
        con.execute(
            """delete from call where conversation in (
                select concat_ws(':', i.source, coalesce(i.session_id, i.trace_id, i.inference_id)) from core.inference as i join datasets.eval as e on e.inference_id = i.inference_id and e.started_at = i.started_at)"""
        )
        (after,) = con.execute("select count(*) from call").fetchall()[0]
        made.count("held out", "calls", before, {"conversation of datasets.eval": before - after} if before > after else {})


def chosen(con: Any, recipe: Recipe, made: Made) -> None:
    """Examples out of calls, as the kind of dataset asks."""
    con.execute(
        f"""create or replace temp table told as
        select inference_id, message_array(asked) as prompt, message_array(joined_answer(answered)) as answer,
            case when json_valid(tool_definitions) then chat_tools(tool_definitions) end as tools,
            case when len(said_images(input_messages)) > 0 then to_json(said_images(input_messages))::varchar end as images
        from (
            select c.inference_id, c.tool_definitions, c.input_messages, chat_prompt(c.input_messages, c.system_instructions) as asked, chat_answer(c.output_messages) as answered
            from core.inference_content as c join call on call.inference_id = c.inference_id and call.started_at = c.started_at
            where c.input_messages is not null and c.output_messages is not null
              and ({"true" if recipe.kind == "preference" else "call.is_matured and call.outcome_status = 'resolved'"})
        ) as content
        {"where json_array_length(case when json_valid(tool_definitions) then tool_definitions end) > 0" if recipe.calls.must_have_tools else ""}"""
    )
    sql = _sql(f"example_{recipe.kind}")
    con.execute(
        f"""create or replace temp table example as
        select row_number() over (order by started_at, example_id) - 1 as example_no, *,
            coalesce(nullif(input_tokens, 0), strlen(prompt) // 4)::bigint as prompt_tokens, coalesce(nullif(output_text_tokens, 0), strlen(answer) // 4)::bigint as answer_tokens
        from ({sql}) as selected""",
        _bound(sql, _values(recipe)),
    )
    con.execute("create or replace temp table fate (example_no bigint, reason varchar)")
    con.execute("create or replace temp view living as select * from example where example_no not in (select example_no from fate)")
    (before,) = con.execute("select count(*) from call").fetchall()[0]
    (used,) = con.execute("select count(*) from (select inference_id from example union select rejected_inference_id from example where rejected_inference_id is not null)").fetchall()[0]
    made.count("outcome", "calls", before, {"no outcome, text or partner that the recipe asks for": before - used} if before > used else {})
    con.execute("drop table told")


def schema(con: Any, recipe: Recipe, made: Made) -> None:
    """Roles in turn, arguments that parse, nothing empty."""
    _drop(con, made, "schema", _sql("schema"))


def refusals(con: Any, recipe: Recipe, made: Made) -> None:
    """No refusals, nothing cut off, nothing held back by a filter; a bad answer of KTO may be any of these."""
    good = "coalesce(is_good, true)"
    _drop(con, made, "refusals", f"""select example_no, case
        when {good} and regexp_matches(lower(finish_reason), {literal(TRUNCATED)}) then 'truncated'
        when {good} and regexp_matches(lower(finish_reason), {literal(FILTERED)}) then 'held back by a filter'
        when {good} and regexp_matches(lower(left(json_extract_string(answer::json, '$[0].content'), 200)), {literal(REFUSAL)}) then 'refusal' end as reason from living""")


def languages(con: Any, recipe: Recipe, made: Made) -> None:
    """Only the languages asked for; what no language can be told of stays."""
    allowed = ", ".join(literal(x) for x in recipe.gates.languages or ())
    said = f"select example_no, language_of({TEXT}) as language from living" if allowed else "select 0 as example_no, null as language where false"
    _drop(con, made, "language", f"select example_no, case when language not in ({allowed or 'null'}) then 'in ' || language end as reason from ({said}) as s")


def lengths(con: Any, recipe: Recipe, made: Made) -> None:
    """Neither too short nor too long."""
    _drop(con, made, "length", f"""select example_no, case when answer_tokens < {recipe.gates.min_answer_tokens} then 'answer too short'
        when prompt_tokens + answer_tokens > {recipe.gates.max_tokens} then 'too long' end as reason from living""")


def exact_duplicates(con: Any, recipe: Recipe, made: Made) -> None:
    """Of examples equal but for case, space and punctuation the first stays."""
    _drop(con, made, "exact duplicates", f"""select example_no, case when row_number() over (partition by said order by example_no) > 1 then 'said before' end as reason
        from (select example_no, md5(plain_text({TEXT}) || coalesce(is_good::varchar, '')) as said from living) as s""")


def near_duplicates(con: Any, recipe: Recipe, made: Made) -> None:
    """Of examples that are nearly the same the first stays; what is near to an evaluation example goes."""
    like = recipe.gates.near_duplicate_share
    a, b = near_pairs(con, f"select example_no as no, {TEXT} as said from living", like)
    (size,) = con.execute("select count(*) from example").fetchall()[0]
    again = _numbers(con, first_of_each(size, a, b), "nearly said before")
    con.execute(f"create or replace temp table repeated as {again}")
    reasons = "select * from repeated"
    (held,) = con.execute("select count(*) from datasets.eval").fetchall()[0] if recipe.kind != "eval" else (0,)
    if held:
        # Evaluation prompts have numbers below zero.
        a, b = near_pairs(con, """select example_no as no, turns_text(prompt) as said from living
            union all select -row_number() over (order by dataset_version, example_id) as no, turns_text(prompt) as said from datasets.eval""", like)
        met = np.unique(b[(a < 0) & (b >= 0)])
        reasons = f"{_numbers(con, met, 'near an evaluation prompt')} union all select * from repeated where example_no not in (select example_no from numbered)"
    _drop(con, made, "near duplicates", reasons)


def benchmarks(con: Any, recipe: Recipe, made: Made) -> None:
    """Nothing that shares a run of 13 words with a benchmark."""
    met: list[str] = []
    for n, url in enumerate(recipe.gates.benchmarks):
        con.execute(f"create or replace temp table benchmark_text as {_benchmark(con, url)}")
        found = Benchmark(con, "select no, said from benchmark_text").met_in(con, f"select example_no as no, {TEXT} as said from living")
        con.execute(f"create or replace temp table met_{n} as {_numbers(con, found, 'met in ' + url.rsplit('/', 1)[-1])}")
        # A short question is a whole message or nothing.
        con.execute(f"""insert into met_{n} select distinct example_no, {literal('met in ' + url.rsplit('/', 1)[-1])} from (
            select example_no, unnest(list_concat(json_extract_string(prompt::json, '$[*].content'), json_extract_string(answer::json, '$[*].content'))) as content from living) as m
            where length(content) <= 300 and plain_text(content) in (select plain_text(said) from benchmark_text where len(text_words(said)) between 4 and 7)
              and example_no not in (select example_no from met_{n})""")
        met.append(f"select * from met_{n}")
    _drop(con, made, "benchmarks", f"select example_no, min(reason) as reason from ({' union all '.join(met) or 'select 0 as example_no, null as reason where false'}) as m group by example_no")


def _benchmark(con: Any, url: str) -> str:
    """A select of all texts in a benchmark file: (no, said)."""
    fs, path = fsspec.core.url_to_fs(url)
    if not fs.exists(path):
        raise NotConfigured(f"there is no benchmark file at {url}; the recipe's gates.benchmarks names it")
    if "://" in url and not url.startswith("file://"):
        con.register_filesystem(fs)
    where, plain = literal(url.removeprefix("file://")), path.removesuffix(".gz").removesuffix(".zst")
    kind = plain.rsplit(".", 1)[-1].lower()
    readers = {"csv": f"read_csv({where}, header = true, all_varchar = true)", "parquet": f"read_parquet({where})", "jsonl": f"read_json({where}, format = 'newline_delimited')",
               "json": f"read_json({where})", "txt": f"(select unnest(string_split(content, chr(10))) as line from read_text({where}))"}  # fmt: skip
    if kind not in readers:
        raise NotConfigured(f"{url} is no benchmark file that can be read: {', '.join(readers)}")
    return f"select row_number() over () as no, said from (unpivot (select columns(*)::varchar from {readers[kind]}) on columns(*) into name field value said) as u"


def budget(con: Any, recipe: Recipe, made: Made) -> None:
    """No more than the recipe asks for, the best outcomes first; ties by a hash, so that no day is favoured."""
    mix = recipe.mix
    shares = mix.workload_shares or {}
    share = f"case workload {' '.join(f'when {literal(w)} then {float(s)}' for w, s in sorted(shares.items()))} else 0 end" if shares else "1"
    within = "partition by workload" if shares else ""
    limits = [f"{total} > {limit} * {share}" for total, limit in (("tokens", mix.max_tokens), ("nth", mix.max_examples)) if limit is not None]
    if shares:
        limits.append(f"{share} = 0")
    _drop(con, made, "budget", f"""select example_no, case when {' or '.join(limits) or 'false'} then 'beyond the budget' end as reason from (
        select example_no, workload, sum(prompt_tokens + answer_tokens) over w as tokens, row_number() over w as nth from living
        window w as ({within} order by outcome_share desc nulls last, md5(example_id) rows between unbounded preceding and current row)) as ordered""")


def personal_data(con: Any, recipe: Recipe, made: Made) -> None:
    """Cut `example` down to the living, with a stand-in for each personal value: the same one all through a conversation."""
    con.execute("create or replace temp table kept as select * from living order by example_no")
    con.execute("drop view living; drop table example; drop table fate")
    con.execute("alter table kept rename to example")
    if not recipe.gates.is_redacted:
        return
    fields = ("prompt", "answer", "rejected", "tools", "images")
    everything = "concat_ws(' ', " + ", ".join(fields) + ")"
    con.execute(
        f"""create or replace temp table personal as
        with found as (
            select conversation, example_no, unnest(personal_found(apart({everything}))) as hit from example where may_be_personal({everything})
        ),
        -- One value is of one class: the first in the order in which classes are looked for.
        value as (
            select conversation, hit.value as value, arg_min(hit.class, list_position(['KEY', 'EMAIL', 'IBAN', 'CARD', 'IP', 'PHONE'], hit.class)) as class, min(example_no) as first_no
            from found where hit.value <> '' group by conversation, hit.value
        )
        select conversation, value, class, '[' || class || '_' || row_number() over (partition by conversation, class order by first_no, value) || ']' as stand_in
        from value"""
    )
    # What looks like a phone number inside an account number is replaced where it also stands alone, but not counted.
    made.personal = dict(con.execute(
        """select lower(class), count(distinct value) from personal as p
        where not exists (select 1 from personal as q where q.conversation = p.conversation and q.value <> p.value and contains(q.value, p.value))
        group by 1 order by 1""").fetchall())
    # One after the other, the longest first: a number inside an account is gone before it is looked for.
    con.execute(
        f"""create or replace temp table redaction as
        select example_no, {", ".join(f"redacted({f}, pairs) as {f}" for f in fields)}
        from example join (
            select conversation, list(value || chr(30) || stand_in order by length(value) desc, value) as pairs from personal group by conversation) as p using (conversation)"""
    )
    con.execute(f"update example set {', '.join(f'{f} = r.{f}' for f in fields)} from redaction as r where r.example_no = example.example_no")
    con.execute("drop table personal; drop table redaction")


def splits(con: Any, recipe: Recipe, made: Made) -> None:
    """Groups first (conversation, like prompts, tenant), then time: what lies beyond its group's border is used nowhere."""
    (before,) = con.execute("select count(*) from example").fetchall()[0]
    together = recipe.split.together
    ties = ["select example_no as no, 'prompt ' || md5(plain_text(turns_text(prompt))) as tie from example"] if "near_duplicate" in together else []
    ties += ["select example_no, 'conversation ' || conversation from example"] if "conversation" in together else []
    ties += ["select example_no, 'tenant ' || tenant from example where tenant is not null"] if "tenant" in together else []
    con.execute("create or replace temp table place as select example_no, row_number() over (order by example_no) - 1 as no from example")
    tied = con.execute(f"select p.no, dense_rank() over (order by tie) - 1 as tie_no from ({' union all '.join(ties) or 'select 0 as no, null as tie where false'}) as t join place as p on p.example_no = t.no").fetchnumpy()
    a, b = near_pairs(con, "select p.no, turns_text(prompt) as said from example join place as p using (example_no)", PROMPT_LIKE) if "near_duplicate" in together else (np.empty(0, np.int64),) * 2
    start = np.concatenate([np.asarray(tied["no"], np.int64), a])
    end = np.concatenate([before + np.asarray(tied["tie_no"], np.int64), b])
    size = before + int(np.max(tied["tie_no"], initial=-1)) + 1
    component = connected_components(coo_array((np.ones(len(start), np.int8), (start, end)), shape=(size, size)), directed=False)[1][:before] if before else []
    con.register("component_of", pa.table({"no": np.arange(before), "component": np.asarray(component, np.int64)}))
    test, validation = recipe.split.test_share, recipe.split.validation_share
    by_time = f"case when share <= {1 - test - validation} then 'train' when share <= {1 - test} then 'validation' else 'test' end"
    by_group = f"case when part_hash < {1 - test - validation} then 'train' when part_hash < {1 - test} then 'validation' else 'test' end"
    part = "'test'" if recipe.kind == "eval" else by_time if recipe.split.by == "time" else by_group
    con.execute(
        f"""create or replace temp table parted as
        with grouped as (
            select e.example_no, e.started_at, first_value(e.example_id) over (partition by component order by e.started_at, e.example_no) as group_key,
                row_number() over (order by e.started_at, e.example_no) / {max(before, 1)} as share
            from example as e join place using (example_no) join component_of using (no)
        ),
        hashed as (select *, cast('0x' || left(md5(group_key), 8) as bigint) / 4294967296 as part_hash from grouped),
        part as (select *, {part} as part from hashed)
        select example_no, group_key, part as split, part = first_value(part) over (partition by group_key order by started_at, example_no) as stays from part"""
    )
    con.unregister("component_of")
    con.execute("create or replace temp table split_example as select e.*, p.group_key, p.split from example as e join parted as p using (example_no) where p.stays")
    con.execute("drop table example")
    con.execute("alter table split_example rename to example")
    (after,) = con.execute("select count(*) from example").fetchall()[0]
    made.count("splits", "examples", before, {"group began in an earlier split": before - after} if before > after else {})
