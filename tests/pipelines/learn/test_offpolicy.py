"""Off-policy evaluation: figures worked out on paper, what must not change them, logs that must be refused, and intervals against the truth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.errors import StopTheLine
from pipelines.learn.exploration import advise
from pipelines.learn.intervals import Terms, empirical_bernstein, influence, normal, skewed, value
from pipelines.learn.logged_data import PENALTIES, LoggedData, _ridge, fit_reward
from pipelines.learn.offpolicy import NO_INTERVAL, Evaluation, OffPolicy
from pipelines.learn.propensity import _steps, estimate_propensity
from pipelines.learn.support import Diagnostics, Regions, Verdict, diagnose, look_for_regions, verdict

EYE = np.eye(3)


@dataclass
class Calls:
    """Calls with three arms, of which the third suits most; `reward` is known for all arms, `logged` shows one."""

    logged: LoggedData
    logging: np.ndarray
    reward: np.ndarray
    target: np.ndarray

    @property
    def truth(self) -> float:
        """The target's mean reward on these very calls."""
        return float((self.target * self.reward).sum(axis=1).mean())


def calls(n: int = 4_000, *, seed: int = 0, epsilon: float = 0.3, logging: np.ndarray | None = None, cluster: np.ndarray | None = None) -> Calls:
    rng = np.random.default_rng(seed)
    context = rng.standard_normal((n, 4))
    chance = 1 / (1 + np.exp(-context[:, :3] - [0.0, 0.3, 0.6]))
    reward = (rng.random((n, 3)) < chance).astype(float)
    logging = (1 - epsilon) * EYE[(context[:, 3] > 0).astype(int)] + epsilon / 3 if logging is None else logging
    action = (rng.random((n, 1)) > logging.cumsum(axis=1)[:, :-1]).sum(axis=1)
    rows = np.arange(n)
    logged = LoggedData(context, action, reward[rows, action], logging[rows, action], 3, cluster=cluster)
    return Calls(logged, logging, reward, EYE[chance.argmax(axis=1)])


def judged(logged: LoggedData, policy: np.ndarray, **more: object) -> Evaluation:
    return OffPolicy(logged, **more).evaluate(policy)


def weighed(logged: LoggedData, policy: np.ndarray, regions: Regions | None = None) -> tuple[Diagnostics, Verdict]:
    """What the weights say, without a figure; and without a look for regions, unless they are given."""
    found = diagnose(logged, policy, regions or Regions(np.zeros((len(logged), logged.action_count), dtype=bool), 0.0))
    return found, verdict(found)


# ---- worked out on paper --------------------------------------------------------------------------------------------------------------------

#                      action  reward  propensity  target's probabilities  weight
# a question            0       1       0.5         1    0                  2
# the next              1       0       0.25        0    1                  4
# the next              0       0       0.5         0.5  0.5                1
# the last              1       1       0.5         0.2  0.8                1.6
FOUR = LoggedData(np.zeros((4, 1)), np.array([0, 1, 0, 1]), np.array([1, 0, 0, 1]), np.array([0.5, 0.25, 0.5, 0.5]), 2)
FOUR_TARGET = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.2, 0.8]])
FOUR_PREDICTED = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("estimator", "figure"),
    [
        ("dm", 0.5),
        ("ips", (2 + 1.6) / 4),
        ("snips", (2 + 1.6) / 8.6),
        ("dr", 0.5 + (2 * 0.5 - 4 * 0.5 - 1 * 0.5 + 1.6 * 0.5) / 4),
        ("sndr", 0.5 + (2 * 0.5 - 4 * 0.5 - 1 * 0.5 + 1.6 * 0.5) / 8.6),
    ],
)
def test_estimators_by_hand(estimator: str, figure: float) -> None:
    assert judged(FOUR, FOUR_TARGET, predicted=FOUR_PREDICTED).reward[estimator].value == pytest.approx(figure)


def test_standard_errors_by_hand() -> None:
    # DR scores of the four rows: 0.5 + (1, -2, -0.5, 0.8); their mean's standard error is s.d. / √n.
    scores = 0.5 + np.array([1, -2, -0.5, 0.8])
    alone = judged(FOUR, FOUR_TARGET, predicted=FOUR_PREDICTED).reward["dr"]
    assert alone.standard_error == pytest.approx(scores.std(ddof=1) / 2)
    # Two traces of two rows: the same of the traces' means.
    paired = judged(replace(FOUR, cluster=["a", "a", "b", "b"]), FOUR_TARGET, predicted=FOUR_PREDICTED).reward["dr"]
    assert paired.standard_error == pytest.approx(np.array([scores[:2].mean(), scores[2:].mean()]).std(ddof=1) / np.sqrt(2))


