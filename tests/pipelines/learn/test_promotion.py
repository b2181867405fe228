"""From a routing log to a policy in force: only what is proven better, and back again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from pipelines.contracts import contract
from pipelines.engine import connect, write
from pipelines.errors import NotConfigured, PromiseBroken, StopTheLine
from pipelines.lake import Lake
from pipelines.learn import promotion
from pipelines.learn.policy_reader import Policy
from pipelines.learn.promotion import LITELLM_PROVIDERS, TooLittle, litellm_config, rollback, train
from pipelines.settings import Routing, Settings
from tests.support.lakehouse import ask

MODELS = ("large", "small", "tiny")
START = datetime(2026, 11, 1, tzinfo=UTC).replace(tzinfo=None)


def drawn(n: int, *, seed: int, good: dict[str, tuple[float, ...]], chances: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3), start: int = 0) -> pa.Table:
    """A log of n calls, half of them about law and half small talk; `good` is how often each model does its job with which."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(start, start + n):
        workload = ("legal", "chat")[rng.integers(2)]
        word = ("clause", "hello")[workload == "chat"]
        model = rng.choice(3, p=chances)
        rows.append({
            "inference_id": f"c{i:06}", "started_at": START + timedelta(minutes=i), "source": "app", "workload": workload, "prompt": f"{word} {word} number {i}",
            "hour_count": i // 60 % 24, "routing_candidates": json.dumps(MODELS), "candidate_count": 3, "candidates_kind": "logged", "action": MODELS[model],
            "provider_name": "openai", "propensity_share": chances[model], "propensity_kind": "logged", "routing_policy": "even",
            "reward": float(rng.random() < good[workload][model]), "outcome_status": "resolved", "is_matured": True,
            "list_cost_usd": (0.01, 0.002, 0.0005)[model], "latency_ms": 800,
        })  # fmt: skip
    return pa.Table.from_pylist(rows)


def logged(settings: Settings, log: pa.Table) -> Settings:
    """Put a log, and its split by time, in place of what the warehouse holds."""
    lake = Lake(settings)
    with connect(settings) as con:
        con.register("given", log)
        for name, rows in (
            ("datasets.routing_log", "select * from given"),
            ("datasets.routing_split", "select inference_id, started_at, inference_id as group_key, "
             "case when row_number() over (order by started_at) <= 0.7 * (select count(*) from given) then 'train' else 'test' end as split from given"),
        ):
            available = [row[0] for row in con.execute(f"describe {rows}").fetchall()]
            typed = ", ".join(contract(name).typed(available))
            partition = contract(name).partition
            days = [r[0] for r in con.execute("select distinct cast(started_at as date) from given").fetchall()] if partition else [None]
            paths = [
                (write(con, settings.scratch / f"{name}-{n}.parquet", f"select {typed} from ({rows})" + (f" where cast(started_at as date) = date '{day}'" if day else "")), day)
                for n, day in enumerate(days)
            ]

            def swap(seen, name=name, paths=paths):
                lake.commit(seen, [lake.upload(path, name, day) for path, day in paths], seen.files)

            lake.settle(name, swap)
    return settings


BETTER = {"legal": (0.9, 0.4, 0.2), "chat": (0.6, 0.9, 0.6)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("routing"), threads=2, memory_limit="400MB")


@pytest.fixture(scope="module")
def first(settings):
    return train(logged(settings, drawn(4_000, seed=1, good=BETTER)))


def test_what_is_proven_better_is_put_in_force(first, settings):
    assert first.status == "champion", first.reasons
    policy = Policy.load(settings.policies / "champion.json")
    assert policy.version == first.policy_version
    assert policy.probabilities("clause clause number 7", "legal")["large"] > 0.9
    assert policy.probabilities("hello hello number 7", "chat")["small"] > 0.9
    [(low, incumbent)] = ask(settings, "select difference_low, incumbent from datasets.policy")
    assert low > 0 and incumbent == "logged"
    assert {p.name for p in first.folder.iterdir()} == {
        "policy.json", "config.yaml", "card.md", "router.skops", "router.skops.sha256", "pareto.png", "pareto.html"}
    config = yaml.safe_load((settings.policies / "champion.config.yaml").read_text())
    weights = {(g["model_name"], g["litellm_params"]["model"]): g["litellm_params"]["weight"] for g in config["model_list"]}
    assert weights["legal", "openai/large"] > 0.9 > 0.1 > weights["legal", "openai/small"]


