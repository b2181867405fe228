"""OpenAI's published rules for fine-tuning files (supervised chat and direct preference), as a check of lines. Says what is wrong, line by line."""

from __future__ import annotations

import json
import re
from typing import Any

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
KEYS = {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "weight", "refusal"}


def broken_rules(lines: list[str]) -> list[str]:
    """What is wrong, with its line; empty for a file that may be uploaded."""
    found = []
    for n, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            found.append(f"line {n}: no JSON")
            continue
        found += [f"line {n}: {broken}" for broken in (_preference(row) if "input" in row else _chat(row))]
    return found if lines else ["no examples"]


def _chat(row: dict[str, Any]) -> list[str]:
    found = _messages(row.get("messages"), row.get("tools"))
    assistants = [m for m in row.get("messages") or [] if m.get("role") == "assistant"]
    if not assistants:
        found.append("no assistant message")
    if any(m.get("weight") not in (None, 0, 1) for m in assistants) or any("weight" in m for m in row.get("messages") or [] if m.get("role") != "assistant"):
        found.append("weight is 0 or 1, on assistant messages only")
    if assistants and all(m.get("weight") == 0 for m in assistants):
        found.append("nothing to train on")
    return found + [f"unknown key {key}" for key in row.keys() - {"messages", "tools", "parallel_tool_calls"}]


def _preference(row: dict[str, Any]) -> list[str]:
    given = row.get("input") or {}
    found = _messages(given.get("messages"), given.get("tools")) + [f"unknown key {key}" for key in row.keys() - {"input", "preferred_output", "non_preferred_output"}]
    if (given.get("messages") or [{}])[-1].get("role") == "assistant":
        found.append("input ends with the assistant")
    for side in ("preferred_output", "non_preferred_output"):
        said = row.get(side)
        if not isinstance(said, list) or not said or said[-1].get("role") != "assistant" or any(m.get("role") not in ("assistant", "tool") for m in said):
            found.append(f"{side} is a list that ends with the assistant")
        else:
            found += _messages(said, given.get("tools"))
    return found


def _messages(messages: Any, tools: Any) -> list[str]:
    if not isinstance(messages, list) or not messages:
        return ["no messages"]
    found, open_calls = [], set()
    for m in messages:
        found += [f"unknown key {key} in a message" for key in m.keys() - KEYS]
        if m.get("role") not in ROLES:
            found.append(f"unknown role {m.get('role')}")
        if not isinstance(m.get("content"), str | list) and not m.get("tool_calls"):
            found.append("a message with neither content nor tool calls")
        for call in m.get("tool_calls") or []:
            function = call.get("function") or {}
            if call.get("type") != "function" or not call.get("id") or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", function.get("name") or ""):
                found.append("a tool call has an id, type function, and a name of letters, digits, _ and -")
            if not isinstance(function.get("arguments"), str) or not _is_json(function["arguments"]):
                found.append("arguments are JSON text")
            if function.get("name") not in {(t.get("function") or {}).get("name") for t in tools or []}:
                found.append(f"a call of {function.get('name')}, which is not among the tools")
            open_calls.add(call.get("id"))
        if m.get("role") == "tool" and m.get("tool_call_id") not in open_calls:
            found.append("a tool message that answers no call")
    return found


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
