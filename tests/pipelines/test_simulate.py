"""What the simulator writes, read back by small readers of its own: conventions, dirt, prices and the truth."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from datetime import UTC, date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import zstandard
from genai_prices.types import Usage

from pipelines import simulate as simulator
from pipelines.errors import NotConfigured
from pipelines.simulate import PRICE_CONTEXT, find_model, litellm_benchmark, plan, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = [
    "litellm",
    "litellm_spend",
    "openai",
    "otel",
    "langfuse",
    "anthropic",
    "bedrock",
    "helicone",
    "tensorzero",
]
FIRST_DAY = date(2026, 11, 20)
SPOILT = {
    "truncated",
    "invalid_json",
    "missing_id",
    "negative_tokens",
    "wrong_type",
    "year_1970",
    "year_2999",
}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dirty")
    simulate(out, calls=5000, days=3, first_day=FIRST_DAY, seed=7, formats=FORMATS, dirt_share=0.06)
    return out


@pytest.fixture(scope="module")
def calls(dirty: Path) -> list[dict[str, Any]]:
    return pq.read_table(dirty / "truth" / "call.parquet").to_pylist()


def read(path: Path) -> list[str]:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    elif path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(raw).read()
    assert raw.endswith(b"\n")
    return raw.decode().split("\n")[:-1]


def records(out: Path, format: str, stem: str = "") -> Iterator[dict[str, Any]]:
    """Every line of a format that is JSON."""
    for path in sorted((out / "logs" / format).glob(f"*/{stem}*")):
        for line in read(path):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def digest(out: Path) -> dict[str, str]:
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*")) if p.is_file()}


# Each reader gives (id, uncached, cache read, cache written for 5 minutes, for 1 hour, output text, reasoning).
# A missing reasoning count is left 0: bedrock, helicone and tensorzero do not tell it apart, nor does the simulator there.


def read_litellm(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    usage = r["metadata"]["usage_object"]
    cached, written = usage["prompt_tokens_details"]["cached_tokens"], usage["cache_creation_input_tokens"]
    lifetimes = usage["prompt_tokens_details"]["cache_creation_token_details"] or {}
    hour = lifetimes.get("ephemeral_1h_input_tokens", 0)
    thought = usage["completion_tokens_details"]["reasoning_tokens"]
    yield (
        f"litellm:{r['id']}",
        r["prompt_tokens"] - cached - written,
        cached,
        written - hour,
        hour,
        r["completion_tokens"] - thought,
        thought,
    )


def read_litellm_spend(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    yield from read_litellm(r | {"id": r["request_id"], "metadata": json.loads(r["metadata"])})


def read_openai(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    body = r["response"].get("body", r["response"])
    usage = body["usage"]
    asked, answered = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
    details = usage[f"{asked}_tokens_details"]
    cached, written = details["cached_tokens"], details["cache_write_tokens"]
    thought = usage[f"{answered}_tokens_details"]["reasoning_tokens"]
    yield (
        f"openai:{body['id']}",
        usage[f"{asked}_tokens"] - cached - written,
        cached,
        written,
        0,
        usage[f"{answered}_tokens"] - thought,
        thought,
    )


def read_otel(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for span in r["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        found = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
        assert all(isinstance(v, str) for a in span["attributes"] for k, v in a["value"].items() if k == "intValue")
        if "llm.token_count.prompt" in found:
            d = "llm.token_count"
            keys = [
                f"{d}.prompt",
                f"{d}.prompt_details.cache_read",
                f"{d}.prompt_details.cache_write",
                f"{d}.completion",
                f"{d}.completion_details.reasoning",
            ]
        elif "gen_ai.usage.prompt_tokens" in found:
            d = "gen_ai.usage"
            keys = [
                f"{d}.prompt_tokens",
                f"{d}.cache_read_input_tokens",
                f"{d}.cache_creation_input_tokens",
                f"{d}.completion_tokens",
                f"{d}.reasoning_tokens",
            ]
        elif "gen_ai.usage.input_tokens" in found:
            d = "gen_ai.usage"
            keys = [
                f"{d}.input_tokens",
                f"{d}.cache_read.input_tokens",
                f"{d}.cache_write.input_tokens",
                f"{d}.output_tokens",
                f"{d}.reasoning.output_tokens",
            ]
        else:
            assert span["name"].startswith("invoke_agent")
            continue
        try:
            asked, cached, written, answered, thought = (int(found[key]) for key in keys)
        except ValueError:
            continue
        yield (
            f"otel:{span['traceId']}:{span['spanId']}",
            asked - cached - written,
            cached,
            written,
            0,
            answered - thought,
            thought,
        )


def read_langfuse(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    used = r["usage_details"] or defaultdict(int)
    yield (
        f"langfuse:{r['id']}", used["input"], used["cache_read_input_tokens"], used["cache_creation_input_tokens"], 0,
        used["output"], used["output_reasoning_tokens"],
    )  # fmt: skip


def read_anthropic(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    usage = r["response"]["usage"]
    lifetimes, thought = usage["cache_creation"], usage["output_tokens_details"]["thinking_tokens"]
    yield (
        f"anthropic:{r['response']['id']}", usage["input_tokens"], usage["cache_read_input_tokens"],
        lifetimes["ephemeral_5m_input_tokens"], lifetimes["ephemeral_1h_input_tokens"], usage["output_tokens"] - thought, thought,
    )  # fmt: skip


def read_bedrock(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    counts = [r["input"][f"{key}TokenCount"] or 0 for key in ("input", "cacheReadInput", "cacheWriteInput")]
    yield f"bedrock:{r['requestId']}", *counts, 0, (r["output"] or {"outputTokenCount": 0})["outputTokenCount"], 0


def read_helicone(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    asked, cached, written = (r[f"prompt_{key}"] or 0 for key in ("tokens", "cache_read_tokens", "cache_write_tokens"))
    if isinstance(asked, int):
        yield (
            f"helicone:{r['request_id']}",
            asked - cached - written,
            cached,
            written,
            0,
            r["completion_tokens"] or 0,
            0,
        )


def read_tensorzero(r: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    asked, cached, written = (
        r["input_tokens"],
        r["provider_cache_read_input_tokens"],
        r["provider_cache_write_input_tokens"],
    )
    if isinstance(asked, int):
        yield f"tensorzero:{r['id']}", asked - cached - written, cached, written, 0, r["output_tokens"], 0


@pytest.mark.parametrize("format", FORMATS)
def test_tokens_in_the_formats_own_convention_give_back_the_truth(dirty: Path, calls: list[dict[str, Any]], format: str) -> None:
    reader = globals()[f"read_{format}"]
    stem = {"langfuse": "observations", "tensorzero": "model_inference"}.get(format, "")
    seen: dict[str, tuple[Any, ...]] = {}
    for record in records(dirty, format, stem):
        try:
            found = list(reader(record))
        except TypeError:  # "a lot" of tokens
            continue
        seen |= {key: tuple(counts) for key, *counts in found}
    classes = [
        "input_uncached_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "output_text_tokens",
        "reasoning_tokens",
    ]
    truth = {
        c["inference_id"]: tuple(c[k] for k in classes)
        for c in calls
        if c["format"] == format and c["lands_in"] == "core.inference"
    }
    assert len(truth) > 300
    assert {key: seen.get(key) for key in truth} == truth


def test_each_call_is_once_in_the_truth_and_where_it_says(dirty: Path, calls: list[dict[str, Any]]) -> None:
    assert len(calls) == len({c["inference_id"] for c in calls}) == 5000
    assert {c["format"] for c in calls} == set(FORMATS)
    lines = {name: read(dirty / "logs" / name) for name in {c["file"] for c in calls}}
    for call in calls:
        line = lines[call["file"]][call["line"] - 1]
        assert call["inference_id"].rsplit(":", 1)[1] in line or call["dirt_kind"] in (
            "missing_id",
            "truncated",
        ), call["inference_id"]
        arrival = date.fromisoformat(call["file"].split("/")[1])
        assert (arrival > call["started_at"].date()) == (call["dirt_kind"] == "late")


def test_dirt_adds_up_to_the_lines(dirty: Path, calls: list[dict[str, Any]]) -> None:
    expected = json.loads((dirty / "truth" / "expected.json").read_text())
    found = {str(p.relative_to(dirty / "logs")): read(p) for p in (dirty / "logs").rglob("*") if p.is_file()}
    assert {name: len(lines) for name, lines in found.items()} == expected["lines_by_file"]
    assert expected["lines"] == sum(expected["lines_by_file"].values())

    dirt = pq.read_table(dirty / "truth" / "dirt.parquet").to_pylist()
    kinds = Counter(row["dirt_kind"] for row in dirt)
    assert dict(kinds) == expected["dirty_lines_by_kind"]
    assert len(kinds) == 12
    clean_lines = {(c["file"], c["line"]) for c in calls}
    extra = [row for row in dirt if row["is_extra_line"]]
    main = [name for name in found if not any(side in name for side in ("traces-", "chat_inference-", "scores-", "feedback"))]
    assert sum(len(found[name]) for name in main) == len(clean_lines) + len(extra)

    for row in dirt:
        line = found[row["file"]][row["line"] - 1]
        match row["dirt_kind"]:
            case "blank_line":
                assert line == ""
            case "truncated" | "invalid_json":
                with pytest.raises(json.JSONDecodeError):
                    json.loads(line)
            case "negative_tokens":
                assert "-17" in line
            case "wrong_type":
                assert '"a lot"' in line
            case "missing_id":
                assert (
                    "null" in line
                    and row["inference_ids"][0].rsplit(":", 1)[1] not in line.replace("gen_ai.response.id", "")[:400]
                )
            case "duplicate_same_file" | "duplicate_other_file" | "duplicate_other_day":
                copies = sum(
                    other.count(line) for name in main if name.startswith(row["format"]) for other in found[name] if other == line
                )
                assert copies == 2

    spoilt = {key for row in dirt if row["dirt_kind"] in SPOILT for key in row["inference_ids"]}
    assert spoilt == {c["inference_id"] for c in calls if c["lands_in"] == "core.quarantine"}
    assert expected["calls_in_core"] == 5000 - len(spoilt)


def test_every_call_costs_what_genai_prices_says_at_its_start(calls: list[dict[str, Any]]) -> None:
    seen = Counter()
    for call in calls[::4]:
        model = find_model(call["feed_provider"], call["response_model"])
        written = call["cache_write_5m_tokens"] + call["cache_write_1h_tokens"]
        usage = Usage(
            input_tokens=call["input_uncached_tokens"] + call["cache_read_tokens"] + written,
            cache_read_tokens=call["cache_read_tokens"],
            cache_write_tokens=written,
            cache_write_1h_tokens=call["cache_write_1h_tokens"],
            output_tokens=call["output_text_tokens"] + call["reasoning_tokens"],
            web_searches=call["web_search_requests"],
        )
        price = model.get_prices(call["started_at"].replace(tzinfo=UTC), PRICE_CONTEXT[call["service_tier"]]).calc_price(usage)
        assert call["true_cost_usd"] == price["total_price"], call
        seen[call["request_model"], call["service_tier"]] += 1
    assert len({model for model, _ in seen}) == 18
    assert {tier for _, tier in seen} == set(PRICE_CONTEXT)


def test_reported_cost_and_truth_are_the_same(dirty: Path, calls: list[dict[str, Any]]) -> None:
    truth = {c["inference_id"]: c["true_cost_usd"] for c in calls}
    reported = {f"litellm:{r['id']}": Decimal(repr(r["response_cost"])) for r in records(dirty, "litellm") if r["id"]}
    assert len(reported) > 400
    assert {key: truth[key] for key in reported} == reported


def test_propensities_are_those_of_the_policy(tmp_path: Path) -> None:
    """Under true propensities the mean of 1[chose k] / propensity is 1 for every candidate k that all calls could choose."""
    simulate(tmp_path, calls=20_000, days=1, first_day=FIRST_DAY, seed=3, formats=["anthropic"], with_content=False)
    calls = pq.read_table(tmp_path / "truth" / "call.parquet").to_pylist()
    weights: dict[str, float] = defaultdict(float)
    for call in calls:
        assert call["request_model"] in json.loads(call["routing_candidates"])
        weights[call["request_model"]] += 1 / call["routing_propensity"]
    assert set(weights) == {"claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"}
    assert all(total / len(calls) == pytest.approx(1, abs=0.08) for total in weights.values())


def test_the_world_is_one_that_can_be_learnt_from(calls: list[dict[str, Any]]) -> None:
    answered = [c for c in calls if c["status"] == "ok"]
    easy = [c["success"] for c in answered if c["difficulty"] < 0.4]
    hard = [c["success"] for c in answered if c["difficulty"] > 0.7]
    assert sum(easy) / len(easy) > sum(hard) / len(hard) + 0.1
    failed = [c for c in calls if c["status"] == "error"]
    assert failed and all(c["true_cost_usd"] == 0 and not c["success"] for c in failed)
    assert any(c["retry_count"] for c in calls) and any(c["is_reask"] for c in calls)
    later = [c["cache_read_tokens"] for c in answered if c["turn_no"] >= 3 and c["cache_read_tokens"]]
    first = [c["cache_read_tokens"] for c in answered if c["turn_no"] == 0 and c["cache_read_tokens"]]
    assert sum(later) / len(later) > 1.5 * sum(first) / len(first)


def test_feedback_is_biased_late_and_told_once(dirty: Path, calls: list[dict[str, Any]]) -> None:
    signals = pq.read_table(dirty / "truth" / "feedback.parquet").to_pylist()
    assert len({s["feedback_id"] for s in signals}) == len(signals)
    truth = {c["inference_id"]: c for c in calls}
    assert all(s["target_id"] in truth for s in signals if s["target_kind"] == "call")
    assert all(s["given_at"] >= truth[s["target_id"]]["finished_at"] for s in signals if s["target_kind"] == "call")
    written = {
        "feedback": {r["id"] for r in records(dirty, "feedback")},
        "langfuse": {r["id"] for r in records(dirty, "langfuse", "scores")},
        "tensorzero": {r["id"] for r in records(dirty, "tensorzero", "feedback")},
    }
    assert written == {channel: {s["feedback_id"] for s in signals if s["channel"] == channel} for channel in written}

    def error(rater: str) -> float:
        judged = [s for s in signals if s["rater_id"] == rater]
        return sum(abs(s["value_number"] - truth[s["target_id"]]["success"]) for s in judged) / len(judged)

    assert error("evaluator-a") + 0.1 < error("evaluator-b")


def test_same_seed_same_bytes_whatever_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "CHUNK_CALLS", 200)
    common: dict[str, Any] = {"calls": 500, "days": 2, "first_day": FIRST_DAY, "dirt_share": 0.1}
    formats = ["litellm", "openai", "otel", "tensorzero"]
    simulate(tmp_path / "a", seed=1, formats=formats, **common)
    simulate(tmp_path / "c", seed=2, formats=formats, **common)
    monkeypatch.setattr(simulator.os, "cpu_count", lambda: 1)
    simulate(tmp_path / "b", seed=1, formats=formats, **common)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert len(a) > 10
    assert a == b
    assert not set(a.values()) & set(c.values())


def test_clean_and_without_content(tmp_path: Path) -> None:
    report = simulate(tmp_path, calls=300, days=1, first_day=FIRST_DAY, seed=1, formats=FORMATS, with_content=False)
    assert report.calls_in_quarantine == 0 and not report.dirt
    text = "".join(line for p in (tmp_path / "logs").rglob("*") if p.is_file() for line in read(p))
    assert "Reference" not in text
    for line in (line for p in (tmp_path / "logs").rglob("*") if p.is_file() for line in read(p)):
        json.loads(line)


def test_benchmark_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    size = litellm_benchmark(path, 3000, seed=5)
    lines = read(path)
    assert size == path.stat().st_size
    assert len({json.loads(line)["id"] for line in lines}) == 3000
    assert 1700 < size / 3000 < 2400
    assert all(json.loads(line)["messages"][-1]["role"] == "user" for line in lines[:100])


def test_plan_reaches_the_calls_and_weekends_are_quiet() -> None:
    chunks = plan(1_000_003, 14, date(2026, 11, 16))
    by_day: Counter[date] = Counter()
    for chunk in chunks:
        by_day[chunk.day] += chunk.calls
    assert sum(by_day.values()) == 1_000_003
    assert [c.number for c in chunks] == list(range(len(chunks)))
    assert max(c.calls for c in chunks) <= simulator.CHUNK_CALLS
    assert by_day[date(2026, 11, 21)] < 0.6 * by_day[date(2026, 11, 20)] < by_day[date(2026, 11, 27)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"formats": ["litelm"]}, "litelm"),
        ({"formats": []}, "formats"),
        ({"calls": 0}, "calls"),
        ({"dirt_share": 2}, "dirt_share"),
    ],
)
def test_refuses_what_it_cannot_do(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    wanted: dict[str, Any] = {
        "calls": 10,
        "days": 1,
        "first_day": FIRST_DAY,
        "seed": 1,
        "formats": ["litellm"],
    }
    with pytest.raises(NotConfigured, match=said):
        simulate(tmp_path, **wanted | change)
    assert not (tmp_path / "logs").exists()


def test_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "logs" / "litellm").mkdir(parents=True)
    with pytest.raises(NotConfigured, match="already"):
        simulate(tmp_path, calls=10, days=1, first_day=FIRST_DAY, seed=1, formats=["litellm"])
