"""marts.spend_daily and training_spend.csv → marts.training_ratio."""

from __future__ import annotations

from datetime import date

from tests.support.marts import drawn, seen

SPENT = """
model_name,kind,spent_day,spend_usd,source
tuned,fine_tuning,2026-01-01,20,invoice
tuned,fine_tuning,2026-02-01,10,invoice
never-called,training,2026-01-01,5,invoice
"""


def spend(model: str, day: int, usd: float | None) -> dict:
    return {"usage_day": date(2026, 11, day), "source": "app", "model_name": model, "call_count": 2, "error_count": 0, "list_cost_usd": usd,
            "priced_count": 1, "estimated_count": 0, "unpriced_count": 0}  # fmt: skip


def test_life_of_a_model():
    reads = {"marts.spend_daily": [spend("tuned", 1, 12), spend("tuned", 2, 18), spend("tuned", 3, 30), spend("plain", 1, 7), spend("dark", 1, None)]}
    with drawn("marts.training_ratio", reads, training_spend=SPENT) as con:
        assert seen(con, "select model_name, call_count, inference_cost_usd, training_cost_usd, inference_to_training_ratio, overtaken_day from marts.training_ratio order by 1") == [
            "dark 2 - - - -", "never-called 0 - 5 - -", "plain 2 7 - - -", "tuned 6 60 30 2 2026-11-02",
        ]  # fmt: skip
