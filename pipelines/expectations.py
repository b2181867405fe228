"""A contract as a Great Expectations suite, validated inside DuckDB.

Importing this module imports Great Expectations, which takes seconds: `pipelines.gate` does so only when it must.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

os.environ["GX_ANALYTICS_ENABLED"] = "false"

import duckdb_sqlalchemy
import great_expectations as gx
import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.store.validation_results_store import ValidationResultsStore
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer

from pipelines.contracts import Contract, Promise
from pipelines.engine import cursor
from pipelines.gate import count_sql

if TYPE_CHECKING:
    import duckdb
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.data_context import AbstractDataContext
    from great_expectations.datasource.fluent import SQLDatasource

KEPT_RUNS = 30
"""Validation results kept of each table, for the Data Docs."""
BEACON = re.compile(r"""https://great-expectations-web-assets[^"'()\s]*""")
"""Images that Great Expectations' pages load from its own server, with an id of the installation in the address."""

# It logs what went wrong with the values it went wrong on; `gate.audit` says it without them.
for _name in ("great_expectations", "great_expectations.data_context.types.base"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class BrokenCount(TableMetricProvider):
    """How often a promise is broken, as one more aggregate of the one query that all promises of a batch share.

    `UnexpectedRowsExpectation` runs two queries a promise and fetches rows: 4.4 s for 28 promises on 1 million rows against
    1.2 s, and what it fetches may be content.
    """

    metric_name = "promise.broken_count"
    value_keys = ("level", "sql")

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict,
        metric_value_kwargs: dict,
        metrics: dict[str, Any],
        runtime_configuration: dict,
    ) -> tuple[sa.ColumnElement, dict, dict]:
        return sa.literal_column(count_sql(**metric_value_kwargs)), metric_domain_kwargs, {}


class ExpectPromiseToHold(BatchExpectation):
    """A promise of a contract: SQL that is true of every row (null counts as held), or a select that finds no offence."""

    promise: str
    because: str
    level: str
    sql: str

    metric_dependencies: ClassVar[tuple[str, ...]] = ("promise.broken_count",)
    success_keys: ClassVar[tuple[str, ...]] = ("level", "sql")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict | None = None,
        execution_engine: SqlAlchemyExecutionEngine | None = None,
    ) -> dict[str, Any]:
        broken = int(metrics["promise.broken_count"])
        return {"success": broken == 0, "result": {"observed_value": broken}}

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, **_: Any
    ) -> list[RenderedStringTemplateContent]:
        told = (configuration or result.expectation_config).kwargs
        return [
            RenderedStringTemplateContent(
                content_block_type="string_template",
                string_template={
                    "template": "$promise: $because $sql",
                    "params": {name: told[name] for name in ("promise", "because", "sql")},
                },
            )
        ]


def suite(promised: Contract, promises: Iterable[Promise]) -> gx.ExpectationSuite:
    """The expectations that stand for promises of a contract; each names its promise in `meta`."""
    expectations = []
    for p in promises:
        expectation = ExpectPromiseToHold(promise=p.name, because=p.because, level=p.level, sql=p.sql)
        expectation.severity = "critical" if p.severity == "stop" else "warning"
        expectation.meta = {"promise": p.name}
        expectations.append(expectation)
    return gx.ExpectationSuite(promised.table, expectations=expectations)


def validate(con: duckdb.DuckDBPyConnection, view: str, expected: gx.ExpectationSuite) -> ExpectationSuiteValidationResult:
    """Validate a view of an open DuckDB in place: counts come back, rows and values never do. One at a time in a process."""
    _OPENED.append(con)
    try:
        source, definition = _source(view)
        try:
            return definition.get_batch().validate(expected, result_format="BOOLEAN_ONLY")
        finally:
            source.get_execution_engine().close()
            source.get_engine().dispose()
    finally:
        _OPENED.clear()


_OPENED: list[duckdb.DuckDBPyConnection] = []
"""The open DuckDB whose view is being validated."""


def _connection() -> duckdb_sqlalchemy.ConnectionWrapper:
    return duckdb_sqlalchemy.ConnectionWrapper(cursor(_OPENED[-1]))


@cache
def _source(view: str) -> tuple[SQLDatasource, BatchDefinition]:
    """Great Expectations' way to a view. Kept, as building it costs as much as validating."""
    context = gx.get_context(mode="ephemeral")
    _quieten(context)
    source = context.data_sources.add_sql(
        "duckdb",
        connection_string="duckdb:///:memory:",
        create_temp_table=False,
        # The engine is the open DuckDB itself, with its limits, macros and file systems, not another one of that URL.
        kwargs={
            "creator": _connection,
            "isolation_level": "AUTOCOMMIT",
            "skip_autocommit_rollback": True,
        },
    )
    return source, source.add_table_asset(view, table_name=view).add_batch_definition_whole_table(view)


def keep(folder: Path, batch: str, result: ExpectationSuiteValidationResult, broken: Mapping[str, int], rows: int) -> None:
    """Store a validation result, with how often each promise was broken, where the Data Docs find it.

    The oldest results of the table make room for it.
    """
    base = folder / "uncommitted" / "validations"
    store = ValidationResultsStore(store_backend={"class_name": "TupleFilesystemStoreBackend", "base_directory": str(base)})
    run = RunIdentifier(run_name=re.sub(r"[^A-Za-z0-9_.=-]+", "-", batch)[:100] or "batch", run_time=datetime.now(UTC))
    result.meta["run_id"] = run
    for one in result.results:
        count = broken[one.expectation_config.meta["promise"]]
        one.result = {"observed_value": f"{count:,} broken", "unexpected_percent": 100 * count / max(rows, 1)}
    store.set(ValidationResultIdentifier(ExpectationSuiteIdentifier(result.suite_name), run, "batch"), result)
    runs = sorted(base.joinpath(*result.suite_name.split(".")).glob("*/*"), key=lambda path: path.name, reverse=True)
    for old in runs[KEPT_RUNS:]:
        shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # the folder of a batch that other runs are in too
            old.parent.rmdir()


def build_docs(folder: Path, suites: Iterable[gx.ExpectationSuite]) -> Path:
    """Write the Data Docs of all stored validation results; returns their first page.

    The pages take their styles from public CDNs when they are looked at; nothing in them reports that they were.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=folder.parent)
    _quieten(context)
    site = context.variables.data_docs_sites["local_site"]
    context.update_data_docs_site("local_site", {**site, "show_how_to_buttons": False})
    for expected in suites:
        context.suites.add_or_update(expected)
    index = Path(context.build_data_docs()["local_site"].removeprefix("file://"))
    for page in index.parent.rglob("*.html"):
        up = "../" * (len(page.relative_to(index.parent).parts) - 1)
        page.write_text(BEACON.sub(f"{up}static/images/logo-long.png", page.read_text()))
    return index


def _quieten(context: AbstractDataContext) -> None:
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
