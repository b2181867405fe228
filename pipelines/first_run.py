"""The first run: a sample or the user's own logs, through Airflow, to an answer. What `make run` does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.console import Console

from pipelines import local_run
from pipelines.answer import answer
from pipelines.errors import NotConfigured
from pipelines.land import source_name
from pipelines.settings import Settings, Source
from pipelines.simulate import simulate

SAMPLE_CALLS, SAMPLE_DAYS, SAMPLE_SEED, SAMPLE_DIRT = 20_000, 3, 7, 0.02
SAMPLE_AGE = SAMPLE_DAYS + 3
"""Days before today on which the sample begins; late lines come up to three days after its last."""
SAMPLE_FORMATS = ("litellm", "openai", "otel", "langfuse", "anthropic")


def first_run(logs: str | None, format: str | None, *, once: bool, console: Console) -> int:
    """Bring in `logs` as `format`, the sources of the settings, or a simulated sample; run the DAGs; print the answer.

    Returns the exit code. A second run takes in what is new and leaves the rest as it is.
    """
    settings = Settings.load()
    today = datetime.now(UTC).date()
    if logs:
        if not format:
            raise NotConfigured("FORMAT says how to read the logs, for example: make run LOGS=/data/calls.jsonl FORMAT=litellm")
        # Airflow's processes run elsewhere; a path is made absolute before it is handed to them.
        url = logs if "://" in logs else str(Path(logs).expanduser().resolve())
        settings.sources = {source_name(settings, format): Source(url=url, format=format)}
        priced_from = today
    elif settings.sources:
        priced_from = today
    else:
        # The sample plays in the days before; its prices are taken as known when it begins.
        first_day = today - timedelta(days=SAMPLE_AGE)
        priced_from = first_day - timedelta(days=1)
        settings.sources = sample(settings, first_day, console)
    return local_run.run(
        settings, [today], price_days=[priced_from], answer=lambda s: answer(s, console), once=once, console=console
    )


def sample(settings: Settings, first_day: date, console: Console) -> dict[str, Source]:
    """Sources of a simulated sample, written once: the calls of the last three days, some late, doubled or spoilt."""
    out = settings.home / "sample"
    if not (out / "truth" / "expected.json").is_file():
        console.print(f"Simulating {SAMPLE_CALLS:,} calls of {SAMPLE_DAYS} days in {len(SAMPLE_FORMATS)} formats …")
        simulate(
            out, calls=SAMPLE_CALLS, days=SAMPLE_DAYS, first_day=first_day, seed=SAMPLE_SEED,
            formats=SAMPLE_FORMATS, dirt_share=SAMPLE_DIRT,
        )
    names = sorted(p.name for p in (out / "logs").iterdir() if p.is_dir())
    return {source_name(settings, name): Source(url=str(out / "logs" / name), format=name) for name in names}
