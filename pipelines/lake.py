"""The Iceberg tables. The only module that commits.

A commit is one atomic swap of a table's metadata: readers see all of it or none. Data files are written first, to names
that no snapshot knows yet; whatever a crash leaves behind is invisible and swept up by maintenance.
"""

from __future__ import annotations

import logging
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import fsspec
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)
from sqlalchemy.exc import OperationalError

from pipelines.contracts import Contract, contract, tables
from pipelines.engine import view_sql
from pipelines.errors import NotConfigured, RetryLater
from pipelines.land import is_local
from pipelines.settings import Settings

log = logging.getLogger(__name__)

_TYPES: dict[str, IcebergType] = {
    "varchar": StringType(),
    "bigint": LongType(),
    "integer": IntegerType(),
    "double": DoubleType(),
    "boolean": BooleanType(),
    "timestamp": TimestampType(),
    "date": DateType(),
}
EPOCH = date(1970, 1, 1)
ATTEMPTS = 40
"""Tries of one commit. Eight writers at once each need at most eight; the rest is for slow machines."""


class Conflict(Exception):
    """Another writer changed the table after it was read; read it again and decide anew."""


@dataclass(frozen=True)
class FileEntry:
    """A data file of a snapshot: where it is, its partition value (a day, a text, or None) and its rows."""

    path: str
    partition: date | str | None
    rows: int
    data_file: DataFile = field(repr=False, compare=False)


@dataclass(frozen=True)
class Snapshot:
    """What a table held when it was read."""

    table: Table
    files: list[FileEntry]

    @property
    def id(self) -> int | None:
        current = self.table.current_snapshot()
        return current.snapshot_id if current else None

    def of(self, partitions: Iterable[date | str]) -> list[FileEntry]:
        wanted = set(partitions)
        return [entry for entry in self.files if entry.partition in wanted]


class Lake:
    """The tables of one warehouse. Cheap to make; safe to use from several processes at once."""

    def __init__(self, settings: Settings):
        self.settings = settings
        settings.home.mkdir(parents=True, exist_ok=True)
        self.catalog = SqlCatalog("flywheel", uri=settings.catalog, warehouse=settings.warehouse)

    def table(self, name: str) -> Table:
        """The Iceberg table of a contract, made on first use; columns added to the contract are added to it."""
        promised = contract(name)
        namespace = name.split(".")[0]
        try:
            found = self.catalog.load_table(name)
        except NoSuchTableError:
            try:
                self.catalog.create_namespace(namespace)
            except NamespaceAlreadyExistsError:
                pass
            try:
                found = self.catalog.create_table(
                    name, _schema(promised), partition_spec=_partition_spec(promised), properties=_properties(promised)
                )
            except TableAlreadyExistsError:
                found = self.catalog.load_table(name)
        known = {f.name for f in found.schema().fields}
        if missing := [c for c in promised.columns if c.name not in known]:
            with found.update_schema() as update:
                for column in missing:
                    update.add_column(column.name, _iceberg_type(column.type), doc=column.means)
            found = self.catalog.load_table(name)
        return found

    def exists(self, name: str) -> bool:
        return self.catalog.table_exists(name)

    def snapshot(self, name: str) -> Snapshot:
        """The current files of a table."""
        table = self.table(name)
        current = table.current_snapshot()
        entries: list[FileEntry] = []
        if current:
            for manifest in current.manifests(table.io):
                for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                    data = entry.data_file
                    entries.append(FileEntry(data.file_path, _partition_value(data), data.record_count, data))
        return Snapshot(table, sorted(entries, key=lambda e: e.path))

    def new_path(self, name: str, partition: date | str | None = None) -> str:
        """A path for a data file that no snapshot knows yet."""
        folder = f"{self.settings.warehouse}/{name.replace('.', '/')}/data"
        if partition is not None:
            folder += f"/{str(partition).replace('/', '-')}"
        return f"{folder}/{uuid.uuid4().hex}.parquet"

    def upload(self, local: Path, name: str, partition: date | str | None = None) -> str:
        """Move a staged file into the table's folder, where it stays invisible until it is committed."""
        path = self.new_path(name, partition)
        fs, target = fsspec.core.url_to_fs(path)
        fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        if is_local(fs):
            shutil.move(local, target)
        else:
            fs.put_file(str(local), target)
            local.unlink()
        return path

    def commit(
        self,
        seen: Snapshot,
        add: list[str],
        remove: Iterable[FileEntry] = (),
        properties: dict[str, str] | None = None,
    ) -> None:
        """Add and remove data files in one atomic step, on exactly the snapshot that was `seen`.

        Raises `Conflict` when another writer has committed since: what was read is then no longer what is there.
        """
        remove = list(remove)
        if not add and not remove and not properties:
            return
        table = seen.table
        try:
            with table.transaction() as tx:
                if properties:
                    tx.set_properties(**properties)
                if add or remove:
                    if tx.table_metadata.name_mapping() is None:
                        mapping = tx.table_metadata.schema().name_mapping.model_dump_json()
                        tx.set_properties(**{"schema.name-mapping.default": mapping})
                    update = tx.update_snapshot()
                    with update.overwrite() if remove else update.fast_append() as producer:
                        for path in add:
                            producer.append_data_file(parquet_file_to_data_file(table.io, tx.table_metadata, path))
                        for entry in remove:
                            producer.delete_data_file(entry.data_file)
        except (CommitFailedException, ValidationException) as error:
            raise Conflict(str(error)) from error
        except OperationalError as error:
            if "locked" in str(error):
                raise Conflict("the catalog is busy") from error
            raise RetryLater(f"the catalog at {_without_password(self.settings.catalog)} cannot be written: {error.orig}") from error

    def strike(self, seen: Snapshot, key: str) -> None:
        """Remove a property; raises `Conflict` when another writer has committed since."""
        if key in seen.table.properties:
            try:
                with seen.table.transaction() as tx:
                    tx.remove_properties(key)
            except CommitFailedException as error:
                raise Conflict(str(error)) from error

    def expire(self, name: str, before: datetime) -> int:
        """Expire snapshots older than `before`, but never the current one; returns how many."""
        table = self.table(name)
        old = [s for s in table.snapshots() if s.timestamp_ms < before.timestamp() * 1000]
        current = table.current_snapshot()
        old = [s for s in old if current and s.snapshot_id != current.snapshot_id]
        if old:
            table.maintenance.expire_snapshots().by_ids([s.snapshot_id for s in old]).commit()
        return len(old)

    def all_files(self, name: str) -> set[str]:
        """Paths, without scheme, of the data files of every snapshot that is kept."""
        table = self.table(name)
        known: set[str] = set()
        seen: set[str] = set()
        for snapshot in table.snapshots():
            for manifest in snapshot.manifests(table.io):
                if manifest.manifest_path not in seen:
                    seen.add(manifest.manifest_path)
                    known |= {
                        fsspec.core.url_to_fs(entry.data_file.file_path)[1]
                        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                    }
        return known

    def readable(self, path: str) -> bool:
        fs, inner = fsspec.core.url_to_fs(path)
        return fs.exists(inner)

    def delete(self, path: str) -> None:
        """Delete a file that no snapshot knows."""
        fs, inner = fsspec.core.url_to_fs(path)
        if fs.exists(inner):
            fs.rm_file(inner)

    def settle(self, name: str, attempt: Callable[[Snapshot], None]) -> None:
        """Read the table and let `attempt` decide and commit; read and decide anew for as long as others come in between."""
        for n in range(ATTEMPTS):
            try:
                return attempt(self.snapshot(name))
            except Conflict as conflict:
                log.info("%s: another writer came first, trying again (%s)", name, conflict)
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**n)))  # noqa: S311 - spreads writers, nothing secret
        raise RetryLater(f"{name}: other writers came first {ATTEMPTS} times in a row; nothing of this batch was committed to it")

    def append(self, name: str, local: list[tuple[Path, date | str | None]]) -> None:
        """Add staged files to a table."""
        paths = [self.upload(path, name, partition) for path, partition in local]
        self.settle(name, lambda seen: self.commit(seen, paths))

    def publish_views(self) -> Path:
        """Swap in a fresh `warehouse.duckdb` of views over the current snapshots. Readers of the old file are not disturbed."""
        import duckdb

        target = self.settings.views
        fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        with duckdb.connect(str(fresh)) as con:
            for name in tables():
                if not self.exists(name):
                    continue
                promised = contract(name)
                con.execute(f"create schema if not exists {name.split('.')[0]}")
                con.execute(view_sql(name, _columns(promised), [e.path for e in self.snapshot(name).files]))
                con.execute(f"comment on view {name} is '{promised.sentence.replace(chr(39), chr(39) * 2)}'")
        fresh.replace(target)
        return target

    def attach(self, con, name: str, partitions: Iterable[date | str] | None = None) -> Snapshot | None:
        """Make the table readable in `con` under its own name, limited to some partitions when given."""
        if not self.exists(name):
            con.execute(f"create schema if not exists {name.split('.')[0]}")
            con.execute(view_sql(name, _columns(contract(name)), []))
            return None
        seen = self.snapshot(name)
        entries = seen.files if partitions is None else seen.of(partitions)
        con.execute(f"create schema if not exists {name.split('.')[0]}")
        con.execute(view_sql(name, _columns(contract(name)), [entry.path for entry in entries]))
        return seen


