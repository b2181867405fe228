"""core.inference → marts.serving_quality."""

from __future__ import annotations

import pytest

from pipelines.errors import NotConfigured
from tests.support.marts import call, drawn, seen


def rows(sql: str, *calls: dict, **reference: str) -> list[str]:
    with drawn("marts.serving_quality", {"core.inference": calls}, **reference) as con:
        return seen(con, sql)


def test_failed_calls_are_never_fast():
    calls = [call(f"a{n}", seconds=2, provider_name="steady") for n in range(10)]
    # Fails nine times of ten and writes no time, or zero, for it.
    calls += [call(f"b{n}", seconds=0 if n % 2 else None, status="error", http_status=503, provider_name="flaky") for n in range(9)]
    calls += [call("b9", seconds=3, provider_name="flaky")]
    assert rows("select provider_name, latency_p50_ms, latency_p99_ms, timed_count, availability_share from marts.serving_quality order by 1", *calls) == [
        "flaky 3000 3000 1 0.1",
        "steady 2000 2000 10 1",
    ]


def test_all_failed_has_no_latency():
    assert rows("select latency_p50_ms, first_token_p50_ms, error_share from marts.serving_quality", call("a", status="error", seconds=0.01, first=0)) == ["- - 1"]


def test_outcomes():
    calls = [
        call("ok"),
        call("limit", status="error", http_status=429),
        call("limit by name", status="error", error_type="RateLimitError"),
        call("bad request", status="error", http_status=400),
        call("timeout", status="error", http_status=408),
        call("server", status="error", http_status=500),
        call("who knows", status="error"),
        call("cached", usage_note="gateway_cache_hit"),
    ]
    sql = "select call_count, ok_count, rate_limit_count, provider_error_count, caller_error_count, availability_share from marts.serving_quality"
    assert rows(sql, *calls) == ["7 1 2 3 1 0.166667"]


def test_percentiles_are_exact_and_first_token_and_pace_are_told_apart():
    calls = [call(f"{n}", first=0.1 * n, seconds=0.1 * n + 1, output_text_tokens=11) for n in range(1, 6)]
    sql = "select first_token_p50_ms, first_token_p95_ms, latency_p50_ms, output_token_p50_ms from marts.serving_quality"
    assert rows(sql, *calls) == ["300 480 1300 100"]


def test_by_hour_region_tier_and_canonical_model():
    calls = [
        call("a", "09:59:59"), call("b", "10:00"), call("c", "10:30", served_region="eu-west-1", request_region="us-east-1"),
        call("d", "10:30", request_region="us-east-1"), call("e", "10:31", service_tier="batch", request_model="vendor/M"),
    ]  # fmt: skip
    assert rows("select usage_hour, model_name, region, service_tier, call_count from marts.serving_quality order by all", *calls) == [
        "9 m - - 1", "10 m eu-west-1 - 1", "10 m us-east-1 - 1", "10 m - batch 1", "10 m - - 1",
    ]  # fmt: skip


def test_objectives_and_burn():
    objectives = """
provider_name,model_name,availability_target_share,first_token_target_ms,latency_target_ms,in_time_target_share
,,0.9,1000,5000,0.5
lab,m,0.8,100,5000,0.75
"""
    calls = [
        call("quick", first=0.05), call("slow start", first=0.5), call("not streamed", seconds=4), call("refused", status="error", http_status=503),
        call("other", provider_name="other", first=0.5), call("other bad", provider_name="other", status="error"),
    ]  # fmt: skip
    sql = "select provider_name, availability_burn_ratio, in_time_count, judged_count, in_time_burn_ratio from marts.serving_quality order by 1"
    assert rows(sql, *calls, service_objective=objectives) == ["lab 1.25 2 4 2", "other 5 1 2 1"]


def test_a_file_of_ones_own_must_have_the_columns():
    with pytest.raises(NotConfigured, match="latency_target_ms"):
        rows("select 1", call("a"), service_objective="provider_name,model_name,availability_target_share,first_token_target_ms,in_time_target_share")
