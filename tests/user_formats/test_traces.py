"""Formats of a user's own: a trace of prefix blocks and a latency benchmark, through the pipeline into the marts, against what their data say."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from pipelines.build import build_table
from pipelines.ingest import ingest_source
from pipelines.settings import Settings, Source
from tests.support.lakehouse import DAY, ask
from tests.support.staging import stage

HERE = Path(__file__).parent
TRACES = Path(os.environ.get("FLYWHEEL_SHARED_DATA", HERE.parents[2] / "shared" / "data")) / "traces"
real = pytest.mark.skipif(not TRACES.exists(), reason="shared data is not here")


def built(folder: Path, format: str, lines: bytes, table: str) -> Settings:
    """A warehouse with these lines taken in and one mart built of them."""
    (folder / "logs").mkdir()
    (folder / "logs" / "part.jsonl").write_bytes(lines)
    sources = {format: Source(url=str(folder / "logs"), format=format)}
    settings = Settings(home=folder / "home", sources=sources, user_formats=HERE, memory_limit="400MB", threads=2)
    reports = ingest_source(settings, format, DAY)
    assert not any(report.reasons for report in reports)
    build_table(settings, table)
    return settings


def test_blocks_are_messages() -> None:
    line = {"timestamp": 1500, "input_length": 700, "output_length": 9, "hash_ids": [0, 46]}
    (row,) = stage("inference", str(HERE / "inference" / "mooncake"), [line])
    assert json.loads(row["input_messages"]) == [{"block": "000000000000"}, {"block": "000000000046"}]
    assert (row["input_uncached_tokens"], row["started_at"].microsecond, row["unreadable"]) == (700, 500_000, None)


def test_a_failed_call_has_no_time() -> None:
    good = {"provider": "p", "model": "m", "error_code": None, "ttft_s": 0.5, "end_to_end_latency_s": 2.0, "number_input_tokens": 550, "number_output_tokens": 150}
    bad = good | {"error_code": 429, "ttft_s": 0, "end_to_end_latency_s": 0}
    ok, refused = sorted(stage("inference", str(HERE / "inference" / "llmperf"), [good, bad]), key=lambda row: row["landing_row"])
    assert (ok["finished_at"] - ok["started_at"]).total_seconds() == 2.0
    assert (refused["status"], refused["http_status"], refused["finished_at"], refused["first_token_at"]) == ("error", 429, None, None)


@real
def test_prefixes_used_again_in_mooncake(tmp_path: Path) -> None:
    """36.6 % of all blocks lie in a prefix sent before, 28.7 % in one sent within five minutes: what a plain count in Python finds."""
    lines = gzip.decompress((TRACES / "conversation_trace.jsonl.gz").read_bytes())
    settings = built(tmp_path, "mooncake", lines, "marts.context_efficiency")
    found = ask(settings, "select sum(repeated_prefix_tokens) / sum(content_input_tokens), sum(cacheable_prefix_tokens) / sum(content_input_tokens), sum(call_count) from marts.context_efficiency")
    sent: dict[int, int] = {}
    tokens = repeated = recent = 0.0
    for line in lines.splitlines():
        row = json.loads(line)
        blocks, now = row["hash_ids"], row["timestamp"]
        run = next((n for n, block in enumerate(blocks) if block not in sent), len(blocks))
        fresh = next((n for n, block in enumerate(blocks) if now - sent.get(block, -(10**9)) > 300_000), len(blocks))
        tokens += row["input_length"]
        repeated += row["input_length"] * run / len(blocks)
        recent += row["input_length"] * fresh / len(blocks) * (row["input_length"] * fresh / len(blocks) >= 1024)
        sent |= dict.fromkeys(blocks, now)
    assert found[0][0] == pytest.approx(repeated / tokens, abs=0.001)
    assert found[0][1] == pytest.approx(recent / tokens, abs=0.001)
    assert found[0][2] == 12_031


@real
def test_the_provider_that_fails_most_is_not_the_fastest(tmp_path: Path) -> None:
    lines = []
    for path in sorted((TRACES / "llmperf").glob("*.json.gz")):
        provider, _, model = path.name.removesuffix(".json.gz").rpartition("_")
        lines += [json.dumps({"provider": provider, "model": f"llama-2-{model}"} | row) for row in json.loads(gzip.decompress(path.read_bytes()))]
    settings = built(tmp_path, "llmperf", "\n".join(lines).encode(), "marts.serving_quality")
    by_provider = """
        select model_name, provider_name, sum(call_count) - sum(ok_count) as failures, sum(latency_p50_ms * timed_count) / sum(timed_count) as p50
        from marts.serving_quality group by all"""
    winners = ask(settings, f"select model_name, arg_max(provider_name, failures), max(failures), arg_min(provider_name, p50) from ({by_provider}) as q group by 1 order by 1")
    assert [row[:3] for row in winners] == [(f"llama-2-{size}", "lepton_ai", 130) for size in ("13b", "70b", "7b")]
    assert [row[3] for row in winners] == ["anyscale", "groq", "fireworks_ai"]
    # What a mean over all calls, zeros and all, would say.
    naive: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        row = json.loads(line)
        naive.setdefault((row["model"], row["provider"]), []).append(row["end_to_end_latency_s"])
    fastest = {model: min((sum(v) / len(v), p) for (m, p), v in naive.items() if m == model)[1] for model, _ in naive}
    assert set(fastest.values()) == {"lepton"}