def test_diagnostics_by_hand() -> None:
    found = judged(FOUR, FOUR_TARGET, predicted=FOUR_PREDICTED)
    assert found.diagnostics.effective_sample_size == pytest.approx(8.6**2 / (4 + 16 + 1 + 2.56))
    assert found.diagnostics.max_weight_share == pytest.approx(4 / 8.6)
    assert found.diagnostics.mean_weight == pytest.approx(2.15)
    assert found.diagnostics.min_propensity == 0.25
    assert not found.verdict.can_tell


def test_the_logging_policy_itself_earned_the_mean_reward() -> None:
    made = calls(500)
    found = judged(replace(made.logged, propensity=made.logging), made.logging)
    for estimator in ("ips", "snips"):
        assert found.reward[estimator].value == pytest.approx(made.logged.reward.mean())
    assert found.diagnostics.effective_sample_size == pytest.approx(500)
    assert found.diagnostics.unsupported_share == 0


# ---- what must not change the figures ------------------------------------------------------------------------------------------------------

EXACT = ("dm", "ips", "snips", "dr", "sndr", "switch_dr")


def test_relabelled_arms_change_nothing() -> None:
    made, order = calls(1_000), np.array([2, 0, 1])
    plain = judged(made.logged, made.target)
    swapped = judged(replace(made.logged, action=np.argsort(order)[made.logged.action], candidates=None), made.target[:, order])
    for name in EXACT:
        assert swapped.reward[name].value == pytest.approx(plain.reward[name].value)
    assert swapped.diagnostics.effective_sample_size == pytest.approx(plain.diagnostics.effective_sample_size)


def test_scaled_and_shifted_rewards_scale_and_shift_the_figures() -> None:
    made = calls(1_000)
    plain = judged(made.logged, made.target)
    moved = judged(replace(made.logged, reward=0.2 + 0.5 * made.logged.reward), made.target)
    for name in ("dm", "snips", "dr", "sndr"):
        assert moved.reward[name].value == pytest.approx(0.2 + 0.5 * plain.reward[name].value, abs=2e-3), name
    assert moved.reward["snips"].interval.low == pytest.approx(0.2 + 0.5 * plain.reward["snips"].interval.low)


def test_rows_said_twice_in_one_trace_say_nothing_new() -> None:
    made = calls(1_000)
    once = judged(made.logged, made.target, predicted=(q := fit_reward(made.logged)))
    two = np.repeat(np.arange(1_000), 2)
    doubled = LoggedData(made.logged.context[two], made.logged.action[two], made.logged.reward[two], made.logged.propensity[two], 3, cluster=two)
    twice = judged(doubled, made.target[two], predicted=q[two])
    for name in ("ips", "snips", "dr", "sndr"):
        assert twice.reward[name].interval.low == pytest.approx(once.reward[name].interval.low)
        assert twice.reward[name].interval.high == pytest.approx(once.reward[name].interval.high)
    assert twice.diagnostics.effective_sample_size == pytest.approx(once.diagnostics.effective_sample_size)
    naive = judged(replace(doubled, cluster=None), made.target[two], predicted=q[two])
    assert naive.reward["dr"].standard_error < 0.75 * once.reward["dr"].standard_error


@given(st.lists(st.integers(0, 12), min_size=40, max_size=80))
def test_a_trace_is_never_on_both_sides_of_a_fold(trace: list[int]) -> None:
    n = len(trace)
    logged = LoggedData(np.zeros((n, 1)), np.zeros(n), np.zeros(n), np.ones(n), 2, cluster=[*trace[:-3], "x", "y", "z"])
    folds = np.stack(list(logged.folds()))
    assert (folds.sum(axis=0) == 1).all()
    for fold in folds:
        assert not set(logged.cluster[fold]) & set(logged.cluster[~fold])


def test_the_same_seed_gives_the_same_figures() -> None:
    made = calls(600)
    [one, two] = [judged(made.logged, made.target, method="bootstrap", seed=3).reward for _ in range(2)]
    assert one == two


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1), st.floats(0.05, 1), st.integers(0, 2)), min_size=2, max_size=30))
def test_a_self_normalised_figure_is_never_outside_what_was_seen(rows: list[tuple[int, float, float, int]]) -> None:
    action, reward, propensity, wanted = (np.array(column) for column in zip(*rows, strict=True))
    logged = LoggedData(np.zeros((len(rows), 1)), action, reward, propensity, 3)
    found = judged(logged, EYE[wanted], predicted=np.full((len(rows), 3), 0.5))
    agreed = reward[action == wanted]
    if agreed.size == 0:
        assert np.isnan(found.reward["snips"].value)
        assert found.reward["snips"].interval is None
    else:
        assert agreed.min() - 1e-9 <= found.reward["snips"].value <= agreed.max() + 1e-9
    assert found.diagnostics.effective_sample_size <= agreed.size + 1e-9
    assert not found.verdict.can_tell


