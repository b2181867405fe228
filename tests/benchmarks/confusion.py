"""Are the topics that confuse a model found, and no others?

    python -m tests.benchmarks.confusion [--worlds 4] [--draws 50] [--calls 6000]

Drawn calls on 20 topics to four models; every model fails on a tenth of its calls, and on each of four topics one model fails on four
tenths. Failures of a session come together, and outcomes are seen through noisy evidence, two in five calls not at all. Printed: planted
pairs found; false discoveries, as the mean share of findings that are none (cells with under a tenth of planted calls); the share of draws with any
finding where nothing is planted; the same with a plain binomial test that takes calls for independent; better models named; and how many calls
keep their cluster's id when a tenth of the calls is new.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.stats import binomtest, false_discovery_control  # noqa: E402

from pipelines.learn.confusion import FALSE_DISCOVERIES, LEAST_CALLS, cells, topics  # noqa: E402
from tests.support.confusionworld import MODELS, USUAL, World, world  # noqa: E402


def clustered(made: World) -> np.ndarray:
    return topics(made.calls["prompt"].tolist(), made.calls["session"].to_numpy())[0]


def told(made: World, cluster: np.ndarray, outcomes: pd.DataFrame) -> pd.DataFrame:
    """What `cells` finds, with the share of each cell's calls that are planted, and its commonest topic."""
    calls = outcomes.assign(cluster_id=cluster, model_name=np.array(MODELS)[made.calls["model_no"]], thread=made.calls["session"].to_numpy())
    found = cells(calls)
    planted = calls.assign(planted=made.is_planted(), topic=made.calls["topic"].to_numpy())
    share = pd.concat([planted.groupby(["cluster_id", "model_name"])["planted"].mean(), planted.assign(model_name=None).groupby(["cluster_id", "model_name"], dropna=False)["planted"].mean()])
    topic = planted.groupby("cluster_id")["topic"].agg(lambda t: t.mode()[0])
    keys = [(c, m) for c, m in zip(found["cluster_id"], found["model_name"].where(found["model_name"].notna(), None), strict=True)]
    lookup = {(c, m if isinstance(m, str) else None): v for (c, m), v in share.items()}
    return found.assign(planted_share=[lookup[k] for k in keys], topic=found["cluster_id"].map(topic))


def figures(made: World, found: pd.DataFrame) -> tuple[float, float, float, int, int]:
    """Planted pairs found, share of findings that are none, right better models, namings, false namings."""
    confused = found[found["verdict"] == "confused"]
    pairs = {(t, MODELS[t % len(MODELS)]) for t in range(made.planted)}
    hit = pairs & set(zip(confused["topic"], confused["model_name"], strict=True))
    named = found[found["better_model_name"].notna()]
    return (len(hit) / max(1, len(pairs)), float((confused["planted_share"] < 0.1).mean()) if len(confused) else 0.0, float(len(confused)),
            len(named), int((named["planted_share"] < 0.1).sum()))  # fmt: skip


def naive(made: World, cluster: np.ndarray, outcomes: pd.DataFrame) -> int:
    """Findings of a binomial test of calls with failure as the likelier of the two, against the model's rate, same false discovery rate."""
    failed, model = (outcomes["failure_share"] > 0.5).to_numpy(), made.calls["model_no"].to_numpy()
    chances = []
    for m in range(len(MODELS)):
        for c in set(cluster):
            here = (model == m) & (cluster == c)
            if here.sum() >= LEAST_CALLS:
                chances.append(binomtest(int(failed[here].sum()), int(here.sum()), max(1e-6, failed[(model == m) & ~here].mean()), alternative="greater").pvalue)
    return int((false_discovery_control(chances) <= FALSE_DISCOVERIES).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--calls", type=int, default=6_000)
    given = parser.parse_args()
    rows, any_null, any_naive, kept, bias = [], [], [], [], []
    for seed in range(given.worlds):
        made = world(seed, given.calls)
        cluster = clustered(made)
        purity = np.mean([made.calls["topic"][cluster == c].value_counts(normalize=True).iloc[0] for c in set(cluster)])
        more = world(seed, round(given.calls * 1.1))
        kept.append(float((clustered(more)[: given.calls] == cluster).mean()))
        print(f"world {seed}: {len(set(cluster))} clusters, mean purity {purity:.3f}; with a tenth more calls {kept[-1]:.1%} of the calls keep their cluster's id", flush=True)
        null = World(made.calls, 0)
        for n in range(given.draws):
            found = told(made, cluster, made.outcomes(np.random.default_rng(1000 * seed + n)))
            rows.append(figures(made, found))
            pure = found[(found["planted_share"] > 0.9) & found["model_name"].notna()]
            bias += pure["failure_share"].tolist()
            outcomes = null.outcomes(np.random.default_rng(500_000 + 1000 * seed + n))
            any_null.append((told(null, cluster, outcomes)["verdict"] == "confused").any())
            any_naive.append(naive(null, cluster, outcomes) > 0)
    hit, wrong, count, named, misnamed = np.array(rows).T
    print(f"{len(rows)} draws, four times {USUAL:.0%} planted in {made.planted} of 20 topics, one model each")
    print(f"planted pairs found {hit.mean():.1%}; findings a draw {count.mean():.1f}; false discoveries {wrong.mean():.1%} (aim 5 % at most), in nulls a draw {(wrong * count).mean():.2f}")
    print(f"failure share of pure planted cells {np.mean(bias):.3f}, true 0.400")
    print(f"better models named {named.mean():.1f} a draw, {misnamed.sum() / max(1, named.sum()):.1%} of them in cells that are none")
    print(f"nothing planted: any finding in {np.mean(any_null):.1%} of draws (aim 5 %); a binomial test that takes calls for independent: {np.mean(any_naive):.1%}")
    print(f"calls that keep their cluster's id with a tenth more calls: {np.mean(kept):.1%}")


if __name__ == "__main__":
    main()
