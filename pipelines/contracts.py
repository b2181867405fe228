"""What each table promises: `schemas/<schema>/<table>.yml` read once, and all that derives from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import NotConfigured
from pipelines.settings import ROOT

# libyaml's, where it is there: forty contracts take Python's own two seconds.
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Strict):
    """One column: its type in DuckDB's words, its unit and what it means."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    type: str
    means: str
    unit: str | None = None
    required: bool = False
    personal: Literal["none", "pseudonym", "maybe", "content"] = "none"
    one_of: tuple[str, ...] | None = None


class Promise(_Strict):
    """Something that always holds. `sql` is true of a good row (`row`), or selects the offences (`table`)."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    because: str
    sql: str
    level: Literal["row", "table"] = "row"
    severity: Literal["stop", "warn"] = "stop"


class Partition(_Strict):
    """The column by whose values data files are kept apart."""

    column: str
    transform: Literal["day", "identity"]
    period: Literal["day", "week", "month"] = "day"
    """What a day of it stands for: in a table of weeks (from Monday) or months, rows have the first day of theirs."""

    def start(self, day: date) -> date:
        """The first day of the period that a day lies in."""
        return day - timedelta(days={"day": 0, "week": day.weekday(), "month": day.day - 1}[self.period])

    def end(self, start: date) -> date:
        """The first day after a period."""
        return self.start(start + timedelta(days={"day": 1, "week": 7, "month": 31}[self.period]))


class Reach(_Strict):
    """How many days around its own a day of a table (or a week, a month) looks at: later feedback, an earlier turn of the session."""

    back_days: int = Field(default=0, ge=0)
    ahead_days: int = Field(default=0, ge=0)


class Contract(_Strict):
    """The contract of one table."""

    table: str = Field(pattern=r"^(core|marts|datasets|forecasts|exports)\.[a-z][a-z0-9_]*$")
    sentence: str
    grain: tuple[str, ...]
    columns: tuple[Column, ...]
    partition: Partition | None = None
    version: str | None = None
    reads: tuple[str, ...] = ()
    reach: Reach = Reach()
    prepared_by: str | None = Field(default=None, pattern=r"^pipelines(\.[a-z][a-z0-9_]*)+:[a-z][a-z0-9_]*$")
    """A function that makes temporary tables for the select: what SQL alone cannot compute. It is given a connection, and of a table with
    days the first of those that are built and the one after the last."""
    day_by_day: bool = False
    """A table of a row or more a call: large days are built one at a time, with what its select marks as materialized worked out once for all."""
    on_demand: bool = False
    """Built only when it is asked for by name or by what reads it: anything new anywhere changes all of it."""
    promises: tuple[Promise, ...] = ()

    @property
    def names(self) -> list[str]:
        """Its columns, in order."""
        return [column.name for column in self.columns]

    @property
    def sql_path(self) -> Path:
        """Where the query that fills the table stands, if there is one."""
        schema, name = self.table.split(".")
        return ROOT / "warehouse" / schema / f"{name}.sql"

    @property
    def select(self) -> str:
        """The query that fills the table, over what it reads."""
        return self.sql_path.read_text().strip().rstrip(";")

    @property
    def is_built(self) -> bool:
        """Whether `build` fills it, from a select in warehouse/."""
        return not self.table.startswith("core.") and self.sql_path.is_file()

    def prepare(self) -> Callable[..., None] | None:
        """The function named by `prepared_by`."""
        if self.prepared_by is None:
            return None
        module, name = self.prepared_by.split(":")
        return getattr(import_module(module), name)

    @property
    def code_paths(self) -> list[Path]:
        """The files that say how the table is computed; none of them is run to find that out."""
        if self.prepared_by is None:
            return [self.sql_path]
        return [self.sql_path, Path(find_spec(self.prepared_by.split(":")[0]).origin)]

    def casts(self) -> dict[str, str]:
        """By column: the select-list item that gives it its declared type."""
        return dict(zip(self.names, self.typed(), strict=True))

    def typed(self, available: list[str] | None = None) -> list[str]:
        """Select-list items that give every column its declared type; one not in `available` is null."""
        return [
            f'cast({quoted(c.name) if available is None or c.name in available else "null"} as {c.type}) as {quoted(c.name)}'
            for c in self.columns
        ]

    def typed_from(self, query: str) -> str:
        """A select of the rows of `query`, every column of its declared type."""
        return f"select {', '.join(self.typed())} from ({query})"

    @property
    def row_promises(self) -> list[Promise]:
        """Declared row promises and those that `required` and `one_of` imply."""
        implied = [
            Promise(name=f"{c.name}_given", sql=f"{quoted(c.name)} is not null", because="Nothing can be done with a row without it.")
            for c in self.columns
            if c.required
        ] + [
            Promise(
                name=f"{c.name}_known",
                sql=f"{quoted(c.name)} in ({', '.join(literal(v) for v in c.one_of)})",
                because="Every reader of the table counts on these values only.",
            )
            for c in self.columns
            if c.one_of
        ]
        return implied + [p for p in self.promises if p.level == "row"]


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


@cache
def contract(table: str) -> Contract:
    """The contract of `core.inference` and the like. Raises `NotConfigured` when there is none or it is malformed."""
    if not re.fullmatch(r"[a-z]+\.[a-z0-9_]+", table):
        raise NotConfigured(f"{table!r} is no table name; they look like core.inference")
    path = ROOT / "schemas" / f"{table.replace('.', '/')}.yml"
    if not path.is_file():
        raise NotConfigured(f"no table named {table}: there is no {path.relative_to(ROOT)}; tables: {', '.join(tables())}")
    try:
        found = Contract.model_validate(yaml.load(path.read_text(), Loader=SAFE_LOADER))  # noqa: S506 - both are safe loaders
    except (ValidationError, yaml.YAMLError) as error:
        raise NotConfigured(f"{path.relative_to(ROOT)} is no valid contract: {error}") from error
    if found.table != table:
        raise NotConfigured(f"{path.relative_to(ROOT)} says it is the contract of {found.table}")
    return found


def tables() -> list[str]:
    """All tables that have a contract, in reading order: core first."""
    paths = sorted((ROOT / "schemas").glob("*/*.yml"), key=lambda p: (p.parent.name != "core", p.parent.name, p.stem))
    return [f"{path.parent.name}.{path.stem}" for path in paths if path.parent.name not in ("reference", "recipe")]