# ---- logs that cannot be what they say ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reward": [1, np.nan, 0, 1]}, "reward: 1 of 4 rows are missing, infinite or no numbers; the first is row 1"),
        ({"reward": [1, 0, 0, 1.5]}, "outside 0..1"),
        ({"reward": ["good", "bad", "bad", "good"]}, "reward is not numbers"),
        ({"propensity": [0.5, 0, 0.5, 0.5]}, r"propensity: 1 of 4 rows are not in \(0, 1\]"),
        ({"propensity": [0.5, 0.5, 0.5, 1.2]}, "first is row 3"),
        ({"propensity": [[0.5, 0.4]] * 4}, "sum to one"),
        ({"context": np.full((4, 1), np.inf)}, "context: 4 of 4"),
        ({"context": np.zeros((3, 1))}, "context has the shape"),
        ({"action": [0, 1, 2, 0]}, "not a number from 0 to 1"),
        ({"action": [0, 1, 0.5, 0]}, "not a number from 0 to 1"),
        ({"candidates": [[True, False]] * 4}, "chosen though it was no candidate"),
        ({"cost_usd": [0.1, -0.1, 0, 0]}, "below zero"),
        ({"cluster": [1, 2]}, "cluster has the shape"),
        ({"cluster": ["a", None, "b", "b"]}, "cluster: 1 of 4 rows are missing"),
        ({"cluster": np.array(["a", 1, 2, 3], dtype=object)}, "cluster mixes kinds"),
        ({"propensity": [0.5, 0.5, 0.5, 1e-300]}, "propensity: 1 of 4 rows are below 1e-12"),
        ({"context": np.full((4, 1), 1e200)}, r"context: 4 of 4 rows are beyond 1e\+30"),
        ({"cost_usd": [0.1, 0.1, 0, 1e300]}, r"cost_usd: 1 of 4 rows are below zero or beyond 1e\+30"),
        ({"action_count": 1, "action": [0] * 4}, "nothing|no decision to judge"),
        ({"propensity_kind": "guessed"}, "'logged' or 'estimated'"),
    ],
)
def test_poison_is_named(change: dict, says: str) -> None:
    given = {"context": FOUR.context, "action": FOUR.action, "reward": FOUR.reward, "propensity": FOUR.propensity, "action_count": 2}
    with pytest.raises(StopTheLine, match=says):
        LoggedData(**given | {name: np.asarray(v) if isinstance(v, list) else v for name, v in change.items()})


def test_no_rows_and_wrong_policies_are_named() -> None:
    with pytest.raises(StopTheLine, match="no logged decisions"):
        LoggedData(np.zeros((0, 1)), np.zeros(0), np.zeros(0), np.zeros(0), 2)
    with pytest.raises(StopTheLine, match="policy: 1 of 4 rows are not probabilities"):
        judged(FOUR, np.array([[1, 0], [0, 1], [0.5, 0.6], [1, 0]]))
    with pytest.raises(StopTheLine, match="clusters cannot make"):
        judged(replace(FOUR, cluster=np.zeros(4)), FOUR_TARGET)
    with pytest.raises(StopTheLine, match="no interval method"):
        judged(FOUR, FOUR_TARGET, method="exact")
    with pytest.raises(StopTheLine, match="a classifier as reward model needs"):
        fit_reward(replace(FOUR, reward=FOUR.reward / 2), LogisticRegression())


# ---- the reward model --------------------------------------------------------------------------------------------------------------------------


@given(st.integers(12, 60), st.integers(1, 30), st.floats(0.01, 3), st.integers(0, 99))
def test_the_ridge_is_that_of_scikit_learn(n: int, features: int, signal: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, features)) * rng.choice([0, 1, 10], features)
    y = signal * X[:, 0] + rng.standard_normal(n)
    slopes, level = _ridge(X, y)
    reference = RidgeCV(PENALTIES).fit(X, y)
    assert X @ slopes + level == pytest.approx(reference.predict(X), abs=1e-8)


def test_a_rarely_chosen_action_borrows_what_makes_a_call_hard() -> None:
    logging = np.tile([0.495, 0.495, 0.01], (3_000, 1))
    made = calls(3_000, logging=logging)
    chance = 1 / (1 + np.exp(-made.logged.context[:, 0] - 0.6))
    hard = replace(made.logged, reward=np.where(made.logged.action == 2, chance > 0.5, chance).astype(float))
    plain = fit_reward(hard, make_pipeline(StandardScaler(), RidgeCV(PENALTIES)))[:, 2]
    borrowed = fit_reward(hard)[:, 2]
    assert ((borrowed - chance) ** 2).mean() < 0.8 * ((plain - chance) ** 2).mean()


