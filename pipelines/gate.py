"""The gate: nobody sees a row that breaks a promise of its contract.

It shuts twice. `broken_sql` finds the rows of a staged relation that belong in quarantine, with their reasons. `audit` then
validates the very files that are to be committed, with Great Expectations inside DuckDB, and refuses the batch as a whole.
Both derive from the contract and read the rows once; no row becomes a Python object and no message holds content.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import duckdb

from pipelines.contracts import Contract, Promise, contract, literal, quoted, tables
from pipelines.engine import MART_MACROS, connect, cursor, parquet_list, view_sql
from pipelines.errors import FlywheelError, PromiseBroken, RetryLater, StopTheLine
from pipelines.settings import Settings

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult

RESULTS = "core.gate_result"
ROWS_AS_STAGED = "rows_as_staged"
EXAMPLES = 5
"""Failing keys that a refusal names for each broken promise."""
KEY_CHARACTERS = 200
"""A longer key is told by its length only: it may be content that landed in the wrong field."""


@dataclass(frozen=True)
class PromiseResult:
    """Whether a promise held for a batch, and how many rows (or offences, of a promise about the table) broke it."""

    promise: str
    severity: Literal["stop", "warn"]
    held: bool
    broken_count: int
    because: str


@dataclass(frozen=True)
class Audit:
    """What the audit of a batch found. `seconds` is wall time and kept nowhere else."""

    table: str
    batch: str
    rows: int
    results: list[PromiseResult]
    seconds: float

    @property
    def broken(self) -> list[PromiseResult]:
        """Broken `stop` promises; the batch must not be committed."""
        return [r for r in self.results if not r.held and r.severity == "stop"]

    @property
    def warnings(self) -> list[PromiseResult]:
        """Broken `warn` promises; the batch may be committed, and somebody should look."""
        return [r for r in self.results if not r.held and r.severity == "warn"]

    @property
    def rows_sql(self) -> str:
        """A select of the results as rows of core.gate_result; the same audit gives the same rows."""
        rows = [
            {
                "batch": literal(self.batch),
                "target_table": literal(self.table),
                "promise": literal(r.promise),
                "because": literal(r.because),
                "severity": literal(r.severity),
                "held": str(r.held).lower(),
                "broken_count": str(r.broken_count),
                "checked_rows": str(self.rows),
            }
            for r in self.results
        ]
        names = contract(RESULTS).names
        values = ", ".join(f"({', '.join(row[name] for name in names)})" for row in rows)
        typed = ", ".join(contract(RESULTS).typed())
        return f"select {typed} from (values {values}) as result ({', '.join(map(quoted, names))}) order by promise"

    def write(self, path: Path) -> Path:
        """Write the results as a Parquet file of core.gate_result."""
        path.parent.mkdir(parents=True, exist_ok=True)
        duckdb.execute(f"copy ({self.rows_sql}) to {literal(str(path))} (format parquet)")
        return path


class BatchRefused(PromiseBroken):
    """A `stop` promise does not hold for a batch. `audit` has all results, for those who keep them."""

    def __init__(self, message: str, audit: Audit) -> None:
        super().__init__(message)
        self.audit = audit


def broken_sql(promised: Contract, relation: str, key: Sequence[str]) -> str:
    """One select over `relation` of the rows that break any `stop` row promise: `key`, `promises` and `reason`.

    `promises` are names, separated by commas; `reason` joins their becauses and holds nothing of the row. A promise that is
    null for a row (it tells of a value that is unknown) is held. Rows that only break `warn` promises are not selected:
    they stay where they are and are counted by `audit`.
    """
    stops = [p for p in promised.row_promises if p.severity == "stop"]
    keys = [quoted(name) for name in key]
    if not stops:
        return f"select {', '.join(keys)}, '' as promises, '' as reason from {relation} where false"
    names = [f"case when not ({p.sql}) then {literal(p.name)} end" for p in stops]
    sharing: dict[str, list[Promise]] = {}
    for p in stops:
        sharing.setdefault(p.because, []).append(p)
    becauses = [f"case when not ({_all_of(ps)}) then {literal(because)} end" for because, ps in sharing.items()]
    return (
        f"select {', '.join(keys)},\n"
        f"concat_ws(',', {', '.join(names)}) as promises,\n"
        f"concat_ws(' ', {', '.join(becauses)}) as reason\n"
        f"from {relation}\n"
        f"where not ({_all_of(stops)})"
    )


def promises(promised: Contract, expected_rows: int | None = None) -> list[Promise]:
    """All that `audit` holds a batch to: what the contract says, what its grain implies, and the row count where it is known."""
    found = promised.row_promises
    if promised.grain:
        found.append(
            Promise(
                name="grain_unique",
                level="table",
                sql=_repeated_sql(promised),
                because=f"Two rows of one {' and '.join(promised.grain)} are counted twice by every reader.",
            )
        )
    found += [p for p in promised.promises if p.level == "table"]
    if expected_rows is not None:
        found.append(
            Promise(
                name=ROWS_AS_STAGED,
                level="table",
                sql=f"select count(*) as row_count from {{table}} having count(*) <> {int(expected_rows)}",
                because=f"{expected_rows:,} rows were staged; a file that holds more or fewer is not what was judged.",
            )
        )
    return found


def audit(
    settings: Settings, promised: Contract, paths: list[str], *, batch: str, expected_rows: int | None = None, con: duckdb.DuckDBPyConnection | None = None
) -> Audit:
    """Validate staged Parquet files, all together, against the contract before they are committed.

    Returns the results; broken `warn` promises are in `warnings`. Raises `BatchRefused` (a `PromiseBroken`) when a `stop`
    promise is broken, a column is missing or a type differs; `StopTheLine` when a promise cannot be computed at all;
    `RetryLater` when disk or memory ran out. The results are also stored for `data_docs`. Within the settings' memory limit
    and threads, in the DuckDB that is `con`'s where one is given, which knows `MART_MACROS`; one audit at a time in a process.
    """
    started = time.perf_counter()
    from pipelines import expectations

    listed = promises(promised, expected_rows)
    with _opened(settings, con) as con:
        _check_columns(con, promised, paths, batch)
        con.execute(view_sql("batch", [(c.name, c.type) for c in promised.columns], paths, alike=True))
        rows = con.execute("select count(*) from batch").fetchone()[0]
        checked = [p.model_copy(update={"sql": p.sql.replace("{table}", "batch")}) for p in listed]
        validated = expectations.validate(con, "batch", expectations.suite(promised, checked))
        held = {r.expectation_config.meta["promise"]: r.success for r in validated.results if not _raised(r)}
        if unheard := [p for p in checked if p.name not in held]:
            raise _uncomputable(con, promised, unheard)
        counts = {p.name: 0 if held[p.name] else _broken_count(con, p) for p in checked}
        results = [PromiseResult(p.name, p.severity, held[p.name], counts[p.name], p.because) for p in checked]
        found = Audit(promised.table, batch, rows, results, time.perf_counter() - started)
        try:
            expectations.keep(_docs(settings), batch, validated, counts, rows)
        except OSError as error:
            raise RetryLater(f"the results of an audit cannot be kept in {_docs(settings)}: {error}") from error
        if found.broken:
            raise BatchRefused(_refusal(con, promised, found, checked), found)
    return found


@contextmanager
def _opened(settings: Settings, con: duckdb.DuckDBPyConnection | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The DuckDB to audit in: another connection to the one given, in which nothing is left behind, or one of our own."""
    if con is None:
        with connect(settings, MART_MACROS) as own:
            yield own
        return
    own = cursor(con)
    try:
        yield own
    finally:
        own.execute("drop view if exists batch")
        own.close()


