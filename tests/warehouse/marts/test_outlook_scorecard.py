"""Prices, models and spend → marts.outlook_scorecard."""

from __future__ import annotations

from datetime import date, datetime

from tests.support.marts import drawn, seen

LINES = "provider_name,model_pattern\nlab,^big-[0-9]+$\nother,^top$"


def model(name: str, since: str, until: str, provider: str = "lab", released: str | None = None) -> dict:
    return {"alias": name, "provider_name": provider, "model_name": name, "model_family": name, "first_listed_at": datetime.fromisoformat(since),
            "last_listed_at": datetime.fromisoformat(until), "release_day": released and date.fromisoformat(released)}  # fmt: skip


def price(model: str, usd_in: float, usd_out: float, since: str = "1970-01-01", until: str | None = None, provider: str = "lab") -> list[dict]:
    return [
        {"price_id": f"{model}{name}{since}", "price_key": f"{model}{name}", "feed": "f", "provider_name": provider, "feed_model": model, "model_name": model,
         "service_tier": "standard", "token_class": name, "context_above_tokens": 0, "unit": "token", "price_usd_per_unit": usd / 1e6,
         "valid_from": datetime.fromisoformat(since), "valid_to": until and datetime.fromisoformat(until), "known_from": datetime.fromisoformat(since), "landing_file": "x"}
        for name, usd in (("input_uncached", usd_in), ("output_text", usd_out))
    ]  # fmt: skip


def spend(day: str, usd: float | None, tokens: int, provider: str = "openai", **other) -> dict:
    return {"usage_day": date.fromisoformat(day), "source": "app", "provider_name": provider, "call_count": 1, "error_count": 0, "list_cost_usd": usd,
            "input_tokens": tokens, "output_tokens": 0, "priced_count": 1, "estimated_count": 0, "unpriced_count": 0} | other  # fmt: skip


def score(prediction: str, sql: str = "select status, measured_value, measured_day from marts.outlook_scorecard", **reads: list[dict]) -> list[str]:
    named = {{"models": "core.model", "prices": "core.price", "spent": "marts.spend_daily"}[name]: rows for name, rows in reads.items()}
    header = "prediction_id,claim,measure,baseline_day,due_day,target_from,target_to,is_market_claim\n"
    with drawn("marts.outlook_scorecard", named, outlook_prediction=header + prediction, frontier_line=LINES) as con:
        return seen(con, sql)


CHEAPER = "p,It falls by half or more,frontier_price_change_share,2025-06-30,2026-06-30,-0.7,-0.5,false"
FALLEN = {
    "models": [model("big-1", "2025-01-05", "2026-07-20"), model("big-2", "2026-05-03", "2026-07-20")],
    "prices": [*price("big-1", 8, 24, "2025-01-05"), *price("big-2", 3.2, 9.6, "2026-05-03")],
}  # fmt: skip


def test_the_newest_model_of_a_line_is_its_flagship():
    sql = "select status, measured_value, evidence from marts.outlook_scorecard"
    assert score(CHEAPER, sql, **FALLEN) == [
        "met -0.6 -0.6 in 2026-06; 1 makers' flagships (big-2) at 4.8 USD by million tokens, 12.0 in the baseline month"
    ]


def test_open_while_the_data_end_before():
    until = [row | {"last_listed_at": datetime(2026, 5, 20)} for row in FALLEN["models"]]
    assert score(CHEAPER, models=until, prices=FALLEN["prices"]) == ["open -0.6 2026-05-01"]


def test_missed_when_it_fell_less_or_rose():
    assert score(CHEAPER.replace("-0.7,-0.5", "-0.9,-0.7"), **FALLEN) == ["missed -0.6 2026-06-01"]


def test_no_baseline_no_verdict():
    late = {"models": [model("big-2", "2026-05-03", "2026-07-20")], "prices": price("big-2", 3, 9, "2026-05-03")}
    assert score(CHEAPER, **late) == ["not_measurable - -"]
    assert score(CHEAPER) == ["not_measurable - -"]


def test_always_means_since_its_release():
    models = [model("big-1", "2026-07-20", "2026-07-20", released="2025-01-05"), model("big-2", "2026-07-20", "2026-07-20", released="2026-05-03")]
    # Price lists that name days go back before they were first read, but the months measured do not.
    assert score(CHEAPER, models=models, prices=[*price("big-1", 8, 24), *price("big-2", 3.2, 9.6)]) == ["not_measurable - -"]


STANDARD = "p,Under a tenth of a cent,standard_cost_usd_per_ktok,,2026-09-30,,0.001,false"


def test_own_cost_by_1000_tokens():
    days = [spend("2026-09-02", 0.8, 1_000_000), spend("2026-09-03", 90, 10, service_tier="priority"), spend("2026-09-04", None, 10**9, unpriced_count=1), spend("2026-10-01", 5, 1000)]
    assert score(STANDARD, spent=days) == ["met 0.0008 2026-09-01"]
    assert score(STANDARD, spent=[spend("2026-08-02", 0.8, 1_000_000)]) == ["open 0.0008 2026-08-01"]
    # Calls before and after, none in the month itself.
    assert score(STANDARD, spent=[spend("2026-08-02", 0.8, 1_000_000), spend("2026-10-02", 0.8, 1_000_000)]) == ["not_measurable 0.0008 2026-08-01"]


def test_a_claim_about_the_market_is_not_settled_by_own_calls():
    claim = "p,Specialised providers grow,specialised_token_share,2025-06-30,2026-09-30,0.4,,true"
    days = [spend("2026-09-02", 1, 100, provider="groq"), spend("2026-09-02", 1, 100), spend("2026-10-02", 1, 1)]
    assert score(claim, "select status, measured_value, evidence from marts.outlook_scorecard", spent=days) == [
        "not_measurable 0.5 a claim about the market; here only: 0.5 in 2026-09; 2 own calls"
    ]
