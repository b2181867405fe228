"""A dataset's versions in a real warehouse, and their exports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.errors import NotConfigured, StopTheLine
from pipelines.export.finetune import export_dataset
from pipelines.finetune import STEPS, stages
from pipelines.finetune.recipe import load
from pipelines.finetune.versions import build_dataset, difference, task_publish, task_step
from pipelines.lake import Lake
from pipelines.settings import ROOT
from tests.support.finetune import recipe, said, stored
from tests.support.lakehouse import ask, crash_at, started
from tests.support.marts import DAY
from tests.support.openai_rules import broken_rules

TOOLS = json.dumps([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}])
TOOL_CALL = [{"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]}]
CALLS = [
    *(said(f"c{n:02}", f"question {n}?", f'answer {n} "quoted"\nand on') for n in range(20)),
    said("tool", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "go"}], TOOL_CALL, tools=TOOLS),
    said("p1", "same?", "yes"), said("p2", "same?", "no", good=0.1),
]  # fmt: skip
SPLIT = {"split": {"by": "group", "test_share": 0.2}}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"recipe: \xff", "can't decode byte"), (b"a: " + b"[" * 2_000, "recursion"), (b"a: &a [1]\nb: [*a, *a]", r"an alias \(\*name\) stands in it"),
        (b"&a [*a]", "an alias"), (b"#" * 2**17, "larger than 65,536 bytes"), (b"recipe: " + b"9" * 5_000, "digits"), (b"calls: {from_day: 2026-99-99}", "month"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe_is_said_so(tmp_path: Path, raw: bytes, says: str) -> None:
    (tmp_path / "x.yml").write_bytes(raw)
    with pytest.raises(NotConfigured, match=f"no valid recipe: .*{says}"):
        load(str(tmp_path / "x.yml"))


def crashed_build(settings, n: int, after: bool) -> None:
    crash_at(n, after=after)
    build_dataset(settings, recipe(**SPLIT))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    """A warehouse that tests only add versions to."""
    return stored(tmp_path_factory.mktemp("datasets") / "home", CALLS)


def test_the_same_inputs_are_the_same_version_and_a_change_is_another(home) -> None:
    settings = home
    first, second = build_dataset(settings, recipe(**SPLIT)), build_dataset(settings, recipe(**SPLIT))
    assert (first.is_new, second.is_new, first.dataset_version) == (True, False, second.dataset_version)
    assert sum(first.counts.values()) == 22
    assert ask(settings, f"select count(*) from datasets.sft where dataset_version = '{first.dataset_version}'") == [(22,)]
    assert ask(settings, f"select count(*) from datasets.version where dataset_version = '{first.dataset_version}'") == [(1,)]
    other = build_dataset(settings, recipe(mix={"max_examples": 10}, **SPLIT))
    assert difference(settings, first.dataset_version, other.dataset_version) == {
        "added": 0, "removed": 12, "changed": 0, "moved to another split": 0, "the same": 10, "differs in": "recipe_sha256"}  # fmt: skip
    with pytest.raises(StopTheLine, match="no consent known"):
        build_dataset(settings, recipe(rights={"consent": "required"}))


@pytest.mark.parametrize(("n", "after"), [(1, True)])
def test_a_crash_leaves_no_half_version(tmp_path: Path, home, n: int, after: bool) -> None:
    settings = stored(tmp_path / "home", CALLS)
    with started(crashed_build, settings, n, after) as process:
        process.join()
        assert process.exitcode < 0
    version = build_dataset(settings, recipe(**SPLIT)).dataset_version
    assert version == build_dataset(home, recipe(**SPLIT)).dataset_version
    assert ask(settings, "select count(*), count(distinct example_id) from datasets.sft") == [(22, 22)]
    assert ask(settings, "select count(*) from datasets.version") == [(1,)]
    [(last, kept)] = ask(settings, "select count(*), arg_max(kept_count, stage_number) from datasets.funnel")
    assert (last, kept) == (14, 22)


def killed_in(settings, asked: str, step: str) -> None:
    """Ends without a word when a step's work is done and not yet kept."""
    stages.STEPS[step] += (lambda *_: os.kill(os.getpid(), signal.SIGKILL),)
    task_step(settings, asked, DAY, step)


