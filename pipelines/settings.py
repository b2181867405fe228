"""Where things are and how much may be used: read from `flywheel.toml` and `FLYWHEEL_*` variables, the latter first."""

from __future__ import annotations

import errno
import os
import re
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from pipelines.errors import NotConfigured, RetryLater

ROOT = Path(__file__).resolve().parent.parent
"""The checkout (or installed tree) that holds `schemas/` and `warehouse/`."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system says of a full disk."""
LASTING = (NotADirectoryError, FileExistsError, PermissionError)
"""What a person must change before a folder or file on the local disk can be made or read."""
LEAST_MEMORY = 16 * 2**20
"""Below this, DuckDB can hardly open a file."""


def _memory(limit: str) -> int:
    """The bytes that DuckDB takes a memory limit for; 0 where it cannot."""
    import duckdb  # not above: DAG files read the settings each time they are parsed, and most do not set this

    try:
        with duckdb.connect(config={"memory_limit": limit}) as con:
            return con.execute("select parse_formatted_bytes(current_setting('memory_limit'))").fetchone()[0]
    except duckdb.Error:  # less than it needs to start with, or more than it can count
        return 0


class Source(BaseModel):
    """An inference log or feedback log: where its files are and which staging select reads them."""

    url: str = Field(description="File, folder or glob; any fsspec URL. `{day}` stands for the UTC day, 2026-11-20")
    format: str = Field(description="Name of a file in warehouse/staging/inference or in the user's folder")


class Feed(BaseModel):
    """A price feed: an https address, a file, or a folder of snapshots dated in their names."""

    url: str = Field(description="https://..., any fsspec URL, a folder of dated snapshots, or `embedded`")
    format: Literal["litellm", "openrouter", "models_dev", "genai_prices"] | str = "genai_prices"


class Routing(BaseModel):
    """What the router is to aim at."""

    model_config = ConfigDict(extra="forbid")

    willingness_to_pay_usd: float | None = Field(None, gt=0, description="What a call that does its job is worth in USD; none: quality alone counts")
    exploration_share: float = Field(0.05, ge=0, le=1, description="Share of calls a policy sends to any candidate, so that the next one can be judged")
    models: list[str] | None = Field(None, description="The models to choose among, by the names asked for; none: all that were seen")


