"""Calls, costs and models → marts.sovereignty."""

from __future__ import annotations

from datetime import datetime

from tests.support.marts import call, cost, drawn, seen

PLANS = """
line_no,model_pattern,gpu_name,gpu_count,tokens_per_s,source
1,70b,H,2,1000,measured
2,b,L,1,10,measured
"""
RENT = "gpu_name,rent_usd_per_gpu_hour,source\nH,2.5,offer\nL,1,offer"


def model(name: str, is_open: bool | None) -> dict:
    seen_at = datetime(2026, 1, 1)
    return {"alias": name, "provider_name": "lab", "model_name": name, "model_family": name, "is_open_weights": is_open, "first_listed_at": seen_at, "last_listed_at": seen_at}


def rows(sql: str, calls: list[dict], costs: list[dict], models: list[dict]) -> list[str]:
    reads = {"core.inference": calls, "marts.call_cost": costs, "core.model": models}
    with drawn("marts.sovereignty", reads, self_hosting=PLANS, gpu_rent=RENT) as con:
        return seen(con, sql)


def test_break_even():
    # 7.2 million tokens in an hour need two replicas of 3.6 million; a replica costs 2 x 24 x 2.5 = 120 USD a day.
    costs = [cost("a", "09:00", 36, model_name="x-70b", input_tokens=7_000_000, output_tokens=200_000)]
    costs += [cost("b", "11:00", 36, model_name="x-70b", input_tokens=7_200_000, output_tokens=0)]
    sql = "select replica_count, self_hosted_cost_usd, self_hosted_saving_usd, utilisation_share, break_even_utilisation_share, break_even_tokens from marts.sovereignty"
    # 5 USD a million tokens: 24 million tokens pay for a replica, of the 86.4 million it could serve.
    assert rows(sql, [], costs, [model("x-70b", True)]) == ["2 240 -168 0.0833333 0.277778 2.4e+07"]


def test_only_open_weights_have_a_plan():
    costs = [cost("a", model_name="x-70b", input_tokens=10, output_tokens=0), cost("b", model_name="y-70b", input_tokens=10, output_tokens=0), cost("c", model_name="z", input_tokens=1, output_tokens=1)]
    models = [model("x-70b", False), model("z", True)]
    assert rows("select model_name, is_open_weights, gpu_name, replica_count, self_hosted_cost_usd from marts.sovereignty order by 1", [], costs, models) == [
        "x-70b false - - -", "y-70b - - - -", "z true - - -",
    ]  # fmt: skip


def test_audit():
    whole = {"response_model": "m", "served_region": "eu-west-1", "tenant": "t"}
    calls = [call("a", **whole), call("b", **whole | {"tenant": None}), call("c", **whole, seconds=None), call("d", **whole | {"served_region": None})]
    costs = [cost(c["inference_id"]) for c in calls]
    assert rows("select call_count, audited_count, audit_share from marts.sovereignty", calls, costs, []) == ["4 1 0.25"]