@pytest.mark.parametrize(
    ("chances", "given"), [((1 / 3, 1 / 3, 1 / 3), Routing(models=["large", "small"])), ((0.495, 0.495, 0.01), Routing())], ids=["left out by the settings", "seen rarely"]
)
def test_calls_to_models_that_may_not_be_chosen_count_when_policies_are_judged(tmp_path, chances, given):
    """Propensities are shares of all that could be chosen; without the calls to one of them, weights would no longer average one."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB", routing=given)
    found = train(logged(settings, drawn(2_500, seed=4, good=BETTER, chances=chances)))
    assert found.status == "champion", found.reasons
    assert Policy.load(settings.policies / "champion.json").models == ["large", "small"]
    truth = np.mean([0.95 * max(g[:2]) + 0.05 * np.mean(g[:2]) for g in BETTER.values()])
    policy = "from datasets.policy_evaluation where contender = 'policy' and measure = 'objective'"
    told = dict(ask(settings, f"select estimator, estimate {policy}"))
    assert told["ips"] == pytest.approx(truth, abs=0.06) and told["dr"] == pytest.approx(truth, abs=0.04)
    [(low, high)] = ask(settings, f"select estimate_low, estimate_high {policy} and estimator = 'dr'")
    assert low < truth < high
    [(tiny, all_of_them)] = ask(settings, "select (select count(*) from datasets.routing_log where action = 'tiny'), (select count(*) from datasets.routing_log)")
    assert tiny > 0
    assert f"| {all_of_them:,} | that a model seen 30 times or more could have answered |" in (found.folder / "card.md").read_text()


def with_column(log: pa.Table, name: str, values: list) -> pa.Table:
    place = log.schema.get_field_index(name)
    return log.set_column(place, name, pa.array(values, log.schema.field(name).type))


def test_what_is_published_is_what_was_judged_in_every_workload(tmp_path):
    """`tiny` was never a candidate for law, `old` is one no longer, and letters, with a model of their own, went quiet before the test: reader and config know."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    offered = {"legal": ("large", "small"), "chat": ("small", "tiny"), "letters": ("quill", "small")}
    good = {"legal": {"large": 0.7, "small": 0.4}, "chat": {"small": 0.5, "tiny": 0.95, "old": 0.99}, "letters": {"quill": 0.7, "small": 0.4, "old": 0.99}}
    log = drawn(3_000, seed=7, good={"legal": (0.7, 0.4, 0.0), "chat": (0.0, 0.5, 0.95)})
    even = np.random.default_rng(8)
    rows = []
    for n, row in enumerate(log.to_pylist()):
        workload = "letters" if row["workload"] == "legal" and n < 600 else row["workload"]
        among = (*offered[workload], "old") if n < 300 else offered[workload]
        model = among[even.integers(len(among))]
        rows.append(row | {"routing_candidates": json.dumps(among), "action": model, "propensity_share": 1 / len(among), "workload": workload,
                           "provider_name": "mistral_ai" if model == "quill" else "openai", "reward": float(even.random() < good[workload][model])})  # fmt: skip
    assert train(logged(settings, pa.Table.from_pylist(rows, log.schema))).status == "champion"
    policy = Policy.load(settings.policies / "champion.json")
    assert policy.models == ["large", "quill", "small", "tiny"]
    for workload, among in (*offered.items(), ("never seen", policy.models)):
        assert set(policy.probabilities("clause clause number 7", workload)) == set(among)
    assert policy.probabilities("clause clause number 7", "legal", ["tiny"]) == {"tiny": 1.0}
    config = yaml.safe_load((settings.policies / "champion.config.yaml").read_text())
    groups = {(g["model_name"], g["litellm_params"]["model"]) for g in config["model_list"]}
    assert groups == {(w, "mistral/quill" if m == "quill" else f"openai/{m}") for w, among in offered.items() for m in among}


def test_a_few_calls_without_a_logged_propensity_are_left_out_of_the_test_and_more_are_told(tmp_path):
    log = drawn(2_500, seed=1, good=BETTER)  # 750 of them are the test

    def judged(name: str, estimated: int):
        kinds = ["logged"] * (2_500 - estimated) + ["estimated"] * estimated
        settings = Settings(home=tmp_path / name, threads=2, memory_limit="400MB")
        return settings, train(logged(settings, with_column(log, "propensity_kind", kinds)))

    settings, few = judged("few", 20)
    assert few.status == "champion", few.reasons
    assert ask(settings, "select test_count from datasets.policy") == [(730,)]
    card = (few.folder / "card.md").read_text()
    assert "20 calls of the test have no logged propensity and were left out" in card and "| 2,480 | with a logged propensity, or learnt from |" in card
    settings, many = judged("many", 200)
    assert many.status == "refused" and any("200 of the 750 calls of the test have no logged propensity" in reason for reason in many.reasons), many.reasons
    assert ask(settings, "select test_count from datasets.policy") == [(750,)]