# ---- hostile logs: a figure or a refusal, no crash and no warning of the arithmetic's -----------------------------------------------------------

HOSTILE = {
    "all rewards one": {"reward": np.ones(2_000)},
    "all rewards zero, all free": {"reward": np.zeros(2_000), "cost_usd": np.zeros(2_000)},
    "one action only": {"action": np.zeros(2_000)},
    "one action, for certain": {"action": np.zeros(2_000), "propensity": np.ones(2_000)},
    "one huge trace": {"cluster": np.maximum(np.arange(2_000) - 1_900, 0)},
    "three traces": {"cluster": np.arange(2_000) % 3},
    "two rows, a thousand times": {"rows": np.repeat([0, 1], 1_000)},
    "one enormous weight": {"action": np.arange(2_000) % 3, "propensity": np.where(np.arange(2_000) == 6, 1e-12, 1 / 3)},
    "only enormous weights": {"propensity": np.full(2_000, 1e-12)},
    "a context that says nothing": {"context": np.zeros((2_000, 4))},
    "no context": {"context": np.zeros((2_000, 0))},
    "huge and tiny features": {"context": np.random.default_rng(1).standard_normal((2_000, 2)) * [1e29, 1e-200]},
    "huge costs": {"cost_usd": np.where(np.arange(2_000) == 7, 0, 1e29)},
    "two hundred actions": {"action_count": 200, "propensity": np.full(2_000, 1 / 200)},
    "three rows": {"rows": [0, 1, 2]},
    "five rows": {"rows": [0, 1, 2, 3, 4]},
}
SOUND = {"one action, for certain", "a context that says nothing", "no context", "huge and tiny features", "huge costs"}


