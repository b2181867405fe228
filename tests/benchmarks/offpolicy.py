"""Off-policy evaluation against the truth: prompts whose outcome under every model is known are turned into logs in which only the chosen
model's outcome is seen, many times over; what is estimated from the logs is compared with what is true of all prompts.

    python -m tests.benchmarks.offpolicy                                  the whole protocol: errors, coverage, false wins, power, refusals
    python -m tests.benchmarks.offpolicy --quick                          the same with few replications, in a minute or two
    python -m tests.benchmarks.offpolicy --data gsm8k --sizes 1000 5000   parts of it
    python -m tests.benchmarks.offpolicy --intervals                      normal, skewness-corrected, bootstrap-t and Bernstein intervals
    python -m tests.benchmarks.offpolicy --speed                          a million rows; and against a plain pandas loop

Rows are drawn with replacement (20,000 rows from 12,542 prompts), each draw on its own, and the truth is the mean over exactly these prompts: so
the draw is the independent unit, and a row its cluster. Regime "traces" draws traces of 5 prompts of one subject instead: there the trace is.
Logging: ε around a rule by prompt length (long prompts to the stronger model), evenly, or confounded: the subject decides how often the
strong model is asked, and also how hard the question is. Propensities: true, estimated from the context, or wrong (the log claims that choices
were made evenly; logs that were made evenly claim ε = 0.2). The target is a router learnt from prompts that are not drawn from.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pool as Processes
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from pipelines.learn.exploration import advise
from pipelines.learn.intervals import Terms
from pipelines.learn.logged_data import LoggedData, estimate_propensity
from pipelines.learn.offpolicy import ESTIMATORS, OffPolicy
from pipelines.learn.support import weights

SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
EPSILONS = {"eps .05": 0.05, "eps .1": 0.1, "eps .2": 0.2}
LOGGING = (*EPSILONS, "uniform", "confounded", "traces")
PROPENSITIES = ("true", "estimated", "wrong")
GAINS = (0.01, 0.02, 0.05)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts with the outcome of every arm. `rule` is the greedy arm of the length rule, `routed` the target's arm, `confounding` n×k probabilities."""

    context: np.ndarray
    reward: np.ndarray
    candidates: np.ndarray
    subject: np.ndarray
    rule: np.ndarray
    routed: np.ndarray
    confounding: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)

    def policy(self, logging: str) -> np.ndarray:
        even = self.candidates / self.candidates.sum(axis=1, keepdims=True)
        if logging in EPSILONS or logging == "traces":
            epsilon = EPSILONS.get(logging, 0.2)
            return (1 - epsilon) * np.eye(self.reward.shape[1])[self.rule] + epsilon * even
        return even if logging == "uniform" else self.confounding

    @property
    def target(self) -> np.ndarray:
        return np.eye(self.reward.shape[1])[self.routed]

    def value(self, policy: np.ndarray) -> float:
        return float((policy * self.reward).sum(axis=1).mean())

    def rivals(self, gain: float) -> tuple[np.ndarray, np.ndarray]:
        """Policies A and B, of which B's true value is exactly `gain` (relative) higher. B is the target, toned down, where nothing else would be
        as good, with the worst arms; A knows nothing of the prompt: a mixture of the candidates that are worst and best on average.
        """
        mean = np.where(self.candidates, self.reward.mean(axis=0), np.nan)
        arms = np.eye(self.reward.shape[1])
        worst, best = arms[np.nanargmin(mean, axis=1)], arms[np.nanargmax(mean, axis=1)]

        def mixed(other: np.ndarray, value: float) -> np.ndarray:
            share = (value - self.value(worst)) / (self.value(other) - self.value(worst))
            return share * other + (1 - share) * worst

        value = min(self.value(self.target), self.value(best))
        return mixed(best, value / (1 + gain)), mixed(self.target, value)


def _features(texts: list[str], subject: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=30_000).fit_transform(texts)
    meaning = TruncatedSVD(32, random_state=0).fit_transform(words)
    length = np.log1p([len(text) for text in texts])
    return np.column_stack([meaning / meaning.std(axis=0), length, OneHotEncoder(sparse_output=False).fit_transform(subject[:, None])]), length


