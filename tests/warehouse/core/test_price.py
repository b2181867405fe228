from __future__ import annotations

import random
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pricebook import book, build, drawn, pages


def test_a_price_that_stays_is_one_row():
    assert pages(
        book("""
        2024-01-01 litellm m input_uncached=10
        2024-01-08 litellm m input_uncached=10
        2024-01-15 litellm m input_uncached=10
        """)
    ) == ["m input_uncached 10.0 2024-01-01.. 2024-01-01.."]


def test_a_change_splits_the_old_row():
    assert pages(
        book("""
        2024-01-01 litellm m input_uncached=10
        2024-02-01 litellm m input_uncached=8
        """)
    ) == [
        "m input_uncached 10.0 2024-01-01.. 2024-01-01..2024-02-01",
        "m input_uncached 10.0 2024-01-01..2024-02-01 2024-02-01..",
        "m input_uncached 8.0 2024-02-01.. 2024-02-01..",
    ]


def test_there_and_back_again():
    assert pages(
        book("""
        2024-01-01 litellm m input_uncached=10
        2024-02-01 litellm m input_uncached=8
        2024-03-01 litellm m input_uncached=10
        """)
    ) == [
        "m input_uncached 10.0 2024-01-01.. 2024-01-01..2024-02-01",
        "m input_uncached 10.0 2024-01-01..2024-02-01 2024-02-01..",
        "m input_uncached 8.0 2024-02-01.. 2024-02-01..2024-03-01",
        "m input_uncached 8.0 2024-02-01..2024-03-01 2024-03-01..",
        "m input_uncached 10.0 2024-03-01.. 2024-03-01..",
    ]


def test_free_is_a_price():
    assert (
        pages(
            book("""
        2024-01-01 litellm m input_uncached=10
        2024-02-01 litellm m input_uncached=0
        """)
        )[-1]
        == "m input_uncached 0.0 2024-02-01.. 2024-02-01.."
    )


def test_a_price_dropped_from_a_model_that_is_still_listed_ends():
    assert pages(
        book("""
        2024-01-01 litellm m input_uncached=10 cache_read=1
        2024-02-01 litellm m input_uncached=10
        2024-03-01 litellm m input_uncached=10 cache_read=1
        """)
    ) == [
        "m cache_read 1.0 2024-01-01.. 2024-01-01..2024-02-01",
        "m cache_read 1.0 2024-01-01..2024-02-01 2024-02-01..",
        "m cache_read 1.0 2024-03-01.. 2024-03-01..",
        "m input_uncached 10.0 2024-01-01.. 2024-01-01..",
    ]


def test_a_price_that_becomes_dynamic_ends():
    assert (
        pages(
            book("""
        2024-01-01 openrouter m input_uncached=10
        2024-02-01 openrouter m
        """)
        )[-1]
        == "m input_uncached 10.0 2024-01-01..2024-02-01 2024-02-01.."
    )


def test_a_model_dropped_from_a_feed_keeps_its_price_and_says_since_when():
    con = book("""
    2024-01-01 litellm m input_uncached=10
    2024-01-01 litellm other input_uncached=1
    2024-02-01 litellm other input_uncached=1
    2024-03-01 litellm other input_uncached=1
    """)
    assert drawn(con, "select feed_model, valid_to, known_to, delisted_at from core.price order by 1") == [
        "m - - 2024-02-01",
        "other - - -",
    ]


def test_a_model_listed_again_at_the_same_price_was_never_away():
    con = book("""
    2024-01-01 litellm m input_uncached=10
    2024-02-01 litellm other input_uncached=1
    2024-03-01 litellm m input_uncached=10
    """)
    assert drawn(con, "select valid_from, valid_to, delisted_at from core.price where feed_model = 'm'") == ["2024-01-01 - -"]


def test_feeds_do_not_disturb_one_another():
    con = book("""
    2024-01-01 litellm m input_uncached=10
    2024-01-02 openrouter m input_uncached=12
    2024-02-01 litellm m input_uncached=10
    """)
    assert drawn(con, "select feed, cast(price_usd_per_unit * 1000000 as integer), valid_from from core.price order by 1") == [
        "litellm 10 2024-01-01",
        "openrouter 12 2024-01-02",
    ]


def test_a_dated_schedule_is_taken_at_its_word_past_and_future():
    assert pages(
        book("""
        2026-01-01 genai_prices lab/m input_uncached=10 from:1970-01-01 to:2026-07-01
        2026-01-01 genai_prices lab/m input_uncached=8 from:2026-07-01
        """)
    ) == [
        "lab/m input_uncached 10.0 1970-01-01..2026-07-01 2026-01-01..",
        "lab/m input_uncached 8.0 2026-07-01.. 2026-01-01..",
    ]


def test_an_announcement_ends_the_undated_price():
    assert pages(
        book("""
        2026-01-01 genai_prices lab/m input_uncached=10
        2026-03-01 genai_prices lab/m input_uncached=10 from:1970-01-01 to:2026-07-01
        2026-03-01 genai_prices lab/m input_uncached=8 from:2026-07-01
        """)
    ) == [
        "lab/m input_uncached 10.0 2026-01-01.. 2026-01-01..2026-03-01",
        "lab/m input_uncached 10.0 1970-01-01..2026-07-01 2026-03-01..",
        "lab/m input_uncached 8.0 2026-07-01.. 2026-03-01..",
    ]


