"""From other people's feedback to training sets, by the way any log takes: land, gate, resolve outcomes, build, export.

    python tests/benchmarks/feedback_sets.py [--data ../shared/data] [--to FOLDER] [--rows 1500]

RealHumanEval: 1,055 coding chats; what was copied is a signal of the user (`copy`), of the rest only silence is known. RouteLLM's GSM8K: 1,319
questions with the full answers of two models and whether each was right (`exact_match`, an evaluator). The files are written as the formats `openai`
and `feedback` know them, and from then on nothing is particular to them: an SFT, a KTO and a preference set, each exported for TRL with its card.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines.build import build_tables, mart_order  # noqa: E402
from pipelines.contracts import contract  # noqa: E402
from pipelines.export.finetune import export_dataset  # noqa: E402
from pipelines.finetune.recipe import Recipe  # noqa: E402
from pipelines.finetune.versions import Built, build_dataset  # noqa: E402
from pipelines.ingest import ingest_source  # noqa: E402
from pipelines.settings import Settings, Source  # noqa: E402

DAY = date(2026, 10, 17)
START = datetime(2026, 10, 1, 8, tzinfo=UTC)


def _rows(path: Path, limit: int) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(2**30)
    with gzip.open(path, "rt") as file:
        for n, row in enumerate(csv.DictReader(file)):
            if n == limit:
                return
            yield n, row


def _call(id: str, at: datetime, model: str, messages: list, answer: str, **more: str) -> dict:
    return {"timestamp": at.isoformat(), "request": {"model": model, "messages": messages}, "response": {
        "id": id, "object": "chat.completion", "model": model, "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}]}} | more  # fmt: skip


def write_logs(data: Path, folder: Path, limit: int) -> None:
    """coding, maths and feedback, a folder of JSON lines each."""
    calls, maths, feedback = [], [], []
    for n, r in _rows(data / "feedback/realhumaneval/chat_data.csv.gz", limit):
        at = START + timedelta(seconds=float(r["timestamp"]) + 7_200 * (int(float(r["programmer_id"])) % 5))
        calls.append(_call(f"rhe-{n}", at, r["model"], ast.literal_eval(r["request"]), r["response"], session_id=r["programmer_id"], metadata={"workload": "coding"}))
        if r["copy_events"] not in ("", "[]"):
            feedback.append({"target": {"call": f"openai:rhe-{n}"}, "name": "copy", "value": True, "at": (at + timedelta(seconds=20)).isoformat(), "rater": {"kind": "implicit"}})
    for n, r in _rows(data / "outcomes/routellm/gsm8k/gsm8k_responses.csv.gz", limit):
        for side, model in enumerate(name.removesuffix("_response") for name in r if name.endswith("_response")):
            at = START + timedelta(days=1 + 2 * side, seconds=20 * n)
            maths.append(_call(f"gsm-{n}-{side}", at, model, [{"role": "user", "content": r["prompt"]}], r[f"{model}_response"], session_id=f"gsm-{n}-{side}", metadata={"workload": "maths"}))
            feedback.append({"target": {"call": f"openai:gsm-{n}-{side}"}, "name": "exact_match", "value": r[model] == "True", "at": (at + timedelta(seconds=5)).isoformat(),
                             "rater": {"kind": "evaluator", "id": "exact_match"}})  # fmt: skip
    # Half a month later one more call of each: by then silence has become known as silence.
    for name, rows in (("coding", calls), ("maths", maths)):
        rows.append(_call(f"last-{name}", START + timedelta(days=15), "m", [{"role": "user", "content": "hi"}], "hello"))
    for name, rows in (("coding", calls), ("maths", maths), ("feedback", feedback)):
        (folder / name).mkdir(parents=True)
        (folder / name / "all.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def tables_for(name: str) -> list[str]:
    """A mart and all that it is built from, in order."""
    needed, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one in mart_order() and one not in needed:
            needed.add(one)
            waiting += contract(one).reads
    return [one for one in mart_order() if one in needed]


def training_sets(data: Path, folder: Path, limit: int) -> dict[str, Built]:
    """The three sets, built in a home of their own in the folder and exported to <folder>/<kind>."""
    write_logs(data, folder / "in", limit)
    settings = Settings(home=folder / "home", sources={name: Source(url=str(folder / f"in/{name}/*.jsonl"), format="feedback" if name == "feedback" else "openai") for name in ("coding", "maths", "feedback")})
    for source in settings.sources:
        ingest_source(settings, source, DAY)
    build_tables(settings, tables_for("marts.call_outcome"))
    built = {}
    for kind, outcome in (("sft", {}), ("kto", {"good_share": 0.85, "bad_share": 0.65}), ("preference", {})):
        asked = Recipe.model_validate({"recipe": f"feedback_{kind}", "sentence": "Public feedback, for a test of the way.", "kind": kind, "rights": {"consent": "assumed", "trains_provider": "openai"}, "outcome": outcome, "split": {"by": "group"}})
        built[kind] = build_dataset(settings, asked)
        export_dataset(settings, built[kind].dataset_version, "trl", str(folder / kind))
    return built


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments.add_argument("--to", type=Path, help="An empty folder to keep; default: none is kept")
    arguments.add_argument("--rows", type=int, default=1_500)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.to or Path(temporary)
        for kind, built in training_sets(given.data, folder, given.rows).items():
            print(f"{kind}: {built}")
            for step in built.funnel:
                print("  {stage:20} {unit:9} {before_count:6} {dropped_count:6} {kept_count:6} {reasons}".format(**step))
            print("  personal values replaced:", built.personal)