def _prompts(texts: list[str], subject: np.ndarray, reward: np.ndarray, offered: int, learnt: int) -> Prompts:
    """`offered` candidates a prompt, drawn at random; the router is learnt on `learnt` prompts, which are then left out."""
    rng = np.random.default_rng(0)
    context, length = _features(texts, subject)
    n, k = reward.shape
    candidates = rng.random((n, k)).argsort(axis=1) < offered
    train = np.zeros(n, dtype=bool)
    train[rng.permutation(n)[:learnt]] = True
    predicted = Ridge(30.0).fit(context[train], reward[train]).predict(context)
    by_mean = np.where(candidates, reward[train].mean(axis=0), np.nan)
    dear, cheap = np.nanargmax(by_mean, axis=1), np.nanargmin(by_mean, axis=1)
    rule = np.where(length > np.median(length), dear, cheap)
    # The two-arm router sends the 40 % of prompts that gain most to the strong arm; with more arms each prompt goes where most is expected.
    routed = np.where(candidates, predicted, -np.inf).argmax(axis=1)
    if k == 2:
        gain = predicted[np.arange(n), dear] - predicted[np.arange(n), cheap]
        routed = np.where(gain > np.quantile(gain, 0.6), dear, cheap)
    number = np.unique(subject, return_inverse=True)[1]
    ease = (np.bincount(number, weights=reward.mean(axis=1)) / np.bincount(number))[number]
    strong = np.clip(1 / (1 + np.exp(2 * (ease - ease.mean()) / ease.std())), 0.1, 0.9)
    even = candidates / candidates.sum(axis=1, keepdims=True)
    lean = np.eye(k)[dear] * strong[:, None] + np.eye(k)[cheap] * (1 - strong[:, None])
    confounding = lean if offered == 2 else 0.8 * lean + 0.2 * even
    keep = ~train
    return Prompts(*(a[keep] for a in (context, reward, candidates, number, rule, routed, confounding)))


@cache
def load(name: str) -> Prompts:
    folder = SHARED / "outcomes" / ("llmrouter" if name == "llmrouter" else "routellm")
    if name == "llmrouter":
        task = {}
        with gzip.open(folder / "query_data_default_query_train.jsonl.gz", "rt") as lines:
            for line in lines:
                row = json.loads(line)
                task[row["query"]] = row["task_name"]
        with gzip.open(folder / "dcrouter_preprocessed_train.json.gz", "rt") as file:
            rows = json.load(file)
        arms = sorted(rows[0]["scores"])
        texts, reward = [r["question"] for r in rows], np.array([[r["scores"][a] for a in arms] for r in rows], dtype=float)
        # Nine models, of which each prompt is offered three: candidate sets as a gateway has them.
        return _prompts(texts, np.array([task.get(text, "other") for text in texts]), reward, offered=3, learnt=1_000)
    if name == "gsm8k":
        table = pd.read_csv(folder / "gsm8k" / "gsm8k_responses.csv.gz").assign(subject="gsm8k")
        learnt = 300
    else:
        table = pd.concat([pd.read_csv(p).assign(subject=p.name) for p in sorted((folder / "mmlu" / "responses").glob("*.csv.gz"))], ignore_index=True)
        learnt = 1_500
    return _prompts(table["prompt"].tolist(), table["subject"].to_numpy(str), table.iloc[:, 1:3].to_numpy(float), offered=2, learnt=learnt)


