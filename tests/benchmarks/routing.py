"""Routers on real outcomes: all of ours, and every baseline beside them.

    python tests/benchmarks/routing.py routellm|llmrouter|bfcl|bandit [--data ../shared/data] [--embeddings FOLDER] [--seeds 0,1,2,3,4] [--only combined,...] [--plot FOLDER]

routellm    two models on MMLU and GSM8K, RouteLLM's metric; random splits by seed
llmrouter   nine models on 14 tasks, 5 folds; equal prompts share a fold
bfcl        function calling, all models with known prices: quality against cost
bandit      MMLU again, but of each request the answer of one arm only was seen

`--embeddings`: also the routers with the Universal Sentence Encoder; its vectors are kept in FOLDER (about 20 texts a second the first time).
`--only`: of the routers these alone; baselines are always shown.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines.learn.features import PromptFeatures, UniversalSentenceEncoder  # noqa: E402
from pipelines.learn.frontier import (  # noqa: E402
    Curve,
    aiq,
    calibration_error,
    cost_at_quality,
    draw,
    gain_interval,
    gap_closed,
    hull,
    oracle_choice,
    pair_figures,
    reward_of,
)
from pipelines.learn.routers import (  # noqa: E402
    ArmMeanRouter,
    BoostingRouter,
    CombinedRouter,
    ForestRouter,
    KNNRouter,
    LengthRouter,
    LogisticRouter,
    RandomRouter,
    RidgeRouter,
    Router,
    TaskMeanRouter,
)

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
Outcomes = tuple[pd.DataFrame, pd.DataFrame]  # rows (prompt, task), rewards (a column an arm)


class Kept:
    """Vectors of texts, made once and kept in a folder."""

    def __init__(self, folder: Path, prompts: list[str]):
        distinct = sorted(set(prompts))
        path = folder / f"{hashlib.sha256(json.dumps(distinct).encode()).hexdigest()[:16]}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            np.save(path, UniversalSentenceEncoder().transform(distinct))
        self.vectors = dict(zip(distinct, np.load(path), strict=True))

    def __call__(self, prompts: list[str]) -> np.ndarray:
        return np.array([self.vectors[prompt] for prompt in prompts])

    def __deepcopy__(self, memo: dict) -> Kept:
        return self


def pair_outcomes(data: Path, benchmark: str) -> Outcomes:
    """RouteLLM's outcomes of two models, without the prompts it lists as contaminated."""
    folder = data / "outcomes" / "routellm" / benchmark
    files = "responses/mmlu_*.csv.gz" if benchmark == "mmlu" else "gsm8k_responses.csv.gz"
    found = duckdb.execute(
        f"""select prompt, regexp_extract(filename, '/(?:mmlu_)?([a-z0-9_]+?)(?:_responses)?\\.csv', 1) as task,
                "{WEAK}"::boolean::int::double as weak, "{STRONG}"::boolean::int::double as strong
            from read_csv(?, filename = true, header = true, all_varchar = true)
            where prompt not in (select eval_prompt from read_json(?)) order by task, prompt""",
        [str(folder / files), str(folder / "contaminated_prompts.jsonl.gz")],
    ).df()
    return found[["prompt", "task"]], found[["weak", "strong"]]


def nine_outcomes(data: Path) -> Outcomes:
    """LLMRouter's scores of nine models; the task of a prompt stands in another file."""
    found: list[dict] = []
    for part in ("train", "test"):
        folder = data / "outcomes" / "llmrouter"
        with gzip.open(folder / f"query_data_default_query_{part}.jsonl.gz", "rt") as lines:
            task_of = {row["query"]: row["task_name"] for row in map(json.loads, lines)}
        with gzip.open(folder / f"dcrouter_preprocessed_{part}.json.gz", "rt") as file:
            found += [{"prompt": row["question"], "task": task_of[row["question"]], **row["scores"]} for row in json.load(file) if row["scores"]]
    table = pd.DataFrame(found)
    return table[["prompt", "task"]], table.drop(columns=["prompt", "task"]).clip(0, 1)


