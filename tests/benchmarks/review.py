"""How many errors does a review queue find, against looking at calls in random order?

    python -m tests.benchmarks.review [--data ../shared/data] [--known 1500] [--seeds 3] [--warehouse HOME --truth FOLDER]

RouteLLM's outcomes of two models on MMLU: of `--known` random prompts both models' outcomes are known, of all others none. The queue
of each model's other answers is ordered by pipelines/learn/review.py and by each of its witnesses alone. Printed: errors found among the
first 100, 500 and 2,000 looked at, a hundred looked at; random order finds the model's error rate; and the errors expected beside those
found. With `--warehouse` and `--truth` (a home filled from `flywheel simulate`, and its truth folder) the same of datasets.review_queue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import duckdb  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from pipelines.learn.review import WITNESSES, ErrorFinder  # noqa: E402

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
LOOKED_AT = (100, 500, 2_000)


def answers(data: Path) -> pd.DataFrame:
    """A row an answer: prompt, model_name, failure (0 or 1), prompt_no; without the prompts that RouteLLM lists as contaminated."""
    folder = data / "outcomes" / "routellm" / "mmlu"
    return duckdb.execute(
        f"""with told as (
            select prompt, "{WEAK}"::boolean as weak, "{STRONG}"::boolean as strong, row_number() over (order by prompt, filename) - 1 as prompt_no
            from read_csv(?, filename = true, header = true, all_varchar = true)
            where prompt not in (select eval_prompt from read_json(?)))
        select prompt, '{WEAK}' as model_name, (not weak)::int::double as failure, prompt_no from told
        union all select prompt, '{STRONG}', (not strong)::int::double, prompt_no from told""",
        [str(folder / "responses/mmlu_*.csv.gz"), str(folder / "contaminated_prompts.jsonl.gz")],
    ).df()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--known", type=int, default=1_500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--warehouse", type=Path)
    parser.add_argument("--truth", type=Path)
    given = parser.parse_args()
    if given.warehouse:
        simulated(given.warehouse, given.truth)
        return
    rows = answers(given.data)
    prompts = rows["prompt_no"].nunique()
    print(f"{prompts:,} prompts, {given.known:,} of them known, {given.seeds} splits; errors found per 100 looked at, first {', '.join(f'{n:,}' for n in LOOKED_AT)}")
    found: dict[tuple[str, str], list[list[float]]] = {}
    expected: dict[str, list[list[float]]] = {}
    for seed in range(given.seeds):
        is_known = np.isin(rows["prompt_no"], np.random.default_rng(seed).permutation(prompts)[: given.known])
        known = rows[is_known]
        finder = ErrorFinder(labels=()).fit(known, known["failure"].to_numpy(), np.ones(len(known)), known["prompt_no"].to_numpy())
        for model in (WEAK, STRONG):
            queue = rows[~is_known & (rows["model_name"] == model)]
            told, failure = finder.predict(queue), queue["failure"].to_numpy()
            for order in ("expected_error_share", *WITNESSES, "disagreement_share", "entropy_nats"):
                first = np.argsort(-told[order].to_numpy(), kind="stable")
                found.setdefault((model, order), []).append([100 * failure[first[:n]].mean() for n in LOOKED_AT])
                if order == "expected_error_share":
                    expected.setdefault(model, []).append([100 * told[order].to_numpy()[first[:n]].mean() for n in LOOKED_AT])
            found.setdefault((model, "random order"), []).append([100 * failure.mean()] * len(LOOKED_AT))
    for (model, order), figures in found.items():
        base = np.mean(found[model, "random order"], axis=0)
        mean = np.mean(figures, axis=0)
        print(f"{model:40} {order:22} " + "  ".join(f"{m:5.1f} ({m / b:.2f} times random)" for m, b in zip(mean, base, strict=True))
              + (f"   expected {', '.join(f'{e:.1f}' for e in np.mean(expected[model], axis=0))}" if order == "expected_error_share" else ""))  # fmt: skip


def simulated(home: Path, truth: Path) -> None:
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as con:
        rows = con.execute("select rank_number, expected_error_share, (not success)::int as failed from datasets.review_queue join read_parquet(?) using (inference_id) order by 1", [str(truth / "call.parquet")]).df()
    base = rows["failed"].mean()
    print(f"{len(rows):,} calls in the queue, {base:.1%} of them failed")
    for n in LOOKED_AT:
        first = rows.head(n)
        print(f"first {n:,}: {100 * first['failed'].mean():.1f} errors per 100 ({first['failed'].mean() / base:.2f} times random), expected {100 * first['expected_error_share'].mean():.1f}")


if __name__ == "__main__":
    main()
