"""Fine-tuning datasets against a planted truth, on real feedback, and against the clock.

    python tests/benchmarks/finetune.py [--only speed] [--conversations 100000 300000 1000000] [--datasketch 20000] [--data ../shared/data]

1. Planted: near copies (5 % of the words changed), benchmark texts verbatim, in capitals and with other white space, and personal data
   inside made-up conversations: what of it is left, and what was dropped that was not planted.
2. RealHumanEval: coding chats with copy events as outcome: SFT and KTO sets, their funnels. GSM8K of two models: preference pairs, by right and wrong.
   Labels turned round on purpose: how many of those most doubted are among them.
3. Speed: a whole build, from stored tables to a published version, of each number of conversations of about 1.8 kB (not counting presidio),
   and near-duplicates beside datasketch where that is installed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines.contracts import contract  # noqa: E402
from pipelines.engine import MART_MACROS, connect, write  # noqa: E402
from pipelines.finetune import stages  # noqa: E402
from pipelines.finetune.versions import build_dataset  # noqa: E402
from pipelines.lake import Lake  # noqa: E402
from pipelines.near import near_pairs  # noqa: E402
from pipelines.settings import Settings  # noqa: E402
from tests.support.finetune import dropped, recipe, said, staged  # noqa: E402
from tests.support.marts import DAY, fill  # noqa: E402

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
        left = dict(con.execute("select regexp_extract(example_id, '[a-z]+'), count(*) from dataset_row group by 1").fetchall())
        said_now = con.execute("select string_agg(prompt || answer, ' ') from dataset_row").fetchall()[0][0]
        leaked = con.execute("select count(*) from (select group_key from dataset_row group by 1 having count(distinct split) > 1)").fetchall()[0][0]
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
            print(f"realhumaneval {kind}: {con.execute('select count(*) from dataset_row').fetchall()[0][0]} examples of {len(rows)} calls; {dropped(made)}; personal {made.personal}")
    with gzip.open(data / "outcomes/routellm/gsm8k/gsm8k_responses.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    answers = [c for c in rows[0] if c.endswith("_response")]
    models = [c.removesuffix("_response") for c in answers]
    calls = [said(f"{m}-{n:05}", r["prompt"], r[f"{m}_response"], good=0.95 if r[m] in ("True", "1", "1.0") else 0.05, request_model=m) for n, r in enumerate(rows) for m in models if r.get(m) not in (None, "")]
    with staged(recipe("preference", split={"by": "group"}), calls) as (con, made):
        print(f"gsm8k preference: {con.execute('select count(*) from dataset_row').fetchall()[0][0]} pairs of {len(rows)} prompts; {dropped(made)}")


def noise(data: Path, share: float = 0.1) -> None:
    """Labels turned round on purpose: how many of the k most doubted are among them, on right and wrong answers of two models to GSM8K."""
    import csv
    import gzip

    rng = random.Random(3)
    with gzip.open(data / "outcomes/routellm/gsm8k/gsm8k_responses.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    models = [c.removesuffix("_response") for c in rows[0] if c.endswith("_response")]
    for kind in ("kto", "preference"):
        turned, calls = set(), []
        for n, r in enumerate(rows):
            turn = rng.random() < share
            for m, model in enumerate(models):
                id = f"{m}-{n:05}"
                turned |= {id} if turn else set()
                calls.append(said(id, r["prompt"], r[f"{model}_response"], good=0.95 if (r[model] == "True") != turn else 0.05, request_model=model))
        with staged(recipe(kind, gates={"near_duplicate_share": 1.0, "is_redacted": False}, **GROUPED), calls) as (con, _):
            ranked = [i.split("|")[0] in turned for (i,) in con.execute("select example_id from dataset_row where doubt_share is not null order by doubt_share desc, example_no").fetchall()]
            print(f"label noise, gsm8k {kind}: {sum(ranked)} of {len(ranked)} turned ({sum(ranked) / len(ranked):.2f} by chance); precision at {', '.join(f'{k}: {sum(ranked[:k]) / k:.2f}' for k in (20, 50, 100, 200) if k <= len(ranked))}")


def stored_conversations(settings: Settings, folder: Path, conversations: int) -> float:
    """A warehouse of made-up conversations of about 1.8 kB, and the kB of each: 5 % said before, 5 % nearly, 3 % with personal values, 1 % of a benchmark."""
    lake = Lake(settings)
    with connect(settings) as con:
        con.execute("set preserve_insertion_order = false")
        word = "'word' || (hash({i} * 1000 + k) % 20000)"
        text = "array_to_string(list_transform(range({a}, {b}), lambda k: " + word + "), ' ')"
        copied = "case when i % 20 in (7, 13) then i - 3 else i end"
        # Of a near copy every thirtieth word is another.
        near = "case when i % 20 = 13 and k % 30 = 4 then 'word' || (hash(i * 1000 + k) % 20000) else " + word.format(i=f"({copied})") + " end"
        answer = "array_to_string(list_transform(range(90, 200), lambda k: " + near + "), ' ')"
        told = "case when i % 33 = 5 then ' write to user' || i || '@mail.example.com or +49 170 ' || (1000000 + i % 9000000) else '' end"
        held = f"case when i % 100 = 17 then ' ' || {text.format(i='(-(i // 100 % 1000) - 1)', a=0, b=20)} else '' end"
        con.execute(f"""create temp table drawn as select 'c' || i as inference_id, timestamp '2026-11-20 00:00:00' + to_seconds(i::bigint // 20) as started_at,
            '[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"' || {text.format(i=f'({copied})', a=0, b=90)} || {told} || {held} || '"}}]' as asked,
            '[{{"role":"assistant","content":"' || {answer} || '"}}]' as answered
            from range({conversations}) as r (i)""")
        con.execute(f"copy (select {text.format(i='(-i - 1)', a=0, b=20)} as question from range(1000) as r (i)) to '{folder}/held.jsonl' (format json)")
        [(kb,)] = con.execute("select avg(strlen(asked) + strlen(answered)) / 1000 from drawn").fetchall()
        for name, columns in (
            ("core.inference", "inference_id, started_at, 'app' as source, 'ok' as status, 'm' as request_model"),
            ("core.inference_content", "inference_id, started_at, asked as input_messages, answered as output_messages"),
            ("marts.call_outcome", "inference_id, started_at, 0.9 as outcome_share, 0.5 as confidence_share, 'resolved' as outcome_status, true as is_matured, false as is_conflicting"),
        ):
            fill(con, contract(name), [])
            path = write(con, settings.scratch / f"{name}.parquet", f"select * from {name} union all by name select {columns} from drawn")
            lake.append(name, [(path, DAY)])
    return kb


def speed(conversations: int) -> None:
    """A whole build from tables to a published version, how long each stage took, and the most memory it held."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", memory_limit="3GB", threads=2)
        process = mp.get_context("spawn").Process(target=_stored, args=(settings, Path(folder), conversations))
        process.start()
        process.join()
        took: dict[str, float] = {}
        for step, made in stages.STEPS.items():
            stages.STEPS[step] = tuple(_timed(stage, took) for stage in made)
        started, busy = time.perf_counter(), time.process_time()
        built = build_dataset(settings, recipe(gates={"benchmarks": [f"{folder}/held.jsonl"]}, **GROUPED))
        total, busy = time.perf_counter() - started, time.process_time() - busy
        reasons = {reason: n for s in built.funnel for reason, n in json.loads(s["reasons"]).items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{conversations:,} conversations of {(Path(folder) / 'kb').read_text()} kB: {total:.1f} s ({busy:.1f} s of CPU), peak {peak:.1f} GB; "
              f"{json.dumps({k: round(v, 1) for k, v in took.items() if v >= 0.1} | {'publish': round(total - sum(v for k, v in took.items() if 'CPU' not in k), 1)})}; "
              f"near-duplicate stage {conversations / took['near_duplicates']:,.0f} texts/s; {built}; {reasons}", flush=True)  # fmt: skip


