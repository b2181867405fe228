"""The stages of a fine-tuning dataset, one function each: from calls to examples, and which of them stay.

Every stage drops with a reason and changes no other count; the funnel is what they say. What stages hand on are tables of the
attached database `work` (a file, so that each step can be another process): `call` (usable calls), `example` (texts are written
once), `fate` (example_no, reason), `redaction` (texts with stand-ins), `words` (each text as hashes of its words), `parted`. Views:
`living` (examples without a fate), `clean` (the same with stand-ins), `dataset_row` (what is left, with group and split).
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from pipelines import finetune
from pipelines.contracts import literal
from pipelines.errors import NotConfigured
from pipelines.finetune.recipe import Recipe
from pipelines.finetune.review import FITTED, review
from pipelines.near import Benchmark, batches, components, first_of_each, near_pairs
from pipelines.settings import ROOT

FOLDER = ROOT / "warehouse" / "finetune"
WORDS = """select example_no, md5(array_to_string(list_concat(asked, answered, refused), ' ')) as said, len(asked) as prompt_words, len(answered) as answer_words,
    word_hashes(list_concat(asked, answered, refused)) as word from (
    select example_no, text_words(turns_text(prompt)) as asked, text_words(turns_text(answer)) as answered, text_words(coalesce(turns_text(rejected), '')) as refused from {}) as text"""
PROMPT_LIKE = 0.7
"""Jaccard similarity from which two prompts must not be in two splits."""
MESSAGES, OTHERS = ("prompt", "answer", "rejected"), ("tools", "images")
TEXT = "turns_text(prompt) || chr(10) || turns_text(answer) || coalesce(chr(10) || turns_text(rejected), '')"
REFUSAL = (
    r"^\s*(?:i(?:\W?m| am) (?:really |very |so )?sorry,? (?:but )?|sorry,? (?:but )?|unfortunately,? |i apologi[sz]e,? (?:but )?)?"
    r"(?:i (?:can(?:no|\W)?t|won\W?t|am (?:unable|not able) to|must decline to)|i\W?m (?:unable|not able) to)\W+(?:\w+\W+){0,2}?"
    r"(?:help|assist|provide|comply|fulfil|answer|do (?:that|this)|generate|create|write|share|give|support|engage|continue|discuss|access|browse|process)\b|^\s*as an ai\b"
)


@dataclass
class Made:
    """What the stages leave beside the examples: the funnel, how many personal values were replaced, by class, and the snapshots that were read."""

    funnel: list[dict[str, Any]] = field(default_factory=list)
    personal: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)

    def count(self, stage: str, unit: str, before: int, reasons: dict[str, int]) -> None:
        """Add a row to the funnel: what a stage dropped of `before`, by reason."""
        dropped = sum(reasons.values())
        self.funnel.append({
            "stage_number": len(self.funnel) + 1, "stage": stage, "unit": unit, "before_count": before, "dropped_count": dropped,
            "kept_count": before - dropped, "reasons": json.dumps(reasons, sort_keys=True),
        })  # fmt: skip


def open_work(con: Any, path: Path | None = None) -> None:
    """Attach the tables that stages hand on, from a file or in memory, and define the macros and views over them."""
    con.execute(f"attach {literal(str(path) if path else ':memory:')} as work")
    con.execute("set search_path = 'memory,work'")
    con.execute("set preserve_insertion_order = false")
    for name in ("chat", "personal", "text"):
        con.execute((FOLDER / f"{name}.sql").read_text())
    for name in ("work", "views"):
        con.execute((FOLDER / f"{name}.sql").read_text())


def run(con: Any, recipe: Recipe) -> Made:
    """All steps in order over the attached tables. Leaves `dataset_row`, and says what was done."""
    open_work(con)
    made = Made()
    for stages in STEPS.values():
        for stage in stages:
            stage(con, recipe, made)
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
    con.execute("insert into work.fate select * from doomed")
    made.count(stage, "examples", before, counted)


def _numbers(con: Any, no: np.ndarray, reason: str) -> str:
    """A select of the given examples with one reason, for `_drop`."""
    con.register("number_list", pa.table({"example_no": np.asarray(no, np.int64)}))
    con.execute("create or replace temp table numbered as select * from number_list")
    con.unregister("number_list")
    return f"select example_no, {literal(reason)} as reason from numbered"


def rights(con: Any, recipe: Recipe, made: Made) -> None:
    """Calls that were answered, and that consent, licence, residency and the provider's terms allow."""
    # A blank or a "maybe" must not be read as one or the other.
    for name, about in (("training_consent", "concat_ws(', ', 'tenant ' || tenant, 'workload ' || workload)"), ("provider_terms", "'provider_name ' || provider_name")):
        unclear = con.execute(f"select coalesce(nullif({about}, ''), 'everyone'), is_allowed from reference.{name} where lower(trim(coalesce(is_allowed, ''))) not in ('yes', 'no') order by 1").fetchall()
        if unclear:
            raise NotConfigured(f"{name}.csv (setting `reference`, else schemas/reference) says neither yes nor no in is_allowed: {'; '.join(f'{whom}: {said!r}' for whom, said in unclear)}")
    sql = _sql("call")
    con.execute(f"create or replace temp table asked_for as {sql}", _bound(sql, _values(recipe)))
    (before,) = con.execute("select count(*) from asked_for").fetchall()[0]
    made.count("rights", "calls", before, dict(con.execute("select refusal, count(*) from asked_for where refusal is not null group by refusal order by refusal").fetchall()))
    # What was held back for evaluation is no training material, nor is the rest of its conversation.
    con.execute("create or replace table work.call as select * exclude (refusal) from asked_for where refusal is null")
    con.execute("drop table asked_for")
    if recipe.kind != "eval":
        (before,) = con.execute("select count(*) from call").fetchall()[0]
        con.execute(
            """delete from work.call where conversation in (
                select thread_of(i.source, i.session_id, i.trace_id, i.inference_id) from core.inference as i join datasets.eval as e on e.inference_id = i.inference_id and e.started_at = i.started_at)"""
        )
        (after,) = con.execute("select count(*) from call").fetchall()[0]
        made.count("held out", "calls", before, {"conversation of datasets.eval": before - after} if before > after else {})


