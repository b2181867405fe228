"""Off-policy evaluation against the truth: prompts whose outcome under every model is known are turned into logs in which only the chosen
model's outcome is seen, many times over; what is estimated from the logs is compared with what is true of all prompts.

    python -m tests.benchmarks.offpolicy --keep FOLDER                    the whole protocol: errors, coverage, false wins, power, refusals
    python -m tests.benchmarks.offpolicy --quick                          the same with few replications, in a minute or two
    python -m tests.benchmarks.offpolicy --data gsm8k --sizes 1000 5000   parts of it
    python -m tests.benchmarks.offpolicy --intervals                      normal, skewness-corrected, bootstrap-t and Bernstein intervals
    python -m tests.benchmarks.offpolicy --speed                          a million rows; and against a plain pandas loop

What is done is kept in FOLDER: a run that was stopped goes on where it was, as long as the code it measures is the same.

Rows are drawn with replacement (20,000 rows from 12,542 prompts), each draw on its own, and the truth is the mean over exactly these prompts: so
the draw is the independent unit, and a row its cluster. Regime "traces" draws traces of 5 prompts of one subject instead: there the trace is.
Logging: ε around a rule by prompt length (long prompts to the stronger model), evenly, or confounded: the subject decides how often the
strong model is asked, and also how hard the question is. Propensities: true, estimated from the context, or wrong (the log claims that choices
were made evenly; logs that were made evenly claim ε = 0.2). All three share the draw, the reward model and the trees that look for regions.
The target is a router learnt from prompts that are not drawn from. "mmlu-near" follows it only where it is surest, so that 23 % of its choices
differ from the length rule's: the overlap of the published run (effective share .185 at ε = 0.1, .317 at 0.2).

"floor" is the error of DR with the true propensities and a reward model that was learnt, on the same features, from the outcomes of all prompts
under all arms (five folds): what is left is chance in the draw, and no unbiased estimator on these features is better by much.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import Pool as Processes
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from pipelines.learn.exploration import advise
from pipelines.learn.intervals import Terms
from pipelines.learn.logged_data import LoggedData, fit_reward
from pipelines.learn.offpolicy import ESTIMATORS, OffPolicy
from pipelines.learn.propensity import estimate_propensity
from pipelines.learn.support import grow_regions, weigh_regions, weights

SHARED = Path(os.environ.get("FLYWHEEL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
EPSILONS = {"eps .05": 0.05, "eps .1": 0.1, "eps .2": 0.2}
LOGGING = (*EPSILONS, "uniform", "confounded", "traces")
PROPENSITIES = ("true", "estimated", "wrong")
GAINS = (0.01, 0.02, 0.05)
NEAR = 0.23
REASONS = {
    "support": "had no chance", "regions": "lie in regions", "ESS": "tell as much as", "few heavy": "what is heavy", "few calls": "are estimated from", "one trace": "one trace carries", "propensity < .01": "is on propensities under",
    "mean weight": "weights average", "action share": "often than its", "tree": "a small tree",
}
"""What a refusal says, in short, and words by which it is known."""


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


def _prompts(texts: list[str], subject: np.ndarray, reward: np.ndarray, offered: int, learnt: int, near: float | None = None) -> Prompts:
    """`offered` candidates a prompt, drawn at random; the router is learnt on `learnt` prompts, which are then left out. `near`: see the top."""
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
        cut = np.quantile(gain, 0.6)
        routed = np.where(gain > cut, dear, cheap)
        if near is not None:
            unsure = np.where((routed != rule) & ~train, -np.abs(gain - cut), np.inf).argsort()
            routed[unsure[int(near * (~train).sum()):]] = rule[unsure[int(near * (~train).sum()):]]
    number = np.unique(subject, return_inverse=True)[1]
    ease = (np.bincount(number, weights=reward.mean(axis=1)) / np.bincount(number))[number]
    # Of one subject only, all prompts are alike, and nothing confounds.
    strong = np.clip(1 / (1 + np.exp(2 * (ease - ease.mean()) / (ease.std() or 1))), 0.1, 0.9)
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
    near = NEAR if name.endswith("-near") else None
    return _prompts(table["prompt"].tolist(), table["subject"].to_numpy(str), table.iloc[:, 1:3].to_numpy(float), offered=2, learnt=learnt, near=near)


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


def said(prompts: Prompts, logging: str, propensities: str) -> np.ndarray:
    """What the log claims the probabilities were, over all prompts."""
    return prompts.policy(logging if propensities != "wrong" else "eps .2" if logging == "uniform" else "uniform")


def logs(prompts: Prompts, logging: str, n: int, seed: int) -> tuple[np.ndarray, LoggedData]:
    """Numbers of the prompts drawn, and their log with true propensities."""
    rng = np.random.default_rng([seed, n, LOGGING.index(logging)])
    rows, trace = draw(prompts, logging, n, rng)
    true = prompts.policy(logging)[rows]
    action = choose(true, rng)
    picked = np.arange(n)
    return rows, LoggedData(
        prompts.context[rows], action, prompts.reward[rows, action], true[picked, action], true.shape[1], candidates=prompts.candidates[rows], cluster=trace,
    )


def replicate(job: tuple[str, str, int, int, tuple[str, ...]]) -> list[dict]:
    """One draw of logs, with each kind of propensities: estimates of the target, and comparisons whose answers are known."""
    name, logging, n, seed, kinds = job
    prompts = load(name)
    rows, logged = logs(prompts, logging, n, seed)
    # What does not look at propensities is done once.
    predicted, grown = fit_reward(logged, seed=seed), grow_regions(logged, seed=seed)
    truth, target, found = prompts.value(prompts.target), prompts.target[rows], []
    rivals = [(gain, *prompts.rivals(gain)) for gain in (0, *GAINS)]
    for kind in kinds:
        if kind == "estimated":
            given = estimate_propensity(logged, seed=seed)
        else:
            given = logged if kind == "true" else replace(logged, propensity=said(prompts, logging, kind)[rows, logged.action])
        judge = OffPolicy(given, predicted=predicted, seed=seed)
        judge.regions = weigh_regions(grown, given)
        one = judge.evaluate(target)
        row = {"data": name, "logging": logging, "propensities": kind, "n": n, "seed": seed, "refused": not one.verdict.can_tell, "ess": one.diagnostics.effective_sample_size}
        row |= {f"because {short}": any(words in reason for reason in one.verdict.reasons) for short, words in REASONS.items()}
        for estimator, estimate in one.reward.items():
            row[f"{estimator} error"] = estimate.value - truth
            if estimate.interval is not None:
                row[f"{estimator} covers"] = estimate.interval.low <= truth <= estimate.interval.high
                row[f"{estimator} width"] = estimate.interval.high - estimate.interval.low
        for gain, a, b in rivals if kind != "wrong" else rivals[:1]:
            comparison = judge.compare(a[rows], b[rows])
            row[f"gain {gain:.0%} told"], row[f"gain {gain:.0%} found"] = comparison.verdict.can_tell, comparison.better is True
        found.append(row)
    return found


@cache
def floor(name: str, logging: str) -> float:
    """Standard deviation of a DR score with the best reward model these features allow: see the top."""
    prompts = load(name)
    best = np.zeros_like(prompts.reward)
    for learnt, tested in KFold(5, shuffle=True, random_state=0).split(best):
        for arm in range(best.shape[1]):
            best[tested, arm] = Ridge(300.0).fit(prompts.context[learnt], prompts.reward[learnt, arm]).predict(prompts.context[tested])
    policy = prompts.policy(logging)
    weight = np.divide(prompts.target, policy, out=np.zeros_like(policy), where=policy > 0)
    scores = (prompts.target * best).sum(axis=1, keepdims=True) + weight * (prompts.reward - best)
    return float(((policy * scores**2).sum(axis=1).mean() - prompts.value(prompts.target) ** 2) ** 0.5)


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


def planted(job: tuple[str, int, int, int]) -> list[dict]:
    """Whether a planted violation is refused, and how much target mass has no support."""
    name, number, n, seed = job
    prompts = load(name)
    what, true, claimed, target = plants(name)[number]
    rng = np.random.default_rng([seed, n, number])
    rows = rng.integers(0, len(prompts), n)
    action = choose(true[rows], rng)
    logged = LoggedData(
        prompts.context[rows], action, prompts.reward[rows, action], (true if claimed is None else claimed)[rows, action], true.shape[1], candidates=prompts.candidates[rows] | (true[rows] > 0)
    )
    found = OffPolicy(logged, predicted=np.zeros((n, true.shape[1])), seed=seed).evaluate(target[rows])
    return [{"data": name, "planted": what, "n": n, "seed": seed, "refused": not found.verdict.can_tell, "mass": float(target[true == 0].sum() / len(true))}]


def tables(results: pd.DataFrame, truths: dict[str, float]) -> None:
    """Print what was found. Coverage, width, false wins and power: only where it did not refuse."""
    keys = ["data", "logging", "propensities", "n"]
    groups, told = results.groupby(keys, sort=False), results[~results["refused"]].groupby(keys, sort=False)
    cells = groups.size().index
    truth = cells.get_level_values("data").map(truths).to_numpy()

    def share(of: pd.core.groupby.DataFrameGroupBy, column: str) -> pd.Series:
        return 100 * of[column].apply(lambda x: x.astype(float).mean())

    print("\nError of the mean reward (mean of absolute errors) in % of the truth, all replications; RMSE the same; 'floor': see the top")
    error = pd.DataFrame({e: groups[f"{e} error"].apply(lambda x: x.abs().mean()) for e in ESTIMATORS}).div(truth, axis=0) * 100
    # Rows of one trace are not independent draws; what their floor is, this does not say.
    error["floor"] = [np.nan if logging == "traces" else 100 * (2 / np.pi / n) ** 0.5 * floor(name, logging) / truths[name] for name, logging, _, n in cells]
    error["dr ±"] = 100 * groups["dr error"].apply(lambda x: x.abs().std() / len(x) ** 0.5) / truth
    error["dr RMSE"] = 100 * groups["dr error"].apply(lambda x: (x**2).mean() ** 0.5) / truth
    print(error.round(2).assign(replications=groups.size()).to_string())
    print("\n95 % intervals and 'B beats A', in %: coverage, width and wins where it did not refuse; 'told' counts replications of the first and is % for each comparison")
    shown = pd.DataFrame({"refused": 100 * groups["refused"].mean(), "told": told.size(), "ESS": groups["ess"].median().round(0)})
    for e in (e for e in ("ips", "snips", "dr", "sndr") if f"{e} covers" in results):
        shown[f"{e} covers"] = share(told, f"{e} covers")
    shown["dr width"] = 100 * told["dr width"].mean()
    for gain in (0, *GAINS):
        # Wins among all replications, and among those in which the comparison was not refused.
        name = "false win" if gain == 0 else f"Δ {gain:.0%}"
        shown[f"{name}, told"] = share(groups, f"gain {gain:.0%} told")
        shown[name] = 100 * groups[f"gain {gain:.0%} found"].sum().astype(float) / groups[f"gain {gain:.0%} told"].sum().astype(float).replace(0, np.nan)
    print(shown.reindex(cells).round(1).to_string())
    print("\nReplications refused, in %, by reason (several may hold)")
    print(pd.DataFrame({short: share(groups, f"because {short}") for short in REASONS}).assign(any=100 * groups["refused"].mean()).round(0).astype(int).to_string())

    def most(name: str, column: str, cells: pd.DataFrame, least: bool = False) -> None:
        if len(cells):
            print(f"{name}, cells with at least 100 told ({len(cells)}): {cells[column].min():.1f} to {cells[column].max():.1f} %" if least else f"{name}: at most {cells[column].max():.1f} %")

    print()
    for kind in dict.fromkeys(results["propensities"]):
        here = shown.xs(kind, level="propensities")
        many = here[here["told"] >= 100]
        print(f"{kind} propensities: refused {results.loc[results['propensities'] == kind, 'refused'].mean():.1%}")
        most("  DR covers", "dr covers", many, least=True)
        # Rates among the told only where they are rates.
        counted = here[here["false win, told"] * groups.size().xs(kind, level="propensities") / 100 >= 100]
        most("  'B beats A' where both are alike, of at least 100 told", "false win", counted)


class Kept:
    """Results of jobs, a line each, in a file that is named after the code measured; what is in it is not done again."""

    def __init__(self, folder: Path | None) -> None:
        code = sorted((Path(__file__).parents[2] / "pipelines" / "learn").glob("*.py"))
        measured = [p for p in code if p.stem in ("intervals", "logged_data", "offpolicy", "propensity", "support")] + [Path(__file__)]
        self._path = None if folder is None else folder / f"offpolicy-{hashlib.sha256(b''.join(p.read_bytes() for p in measured)).hexdigest()[:10]}.jsonl"
        self._done: dict[str, list[dict]] = {}
        if self._path and self._path.exists():
            for line in self._path.read_text().splitlines():
                # The last line of a run that was stopped may be torn.
                if line.endswith("}"):
                    kept = json.loads(line)
                    self._done[kept["job"]] = kept["rows"]
            print(f"{len(self._done):,} jobs were done before, in {self._path}")

    def run(self, pool: Processes, what: object, jobs: list[tuple]) -> Iterable[dict]:
        """Rows of all jobs, in the order of the jobs."""
        names = [json.dumps([what.__name__, *job]) for job in jobs]
        left = [(name, job) for name, job in zip(names, jobs, strict=True) if name not in self._done]
        start, told = time.perf_counter(), 60.0
        file = open(self._path, "a", buffering=1) if self._path and left else None  # noqa: SIM115
        for done, ((name, _), rows) in enumerate(zip(left, pool.imap(what, [job for _, job in left], chunksize=8), strict=True), 1):
            self._done[name] = rows
            if file:
                file.write(json.dumps({"job": name, "rows": rows}, default=lambda one: one.item()) + "\n")
            if (passed := time.perf_counter() - start) > told:
                print(f"  {what.__name__}: {done:,} of {len(left):,} jobs, {passed:.0f} s, about {passed / done * (len(left) - done):.0f} s to go", flush=True)
                told += 60
        if file:
            file.close()
        return [row for name in names for row in self._done[name]]


def protocol(data: list[str], sizes: list[int], loggings: list[str], propensities: list[str], replications: int, estimated: int, processes: int, keep: Path | None) -> None:
    truths, kept = {}, Kept(keep)
    for name in data:
        prompts = load(name)
        truths[name] = prompts.value(prompts.target)
        print(f"{name}: {len(prompts):,} prompts × {prompts.reward.shape[1]} arms, truth {truths[name]:.4f}, best single {prompts.reward.mean(axis=0).max():.4f}, "
              f"{(prompts.rule != prompts.routed).mean():.1%} of choices differ from the rule's")

    def kinds(seed: int) -> tuple[str, ...]:
        return tuple(kind for kind in propensities if kind != "estimated" or seed < estimated)

    # Seeds first: a run that is stopped has every cell.
    jobs = [(name, logging, n, seed, kinds(seed)) for seed in range(replications) for name in data for logging in loggings for n in sizes if kinds(seed)]
    # Each process on one thread: the cells are many, each is small.
    with Processes(processes, initializer=threadpool_limits, initargs=(1,)) as pool:
        results = pd.DataFrame(kept.run(pool, replicate, jobs))
        order = {kind: n for n, kind in enumerate([*data, *propensities, *loggings])}
        keys = ["data", "propensities", "logging", "n"]
        tables(results.sort_values(keys, key=lambda x: x.map(order) if x.name != "n" else x, kind="stable"), truths)
        print("\nPlanted support violations: share refused, and target mass without support")
        plans = [(name, number, n, seed) for name in data for number in range(len(plants(name))) for n in sizes for seed in range(max(20, replications // 10))]
        found = pd.DataFrame(kept.run(pool, planted, plans))
        print(found.groupby(["data", "planted"], sort=False).agg(refused=("refused", "mean"), of=("refused", "size"), mass=("mass", "first")).mul([100, 1, 100]).round(1).to_string())


def by_every_method(job: tuple[str, str, int, int]) -> dict:
    name, logging, n, seed = job
    prompts = load(name)
    truth = prompts.value(prompts.target)
    rows, logged = logs(prompts, logging, n, seed)
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
    rows, logged = logs(prompts, "uniform", 5_000, 1)
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
    start, busy = time.perf_counter(), time.process_time()
    logged = LoggedData(context, action, reward, true[np.arange(n), action], k, cluster=cluster)
    judge = OffPolicy(logged)
    found = judge.evaluate(target)
    whole, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{n:,} rows, {logged.cluster_count:,} traces, 20 features, {k} arms: check, cross-fit, all estimators, intervals, verdict: {whole:.1f} s, {busy:.1f} s of CPU")
    print(f"  dr {found.reward['dr'].value:.5f} {found.reward['dr'].interval}  can tell: {found.verdict.can_tell}")
    for method in ("skewed", "bootstrap"):
        start = time.perf_counter()
        OffPolicy(logged, predicted=judge.predicted, method=method).evaluate(target)
        print(f"  once the reward model is fitted, intervals {method}: {time.perf_counter() - start:.1f} s")

    part = min(n, 100_000)
    small = LoggedData(context[:part], action[:part], reward[:part], true[np.arange(part), action[:part]], k, cluster=cluster[:part])
    predicted = judge.predicted[:part]
    start = time.process_time()
    ours = OffPolicy(small, predicted=predicted, method="normal")
    estimates = ours._estimates(target[:part], small.reward, predicted, 1.0)
    fast = time.process_time() - start
    frame = pd.DataFrame({"action": small.action, "reward": small.reward, "propensity": small.propensity, "trace": small.cluster})
    for a in range(k):
        frame[f"pi_{a}"], frame[f"q_{a}"] = target[:part, a], predicted[:, a]
    start = time.process_time()
    slow = pandas_loop(frame, k)
    loop = time.process_time() - start
    for name, (value, low, high) in slow.items():
        assert np.allclose([value, low, high], [estimates[name].value, estimates[name].interval.low, estimates[name].interval.high], atol=1e-9), name
    print(f"{part:,} rows, the six estimators with clustered normal intervals, reward model given: {fast:.2f} s of CPU; "
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
    parser.add_argument("--data", nargs="+", default=["mmlu", "llmrouter"], choices=["mmlu", "mmlu-near", "llmrouter", "gsm8k"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[500, 1_000, 5_000, 20_000])
    parser.add_argument("--logging", nargs="+", default=list(LOGGING), choices=LOGGING)
    parser.add_argument("--propensities", nargs="+", default=list(PROPENSITIES), choices=PROPENSITIES)
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--estimated", type=int, default=100, help="replications with estimated propensities, which take five times as long")
    parser.add_argument("--keep", type=Path, help="folder to keep what is done in, so that a run can go on")
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
    if asked.keep:
        asked.keep.mkdir(parents=True, exist_ok=True)
    protocol(asked.data, sizes, asked.logging, asked.propensities, replications, min(asked.estimated, replications), asked.processes, asked.keep)
    for name in asked.data:
        exploring(name)
    print(f"\n{replications} replications a cell, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