def calling_outcomes(data: Path, price_list: str = "2024-08-10.json.gz") -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """BFCL's outcomes and costs in USD of the models that LiteLLM's list of that week prices, at that list."""
    with gzip.open(data / "prices" / "litellm" / price_list, "rt") as file:
        listed = {name.split("/")[-1]: entry for name, entry in reversed(json.load(file).items()) if entry.get("mode") == "chat"}
    folder = data / "outcomes" / "bfcl"
    answers = duckdb.execute("select model, id, valid::int::double as reward, input_tokens, output_tokens from read_parquet(?)", [str(folder / "outcomes_2024-08-11.parquet")]).df()
    rows = duckdb.execute("select id, question as prompt, category as task from read_parquet(?) order by id", [str(folder / "prompts.parquet")]).df()
    price_of = {}
    for model in answers.model.unique():
        entry = listed.get(model.split("-FC")[0].replace("-2312", "").replace("-2402", "").replace("open-mistral-nemo-2407", "open-mistral-nemo"))
        if entry and entry["input_cost_per_token"] > 0:
            price_of[model] = (entry["input_cost_per_token"], entry["output_cost_per_token"])
    answers = answers[answers.model.isin(price_of)]
    price = np.array([price_of[model] for model in answers.model])
    answers["cost_usd"] = answers.input_tokens * price[:, 0] + answers.output_tokens * price[:, 1]
    rewards = answers.pivot(index="id", columns="model", values="reward").loc[rows.id]
    costs = answers.pivot(index="id", columns="model", values="cost_usd").loc[rows.id]
    known = costs.columns[costs.notna().mean() > 0.99]
    return rows[["prompt", "task"]], rewards[known].reset_index(drop=True), costs[known].reset_index(drop=True)


BASELINES = ["cheapest", "best single", "random", "length only", "task mean"]


def routers(has_task: bool, embedder: Callable | None, only: list[str] | None) -> dict[str, Router]:
    """Baselines first; of the others those asked for."""
    return {name: router for name, router in _routers(has_task, embedder) if only is None or name in BASELINES or name in only}


def _routers(has_task: bool, embedder: Callable | None) -> Iterator[tuple[str, Router]]:
    labels = ["task"] if has_task else []
    text = PromptFeatures(labels=labels)
    yield "random", RandomRouter()
    yield "length only", LengthRouter()
    if has_task:
        yield "task mean", TaskMeanRouter()
    yield "nearest neighbours", KNNRouter(text)
    yield "ridge", RidgeRouter(text, alpha=30.0)
    yield "logistic", LogisticRouter(text)
    yield "boosting", BoostingRouter(text)
    yield "forest", ForestRouter(text)
    yield "combined", CombinedRouter(text)
    if embedder is not None:
        with_vectors = PromptFeatures(labels=labels, embedder=embedder)
        yield "ridge + embedding", RidgeRouter(with_vectors, alpha=30.0)
        yield "logistic + embedding", LogisticRouter(with_vectors)
        yield "forest + embedding", ForestRouter(with_vectors)
        yield "combined + embedding", CombinedRouter(with_vectors)


def spread(found: list[float], digits: int = 3, scale: float = 1) -> str:
    found = scale * np.array(found)
    return f"{found.mean():.{digits}f} ± {found.std(ddof=1) if len(found) > 1 else 0:.{digits}f}"


def splits(rows: int, learn: int, seeds: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(rows)
        yield order[:learn], order[learn:]


def answer_times(router: Router, rows: pd.DataFrame) -> str:
    """One request at a time, each a DataFrame of one row, as a gateway would ask: clock, and the CPU's time, which others do not lengthen. Then all at once."""
    taken, cpu = [], []
    for i in range(min(500, len(rows))):
        one = rows.iloc[i : i + 1]
        start, cpu_start = time.perf_counter(), time.process_time()
        router.predict(one)
        taken.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - cpu_start))
    start = time.perf_counter()
    router.predict(rows)
    many = len(rows) / (time.perf_counter() - start)
    return f"{np.quantile(taken, 0.5):6.2f} {np.quantile(taken, 0.99):7.2f} {np.quantile(cpu, 0.5):8.2f} {many:9,.0f}"