def chosen(con: Any, recipe: Recipe, made: Made) -> None:
    """Examples out of calls, as the kind of dataset asks."""
    # A pair is looked for among all texts at once; anything else is made of one call and never held twice.
    con.execute(
        f"""create or replace temp {"table" if recipe.kind == "preference" else "view"} told as
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
        f"""create or replace table work.example as
        select call_no as example_no, selected.*, difficulty_of(prompt, tools, input_tokens) as difficulty,
            coalesce(nullif(input_tokens, 0), strlen(prompt) // 4)::bigint as prompt_tokens, coalesce(nullif(output_text_tokens, 0), strlen(answer) // 4)::bigint as answer_tokens
        from ({sql}) as selected join (select inference_id, row_number() over (order by started_at, inference_id) - 1 as call_no from call) as numbered using (inference_id)""",
        _bound(sql, _values(recipe)),
    )
    (before,) = con.execute("select count(*) from call").fetchall()[0]
    (used,) = con.execute("select count(*) from (select inference_id from example union select rejected_inference_id from example where rejected_inference_id is not null)").fetchall()[0]
    made.count("outcome", "calls", before, {"no outcome, text or partner that the recipe asks for": before - used} if before > used else {})
    if recipe.kind == "preference":
        con.execute("drop table told")
    if recipe.kind in ("sft", "eval"):
        # Bad answers, for labels to be held against; they go into no set.
        con.execute(
            f"""insert into work.contrast select row_number() over (order by inference_id), len(asked), word_hashes(list_concat(asked, answered)) from (
                select inference_id, text_words(turns_text(prompt)) as asked, text_words(turns_text(answer)) as answered
                from told join (select inference_id from call where outcome_share <= {recipe.outcome.bad_share} and confidence_share >= {recipe.outcome.confidence_share} order by md5(inference_id) limit {FITTED}) as bad using (inference_id)) as said"""
        )
    # The evaluation prompts as they are now: later steps read nothing but `work`.
    if recipe.kind != "eval":
        con.execute("insert into work.held select row_number() over (order by dataset_version, example_id), word_hashes(text_words(turns_text(prompt))) from datasets.eval")


def schema(con: Any, recipe: Recipe, made: Made) -> None:
    """Roles in turn, arguments that parse, nothing empty."""
    _check(con, made, "schema", "select * from living")


def _check(con: Any, made: Made, stage: str, unchecked: str) -> None:
    con.execute(f"create or replace temp view unchecked as {unchecked}")
    _drop(con, made, stage, _sql("schema"))


def refusals(con: Any, recipe: Recipe, made: Made) -> None:
    """No refusals, nothing cut off, nothing held back by a filter; a bad answer of KTO may be any of these."""
    good = "coalesce(is_good, true)"
    _drop(con, made, "refusals", f"""select example_no, case
        when {good} and is_truncated(finish_reason) then 'truncated'
        when {good} and is_withheld(finish_reason) then 'held back by a filter'
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


def personal_data(con: Any, recipe: Recipe, made: Made) -> None:
    """A stand-in for each personal value: the same one all through a conversation. Then texts are taken apart, as they will be seen."""
    if recipe.gates.is_redacted:
        everything, objects = (f"concat_ws(' ', {', '.join([*messages, *OTHERS])})" for messages in (MESSAGES, [f"with_objects({m})" for m in MESSAGES]))
        con.execute(
            f"""create or replace temp table personal_hit as
            select conversation, example_no, hit.class as class, hit.value as value
            from (
                select conversation, example_no, unnest(personal_found(said)) as hit
                from (select conversation, example_no, apart({objects}) as said from living where may_be_personal({everything})) as suspect
            ) as found
            where hit.value <> ''"""
        )
        con.execute(
            """create or replace temp table personal as
            -- One value is of one class: the first in the order in which classes are looked for.
            select conversation, value, class, '[' || class || '_' || row_number() over (partition by conversation, class order by first_no, value) || ']' as stand_in
            from (
                select conversation, value, arg_min(class, list_position(['KEY', 'EMAIL', 'IBAN', 'CARD', 'IP', 'PHONE'], class)) as class, min(example_no) as first_no
                from personal_hit group by conversation, value
            ) as value"""
        )
        # To be counted when it is known what stays. What looks like a phone number inside an account number is replaced where it also stands alone, but not counted.
        con.execute(
            """insert into work.personal_count
            select distinct h.example_no, lower(p.class), md5(p.value) from personal_hit as h join personal as p using (conversation, value)
            where not exists (select 1 from personal as q where q.conversation = p.conversation and q.value <> p.value and contains(q.value, p.value))""")
        # One after the other, the longest first: a number inside an account is gone before it is looked for.
        con.execute(
            f"""insert into work.redaction
            select example_no, {", ".join([*(f"redacted_messages({m}, pairs)" for m in MESSAGES), *(f"redacted_json({o}, pairs)" for o in OTHERS)])}
            from living join (
                select conversation, list(value || chr(30) || stand_in order by length(value) desc, value) as pairs from personal group by conversation) as p using (conversation)"""
        )
        con.execute("drop table personal_hit; drop table personal")
        # What a stand-in has broken is not published.
        if con.execute("select exists (from redaction)").fetchall() == [(True,)]:
            _check(con, made, "redaction", "select * from clean where example_no in (select example_no from redaction)")
    con.execute(f"insert into work.words {WORDS.format('clean')}")


def exact_duplicates(con: Any, recipe: Recipe, made: Made) -> None:
    """Of examples equal but for case, space and punctuation the first stays."""
    _drop(con, made, "exact duplicates", """select example_no, case when row_number() over (partition by said, coalesce(is_good, true) order by example_no) > 1 then 'said before' end as reason
        from living join words using (example_no)""")


def near_duplicates(con: Any, recipe: Recipe, made: Made) -> None:
    """Of examples that are nearly the same the first stays; what is near to an evaluation example goes."""
    like = recipe.gates.near_duplicate_share
    texts = "select example_no as no, {} as word from words where example_no not in (select example_no from fate)"
    # A good answer and a bad one to a long prompt are nearly the same text, but say the opposite.
    labels = [f" and example_no in (select example_no from living where {of})" for of in ("is_good", "not is_good")] if recipe.kind == "kto" else [""]
    found = [near_pairs(con, texts.format("word") + label, like) for label in labels]
    a, b = (np.concatenate(side) for side in zip(*found, strict=True))
    con.execute(f"create or replace temp table repeated as {_numbers(con, first_of_each(a, b), 'nearly said before')}")
    reasons = "select * from repeated"
    if con.execute("select count(*) from held").fetchall() != [(0,)]:
        # Evaluation prompts have numbers below zero.
        a, b = near_pairs(con, f"{texts.format('word[:prompt_words]')} union all select -held_no, word from held", like)
        met = np.unique(b[(a < 0) & (b >= 0)])
        reasons = f"{_numbers(con, met, 'near an evaluation prompt')} union all select * from repeated where example_no not in (select example_no from numbered)"
    _drop(con, made, "near duplicates", reasons)


def benchmarks(con: Any, recipe: Recipe, made: Made) -> None:
    """Nothing that shares a run of 13 words with a benchmark, with stand-ins or without."""
    met: list[str] = []
    known, texts = [], "select example_no as no, word from words where example_no not in (select example_no from fate)"
    for n, url in enumerate(recipe.gates.benchmarks):
        con.execute(f"create or replace temp table benchmark_{n} as select no, said, word_hashes(text_words(said)) as word from ({_benchmark(con, url)}) as b")
        known.append(Benchmark(con, f"select no, word from benchmark_{n}"))
    found: list[list[np.ndarray]] = [[] for _ in known]
    as_said = WORDS.format("(select * from living where example_no in (select example_no from redaction))")
    for select in (texts, f"select example_no as no, word from ({as_said}) as s") if known else ():
        for batch in batches(con, select):
            for n, benchmark in enumerate(known):
                found[n].append(benchmark.met_in(*batch))
    for n, url in enumerate(recipe.gates.benchmarks):
        reason = "met in " + url.rsplit("/", 1)[-1]
        con.execute(f"create or replace temp table met_{n} as {_numbers(con, np.unique(np.concatenate([np.empty(0, np.int64), *found[n]])), reason)}")
        # A short question is a whole message or nothing.
        con.execute(f"""insert into met_{n} select distinct example_no, {literal(reason)} from (
            select example_no, unnest(list_concat(json_extract_string(prompt::json, '$[*].content'), json_extract_string(answer::json, '$[*].content'))) as content from living) as m
            where length(content) <= 300 and plain_text(content) in (select plain_text(said) from benchmark_{n} where len(word) between 4 and 7)
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


def toxic(con: Any, recipe: Recipe, made: Made) -> None:
    """What a list of words, or a function of the user's, says is not to be learnt from."""
    gate = recipe.gates.toxicity
    reasons = "select 0 as example_no, null as reason where false"
    if gate and gate.words:
        fs, path = fsspec.core.url_to_fs(gate.words)
        if not fs.exists(path):
            raise NotConfigured(f"there is no file of words at {gate.words}; the recipe's gates.toxicity.words names it")
        con.register("listed_words", pa.table({"line": fs.cat_file(path).decode().splitlines()}))
        con.execute("create or replace temp table phrase as select distinct plain_text(line) as phrase from listed_words where plain_text(line) <> ''")
        con.unregister("listed_words")
        # Letters and digits only, so that they can stand in a pattern as they are.
        [(listed,)] = con.execute("select string_agg(phrase, '|' order by phrase) from phrase").fetchall()
        if listed is None:
            raise NotConfigured(f"the file of words at {gate.words} is empty")
        reasons = f"select example_no, case when regexp_matches(' ' || plain_text({TEXT}) || ' ', {literal(f' (?:{listed}) ')}) then 'a word of the list' end as reason from living"
    elif gate:
        score = _callable(str(gate.scorer))
        gone = [np.empty(0, np.int64)]
        for batch in con.sql(f"select example_no, {TEXT} as said from living").to_arrow_reader(1_024):
            scores = np.asarray(score(batch.column(1).to_pylist()), float)
            if scores.shape != (batch.num_rows,):
                raise NotConfigured(f"{gate.scorer} was given {batch.num_rows} texts and returned {scores.shape} numbers; it must return one a text")
            gone.append(batch.column(0).to_numpy()[scores > gate.max_score])
        reasons = _numbers(con, np.concatenate(gone), "scored toxic")
    _drop(con, made, "toxicity", reasons)


def _callable(name: str) -> Any:
    """A function by `module:name`."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotConfigured(f"{name} is no function that can be imported as module:name ({error}); the recipe's gates.toxicity.scorer names it") from error


def budget(con: Any, recipe: Recipe, made: Made) -> None:
    """No more than the recipe asks for, the best outcomes first; ties by a hash, so that no day is favoured."""
    mix = recipe.mix
    shared = {"workload": mix.workload_shares, "difficulty": mix.difficulty_shares}
    share = " * ".join(f"case {name} {' '.join(f'when {literal(w)} then {float(s)}' for w, s in sorted(shares.items()))} else 0 end" for name, shares in shared.items() if shares) or "1"
    within = ", ".join(name for name, shares in shared.items() if shares)
    limits = [f"{total} > {limit} * {share}" for total, limit in (("tokens", mix.max_tokens), ("nth", mix.max_examples)) if limit is not None]
    if within:
        limits.append(f"{share} = 0")
    _drop(con, made, "budget", f"""select example_no, case when {' or '.join(limits) or 'false'} then 'beyond the budget' end as reason from (
        select example_no, workload, difficulty, sum(prompt_tokens + answer_tokens) over w as tokens, row_number() over w as nth from living
        window w as ({f"partition by {within}" if within else ""} order by outcome_share desc nulls last, md5(example_id) rows between unbounded preceding and current row)) as ordered""")


def splits(con: Any, recipe: Recipe, made: Made) -> None:
    """Groups first (conversation, like prompts, tenant), then time: what lies beyond its group's border is used nowhere."""
    con.execute("create or replace temp table place as select example_no, conversation, tenant, rejected_inference_id, row_number() over (order by example_no) - 1 as no from living")
    # Both calls of a pair tie it: the text of either is in it.
    con.execute("""create or replace temp view tied_call as select no, conversation, tenant from place
        union all select no, call.conversation, call.tenant from place join call on call.inference_id = place.rejected_inference_id""")
    (before,) = con.execute("select count(*) from place").fetchall()[0]
    con.execute("create or replace temp table prompt_word as select no, word[:prompt_words] as word from words join place using (example_no)")
    together = recipe.split.together
    ties = ["select no, 'prompt ' || hash(word) as tie from prompt_word"] if "near_duplicate" in together else []
    ties += ["select no, 'conversation ' || conversation as tie from tied_call"] if "conversation" in together else []
    ties += ["select no, 'tenant ' || tenant as tie from tied_call where tenant is not null"] if "tenant" in together else []
    tied = con.execute(f"select no, dense_rank() over (order by tie) - 1 as tie_no from ({' union all '.join(ties) or 'select 0 as no, null as tie where false'}) as t").fetchnumpy()
    # Of equal prompts one is compared.
    a, b = near_pairs(con, "select no, word from prompt_word where no in (select min(no) from prompt_word group by hash(word))", PROMPT_LIKE) if "near_duplicate" in together else (np.empty(0, np.int64),) * 2
    start = np.concatenate([np.asarray(tied["no"], np.int64), a])
    end = np.concatenate([before + np.asarray(tied["tie_no"], np.int64), b])
    size = before + int(np.max(tied["tie_no"], initial=-1)) + 1
    component = components(size, start, end)[:before] if before else []
    con.register("component_of", pa.table({"no": np.arange(before), "component": np.asarray(component, np.int64)}))
    test, validation = recipe.split.test_share, recipe.split.validation_share
    by_time = f"case when share <= {1 - test - validation} then 'train' when share <= {1 - test} then 'validation' else 'test' end"
    by_group = f"case when part_hash < {1 - test - validation} then 'train' when part_hash < {1 - test} then 'validation' else 'test' end"
    part = "'test'" if recipe.kind == "eval" else by_time if recipe.split.by == "time" else by_group
    con.execute(
        f"""create or replace temp table part as
        with grouped as (
            select e.example_no, first_value(e.example_id) over (partition by component order by e.example_no) as group_key, (no + 1) / {max(before, 1)} as share
            from living as e join place using (example_no) join component_of using (no)
        ),
        hashed as (select *, cast('0x' || left(md5(group_key), 8) as bigint) / 4294967296 as part_hash from grouped),
        part as (select *, {part} as part from hashed)
        select example_no, group_key, part as split, part = first_value(part) over (partition by group_key order by example_no) as stays from part"""
    )
    con.unregister("component_of")
    con.execute("insert into work.parted select example_no, group_key, split from part")
    _drop(con, made, "splits", "select example_no, 'group began in an earlier split' as reason from part where not stays")
    con.execute("drop view tied_call; drop table place; drop table prompt_word; drop table part")
    made.personal = dict(con.execute("select class, count(distinct value_md5) from personal_count join living using (example_no) group by class order by class").fetchall())


def labels(con: Any, recipe: Recipe, made: Made) -> None:
    """Doubts about labels, for a person to look at; drops nothing."""
    review(con, recipe.kind)
    _drop(con, made, "label review", "select 0 as example_no, null as reason where false")


STEPS = dict(zip(finetune.STEPS, (
    (rights, chosen), (schema, refusals, languages, lengths, toxic), (personal_data,), (exact_duplicates, near_duplicates), (benchmarks,), (budget,), (splits,), (labels,),
), strict=True))  # fmt: skip
"""The stages of each step."""
