"""From the routing log to a policy in force: train, judge on calls nobody trained on, publish only what is proven to be better.

A run is a function of the log's snapshot and the settings: the same log gives the same version, and running twice changes nothing. The
version's files are written first, then one commit says what it is (`datasets.policy`), then `champion.json` is swapped by rename; a run
that dies in between is made up for by the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from pipelines import gate
from pipelines.contracts import contract
from pipelines.engine import MART_MACROS, connect, parquet_list, write
from pipelines.errors import NotConfigured, StopTheLine
from pipelines.follow import announcement, follow, results, settle
from pipelines.lake import Lake, Snapshot, storage
from pipelines.learn import model_file, plain_policy
from pipelines.learn.exploration import Exploration, advise
from pipelines.learn.features import PromptFeatures
from pipelines.learn.frontier import Curve, calibration_error, draw, hull
from pipelines.learn.logged_data import LoggedData
from pipelines.learn.offpolicy import RECOMMENDED, Comparison, Evaluation, OffPolicy
from pipelines.learn.policy_reader import Policy
from pipelines.learn.routers import ArmMeanRouter, CombinedRouter, LengthRouter, Router, TaskMeanRouter
from pipelines.settings import Routing, Settings
from pipelines.stage import Report, silent

log = logging.getLogger(__name__)

POLICY, EVALUATION, METRIC = "datasets.policy", "datasets.policy_evaluation", "datasets.policy_metric"
MOST_ROWS = {"train": 140_000, "validation": 20_000, "test": 40_000}
"""Of a longer log the newest calls of each part are used: older ones tell of models and prompts of then. In the proportions of the split."""
FEWEST_OF_A_MODEL = 30
"""A model that was seen less often cannot be told from luck; it is no arm, and calls to it are left out."""
FEWEST_ROWS = 500
NEWEST = 100
"""Of a workload that went quiet before the test so many of its last calls tell among what it chooses, and how its group is weighted."""
MOST_ESTIMATED_SHARE = 0.1
"""Up to this share of the calls to judge on are left out where their propensity was not logged; where more are, all count as estimated."""
LITELLM_PROVIDERS = {
    "aws.bedrock": "bedrock", "aws.sagemaker": "sagemaker", "azure.ai.openai": "azure", "azure.ai.inference": "azure_ai", "gcp.gemini": "gemini", "gcp.vertex_ai": "vertex_ai",
    "mistral_ai": "mistral", "x_ai": "xai", "ibm.watsonx.ai": "watsonx", "moonshot_ai": "moonshot", "zhipu_ai": "zai", "stability_ai": "stability", "voyage_ai": "voyage",
    "alibaba_cloud": "dashscope", "github_models": "github",
}  # fmt: skip
"""What LiteLLM calls a provider where OpenTelemetry's name, which the warehouse uses, is another."""
POINTED = {"policy.json": "champion.json", "config.yaml": "champion.config.yaml"}
"""Files of a version, and under which name the champion's are found."""
PLAIN = "policy"
"""The contender that is published: the plain policy. All others stand beside it."""


class TooLittle(StopTheLine):
    """The routing log does not hold enough to learn from; more calls will mend it."""


@dataclass(frozen=True)
class Log:
    """The routing log as learners take it: `rows` of train and test, newest first, the arms as columns of `candidates` (n×arms).

    `models` may be chosen; after them come `others`, which only were: seen too rarely, withdrawn since, or left out by the settings. Their
    calls count when policies are judged, as propensities are shares of all that could be chosen. `limits` are sentences for the card: what
    was left out or taken for granted.
    """

    rows: pd.DataFrame
    models: list[str]
    others: list[str]
    candidates: np.ndarray
    funnel: list[tuple[str, int]]
    basis: str
    limits: list[str]

    def part(self, splits: tuple[str, ...]) -> np.ndarray:
        return self.rows["split"].isin(splits).to_numpy()

    @cached_property
    def arms(self) -> list[str]:
        return [*self.models, *self.others]

    @cached_property
    def action(self) -> np.ndarray:
        """(n,) the column of the arm that was chosen."""
        return self.rows["action"].map({arm: n for n, arm in enumerate(self.arms)}).to_numpy()

    @property
    def is_to_model(self) -> np.ndarray:
        """(n,) whether the arm chosen is one that may be."""
        return self.action < len(self.models)

    @cached_property
    def is_current(self) -> np.ndarray:
        """(n,) the rows that tell what may be called now."""
        return _current(self.rows)

    @cached_property
    def candidates_by_workload(self) -> dict[str, list[str]]:
        """The models that a workload may call now. What was withdrawn before the test was not judged, and is not published."""
        known = pd.DataFrame(self.candidates[self.is_current, : len(self.models)]).groupby(self.rows.loc[self.is_current, "workload"].to_numpy()).any()
        return {str(workload): [m for m, is_one in zip(self.models, row, strict=True) if is_one] for workload, row in zip(known.index, known.to_numpy(), strict=True)}

    def seen(self, column: str) -> np.ndarray:
        """n×models: the column where the model was called, NaN elsewhere."""
        wide = np.full(self.candidates.shape, np.nan)
        wide[np.arange(len(wide)), self.action] = self.rows[column]
        return wide[:, : len(self.models)]

    def widened(self, of_models: np.ndarray, of_others: float | np.ndarray = 0.0) -> np.ndarray:
        """n×arms out of n×models, with one value an other arm."""
        return np.hstack([of_models, np.broadcast_to(of_others, (len(of_models), len(self.others)))])


