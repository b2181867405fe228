"""Tables for a terminal of 80 columns."""

from __future__ import annotations

import io
from decimal import Decimal

from rich.console import Console

from pipelines.answer import table_of


def test_names_and_numbers_stay_whole_in_80_columns():
    rows = [
        ("quicksilverpro", "claude-sonnet-5.5", 16_510, 1_113.29, 112.7, Decimal("1238.40"), Decimal("8123.89")),
        ("anthropic", "claude-opus-5.5", 3, 0.5, 0.1, Decimal("0.000012"), None),
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(table_of(["provider", "model", "calls", "input_mtok", "output_mtok", "list_usd", "reported_usd"], rows, headings=lambda n: n.replace("_", " ")))
    shown = console.file.getvalue()
    for word in ("quicksilverpro", "claude-sonnet-5.5", "claude-opus-5.5", "16,510", "1,113.29", "1,238.40", "8,123.89", "0.000012", "reported"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80