def _hostile(what: str) -> LoggedData:
    rng, change = np.random.default_rng(0), dict(HOSTILE[what])
    given = {
        "context": rng.standard_normal((2_000, 4)), "action": rng.integers(0, 3, 2_000), "reward": (rng.random(2_000) < 0.5).astype(float), "propensity": np.full(2_000, 1 / 3),
        "action_count": 3,
    }
    rows = change.pop("rows", slice(None))
    return LoggedData(**{name: value[rows] if isinstance(value, np.ndarray) else value for name, value in (given | change).items()})


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_logs_give_a_figure_or_a_refusal(what: str) -> None:
    logged = _hostile(what)
    policy = np.eye(logged.action_count)[np.zeros(len(logged), dtype=int)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = OffPolicy(logged)
        for method in ("skewed", "normal", "bootstrap", "empirical_bernstein"):
            judge = OffPolicy(logged, method=method, predicted=first.predicted)
            judge.regions = first.regions
            found, same, against = judge.evaluate(policy), judge.compare(policy, policy), judge.compare(None, policy)
            assert np.isfinite(found.reward["dr"].value)
            assert np.isfinite(found.diagnostics.effective_sample_size)
            assert found.verdict.can_tell == (what in SOUND), found.verdict.reasons
            assert same.better is None
            assert against.better is None


def test_outcomes_that_are_all_alike_have_no_interval() -> None:
    found = judged(_hostile("all rewards one"), np.eye(3)[np.zeros(2_000, dtype=int)])
    assert found.reward["dr"].value == pytest.approx(1)
    assert all(one.interval is None for one in found.reward.values())
    assert "all outcomes in the log are alike" in found.reward["dr"].because
    assert found.verdict.reasons == ("all rewards are alike: nothing shows how much they can differ, so none is better than another",)


# ---- what the logs cannot tell is refused -----------------------------------------------------------------------------------------------------


def test_logs_in_order_are_told_and_the_figure_is_near() -> None:
    made = calls()
    found = judged(made.logged, made.target)
    assert found.verdict.can_tell, found.verdict.reasons
    assert found.reward["dr"].value == pytest.approx(made.truth, abs=0.05)
    assert {name for name, estimate in found.reward.items() if estimate.interval is None} == set(NO_INTERVAL)
    assert "17-32 %" in found.reward["dm"].because
    assert found.cost_usd is None


def test_checks_of_propensities_leave_true_ones_alone() -> None:
    """Not only is none refused: what is looked at scatters as chance would have it, so that few false alarms are to come."""
    scores = []
    for seed in range(20):
        made = calls(1_500, seed=seed, epsilon=0.4)
        found, said = weighed(made.logged, made.target, look_for_regions(made.logged))
        assert said.can_tell, said.reasons
        assert found.unseen_region_share == 0
        assert found.likelihood_z < 0
        scores.append([found.mean_weight_z, *found.action_z, *found.candidate_z])
    assert 0.75 < np.sqrt(np.nanmean(np.square(scores))) < 1.15


def test_a_target_that_hardly_ever_asks_for_an_arm_raises_no_false_alarm() -> None:
    # The third arm is the rule's on few calls, and the target wants it there and on some more, of which often none was logged by chance.
    n, refused = 20_000, 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        context = rng.random((n, 1))
        logging = 0.95 * EYE[np.where(context[:, 0] < 0.006, 2, 0)] + 0.05 / 3
        action = (rng.random((n, 1)) > logging.cumsum(axis=1)[:, :-1]).sum(axis=1)
        logged = LoggedData(context, action, rng.random(n), logging[np.arange(n), action], 3)
        _, said = weighed(logged, EYE[np.where(context[:, 0] < 0.008, 2, 0)])
        refused += any("often than its" in reason for reason in said.reasons)
    assert refused == 0


def test_few_heavy_calls_by_chance_are_not_taken_for_much_data() -> None:
    # A tenth of the target's choices were logged with 0.05: six heavy calls or so decide, and the fewer there are, the larger the sample seems.
    told, few = [], []
    for seed in range(30):
        rng, n = np.random.default_rng(seed), 1_200
        context = rng.random((n, 1))
        logging = np.tile([0.95, 0.05], (n, 1))
        action = (rng.random(n) > 0.95).astype(int)
        logged = LoggedData(context, action, rng.random(n), logging[np.arange(n), action], 2)
        found, said = weighed(logged, np.eye(2)[(context[:, 0] < 0.1).astype(int)])
        weight = (np.where(context[:, 0] < 0.1, action == 1, action == 0) / logged.propensity) ** 2
        assert found.effective_heavy_count == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
        assert found.effective_sample_size > 200
        told.append(said.can_tell)
        few.append(any(reason.startswith("what is heavy weighs as much as") for reason in said.reasons))
    assert sum(told) <= 3
    assert sum(few) >= 25


def _never(made: Calls) -> LoggedData:
    """The third arm was never logged; propensities are those of the other two."""
    logging = made.logging[:, :2] / made.logging[:, :2].sum(axis=1, keepdims=True)
    return calls(logging=np.column_stack([logging, np.zeros(len(logging))])).logged


def _certain(made: Calls) -> LoggedData:
    """No exploring where the fourth feature is high: the log says so."""
    logging = np.where(made.logged.context[:, [3]] > 1, EYE[[0]], made.logging)
    return calls(logging=logging).logged


def _claimed(made: Calls) -> LoggedData:
    """The same, but the log claims that it explored."""
    logging = np.where(made.logged.context[:, [3]] > 1, EYE[[0]], made.logging)
    true = calls(logging=logging).logged
    return replace(true, propensity=made.logging[np.arange(len(true)), true.action])


def _left_out(made: Calls) -> LoggedData:
    """One arm left out in a region, its share given to the others; all propensities are true, none is certain."""
    logging = np.where(made.logged.context[:, [3]] > 1, [[0.5, 0.5, 0.0]], made.logging)
    return calls(logging=logging).logged


@pytest.mark.parametrize("plant", [_never, _certain, _claimed, _left_out])
def test_a_target_without_support_is_refused(plant: object) -> None:
    made = calls()
    verdict = judged(plant(made), made.target).verdict
    assert not verdict.can_tell
    assert "where that action was not logged" in " ".join(verdict.reasons) or "no chance to be logged" in " ".join(verdict.reasons), verdict.reasons


def test_known_probabilities_of_all_arms_show_what_has_no_chance() -> None:
    made = calls()
    logging = np.where(made.logged.context[:, [3]] > 2.5, [[0.5, 0.5, 0.0]], made.logging)
    logged = calls(logging=logging).logged
    found = judged(replace(logged, propensity=logging), made.target)
    assert found.diagnostics.unsupported_share == pytest.approx(made.target[logging == 0].sum() / len(logged))
    assert 0 < found.diagnostics.unsupported_share < 0.01
    assert "no chance to be logged" in found.verdict.reasons[0]


def test_mass_on_what_was_no_candidate_is_refused() -> None:
    made = calls()
    candidates = np.ones((4_000, 3), dtype=bool)
    row = np.flatnonzero((made.logged.action != 2) & (made.target[:, 2] == 1))[0]
    candidates[row, 2] = False
    found = judged(replace(made.logged, candidates=candidates), made.target)
    assert found.diagnostics.unsupported_share == pytest.approx(1 / 4_000)
    assert not found.verdict.can_tell


def test_few_rows_heavy_traces_and_tiny_propensities_are_refused() -> None:
    assert "under 200" in judged(calls(400).logged, calls(400).target).verdict.reasons[0]
    made = calls()
    heavy = judged(replace(made.logged, cluster=np.where(np.arange(4_000) < 400, 0, np.arange(4_000))), made.target)
    assert "one trace carries" in " ".join(heavy.verdict.reasons)
    rare = calls(20_000, epsilon=0.015)
    assert "on propensities under 0.01" in " ".join(judged(rare.logged, rare.target, predicted=np.full((20_000, 3), 0.6)).verdict.reasons)


def test_wrong_propensities_are_refused() -> None:
    made = calls()
    even = judged(replace(made.logged, propensity=np.full(4_000, 1 / 3)), made.target)
    assert "a small tree foretells the logged actions better than the logged propensities" in " ".join(even.verdict.reasons)
    half = judged(replace(made.logged, propensity=made.logged.propensity / 2), made.target)
    assert "weights average 1.9" in " ".join(half.verdict.reasons)


# ---- estimated propensities ----------------------------------------------------------------------------------------------------------------------


def test_an_action_chosen_more_often_than_said_is_refused_whatever_the_target() -> None:
    # Which candidates a call had, the context does not say; the target never chooses the action that was preferred.
    rng, n = np.random.default_rng(3), 1_500
    candidates = rng.random((n, 4)).argsort(axis=1) < 3
    lean = candidates * [3.0, 1, 1, 1]
    logging = lean / lean.sum(axis=1, keepdims=True)
    action = (rng.random((n, 1)) > logging.cumsum(axis=1)[:, :-1]).sum(axis=1)
    target = np.where(candidates[:, 1:2], [0.0, 1, 0, 0], candidates * [0, 0, 0.5, 0.5])
    given = {"context": np.zeros((n, 1)), "action": action, "reward": rng.random(n), "action_count": 4, "candidates": candidates}
    true = LoggedData(propensity=logging[np.arange(n), action], **given)
    assert judged(true, target).verdict.can_tell
    false = LoggedData(propensity=np.full(n, 1 / 3), **given)
    for named, name in ((false, "action 0"), (replace(false, action_names=["large", "small", "tiny", "old"]), "large")):
        said = judged(named, target).verdict
        assert any(reason.startswith(f"{name} was logged more often than its logged propensities say wherever") for reason in said.reasons), said.reasons
    with pytest.raises(StopTheLine, match="1 action_names, where 4 are needed"):
        replace(false, action_names=["large"])


def test_estimated_propensities_are_near_and_say_that_they_are_estimated() -> None:
    made = calls()
    estimated = estimate_propensity(replace(made.logged, propensity=np.full(4_000, 0.123)))
    assert estimated.propensity_kind == "estimated"
    assert np.log(estimated.propensity).mean() == pytest.approx(np.log(made.logged.propensity).mean(), abs=0.05)
    found = judged(estimated, made.target)
    assert found.diagnostics.propensity_kind == "estimated"
    assert found.verdict.can_tell, found.verdict.reasons
    assert found.reward["dr"].value == pytest.approx(made.truth, abs=0.06)
    assert {name for name, estimate in found.reward.items() if estimate.interval is None} == {*NO_INTERVAL, "ips", "snips"}
    assert "estimated propensities alone" in found.reward["snips"].because
    small = calls(1_750)
    assert judged(small.logged, small.target).verdict.can_tell
    assert "under 250" in " ".join(judged(replace(small.logged, propensity_kind="estimated"), small.target).verdict.reasons)
    for n, is_refused in ((2_999, True), (3_000, False)):
        made = calls(n)
        reasons = judged(replace(made.logged, propensity_kind="estimated"), made.target).verdict.reasons
        assert any(reason.startswith(f"propensities are estimated from {n:,} calls") for reason in reasons) is is_refused


def test_estimated_propensities_keep_to_the_candidates() -> None:
    rng = np.random.default_rng(0)
    candidates = np.column_stack([np.ones(600, dtype=bool), rng.random((600, 2)) < 0.5])
    even = candidates / candidates.sum(axis=1, keepdims=True)
    made = calls(600, logging=even)
    estimated = estimate_propensity(replace(made.logged, candidates=candidates))
    assert (estimated.propensity[candidates.sum(axis=1) == 1] == 1).all()


def test_estimated_propensities_of_a_rule_are_its_shares() -> None:
    """Each limit fails without a part: the first unless candidates are looked at in pairs, the second and third uncalibrated, the third where
    steps may rest on a few choices."""
    # The rule takes the first candidate of an order that turns round at a threshold: what is greedy depends on which candidates there are.
    rng, n, k, epsilon = np.random.default_rng(1), 2_500, 4, 0.1
    context, candidates = rng.standard_normal((n, 3)), rng.random((n, k)).argsort(axis=1) < 2
    value = np.where(context[:, :1] > 0, np.arange(k), -np.arange(k))
    logging = (1 - epsilon) * np.eye(k)[np.where(candidates, value, -9).argmax(axis=1)] + epsilon * candidates / 2
    action = (rng.random((n, 1)) > logging.cumsum(axis=1)[:, :-1]).sum(axis=1)
    true = LoggedData(context, action, rng.random(n), logging[np.arange(n), action], k, candidates=candidates)
    estimated = estimate_propensity(replace(true, propensity=np.ones(n)), folds=2)
    target = np.eye(k)[np.where(candidates, rng.random((n, k)), -9).argmax(axis=1)]
    assert np.log(true.propensity / estimated.propensity).mean() < 0.01
    assert (target[np.arange(n), action] / estimated.propensity).mean() == pytest.approx(1, abs=0.06)
    # No weight is a guess: the smallest share is known from thirty choices.
    assert estimated.propensity.min() > epsilon / 4


def test_calibrated_steps_by_hand() -> None:
    # Shares of two levels, thirty choices at least a step: the lowest ten, of which one was chosen, are no step of their own.
    chance = np.repeat([0.01, 0.1, 0.9], [10, 390, 100])
    chosen = np.concatenate([np.arange(10) < 1, np.arange(390) < 47, np.arange(100) < 80])
    edges, share = _steps(chance, chosen)
    assert edges.tolist() == [0.01, 0.9]
    assert share.tolist() == [48 / 400, 0.8]


def test_one_action_alone_gives_no_propensities() -> None:
    logged = LoggedData(np.zeros((90, 1)), np.zeros(90), np.ones(90), np.ones(90), 2)
    with pytest.raises(StopTheLine, match="no exploration to learn from"):
        estimate_propensity(logged)


# ---- intervals ------------------------------------------------------------------------------------------------------------------------------------


def test_intervals_cover_and_false_wins_are_rare() -> None:
    """200 replications; 95 % ± 3 standard errors is 90.4..99.6 %. The long proof, reward model and all, is tests/benchmarks/offpolicy.py."""
    covered, wins, rows = {"snips": 0, "dr": 0, "sndr": 0}, 0, np.arange(800)

    def summed(terms: Terms) -> tuple[float, np.ndarray]:
        sums = terms.sums(rows, len(rows))
        return float(value(sums.sum(axis=0))), influence(sums)

    # Both arms are right half of the time, so that every policy that does not look at the call is worth 0.5. The reward model is a little off.
    for seed in range(200):
        rng = np.random.default_rng(seed)
        context = rng.standard_normal((800, 1))
        chance = np.clip(0.5 + np.column_stack([0.1 * context[:, 0], -0.1 * context[:, 0]]), 0, 1)
        predicted = chance + 0.1 * context
        action = (rng.random(800) < 0.15).astype(int)
        propensity = np.where(action == 1, 0.15, 0.85)
        reward = (rng.random(800) < chance[rows, action]).astype(float)
        weight, surprise = 0.5 / propensity, reward - predicted[rows, action]
        even = {
            "snips": Terms(None, weight * reward, weight), "dr": Terms(predicted.mean(axis=1), weight * surprise, None), "sndr": Terms(predicted.mean(axis=1), weight * surprise, weight),
        }
        found = {name: skewed(*summed(terms)) for name, terms in even.items()}
        for name, one in found.items():
            covered[name] += one.low <= 0.5 <= one.high
        [(ours, moves), (theirs, other_moves)] = summed(even["dr"]), summed(Terms(predicted[:, 0], (action == 0) / propensity * surprise, None))
        against = skewed(ours - theirs, moves - other_moves)
        wins += against.low > 0
    for name, count in covered.items():
        assert 0.904 <= count / 200 <= 0.996, name
    assert wins / 200 <= 0.05
    # They are what is told of a log.
    judge, one_half = OffPolicy(LoggedData(context, action, reward, propensity, 2), predicted=predicted), np.full((800, 2), 0.5)
    told, compared = judge.evaluate(one_half).reward, judge.compare(np.tile([1.0, 0.0], (800, 1)), one_half).difference
    for one, same in [*((one, told[name].interval) for name, one in found.items()), (against, compared.interval)]:
        assert (one.low, one.high) == pytest.approx((same.low, same.high))


def test_bootstrap_agrees_with_the_corrected_interval_and_bernstein_is_wider() -> None:
    made = calls(2_000)
    q = fit_reward(made.logged)
    by = {m: judged(made.logged, made.target, predicted=q, method=m).reward for m in ("skewed", "normal", "bootstrap", "empirical_bernstein")}
    for name in ("ips", "snips", "dr", "sndr"):
        plain, resampled = by["skewed"][name].interval, by["bootstrap"][name].interval
        assert resampled.low == pytest.approx(plain.low, abs=0.15 * (plain.high - plain.low))
        assert resampled.high == pytest.approx(plain.high, abs=0.15 * (plain.high - plain.low))
    bound, plain = by["empirical_bernstein"]["dr"].interval, by["normal"]["dr"].interval
    assert bound.low < plain.low < plain.high < bound.high
    assert by["empirical_bernstein"]["snips"].interval is None


def test_the_empirical_bernstein_bound_by_hand() -> None:
    scores = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    reach = np.sqrt(2 * 0.3 * np.log(80) / 5) + 7 * np.log(80) / (3 * 4)
    bound = empirical_bernstein(scores, np.ones(5), 1.0)
    assert (bound.low, bound.high) == (pytest.approx(0.6 - reach), pytest.approx(0.6 + reach))


def test_skewed_sums_move_the_interval_to_the_side_of_their_long_tail() -> None:
    scores = np.random.default_rng(0).exponential(size=40)
    sums = Terms(None, scores, None).sums(np.arange(40), 40)
    estimate, moves = float(value(sums.sum(axis=0))), influence(sums)
    plain, corrected, mirrored = normal(estimate, moves), skewed(estimate, moves), skewed(-estimate, -moves)
    assert corrected.low > plain.low
    assert corrected.high > plain.high
    assert (mirrored.low, mirrored.high) == (pytest.approx(-corrected.high), pytest.approx(-corrected.low))


# ---- two policies, costs, advice ----------------------------------------------------------------------------------------------------------------------


def test_a_better_policy_is_found_and_the_same_policy_is_not_better() -> None:
    made = calls()
    judge = OffPolicy(made.logged)
    worse = np.tile(EYE[0], (4_000, 1))
    found = judge.compare(worse, made.target)
    assert found.better is True
    assert found.difference.interval.low <= made.truth - made.reward[:, 0].mean() <= found.difference.interval.high
    assert judge.compare(made.target, worse).better is False
    assert judge.compare(made.target, worse).difference.value == pytest.approx(-found.difference.value)
    same = judge.compare(made.target, made.target)
    assert (same.better, same.difference.value, same.difference.standard_error) == (None, 0, 0)
    against_logged = judge.compare(None, made.target)
    assert against_logged.better is True
    assert against_logged.difference.value == pytest.approx(judge.evaluate(made.target).reward["dr"].value - made.logged.reward.mean())


def test_a_comparison_is_refused_where_either_side_is() -> None:
    made = calls(400)
    found = OffPolicy(made.logged).compare(np.tile(EYE[0], (400, 1)), made.target)
    assert found.better is None
    assert {reason[:2] for reason in found.verdict.reasons} == {"A:", "B:"}
    with pytest.raises(StopTheLine, match="choose one with an interval: ips, snips, dr, sndr"):
        OffPolicy(made.logged).compare(None, made.target, estimator="dm")


def test_costs_are_estimated_as_rewards_are() -> None:
    made = calls()
    price = np.array([0.001, 0.01, 0.03])
    found = judged(replace(made.logged, cost_usd=price[made.logged.action]), made.target)
    truth = float((made.target @ price).mean())
    assert found.cost_usd["dr"].value == pytest.approx(truth, rel=1e-3)
    assert found.cost_usd["snips"].interval.low <= truth <= found.cost_usd["snips"].interval.high


def test_advice_promises_what_exploring_then_gives() -> None:
    made = calls(seed=1)
    greedy = EYE[(made.logged.context[:, 3] > 0).astype(int)]
    price = np.tile([0.001, 0.01, 0.03], (4_000, 1))
    advice = advise(
        made.logged, greedy, made.target, fit_reward(made.logged), calls_per_day=2_000, days=2, epsilons=(0.1, 0.3), predicted_cost_usd=price
    )
    assert advice[0].half_width > advice[1].half_width > 0
    assert advice[0].detectable_difference > advice[1].detectable_difference
    assert advice[1].regret == pytest.approx(3 * advice[0].regret)
    assert advice[0].extra_cost_usd == pytest.approx(0.1 * (price[0].mean() - (greedy @ price[0]).mean()))
    for row in advice:
        then = calls(row.call_count, seed=2, epsilon=row.epsilon_share)
        found = judged(then.logged, then.target)
        assert found.diagnostics.effective_sample_size == pytest.approx(row.effective_sample_size, rel=0.15)
        assert 1.96 * found.reward["dr"].standard_error == pytest.approx(row.half_width, rel=0.15)
    with pytest.raises(StopTheLine, match="no candidate"):
        advise(replace(made.logged, candidates=np.eye(3)[made.logged.action] > 0), greedy, made.target, fit_reward(made.logged), calls_per_day=1)