@dataclass(frozen=True)
class Judged:
    """A trained version and what the gate says of it."""

    policy_version: str
    status: str
    reasons: tuple[str, ...]
    folder: Path
    is_new: bool = True

    def __str__(self) -> str:
        return f"policy {self.policy_version}: {self.status}; {'; '.join(self.reasons)}"


@storage("routing")
def train(settings: Settings, report: Report = silent) -> Judged:
    """Train a policy on the matured calls of `datasets.routing_log`, judge it against the champion (or, where there is none, against
    what was logged) and make it champion where the lower bound of the difference is above zero.

    Raises `TooLittle` where there is not enough to learn from.
    """
    lake, given = Lake(settings), settings.routing
    found = read_log(settings, lake)
    version = _version_of(found, given)
    folder = settings.policies / version
    if existing := _version(settings, lake, version):
        point_at_champion(settings, lake)
        return Judged(version, existing["status"], tuple(json.loads(existing["reasons"])), folder, is_new=False)

    report("routing: training", None)
    learnt = _learn(found, given, version)
    report("routing: judging", None)
    judgement = _judge(found, learnt, champion_policy(settings, lake), given)
    report("routing: publishing", None)
    table = _evaluation_rows(version, judgement)
    row = _row(found, learnt, judgement, given)
    row["policy_sha256"] = _write_folder(folder, learnt, judgement, found, row, table)
    _replace(settings, lake, EVALUATION, pa.Table.from_pylist(table), f"policy_version <> '{version}'")
    _replace(settings, lake, METRIC, pa.Table.from_pylist(_metrics(found, learnt, judgement, given)), f"policy_version <> '{version}'")
    _register(settings, lake, row)
    point_at_champion(settings, lake)
    judged = Judged(version, judgement.status, judgement.reasons, folder)
    log.info("%s", judged)
    return judged


def _version_of(found: Log, given: Routing) -> str:
    code = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.rglob("*.py")))).hexdigest()
    told = json.dumps([found.basis, given.model_dump(mode="json"), code], sort_keys=True)
    return f"{found.rows['started_at'].max():%Y%m%d}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class Learnt:
    """What was trained on the calls `learn` (a mask): routers by contender, the processor seconds each took, and the plain policy."""

    learn: np.ndarray
    costs: np.ndarray
    mean_reward: float
    contenders: dict[str, Router]
    seconds: dict[str, float]
    plain: dict[str, Any]
    policy: Policy

    @property
    def router(self) -> Router:
        """What the plain policy was distilled from."""
        return self.contenders["router"]


def _learn(found: Log, given: Routing, version: str) -> Learnt:
    learn = found.part(("train", "validation")) & found.is_to_model
    rewards, costs = found.seen("reward")[learn], found.seen("cost_usd")[learn]
    X, propensity = found.rows[learn], found.rows["propensity_share"].to_numpy()[learn]
    features = PromptFeatures(labels=("workload",))
    contenders: dict[str, Router] = {
        "best_single": ArmMeanRouter(), "length_only": LengthRouter(), "task_mean": TaskMeanRouter(labels=("workload",)), "router": CombinedRouter(features=features),
    }
    seconds = {}
    for name, router in contenders.items():
        started = time.process_time()
        router.fit(X, pd.DataFrame(rewards, columns=found.models), costs=costs, propensity=propensity)
        seconds[name] = time.process_time() - started
    plain = plain_policy.distil(
        X["prompt"], X["workload"], np.nan_to_num(contenders["router"].predict_value(X), nan=0.0), found.models, costs, policy_version=version,
        willingness_to_pay_usd=given.willingness_to_pay_usd, exploration_share=given.exploration_share, candidates=found.candidates_by_workload,
    )
    return Learnt(learn, costs, float(np.nanmean(rewards)), contenders, seconds, plain, Policy(plain))


@dataclass(frozen=True)
class Judgement:
    """What the gate found on the calls `test` (a mask): `chances` by contender (n×arms), `shares` of the models by workload."""

    test: np.ndarray
    chances: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]
    champion: Policy | None
    utility: Utility
    judge: OffPolicy
    evaluations: dict[str, Evaluation]
    comparison: Comparison
    status: str
    reasons: tuple[str, ...]

    @property
    def rival(self) -> str:
        return "champion" if self.champion is not None else "best_single"


