from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.feeds import embedded_genai_prices
from tests.support.staging import stage


def rows_of(prices: object, **model: object) -> list[dict]:
    """Staged rows of one model."""
    return stage("price", "genai_prices", [json.dumps([{"id": "lab", "models": [{"id": "m", "prices": prices, **model}]}])])


def book(prices: object) -> list[tuple]:
    """(token_class, tier, above, from, to, condition, USD per million) of one model."""
    return sorted(
        (
            r["token_class"],
            r["service_tier"],
            r["context_above_tokens"],
            str(r["valid_from"])[:10],
            str(r["valid_to"])[:10],
            str(r["price_condition"]),
            float(r["price_usd_per_unit"] * 1_000_000),
        )
        for r in rows_of(prices)
        if r["token_class"]
    )


def test_an_undated_price_is_as_of_the_snapshot():
    assert book({"input_mtok": 1.25}) == [("input_uncached", "standard", 0, "None", "None", "None", 1.25)]


def test_tiers():
    assert book({"input_mtok": {"base": 1, "tiers": [{"start": 272000, "price": 2}]}}) == [
        ("input_uncached", "standard", 0, "None", "None", "None", 1.0),
        ("input_uncached", "standard", 272000, "None", "None", "None", 2.0),
    ]


def test_dated_prices_follow_one_another_and_the_first_holds_since_always():
    assert book(
        [
            {"prices": {"input_mtok": 3}},
            {"constraint": {"start_date": "2026-07-01"}, "prices": {"input_mtok": 2}},
            {"constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 1}},
        ]
    ) == [
        ("input_uncached", "standard", 0, "1970-01-01", "2026-07-01", "None", 3.0),
        ("input_uncached", "standard", 0, "2026-07-01", "2027-01-01", "None", 2.0),
        ("input_uncached", "standard", 0, "2027-01-01", "None", "None", 1.0),
    ]


def test_a_later_entry_wins_though_it_starts_earlier():
    assert book(
        [
            {"prices": {"input_mtok": 3}},
            {"constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 1}},
            {"constraint": {"start_date": "2026-07-01"}, "prices": {"input_mtok": 2}},
        ]
    ) == [
        ("input_uncached", "standard", 0, "1970-01-01", "2026-07-01", "None", 3.0),
        ("input_uncached", "standard", 0, "2026-07-01", "None", "None", 2.0),
    ]


@pytest.mark.parametrize(("start", "end"), [
    ("16:30:00Z", "00:30:00Z"), ("16:30:00+00:00", "00:30:00+00:00"), ("16:30:00", "00:30"), ("18:30:00+02:00", "20:00:00-04:30"),
])  # fmt: skip
def test_a_time_of_day_is_a_condition_in_utc_however_it_is_written(start, end):
    constraint = {"start_time": start, "end_time": end}
    assert book([{"prices": {"input_mtok": 2}}, {"constraint": constraint, "prices": {"input_mtok": 1}}]) == [
        ("input_uncached", "standard", 0, "None", "None", "None", 2.0),
        ("input_uncached", "standard", 0, "None", "None", "daily 16:30:00+00:00-00:30:00+00:00", 1.0),
    ]


def test_a_time_of_day_beside_named_days_holds_since_always_as_the_prices_it_goes_before_do():
    night, noon = ({"start_time": f"{hour}:00:00+00:00", "end_time": f"{hour + 1}:00:00+00:00"} for hour in (22, 12))
    assert book(
        [
            {"prices": {"input_mtok": 4}},
            {"constraint": noon, "prices": {"input_mtok": 8}},
            {"constraint": {"start_date": "2026-09-10"}, "prices": {"input_mtok": 2}},
            {"constraint": night, "prices": {"input_mtok": 1}},
        ]
    ) == [
        # At noon, the entry after it goes before it from its day on.
        ("input_uncached", "standard", 0, "1970-01-01", "2026-09-10", "None", 4.0),
        ("input_uncached", "standard", 0, "1970-01-01", "2026-09-10", "daily 12:00:00+00:00-13:00:00+00:00", 8.0),
        ("input_uncached", "standard", 0, "1970-01-01", "None", "daily 22:00:00+00:00-23:00:00+00:00", 1.0),
        ("input_uncached", "standard", 0, "2026-09-10", "None", "None", 2.0),
    ]


def test_the_first_override_that_fits_wins_and_only_for_what_it_names():
    variants = [
        {"when": {"processing": "batch"}, "constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 1}},
        {"when": {"processing": "batch"}, "prices": {"input_mtok": 2, "output_mtok": 4}},
        {"when": {"speed": "fast"}, "prices": {"input_mtok": 9}},
        {"when": {"route": "mistral/eu"}, "prices": {"input_mtok": 3.3}},
    ]
    assert sorted(
        (
            r["service_tier"],
            str(r["region"]),
            r["token_class"],
            str(r["valid_from"])[:10],
            str(r["valid_to"])[:10],
            float(r["price_usd_per_unit"] * 10**6),
        )
        for r in rows_of({"input_mtok": 3}, price_variants=variants)
    ) == [
        ("batch", "None", "input_uncached", "1970-01-01", "2027-01-01", 2.0),
        ("batch", "None", "input_uncached", "2027-01-01", "None", 1.0),
        ("batch", "None", "output_text", "None", "None", 4.0),
        ("fast", "None", "input_uncached", "None", "None", 9.0),
        ("standard", "None", "input_uncached", "None", "None", 3.0),
        ("standard", "eu", "input_uncached", "None", "None", 3.3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "token_class", "unit", "price"),
    [
        ("cache_write_1h_mtok", "cache_write_1h", "token", "0.000006"),
        ("cache_audio_read_mtok", "cache_read_audio", "token", "0.000006"),
        ("requests_kcount", "request", "request", "0.006"),
        ("web_searches_kcount", "web_search", "query", "0.006"),
        ("audio_hours", "audio_second", "second", "0.001666666666668"),
        ("smells_mtok", "unknown:smells_mtok", "unknown", "6"),
    ],
)
def test_units(key, token_class, unit, price):
    (row,) = rows_of({key: "6"})
    assert (row["token_class"], row["unit"], row["price_usd_per_unit"]) == (token_class, unit, Decimal(price))


def test_the_names_that_a_model_answers_to_go_along():
    match = {"or": [{"equals": "m"}, {"starts_with": "m-"}]}
    assert [row["price_note"] for row in rows_of({"input_mtok": 3}, match=match)] == [f"names {json.dumps(match, separators=(',', ':'))}"]
    assert [row["price_note"] for row in rows_of({"input_mtok": 3})] == [None]


def test_the_embedded_book_agrees_with_the_package_itself(tmp_path: Path):
    """Every model's price of a million input tokens, at many moments, as genai-prices computes it."""
    from genai_prices.data import providers

    path = tmp_path / "data.json"
    embedded_genai_prices(path)
    spans: dict[tuple[str, str], list[dict]] = {}
    for row in stage("price", "genai_prices", [path]):
        plain = row["service_tier"] == "standard" and row["region"] is None and row["price_condition"] is None
        if plain and row["context_above_tokens"] == 0:
            spans.setdefault((row["feed_model"], row["token_class"]), []).append(row)

    keys = {"input_mtok": "input_uncached", "output_mtok": "output_text", "cache_read_mtok": "cache_read"}
    models = [(f"{provider.id}/{model.id}", model) for provider in providers for model in provider.models]
    compared = 0
    for name, model in models:
        for month in range(0, 40, 3):
            at = datetime(2024, 6, 1, tzinfo=UTC) + timedelta(days=31 * month)
            conditional = model.prices if isinstance(model.prices, list) else []
            if any(hasattr(price.constraint, "start_time") for price in conditional):
                continue
            expected = model.get_prices(at)
            for key, token_class in keys.items():
                price = getattr(expected, key, None)
                wanted = None if price is None else getattr(price, "base", price)
                naive = at.replace(tzinfo=None)
                found = [
                    row["price_usd_per_unit"]
                    for row in spans.get((name, token_class), [])
                    if (row["valid_from"] or naive) <= naive < (row["valid_to"] or datetime.max)
                ]
                assert found == ([] if wanted is None else [round(Decimal(wanted) / 10**6, 15)]), (name, token_class, at)
                compared += 1
    assert compared > 50_000
