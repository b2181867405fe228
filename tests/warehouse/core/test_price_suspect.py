from __future__ import annotations

from tests.support.pricebook import book, drawn


def suspects(quotes: str, **columns: object) -> list[str]:
    return drawn(
        book(quotes, **columns),
        """
        select cast(quoted_at as date), feed, feed_model, token_class, slip, cast(last_good_usd_per_unit * 1000000 as double)
        from core.price_suspect order by all
        """,
    )


def test_a_price_per_thousand_is_held_back_and_the_last_good_one_goes_on():
    assert suspects("""
    2024-01-01 litellm m input_uncached=5
    2024-01-08 litellm m input_uncached=0.005
    2024-01-15 litellm m input_uncached=0.005
    2024-01-22 litellm m input_uncached=5
    """) == [
        "2024-01-08 litellm m input_uncached own 5.0",
        "2024-01-15 litellm m input_uncached own 5.0",
    ]


def test_a_slip_upwards():
    assert suspects("""
    2024-01-01 litellm m input_uncached=0.5
    2024-01-08 litellm m input_uncached=45
    """) == ["2024-01-08 litellm m input_uncached own 0.5"]


def test_honest_cuts_pass():
    assert (
        suspects("""
    2024-01-01 litellm m input_uncached=50
    2024-01-08 litellm m input_uncached=5
    2024-01-15 litellm m input_uncached=0.06
    """)
        == []
    )


def test_from_and_to_free_pass():
    assert (
        suspects("""
    2024-01-01 litellm m input_uncached=50
    2024-01-08 litellm m input_uncached=0
    2024-01-15 litellm m input_uncached=40
    """)
        == []
    )


def test_free_in_between_does_not_make_a_slip_good():
    assert suspects("""
    2024-01-01 litellm m input_uncached=50
    2024-01-08 litellm m input_uncached=0
    2024-01-15 litellm m input_uncached=0.05
    """) == ["2024-01-15 litellm m input_uncached own 50.0"]


def test_a_great_cut_passes_when_others_have_made_it_too():
    assert suspects("""
    2024-01-01 litellm m input_uncached=50
    2024-01-01 openrouter m input_uncached=0.3
    2024-01-01 models_dev m input_uncached=0.3
    2024-01-08 litellm m input_uncached=0.3
    """) == [  # before that, the others were off litellm
        "2024-01-01 litellm m input_uncached sibling -"
    ]


def test_a_great_cut_in_three_feeds_at_once_passes():
    assert (
        suspects("""
    2024-01-01 litellm m input_uncached=50
    2024-01-01 openrouter m input_uncached=50
    2024-01-01 models_dev m input_uncached=50
    2024-01-08 litellm m input_uncached=0.3
    2024-01-08 openrouter m input_uncached=0.3
    2024-01-08 models_dev m input_uncached=0.3
    """)
        == []
    )


def test_entries_of_one_provider_in_one_feed_do_not_vouch_for_one_another():
    assert suspects("""
    2024-01-01 litellm a/m input_uncached=50
    2024-01-01 litellm b/m input_uncached=50
    2024-01-01 litellm c/m input_uncached=50
    2024-01-08 litellm a/m input_uncached=0.05
    2024-01-08 litellm b/m input_uncached=0.05
    2024-01-08 litellm c/m input_uncached=0.05
    """) == [
        "2024-01-08 litellm a/m input_uncached own 50.0",
        "2024-01-08 litellm b/m input_uncached own 50.0",
        "2024-01-08 litellm c/m input_uncached own 50.0",
    ]


def test_a_slip_at_first_sight_is_seen_by_its_siblings():
    assert suspects("""
    2024-01-01 litellm gemini/m input_uncached=0.075
    2024-01-08 litellm gemini/m input_uncached=0.075
    2024-01-08 litellm vertex_ai/m input_uncached=75
    """) == ["2024-01-08 litellm vertex_ai/m input_uncached sibling -"]


def test_a_slip_at_first_sight_is_seen_within_the_entry():
    assert suspects("2024-01-01 litellm m input_uncached=0.08 output_text=320") == ["2024-01-01 litellm m output_text entry -"]


def test_output_two_hundred_times_input_passes():
    assert suspects("2024-01-01 litellm m input_uncached=0.5 output_text=100") == []


def test_a_fee_in_dollars_per_thousand_or_more_is_above_any_price():
    assert suspects("2024-01-01 litellm m request=1500000000", unit="request") == ["2024-01-01 litellm m request ceiling -"]
    assert suspects("2024-01-01 litellm m request=900000", unit="request") == []
    assert suspects("2024-01-01 litellm m image_out=40000000", unit="image") == ["2024-01-01 litellm m image_out ceiling -"]
    assert suspects("2024-01-01 litellm m image_out=5000000", unit="image") == []


def test_dollars_per_million_as_dollars_per_token_are_above_any_price():
    assert suspects("""
    2024-01-01 litellm m input_uncached=2500000
    2025-01-01 litellm m input_uncached=2500000
    """) == [
        "2024-01-01 litellm m input_uncached ceiling -",
        "2025-01-01 litellm m input_uncached ceiling -",
    ]


def test_a_level_that_nobody_contradicts_is_believed_after_eight_weeks():
    assert suspects("""
    2024-01-01 litellm m input_uncached=500
    2024-02-01 litellm m input_uncached=2.8
    2024-03-01 litellm m input_uncached=2.8
    2024-03-28 litellm m input_uncached=2.8
    2024-04-28 litellm m input_uncached=2.7
    """) == [
        "2024-02-01 litellm m input_uncached own 500.0",
        "2024-03-01 litellm m input_uncached own 500.0",
    ]


def test_a_level_that_its_family_contradicts_is_never_believed():
    assert suspects("""
    2024-01-01 litellm flash-exp-0827 input_uncached=0.5
    2024-01-01 openrouter flash input_uncached=0.075
    2024-02-01 litellm flash-exp-0827 input_uncached=0.005
    2024-06-01 litellm flash-exp-0827 input_uncached=0.005
    2024-12-01 litellm flash-exp-0827 input_uncached=0.005
    """) == [
        "2024-02-01 litellm flash-exp-0827 input_uncached own 0.5",
        "2024-06-01 litellm flash-exp-0827 input_uncached own 0.5",
        "2024-12-01 litellm flash-exp-0827 input_uncached own 0.5",
    ]


def test_prices_of_other_tiers_and_classes_are_no_siblings():
    assert (
        suspects("""
    2024-01-01 litellm gemini/m input_uncached=100
    2024-01-08 litellm vertex_ai/m cache_read=0.1
    """)
        == []
    )
