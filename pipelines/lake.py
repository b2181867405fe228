"""The Iceberg tables. The only module that commits.

A commit is one atomic swap of a table's metadata: readers see all of it or none. Data files are written first, to names
that no snapshot knows yet; whatever a crash leaves behind is invisible and swept up by maintenance.
"""

from __future__ import annotations

import fcntl
import logging
import random
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import fsspec
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
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
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from pipelines.contracts import Contract, contract, tables
from pipelines.engine import register_stores, view_sql
from pipelines.errors import NotConfigured, RetryLater
from pipelines.land import is_local, scrubbed
from pipelines.settings import LASTING, Settings

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
STORE_DRIVERS = {"aiobotocore", "botocore", "aiohttp", "gcsfs", "google", "adlfs", "azure"}
"""Packages below fsspec that raise errors of their own when a store does not answer."""
ATTEMPTS = 40
"""Tries of one commit. Eight writers at once each need at most eight; the rest is for slow machines."""


class Conflict(Exception):
    """Another writer changed the table after it was read; read it again and decide anew."""


@contextmanager
def storage(doing: str) -> Iterator[None]:
    """Full disks, lack of memory, broken connections and a catalog that does not answer, as `RetryLater`; a local file that may not be
    read or made as `NotConfigured`. Also a decorator."""
    try:
        yield
    except (OSError, MemoryError, duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException, OperationalError, sqlite3.OperationalError) as error:
        # SQLAlchemy's own text would quote the statement with all its values.
        cause = error.orig if isinstance(error, OperationalError) else error
        # A store in the cloud, which names no file, may refuse what it lets through a minute later.
        is_lasting = isinstance(error, LASTING) and error.filename
        raise (NotConfigured if is_lasting else RetryLater)(f"{doing} stopped, as storage failed: {_told(cause)}") from error
    except duckdb.Error as error:
        if type(error) is not duckdb.Error:
            raise
        # What fsspec raised below DuckDB: its traceback, an empty line, and the place in the SQL.
        traceback, _, _ = str(error).partition("\n\n")
        raise RetryLater(f"{doing} stopped, as the store failed: {scrubbed(traceback.splitlines()[-1])}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in STORE_DRIVERS:
            raise
        raise RetryLater(f"{doing} stopped, as the store failed: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """What went wrong; DuckDB puts advice on its own settings behind an empty line."""
    return scrubbed(f"{type(error).__name__}: {error}".partition("\n\n")[0])


@dataclass(frozen=True)
class FileEntry:
    """A data file of a snapshot: where it is, its partition value (a day, a text, or None) and its rows."""

    path: str
    partition: date | str | None
    rows: int
    data_file: DataFile = field(repr=False, compare=False)


class _Catalog(SqlCatalog):
    """PyIceberg's catalog, which reads a table's metadata file once: it never changes, as a commit writes another one under another name."""

    _read: ClassVar[dict[str, TableMetadata]] = {}

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        if location not in self._read:
            found = super()._convert_orm_to_iceberg(orm_table)
            _remember(self._read, location, found.metadata, most=256)
            return found
        metadata = self._read[location]
        identifier = (*self.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name)
        return Table(identifier, metadata, location, self._load_file_io(metadata.properties, location), self)


class _Transaction(Transaction):
    """PyIceberg's transaction, which works out the metadata after its updates once for each update, not each time it is asked for."""

    _known: tuple[int, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        if self._known is None or self._known[0] != len(self._updates):
            self._known = (len(self._updates), super().table_metadata)
        return self._known[1]


_ENTRIES: dict[str, list[FileEntry]] = {}
"""The data files in a manifest, by its path; manifests never change."""
_FILES: dict[str, list[FileEntry]] = {}
"""The data files of a snapshot, in order, by the path of its list of manifests, which never changes either."""


def _entries(manifest: ManifestFile, io: FileIO) -> list[FileEntry]:
    if manifest.manifest_path not in _ENTRIES:
        data_files = [entry.data_file for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)]
        _remember(_ENTRIES, manifest.manifest_path, [FileEntry(d.file_path, _partition_value(d), d.record_count, d) for d in data_files], most=10_000)
    return _ENTRIES[manifest.manifest_path]


def _remember(where: dict[str, Any], name: str, value: object, most: int) -> None:
    if len(where) >= most:
        where.clear()
    where[name] = value


@dataclass(frozen=True)
class Snapshot:
    """What a table held when it was read."""

    table: Table

    @cached_property
    def files(self) -> list[FileEntry]:
        """Its data files, in the order of their paths; read when first asked for, as who only adds rows need not know them."""
        current = self.table.current_snapshot()
        if not current:
            return []
        if current.manifest_list not in _FILES:
            entries = (entry for manifest in current.manifests(self.table.io) for entry in _entries(manifest, self.table.io))
            _remember(_FILES, current.manifest_list, sorted(entries, key=lambda e: e.path), most=256)
        return _FILES[current.manifest_list]

    @property
    def alike(self) -> bool:
        """Whether all data files have the same columns: the table never had others."""
        return len(self.table.schemas()) == 1

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
        settings.make_home()
        given = {"uri": settings.catalog, "warehouse": settings.warehouse}
        if not is_local(fsspec.core.url_to_fs(settings.warehouse)[0]):
            # One way to a store for all that reads and writes it: what lets fsspec in (its settings, the store's usual variables) lets in PyIceberg.
            given["py-io-impl"] = "pyiceberg.io.fsspec.FsspecFileIO"
        # Several first users at once: another one has just made one of the catalog's own two tables.
        at_once = retry_if_exception_type((OperationalError, IntegrityError, ProgrammingError))
        try:
            self.catalog = Retrying(retry=at_once, stop=stop_after_attempt(3), reraise=True)(_Catalog, "flywheel", **given)
        except OperationalError as error:
            # SQLite's words for a file that it may not make or write; all else may pass.
            is_lasting = getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
            why = f"the catalog at {_without_password(settings.catalog)} cannot be opened: {_told(error.orig)}"
            raise (NotConfigured if is_lasting else RetryLater)(why) from error

    def table(self, name: str) -> Table:
        """The Iceberg table of a contract, made on first use; columns added to the contract are added to it."""
        if there := self._there(name):
            return there
        promised = contract(name)
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            self.catalog.create_namespace(name.split(".")[0])
        with suppress(TableAlreadyExistsError):
            return self.catalog.create_table(name, _schema(promised), partition_spec=_partition_spec(promised), properties=_properties(promised))
        return self._there(name)

    def _there(self, name: str) -> Table | None:
        try:
            there = self.catalog.load_table(name)
        except NoSuchTableError:
            return None
        known = {f.name for f in there.schema().fields}
        if missing := [c for c in contract(name).columns if c.name not in known]:
            with there.update_schema() as update:
                for column in missing:
                    update.add_column(column.name, _iceberg_type(column.type), doc=column.means)
            there = self.catalog.load_table(name)
        return there

    def forget_other_parts(self, promised: Contract) -> None:
        """Drop a table that is parted otherwise than its contract now says: one that is built is made anew from what it reads.

        Its files stay until maintenance sweeps them up, as readers may be at them.
        """
        there = self._there(promised.table)
        if there and [f.name for f in there.spec().fields] != [f.name for f in _partition_spec(promised).fields]:
            log.info("%s is parted otherwise than before, and built anew", promised.table)
            with suppress(NoSuchTableError):
                self.catalog.drop_table(promised.table)

    def exists(self, name: str) -> bool:
        return self.catalog.table_exists(name)

    def snapshot(self, name: str) -> Snapshot:
        """A table as it is now."""
        return Snapshot(self.table(name))

    def found(self, name: str) -> Snapshot | None:
        """A table as it is now; None, and it is not made, where nothing was ever written to it."""
        there = self._there(name)
        return Snapshot(there) if there else None

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

        Raises `Conflict` when another writer has committed since: what was read is then no longer what is there. Properties
        alone make a snapshot too, as they also hang on what was seen.
        """
        remove = list(remove)
        if not add and not remove and not properties:
            return
        table = seen.table
        with self._swapping(), _Transaction(table) as tx:
            if properties:
                tx.set_properties(**properties)
            if tx.table_metadata.name_mapping() is None:
                mapping = tx.table_metadata.schema().name_mapping.model_dump_json()
                tx.set_properties(**{"schema.name-mapping.default": mapping})
            metadata, update = tx.table_metadata, tx.update_snapshot()
            with update.overwrite() if remove else update.fast_append() as producer:
                for path in add:
                    producer.append_data_file(parquet_file_to_data_file(table.io, metadata, path))
                for entry in remove:
                    producer.delete_data_file(entry.data_file)

    def strike(self, seen: Snapshot, key: str) -> None:
        """Remove a property, unless another writer just did; raises `Conflict` when the catalog moved on meanwhile."""
        if key in seen.table.properties:
            with suppress(KeyError), self._swapping(), _Transaction(seen.table) as tx:
                tx.remove_properties(key)

    @contextmanager
    def _swapping(self) -> Iterator[None]:
        try:
            yield
        except (CommitFailedException, ValidationException) as error:
            raise Conflict(str(error)) from error
        except OperationalError as error:
            if "locked" in str(error):
                raise Conflict("the catalog is busy") from error
            raise RetryLater(f"the catalog at {_without_password(self.settings.catalog)} cannot be written: {_told(error.orig)}") from error

    def expire(self, name: str, before: datetime) -> int:
        """Expire snapshots older than `before`, but never the current one; returns how many."""
        expired = 0

        def attempt(seen: Snapshot) -> None:
            nonlocal expired
            old = [s.snapshot_id for s in seen.table.snapshots() if s.timestamp_ms < before.timestamp() * 1000 and s.snapshot_id != seen.id]
            if old:
                with self._swapping():
                    seen.table.maintenance.expire_snapshots().by_ids(old).commit()
            expired = len(old)

        self.settle(name, attempt)
        return expired

    def all_files(self, name: str) -> set[str]:
        """Paths, without scheme, of all files of every snapshot that is kept: data, manifests and metadata."""
        table = self.table(name)
        known = {table.metadata_location, *(old.metadata_file for old in table.metadata.metadata_log)}
        for snapshot in table.snapshots():
            known.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                if manifest.manifest_path not in known:
                    known.add(manifest.manifest_path)
                    known |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)}
        return {fsspec.core.url_to_fs(path)[1] for path in known}

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
        """Swap in a fresh `warehouse.duckdb` of views over the current snapshots. Readers of the old file are not disturbed.

        One at a time, so that whoever comes last has seen all that was committed before.
        """
        target = self.settings.views
        self.settings.scratch.mkdir(parents=True, exist_ok=True)
        fresh = self.settings.scratch / f"{uuid.uuid4().hex}.duckdb"
        with (self.settings.home / "views.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with duckdb.connect(str(fresh)) as con:
                register_stores(con, self.settings)
                for name in tables():
                    if (seen := self.found(name)) is None:
                        continue
                    promised = contract(name)
                    con.execute(f"create schema if not exists {name.split('.')[0]}")
                    con.execute(view_sql(name, _columns(promised), [e.path for e in seen.files], alike=seen.alike))
                    con.execute(f"comment on view {name} is '{promised.sentence.replace(chr(39), chr(39) * 2)}'")
                # Closing would write too, but keep silent about a full disk.
                con.execute("checkpoint")
            fresh.replace(target)
        return target

    def attach(self, con, name: str, partitions: Iterable[date | str] | None = None) -> Snapshot | None:
        """Make the table readable in `con` under its own name, limited to some partitions when given."""
        seen = self.found(name)
        entries = [] if seen is None else seen.files if partitions is None else seen.of(partitions)
        con.execute(f"create schema if not exists {name.split('.')[0]}")
        con.execute(view_sql(name, _columns(contract(name)), [entry.path for entry in entries], alike=seen is not None and seen.alike))
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