def _stored(settings: Settings, folder: Path, conversations: int) -> None:
    (folder / "kb").write_text(f"{stored_conversations(settings, folder, conversations):.2f}")


def beside_datasketch(texts: int) -> None:
    """Near-duplicates by datasketch's MinHash and LSH with the same shingles, bands and threshold, on the same texts; all of it, tokens included."""
    with connect(Settings(home=Path(tempfile.gettempdir()) / "flywheel-near", memory_limit="2GB", threads=2), MART_MACROS) as con:
        con.execute(f"create temp table drawn as select i as no, array_to_string(list_transform(range(200), lambda k: 'word' || (hash((case when i % 20 = 7 and k % 30 <> 4 then i - 3 else i end) * 1000 + k) % 20000)), ' ') as said from range({texts}) as r (i)")
        started = time.perf_counter()
        a, _ = near_pairs(con, "select no, word_hashes(text_words(said)) as word from drawn", 0.7)
        ours = time.perf_counter() - started
        print(f"near-duplicates of {texts:,} texts, tokens included: {texts / ours:,.0f} texts/s, {len(a):,} pairs", end="; ", flush=True)
        said_texts = con.execute("select said from drawn order by no").fetchall()
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        print("datasketch is not installed here")
        return
    started = time.perf_counter()
    lsh, found = MinHashLSH(num_perm=64, params=(16, 4)), 0
    for no, (text,) in enumerate(said_texts):
        words = text.lower().split()
        one = MinHash(num_perm=64)
        one.update_batch([" ".join(words[n : n + 3]).encode() for n in range(len(words) - 2)])
        found += len(lsh.query(one))
        lsh.insert(no, one)
    print(f"datasketch {texts / (time.perf_counter() - started):,.0f} texts/s, {found:,} candidates")


def _timed(stage, took: dict[str, float]):
    def timed(con, recipe, made) -> None:
        started, busy = time.perf_counter(), time.process_time()
        stage(con, recipe, made)
        took[stage.__name__] = time.perf_counter() - started
        took[stage.__name__ + " CPU"] = time.process_time() - busy

    return timed


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--conversations", type=int, nargs="*", default=[30_000, 100_000])
    arguments.add_argument("--datasketch", type=int, default=0, help="Texts to time datasketch on")
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments.add_argument("--only", choices=("planted", "real", "speed"))
    given = arguments.parse_args()
    if given.only in (None, "planted"):
        with tempfile.TemporaryDirectory() as temporary:
            planted(Path(temporary))
    if given.only in (None, "real") and given.data.is_dir():
        real(given.data)
        noise(given.data)
    if given.only in (None, "speed"):
        for size in given.conversations:
            one = mp.get_context("spawn").Process(target=speed, args=(size,))
            one.start()
            one.join()
        if given.datasketch:
            beside_datasketch(given.datasketch)
