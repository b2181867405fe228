"""Requests in → what was asked and what can be counted of it, through the real select."""

from __future__ import annotations

import json
from typing import Any

from tests.support.outcomebook import at, build, connection, put

TABLE = "marts.prompt"


def asked(**requests: Any) -> dict[str, tuple]:
    """By call: (prompt, message_count, prompt_character_count, prompt_word_count, has_code)."""
    con = read(requests)
    return {id: told for id, *told in con.execute(f"select inference_id, prompt, message_count, prompt_character_count, prompt_word_count, has_code from {TABLE}").fetchall()}


def read(requests: dict[str, Any], tools: str | None = None):
    con = connection()
    put(con, "core.inference", [{"inference_id": id, "started_at": at("09:00:00")} for id in requests])
    put(con, "core.inference_content", [
        {"inference_id": id, "started_at": at("09:00:00"), "input_messages": said if said is None or isinstance(said, str) else json.dumps(said), "tool_definitions": tools}
        for id, said in requests.items()
    ])  # fmt: skip
    return build(con, (TABLE,))


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]


def test_the_last_thing_the_user_said_is_the_prompt() -> None:
    found = asked(one=turns("Where is it?", "There.", "Where is Where?"), code=turns("Fix this:\ndef f(): pass"), bare="just text", none=None, system=[{"role": "system", "content": "Be kind."}])
    assert found == {
        "one": ["Where is Where?", 3, 15, 2, False], "code": ["Fix this:\ndef f(): pass", 1, 23, 5, True], "bare": ["just text", None, 9, 2, False],
        "none": [None, None, None, None, None], "system": [None, 1, None, None, None],
    }  # fmt: skip


def test_one_key_for_what_is_asked_in_the_same_words() -> None:
    same, spaced = turns("Where is it?", "There.", "Where?"), turns("where  is it?", "There.", " WHERE?")
    con = read({"a": same, "b": spaced, "c": turns("Where?"), "d": [{"role": "system", "content": "Be kind."}, *same]})
    key = dict(con.execute(f"select inference_id, prompt_key from {TABLE}").fetchall())
    assert key["a"] == key["b"] == key["d"] != key["c"]


def test_what_is_no_json_is_no_error() -> None:
    con = read({"torn": '[{"role": "user", "content": "hel', "number": "17"}, tools="[{]")
    assert con.execute(f"select inference_id, message_count, tool_definition_count from {TABLE} order by 1").fetchall() == [("number", None, None), ("torn", None, None)]
