from __future__ import annotations

import csv
from pathlib import Path

from tests.support.pricebook import book, drawn

PROVIDERS = Path(__file__).parents[3] / "schemas/reference/provider.csv"
KINDS = {"first_party", "specialised", "edge", "cloud_platform", "self_hosted", "aggregator"}


def test_every_quote_has_its_own_id_and_a_price_the_same_key_through_time():
    con = book("""
    2024-01-01 litellm m input_uncached=1 output_text=2
    2024-01-08 litellm m input_uncached=1
    """)
    assert drawn(con, "select count(*), count(distinct quote_id), count(distinct price_key) from core.price_quote") == ["3 3 2"]


def test_ids_are_the_same_on_every_machine():
    con = book("2024-01-01 litellm m input_uncached=1")
    assert drawn(con, "select quote_id, price_key from core.price_quote") == [
        "ef18fe4152f275dfa46b5b6ac9a87cd6 077f42a4a44ec855441d2d2e6d4eabdf"
    ]


def test_the_list_of_providers_is_sound():
    with PROVIDERS.open() as file:
        rows = list(csv.DictReader(file))
    aliases = [row["alias"] for row in rows]
    kinds = {}
    for row in rows:
        kinds.setdefault(row["provider_name"], set()).add(row["provider_kind"])
    assert aliases == sorted(set(aliases))
    assert all(alias == alias.lower() for alias in aliases)
    assert {row["provider_kind"] for row in rows} == KINDS
    assert [name for name, found in kinds.items() if len(found) > 1] == []
    # a canonical name is understood too
    assert set(kinds) <= set(aliases)
