"""Does warehouse/staging/usage.sql read real usage bodies as genai-prices reads them?

The key (`logs/usage_bodies/usages.json.gz` of the shared data) holds real bodies and, for each, what the extractors of every
provider whose shape fits would read. Their input and output are wholes, the rest are parts of them; ours are disjoint, so each
answer is turned into our classes first. Of several answers the one of the provider that really served the call counts.

    python tests/benchmarks/token_answer_key.py [usages.json.gz]
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", ROOT.parent / "shared" / "data"))
KEY = SHARED / "logs" / "usage_bodies" / "usages.json.gz"

# Which provider's reading is the right one: the first pattern found in the body's keys, file and model, then the first of its
# flavours among the answers. All others speak OpenAI's dialect.
SERVED_BY = [
    (r'"usageMetadata"', ["google/default"]),
    (r'"inputTokens"', ["aws/default"]),
    (r'"billed_units"', ["cohere/default", "cohere/embeddings"]),
    (r'"is_byok"|openrouter', ["openrouter/chat", "openai/responses"]),
    (r'"cache_read_input_tokens"', ["anthropic/default"]),
    (r"test_xai|grok", ["x-ai/chat", "x-ai/responses", "x-ai/default"]),
    (r"mistral", ["mistral/default"]),
    (r"deepseek\.yaml|test_deepseek", ["deepseek/chat"]),
    (r"groq", ["groq/default"]),
    (r"cerebras", ["cerebras/chat"]),
    (r"perplexity|sonar", ["perplexity/default", "perplexity/responses"]),
    (r"", ["openai/chat", "openai/responses", "openai/embeddings"]),
]
CLASSES = [
    "input_uncached_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_text_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "web_search_requests",
]


@dataclass(frozen=True)
class Graded:
    """One body with an answer. `verdict`: 'own' (as its own provider's extractor reads it), 'another' or 'none'."""

    body: dict
    ours: dict[str, int]
    expected: dict[str, int]
    verdict: str
    note: str | None


def classes_of(answer: dict[str, int]) -> dict[str, int]:
    """genai-prices' overlapping counts → our classes."""

    def count(*names: str) -> int:
        return sum(answer.get(name, 0) for name in names)

    part = {
        "cache_read_tokens": count("cache_read_tokens"),
        "cache_write_5m_tokens": count("cache_write_tokens") - count("cache_write_1h_tokens"),
        "cache_write_1h_tokens": count("cache_write_1h_tokens"),
        "input_audio_tokens": count("input_audio_tokens") - count("cache_audio_read_tokens"),
        "input_image_tokens": count("input_image_tokens", "input_video_tokens")
        - count("cache_image_read_tokens", "cache_video_read_tokens"),
    }
    out = {
        "reasoning_tokens": count("output_reasoning_tokens"),
        "output_audio_tokens": count("output_audio_tokens"),
        "output_image_tokens": count("output_image_tokens", "output_video_tokens"),
    }
    return {
        "input_uncached_tokens": count("input_tokens") - sum(part.values()),
        **part,
        "output_text_tokens": count("output_tokens") - sum(out.values()),
        **out,
        "web_search_requests": count("web_searches"),
    }


def own_answer(body: dict, extracted: list[dict]) -> dict[str, int] | None:
    """The answer of the provider that served this body, if the key has it."""
    told = json.dumps(body).lower()
    for pattern, flavours in SERVED_BY:
        if re.search(pattern.lower(), told):
            for flavour in flavours:
                for answer in extracted:
                    if any(f"{e['provider_id']}/{e['api_flavor']}" == flavour for e in answer["extractors"]):
                        return answer["usage"]
    return None


def normalised(bodies: list[dict]) -> list[dict]:
    """What usage.sql makes of response bodies, in their order."""
    con = duckdb.connect()
    for name in ("macros", "usage"):
        con.execute((ROOT / "warehouse" / "staging" / f"{name}.sql").read_text())
    rows = con.execute(
        """with bodies as (
            select usage_in(response_keys(body::json), body::json) as usage, place
            from (select unnest($bodies) as body, generate_subscripts($bodies, 1) as place)
        )
        select used from with_usage('bodies') order by place""",
        {"bodies": [json.dumps(body) for body in bodies]},
    ).fetchall()
    return [row[0] for row in rows]


def grade(path: Path = KEY) -> list[Graded]:
    """Every body of the key that has an answer, with ours beside it."""
    key = [row for row in json.loads(gzip.decompress(path.read_bytes())) if any(a["usage"] for a in row["extracted"])]
    graded = []
    for row, read in zip(key, normalised([row["body"] for row in key]), strict=True):
        ours = {name: read[name] or 0 for name in CLASSES}
        own = own_answer(row["body"], row["extracted"])
        answers = [classes_of(answer["usage"]) for answer in row["extracted"]]
        expected = answers[0] if own is None else classes_of(own)
        verdict = "own" if own is not None and ours == expected else "another" if ours in answers else "none"
        graded.append(Graded(row["body"], ours, expected, verdict, read["unreadable"] or read["usage_note"]))
    return graded


def main() -> None:
    graded = grade(Path(sys.argv[1]) if len(sys.argv) > 1 else KEY)
    count = Counter(g.verdict for g in graded)
    verdicts = f"{count['own']} as their own provider, {count['another']} as another, {count['none']} unmatched"
    print(f"{len(graded)} bodies with an answer: {verdicts}")
    print("notes:", dict(Counter(g.note for g in graded if g.note)))
    for g in graded:
        if g.verdict != "own":
            differs = {name: (g.ours[name], g.expected[name]) for name in CLASSES if g.ours[name] != g.expected[name]}
            print(f"- {g.verdict}: {g.body['file']} {g.body.get('model', '')} (ours, key): {differs} note: {g.note}")


if __name__ == "__main__":
    main()