def _judge(found: Log, learnt: Learnt, champion: Policy | None, given: Routing) -> Judgement:
    test, router = found.part(("test",)), learnt.router
    T = found.rows[test]
    chances, shares = _chances(found, learnt, test, champion, given)
    logged, utility = _logged(found, test, router, given.willingness_to_pay_usd)
    # No router knows the other arms: of them the mean of what was learnt from stands in, which any estimator but DM corrects.
    value = found.widened(router.predict_value(T), learnt.mean_reward)
    judge = OffPolicy(logged, predicted=utility.scaled(value, found.widened(_costs_of(router, T), np.nanmean(learnt.costs))))
    evaluations = {name: judge.evaluate(chance) for name, chance in chances.items()}
    comparison = judge.compare(chances.get("champion"), chances[PLAIN])
    status, reasons = _verdict(comparison, utility, "the champion" if champion is not None else "what was logged")
    return Judgement(test, chances, shares, champion, utility, judge, evaluations, comparison, status, (*reasons, *_half_logged(T)))


def _chances(found: Log, learnt: Learnt, test: np.ndarray, champion: Policy | None, given: Routing) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """How likely each contender calls each arm on the calls of the test, and how often the policy calls each model, by workload."""
    rows, models, epsilon = found.rows, found.models, given.exploration_share
    T, candidates = rows[test], found.candidates[test]
    allowed = candidates[:, : len(models)]
    paid = np.inf if given.willingness_to_pay_usd is None else given.willingness_to_pay_usd
    chances = {name: _explored(one.predict(T, willingness_to_pay=paid, allowed=allowed), models, allowed, epsilon) for name, one in learnt.contenders.items()}
    chances["random"] = allowed / allowed.sum(axis=1, keepdims=True)
    mean_cost = pd.DataFrame(learnt.costs).mean().fillna(np.inf).to_numpy()
    chances["cheapest"] = _explored(np.array(models)[np.where(allowed, mean_cost, np.inf).argmin(axis=1)], models, allowed, epsilon)
    chances[PLAIN] = plain_policy.probabilities(learnt.policy, T["prompt"], T["workload"], allowed, models)
    # A workload that went quiet before the test has a group too.
    quiet = rows[found.is_current & ~test]
    quiet_chances = plain_policy.probabilities(learnt.policy, quiet["prompt"], quiet["workload"], found.candidates[quiet.index, : len(models)], models)
    shares = _shares(np.vstack([chances[PLAIN], quiet_chances]), pd.concat([T["workload"], quiet["workload"]]))
    chances["litellm_config"] = _config_chances(shares, T["workload"], allowed)
    chances = {name: found.widened(chance) for name, chance in chances.items()}
    if champion is not None:
        known = plain_policy.probabilities(champion, T["prompt"], T["workload"], candidates, found.arms)
        chances["champion"] = np.where(np.isnan(known), chances["random"], known)
    return chances, shares


def _row(found: Log, learnt: Learnt, judgement: Judgement, given: Routing) -> dict[str, Any]:
    """The version as a row of datasets.policy."""
    difference, spread, at = judgement.comparison.difference, judgement.utility.spread, found.rows["started_at"]
    return {
        "policy_version": learnt.policy.version, "status": judgement.status, "promotion_number": None, "reasons": json.dumps(list(judgement.reasons)),
        "incumbent": judgement.champion.version if judgement.champion is not None else "logged", "objective": judgement.utility.sentence,
        "difference": spread * difference.value,
        "difference_low": spread * difference.interval.low if difference.interval else None,
        "difference_high": spread * difference.interval.high if difference.interval else None,
        "models": json.dumps(found.models), "train_count": int(learnt.learn.sum()), "test_count": int(judgement.test.sum()),
        "data_from_at": at.min().to_pydatetime(), "data_until_at": at.max().to_pydatetime(),
        "exploration_share": given.exploration_share, "policy_sha256": "", "log_basis": found.basis,
    }  # fmt: skip


@storage("rollback")
def rollback(settings: Settings) -> str:
    """Put the champion before the present one back in force; returns its version. Raises `StopTheLine` where there is none."""
    lake = Lake(settings)
    restored: list[str] = []

    def attempt(seen: Snapshot) -> None:
        rows = _rows(settings, seen)
        champions = sorted((r for r in rows if r["status"] == "champion"), key=lambda r: r["promotion_number"])
        before = sorted((r for r in rows if r["status"] == "retired"), key=lambda r: r["promotion_number"])
        if not champions or not before:
            raise StopTheLine("there is no earlier champion to go back to; see: flywheel sql \"select * from datasets.policy\"")
        if missing := [name for name in POINTED if not (settings.policies / before[-1]["policy_version"] / name).is_file()]:
            raise StopTheLine(f"{settings.policies / before[-1]['policy_version'] / missing[0]} is gone: the champion before cannot be put back in force")
        champions[-1]["status"], before[-1]["status"] = "rolled_back", "champion"
        _commit(settings, lake, seen, POLICY, pa.Table.from_pylist(rows))
        restored[:] = [before[-1]["policy_version"]]

    settle(lake, POLICY, attempt)
    point_at_champion(settings, lake)
    return restored[0]


