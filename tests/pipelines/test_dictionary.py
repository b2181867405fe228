"""The data dictionary: contracts in, every table, column and promise out."""

from __future__ import annotations

import re

from pipelines.contracts import contract, tables
from pipelines.dictionary import dictionary


def test_every_table_column_and_promise_is_told():
    page = dictionary()
    sections = {m[1]: m[2] for m in re.finditer(r"^### (\S+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)}
    assert list(sections) == tables()
    for table, told in sections.items():
        promised = contract(table)
        assert promised.sentence in told
        rows = [line for line in told.splitlines() if line.startswith("| `")]
        assert [re.match(r"\| `(\w+)`", row)[1] for row in rows] == [*promised.names, *(p.name for p in promised.promises)]
        for column, row in zip(promised.columns, rows, strict=False):
            # A cell's own bars are escaped, so every row has four cells.
            assert len(re.split(r"(?<!\\)\|", row)) == 6
            assert column.means.replace("|", r"\|") in row


def test_every_link_leads_to_a_heading():
    page = dictionary()
    headings = {m.replace(".", "") for m in re.findall(r"^### (\S+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings
