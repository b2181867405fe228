"""Provider shares: use of a month and the price book in → shares, concentration, and what leaving costs."""

from __future__ import annotations

from tests.support.economy import build, draw, use
from tests.support.pricebook import book, drawn


def shares(quotes: str, *rows, columns: str) -> list[str]:
    con = book(quotes)
    draw(con, "marts.usage_daily", rows)
    build(con, "marts.provider_share")
    return drawn(con, f"select provider_name, {columns} from marts.provider_share order by month_day, provider_name")


NOBODY = "2026-01-01 litellm other input_uncached=1"


def test_shares_and_concentration():
    assert shares(
        NOBODY,
        use("2026-11-03", call_count=30, input=(300, 9.0)),
        use("2026-11-04", call_count=10, input=(100, 3.0), provider_name="groq"),
        use("2026-12-04", call_count=1, input=(1, 0.5), provider_name="groq"),
        columns="provider_kind, call_share, token_share, cost_share, spend_hhi, kind_cost_share",
    ) == ["groq specialised 0.25 0.25 0.25 0.625 0.25", "openai first_party 0.75 0.75 0.75 0.625 0.75", "groq specialised 1.0 1.0 1.0 1.0 1.0"]


def test_the_same_model_at_another_provider_cheaper_dearer_or_not_at_all():
    """A million tokens in and out: 3 USD here. Azure asks 4, DeepInfra 2 until December; nobody else sells model `own`."""
    quotes = """
    2026-01-01 azure azure/m input_uncached=1 output_text=3
    2026-01-01 deepinfra m input_uncached=1 output_text=1
    2026-12-20 deepinfra m input_uncached=3 output_text=3
    2026-01-01 openai own input_uncached=1 output_text=1
    """
    columns = "list_cost_usd::double, free_to_leave_share, locked_in_share, leaving_cost_usd::double"
    rows = [{"input": (1_000_000, 1.0), "output": (1_000_000, 2.0)}, {"model": "own", "input": (1_000_000, 1.0)}]
    assert shares(quotes, *(use(f"2026-{month}-02", **row) for month in (11, 12) for row in rows), columns=columns) == [
        "openai 4.0 0.75 0.25 -1.0", "openai 4.0 0.0 0.25 1.0"]


def test_months_before_the_first_list_are_judged_by_it():
    """What DeepInfra lists first may have been sold before; a model that its list had not yet was not."""
    quotes = """
    2026-12-02 deepinfra m input_uncached=1 output_text=1
    2026-12-20 deepinfra m input_uncached=1 output_text=1
    2026-12-20 deepinfra late input_uncached=1 output_text=1
    """
    rows = [use(f"2026-{month}-02", model=model, input=(1_000_000, 3.0)) for month in (10, 12) for model in ("m", "late")]
    assert shares(quotes, *rows, columns="free_to_leave_share, locked_in_share") == ["openai 0.5 0.5", "openai 1.0 0.0"]


def test_what_nobody_billed_or_priced_counts_as_calls_only():
    assert shares(
        NOBODY,
        use("2026-11-03", input=(10, 1.0)),
        use("2026-11-03", cost_status="unpriced", list_cost_usd=None, call_count=5, provider_name="own-gpu"),
        columns="call_count, list_cost_usd::double, unpriced_count, cost_share, locked_in_share",
    ) == ["openai 100 1.0 0 1.0 1.0", "own-gpu 5 0.0 5 0.0 -"]
