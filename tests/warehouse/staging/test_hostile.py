"""Whatever stands where a value belongs, a staging select gives every line its row and never fails the file."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import pytest

from tests.support.staging import stage
from tests.warehouse.staging.feedback.test_feedback import SIGNAL
from tests.warehouse.staging.feedback.test_helicone_feedback import EXPORT as RATED
from tests.warehouse.staging.inference.test_anthropic import MESSAGE
from tests.warehouse.staging.inference.test_anthropic import PAIR as ANTHROPIC
from tests.warehouse.staging.inference.test_bedrock import LOG
from tests.warehouse.staging.inference.test_helicone import EXPORT
from tests.warehouse.staging.inference.test_openai import CHUNKS, EVENTS, PAIR, RESPONSE

EXAMPLES = {
    ("inference", "openai"): [
        PAIR | {"latency_ms": 5, "ttft_ms": 3, "cost_usd": 1, "updated_at": 3},
        RESPONSE,
        PAIR | {"response": CHUNKS},
        PAIR | {"response": EVENTS},
        {"id": "a", "custom_id": "b", "response": {"status_code": 200, "body": RESPONSE}, "error": None},
    ],
    ("inference", "anthropic"): [ANTHROPIC, {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGE}}],
    ("inference", "bedrock"): [LOG],
    ("inference", "helicone"): [EXPORT],
    ("feedback", "feedback"): [SIGNAL | {"rater": {"kind": "user", "id": 1}, "updated_at": 1, "correction": "x"}],
    ("feedback", "helicone"): [RATED | {"scores": {"a": 1, "b": {"value": 2}}}],
}
HOSTILE = [
    None, True, False, 0, -1, 1e308, 10**40, "", "null", "NaN", "inf", "1e300", "infinity", "9" * 30, "99999-01-01T00:00:00Z",
    "294247-01-01", "0001-01-01", "2026-13-45", [], {}, [[]], [{}], {"a": {}}, "{", "[1", '{"a":1}', "x" * 1000, "\x00", "a\nb",
    1e-320, [None], {"": 1}, "0x10", "999999999999999999", "12345678901234567890",
]  # fmt: skip


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*path, key)
        yield from places(part, (*path, key))


def spoilt(line: dict, chance: random.Random) -> dict:
    """The line with one to three of its values replaced."""
    line = copy.deepcopy(line)
    for _ in range(chance.choice([1, 1, 2, 3])):
        *way, last = chance.choice(list(places(line)))
        part = line
        for key in way:
            part = part[key]
        part[last] = copy.deepcopy(chance.choice(HOSTILE))
    return line


@pytest.mark.parametrize(("table", "format"), EXAMPLES)
def test_no_value_breaks_the_file(table, format):
    chance = random.Random(7)
    lines = [spoilt(chance.choice(EXAMPLES[table, format]), chance) for _ in range(400)]
    rows = stage(table, format, lines)
    if (table, format) == ("feedback", "helicone"):
        assert {row["landing_row"] for row in rows} == set(range(1, len(lines) + 1))
    else:
        assert len(rows) == len(lines)