def routellm(given: argparse.Namespace) -> None:
    for benchmark, sizes in (("mmlu", (1500, 7000)), ("gsm8k", (900,))):
        rows, rewards = pair_outcomes(given.data, benchmark)
        truth = rewards.to_numpy()
        embedder = Kept(given.embeddings, rows.prompt.tolist()) if given.embeddings else None
        print(f"\n{benchmark}: {len(rows):,} prompts after decontamination; weak {truth[:, 0].mean():.4f}, strong {truth[:, 1].mean():.4f}, either {truth.max(axis=1).mean():.4f}")
        for size in sizes:
            print(f"\n  learned from {size:,} prompts, tested on {len(rows) - size:,}; {len(given.seeds)} splits\n  {'router':24} {'APGR':>15}  {'CPT50 %':>13}  {'CPT80 %':>13}  {'ECE weak/strong':>16}  {'fit s':>5} {'p50 ms':>6} {'p99 ms':>7} {'CPU p50':>8} {'batch/s':>9}")
            kinds = ["oracle", *routers(benchmark == "mmlu", embedder, given.only)]
            print(f"  {'cheapest (always weak)':24} {0:15.3f}  {'never':>13}  {'never':>13}\n  {'best single (strong)':24} {'one point':>15}  {100:13.1f}  {100:13.1f}")
            for kind in kinds:
                figures, errors, seconds = [], [], []
                for learn, test in splits(len(rows), size, given.seeds):
                    if kind == "oracle":
                        figures.append(pair_figures(truth[test, 1] - truth[test, 0] + 1e-6 * np.random.default_rng(0).random(len(test)), *truth[test].T))
                        continue
                    router = routers(benchmark == "mmlu", embedder, given.only)[kind]
                    start = time.perf_counter()
                    router.fit(rows.iloc[learn], rewards.iloc[learn])
                    seconds.append(time.perf_counter() - start)
                    value = router.predict_value(rows.iloc[test])
                    figures.append(pair_figures(value[:, 1] - value[:, 0], *truth[test].T))
                    errors.append([calibration_error(value[:, arm], truth[test, arm]) for arm in (0, 1)])
                calibration = "/".join(f"{e:.3f}" for e in np.mean(errors, axis=0)) if errors else ""
                speed = f"{np.mean(seconds):5.1f} {answer_times(router, rows.iloc[test])}" if seconds else ""
                print(
                    f"  {kind:24} {spread([f.apgr for f in figures]):>15}  {spread([f.cpt50_share for f in figures], 1, 100):>13}  "
                    f"{spread([f.cpt80_share for f in figures], 1, 100):>13}  {calibration:>16}  {speed}", flush=True,
                )
    print("""
  Read with care: RouteLLM's published best on MMLU is APGR 0.603 (CPT50 35.4, CPT80 71.6), on GSM8K 0.622. Its about 1,500 gold labels came from MMLU's
  validation set (ours from the test set, tested on the rest) and went with 55,000 votes of another domain. The task label (MMLU's subject) is
  given to the routers; a lookup of it alone does nearly as well: what is learned is mostly which subjects the strong model is better at.""")


