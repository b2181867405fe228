"""Conversations of every dialect in one shape, warehouse/finetune/chat.sql, and in the shape of trainers: export.sql."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from pipelines.settings import ROOT

USER, CALL = {"role": "user", "content": "q"}, {"type": "function", "function": {"name": "n", "arguments": '{"x":1}'}}


def shaped(macro: str, said: Any, system: str | None = None) -> list[dict]:
    with duckdb.connect() as con:
        for name in ("chat", "export"):
            con.execute((ROOT / f"warehouse/finetune/{name}.sql").read_text())
        con.execute("create table t as select $1::varchar as said, $2::varchar as system", [said if isinstance(said, str) else json.dumps(said), system])
        return [json.loads(m) for m in con.execute(f"select {macro} from t").fetchall()[0][0]]


@pytest.mark.parametrize(("said", "expected"), [
    ("plain", [{"role": "user", "content": "plain"}]),
    ('"quoted"', [{"role": "user", "content": "quoted"}]),
    ([{"role": "developer", "content": "be"}, USER], [{"role": "system", "content": "be"}, USER]),
    ({"system": "be", "messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]}]}, [{"role": "system", "content": "be"}, USER]),
    ({"input": "q"}, [USER]),
    ([{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}], [{"role": "user", "content": "see\n<image>"}]),
    ([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]}, {"type": "text", "text": "q"}]}],
     [{"role": "tool", "tool_call_id": "t", "content": "42"}, USER]),
    ([{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}, {"type": "tool_use", "id": "t", "name": "n", "input": {"x": 1}}]}],
     [{"role": "assistant", "content": "so", "tool_calls": [CALL | {"id": "t"}]}]),
    ([{"role": "assistant", "parts": [{"type": "tool_call", "id": "t", "name": "n", "arguments": {"x": 1}}]}, {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t", "response": "ok"}]}],
     [{"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "t"}]}, {"role": "tool", "tool_call_id": "t", "content": "ok"}]),
    ([{"role": "user", "content": [{"text": "q"}]}, {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "n", "input": {"x": 1}}}]}],
     [USER, {"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "t"}]}]),
])  # fmt: skip
def test_requests(said: Any, expected: list[dict]) -> None:
    assert shaped("chat_prompt(said, system)", said) == expected


@pytest.mark.parametrize(("said", "expected"), [
    ("text", {"content": "text"}),
    ({"choices": [{"message": {"role": "assistant", "content": "first"}}, {"message": {"role": "assistant", "content": "second"}}]}, {"content": "first"}),
    ([{"type": "text", "text": "blocks"}], {"content": "blocks"}),
    ({"output": {"message": {"role": "assistant", "content": [{"text": "converse"}]}}}, {"content": "converse"}),
    ({"role": "assistant", "content": [{"type": "text", "text": "so"}, {"type": "tool_use", "id": "t", "name": "n", "input": {"x": 1}}]}, {"content": "so", "tool_calls": [CALL | {"id": "t"}]}),
    ({"output": [{"type": "reasoning"}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}, {"type": "function_call", "call_id": "t", "name": "n", "arguments": '{"x": 1}'}]},
     {"content": "so", "tool_calls": [CALL | {"id": "t"}]}),
    ([{"role": "assistant", "parts": [{"type": "text", "content": "parts"}], "finish_reason": "stop"}], {"content": "parts"}),
])  # fmt: skip
def test_answers(said: Any, expected: dict) -> None:
    [message] = shaped("joined_answer(answered) from (select chat_answer(said) as answered from t) --", said)
    assert message == {"role": "assistant"} | expected


def test_what_is_null_in_arguments_and_schemas_stays() -> None:
    arguments = {"city": "Paris", "unit": None, "n": {"a": None, "b": [None]}}
    said = [{"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "t", "function": {"name": "n", "arguments": json.dumps(arguments, separators=(",", ":"))}}]}, USER]
    assert shaped("json_extract(with_objects(said), '$[*]')", said) == [said[0] | {"tool_calls": [CALL | {"id": "t", "function": {"name": "n", "arguments": arguments}}]}, USER]
    assert shaped("json_extract(with_texts(with_objects(said)), '$[*]')", said) == said
    schema = {"type": "object", "properties": {"x": {"type": ["string", "null"], "default": None}}}
    tools = [{"type": "function", "function": {"name": "n", "parameters": schema}}]
    assert shaped("json_extract(chat_tools(said), '$[*]')", tools) == tools
    assert shaped("json_extract(chat_tools(said), '$[*]')", [{"name": "n", "description": "d", "input_schema": schema}]) == [{"type": "function", "function": {"name": "n", "description": "d", "parameters": schema}}]


def test_a_system_prompt_kept_apart_comes_first() -> None:
    assert shaped("chat_prompt(said, system)", [USER], '[{"type": "text", "content": "be"}]') == [{"role": "system", "content": "be"}, USER]


CALLS = {"role": "assistant", "content": "Both.", "tool_calls": [CALL | {"id": "a"}, CALL | {"id": "b"}]}
ONE = {"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "t"}]}
A, B, T = ({"role": "tool", "tool_call_id": id, "content": said} for id, said in (("a", "20"), ("b", '{"x": "\n"}'), ("t", "42")))
SYSTEM, OK = {"role": "system", "content": "be"}, {"role": "assistant", "content": "ok"}
ASKED, CALLED = ("human", "q"), ("function_call", '{"name":"n","arguments":{"x":1}}')
BOTH = ("function_call", f"[{CALLED[1]},{CALLED[1]}]")
RESULTS = ("observation", json.dumps([A["content"], B["content"]], separators=(",", ":")))


@pytest.mark.parametrize(("said", "turns", "is_alternating", "lost"), [
    ([SYSTEM, USER], [ASKED], True, 0),
    ([USER, ONE, T], [ASKED, CALLED, ("observation", "42")], True, 0),
    # Results in the order of the calls, whatever order they came in.
    ([USER, CALLS, A, B, OK, USER], [ASKED, BOTH, RESULTS, ("gpt", "ok"), ASKED], True, 1),
    ([USER, CALLS, B, A], [ASKED, BOTH, RESULTS], True, 1),
    ([USER, CALLS, {"role": "tool", "content": "z"}, {"role": "tool", "content": "a"}], [ASKED, BOTH, ("observation", '["z","a"]')], True, 1),
    # A person who speaks after a tool, an assistant who begins.
    ([USER, ONE, T, USER], [ASKED, CALLED, ("observation", "42"), ASKED], False, 0),
    ([SYSTEM, OK, USER], [("gpt", "ok"), ASKED], False, 0),
])  # fmt: skip
def test_turns_of_sharegpt(said: list[dict], turns: list[tuple], is_alternating: bool, lost: int) -> None:
    assert [(m["from"], m["value"]) for m in shaped("json_extract(sharegpt(said), '$[*]')", said)] == turns
    assert shaped("[alternates(said)::json, texts_beside_calls(said)::json]", said) == [is_alternating, lost]