def point_at_champion(settings: Settings, lake: Lake) -> None:
    """Make `champion.json` and `champion.config.yaml` those of the version that the table calls champion. Each is swapped in whole."""
    champion = _champion_version(settings, lake)
    lake.publish_views()
    if champion is None:
        return
    for name, pointer in POINTED.items():
        fresh = settings.policies / f".{pointer}.{uuid.uuid4().hex}"
        shutil.copyfile(settings.policies / champion / name, fresh)
        os.replace(fresh, settings.policies / pointer)


def champion_policy(settings: Settings, lake: Lake) -> Policy | None:
    """The policy in force, or None before the first."""
    version = _champion_version(settings, lake)
    if version is None:
        return None
    path = settings.policies / version / "policy.json"
    try:
        return Policy.load(path)
    except (OSError, ValueError) as error:
        raise StopTheLine(f"{path}, the policy in force, cannot be read: put it back, or go back with flywheel routing rollback") from error


def read_log(settings: Settings, lake: Lake) -> Log:
    """The matured calls with a reward, newest first, with their split, up to `MOST_ROWS` of each. The funnel says what was left out and why."""
    for name in ("datasets.routing_log", "datasets.routing_split"):
        if not lake.exists(name):
            raise NotConfigured(f"{name} has not been built; run: flywheel build, then flywheel routing train")
    with connect(settings, MART_MACROS) as con:
        log_seen, split_seen = lake.attach(con, "datasets.routing_log"), lake.attach(con, "datasets.routing_split")
        funnel = con.execute(
            """select count(*), count(*) filter (where is_matured), count(*) filter (where is_matured and reward is not null),
                count(*) filter (where is_matured and reward is not null and split <> 'straddling')
            from datasets.routing_log left join datasets.routing_split using (inference_id)""").fetchone()
        rows = con.execute(
            f"""select l.inference_id, l.started_at, l.action, l.reward, cast(l.list_cost_usd as double) as cost_usd, l.propensity_share, l.propensity_kind,
                l.routing_candidates, coalesce(l.prompt, '') as prompt, coalesce(l.workload, '') as workload, s.group_key, s.split,
                coalesce(l.turn_count, 0) as turn_count, coalesce(l.tool_definition_count, 0) as tool_definition_count,
                coalesce(l.message_count, 0) as message_count, l.hour_count, l.provider_name,
                thread_of(l.source, l.session_id, l.trace_id, l.inference_id) as thread
            from datasets.routing_log as l join datasets.routing_split as s using (inference_id)
            where l.is_matured and l.reward is not null and s.split <> 'straddling'
            qualify row_number() over (partition by s.split order by l.started_at desc, l.inference_id)
                <= case s.split {" ".join(f"when '{split}' then {most}" for split, most in MOST_ROWS.items())} end
            order by l.started_at desc, l.inference_id""").df()
    names = ("calls that were a choice", "matured", "with a known outcome", "in one split")
    counted, limits = [*zip(names, funnel, strict=True), ("newest", len(rows))], []
    rows, left_out = _with_logged_propensity(rows)
    if left_out:
        counted.append(("with a logged propensity, or learnt from", len(rows)))
        limits.append(f"{left_out:,} calls of the test have no logged propensity and were left out, so that it is judged on logged propensities alone.")
    arms = sorted(set(rows["action"]))
    candidates = _candidates(rows, arms)
    often = rows.loc[rows["split"] != "test", "action"].value_counts().reindex(arms, fill_value=0).to_numpy() >= FEWEST_OF_A_MODEL
    models = [arm for arm, is_one in zip(arms, often & candidates[_current(rows)].any(axis=0), strict=True) if is_one]
    if given := settings.routing.models:
        models = [m for m in models if m in given]
    priced = set(rows.loc[rows["cost_usd"].notna(), "action"])
    unpriced = ", ".join(sorted(set(arms) - priced))
    if unpriced and settings.routing.willingness_to_pay_usd is None:
        limits.append(f"No call of {unpriced} has a known cost; they are taken to cost what the dearest model does.")
    elif unpriced:  # whether a model is worth its cost cannot be said where nobody knows it
        models = [m for m in models if m in priced]
        limits.append(f"No call of {unpriced} has a known cost; they may not be chosen, and count as free in what was logged, in its favour.")
    others = [arm for arm in arms if arm not in models]
    candidates = candidates[:, [arms.index(arm) for arm in (*models, *others)]]
    # By what could be chosen, never by what was: else propensities would no longer be shares of it.
    usable = candidates[:, : len(models)].any(axis=1)
    rows, candidates = rows[usable].reset_index(drop=True), candidates[usable]
    counted.append((f"that a model seen {FEWEST_OF_A_MODEL} times or more could have answered", len(rows)))
    if why := _too_little(counted, rows, models, bool(priced)):
        raise TooLittle(f"too little to learn from: {'; '.join(why)}. From the log to what is left: {', '.join(f'{count:,} {name}' for name, count in counted)}")
    return Log(rows, models, others, candidates, counted, f"{log_seen.id} {split_seen.id}", limits)


