"""What GPT-4's capability of 2023 cost, over the real history of price lists, beside figures published elsewhere.

    python -m tests.benchmarks.capability_price [folder with the shared data]

Loads LiteLLM's weekly lists as tests/benchmarks/price_history does, LMArena's ratings, and prints marts.capability_price of
gpt-4-0314 at makers' own list prices; checks the months whose prices are known, that a unit error of October 2024 (gemini-1.5-flash
on Vertex AI, a thousandth of its price) sets no price of any capability, and prints how many changes each provider made.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.feeds import snapshots
from tests.benchmarks.price_history import ROOT, SHARED, stage, timed
from tests.support.pricebook import TABLES, connection, rate

KNOWN = {"2023-09-01": 37.5, "2023-12-01": 15, "2024-03-01": 6, "2024-05-01": 0.175, "2024-09-01": 0.131}


def main(shared: Path) -> int:
    if not (shared / "prices").is_dir():
        print(f"no shared data at {shared}; nothing to measure")
        return 0
    con = connection()
    stage(con, "litellm", snapshots(str(shared / "prices/litellm")))
    for table in TABLES:
        with timed(table):
            con.execute(f"create table {table} as {(ROOT / 'warehouse' / table.replace('.', '/')).with_suffix('.sql').read_text()}")
    rate(con, "lmarena", str(shared / "quality/lmarena_history.csv.gz"))
    with timed("marts.capability_price"):
        con.execute(f"create table marts.capability_price as {(ROOT / 'warehouse/marts/capability_price.sql').read_text()}")
    series = con.execute(
        """
        select cast(month_day as varchar), cast(price_usd_per_mtok as double), provider_name, model_name, rating, yearly_factor, half_life_days
        from marts.capability_price where capability_model = 'gpt-4-0314' and seller_scope = 'first_party' order by month_day"""
    ).fetchall()
    print("\nmonth        USD/Mtok  reference  set by                                   rating  times a year  half-life, days")
    wrong = 0
    for month, usd, provider, model, rating, factor, half_life in series:
        told = KNOWN.get(month)
        off = told is not None and round(usd, 3) != told
        wrong += off
        print(f"{month} {usd:10.4f} {told or '':>10}  {f'{provider} {model}':<40}{rating:7.1f} {factor or 0:13.1f} {half_life or 0:10.0f}{'  WRONG' if off else ''}")
    wrong += len(KNOWN.keys() - {row[0] for row in series})
    slips = con.execute(
        """
        select count(*) from marts.capability_price c join core.price_suspect s
            on s.feed = c.feed and s.feed_model = c.feed_model and s.quoted_at < c.as_of_at
            and abs(s.price_usd_per_unit * 1000000 - case s.token_class when 'input_uncached' then c.input_usd_per_mtok else c.output_usd_per_mtok end) < 1e-9
        where s.token_class in ('input_uncached', 'output_text') and s.service_tier = 'standard'
            and s.quoted_at >= c.as_of_at - interval 7 day"""
    ).fetchone()[0]
    anybody = con.execute(
        """
        select strftime(month_day, '%Y-%m') || ' ' || round(price_usd_per_mtok, 4) || ' ' || provider_name || ' ' || model_name
        from marts.capability_price where capability_model = 'gpt-4-0314' and seller_scope = 'any'
        qualify price_usd_per_mtok is distinct from lag(price_usd_per_mtok) over (order by month_day) order by month_day"""
    ).fetchall()
    print("\nfrom anybody, when it changed:", *(row[0] for row in anybody), sep="\n  ")
    # Vertex AI's lists were out by 16 to 1,000 times in October and November 2024.
    slips += con.execute("""
        select count(*) from marts.capability_price
        where provider_name = 'gcp.vertex_ai' and month_day between date '2024-10-01' and date '2024-12-01' and price_usd_per_mtok < 0.03""").fetchone()[0]
    held = con.execute(
        """
        select feed_model, min(cast(quoted_at as date)), count(distinct quoted_at) from core.price_suspect
        where provider_name = 'gcp.vertex_ai' and model_name like 'gemini-1.5-flash%' and token_class in ('input_uncached', 'output_text')
        group by 1 order by 2, 1"""
    ).fetchall()
    print(f"\nprices set by a quote that was held back: {slips}; held back of gemini-1.5-flash on Vertex AI: {len(held)} entries, first {held[:1]}")
    print("\nchanges of list prices by provider: up, down, new, ended")
    for row in con.execute(
        """
        select provider_name, count(*) filter (direction = 'up'), count(*) filter (direction = 'down'), count(*) filter (direction = 'new'),
            count(*) filter (direction = 'ended')
        from marts.price_change where not is_new_model group by 1 order by count(*) filter (direction in ('up', 'down')) desc limit 12"""
    ).fetchall():
        print(f"  {row[0] or '-':<24}" + "".join(f"{n:7,}" for n in row[1:]))
    print(f"\n{wrong} months differ from the reference" if wrong else f"\nall {len(KNOWN)} reference prices are met")
    return int(bool(wrong or slips or not held))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED))
