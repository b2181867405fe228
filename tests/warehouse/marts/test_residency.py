"""core.inference and the residency policies → marts.residency."""

from __future__ import annotations

import random

from tests.support.marts import call, drawn, seen

RULES = """
policy,tenant,team,environment,allowed
europe,acme,,,eu ch
europe_lab,acme,lab,,eu ch us-east-1
all_but_prod,,,staging,us eu
"""


def rows(sql: str, calls: list[dict], rules: str | None = None) -> list[str]:
    with drawn("marts.residency", {"core.inference": calls}, **({"residency_policy": rules} if rules else {})) as con:
        return seen(con, sql)


def verdict(rules: str | None = RULES, **given) -> str:
    (row,) = rows("select verdict, policy from marts.residency", [call("a", **given)], rules)
    return row


def test_verdicts():
    assert verdict(tenant="acme", served_region="eu-west-1") == "inside europe"
    assert verdict(tenant="acme", served_region="EU-Central-2") == "inside europe"
    assert verdict(tenant="acme", served_region="us-east-1") == "outside europe"
    # London is in Europe, but not in the Union.
    assert verdict(tenant="acme", served_region="eu-west-2") == "outside europe"
    assert verdict(tenant="acme", team="lab", served_region="us-east-1") == "inside europe_lab"
    assert verdict(tenant="acme", team="lab", served_region="us-west-2") == "outside europe_lab"


def test_unknown_is_unknown():
    assert verdict(tenant="acme", request_region="eu-west-1") == "unknown_region europe"
    assert verdict(tenant="acme", served_region="global") == "unknown_region europe"
    assert verdict(tenant="acme", served_region="moon-1") == "unknown_region europe"


def test_no_policy_and_not_sent():
    assert verdict(tenant="other", served_region="us-east-1") == "no_policy -"
    assert verdict(rules=None, tenant="acme", served_region="us-east-1") == "no_policy -"
    assert verdict(tenant="acme", served_region="us-east-1", usage_note="gateway_cache_hit") == "not_sent europe"
    assert verdict(tenant="other", usage_note="gateway_cache_hit") == "not_sent -"


def test_failed_calls_were_sent_too():
    calls = [call("a", tenant="acme", served_region="us-east-1", status="error"), call("b", tenant="acme", served_region="us-east-1", input_uncached_tokens=7)]
    assert rows("select verdict, call_count, error_count, input_tokens from marts.residency", calls, RULES) == ["outside 2 1 7"]


def journeys(seed: int) -> tuple[list[dict], int, int]:
    """2,000 calls, with how many break their policy where the region is logged, and how many of those under one do not tell it."""
    draw = random.Random(seed)
    calls, breaches, unknown = [], 0, 0
    for n in range(2_000):
        tenant = draw.choice(["acme", "other"])
        region = draw.choice(["eu-west-1", "eu-north-1", "westeurope", "us-west-2", "ap-south-1", "eastus"])
        is_logged = draw.random() < 0.8
        calls.append(call(f"{n}", tenant=tenant, served_region=region if is_logged else None, request_region="eu-west-1"))
        breaches += tenant == "acme" and is_logged and region in ("us-west-2", "ap-south-1", "eastus")
        unknown += tenant == "acme" and not is_logged
    return calls, breaches, unknown


def test_every_breach_is_found_and_no_other():
    """Every breach where the region is logged, none besides; the rest is called unknown."""
    calls, breaches, unknown = journeys(3)
    found = rows("select verdict, sum(call_count) from marts.residency where verdict in ('outside', 'unknown_region') group by 1 order by 1", calls, RULES)
    assert found == [f"outside {breaches}", f"unknown_region {unknown}"]