def draw(prompts: Prompts, logging: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the prompts drawn, and the trace of each."""
    if logging != "traces":
        return rng.integers(0, len(prompts), n), np.arange(n)
    # A trace takes its subject with the subject's share, then 5 prompts of it: each row alone is drawn evenly, five together are alike.
    traces = -(-n // 5)
    order = np.argsort(prompts.subject, kind="stable")
    size = np.bincount(prompts.subject)
    first = np.concatenate([[0], size.cumsum()[:-1]])
    subject = np.repeat(prompts.subject[rng.integers(0, len(prompts), traces)], 5)[:n]
    return order[first[subject] + (rng.random(n) * size[subject]).astype(int)], np.repeat(np.arange(traces), 5)[:n]


def choose(policy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An action a row, drawn with the row's probabilities."""
    return (rng.random((len(policy), 1)) > policy.cumsum(axis=1)[:, :-1]).sum(axis=1)


def logs(prompts: Prompts, logging: str, propensities: str, n: int, seed: int) -> tuple[np.ndarray, LoggedData]:
    rng = np.random.default_rng([seed, n, LOGGING.index(logging)])
    rows, trace = draw(prompts, logging, n, rng)
    true = prompts.policy(logging)[rows]
    action = choose(true, rng)
    said = true if propensities != "wrong" else prompts.policy("eps .2" if logging == "uniform" else "uniform")[rows]
    picked = np.arange(n)
    logged = LoggedData(
        prompts.context[rows], action, prompts.reward[rows, action], said[picked, action], true.shape[1],
        candidates=prompts.candidates[rows], cluster=trace,
    )
    return rows, estimate_propensity(logged) if propensities == "estimated" else logged


def replicate(job: tuple[str, str, str, int, int, bool]) -> dict:
    """One set of logs: estimates of the target, and comparisons whose answers are known."""
    name, logging, propensities, n, seed, compared = job
    prompts = load(name)
    rows, logged = logs(prompts, logging, propensities, n, seed)
    judge = OffPolicy(logged, seed=seed)
    found = judge.evaluate(prompts.target[rows])
    row = {"data": name, "logging": logging, "propensities": propensities, "n": n, "refused": not found.verdict.can_tell, "ess": found.diagnostics.effective_sample_size}
    truth = prompts.value(prompts.target)
    for estimator, estimate in found.reward.items():
        row[f"{estimator} error"] = estimate.value - truth
        if estimate.interval is not None:
            row[f"{estimator} covers"] = estimate.interval.low <= truth <= estimate.interval.high
            row[f"{estimator} width"] = estimate.interval.high - estimate.interval.low
    if compared:
        for gain in (0, *GAINS):
            a, b = prompts.rivals(gain)
            comparison = judge.compare(a[rows], b[rows])
            row[f"gain {gain:.0%} told"], row[f"gain {gain:.0%} found"] = comparison.verdict.can_tell, comparison.better is True
    return row


@cache
def plants(name: str) -> list[tuple[str, np.ndarray, np.ndarray | None, np.ndarray]]:
    """Support violations: what it is, the true logging policy, what the log says of it (None: the truth), and the target; all over all prompts."""
    prompts = load(name)
    even = prompts.policy("uniform")
    k = even.shape[1]
    long = prompts.context[:, 32] > np.median(prompts.context[:, 32])
    arm = np.bincount(prompts.routed, minlength=k).argmax()

    def without(policy: np.ndarray, rows: np.ndarray, arms: np.ndarray) -> np.ndarray:
        cut = policy.copy()
        cut[np.ix_(rows, arms)] = 0
        # A row left with nothing falls back to the rule's arm.
        empty = cut.sum(axis=1) == 0
        cut[empty] = np.eye(k)[prompts.rule[empty]]
        return cut / cut.sum(axis=1, keepdims=True)

    everywhere, favourite, found = np.ones(len(prompts), dtype=bool), np.arange(k) == arm, []
    for logging in ("uniform", "eps .2", "eps .1"):
        policy = prompts.policy(logging)
        found.append((f"{logging}: the target's favourite arm is never logged", without(policy, everywhere, favourite), None, prompts.target))
        sure = policy.copy()
        sure[long] = np.eye(k)[prompts.rule[long]]
        found.append((f"{logging}: no exploring for long prompts, propensity says so", sure, None, prompts.target))
        found.append((f"{logging}: no exploring for long prompts, log claims it did", sure, policy, prompts.target))
    mass = np.eye(k)[np.where(prompts.candidates.all(axis=1), prompts.routed, (~prompts.candidates).argmax(axis=1))]
    if not prompts.candidates.all():
        found.append(("uniform: 2 % of the target's mass on what is no candidate", even, None, 0.98 * prompts.target + 0.02 * mass))
    found.append(("logged without any exploring", np.eye(k)[prompts.rule], None, prompts.target))
    return found


def planted(job: tuple[str, int, int, int]) -> tuple[bool, float]:
    """Whether a planted violation is refused, and how much target mass has no support."""
    name, number, n, seed = job
    prompts = load(name)
    _, true, said, target = plants(name)[number]
    rng = np.random.default_rng([seed, n, number])
    rows = rng.integers(0, len(prompts), n)
    action = choose(true[rows], rng)
    logged = LoggedData(
        prompts.context[rows], action, prompts.reward[rows, action], (true if said is None else said)[rows, action], true.shape[1], candidates=prompts.candidates[rows] | (true[rows] > 0)
    )
    found = OffPolicy(logged, predicted=np.zeros((n, true.shape[1])), seed=seed).evaluate(target[rows])
    return not found.verdict.can_tell, float(target[true == 0].sum() / len(true))


def tables(results: pd.DataFrame, truths: dict[str, float]) -> None:
    """Print what was found. Coverage, width, false wins and power: only where it did not refuse."""
    keys = ["data", "logging", "propensities", "n"]
    groups = results.groupby(keys, sort=False)
    print("\nError of the mean reward, relative to the truth, all replications (in %)")
    error = pd.DataFrame({e: groups[f"{e} error"].apply(lambda x: x.abs().mean()) for e in ESTIMATORS})
    truth = error.index.get_level_values("data").map(truths).to_numpy()
    print((100 * error.div(truth, axis=0)).round(2).assign(**{"RMSE dr": (100 * groups["dr error"].apply(lambda x: (x**2).mean() ** 0.5) / truth).round(2)}).to_string())
    print("\n95 % intervals, where it did not refuse (coverage and width in %; 'told' is the number of replications that did not refuse)")
    told = results[~results["refused"]].groupby(keys, sort=False)
    shown = pd.DataFrame({"refused %": 100 * groups["refused"].mean(), "median ESS": groups["ess"].median().round(0), "told": told.size()})
    for e in (e for e in ("ips", "snips", "dr", "sndr") if f"{e} covers" in results):
        shown[f"{e} covers"] = 100 * told[f"{e} covers"].apply(lambda x: x.astype(float).mean())
    shown["dr width"] = 100 * told["dr width"].mean()
    print(shown.round(1).to_string())
    compared = results.dropna(subset=["gain 0% told"]) if "gain 0% told" in results else results[:0]
    if len(compared):
        print("\n'B beats A' in % of all replications ('gain 0%' is a false win), and in % of those in which it did not refuse ('told')")
        groups, shown = compared.groupby(keys, sort=False), {}
        for gain in (0, *GAINS):
            told, found = f"gain {gain:.0%} told", f"gain {gain:.0%} found"
            shown[f"gain {gain:.0%}"] = 100 * groups[found].apply(lambda x: x.astype(float).mean())
            shown["told"] = 100 * groups[told].apply(lambda x: x.astype(float).mean())
            shown[f"gain {gain:.0%} told"] = 100 * groups[found].sum().astype(float) / groups[told].sum().astype(float)
        print(pd.DataFrame(shown).round(1).to_string())


def protocol(data: list[str], sizes: list[int], loggings: list[str], propensities: list[str], replications: int, processes: int) -> None:
    truths = {}
    for name in data:
        prompts = load(name)
        truths[name] = prompts.value(prompts.target)
        print(f"{name}: {len(prompts):,} prompts × {prompts.reward.shape[1]} arms, truth {truths[name]:.4f}, best single {prompts.reward.mean(axis=0).max():.4f}")
    jobs = [
        (name, logging, kind, n, seed, kind == "true" and logging != "traces")
        for name in data for kind in propensities for logging in loggings for n in sizes for seed in range(replications)
    ]
    # Each process on one thread: the cells are many, each is small.
    with Processes(processes, initializer=threadpool_limits, initargs=(1,)) as pool:
        results = pd.DataFrame(pool.imap(replicate, jobs, chunksize=20))
        tables(results, truths)
        true = results[(results["propensities"] == "true") & ~results["refused"]]
        if len(true):
            cells = true.groupby(["data", "logging", "n"])["dr covers"].agg(["mean", "size"]).query("size >= 100")
            print(f"\ntrue propensities, {len(cells)} cells with at least 100 told: DR covers {100 * cells['mean'].min():.1f}..{100 * cells['mean'].max():.1f} %, all together {100 * true['dr covers'].mean():.1f} %")
        print("\nPlanted support violations: share refused, and target mass without support")
        for name in data:
            for number, (what, *_) in enumerate(plants(name)):
                answers = pool.map(planted, [(name, number, n, seed) for n in sizes for seed in range(max(20, replications // 5))])
                print(f"  {name:<10}{what:<66}{100 * np.mean([a for a, _ in answers]):6.1f} % of {len(answers):,}{100 * answers[0][1]:8.1f} %")


def by_every_method(job: tuple[str, str, int, int]) -> dict:
    name, logging, n, seed = job
    prompts = load(name)
    truth = prompts.value(prompts.target)
    rows, logged = logs(prompts, logging, "true", n, seed)
    judge = OffPolicy(logged, seed=seed)
    row = {"logging": logging, "n": n, "told": judge.evaluate(prompts.target[rows]).verdict.can_tell}
    direct = (prompts.target[rows] * judge.predicted).sum(axis=1)
    row["dm, a plain one, covers"] = abs(direct.mean() - truth) <= 1.96 * direct.std() / n**0.5
    weight = weights(logged, prompts.target[rows])
    terms = Terms(direct, weight * (logged.reward - judge.predicted[np.arange(n), logged.action]), None)
    for method in ("normal", "skewed", "bootstrap", "empirical_bernstein"):
        again = OffPolicy(logged, method=method, seed=seed)
        interval = again._estimate("dr", [(1, terms)], span=1 + 2 * float(weight.max())).interval
        row |= {f"{method} covers": interval.low <= truth <= interval.high, f"{method} width": interval.high - interval.low}
        row |= {f"{method} truth below": truth < interval.low, f"{method} truth above": truth > interval.high}
    return row


def interval_methods(name: str, replications: int, processes: int) -> None:
    """The ways to make an interval, for DR, where logs are told but only just."""
    cells = (("uniform", 500), ("eps .2", 800), ("eps .1", 1_500), ("eps .05", 3_000), ("eps .05", 5_000))
    with Processes(processes, initializer=threadpool_limits, initargs=(1,)) as pool:
        found = pd.DataFrame(pool.imap(by_every_method, [(name, logging, n, seed) for logging, n in cells for seed in range(replications)], chunksize=20))
    found = found[found["told"]]
    print(f"\n{name}: DR, in % of the replications that did not refuse")
    print((100 * found.groupby(["logging", "n"], sort=False).mean().drop(columns="told")).round(1).T.to_string())


def exploring(name: str) -> None:
    """What the advice promises at 5,000 calls, beside what the protocol then finds."""
    prompts = load(name)
    rows, logged = logs(prompts, "uniform", "true", 5_000, 1)
    judge, greedy = OffPolicy(logged), np.eye(prompts.reward.shape[1])[prompts.rule]
    print(f"\n{name}: advice from 5,000 calls, for a target that is to be judged after 5,000 more")
    print(f"{'ε':>6}{'ESS':>9}{'half width':>12}{'found at 80 %':>15}{'regret a call':>15}{'true regret':>13}")
    for row in advise(logged, greedy[rows], prompts.target[rows], judge.predicted, calls_per_day=5_000, days=1):
        even = prompts.policy("uniform")
        regret = row.epsilon_share * (prompts.value(greedy) - prompts.value(even))
        print(f"{row.epsilon_share:>6}{row.effective_sample_size:>9.0f}{row.half_width:>12.4f}{row.detectable_difference:>15.4f}{row.regret:>15.4f}{regret:>13.4f}")


def speed(n: int) -> None:
    """A million rows through everything; and estimates with their intervals against a pandas loop that does the same, with equal results."""
    rng = np.random.default_rng(0)
    k, context = 4, rng.standard_normal((n, 20))
    scores = context[:, :k] + 0.3 * rng.standard_normal((n, k))
    greedy = np.eye(k)[scores.argmax(axis=1)]
    true = 0.8 * greedy + 0.2 / k
    action = choose(true, rng)
    reward = (rng.random(n) < 1 / (1 + np.exp(-context[np.arange(n), action] - 0.3 * action))).astype(float)
    target = np.eye(k)[(scores + np.arange(k) * 0.3).argmax(axis=1)]
    cluster = rng.integers(0, n // 4, n)
    start = time.perf_counter()
    logged = LoggedData(context, action, reward, true[np.arange(n), action], k, cluster=cluster)
    judge = OffPolicy(logged)
    found = judge.evaluate(target)
    whole = time.perf_counter() - start
    print(f"{n:,} rows, {logged.cluster_count:,} traces, 20 features, {k} arms: check, cross-fit, all estimators, intervals, verdict: {whole:.1f} s")
    print(f"  dr {found.reward['dr'].value:.5f} {found.reward['dr'].interval}  can tell: {found.verdict.can_tell}")
    for method in ("skewed", "bootstrap"):
        start = time.perf_counter()
        OffPolicy(logged, predicted=judge.predicted, method=method).evaluate(target)
        print(f"  once the reward model is fitted, intervals {method}: {time.perf_counter() - start:.1f} s")

    part = min(n, 100_000)
    small = LoggedData(context[:part], action[:part], reward[:part], true[np.arange(part), action[:part]], k, cluster=cluster[:part])
    predicted = judge.predicted[:part]
    start = time.perf_counter()
    ours = OffPolicy(small, predicted=predicted, method="normal")
    estimates = ours._estimates(target[:part], small.reward, predicted, 1.0)
    fast = time.perf_counter() - start
    frame = pd.DataFrame({"action": small.action, "reward": small.reward, "propensity": small.propensity, "trace": small.cluster})
    for a in range(k):
        frame[f"pi_{a}"], frame[f"q_{a}"] = target[:part, a], predicted[:, a]
    start = time.perf_counter()
    slow = pandas_loop(frame, k)
    loop = time.perf_counter() - start
    for name, (value, low, high) in slow.items():
        assert np.allclose([value, low, high], [estimates[name].value, estimates[name].interval.low, estimates[name].interval.high], atol=1e-9), name
    print(f"{part:,} rows, the six estimators with clustered normal intervals, reward model given: {fast:.2f} s; "
          f"a pandas loop for four of them {loop:.2f} s, {loop / fast:.0f} times as long; figures and intervals equal")


def pandas_loop(frame: pd.DataFrame, k: int) -> dict[str, tuple[float, float, float]]:
    """IPS, SNIPS, DR and SNDR with clustered delta-method intervals, row by row, as one would write them first."""
    parts = []
    for _, row in frame.iterrows():
        a = int(row["action"])
        weight = row[f"pi_{a}"] / row["propensity"]
        base = sum(row[f"pi_{b}"] * row[f"q_{b}"] for b in range(k))
        parts.append({"trace": row["trace"], "w": weight, "wr": weight * row["reward"], "base": base, "wd": weight * (row["reward"] - row[f"q_{a}"]), "n": 1})
    traces = pd.DataFrame(parts).groupby("trace").sum()
    total, found = traces.sum(), {}
    zero = traces["n"] * 0
    for name, base, correction, normaliser in (("ips", zero, traces["wr"], traces["n"]), ("snips", zero, traces["wr"], traces["w"]),
                                               ("dr", traces["base"], traces["wd"], traces["n"]), ("sndr", traces["base"], traces["wd"], traces["w"])):
        mean, ratio = base.sum() / total["n"], correction.sum() / normaliser.sum()
        moves = (base - mean * traces["n"]) / total["n"] + (correction - ratio * normaliser) / normaliser.sum()
        reach = student.ppf(0.975, len(traces) - 1) * (len(traces) / (len(traces) - 1) * (moves**2).sum()) ** 0.5
        found[name] = (mean + ratio, mean + ratio - reach, mean + ratio + reach)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["mmlu", "llmrouter"], choices=["mmlu", "llmrouter", "gsm8k"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[500, 1_000, 5_000, 20_000])
    parser.add_argument("--logging", nargs="+", default=list(LOGGING), choices=LOGGING)
    parser.add_argument("--propensities", nargs="+", default=list(PROPENSITIES), choices=PROPENSITIES)
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="20 replications of two sizes")
    parser.add_argument("--intervals", action="store_true", help="compare the ways to make an interval instead")
    parser.add_argument("--speed", action="store_true", help="time a million rows instead")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of --speed")
    asked = parser.parse_args()
    if asked.speed:
        speed(asked.rows)
        return
    if asked.intervals:
        load(asked.data[0])
        interval_methods(asked.data[0], asked.replications, asked.processes)
        return
    start = time.perf_counter()
    sizes, replications = ([500, 2_000], 20) if asked.quick else (asked.sizes, asked.replications)
    protocol(asked.data, sizes, asked.logging, asked.propensities, replications, asked.processes)
    for name in asked.data:
        exploring(name)
    print(f"\n{replications} replications a cell, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