def test_an_announcement_that_is_put_off():
    assert pages(
        book("""
        2026-01-01 genai_prices lab/m input_uncached=10 from:1970-01-01 to:2026-07-01
        2026-01-01 genai_prices lab/m input_uncached=8 from:2026-07-01
        2026-06-01 genai_prices lab/m input_uncached=10 from:1970-01-01 to:2026-09-01
        2026-06-01 genai_prices lab/m input_uncached=8 from:2026-09-01
        """)
    ) == [
        "lab/m input_uncached 10.0 1970-01-01..2026-07-01 2026-01-01..2026-06-01",
        "lab/m input_uncached 8.0 2026-07-01.. 2026-01-01..2026-06-01",
        "lab/m input_uncached 10.0 1970-01-01..2026-09-01 2026-06-01..",
        "lab/m input_uncached 8.0 2026-09-01.. 2026-06-01..",
    ]


def test_a_suspect_quote_is_no_news():
    assert pages(
        book("""
        2024-01-01 litellm m input_uncached=10
        2024-01-08 litellm m input_uncached=0.01
        2024-01-15 litellm m input_uncached=9
        """)
    ) == [
        "m input_uncached 10.0 2024-01-01.. 2024-01-01..2024-01-15",
        "m input_uncached 10.0 2024-01-01..2024-01-15 2024-01-15..",
        "m input_uncached 9.0 2024-01-15.. 2024-01-15..",
    ]


def test_of_a_dated_schedule_only_the_suspect_part_is_left_out():
    assert pages(
        book("""
        2026-01-01 genai_prices lab/m input_uncached=1 from:1970-01-01 to:2026-02-01
        2026-01-01 genai_prices lab/m input_uncached=1000000 from:2026-02-01 to:2026-03-01
        2026-01-01 genai_prices lab/m input_uncached=2 from:2026-03-01
        """)
    ) == [
        "lab/m input_uncached 1.0 1970-01-01..2026-02-01 2026-01-01..",
        "lab/m input_uncached 2.0 2026-03-01.. 2026-01-01..",
    ]


def test_unknown_keys_are_not_for_costing():
    assert pages(book("2024-01-01 litellm m unknown:cheese=10")) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_arrival_does_not_matter(seed):
    lines = [
        f"2024-{month:02}-01 litellm m{model} input_uncached={random.Random(month * 7 + model).choice([1, 2, 3])} output_text=5"
        for month in range(1, 10)
        for model in range(5)
        if (month + model) % 6
    ]
    tidy = book("\n".join(lines))
    random.Random(seed).shuffle(lines)
    untidy = book("\n".join(lines))
    everything = "select * from core.price order by price_id"
    assert tidy.execute(everything).fetchall() == untidy.execute(everything).fetchall()


def test_building_again_changes_nothing():
    con = book("""
    2024-01-01 litellm m input_uncached=10
    2024-02-01 litellm m input_uncached=8
    """)
    before = con.execute("select * from core.price order by price_id").fetchall()
    assert build(con).execute("select * from core.price order by price_id").fetchall() == before


START = date(2024, 1, 1)
price_of_the_week = st.one_of(st.none(), st.sampled_from([1, 2, 3, 0]))


def test_the_names_of_a_model_are_those_of_the_latest_snapshot_and_move_no_price():
    drawing = """
    2024-01-01 genai_prices lab/m input_uncached=3 output_text=9
    2024-01-08 genai_prices lab/m input_uncached=3
    """
    con = book(drawing)
    before = con.execute("select price_id, price_key, price_usd_per_unit, valid_from, valid_to from core.price order by 1").fetchall()
    con.execute("""update staging.price set price_note = 'names {"equals":"' || case when landing_file like '%-08' then 'new' else 'old' end || '"}'""")
    after = build(con).execute("select price_id, price_key, price_usd_per_unit, valid_from, valid_to from core.price order by 1").fetchall()
    assert after == before
    assert drawn(con, "select distinct name_clause from core.price") == ['{"equals":"new"}']


@settings(max_examples=12, deadline=None)
@given(st.lists(price_of_the_week, min_size=1, max_size=9))
def test_the_book_answers_as_the_snapshots_did(weeks):
    """What was believed at any time of any time is what the snapshots up to then said; None: listed without the price."""
    days = [START + timedelta(days=7 * n) for n in range(len(weeks))]
    con = book(
        "\n".join(
            f"{day} litellm m other=1" + ("" if price is None else f" input_uncached={price}")
            for day, price in zip(days, weeks, strict=True)
        )
    )
    con.execute("create table moment as select unnest($days::timestamp[]) as at", {"days": [str(day) for day in days]})
    found = con.execute(
        """
        select cast(known.at as date), cast(valid.at as date), list(cast(price_usd_per_unit * 1000000 as integer))
        from core.price as price
        join moment as known on known.at >= known_from and (known.at < known_to or known_to is null)
        join moment as valid on valid.at >= valid_from and (valid.at < valid_to or valid_to is null)
        where token_class = 'input_uncached'
        group by all
        """
    ).fetchall()
    # at a time after what was known, the last word holds on
    expected = {
        (known, valid): [weeks[min(valid_no, known_no)]]
        for known_no, known in enumerate(days)
        for valid_no, valid in enumerate(days)
        if weeks[min(valid_no, known_no)] is not None
    }
    assert {(known, valid): prices for known, valid, prices in found} == expected
