"""core.inference → marts.placement."""

from __future__ import annotations

from tests.support.marts import call, drawn, seen


def rows(sql: str, calls: list[dict]) -> list[str]:
    with drawn("marts.placement", {"core.inference": calls}) as con:
        return seen(con, sql)


def many(name: str, seconds: float, tokens: int = 100, n: int = 20, **other) -> list[dict]:
    return [call(f"{name}{i}", seconds=seconds, output_text_tokens=tokens, **other) for i in range(n)]


def test_the_fastest_place_by_pace_not_by_length():
    calls = many("near", 2, request_region="eu-west-1", served_region="eu-west-1")
    # Longer answers take longer, at twice the pace.
    calls += many("far", 3, tokens=300, request_region="eu-west-1", served_region="us-east-1")
    calls += many("seldom", 0.1, n=19, request_region="eu-west-1", served_region="eu-north-1")
    sql = "select served_region, is_cross_region, latency_p50_ms, place_rank, best_served_region, could_save_ms from marts.placement order by 1"
    assert rows(sql, calls) == ["eu-north-1 true 100 - us-east-1 -", "eu-west-1 false 2000 2 us-east-1 1000", "us-east-1 true 3000 1 us-east-1 0"]


def test_one_place_alone_is_not_the_best():
    assert rows("select place_rank, best_provider_name from marts.placement", many("a", 1)) == ["1 -"]


def test_origins():
    hosts = {
        "a": "https://bedrock-runtime.eu-west-1.amazonaws.com", "b": "https://europe-west4-aiplatform.googleapis.com/v1",
        "c": "https://swedencentral.api.cognitive.microsoft.com/", "d": "https://api.openai.com/v1",
    }  # fmt: skip
    calls = [call(id, server_address=host) for id, host in hosts.items()] + [call("e", request_region="EU-West-1", server_address=hosts["b"])]
    assert rows("select origin_region, call_count, is_cross_region from marts.placement order by 1 nulls last", calls) == [
        "eu-west-1 2 -", "europe-west4 1 -", "swedencentral 1 -", "- 1 -",
    ]  # fmt: skip


def test_failures_and_batches_have_no_time():
    calls = [call("a", status="error", seconds=0), call("b", service_tier="batch", seconds=9000, output_text_tokens=9), call("c", seconds=1, output_text_tokens=10)]
    assert rows("select call_count, ok_count, timed_count, latency_p50_ms, answer_token_p50_ms from marts.placement", calls) == ["3 2 1 1000 100"]