def test_of_a_long_log_the_newest_of_each_part_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.learn.promotion.MOST_ROWS", {"train": 700, "validation": 100, "test": 200})
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    found = train(logged(settings, drawn(4_000, seed=1, good=BETTER)))
    assert "| 900 | newest |" in (found.folder / "card.md").read_text()  # this log has no validation
    assert ask(settings, "select train_count, test_count, data_from_at from datasets.policy") == [(700, 200, START + timedelta(minutes=2_100))]


@pytest.mark.parametrize(
    ("given", "models", "told"),
    [(Routing(), list(MODELS), "taken to cost what the dearest model does"), (Routing(willingness_to_pay_usd=0.1), ["large", "small"], "may not be chosen")],
)
def test_a_model_without_a_price_stops_nobody(tmp_path, given, models, told):
    """Calls count by what could be chosen, whether or not their cost is known: the log's propensities are right, and are believed."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB", routing=given)
    log = drawn(3_000, seed=1, good=BETTER)
    unpriced = [None if model == "tiny" else usd for model, usd in zip(log["action"].to_pylist(), log["list_cost_usd"].to_pylist(), strict=True)]
    found = train(logged(settings, with_column(log, "list_cost_usd", unpriced)))
    assert found.status == "champion", found.reasons
    assert Policy.load(settings.policies / "champion.json").models == models
    assert f"No call of tiny has a known cost; they {told}" in (found.folder / "card.md").read_text().replace("they are taken", "they taken")


def test_the_advice_on_exploring_is_in_the_units_of_the_objective(tmp_path):
    """At 2 cents a good call, utility goes from -0.5 to 1. What 20 % of exploring gives up is a fifth of what the policy has over random."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB", routing=Routing(willingness_to_pay_usd=0.02, exploration_share=0.01))
    found = train(logged(settings, drawn(2_500, seed=1, good=BETTER)))
    [(policy, random)] = ask(settings, """select any_value(estimate) filter (contender = 'policy'), any_value(estimate) filter (contender = 'random')
        from datasets.policy_evaluation where estimator = 'dr' and measure = 'objective'""")
    table = (found.folder / "card.md").read_text().split("## What exploring would buy")[1].split("## ")[0]
    [last] = [[float(cell.strip(" %")) for cell in line.split("|")[1:-1] if cell.strip() != "1,000"] for line in table.replace(",", "").splitlines() if line.startswith("| 20% ")]
    assert last[-1] == pytest.approx(0.2 * (policy - random), rel=0.15)
    assert "to judge best_single" in table and last[-2] > 0.01


def test_who_cannot_be_put_back_in_force_changes_nothing(tmp_path):
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    older = train(logged(settings, drawn(2_500, seed=1, good=BETTER)))
    newer = train(logged(settings, drawn(2_500, seed=3, good={"legal": (0.2, 0.4, 0.95), "chat": (0.3, 0.3, 0.95)}, start=10_000)))
    assert (older.status, newer.status) == ("champion", "champion")
    (older.folder / "policy.json").unlink()
    with pytest.raises(StopTheLine, match="is gone"):
        rollback(settings)
    assert ask(settings, "select policy_version from datasets.policy where status = 'champion'") == [(newer.policy_version,)]


def routing_config() -> dict:
    """One model of each provider that is renamed for LiteLLM, of two that are not, and one whose name is LiteLLM's already."""
    providers = {f"model-{n}": name for n, name in enumerate([*LITELLM_PROVIDERS, "openai", "anthropic"])}
    models = [*providers, "openrouter/meta/llama-3", "unused"]
    share = np.array([1 / (len(models) - 1)] * (len(models) - 1) + [0.0])
    return yaml.safe_load(litellm_config({"": share, "légal: a": share}, models, providers, "v1"))


