"""Do costs agree with an outside answer? One tool's real usage log against a price list's weekly history.

    python tests/benchmarks/as_of_cost.py [--data ../shared/data] [--keep FOLDER]

Takes in the aider log (a user format, tests/user_formats) and all dated LiteLLM files, builds marts.call_cost and compares it
with the cost the tool itself logged, call by call. Also looks for any price row used that was published after its call.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines.build import build_table  # noqa: E402
from pipelines.ingest import ingest_source  # noqa: E402
from pipelines.prices import ingest_feed  # noqa: E402
from pipelines.settings import Feed, Settings, Source  # noqa: E402

AGREE = """
    select count(*) filter (where {status} in ('priced', 'free')) as priced,
        count(*) filter (where {status} in ('priced', 'free') and abs({cost} - reported_cost_usd) <= 0.01 * reported_cost_usd) as within_1_percent,
        count(*) filter (where {status} in ('estimated', 'partial')) as estimated, count(*) filter (where {status} = 'unpriced') as unpriced
    from marts.call_cost where reported_cost_usd > 0"""


def compare(settings: Settings) -> dict[str, tuple[int, int, int, int]]:
    """Priced, within 1 %, estimated and unpriced calls, by basis; and `later`: rows used before they were known."""
    import duckdb

    with duckdb.connect(str(settings.views), read_only=True) as con:
        found = {
            basis: con.execute(AGREE.format(status=status, cost=cost)).fetchone()
            for basis, status, cost in (
                ("as known then", "cost_status_then", "list_cost_then_usd"),
                ("as known now", "cost_status", "list_cost_usd"),
            )
        }
        found["later"] = con.execute(
            "select count(*) from marts.call_cost c, unnest(string_split(c.price_ids_then, ',')) as used (price_id) "
            "join core.price p using (price_id) where p.known_from > c.started_at or p.valid_from > c.started_at"
        ).fetchone()
    return found


def bring_in(home: Path, data: Path) -> Settings:
    settings = Settings.load(
        home=home, user_formats=ROOT / "tests" / "user_formats",
        sources={"aider": Source(url=str(data / "logs" / "aider"), format="aider")},
        feeds={"litellm": Feed(url=str(data / "prices" / "litellm"), format="litellm")},
    )
    ingest_feed(settings, "litellm", date(2026, 1, 1))
    for report in ingest_source(settings, "aider", date(2026, 1, 1)):
        print(report)
    print(build_table(settings, "marts.call_cost"))
    return settings


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--keep", type=Path)
    given = options.parse_args()
    home = given.keep or Path(tempfile.mkdtemp(prefix="as-of-cost-"))
    try:
        found = compare(bring_in(home, given.data))
        for basis in ("as known then", "as known now"):
            priced, agree, estimated, unpriced = found[basis]
            print(f"{basis}: {agree:,} of {priced:,} priced calls within 1 % ({agree / priced:.2%}); {estimated:,} estimated, {unpriced:,} unpriced")
        print(f"price rows used before they were published: {found['later'][0]}")
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
