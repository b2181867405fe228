"""The price of a capability: quotes and a leaderboard in → the cheapest price at or above a rating, and who sets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.economy import build
from tests.support.pricebook import book, drawn, rate


@pytest.fixture
def board(tmp_path: Path):
    def capability(quotes: str, ratings: str, where: str = "true", columns: str = "") -> list[str]:
        path = tmp_path / "board.csv"
        header, *lines = [line.split() for line in ratings.strip().splitlines()]
        path.write_text("\n".join([",".join(["", *header]), *(",".join(line) for line in lines)]))
        con = rate(book(quotes), "lmarena", str(path))
        build(con, "marts.capability_price")
        return drawn(con, f"""
            select strftime(month_day, '%Y-%m'), seller_scope, cast(price_usd_per_mtok as double), provider_name, model_name {columns}
            from marts.capability_price where capability_model = 'gpt-4-0314' and {where} order by 2, 1""")

    return capability


RATINGS = """
gpt-4-0314 strong-20240101 weak equal
20230601 1000 0.0 1500 1500
20250101 1186 1250 1100 1186
"""


def test_the_cheapest_at_or_above_sets_it_and_the_weaker_never(board):
    assert board(
        """
        2024-01-10 openai gpt-4-0314 input_uncached=30 output_text=60
        2024-01-10 mistral weak input_uncached=0.1 output_text=0.1
        2024-02-10 anthropic strong-20240101 input_uncached=10 output_text=30
        2024-03-10 groq equal input_uncached=1 output_text=5
        2024-03-10 mistral weak input_uncached=0.1 output_text=0.1
        """,
        RATINGS,
    ) == [
        "2024-01 any 37.5 openai gpt-4-0314", "2024-02 any 15.0 anthropic strong-20240101", "2024-03 any 2.0 groq equal",
        "2024-01 first_party 37.5 openai gpt-4-0314", "2024-02 first_party 15.0 anthropic strong-20240101",
        "2024-03 first_party 15.0 anthropic strong-20240101",
    ]


def test_a_quote_held_back_sets_no_price(board):
    quotes = """
    2024-01-10 openai gpt-4-0314 input_uncached=30 output_text=60
    2024-02-10 openai gpt-4-0314 input_uncached=0.03 output_text=0.06
    """
    assert board(quotes, RATINGS, "seller_scope = 'any'") == ["2024-01 any 37.5 openai gpt-4-0314", "2024-02 any 37.5 openai gpt-4-0314"]


@pytest.mark.parametrize(("usd", "price"), [(0.05, 0.05), (0.005, 0.1)])
def test_a_slip_too_small_for_the_gate_sets_no_price_either(board, usd, price):
    """Sixteen times below what another asks for the very same model is an error of the list, two times is an offer."""
    quotes = f"""
    2024-01-10 gemini equal input_uncached=0.1 output_text=0.1
    2024-01-10 vertex_ai equal input_uncached={usd} output_text={usd}
    """
    [told] = board(quotes, RATINGS, "seller_scope = 'any'")
    assert told.startswith(f"2024-01 any {price} ")


def test_free_and_delisted_offers_set_no_price(board):
    quotes = """
    2024-01-10 openai gpt-4-0314 input_uncached=30 output_text=60
    2024-01-10 groq equal input_uncached=0 output_text=0
    2024-01-10 anthropic strong-20240101 input_uncached=1 output_text=1
    2024-02-20 openai gpt-4-0314 input_uncached=30 output_text=60
    2024-02-20 anthropic other input_uncached=1 output_text=1
    """
    assert board(quotes, RATINGS, "seller_scope = 'any'") == ["2024-01 any 1.0 anthropic strong-20240101", "2024-02 any 37.5 openai gpt-4-0314"]


def test_a_name_without_a_date_is_as_good_as_its_worst_release(board):
    ratings = """
    gpt-4-0314 mini-20240101 mini-20240601 maxi-20240101 maxi-20240601
    20250101 1186 1100 1250 1200 1250
    """
    quotes = """
    2024-01-10 mistral mini input_uncached=1 output_text=1
    2024-01-10 mistral maxi-latest input_uncached=2 output_text=2
    """
    assert board(quotes, ratings, "seller_scope = 'any'", ", rating") == ["2024-01 any 2.0 mistral_ai maxi-latest 1200.0"]


def test_a_name_that_meant_another_model_at_the_time(board):
    """deepseek-chat was V2 in August 2024 and V3 from the end of December."""
    ratings = """
    gpt-4-0314 deepseek-v2-api-0628 deepseek-v3
    20250101 1186 1100 1300
    """
    quotes = "2024-08-10 deepseek deepseek-chat input_uncached=1 output_text=1\n2025-02-10 deepseek deepseek-chat input_uncached=1 output_text=1"
    assert board(quotes, ratings, "seller_scope = 'any'") == ["2024-12 any 1.0 deepseek deepseek-v3", "2025-01 any 1.0 deepseek deepseek-v3",
                                                             "2025-02 any 1.0 deepseek deepseek-v3"]


def test_half_life_and_yearly_factor_of_a_price_that_halves_every_half_year(board):
    halves = "\n".join(
        f"20{24 + month // 12}-{1 + month % 12:02d}-02 openai gpt-4-0314 input_uncached={64 * 0.5 ** (month / 6):.9f} output_text={64 * 0.5 ** (month / 6):.9f}"
        for month in range(18)
    )
    rows = board(halves, RATINGS, "seller_scope = 'any'", ", fit_months, round(yearly_factor, 1), round(half_life_days)")
    assert rows[4].endswith("5 - -")
    assert rows[-1].endswith("18 4.0 183.0")
