"""The price book over the real history of LiteLLM's and OpenRouter's lists: rows, seconds, what the gate holds back, and whether
costs made with it match an outside answer (the costs that aider logged).

    python -m tests.benchmarks.price_history [folder with the shared data]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from pipelines.feeds import embedded_genai_prices, snapshots
from tests.support.pricebook import ROOT, TABLES, connection

SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", ROOT.parent / "shared" / "data"))

AIDER = """
create or replace table call as
select
    row_number() over () as call_no,
    to_timestamp(time)::timestamp as started_at,
    properties.main_model as model,
    properties.prompt_tokens as prompt_tokens,
    properties.completion_tokens as completion_tokens,
    properties.cost as logged_usd
from read_json($path, format = 'newline_delimited', columns = {
    event: 'varchar', time: 'bigint',
    properties: 'struct(main_model varchar, prompt_tokens bigint, completion_tokens bigint, cost double)'
})
where event = 'message_send' and properties.cost > 0
"""

# The entry of that very name; the aider log gives some models without their provider, and some with it.
COSTED = """
with named as (
    select call_no, feed_model, row_number() over (partition by call_no order by length(feed_model)) as choice
    from call
    join (select distinct feed_model from core.price where feed = 'litellm') as listed
        on feed_model = model or feed_model = regexp_replace(model, '^[a-z_]+/', '')
),
priced as (
    select
        call_no, token_class, price_usd_per_unit, price.known_from
    from call
    join named using (call_no)
    join core.price as price
        on price.feed = 'litellm' and price.feed_model = named.feed_model
        and price.service_tier = 'standard' and price.region is null and price.price_condition is null
        and price.context_above_tokens = 0 and price.token_class in ('input_uncached', 'output_text')
        and price.valid_from <= started_at and (price.valid_to > started_at or price.valid_to is null)
        and price.known_from <= {known} and (price.known_to > {known} or price.known_to is null)
    where choice = 1
)
select
    call_no, any_value(model) as model, any_value(started_at) as started_at, any_value(logged_usd) as logged_usd,
    count(distinct token_class) as classes, max(known_from) as latest_known_from,
    sum(price_usd_per_unit * case token_class when 'input_uncached' then prompt_tokens else completion_tokens end) as cost_usd
from call left join priced using (call_no)
group by call_no
"""


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"  {what:<58}{time.perf_counter() - start:7.2f} s")


def stage(con: duckdb.DuckDBPyConnection, feed: str, files: list[tuple[str, object]]) -> None:
    sql = (ROOT / f"warehouse/staging/price/{feed}.sql").read_text()
    with timed(f"staging.price: {len(files)} files of {feed}"):
        con.execute(
            f"insert into staging.price by name select '{feed}' as feed, * from ({sql}) as staged",
            {"files": [path for path, _ in files]},
        )
    con.executemany("insert into staging.price_file values (?, ?)", [(path, at.replace(tzinfo=None)) for path, at in files])


def main(shared: Path) -> int:
    if not (shared / "prices").is_dir():
        print(f"no shared data at {shared}; nothing to measure")
        return 0
    con = connection()
    with tempfile.TemporaryDirectory() as folder:
        stage(con, "litellm", snapshots(str(shared / "prices/litellm")))
        stage(con, "openrouter", snapshots(str(shared / "prices/openrouter")))
        embedded = Path(folder) / "2026-11-23.json"
        embedded_genai_prices(embedded)
        stage(con, "genai_prices", snapshots(folder))
    for table in TABLES:
        with timed(table):
            con.execute(
                f"create table {table} as {(ROOT / 'warehouse' / table.replace('.', '/')).with_suffix('.sql').read_text()}"
            )
    print("\nrows")
    for table in ("staging.price", *TABLES):
        print(f"  {table:<58}{con.execute(f'select count(*) from {table}').fetchall()[0][0]:9,}")
    unknown = con.execute(
        "select feed, token_class, count(*) from core.price_quote where token_class like 'unknown:%' group by all"
    ).fetchall()
    print(f"\nprice keys not understood: {unknown or 'none'}")
    strangers = con.execute("select distinct feed, provider_alias from core.price_quote where provider_kind is null").fetchall()
    print(f"provider words not understood: {strangers or 'none'}")

    print("\nheld back (USD per unit): first and last quote, feed, model, class, above, rule, quoted, last good, siblings")
    for row in con.execute(
        """
        select
            cast(min(quoted_at) as date), cast(max(quoted_at) as date), feed, feed_model, token_class, context_above_tokens, slip,
            cast(price_usd_per_unit as double), cast(any_value(last_good_usd_per_unit) as double),
            cast(any_value(sibling_usd_per_unit) as double)
        from core.price_suspect
        group by feed, feed_model, token_class, context_above_tokens, slip, price_usd_per_unit
        order by all
        """
    ).fetchall():
        print("  ", *row)

    aider = sorted((shared / "logs/aider").glob("*.jsonl.gz"))
    if not aider:
        return 0
    con.execute(AIDER, {"path": [str(path) for path in aider]})
    print("\ncost of aider's requests, against the cost it logged")
    failed = False
    for what, known in (("as known then", "started_at"), ("as known now", "timestamp '9000-01-01'")):
        con.execute(f"create or replace table costed as {COSTED.format(known=known)}")
        asked, priced, close, late = con.execute(
            """
            select count(*), count(*) filter (classes = 2),
                count(*) filter (classes = 2 and abs(cost_usd - logged_usd) <= 0.01 * logged_usd),
                count(*) filter (classes > 0 and latest_known_from > started_at)
            from costed
            """
        ).fetchall()[0]
        print(f"  {what}: {priced:,} of {asked:,} priced, {close:,} within 1 % ({close / priced:.2%}), {late} by a later price")
        failed |= close / priced < 0.97 or (what == "as known then" and late > 0)
    print("  off by more than 1 %, by model (as known now):")
    for row in con.execute(
        """
        select model, count(*), cast(min(started_at) as date), cast(max(started_at) as date),
            round(median(cost_usd / logged_usd), 3)
        from costed
        where classes = 2 and abs(cost_usd - logged_usd) > 0.01 * logged_usd
        group by model order by 2 desc limit 8
        """
    ).fetchall():
        print("    ", *row)
    print(
        "  unpriced:",
        con.execute("select model, count(*) from costed where classes < 2 group by 1 order by 2 desc limit 10").fetchall(),
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED))