def test_a_step_that_is_killed_leaves_nothing_and_the_next_try_goes_on(tmp_path: Path, home) -> None:
    settings, asked, told = stored(tmp_path / "home", CALLS), str(tmp_path / "drawn.yml"), []
    Path(asked).write_text(recipe(**SPLIT).model_dump_json())
    for step in STEPS:
        with started(killed_in, settings, asked, step) as process:
            process.join()
            assert process.exitcode == -signal.SIGKILL
        assert not Lake(settings).exists("datasets.version")
        first = task_step(settings, asked, DAY, step)
        assert task_step(settings, asked, DAY, step) == first
        told += first
    version = task_publish(settings, asked, DAY).dataset_version
    assert version == build_dataset(home, recipe(**SPLIT)).dataset_version
    assert ask(settings, "select stage, kept_count from datasets.funnel order by stage_number") == [(s["stage"], s["kept_count"]) for s in told]
    assert [p for p in settings.scratch.rglob("*") if p.is_file() and "core." not in p.name] == []
    with pytest.raises(StopTheLine, match="comes after"):
        task_step(settings, asked, DAY, STEPS[-1])


def test_other_threads_and_another_hash_seed_give_the_same_bytes(tmp_path: Path, home) -> None:
    version = build_dataset(home, recipe(**SPLIT)).dataset_version
    export_dataset(home, version, "trl", str(tmp_path / "one"))
    settings = stored(tmp_path / "home", CALLS)
    code = f"""
from pathlib import Path
from pipelines.export.finetune import export_dataset
from pipelines.finetune.versions import build_dataset
from pipelines.settings import Settings
from tests.support.finetune import recipe
settings = Settings(home=Path({str(settings.home)!r}), memory_limit='500MB', threads=1)
export_dataset(settings, build_dataset(settings, recipe(**{SPLIT!r})).dataset_version, 'trl', {str(tmp_path / 'two')!r})"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)})
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def exported(settings, version: str, format: str, to: Path) -> list[dict]:
    export_dataset(settings, version, format, str(to), training_usd_per_mtok=3)
    return [json.loads(line) for path in sorted(to.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_exports_have_the_shape_each_trainer_reads(tmp_path: Path, home) -> None:
    settings = home
    sft, pairs = build_dataset(settings, recipe(**SPLIT)).dataset_version, build_dataset(settings, recipe("preference", **SPLIT)).dataset_version
    kto = build_dataset(settings, recipe("kto", **SPLIT)).dataset_version
    user = [{"role": "user", "content": "question 0?"}]
    answer = {"role": "assistant", "content": 'answer 0 "quoted"\nand on'}
    [row] = [r for r in exported(settings, sft, "trl", tmp_path / "trl") if r["prompt"] == user]
    assert row == {"prompt": user, "completion": [answer]}
    tool = next(r for r in exported(settings, sft, "openai", tmp_path / "openai") if "tools" in r)
    assert tool["messages"][-1]["tool_calls"][0]["function"]["arguments"] == '{"a":1}' and tool["messages"][-1]["weight"] == 1 and tool["tools"] == json.loads(TOOLS)
    tool = next(r for r in exported(settings, sft, "nemo", tmp_path / "nemo") if "tools" in r)
    assert tool["messages"][-1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    turns = next(r for r in exported(settings, sft, "llamafactory", tmp_path / "lf") if r["system"])
    assert turns["conversations"] == [{"from": "human", "value": "go"}, {"from": "function_call", "value": '{"name":"f","arguments":{"a":1}}'}] and turns["system"] == "Be brief."
    assert set(json.loads((tmp_path / "lf/dataset_info.json").read_text())) == {f"{sft}_{p.stem}" for p in (tmp_path / "lf").glob("*.jsonl")}
    same = [{"role": "user", "content": "same?"}]
    yes, no = ({"role": "assistant", "content": text} for text in ("yes", "no"))
    assert exported(settings, pairs, "trl", tmp_path / "dpo") == [{"prompt": same, "chosen": [yes], "rejected": [no]}]
    assert exported(settings, pairs, "axolotl", tmp_path / "ax") == [{"messages": same, "chosen": yes, "rejected": no}]
    assert exported(settings, pairs, "openai", tmp_path / "odpo") == [{"input": {"messages": same}, "preferred_output": [yes], "non_preferred_output": [no]}]
    assert {r["label"] for r in exported(settings, kto, "trl", tmp_path / "kto")} == {True, False}
    assert all(set(r) >= {"conversations", "kto_tag"} for r in exported(settings, kto, "llamafactory", tmp_path / "lk"))
    with pytest.raises(NotConfigured, match="there are"):
        export_dataset(settings, kto, "nemo", str(tmp_path / "no"))


ODD, EVEN = ("human", "observation"), ("gpt", "function_call")


def is_read(row: dict) -> bool:
    """Whether LLaMA-Factory's SharegptDatasetConverter takes the example."""
    turns, is_pair = [turn["from"] for turn in row["conversations"]], "chosen" in row
    in_turn = all(role in (ODD, EVEN)[n % 2] for n, role in enumerate(turns)) and len(turns) % 2 == is_pair
    return in_turn and (not is_pair or {row["chosen"]["from"], row["rejected"]["from"]} <= set(EVEN))


