"""A seeded simulator: logs of calls that never happened, as real tools write them, with the truth beside them.

Everything random is a hash of the seed, the call and a named stream, made in DuckDB SQL (warehouse/simulate). The
same seed gives the same bytes whatever the number of threads; memory is bounded by a few chunks of calls. Prices are
those of the genai-prices package at the moment a call starts; abilities, speeds and texts are made up.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from queue import SimpleQueue
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from genai_prices.data import providers as price_providers
from genai_prices.types import StartDateConstraint, TieredPrices, TimeOfDateConstraint

from pipelines.errors import NotConfigured
from pipelines.settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from genai_prices.types import ModelInfo

T = TypeVar("T")

SQL = ROOT / "warehouse" / "simulate"
FORMATS = tuple(line.split(",")[0] for line in (SQL / "format.csv").read_text().splitlines()[1:])
CHUNK_CALLS = 50_000
MEMORY_MB = 1500
DAILY_GROWTH = 1.004
WEEKEND_SHARE = 0.45
PRICE_CONTEXT = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
PRICE_KEYS = {
    "input_usd": ("input_mtok",),
    "cache_read_usd": ("cache_read_mtok", "input_mtok"),
    "cache_write_5m_usd": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write_1h_usd": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "output_usd": ("output_mtok",),
    "web_search_usd": ("web_searches_kcount",),
}
NO_LIMIT = 1 << 40
# Names of the files that hold the calls themselves: (stem, ending); other formats have part-N.jsonl.
MAIN_FILE = {
    "openai": ("part", "jsonl.gz"),
    "otel": ("part", "jsonl.zst"),
    "langfuse": ("observations", "jsonl"),
    "bedrock": ("part", "json.gz"),
    "tensorzero": ("model_inference", "jsonl"),
}
# Files beside them, and the select that fills each.
SIDE_FILES = {
    "langfuse": [("traces", "langfuse_trace")],
    "tensorzero": [("chat_inference", "tensorzero_chat")],
}
FEEDBACK_FILES = [
    ("langfuse", "scores", "langfuse_score"),
    ("tensorzero", "feedback", "tensorzero_feedback"),
    ("feedback", "part", "feedback_line"),
]


@dataclass(frozen=True)
class Chunk:
    """Calls that are drawn and written together, all of them starting on one UTC day."""

    number: int
    day: date
    calls: int


@dataclass
class Written:
    """What one chunk left: (lines, bytes) by file below logs/, and its part of the truth."""

    chunk: Chunk
    files: dict[str, tuple[int, int]]
    calls: pa.Table
    dirt: pa.Table
    feedback: pa.Table


@dataclass
class SimulationReport:
    """What `simulate` wrote. Lines and bytes are those before compression; `dirt` counts dirty lines by kind."""

    calls: int
    calls_written: int = 0
    calls_in_quarantine: int = 0
    bytes: int = 0
    feedback: Counter[str] = field(default_factory=Counter)
    dirt: Counter[str] = field(default_factory=Counter)
    files: dict[str, int] = field(default_factory=dict)
    calls_by_format: Counter[str] = field(default_factory=Counter)
    cost_usd: Decimal = Decimal(0)
    seconds: float = 0.0

    @property
    def lines(self) -> int:
        """Lines of all files."""
        return sum(self.files.values())

    def add(self, written: Written) -> None:
        """Count what was written of a chunk."""
        self.calls_written += written.chunk.calls
        self.files |= {name: lines for name, (lines, _) in written.files.items()}
        self.bytes += sum(size for _, size in written.files.values())
        self.dirt.update(counted(written.dirt, "dirt_kind"))
        self.feedback.update(counted(written.feedback, "channel"))
        self.calls_by_format.update(counted(written.calls, "format"))
        self.calls_in_quarantine += counted(written.calls, "lands_in").get("core.quarantine", 0)
        self.cost_usd += pc.sum(written.calls["true_cost_usd"]).as_py()

    def expected(self) -> dict[str, Any]:
        """The content of expected.json."""
        return {
            "calls": self.calls,
            "calls_in_core": self.calls - self.calls_in_quarantine,
            "calls_in_quarantine": self.calls_in_quarantine,
            "calls_by_format": dict(sorted(self.calls_by_format.items())),
            "true_cost_usd": str(self.cost_usd),
            "feedback_by_channel": dict(sorted(self.feedback.items())),
            "dirty_lines_by_kind": dict(sorted(self.dirt.items())),
            "lines": self.lines,
            "lines_by_file": dict(sorted(self.files.items())),
        }


def counted(table: pa.Table, column: str) -> dict[str, int]:
    """How often each value of a column occurs."""
    return {row["values"]: row["counts"] for row in pc.value_counts(table[column]).to_pylist()}


def sql(name: str) -> str:
    """A select of warehouse/simulate."""
    return (SQL / f"{name}.sql").read_text()


def plan(calls: int, days: int, first_day: date) -> list[Chunk]:
    """Spread calls over days (weekends are quiet, traffic grows) and cut each day into chunks."""
    weights = [DAILY_GROWTH**n * (WEEKEND_SHARE if (first_day + timedelta(days=n)).weekday() >= 5 else 1) for n in range(days)]
    chunks: list[Chunk] = []
    planned = 0
    for n, reached in enumerate(accumulate(weights)):
        until = calls if n == days - 1 else round(calls * reached / sum(weights))
        for start in range(planned, until, CHUNK_CALLS):
            chunks.append(Chunk(len(chunks), first_day + timedelta(days=n), min(CHUNK_CALLS, until - start)))
        planned = until
    return chunks


class World:
    """A DuckDB of one thread that knows the tables and macros that calls are drawn from."""

    def __init__(
        self,
        seed: int,
        formats: Sequence[str],
        first_day: date,
        with_content: bool,
        memory_mb: int,
        spill: str,
    ) -> None:
        self.con = duckdb.connect()
        self.con.execute("set threads = 1")
        self.con.execute(f"set memory_limit = '{memory_mb}MB'")
        self.con.execute("set temp_directory = $spill", {"spill": spill})
        self.con.execute("set timezone = 'UTC'")
        self.con.execute("set enable_progress_bar = false")
        self.con.execute(sql("macros").replace("$seed", str(int(seed))))
        self.con.execute(f"set variable with_content = {bool(with_content)}")
        phrases = [json.loads(line) for line in (SQL / "phrase.jsonl").read_text().splitlines()]
        lists = {slot: [p for w in phrases for p in w[slot]] for slot in ("ask", "subject", "detail", "reply", "body", "close")}
        # Easy and hard in turn, so that the lowest bit tells which.
        lists["burden"] = [p for w in phrases for pair in zip(w["easy"], w["hard"], strict=True) for p in pair]
        lists["instruction"] = [w["instruction"] for w in phrases]
        lists["noun"] = (SQL / "noun.txt").read_text().split()
        for slot, texts in lists.items():
            self.con.execute(f"set variable phrase_{slot} = $texts", {"texts": texts})
        self.con.execute(
            "create table simulate_workload as select row_number() over () as workload_no, * from read_csv($file)",
            {"file": str(SQL / "workload.csv")},
        )
        self.sold = load_world(self.con, formats, first_day)
        self.priced: date | None = None

    def price(self, day: date) -> None:
        """Put the prices of one UTC day in place of those there."""
        if day == self.priced:
            return
        rows = [row for arm, (model, tiers) in self.sold.items() for tier in tiers for row in price_rows(arm, model, tier, day)]
        self.con.execute("delete from simulate_price")
        self.con.executemany(f"insert into simulate_price values ({', '.join('?' * len(rows[0]))})", rows)
        self.priced = day


def in_order(
    seed: int,
    formats: Sequence[str],
    first_day: date,
    with_content: bool,
    chunks: Sequence[Chunk],
    work: Callable[[World, Chunk], T],
) -> Iterator[T]:
    """Do the work of the chunks side by side, a world for each processor, and give the results in their order.

    A chunk is drawn by one thread from its own keys, so how many work beside it changes nothing.
    """
    workers = min(4, os.cpu_count() or 1, len(chunks))
    with (
        tempfile.TemporaryDirectory(prefix="flywheel-simulate-") as spill,
        ThreadPoolExecutor(workers) as pool,
    ):
        worlds: SimpleQueue[World] = SimpleQueue()
        for n in range(workers):
            worlds.put(World(seed, formats, first_day, with_content, MEMORY_MB // workers, f"{spill}/{n}"))

        def run(chunk: Chunk) -> T:
            world = worlds.get()
            try:
                return work(world, chunk)
            finally:
                worlds.put(world)

        waiting: deque[Future[T]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(run, chunk))
            # One result may wait for its turn beside those in the making, no more: that bounds the memory.
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        for _ in range(workers):
            worlds.get().con.close()


@contextmanager
def open_log(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, compressed as its name says; the same content gives the same bytes."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=3, mtime=0) as file:
                yield file
        elif path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as file:
                yield file
        else:
            yield raw


def find_model(provider_id: str, model: str) -> ModelInfo:
    """A model of the embedded price list. Raises `NotConfigured` where it is unknown."""
    provider = next((p for p in price_providers if p.id == provider_id), None)
    found = provider.find_model(model, all_providers=price_providers) if provider else None
    if found is None:
        raise NotConfigured(f"genai-prices knows no {model!r} of {provider_id!r}; see {SQL / 'arm.csv'}")
    return found


def tier_offered(model: ModelInfo, tier: str) -> bool:
    """Whether the list has prices of its own for a tier of the model."""
    context = PRICE_CONTEXT[tier]
    return not context or any(v.when == context and v.prices.input_mtok is not None for v in model.price_variants or ())


def price_rows(arm: int, model: ModelInfo, tier: str, day: date) -> list[tuple[Any, ...]]:
    """Prices in USD a token on one UTC day: a row for each span of the day and band of the request's input tokens."""
    midnight = datetime.combine(day, time(), UTC)
    cuts = {midnight}
    conditional = [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
    for price in conditional:
        if isinstance(price.constraint, TimeOfDateConstraint):
            cuts |= {
                datetime.combine(day, t.replace(tzinfo=UTC), UTC)
                for t in (price.constraint.start_time, price.constraint.end_time)
            }
        elif not (price.constraint is None or isinstance(price.constraint, StartDateConstraint)):
            raise NotConfigured(f"genai-prices has a kind of constraint the simulator cannot read on {model.id!r}")
    starts = sorted(cuts)
    rows = []
    for start, end in zip(starts, [*starts[1:], midnight + timedelta(days=1)], strict=True):
        prices = model.get_prices(start, PRICE_CONTEXT[tier])
        found = {
            column: next((p for key in keys if (p := getattr(prices, key, None)) is not None), Decimal(0))
            for column, keys in PRICE_KEYS.items()
        }
        bands = sorted({-1} | {t.start for p in found.values() if isinstance(p, TieredPrices) for t in p.tiers})
        for above, up_to in zip(bands, [*bands[1:], NO_LIMIT], strict=True):
            rates = [
                at_band(price, above) / (1000 if column == "web_search_usd" else 1_000_000) for column, price in found.items()
            ]
            if any(rate != round(rate, 12) for rate in rates):
                raise NotConfigured(f"a price of {model.id!r} is finer than 1e-12 USD a token")
            rows.append((arm, tier, start.replace(tzinfo=None), end.replace(tzinfo=None), above, up_to, *rates))
    return rows


def at_band(price: Decimal | TieredPrices, above: int) -> Decimal:
    """The rate of a request whose input tokens exceed `above` (and no higher threshold)."""
    if not isinstance(price, TieredPrices):
        return price
    return next((t.price for t in reversed(price.tiers) if above >= t.start), price.base)


def typed_arm(row: dict[str, str]) -> dict[str, Any]:
    """A line of arm.csv with its numbers as numbers."""
    numbers = {"ability": float, "error_share": float, "arm": int, "ttft_ms": int, "tokens_per_s": int}
    return {key: numbers.get(key, str)(value) for key, value in row.items() if key != "reasons"} | {
        "reasons": row["reasons"] == "true"
    }


def load_world(con: duckdb.DuckDBPyConnection, formats: Sequence[str], day: date) -> dict[int, tuple[ModelInfo, list[str]]]:
    """Create the tables that calls are drawn from; returns each arm's price entry and the service tiers it is sold at."""
    with (SQL / "arm.csv").open(newline="") as file:
        arms = {int(row["arm"]): row for row in csv.DictReader(file)}
    with (SQL / "format.csv").open(newline="") as file:
        known = {row["format"]: row for row in csv.DictReader(file)}
    unknown = [name for name in formats if name not in known]
    if unknown or not formats or len(set(formats)) < len(formats):
        raise NotConfigured(f"formats {list(formats)!r}: name each once, out of {', '.join(known)}")
    sold: dict[int, tuple[ModelInfo, list[str]]] = {}
    for arm, row in arms.items():
        model = find_model(row["feed_provider"], row["request_model"])
        sold[arm] = (model, [tier for tier in PRICE_CONTEXT if tier_offered(model, tier)])
    # Tells cheap from dear; a price that later changes does not change the order of the candidates.
    midnight = datetime.combine(day, time(), UTC)
    output_price = {arm: at_band(model.get_prices(midnight).output_mtok, -1) for arm, (model, _) in sold.items()}
    pools: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    candidates: list[str] = []
    for format_no, name in enumerate(formats, 1):
        row = known[name]
        split = row["pools"].split("/")
        for pool_no, pool in enumerate(split, 1):
            # From the cheapest arm to the dearest: the policy walks this list as the task gets harder.
            ranked = sorted((int(arm) for arm in pool.split()), key=lambda arm: (output_price[arm], arm))
            candidates.append(json.dumps([arms[arm]["request_model"] for arm in ranked]))
            pools.append(
                {
                    "pool_id": len(candidates),
                    "format_no": format_no,
                    "pool_no": pool_no,
                    "pools": len(split),
                    "pool_size": len(ranked),
                    "format": name,
                    "system": row["system"],
                    **{key: value == "true" for key, value in row.items() if key.startswith("tells_")},
                    **{f"tells_{tier}": tier in row["tiers"].split() for tier in PRICE_CONTEXT},
                }
            )
            for choice_no, arm in enumerate(ranked, 1):
                offered = {f"sells_{tier}": tier in sold[arm][1] for tier in PRICE_CONTEXT if tier != "standard"}
                choices.append({"pool_id": len(candidates), "choice_no": choice_no, **typed_arm(arms[arm]), **offered})
    for table, rows in (("simulate_pool", pools), ("simulate_choice", choices)):
        con.register("rows", pa.Table.from_pylist(rows))
        con.execute(f"create table {table} as select * from rows")
        con.unregister("rows")
    con.execute("set variable formats = $formats", {"formats": list(formats)})
    con.execute("set variable candidates = $candidates", {"candidates": candidates})
    con.execute(
        "create table simulate_price (arm integer, service_tier varchar, valid_from timestamp, valid_to timestamp, "
        "above_tokens bigint, up_to_tokens bigint, " + ", ".join(f"{column} decimal(18, 12)" for column in PRICE_KEYS) + ")"
    )
    return sold


def draw_calls(con: duckdb.DuckDBPyConnection, chunk: Chunk) -> None:
    """Fill simulate_call with one chunk of latent truth."""
    con.execute(
        "create or replace table simulate_call as " + sql("call"),
        {"chunk_no": chunk.number, "calls": chunk.calls, "day": chunk.day},
    )


def write_lines(con: duckdb.DuckDBPyConnection, query: str, file: IO[bytes]) -> tuple[int, int]:
    """Write the column `line` of a query in its order, a row a line; returns (lines, bytes).

    The bytes go from Arrow's buffer to the file; no row becomes a Python object.
    """
    lines = written = 0
    for batch in con.sql(f"select line || chr(10) from ({query})").to_arrow_reader(10_000):
        column = batch.column(0)
        _, offsets, data = column.buffers()
        ends = memoryview(offsets).cast("i" if column.type == pa.string() else "q")
        text = memoryview(data)[ends[column.offset] : ends[column.offset + len(column)]]
        file.write(text)
        lines += len(column)
        written += len(text)
    return lines, written


def write_chunk(con: duckdb.DuckDBPyConnection, logs: Path, chunk: Chunk, formats: Sequence[str], dirt_share: float) -> Written:
    """Draw one chunk and write its lines into files of its own; returns what was written and the truth about it."""
    draw_calls(con, chunk)
    con.execute("create or replace table simulate_feedback as " + sql("feedback"))
    con.execute(
        "create or replace table simulate_place "
        "(inference_id varchar, file varchar, line bigint, dirt_kind varchar, lands_in varchar)"
    )
    files: dict[str, tuple[int, int]] = {}
    dirt = []

    def put(query: str, name: str) -> None:
        path = logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_log(path) as file:
            files[name] = write_lines(con, query, file)

    for format in formats:
        stem, ending = MAIN_FILE.get(format, ("part", "jsonl"))
        con.execute(
            "create or replace table simulate_written as " + sql("dirt").replace("$lines", sql(format)),
            {
                "format": format,
                "dirt_share": dirt_share,
                "chunk_no": chunk.number,
                "dirt_file": str(SQL / "dirt.csv"),
            },
        )
        con.execute("alter table simulate_written add column file varchar")
        for part, days_late in con.sql("select distinct part, days_late from simulate_written order by all").fetchall():
            again = "-again" if part == "again" else ""
            name = f"{format}/{chunk.day + timedelta(days=days_late)}/{stem}-{chunk.number:05d}{again}.{ending}"
            of_file = f"from simulate_written where part = '{part}' and days_late = {days_late}"
            put(f"select line {of_file} order by line_no", name)
            con.execute(
                f"update simulate_written set file = $name {of_file.removeprefix('from simulate_written')}",
                {"name": name},
            )
        con.execute(
            "insert into simulate_place select id, file, line_no, dirt_kind, "
            "case when is_spoilt and list_contains(hit_ids, id) then 'core.quarantine' else 'core.inference' end "
            "from (select *, unnest(inference_ids) as id from simulate_written where copy = 0)"
        )
        dirt.append(con.sql(sql("dirt_truth"), params={"format": format}).to_arrow_table())
        for side, query in SIDE_FILES.get(format, ()):
            put(
                f"select line from ({sql(query)}) order by call_no",
                f"{format}/{chunk.day}/{side}-{chunk.number:05d}.jsonl",
            )
    for channel, side, query in FEEDBACK_FILES:
        con.execute("create or replace table simulate_written as " + sql(query))
        for (day,) in con.sql("select distinct cast(given_at as date) as day from simulate_written order by day").fetchall():
            put(
                f"select line from simulate_written where cast(given_at as date) = date '{day}' order by given_at, call_no, line",
                f"{channel}/{day}/{side}-{chunk.number:05d}.jsonl",
            )
    return Written(
        chunk,
        files,
        con.sql(sql("truth")).to_arrow_table(),
        pa.concat_tables(dirt),
        con.sql(sql("feedback_truth")).to_arrow_table(),
    )


def simulate(
    out: Path,
    *,
    calls: int,
    days: int,
    first_day: date,
    seed: int,
    formats: Sequence[str],
    dirt_share: float = 0.0,
    with_content: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationReport:
    """Write logs of `calls` model calls that start on `days` UTC days from `first_day`, and the truth about them.

    out/logs/<format>/<arrival day>/…     lines as the format's own tool writes them; each call is in exactly one format
    out/logs/feedback/<day given>/…       feedback in our own format, for formats that carry none
    out/truth/call.parquet                one row a call: tokens, true cost (USD), success, policy, file and line
    out/truth/dirt.parquet                one row a dirty line: kind, file, line, the calls it touches
    out/truth/feedback.parquet            one row a signal, with the channel that carries it
    out/truth/expected.json               counts to hold a warehouse against

    `dirt_share` of the lines are spoilt, each in one of twelve ways; `with_content` false leaves messages out.
    `progress` is told (calls written, calls). The same arguments give the same bytes.
    Raises NotConfigured for arguments out of range, an unknown format, or an `out` that already has logs in it.
    """
    began = monotonic()
    if calls < 1 or days < 1 or not 0 <= dirt_share <= 1:
        raise NotConfigured(f"simulate needs calls >= 1, days >= 1 and 0 <= dirt_share <= 1, not {calls}, {days}, {dirt_share}")
    logs, truth = out / "logs", out / "truth"
    if logs.exists() and any(logs.iterdir()):
        raise NotConfigured(f"{logs} already has logs in it; give another folder")
    truth.mkdir(parents=True, exist_ok=True)
    chunks = plan(calls, days, first_day)
    report = SimulationReport(calls=calls)
    writers: dict[str, pq.ParquetWriter] = {}

    def work(world: World, chunk: Chunk) -> Written:
        world.price(chunk.day)
        return write_chunk(world.con, logs, chunk, formats, dirt_share)

    try:
        for written in in_order(seed, formats, first_day, with_content, chunks, work):
            report.add(written)
            for name, table in (
                ("call", written.calls),
                ("dirt", written.dirt),
                ("feedback", written.feedback),
            ):
                if name not in writers:
                    writers[name] = pq.ParquetWriter(truth / f"{name}.parquet", table.schema, compression="zstd")
                writers[name].write_table(table)
            if progress:
                progress(report.calls_written, calls)
    finally:
        for writer in writers.values():
            writer.close()
    report.seconds = monotonic() - began
    (truth / "expected.json").write_text(
        json.dumps(report.expected() | {"seed": seed, "first_day": str(first_day), "days": days}, indent=1) + "\n"
    )
    return report


def litellm_benchmark(path: Path, calls: int, seed: int = 1, progress: Callable[[int, int], None] | None = None) -> int:
    """Write one clean JSONL file of LiteLLM payloads with messages, about 1.8 kB each; returns its bytes.

    Calls start on 2026-11-20 UTC. Same calls and seed, same bytes. `progress` is told (calls written, calls).
    """
    day = date(2026, 11, 20)
    chunks = [Chunk(number, day, min(CHUNK_CALLS, calls - start)) for number, start in enumerate(range(0, calls, CHUNK_CALLS))]

    def work(world: World, chunk: Chunk) -> tuple[int, io.BytesIO]:
        world.price(chunk.day)
        draw_calls(world.con, chunk)
        buffer = io.BytesIO()
        write_lines(world.con, sql("litellm"), buffer)
        return chunk.calls, buffer

    written = done = 0
    with path.open("wb") as file:
        for count, buffer in in_order(seed, ["litellm"], day, True, chunks, work):
            written += file.write(buffer.getbuffer())
            done += count
            if progress:
                progress(done, calls)
    return written