def warm() -> None:
    """Import Great Expectations, which takes seconds: to be called in a thread while DuckDB stages."""
    from pipelines import expectations  # noqa: F401


def data_docs(settings: Settings) -> Path:
    """Build Great Expectations' Data Docs of the latest audits under `<home>/gx`; returns their first page."""
    from pipelines import expectations

    return expectations.build_docs(_docs(settings), [expectations.suite(contract(t), promises(contract(t))) for t in tables()])


def count_sql(level: str, sql: str) -> str:
    """An aggregate over the batch: how many rows break a row promise, or how many offences a table promise finds."""
    if level == "row":
        return f"count(*) filter (where not ({sql}))"
    # The second term makes an aggregate of the first: one row for any batch, an empty one too.
    return f"(select count(*) from ({sql}) as offence) + 0 * count(*)"


def _all_of(listed: Sequence[Promise]) -> str:
    return " and ".join(f"({p.sql})" for p in listed)


def _repeated_sql(promised: Contract) -> str:
    """The keys that several rows of one partition have. Hashes come first: they are small, and mostly the last step too."""
    parts = [quoted(name) for name in promised.grain]
    if promised.partition:
        column = quoted(promised.partition.column)
        parts.append(f"cast({column} as date)" if promised.partition.transform == "day" else column)
    key = ", ".join(parts)
    return (
        f"select {', '.join(map(quoted, promised.grain))} from {{table}} "
        f"where hash({key}) in (select hash({key}) from {{table}} group by hash({key}) having count(*) > 1) "
        f"group by {key} having count(*) > 1"
    )