class Settings(BaseSettings):
    """All there is to set. Every field can be given as `FLYWHEEL_<NAME>` or in `flywheel.toml`."""

    # A setting may be a secret, and so may be one whose name is mistyped: an error names it and does not show it.
    model_config = SettingsConfigDict(env_prefix="FLYWHEEL_", env_nested_delimiter="__", extra="forbid", hide_input_in_errors=True)

    home: Path = Field(Path(".flywheel"), description="Folder for all that is kept locally")
    landing_url: str | None = Field(None, description="Where raw files are kept; default <home>/landing")
    warehouse_url: str | None = Field(None, description="Where table data is kept; default <home>/warehouse")
    catalog_uri: str | None = Field(None, description="SQLAlchemy URL of the Iceberg catalog; default SQLite in <home>")
    sources: dict[str, Source] = Field(default_factory=dict)
    feeds: dict[str, Feed] = Field(default_factory=lambda: {"genai_prices": Feed(url="embedded", format="genai_prices")})
    feed_precedence: list[str] = Field(
        default=["genai_prices", "litellm_prices", "litellm", "models_dev", "openrouter"],
        description="Feeds by name, the most trusted first: which price is used where several know one",
    )
    routing: Routing = Field(default_factory=Routing)
    recipes: list[str] = Field(default=["eval", "sft", "preference", "kto"], description="Fine-tuning datasets that the DAG `finetune` builds, in this order: names in schemas/recipe, or paths of .yml files")
    user_formats: Path | None = Field(None, description="Folder with inference/*.sql, feedback/*.sql, price/*.sql, capability/*.sql of your own")
    signal_rules: Path | None = Field(None, description="CSV of your own rules for reading feedback, columns as in schemas/reference/signal.csv; they come first")
    reference: Path | None = Field(None, description="Folder with reference files of your own: one takes the place of schemas/reference/<name>.csv")
    pseudonym_key: SecretStr = Field(SecretStr(""), description="Key of the hash that stands for a user's id; keep it secret")
    retention: dict[str, Annotated[int, Field(le=36_500)]] = Field(default_factory=dict, description="Days that a table (`core.inference_content`), or `landing`, keeps what it has; none: for good")
    memory_limit: str = Field("1GB", description="What DuckDB may hold in memory before it spills to <home>/spill")
    threads: int | None = Field(None, ge=1, description="DuckDB threads; default one a core")
    window_days: int = Field(7, ge=1, le=36_500, description="Formats that spread a call over several files read this many days of landing")
    max_line_bytes: int = Field(16 * 2**20, ge=1, le=16 * 2**20, description="A longer line is quarantined")
    max_file_bytes: int = Field(512 * 2**30, ge=1, description="A file that unpacks to more is refused")
    max_expansion: int = Field(300, ge=1, description="A packed file that grows more than this many times is refused as a bomb")

    @field_validator("memory_limit")
    @classmethod
    def _is_a_size(cls, limit: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?\s*([kmgt]i?b|%)", limit.strip(), re.IGNORECASE):
            raise ValueError("is no size such as 800MB, 4GB or 80%")
        if _memory(limit) < LEAST_MEMORY:
            raise ValueError(f"is no size that DuckDB can work with, which is {LEAST_MEMORY // 2**20} MiB or more, and 100% or less")
        return limit

    @field_validator("landing_url", "warehouse_url")
    @classmethod
    def _has_its_driver(cls, url: str | None) -> str | None:
        from fsspec.registry import known_implementations, registry

        scheme = urlsplit(url or "").scheme or "file"
        if scheme not in registry and scheme not in known_implementations:
            raise ValueError(f"no store is known by {scheme}://")
        # Looked for and not imported: DAG files read the settings each time they are parsed.
        if scheme not in registry and not find_spec(known_implementations[scheme]["class"].split(".")[0]):
            raise ValueError(f"the driver of {scheme}:// is not installed: {known_implementations[scheme].get('err', scheme)}")
        return url

    @field_validator("catalog_uri")
    @classmethod
    def _is_a_database(cls, uri: str | None) -> str | None:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            if uri:
                make_url(uri).get_dialect().import_dbapi()
        except ArgumentError:
            raise ValueError("is no SQLAlchemy URL of a database that is known here, such as postgresql+psycopg2://user@host/name") from None
        except ImportError as error:
            raise ValueError(f"the driver of this database is not installed: {error}") from None
        return uri

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, Path(os.environ.get("FLYWHEEL_CONFIG", "flywheel.toml")))
        return init_settings, env_settings, toml

    @classmethod
    def load(cls, **given: object) -> Settings:
        """Read the settings and make paths absolute. Raises `NotConfigured` with every wrong field named."""
        config = os.environ.get("FLYWHEEL_CONFIG")
        if config and not Path(config).is_file():
            raise NotConfigured(f"FLYWHEEL_CONFIG names {config}, and there is no such file")
        try:
            settings = cls(**given)  # type: ignore[arg-type]
        except ValueError as error:
            raise NotConfigured(f"settings cannot be read ({config or 'flywheel.toml'}, FLYWHEEL_*): {error}") from error
        settings.home = settings.home.expanduser().resolve()
        if special := re.search(r"[#?]|%[0-9A-Fa-f]{2}", str(settings.home)):
            # Catalog and tables are kept under URLs made of this path, where these say something else.
            raise NotConfigured(f"the setting `home` is {settings.home}: a path with {special[0]} in it cannot be used, choose another")
        return settings

    @cached_property
    def landing(self) -> str:
        return (self.landing_url or str(self.home / "landing")).rstrip("/")

    @cached_property
    def warehouse(self) -> str:
        return (self.warehouse_url or f"file://{self.home}/warehouse").rstrip("/")

    @cached_property
    def catalog(self) -> str:
        # SQLite waits for another writer this many seconds instead of failing at once.
        return self.catalog_uri or f"sqlite:///{self.home}/catalog.db?timeout=60"

    def make_home(self) -> None:
        """Make the folder `home`, if there is none. Raises `RetryLater` where the disk is full, `NotConfigured` where there can be none."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kind = RetryLater if error.errno in FULL else NotConfigured
            raise kind(f"the setting `home` is {self.home}, where no folder can be made: {error.strerror}") from error

    @property
    def policies(self) -> Path:
        """Folder of published routing policies, one folder a version; champion.json is the one in force."""
        return self.home / "policies"

    @property
    def scratch(self) -> Path:
        """Folder for staged files that nobody sees yet; safe to delete when nothing runs."""
        return self.home / "scratch"

    @property
    def views(self) -> Path:
        """The DuckDB file of views that people query."""
        return self.home / "warehouse.duckdb"

    def source(self, name: str) -> Source:
        if name not in self.sources:
            raise NotConfigured(f"no source named {name!r}; sources set: {', '.join(self.sources) or 'none'} (flywheel.toml, [sources])")
        return self.sources[name]

    def staging_sql(self, target: str, format: str) -> Path | None:
        """The staging select of a format for `inference`, `feedback`, `price` or `capability`, the user's own first; None when there is none."""
        folders = [ROOT / "warehouse" / "staging"]
        if self.user_formats:
            folders.insert(0, Path(self.user_formats))
        if not format.replace("_", "").replace("-", "").isalnum():
            raise NotConfigured(f"{format!r} is no format name: letters, digits, - and _ only")
        return next((path for folder in folders if (path := folder / target / f"{format}.sql").is_file()), None)

    def reference_files(self) -> dict[str, Path]:
        """The reference files by name: those of schemas/reference, each replaced by the user's of the same name where there is one."""
        files = {path.stem: path for path in sorted((ROOT / "schemas" / "reference").glob("*.csv"))}
        if self.reference is None:
            return files
        if not self.reference.is_dir():
            raise NotConfigured(f"the setting `reference` names {self.reference}, and there is no such folder")
        own = {path.stem: path for path in sorted(self.reference.glob("*.csv"))}
        if unknown := sorted(own.keys() - files.keys()):
            raise NotConfigured(f"{self.reference} holds {', '.join(unknown)}, which nothing reads; reference files are: {', '.join(files)}")
        return files | own