def _columns(promised: Contract) -> list[tuple[str, str]]:
    return [(c.name, c.type) for c in promised.columns]


def _without_password(uri: str) -> str:
    from sqlalchemy import make_url

    return make_url(uri).render_as_string(hide_password=True)


def _iceberg_type(type: str) -> IcebergType:
    if type.startswith("decimal("):
        precision, scale = type.removeprefix("decimal(").removesuffix(")").split(",")
        return DecimalType(int(precision), int(scale))
    if type not in _TYPES:
        raise NotConfigured(f"column type {type!r} is not one of {', '.join(_TYPES)}, decimal(p,s)")
    return _TYPES[type]


def _schema(promised: Contract) -> Schema:
    # All fields are optional to Iceberg: DuckDB writes optional Parquet columns, and the gate holds `required`.
    return Schema(
        *[
            NestedField(n, c.name, _iceberg_type(c.type), required=False, doc=c.means)
            for n, c in enumerate(promised.columns, start=1)
        ]
    )


def _partition_spec(promised: Contract) -> PartitionSpec:
    if promised.partition is None:
        return PartitionSpec()
    source = promised.names.index(promised.partition.column) + 1
    transform = DayTransform() if promised.partition.transform == "day" else IdentityTransform()
    suffix = "_day" if promised.partition.transform == "day" else "_part"
    return PartitionSpec(PartitionField(source, 1000, transform, promised.partition.column + suffix))


def _properties(promised: Contract) -> dict[str, str]:
    properties = {
        # Retries are decided in `Lake.settle`, on what the table then holds, not blindly.
        "commit.retry.num-retries": "0",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "20",
    }
    for column in promised.columns:
        if column.personal == "content":
            # No prompt text in table metadata.
            properties[f"write.metadata.metrics.column.{column.name}"] = "none"
    return properties


def _partition_value(data: DataFile) -> date | str | None:
    if len(data.partition) == 0:
        return None
    value = data.partition[0]
    return EPOCH + timedelta(days=value) if isinstance(value, int) else value