def llmrouter(given: argparse.Namespace) -> None:
    rows, rewards = nine_outcomes(given.data)
    truth = rewards.to_numpy()
    same = pd.factorize(rows.prompt)[0]
    embedder = Kept(given.embeddings, rows.prompt.tolist()) if given.embeddings else None
    print(f"\nllmrouter: {len(rows):,} prompts ({len(set(same)):,} distinct), {truth.shape[1]} arms")
    kinds = routers(True, embedder, given.only)
    got = {kind: np.full((len(given.seeds), len(rows)), np.nan) for kind in ("best single", *kinds)}
    errors: dict[str, list[float]] = {}
    for i, seed in enumerate(given.seeds):
        for learn, test in GroupKFold(5, shuffle=True, random_state=seed).split(rows, groups=same):
            best = ArmMeanRouter().fit(rows.iloc[learn], rewards.iloc[learn])
            got["best single"][i, test] = reward_of(best.predict_value(rows.iloc[test]).argmax(axis=1), truth[test])
            for kind, router in kinds.items():
                value = router.fit(rows.iloc[learn], rewards.iloc[learn]).predict_value(rows.iloc[test])
                got[kind][i, test] = reward_of(value.argmax(axis=1), truth[test])
                errors.setdefault(kind, []).append(np.mean([calibration_error(value[:, arm], truth[test, arm]) for arm in range(truth.shape[1])]))
    single, oracle = got["best single"], truth.max(axis=1).mean()
    print(f"  5 folds grouped by prompt, {len(given.seeds)} times\n  {'router':24} {'reward':>15}  {'gap closed %':>15}  {'ECE':>6}  gain over best single [95 %, by prompt]")
    print(f"  {'oracle':24} {oracle:15.4f}  {100:15.1f}")
    for kind, reward in got.items():
        gaps = [gap_closed(r.mean(), s.mean(), oracle) for r, s in zip(reward, single, strict=True)]
        gain, low, high = gain_interval(reward.mean(axis=0), single.mean(axis=0), same)
        print(f"  {kind:24} {spread(reward.mean(axis=1), 4):>15}  {spread(gaps, 1, 100):>15}  {np.mean(errors[kind]) if kind in errors else np.nan:6.3f}  {gain:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)
    print("  Costs are not in this data, so no cheapest arm.")
    print("  The ± is over ways of folding the same prompts. The task label is given; of the oracle's gap much is luck that no router can know.")


def bfcl(given: argparse.Namespace) -> None:
    rows, rewards, costs = calling_outcomes(given.data)
    truth, price = rewards.to_numpy(), costs.fillna(costs.mean()).to_numpy()
    same = pd.factorize(rows.prompt)[0]
    print(f"\nbfcl: {len(rows):,} prompts, {truth.shape[1]} priced arms; cost is USD per 1,000 calls at the list of that week")
    willing = np.concatenate([[0], np.geomspace(1e-5, 10, 40), [np.inf]])
    kinds = {name: router for name, router in routers(True, None, given.only).items() if name not in ("logistic", "boosting") or given.only}
    mean_cost, mean_reward = 1000 * price.mean(axis=0), truth.mean(axis=0)
    best = mean_reward.argmax()
    oracle = oracle_choice(truth, price)
    x, y = hull(mean_cost, mean_reward)
    print(f"  best single {rewards.columns[best]}: {mean_reward[best]:.4f} at {mean_cost[best]:.3f}; cheapest {mean_reward[mean_cost.argmin()]:.4f} at {mean_cost.min():.4f}; "
          f"oracle {reward_of(oracle, truth).mean():.4f} at {1000 * reward_of(oracle, price).mean():.3f}")
    print("  hull of single arms: " + ", ".join(f"{q:.3f} at {c:.4f}" for c, q in zip(x, y, strict=True)))
    print(f"  {'router':24} {'best quality':>13} {'at cost':>9} {'cost at best single quality':>28} {'part of its cost':>17} {'AIQ':>7}")
    curves = [Curve("single arms", mean_cost, mean_reward, is_line=False), Curve("hull of single arms", x, y)]
    dearest = mean_cost[best]
    print(f"  {'hull of single arms':24} {y[-1]:13.4f} {x[-1]:9.3f} {cost_at_quality(mean_cost, mean_reward, mean_reward[best]):28.3f} {1:17.1%} {aiq(mean_cost, mean_reward, mean_cost.min(), dearest):7.4f}")
    for kind, router in kinds.items():
        reward, cost = np.zeros((len(given.seeds), len(willing), len(rows))), np.zeros((len(given.seeds), len(willing), len(rows)))
        for i, seed in enumerate(given.seeds):
            for learn, test in GroupKFold(5, shuffle=True, random_state=seed).split(rows, groups=same):
                router.fit(rows.iloc[learn], rewards.iloc[learn], costs.iloc[learn])
                value, foreseen = router.predict_value(rows.iloc[test]), router.predict_cost(rows.iloc[test])
                for j, w in enumerate(willing):
                    choice = (value * w - foreseen if np.isfinite(w) else value).argmax(axis=1)
                    reward[i, j, test], cost[i, j, test] = reward_of(choice, truth[test]), reward_of(choice, price[test])
        quality, spent = reward.mean(axis=(0, 2)), 1000 * cost.mean(axis=(0, 2))
        needed = cost_at_quality(spent, quality, mean_reward[best])
        print(f"  {kind:24} {quality.max():13.4f} {spent[quality.argmax()]:9.3f} {needed:28.3f} {needed / dearest:17.1%} {aiq(spent, quality, mean_cost.min(), dearest):7.4f}", flush=True)
        curves.append(Curve(kind, spent, quality))
    print("  AIQ as in the paper, between the cheapest arm's cost and the best single's. Willingness to pay was swept, the point not chosen on other data.")
    if given.plot:
        print(f"  drawn: {', '.join(map(str, draw(curves, given.plot / 'bfcl', 'Function calling: quality against cost', 'USD per 1,000 calls', 'share correct')))}")


def logged(rows: pd.DataFrame, truth: np.ndarray, epsilon: float | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One arm seen a row, and its propensity: uniform (None), or long prompts to the strong arm, otherwise with `epsilon`."""
    rng = np.random.default_rng(1000 + seed)
    length = rows.prompt.str.len().to_numpy()
    rule = (length > np.median(length)).astype(int)
    strong = np.full(len(rows), 0.5) if epsilon is None else rule * (1 - epsilon) + epsilon / 2
    arm = (rng.random(len(rows)) < strong).astype(int)
    seen = np.full_like(truth, np.nan)
    seen[np.arange(len(rows)), arm] = truth[np.arange(len(rows)), arm]
    return seen, np.where(arm == 1, strong, 1 - strong)


def bandit(given: argparse.Namespace) -> None:
    rows, rewards = pair_outcomes(given.data, "mmlu")
    truth = rewards.to_numpy()
    embedder = Kept(given.embeddings, rows.prompt.tolist()) if given.embeddings else None
    print(f"\nbandit logs: MMLU, 7,000 logged requests of which one arm's answer was seen, tested on {len(rows) - 7000:,}; {len(given.seeds)} splits")
    for name, router in (("combined", CombinedRouter(PromptFeatures(labels=["task"]))), *((("combined + embedding", CombinedRouter(PromptFeatures(labels=["task"], embedder=embedder))),) if embedder else ())):
        print(f"  {name}\n  {'log':30} {'APGR':>15}  {'part of the full lift over random':>33}")
        lift: dict[str, list[float]] = {}
        for seed, (learn, test) in zip(given.seeds, splits(len(rows), 7000, given.seeds), strict=True):
            for log, epsilon in (("both arms seen", -1.0), ("uniform", None), ("length rule, ε = 0.2", 0.2), ("length rule, ε = 0.05", 0.05), ("length rule, no exploration", 0.0)):
                if epsilon == -1.0:
                    router.fit(rows.iloc[learn], truth[learn])
                else:
                    seen, propensity = logged(rows.iloc[learn], truth[learn], epsilon, seed)
                    router.fit(rows.iloc[learn], seen, propensity=propensity)
                value = router.predict_value(rows.iloc[test])
                lift.setdefault(log, []).append(pair_figures(value[:, 1] - value[:, 0], *truth[test].T).apgr)
        for log, apgr in lift.items():
            kept = (np.mean(apgr) - 0.5) / (np.mean(lift["both arms seen"]) - 0.5)
            print(f"  {log:30} {spread(apgr):>15}  {kept:33.0%}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"routellm": routellm, "llmrouter": llmrouter, "bfcl": bfcl, "bandit": bandit}
    options.add_argument("benchmark", choices=kinds)
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--embeddings", type=Path)
    options.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2, 3, 4])
    options.add_argument("--only", type=lambda text: text.split(","))
    options.add_argument("--plot", type=Path)
    given = options.parse_args()
    kinds[given.benchmark](given)


if __name__ == "__main__":
    main()