def _with_logged_propensity(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows without those of the test whose propensity was estimated, where these are few, and how many they were."""
    test = rows["split"] == "test"
    odd = test & (rows["propensity_kind"] != "logged")
    if odd.sum() > MOST_ESTIMATED_SHARE * test.sum():
        return rows, 0
    return rows[~odd].reset_index(drop=True), int(odd.sum())


def _candidates(rows: pd.DataFrame, arms: list[str]) -> np.ndarray:
    """n×arms: what could be chosen, and what was."""
    text, texts = pd.factorize(rows["routing_candidates"])
    known = np.array([[arm in listed for arm in arms] for listed in (set(json.loads(one)) for one in texts)], dtype=bool).reshape(len(texts), len(arms))
    candidates = known[text]
    candidates[np.arange(len(rows)), pd.Index(arms).get_indexer(rows["action"])] = True
    return candidates


def _current(rows: pd.DataFrame) -> np.ndarray:
    """(n,) of rows, newest first, those of the test, and of a workload that has none there its newest."""
    test = rows["split"] == "test"
    is_quiet = ~rows["workload"].isin(rows.loc[test, "workload"])
    return (test | is_quiet & (rows.groupby("workload").cumcount() < NEWEST)).to_numpy()


def _too_little(counted: list[tuple[str, int]], rows: pd.DataFrame, models: list[str], is_priced: bool) -> list[str]:
    """What keeps a log from being learnt from; nothing where it will do."""
    calls, matured, known, used, *_ = (count for _, count in counted)
    to_models = int(rows["action"].isin(models).sum())
    if not calls:
        return ["no call was a choice between models; flywheel build makes the log from what was ingested"]
    if not matured:
        return ["no call's outcome is final yet; flywheel build works outcomes out from what was ingested, and young calls take some days"]
    if not known:
        return ["no call has a known outcome; bring in feedback (flywheel ingest), then flywheel build"]
    why = ["no call has a cost; bring in prices (flywheel prices), then flywheel build"] if used and not is_priced else []
    if len(models) < 2 or to_models < FEWEST_ROWS:
        why.append(f"{to_models:,} calls of {len(models)} models that may be chosen, where at least {FEWEST_ROWS} of 2 are needed")
    elif missing := [name for part, name in (("train", "early"), ("test", "late")) if part not in set(rows["split"])]:
        why.append(f"no {' and no '.join(missing)} calls, and both are needed")
    return why


@dataclass(frozen=True)
class Utility:
    """The objective, reward - cost / willingness to pay, and the scale from 0 to 1 that estimators want it on."""

    willingness_to_pay_usd: float | None
    least: float

    @property
    def spread(self) -> float:
        return 1 - self.least

    @property
    def sentence(self) -> str:
        if self.willingness_to_pay_usd is None:
            return "outcome a call (0 to 1)"
        return f"outcome a call, less cost at {self.willingness_to_pay_usd:g} USD for a call that does its job"

    def scaled(self, reward: np.ndarray, cost_usd: np.ndarray) -> np.ndarray:
        """Reward and cost, of any shape, as utility on 0..1."""
        value = reward if self.willingness_to_pay_usd is None else reward - cost_usd / self.willingness_to_pay_usd
        return np.clip((value - self.least) / self.spread, 0, 1)

    def back(self, scaled: float) -> float:
        return self.least + self.spread * scaled


def _logged(found: Log, test: np.ndarray, router: Router, willingness: float | None) -> tuple[LoggedData, Utility]:
    T = found.rows[test]
    by_model = found.rows.groupby("action")["cost_usd"].mean()
    cost = T["cost_usd"].fillna(T["action"].map(by_model)).fillna(by_model.max() if willingness is None else 0.0).to_numpy()
    utility = Utility(willingness, 0.0 if willingness is None else -float(cost.max()) / willingness)
    workload = pd.get_dummies(T["workload"]).to_numpy(dtype=float)
    numbers = T[["turn_count", "tool_definition_count", "message_count", "hour_count"]].to_numpy(dtype=float)
    context = np.column_stack([np.log1p(T["prompt"].str.len()), numbers, workload, np.nan_to_num(router.predict_value(T))])
    logged = LoggedData(
        context, found.action[test], utility.scaled(T["reward"].to_numpy(), cost), T["propensity_share"].to_numpy(), len(found.arms),
        candidates=found.candidates[test], cluster=T["thread"].to_numpy(), cost_usd=cost, action_names=found.arms,
        propensity_kind="logged" if (T["propensity_kind"] == "logged").all() else "estimated",
    )
    return logged, utility


def _costs_of(router: Router, T: pd.DataFrame) -> np.ndarray:
    return np.nan_to_num(router.predict_cost(T), nan=0.0)


def _explored(choice: np.ndarray, models: list[str], allowed: np.ndarray, epsilon: float) -> np.ndarray:
    """n×k: the choice with probability 1 - ε, and any candidate evenly with ε; so all contenders explore alike."""
    chosen = choice[:, None] == np.array(models)[None, :]
    return (1 - epsilon) * chosen + epsilon * allowed / allowed.sum(axis=1, keepdims=True)


def _greedy(chances: np.ndarray) -> np.ndarray:
    return np.eye(chances.shape[1])[chances.argmax(axis=1)]


def _shares(chances: np.ndarray, workload: pd.Series) -> dict[str, np.ndarray]:
    """By workload: how often the policy would call each model; what a gateway that knows no prompts can be told."""
    labels = workload.to_numpy()
    return {str(one): chances[labels == one].mean(axis=0) for one in sorted(set(labels))}


def _config_chances(shares: dict[str, np.ndarray], workload: pd.Series, allowed: np.ndarray) -> np.ndarray:
    chances = np.stack([shares[one] for one in workload]) * allowed
    empty = chances.sum(axis=1) == 0
    chances[empty] = allowed[empty]
    return chances / chances.sum(axis=1, keepdims=True)


def _verdict(comparison: Comparison, utility: Utility, incumbent: str) -> tuple[str, tuple[str, ...]]:
    if not comparison.verdict.can_tell or comparison.difference.interval is None:
        return "refused", comparison.verdict.reasons or (comparison.difference.because,)
    low, high = (utility.spread * v for v in (comparison.difference.interval.low, comparison.difference.interval.high))
    told = f"against {incumbent} {utility.spread * comparison.difference.value:+.4f} a call, 95 % interval {low:+.4f} to {high:+.4f}"
    if comparison.better:
        return "champion", (told,)
    return "challenger", (f"{told}: not proven to be better",)


def _half_logged(T: pd.DataFrame) -> list[str]:
    """That propensities count as estimated though some were logged, where it is so."""
    estimated = int((T["propensity_kind"] != "logged").sum())
    if estimated in (0, len(T)):
        return []
    return [f"{estimated:,} of the {len(T):,} calls of the test have no logged propensity, more than a {1 / MOST_ESTIMATED_SHARE:.0f}th: so all of them count as estimated"]


def _evaluation_rows(version: str, judgement: Judgement) -> list[dict[str, Any]]:
    logged, utility = judgement.judge.logged, judgement.utility
    rows = [
        _figure(version, "logged", "mean", "objective", utility.back(float(logged.reward.mean())), None, None, len(logged), True, ""),
        _figure(version, "logged", "mean", "cost_usd", float(logged.cost_usd.mean()), None, None, len(logged), True, ""),
    ]
    for name, one in judgement.evaluations.items():
        can_tell, why = one.verdict.can_tell, "; ".join(one.verdict.reasons)
        for measure, estimates, back in (("objective", one.reward, utility.back), ("cost_usd", one.cost_usd or {}, float)):
            for estimator, found in estimates.items():
                low, high = (back(found.interval.low), back(found.interval.high)) if found.interval else (None, None)
                because = "; ".join(text for text in (why, found.because) if text)
                rows.append(_figure(version, name, estimator, measure, back(found.value), low, high, one.diagnostics.effective_sample_size, can_tell, because))
    return rows


def _metrics(found: Log, learnt: Learnt, judgement: Judgement, given: Routing) -> list[dict[str, Any]]:
    """Parameters and metrics of a run, as an experiment tracker would keep them: of the models that were called in the test, how well their rewards were foretold."""
    called, chances = judgement.test & found.is_to_model, judgement.chances
    T = found.rows[called]
    at, reward = (np.arange(len(T)), found.action[called]), T["reward"].to_numpy()
    told = {name: one.predict_value(T)[at] for name, one in learnt.contenders.items()}
    told[PLAIN] = np.array([learnt.policy.values(prompt, workload or None)[n] for prompt, workload, n in zip(T["prompt"], T["workload"], at[1], strict=True)])
    rows = []
    for name, value in told.items():
        known = ~np.isnan(value)
        p, y = np.clip(value[known], 0.01, 0.99), reward[known]
        rows += [(name, "log_loss", float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())), (name, "brier_score", float(((p - y) ** 2).mean())),
                 (name, "calibration_error_share", calibration_error(p, y))]  # fmt: skip
    rows += [(name, "fit_seconds", value) for name, value in learnt.seconds.items()]
    rows += [(PLAIN, "agreement_share", float((chances[PLAIN].argmax(axis=1) == chances["router"].argmax(axis=1)).mean()))]
    counts = {"train_count": int(found.part(("train", "validation")).sum()), "test_count": int(judgement.test.sum()), "model_count": len(found.models)}
    kept = [{"kind": "metric", "contender": c, "name": n, "value": v, "text": None} for c, n, v in rows]
    kept += [{"kind": "parameter", "contender": PLAIN, "name": n, "value": float(v), "text": None} for n, v in counts.items()]
    kept += [{"kind": "parameter", "contender": PLAIN, "name": n, "value": None, "text": json.dumps(v)} for n, v in given.model_dump(mode="json").items()]
    return [{"policy_version": learnt.policy.version, **row} for row in kept]


def _figure(version, contender, estimator, measure, value, low, high, effective, can_tell, because) -> dict[str, Any]:
    return {
        "policy_version": version, "contender": contender, "estimator": estimator, "measure": measure, "estimate": float(value),
        "estimate_low": low, "estimate_high": high, "effective_sample_size": float(effective), "can_tell": bool(can_tell), "because": because,
    }


def _write_folder(folder: Path, learnt: Learnt, judgement: Judgement, found: Log, row: dict[str, Any], table: list[dict[str, Any]]) -> str:
    """All files of a version, in place at once; returns the hash of its policy."""
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    packed = json.dumps(learnt.plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    (part / "policy.json").write_bytes(packed)
    # Of all calls, as a model may be of a workload that went quiet; of the newest, as providers change.
    newest = found.rows.dropna(subset=["provider_name"]).groupby("action").head(NEWEST)
    providers = newest.groupby("action")["provider_name"].agg(lambda names: names.value_counts().index[0]).to_dict()
    (part / "config.yaml").write_text(litellm_config(judgement.shares, found.models, providers, row["policy_version"]))
    model_file.save(learnt.router, part / "router.skops")
    points = {(f["contender"], f["measure"]): f for f in table if f["estimator"] in (RECOMMENDED, "mean")}
    names = [name for name, measure in points if measure == "objective"]
    curves = [Curve(n, np.array([points[n, "cost_usd"]["estimate"]]), np.array([points[n, "objective"]["estimate"]]), is_line=False) for n in names]
    edge = hull(np.array([c.cost[0] for c in curves]), np.array([c.quality[0] for c in curves]))
    draw([*curves, Curve("what mixing reaches", *edge)], part / "pareto", f"Policy {row['policy_version']}", "USD a call (doubly robust)", row["objective"])
    (part / "card.md").write_text(_card(row, found, table, _advice(found, judgement), judgement))
    if folder.exists():  # an earlier run that died before its commit
        shutil.rmtree(folder)
    os.replace(part, folder)
    return hashlib.sha256(packed).hexdigest()


def litellm_config(shares: dict[str, np.ndarray], models: list[str], providers: dict[str, str], version: str) -> str:
    """A LiteLLM router configuration: a model group a workload, weighted as the policy would choose on the whole.

    LiteLLM's weights know the workload and not the prompt; the table calls this contender `litellm_config`.
    """
    nameless, groups = "default", []
    while nameless in shares:  # a workload of that name is another group
        nameless += "-other"
    for workload, share in shares.items():
        for model, weight in zip(models, share, strict=True):
            if weight > 0:
                provider = LITELLM_PROVIDERS.get(providers.get(model), providers.get(model))
                # A slash says nothing: openai/gpt-oss-120b is what Groq calls it, and LiteLLM would ask OpenAI.
                name = f"{provider}/{model}" if provider and not model.startswith(f"{provider}/") else model
                groups.append({"model_name": workload or nameless, "litellm_params": {"model": name, "weight": round(float(weight), 6)}})
    head = f"# Routing policy {version}. Call the model group of your workload, {nameless} for calls without one; the weights are LiteLLM's simple-shuffle.\n"
    return head + yaml.safe_dump({"model_list": groups, "router_settings": {"routing_strategy": "simple-shuffle"}}, sort_keys=False, allow_unicode=True)


def _advice(found: Log, judgement: Judgement) -> list[Exploration]:
    """What exploring would buy with the policy in force, in units of the objective."""
    calls_per_day = max(1, round(len(found.rows) / max(1, found.rows["started_at"].dt.date.nunique())))
    judge, chances = judgement.judge, judgement.chances
    advice = advise(judge.logged, _greedy(chances[PLAIN]), chances[judgement.rival], judge.predicted, calls_per_day=calls_per_day)
    return [one.scaled(judgement.utility.spread) for one in advice]


def _card(row: dict[str, Any], found: Log, table: list[dict[str, Any]], advice: list[Exploration], judgement: Judgement) -> str:
    shown = [f for f in table if f["estimator"] in (RECOMMENDED, "mean")]

    def interval(f: dict[str, Any]) -> str:
        return "" if f["estimate_low"] is None else f"{f['estimate_low']:.4f} to {f['estimate_high']:.4f}"

    by = {(f["contender"], f["measure"]): f for f in shown}
    lines = [
        f"# Routing policy {row['policy_version']}: {row['status']}", "", *(f"- {reason}" for reason in json.loads(row["reasons"])), "",
        f"Objective: {row['objective']}. Exploration: {row['exploration_share']:.0%} of calls, propensities logged by the reader.",
        f"Learnt from {row['train_count']:,} calls and judged on {row['test_count']:,} later ones that share no session, trace or near-same prompt with them,",
        f"{row['data_from_at']:%Y-%m-%d} to {row['data_until_at']:%Y-%m-%d}.", "",
        "## From the log to what was used", "", "| calls | |", "|---:|---|", *(f"| {count:,} | {name} |" for name, count in found.funnel), "",
        f"## Judged off-policy ({RECOMMENDED}, 95 % intervals by session or trace)", "", "| contender | objective | interval | USD a call | can tell |", "|---|---:|---|---:|---|",
        *(
            f"| {name} | {by[name, 'objective']['estimate']:.4f} | {interval(by[name, 'objective'])} | {by[name, 'cost_usd']['estimate']:.6f} | "
            f"{'yes' if by[name, 'objective']['can_tell'] else 'no: ' + by[name, 'objective']['because']} |"
            for name, measure in by if measure == "objective"
        ), "",
        "## How far the log reaches", "", "| contender | overlap | effective sample size | largest weight | its part of all weight | smallest propensity |", "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | {d.overlap_share:.1%} | {d.effective_sample_size:,.0f} | {d.max_weight:.1f} | {d.max_weight_share:.1%} | {d.min_propensity:.4f} |"
            for name, d in ((name, one.diagnostics) for name, one in judgement.evaluations.items())
        ), "",
        "## What exploring would buy in a week", "", f"With this policy in force, to judge {judgement.rival} on its calls, and to find a difference between the two in 80 % of the cases.", "", "| ε | effective sample size | half width | detectable difference | objective given up a call |", "|---:|---:|---:|---:|---:|",
        *(f"| {a.epsilon_share:.0%} | {a.effective_sample_size:,.0f} | {a.half_width:.4f} | {a.detectable_difference:.4f} | {a.regret:.5f} |" for a in advice), "",
        "## Limits", "", "The policy reads the last thing the user said, its length and the workload. It knows nothing of models it has not seen.",
        "An estimate with estimated propensities trusts that the old router saw no more than the log holds.",
        *found.limits, "",
    ]
    return "\n".join(lines)


def _rows(settings: Settings, seen: Snapshot) -> list[dict[str, Any]]:
    if not seen.files:
        return []
    with connect(settings) as con:
        return con.sql(f"select * from {parquet_list(e.path for e in seen.files)} order by policy_version").to_arrow_table().to_pylist()


def _version(settings: Settings, lake: Lake, version: str) -> dict[str, Any] | None:
    return next((r for r in _rows(settings, lake.snapshot(POLICY)) if r["policy_version"] == version), None)


def _champion_version(settings: Settings, lake: Lake) -> str | None:
    return next((r["policy_version"] for r in _rows(settings, lake.snapshot(POLICY)) if r["status"] == "champion"), None)


def _register(settings: Settings, lake: Lake, row: dict[str, Any]) -> None:
    """Add a version to the table; a champion retires the one before."""

    def attempt(seen: Snapshot) -> None:
        rows = [r for r in _rows(settings, seen) if r["policy_version"] != row["policy_version"]]
        fresh = dict(row)
        if fresh["status"] == "champion":
            for other in rows:
                if other["status"] == "champion":
                    other["status"] = "retired"
            fresh["promotion_number"] = 1 + max((r["promotion_number"] or 0 for r in rows), default=0)
        _commit(settings, lake, seen, POLICY, pa.Table.from_pylist([*rows, fresh]))

    settle(lake, POLICY, attempt)


def _replace(settings: Settings, lake: Lake, name: str, fresh: pa.Table, keep: str) -> None:
    """Put rows into a small table in place of those that are not `keep`."""

    def attempt(seen: Snapshot) -> None:
        old = f"select * from {parquet_list(e.path for e in seen.files)} where {keep} union all by name " if seen.files else ""
        _commit(settings, lake, seen, name, fresh, old)

    settle(lake, name, attempt)


def _commit(settings: Settings, lake: Lake, seen: Snapshot, name: str, fresh: pa.Table, before: str = "") -> None:
    """Put rows in place of all of a small table, if they keep its promises; what their audit found is kept."""
    batch = uuid.uuid4().hex
    scratch = settings.scratch / batch
    try:
        with connect(settings) as con:
            con.register("fresh", fresh)
            path = write(con, scratch / "rows.parquet", f"{contract(name).typed_from(f'{before}select * from fresh')} order by all")
        steps = [results(lake, gate.audit(settings, contract(name), [str(path)], batch="whole"), scratch)]
        lake.commit(seen, [lake.upload(path, name)], seen.files, properties=announcement(batch, steps))
        follow(lake, name, batch, steps)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