def test_the_config_has_the_shape_of_litellms_router():
    config = routing_config()
    assert config.keys() == {"model_list", "router_settings"} and config["router_settings"] == {"routing_strategy": "simple-shuffle"}
    deployments = [(d["model_name"], d["litellm_params"]["model"]) for d in config["model_list"]]
    assert len(set(deployments)) == len(deployments) == 2 * (len(LITELLM_PROVIDERS) + 3)
    assert {group for group, _ in deployments} == {"default", "légal: a"}
    for deployment in config["model_list"]:
        assert deployment.keys() == {"model_name", "litellm_params"} and deployment["litellm_params"].keys() == {"model", "weight"}
        assert 0 < deployment["litellm_params"]["weight"] <= 1 and deployment["litellm_params"]["model"].count("/") >= 1
    assert ("default", "bedrock/model-0") in deployments and ("default", "openrouter/meta/llama-3") in deployments


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("gpt-5.5", "openai", "openai/gpt-5.5"),
        ("openai/gpt-5.5", "openai", "openai/gpt-5.5"),
        ("openai/gpt-oss-120b", "groq", "groq/openai/gpt-oss-120b"),
        ("anthropic/claude-3.5-sonnet", "openrouter", "openrouter/anthropic/claude-3.5-sonnet"),
        ("azure/our-gpt", "azure.ai.openai", "azure/our-gpt"),
        ("house-model", None, "house-model"),
    ],
)
def test_the_config_names_the_provider_that_was_called(model, provider, name):
    config = yaml.safe_load(litellm_config({"": np.array([1.0])}, [model], {model: provider} if provider else {}, "v1"))
    assert [d["litellm_params"]["model"] for d in config["model_list"]] == [name]


def test_calls_without_a_workload_have_a_group_that_no_workload_has():
    shares = {"": np.array([1.0, 0.0]), "default": np.array([0.0, 1.0]), "default-other": np.array([0.5, 0.5])}
    text = litellm_config(shares, ["a", "b"], {}, "v1")
    groups = [(d["model_name"], d["litellm_params"]["model"]) for d in yaml.safe_load(text)["model_list"]]
    assert groups == [("default-other-other", "a"), ("default", "b"), ("default-other", "a"), ("default-other", "b")]
    assert "default-other-other for calls without one" in text


def test_litellm_itself_loads_the_config(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its price list from the package, not from the network
    litellm = pytest.importorskip("litellm", reason="LiteLLM is not installed")
    config = routing_config()
    router = litellm.Router(model_list=config["model_list"], **config["router_settings"])
    assert set(router.get_model_names()) == {"default", "légal: a"}
    assert len(router.get_model_list()) == len(config["model_list"])


def test_the_card_says_how_far_the_log_reaches(first):
    """Overlap and the largest weight of each contender; with 5 % of exploration every logged decision is one it could have made."""
    card = (first.folder / "card.md").read_text().split("## How far the log reaches")[1].split("## ")[0]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in card.splitlines() if line.startswith("| ")}
    assert {"policy", "router", "best_single", "random"} <= set(cells)
    overlap, effective, largest, part, least = cells["policy"]
    assert overlap == "100.0%" and float(effective.replace(",", "")) > 1
    assert float(largest) > 1 and 0 < float(part.rstrip("%")) < 100 and 0 < float(least) <= 1


def test_the_estimate_is_near_the_truth(first, settings):
    """0.9 where it matters; five in a hundred calls go anywhere."""
    truth = np.mean([0.95 * max(g) + 0.05 * np.mean(g) for g in BETTER.values()])
    [(estimate, low, high)] = ask(
        settings, f"select estimate, estimate_low, estimate_high from datasets.policy_evaluation where policy_version = '{first.policy_version}' "
        "and contender = 'policy' and estimator = 'dr' and measure = 'objective'")
    assert low < truth < high and abs(estimate - truth) < 0.05
    names = {r[0] for r in ask(settings, "select distinct contender from datasets.policy_evaluation")}
    assert names == {"logged", "policy", "router", "litellm_config", "random", "cheapest", "best_single", "length_only", "task_mean"}
    metrics = dict(ask(settings, f"select contender || ' ' || name, value from datasets.policy_metric where policy_version = '{first.policy_version}' and kind = 'metric'"))
    assert metrics["task_mean brier_score"] < metrics["best_single brier_score"]
    assert 0 <= metrics["policy calibration_error_share"] < 0.2
    assert ask(settings, "select count(*) from datasets.policy_evaluation where estimator in ('dm', 'switch_dr') and estimate_low is not null") == [(0,)]


def test_the_same_log_gives_the_same_version_once(first, settings):
    again = train(settings)
    assert (again.policy_version, again.status, again.is_new) == (first.policy_version, "champion", False)
    assert ask(settings, "select count(*) from datasets.policy") == [(1,)]