def test_what_a_trainer_would_skip_or_misread_is_left_out_and_counted(tmp_path: Path) -> None:
    def calls(text: str, *ids: str) -> dict:
        return {"role": "assistant", "content": text, "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": f'{{"of":"{id}"}}'}} for id in ids]}

    def text(role: str, said: str, **of: str) -> dict:
        return {"role": role, "content": said} | of

    user, results = text("user", "Which of the two?"), [text("tool", f"result {id}", tool_call_id=id) for id in "ab"]
    drawn = [  # name, prompt, good answer, bad answer
        ("deep", [text("system", "Be brief."), user, calls("Let me see.", "a", "b"), *results, text("assistant", "So."), text("user", "And now?")], "yes", "I do not know"),
        ("results", [user, calls("", "a", "b"), *results], "the first", "neither"),
        ("after", [user, calls("", "a"), results[0], text("user", "Go on.")], "yes", "no"),
        ("greeted", [text("assistant", "Hello."), text("user", "Hi there.")], "How can I help?", "What?"),
        ("calls", [text("user", "Call it.")], [calls("At once.", "c")], "I would rather not"),
        ("beside", [text("user", "Call the other.")], [calls("At once.", "c")], [calls("", "c")]),
        ("needless", [text("user", "Say something.")], "something", [calls("", "c")]),
        ("plain", [text("user", "What is a flywheel?")], "A wheel.", "A bird."),
    ]  # fmt: skip
    settings = stored(tmp_path / "home", [said(name + side, prompt, answer, good=good, tools=TOOLS) for name, prompt, *answers in drawn
                                          for side, answer, good in zip("+-", answers, (0.9, 0.1), strict=True)])  # fmt: skip
    versions = {kind: build_dataset(settings, recipe(kind, gates={"near_duplicate_share": 1.0}, **SPLIT)).dataset_version for kind in ("sft", "kto", "preference")}
    for kind, left_out, lost, rows in (
        ("sft", {"turns do not alternate": 2}, 3, 6),
        ("kto", {"turns do not alternate": 4}, 4, 12),
        ("preference", {"the same answer but for ids and text beside tool calls": 1, "turns do not alternate": 2}, 2, 5),
    ):
        to = tmp_path / kind
        done = export_dataset(settings, versions[kind], "llamafactory", str(to))
        found = [json.loads(line) for path in to.glob("*.jsonl") for line in path.read_text().splitlines()]
        assert len(found) == sum(done.rows.values()) == rows and all(is_read(row) for row in found)
        manifest = json.loads((to / "manifest.json").read_text())
        assert (manifest["left_out"], manifest["lost_texts"], sum(manifest["rows"].values())) == (left_out, lost, rows)
        card = (to / "README.md").read_text()
        assert all(f"{reason} {n}" in card for reason, n in left_out.items()) and f"texts beside tool calls lost: {lost}" in card and "turns do not alternate" in str(done)
    # Axolotl's chat_template.default reads role and content only.
    assert {row["chosen"]["content"] for row in exported(settings, versions["preference"], "axolotl", tmp_path / "axolotl")} == {"How can I help?", "A wheel."}
    for format in ("trl", "openai"):
        assert len(exported(settings, versions["preference"], format, tmp_path / format)) == len(drawn)
    assert not [b for f in (tmp_path / "openai").glob("*.jsonl") for b in broken_rules(f.read_text().splitlines())]
    only = stored(tmp_path / "only", [said("a", "go", TOOL_CALL, tools=TOOLS), said("b", "go", "no", good=0.1, tools=TOOLS)])
    with pytest.raises(NotConfigured, match="has tool calls 1"):
        export_dataset(only, build_dataset(only, recipe("preference", **SPLIT)).dataset_version, "axolotl", str(tmp_path / "none"))


