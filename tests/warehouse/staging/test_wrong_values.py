"""Whatever stands where a value is expected, a file of lines is read to its end and every line gives a row."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.otlp import log, span, traces
from tests.support.staging import stage

WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    1e300,
    10**17,
    10**19,
    "",
    "x",
    "{",
    "[1",
    "null",
    "NaN",
    "1e308",
    "99999999999",
    "2026-13-45T99:99:99Z",
    "2026-11-20T09:00:01+99:00",
    "ffffffff-ffff-7fff-8000-00000000007b",
    "'\";--\u0000",
    [],
    {},
    [None],
    {"": 1},
    {"a/b~c": [{}]},
]

SPEND = {
    "request_id": "r",
    "call_type": "acompletion",
    "spend": 0.1,
    "total_tokens": 3,
    "prompt_tokens": 2,
    "completion_tokens": 1,
    "startTime": "2026-11-20",
    "endTime": "2026-11-20",
    "request_duration_ms": 5,
    "request_tags": [],
    "response": {"choices": []},
    "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 1}}, "cost_breakdown": {"service_tier": "batch"}},
}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.output.messages": "[{]",
    "gen_ai.usage.cost": 0.1,
    "gen_ai.response.time_to_first_chunk": 0.5,
    "llm.input_messages.0.message.role": "user",
    "gen_ai.response.finish_reasons": ["stop"],
}
SPANS = traces(span(CHAT, events=(("exception", {"exception.type": "E"}),)))
CONTENT = log(
    "gen_ai.client.inference.operation.details", {"gen_ai.output.messages": [{"role": "user", "parts": [{"content": "x"}]}]}
)
EVALUATION = log("gen_ai.evaluation.result", {"gen_ai.evaluation.score.value": 0.5, "gen_ai.response.id": "r"})
OBSERVATION = {
    "id": "o",
    "trace_id": "t",
    "type": "GENERATION",
    "start_time": "2026-11-20",
    "end_time": "2026-11-20",
    "time_to_first_token": 0.5,
    "usage_details": {"input": 3, "output": 1, "total": 4},
    "cost_details": {"total": 0.1},
    "total_cost": 0.1,
    "metadata": {"tenant": "a"},
    "model_parameters": {"stream": True},
    "tool_calls": [],
    "level": "ERROR",
    "status_message": "Error",
}
SCORE = {"id": "s", "trace_id": "t", "name": "n", "value": 1, "data_type": "BOOLEAN", "source": "API", "timestamp": "2026-11-20"}
INFERENCE = {
    "id": "i",
    "function_name": "f",
    "variant_name": "v",
    "episode_id": "e",
    "timestamp": "2026-11-20",
    "tags": {"user_id": "u"},
}
MODEL = {
    "id": "0199f0a1-0ae0-7000-8000-00000000007b",
    "inference_id": "i",
    "model_name": "m",
    "model_provider_name": "p",
    "input_tokens": 3,
    "output_tokens": 1,
    "cost": "0.1",
    "response_time_ms": 5,
    "ttft_ms": 1,
    "output": "[]",
}
METRIC = {"id": "k", "target_id": "i", "metric_name": "n", "value": 0.5, "tags": {}, "timestamp": "2026-11-20"}

EXAMPLES = {
    ("inference", "litellm_spend"): [SPEND],
    ("inference", "otel"): [SPANS, CONTENT],
    ("feedback", "otel"): [SPANS, EVALUATION],
    ("inference", "langfuse"): [
        OBSERVATION,
        {"trace": {"id": "t"}, "observations": [OBSERVATION]},
        {"batch": [{"type": "x", "body": {}}]},
        {
            "batch": [
                {"type": "generation-create", "timestamp": "2026-11-20T09:00:01Z", "body": {"id": "b", "startTime": "2026-11-20"}},
                {"type": "generation-update", "timestamp": "2026-11-20T09:00:02Z", "body": {"id": "b", "usage": {"input": 1}}},
            ]
        },
    ],
    ("feedback", "langfuse"): [SCORE, {"trace": {"scores": [SCORE]}}, {"data": [SCORE]}],
    ("inference", "tensorzero"): [INFERENCE, MODEL],
    ("feedback", "tensorzero"): [INFERENCE, MODEL, METRIC],
}


def places(node: object, path: tuple = ()) -> Iterator[tuple]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def with_value(line: dict, path: tuple, value: object) -> dict:
    changed = copy.deepcopy(line)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize(("table", "format"), EXAMPLES)
def test_every_wrong_value_in_every_place(table: str, format: str) -> None:
    lines = [
        json.dumps(with_value(line, path, wrong)) for line in EXAMPLES[table, format] for path in places(line) for wrong in WRONG
    ]
    assert {row["landing_row"] for row in stage(table, format, lines)} == set(range(1, len(lines) + 1))
