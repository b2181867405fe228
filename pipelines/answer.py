"""The first answer: where the money went, where the same tokens cost less, what was refused, and what to ask next."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import duckdb
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.engine import views
from pipelines.settings import Settings

NAME_CHARACTERS = 20
"""A longer text may be broken over several lines of a table."""

TRY = (
    (
        "What did each team spend on each day, and what share of it do we know exactly?",
        "select usage_day, team, sum(list_cost_usd) as list_cost_usd, sum(priced_count) / sum(call_count) as priced_share\n"
        "from marts.spend_daily group by all order by usage_day, list_cost_usd desc;",
    ),
    (
        "What did the prompt cache save?",
        "select model_name, sum(cache_read_tokens) as cache_read_tokens,\n"
        "    sum(cache_read_tokens) / sum(input_uncached_tokens + cache_read_tokens) as cache_hit_share, sum(c.cache_read_cost_usd) as paid_usd\n"
        "from core.inference join marts.call_cost as c using (inference_id) group by all order by paid_usd desc;",
    ),
    (
        "Which calls do users dislike, and what did they cost?",
        "select c.model_name, f.name, avg(f.value_number) as mean_value, count(*) as signals, sum(c.list_cost_usd) as list_cost_usd\n"
        "from core.feedback as f join marts.call_cost as c on f.target_kind = 'call' and f.target_id = c.inference_id\n"
        "group by all order by signals desc;",
    ),
)

SPEND = """
select provider_name as provider, model_name as model, sum(call_count) as calls, sum(input_tokens) / 1e6 as input_mtok, sum(output_tokens) / 1e6 as output_mtok,
    sum(list_cost_usd) as list_usd, sum(reported_cost_usd) as reported_usd
from marts.spend_daily group by all order by list_usd desc nulls last, calls desc limit 12
"""

# The same model at another provider or in another tier, with the token mix of the calls that were made.
ALTERNATIVES = """
with used as (
    select coalesce(c.provider_name, '') as provider_name, c.model_name, sum(c.list_cost_usd) as list_cost_usd,
        sum(i.input_uncached_tokens) as input_uncached, sum(i.cache_read_tokens) as cache_read,
        sum(coalesce(i.cache_write_5m_tokens, 0) + coalesce(i.cache_write_1h_tokens, 0)) as cache_write,
        sum(coalesce(i.output_text_tokens, 0) + coalesce(i.reasoning_tokens, 0)) as output
    from marts.call_cost as c join core.inference as i using (inference_id)
    where c.cost_status in ('priced', 'estimated') group by 1, 2 order by list_cost_usd desc limit 6
),
sheet as (
    select model_name, provider_name, service_tier, feed,
        max(price_usd_per_unit) filter (where token_class = 'input_uncached') as input_uncached,
        max(price_usd_per_unit) filter (where token_class = 'cache_read') as cache_read,
        max(price_usd_per_unit) filter (where token_class = 'cache_write_5m') as cache_write,
        max(price_usd_per_unit) filter (where token_class = 'output_text') as output
    from core.price
    where known_to is null and valid_from <= current_localtimestamp() and (valid_to is null or valid_to > current_localtimestamp()) and delisted_at is null and price_condition is null and region is null and context_above_tokens = 0
      and token_class in ('input_uncached', 'cache_read', 'cache_write_5m', 'output_text')
    group by all
    having input_uncached > 0 and output > 0
),
offer as (
    select used.*, sheet.provider_name as at_provider, sheet.service_tier as at_tier,
        coalesce(used.input_uncached, 0) * sheet.input_uncached + coalesce(used.cache_read, 0) * coalesce(sheet.cache_read, sheet.input_uncached)
        + coalesce(used.cache_write, 0) * coalesce(sheet.cache_write, sheet.input_uncached) + coalesce(used.output, 0) * sheet.output as would_cost_usd
    from used join sheet using (model_name)
)
select model_name as model, nullif(provider_name, '') as provider, list_cost_usd as list_usd, at_provider, at_tier, would_cost_usd
from (
    select *, row_number() over (partition by model_name, provider_name, at_tier = 'standard' order by would_cost_usd, at_provider) as place
    from (
        select model_name, provider_name, list_cost_usd, at_provider, at_tier, min(would_cost_usd) as would_cost_usd
        from offer where would_cost_usd < list_cost_usd * 0.98 group by all
    ) as cheaper
) as ranked
where place = 1
order by list_usd desc, would_cost_usd
"""

REFUSED = """
select source, promise, count(*) as records
from (select source, unnest(string_split(promises, ',')) as promise from core.quarantine)
group by all order by records desc, source, promise limit 12
"""


def answer(settings: Settings, console: Console | None = None) -> None:
    """Print the first answer from `warehouse.duckdb`. Raises `NotConfigured` when nothing has been built yet."""
    console = console or Console()
    with views(settings) as con:
        _show(con, console, "Spend by provider and model, at list prices", SPEND, "nothing was costed yet")
        _show(con, console, "The same tokens for less: other providers and tiers of the same model", ALTERNATIVES, "none is cheaper")
        _show(con, console, "Refused, by the promise broken (core.quarantine has the reason and the place of each)", REFUSED, "nothing was refused")
    console.print(f"\n[bold]Ask it yourself[/bold]: flywheel sql, or any DuckDB client on {settings.views}", highlight=False, soft_wrap=True)
    for question, sql in TRY:
        console.print(f"\n[dim]-- {question}[/dim]", soft_wrap=True)
        console.print(sql, markup=False, highlight=False, soft_wrap=True)


def _show(con: duckdb.DuckDBPyConnection, console: Console, title: str, sql: str, empty: str) -> None:
    try:
        found = con.execute(sql)
    except duckdb.CatalogException:
        console.print(f"\n[bold]{title}[/bold]: {empty}")
        return
    rows = found.fetchall()
    if not rows:
        console.print(f"\n[bold]{title}[/bold]: {empty}")
        return
    console.print(f"\n[bold]{title}[/bold]", soft_wrap=True)
    console.print(table_of([d[0] for d in found.description], rows, headings=lambda name: name.replace("_", " ")))


def table_of(
    names: list[str], rows: list[tuple], title: str | None = None, headings: Callable[[str], str] = str
) -> Table:
    """Rows as a table for the terminal: numbers to the right, money with a sensible number of digits."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for n, name in enumerate(names):
        numeric = any(isinstance(row[n], int | float) or hasattr(row[n], "as_tuple") for row in rows)
        # A number is never broken over lines, nor is a name of usual length: headings are, and long texts.
        least = max((len(_cell(name, row[n])) for row in rows if row[n] is not None), default=1)
        least = least if numeric else min(least, NAME_CHARACTERS)
        heading = textwrap.fill(headings(name), max(least, 1), break_long_words=False, break_on_hyphens=False)
        table.add_column(heading, justify="right" if numeric else "left", min_width=least, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in zip(names, row, strict=True)))
    return table


def _cell(name: str, value: object) -> str:
    if value is None:
        return "[dim]–[/dim]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if name.endswith("_usd"):
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:,.6f}"
    if isinstance(value, float):
        return f"{value:,.2f}" if name.endswith("_mtok") else f"{value:,.4g}"
    return escape(str(value))