def _check_columns(con: duckdb.DuckDBPyConnection, promised: Contract, paths: list[str], batch: str) -> None:
    if not paths:
        return
    there = {name: type.lower() for name, type, *_ in con.execute(f"describe select * from {parquet_list(paths)}").fetchall()}
    wanted = {c.name: c.type.lower().replace(" ", "") for c in promised.columns}
    faults = [
        f"{name} is {there.get(name, 'missing')}, not {wanted.get(name, 'in the contract')}"
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name)
    ]
    if faults:
        because = "Readers of the table count on its columns and types."
        found = Audit(promised.table, batch, 0, [PromiseResult("columns_as_promised", "stop", False, len(faults), because)], 0.0)
        raise BatchRefused(
            f"{promised.table}: batch {batch!r} was refused, nothing of it was committed. {because} {'; '.join(faults)}. "
            f"The contract is {_contract_file(promised)}; the rows come from the select that staged them.",
            found,
        )


def _broken_count(con: duckdb.DuckDBPyConnection, p: Promise) -> int:
    return con.execute(f"select {count_sql(p.level, p.sql)} from batch").fetchone()[0]


def _raised(result: ExpectationValidationResult) -> bool:
    info = result.exception_info or {}
    return any(one.get("raised_exception") for one in ([info] if "raised_exception" in info else info.values()))


def _uncomputable(con: duckdb.DuckDBPyConnection, promised: Contract, listed: list[Promise]) -> FlywheelError:
    """Which of the promises, that all share one query, made it fail. DuckDB's words only where they cannot quote a value."""
    for p in listed:
        try:
            _broken_count(con, p)
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
            return StopTheLine(f"{promised.table}: promise {p.name} does not run ({_contract_file(promised)}): {error}")
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            return RetryLater(f"{promised.table}: promise {p.name} could not be checked: {error}")
        except duckdb.Error as error:
            return StopTheLine(
                f"{promised.table}: promise {p.name} cannot be computed for every row ({type(error).__name__}); "
                f"its SQL must be true, false or null whatever a row holds ({_contract_file(promised)})"
            )
    return RetryLater(f"{promised.table}: the audit gave no result for {', '.join(p.name for p in listed)}, and gives one now")


def _refusal(con: duckdb.DuckDBPyConnection, promised: Contract, found: Audit, checked: list[Promise]) -> str:
    lines = [f"{found.table}: batch {found.batch!r} of {found.rows:,} rows was refused, nothing of it was committed."]
    sql = {p.name: p for p in checked}
    for r in found.broken:
        lines.append(f"- {r.promise} is broken {r.broken_count:,} times. {r.because}{_examples(con, promised, sql[r.promise])}")
    lines.append(f"If the promise is wrong, edit {_contract_file(promised)}; if the rows are, the select that staged them.")
    return "\n".join(lines)


def _examples(con: duckdb.DuckDBPyConnection, promised: Contract, p: Promise) -> str:
    """Keys of some offences and the place of their bytes; never another column, as any might hold content."""
    place = [c for c in ("landing_file", "landing_line") if c in promised.names]
    offences = f"select * from batch where not ({p.sql})" if p.level == "row" else p.sql
    given = [name for name, *_ in con.execute(f"describe {offences}").fetchall()]
    shown = [name for name in dict.fromkeys([*promised.grain, *place]) if name in given]
    if not shown:
        return ""
    texts = ", ".join(f"cast({quoted(name)} as varchar) as {quoted(name)}" for name in shown)
    keys = ", ".join(
        f"case when length({name}) > {KEY_CHARACTERS} then '<' || length({name}) || ' characters>' else {name} end"
        for name in map(quoted, shown)
    )
    rows = con.execute(f"select {keys} from (select {texts} from ({offences})) order by all limit {EXAMPLES}").fetchall()
    return " For example: " + "; ".join(", ".join(f"{n} {v!r}" for n, v in zip(shown, row, strict=True)) for row in rows) + "."


def _contract_file(promised: Contract) -> str:
    return f"schemas/{promised.table.replace('.', '/')}.yml"


def _docs(settings: Settings) -> Path:
    return settings.home / "gx"