def test_a_tool_call_of_the_worse_answer_alone_is_in_every_file_of_parquet(tmp_path: Path) -> None:
    calls = [said(f"{side}{n:02}", f"question {n} of {n * 7919}?", answer, good=good) for n in range(12)
             for side, answer, good in (("g", f"answer {n}", 0.9), ("w", TOOL_CALL if n == 0 else f"bad {n}", 0.1))]  # fmt: skip
    settings = stored(tmp_path / "home", calls)
    export_dataset(settings, build_dataset(settings, recipe("preference", split={"by": "group", "test_share": 0.5})).dataset_version, "trl_parquet", str(tmp_path / "out"))
    files = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert len(files) > 1 and all(file.schema == files[0].schema for file in files)
    called = [m["tool_calls"][0]["function"] for file in files for [m] in file.column("rejected").to_pylist() if m["tool_calls"]]
    assert called == [{"name": "f", "arguments": '{"a":1}'}]


def test_what_is_null_in_arguments_is_null_in_every_format(tmp_path: Path) -> None:
    arguments = {"city": "Paris", "unit": None, "n": {"a": None, "id": 4111111111111111}}
    answer = json.loads(json.dumps(TOOL_CALL).replace(json.dumps('{"a": 1}'), json.dumps(json.dumps(arguments))))
    settings = stored(tmp_path / "home", [said("a", "go", answer, tools=TOOLS)])
    version = build_dataset(settings, recipe(**SPLIT)).dataset_version
    arguments["n"]["id"] = "[CARD_1]"
    for format, turns in (("trl", "completion"), ("nemo", "messages"), ("axolotl", "messages"), ("openai", "messages")):
        [row] = exported(settings, version, format, tmp_path / format)
        said_so = row[turns][-1]["tool_calls"][0]["function"]["arguments"]
        assert (json.loads(said_so) if format == "openai" else said_so) == arguments
    [row] = exported(settings, version, "llamafactory", tmp_path / "llamafactory")
    assert json.loads(row["conversations"][-1]["value"])["arguments"] == arguments
    export_dataset(settings, version, "trl_parquet", str(tmp_path / "trl_parquet"))


def test_a_version_that_holds_what_is_no_json_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_was(con, *_) -> None:
        con.execute("insert into work.redaction select example_no, prompt, replace(answer, ':1}', ':[CARD_1]}'), rejected, tools, images from example")

    monkeypatch.setitem(stages.STEPS, "redact", (*stages.STEPS["redact"], as_it_was))
    settings = stored(tmp_path / "home", [said("a", "go", TOOL_CALL)])
    version = build_dataset(settings, recipe(**SPLIT)).dataset_version
    with pytest.raises(NotConfigured, match="holds 1 examples whose messages or tool arguments are no JSON"):
        export_dataset(settings, version, "trl", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["trl_parquet", "llamafactory"])
def test_the_same_version_gives_the_same_bytes(tmp_path: Path, home, format: str) -> None:
    settings = home
    version = build_dataset(settings, recipe(**SPLIT)).dataset_version
    for name in ("a", "b"):
        export_dataset(settings, version, format, str(tmp_path / name))
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert "manifest.json" in files and "README.md" in files and "croissant.json" in files
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_what_is_held_out_is_in_no_training_set_built_later(tmp_path: Path) -> None:
    settings = stored(tmp_path / "home", [said(f"c{n:02}", f"question {n} of {n * 7919}?", f"answer {n}", session_id=f"s{n // 2}", good=0.9 if n % 3 else 0.1) for n in range(60)])
    held = build_dataset(settings, recipe("eval", recipe="held", eval_share=0.3))
    assert set(held.counts.items()) >= {("train", 0), ("validation", 0)} and held.counts["test"] > 3
    for kind in ("sft", "kto", "preference"):
        try:
            build_dataset(settings, recipe(kind, recipe=f"set_{kind}", **SPLIT))
        except StopTheLine:
            assert kind == "preference"
    conversation = "left(inference_id, 1) || (substr(inference_id, 2)::int // 2)"
    for kind in ("sft", "kto"):
        assert ask(settings, f"select count(*) from datasets.{kind} where {conversation} in (select {conversation} from datasets.eval)") == [(0,)]
        assert ask(settings, f"select count(*) > 10 from datasets.{kind}") == [(True,)]
    # Built again, the same conversations are held out.
    assert build_dataset(settings, recipe("eval", recipe="held", eval_share=0.3)).dataset_version == held.dataset_version


def test_openai_exports_keep_to_the_published_rules(tmp_path: Path, home) -> None:
    for kind in ("sft", "preference"):
        version = build_dataset(home, recipe(kind, **SPLIT)).dataset_version
        export_dataset(home, version, "openai", str(tmp_path / kind))
        files = sorted((tmp_path / kind).glob("*.jsonl"))
        assert files and not [b for f in files for b in broken_rules(f.read_text().splitlines())]
    assert broken_rules(['{"messages":[{"role":"user","content":"x"}]}']) == ["line 1: no assistant message"]
