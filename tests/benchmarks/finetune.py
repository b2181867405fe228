"""Fine-tuning datasets against a planted truth, on real feedback, and against the clock.

    python tests/benchmarks/finetune.py [--conversations 100000] [--data ../shared/data]

1. Planted: near copies (5 % of the words changed), benchmark texts verbatim, in capitals and with other white space, and personal data
   inside made-up conversations: what of it is left, and what was dropped that was not planted.
2. RealHumanEval: coding chats with copy events as outcome: SFT and KTO sets, their funnels. GSM8K of two models: preference pairs, by right and wrong.
3. Speed: all stages over that many conversations of about 1.8 kB, in memory; and near-duplicates by themselves.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines.contracts import contract  # noqa: E402
from pipelines.engine import connect  # noqa: E402
from pipelines.finetune import stages  # noqa: E402
from pipelines.near import near_pairs  # noqa: E402
from pipelines.settings import Settings  # noqa: E402
from tests.support.finetune import dropped, recipe, said, staged  # noqa: E402
from tests.support.marts import fill  # noqa: E402

GROUPED = {"split": {"by": "group"}}


def planted(folder: Path, size: int = 200) -> None:
    """Plant and look for what is left."""
    rng = random.Random(5)
    vocabulary = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "tu", "re") for b in ("na", "so", "vi", "pe", "du") for c in ("r", "n", "st", "l", "x", "m")]

    def text(words: int) -> list[str]:
        return rng.choices(vocabulary, k=words)

    held = [" ".join(text(30)) for _ in range(size)]
    (folder / "held.jsonl").write_text("".join(json.dumps({"question": h}) + "\n" for h in held))
    calls = [said(f"plain{n:04}", " ".join(text(80)), " ".join(text(120))) for n in range(5 * size)]
    for n in range(size):
        words = (calls[n]["asked"] + " | " + calls[n]["answered"]).split()
        for place in rng.sample(range(len(words)), 5):
            words[place] = words[place] if words[place] == "|" else rng.choice(vocabulary)
        asked, answered = " ".join(words).split(" | ")
        calls.append(said(f"near{n:04}", asked, answered))
        before, after = " ".join(text(20)), " ".join(text(20))
        for kind, copy in (("verbatim", held[n]), ("case", held[n].upper()), ("space", held[n].replace(" ", " \n\t"))):
            calls.append(said(f"{kind}{n:04}", f"{before} {kind} {copy} {after}", " ".join(text(40))))
    secrets = []
    for n in range(size):
        card = f"4{rng.randrange(10**14):014}"
        card += next(str(d) for d in range(10) if _luhn(card + str(d)))
        account = f"{rng.randrange(10**18):018}"
        iban = f"DE{98 - int(account + '131400') % 97:02}{account}"
        values = [f"user{n}.x@mail{n}.example.com", f"+49 170 {rng.randrange(10**7):07}", card, iban, f"sk-proj-{rng.randbytes(16).hex()}", f"84.{n % 250}.{n // 250}.77"]
        secrets += values
        calls.append(said(f"secret{n:04}", " ".join(text(30)) + "\n" + "\n".join(values) + "\n" + " ".join(text(30)), " ".join(text(40)) + " " + values[n % 6]))
    with staged(recipe(gates={"benchmarks": [str(folder / "held.jsonl")]}, **GROUPED), calls) as (con, made):
        left = dict(con.execute("select regexp_extract(example_id, '[a-z]+'), count(*) from example group by 1").fetchall())
        said_now = con.execute("select string_agg(prompt || answer, ' ') from example").fetchall()[0][0]
        leaked = con.execute("select count(*) from (select group_key from example group by 1 having count(distinct split) > 1)").fetchall()[0][0]
        print(f"planted {size} of each, left: {({k: left.get(k, 0) for k in ('near', 'verbatim', 'case', 'space')})}; unplanted kept {left['plain']} of {5 * size}; "
              f"personal values left {sum(s in said_now for s in secrets)} of {len(secrets)}, examples with them kept {left['secret']} of {size}; groups in two splits {leaked}; {dropped(made)}")  # fmt: skip


def _luhn(number: str) -> bool:
    return sum(int(d) if n % 2 == 0 else sum(divmod(2 * int(d), 10)) for n, d in enumerate(reversed(number))) % 10 == 0


def real(data: Path) -> None:
    """Sets out of real feedback."""
    import ast
    import csv
    import gzip

    csv.field_size_limit(2**30)
    with gzip.open(data / "feedback/realhumaneval/chat_data.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    calls = [said(f"r{n:05}", ast.literal_eval(r["request"]), r["response"], good=0.9 if r["copy_events"] != "[]" else 0.2, request_model=r["model"], session_id=f"{r['programmer_id']}") for n, r in enumerate(rows)]
    for kind in ("sft", "kto"):
        with staged(recipe(kind, gates={"is_redacted": True}, split={"by": "group"}), calls) as (con, made):
            print(f"realhumaneval {kind}: {con.execute('select count(*) from example').fetchall()[0][0]} examples of {len(rows)} calls; {dropped(made)}; personal {made.personal}")
    with gzip.open(data / "outcomes/routellm/gsm8k/gsm8k_responses.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    answers = [c for c in rows[0] if c.endswith("_response")]
    models = [c.removesuffix("_response") for c in answers]
    calls = [said(f"{m}-{n:05}", r["prompt"], r[f"{m}_response"], good=0.95 if r[m] in ("True", "1", "1.0") else 0.05, request_model=m) for n, r in enumerate(rows) for m in models if r.get(m) not in (None, "")]
    with staged(recipe("preference", split={"by": "group"}), calls) as (con, made):
        print(f"gsm8k preference: {con.execute('select count(*) from example').fetchall()[0][0]} pairs of {len(rows)} prompts; {dropped(made)}")


def speed(conversations: int) -> None:
    """All stages, in memory, and how long each took."""
    with tempfile.TemporaryDirectory() as folder, connect(Settings(home=Path(folder), memory_limit="4GB", threads=2)) as con:
        for name in contract("datasets.sft").reads:
            fill(con, contract(name), [])
        text = "array_to_string(list_transform(range({n}), lambda k: 'word' || (hash(i * 1000 + k + {seed}) % 5000)), ' ')"
        con.execute(f"""create temp table drawn as select 'c' || i as inference_id, timestamp '2026-11-20 00:00:00' + to_seconds(i::bigint // 20) as started_at,
            to_json([{{'role': 'user', 'content': {text.format(n=90, seed=0)}}}])::varchar as asked, to_json([{{'role': 'assistant', 'content': {text.format(n=110, seed=500)}}}])::varchar as answered
            from range({conversations}) as r (i)""")
        con.execute("insert into core.inference by name select inference_id, started_at, 'app' as source, 'ok' as status, 'm' as request_model from drawn")
        con.execute("insert into core.inference_content by name select inference_id, started_at, asked as input_messages, answered as output_messages from drawn")
        con.execute("insert into marts.call_outcome by name select inference_id, started_at, 0.9 as outcome_share, 0.5 as confidence_share, 'resolved' as outcome_status, true as is_matured, false as is_conflicting from drawn")
        [(kb,)] = con.execute("select avg(strlen(asked) + strlen(answered)) / 1000 from drawn").fetchall()
        took: dict[str, float] = {}
        for name in ("rights", "chosen", "schema", "refusals", "languages", "lengths", "exact_duplicates", "near_duplicates", "benchmarks", "budget", "personal_data", "splits"):
            setattr(stages, name, _timed(getattr(stages, name), took))
        started = time.perf_counter()
        made = stages.run(con, recipe(**GROUPED))
        total = time.perf_counter() - started
        print(f"{conversations:,} conversations of {kb:.1f} kB: {total:.1f} s; {json.dumps({k: round(v, 1) for k, v in took.items()})}; {dropped(made)}")
        started = time.perf_counter()
        near_pairs(con, "select row_number() over () as no, asked as said from drawn", 0.8)
        print(f"near-duplicates alone, on the questions: {conversations / (time.perf_counter() - started):,.0f} texts/s")


def _timed(stage, took: dict[str, float]):
    def timed(con, recipe, made) -> None:
        started = time.perf_counter()
        stage(con, recipe, made)
        took[stage.__name__] = time.perf_counter() - started

    return timed


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--conversations", type=int, default=100_000)
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        planted(Path(temporary))
    if given.data.is_dir():
        real(given.data)
    speed(given.conversations)