def test_no_better_is_a_challenger_and_a_better_one_can_be_taken_back(first, settings):
    same = train(logged(settings, drawn(4_000, seed=2, good=BETTER, start=5_000)))
    assert same.status == "challenger", same.reasons
    turned = {"legal": (0.2, 0.4, 0.95), "chat": (0.3, 0.3, 0.95)}
    other = train(logged(settings, drawn(4_000, seed=3, good=turned, start=10_000)))
    assert other.status == "champion", other.reasons
    assert Policy.load(settings.policies / "champion.json").version == other.policy_version
    assert rollback(settings) == first.policy_version
    assert Policy.load(settings.policies / "champion.json").version == first.policy_version
    assert sorted(ask(settings, "select status from datasets.policy")) == [("challenger",), ("champion",), ("rolled_back",)]
    with pytest.raises(StopTheLine, match="no earlier champion"):
        rollback(settings)


def test_what_the_audits_of_a_run_found_is_kept_and_what_breaks_a_promise_is_not_committed(first, settings):
    tables = ("datasets.policy", "datasets.policy_evaluation", "datasets.policy_metric")
    found = ask(settings, f"select target_table, bool_and(held), count(*) filter (promise = 'grain_unique') from core.gate_result where target_table in {tables} group by 1 order by 1")
    assert found == [(table, True, 1) for table in tables]
    [(before,)] = ask(settings, "select count(*) from datasets.policy_metric")
    twice = pa.Table.from_pylist([{"policy_version": "v", "kind": "metric", "contender": "policy", "name": "log_loss", "value": value} for value in (0.1, 0.2)])
    with pytest.raises(PromiseBroken, match="grain_unique"):
        promotion._replace(settings, Lake(settings), "datasets.policy_metric", twice, "true")
    assert ask(settings, "select count(*) from datasets.policy_metric") == [(before,)]


def test_a_log_that_cannot_tell_is_refused(tmp_path):
    """`tiny` is the best and was hardly ever tried: what it would do is not in the log."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    judged = train(logged(settings, drawn(3_000, seed=4, good={"legal": (0.2, 0.2, 0.99), "chat": (0.2, 0.2, 0.99)}, chances=(0.7, 0.28, 0.02))))
    assert judged.status == "refused"
    assert not (settings.policies / "champion.json").exists()


def test_a_refusal_names_the_model(tmp_path):
    """The log claims that all models were asked alike, though `large` was asked most."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    false = drawn(2_000, seed=6, good=BETTER, chances=(0.6, 0.2, 0.2))
    place = false.schema.get_field_index("propensity_share")
    judged = train(logged(settings, false.set_column(place, "propensity_share", pa.array([1 / 3] * len(false)))))
    assert judged.status == "refused"
    assert any("large was logged more often than its logged propensities say" in reason for reason in judged.reasons), judged.reasons
    assert "large was logged more often" in (judged.folder / "card.md").read_text()


def test_too_little_is_told_by_the_step_it_was_lost_at(tmp_path):
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    with pytest.raises(TooLittle, match="120 calls that were a choice"):
        train(logged(settings, drawn(120, seed=5, good=BETTER)))
    few = drawn(120, seed=5, good=BETTER)
    with pytest.raises(TooLittle, match=r"no call has a cost; bring in prices \(flywheel prices\), then flywheel build; 0 calls of 0 models"):
        train(logged(settings, with_column(few, "list_cost_usd", [None] * 120)))


def test_why_a_log_is_too_little_is_said_and_nothing_else(tmp_path):
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB")
    with pytest.raises(NotConfigured, match="run: flywheel build, then flywheel routing train"):
        train(settings)
    log = drawn(800, seed=5, good=BETTER)
    for column, value, told in (
        ("list_cost_usd", None, "no call has a cost"), ("is_matured", False, "no call's outcome is final yet; flywheel build"), ("reward", None, "no call has a known outcome"),
    ):  # fmt: skip
        with pytest.raises(TooLittle, match=told) as stopped:
            train(logged(settings, with_column(log, column, [value] * 800)))
        assert "at least 500" not in str(stopped.value)


def test_what_a_call_is_worth_changes_the_choice(tmp_path):
    """At 2 cents for a call that does its job, the dear model is no longer worth it."""
    settings = Settings(home=tmp_path, threads=2, memory_limit="400MB", routing=Routing(willingness_to_pay_usd=0.02))
    judged = train(logged(settings, drawn(4_000, seed=6, good={"legal": (0.9, 0.8, 0.2), "chat": (0.9, 0.8, 0.2)})))
    policy = Policy.load(Path(judged.folder) / "policy.json")
    assert policy.probabilities("clause clause number 7", "legal")["small"] > 0.9
