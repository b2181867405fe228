from __future__ import annotations

from tests.support.pricebook import book, drawn


def changes(quotes: str) -> list[str]:
    return drawn(
        book(quotes),
        """
        select change_day, feed_model, token_class, direction, cast(old_usd_per_unit * 1000000 as double),
            cast(new_usd_per_unit * 1000000 as double), new_to_old_ratio, days_since_last_change, is_new_model, is_announced
        from marts.price_change order by all
        """,
    )


def test_the_first_snapshot_of_a_feed_is_no_change():
    assert changes("2024-01-01 litellm m input_uncached=10") == []


def test_up_and_down():
    assert changes("""
    2024-01-01 litellm m input_uncached=10
    2024-02-01 litellm m input_uncached=5
    2024-03-01 litellm m input_uncached=10
    """) == [
        "2024-02-01 m input_uncached down 10.0 5.0 0.5 31 False False",
        "2024-03-01 m input_uncached up 5.0 10.0 2.0 29 False False",
    ]


def test_a_new_model_and_a_new_price_of_an_old_one():
    assert changes("""
    2024-01-01 litellm m input_uncached=10
    2024-02-01 litellm m input_uncached=10 cache_read=1
    2024-02-01 litellm n input_uncached=3
    """) == [
        "2024-02-01 m cache_read new - 1.0 - - False False",
        "2024-02-01 n input_uncached new - 3.0 - - True False",
    ]


def test_a_date_that_a_feed_forgets_and_a_change_that_it_takes_back_are_no_changes():
    assert changes("""
    2026-01-10 genai_prices lab/m input_uncached=5 from:1970-01-01 to:2026-01-01
    2026-01-10 genai_prices lab/m input_uncached=3 from:2026-01-01
    2026-02-10 genai_prices lab/m input_uncached=3
    2026-03-03 genai_prices lab/m input_uncached=6
    """) == [
        "2026-01-01 lab/m input_uncached down 5.0 3.0 0.6 - False False",
        # Since the change before, not since the day was forgotten.
        "2026-03-03 lab/m input_uncached up 3.0 6.0 2.0 61 False False",
    ]
    assert changes("""
    2026-01-10 genai_prices lab/m input_uncached=5 from:1970-01-01 to:2026-03-01
    2026-01-10 genai_prices lab/m input_uncached=3 from:2026-03-01
    2026-02-10 genai_prices lab/m input_uncached=5
    """) == []


def test_a_price_that_ends_and_comes_again_at_the_same_level():
    assert changes("""
    2024-01-01 litellm m input_uncached=10 cache_read=1
    2024-02-01 litellm m input_uncached=10
    2024-03-01 litellm m input_uncached=10 cache_read=1
    """) == ["2024-02-01 m cache_read ended 1.0 - - 31 False False", "2024-03-01 m cache_read new - 1.0 - 60 False False"]


def test_a_price_that_ends():
    assert changes("""
    2024-01-01 litellm m input_uncached=10 cache_read=1
    2024-02-01 litellm m input_uncached=10
    """) == ["2024-02-01 m cache_read ended 1.0 - - 31 False False"]


def test_from_and_to_free():
    assert changes("""
    2024-01-01 litellm m input_uncached=10
    2024-02-01 litellm m input_uncached=0
    2024-03-01 litellm m input_uncached=10
    """) == [
        "2024-02-01 m input_uncached down 10.0 0.0 0.0 31 False False",
        "2024-03-01 m input_uncached up 0.0 10.0 - 29 False False",
    ]


def test_an_announced_change_is_there_before_it_takes_effect():
    assert changes("""
    2026-01-01 genai_prices lab/m input_uncached=10 from:1970-01-01 to:2026-07-01
    2026-01-01 genai_prices lab/m input_uncached=5 from:2026-07-01
    """) == ["2026-07-01 lab/m input_uncached down 10.0 5.0 0.5 - False True"]


def test_a_model_that_is_delisted_is_no_change_of_price():
    assert (
        changes("""
    2024-01-01 litellm m input_uncached=10
    2024-01-01 litellm n input_uncached=10
    2024-02-01 litellm n input_uncached=10
    """)
        == []
    )


def test_a_suspect_quote_is_not_published():
    assert (
        changes("""
    2024-01-01 litellm m input_uncached=10
    2024-02-01 litellm m input_uncached=0.01
    """)
        == []
    )
