"""A log of decisions in a file of one's own: what would another policy have earned?

    judged = evaluate_file(settings, "log.parquet")
    judged.evaluation.verdict.can_tell, judged.evaluation.reward["dr"].interval, judged.against_logged.better

One row a decision. `action` names what was chosen, `propensity` is the probability it was chosen with, `reward` what came of it, in 0..1. The
target is `target`, the action it would choose, or `target_<action>`, its probability of each action. Where there are `logging_<action>`
columns, they are the probabilities of all actions when the choice was made and stand for `propensity`. `candidates` (a list, or a JSON array)
names what could be chosen at all, `cluster` the trace or tenant, `cost_usd` the cost, `context_*` what was known before the choice.

Of the columns that begin with `target_`, those are probabilities whose name ends with a logged action, and beside such all that lie within
0..1: an action may never have been logged. So a column `logging_policy` or `target_ms` is something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import numpy as np

from pipelines.contracts import literal, quoted
from pipelines.engine import connect
from pipelines.errors import StopTheLine
from pipelines.learn.exploration import Exploration, advise
from pipelines.learn.logged_data import LoggedData, probabilities
from pipelines.learn.offpolicy import Comparison, Estimate, Evaluation, OffPolicy
from pipelines.learn.propensity import estimate_propensity
from pipelines.settings import Settings

READERS = {
    ".parquet": "read_parquet({})", ".csv": "read_csv({})", ".csv.gz": "read_csv({})",
    ".jsonl": "read_json({}, format = 'newline_delimited')", ".jsonl.gz": "read_json({}, format = 'newline_delimited')",
}
MOST_VALUES = 50
"""A text with more distinct values than this is no category."""
FEWEST_FOR_ADVICE = 100


@dataclass(frozen=True)
class Columns:
    """Names of columns. None: the usual name where it is there, else without; an empty one: without. `target`, `against` and `logging` also stand
    for `<name>_<action>`."""

    action: str = "action"
    reward: str = "reward"
    propensity: str = "propensity"
    target: str = "target"
    against: str | None = None
    logging: str = "logging"
    context: tuple[str, ...] | None = None
    cluster: str | None = None
    candidates: str | None = None
    cost_usd: str | None = None


@dataclass(frozen=True, eq=False)
class JudgedFile:
    """What the file says of the target. `advice` is empty where the log does not show which choice was the likelier, or what could be gained.
    Cost is judged only where each row has one; `unknown_cost_count` rows have none."""

    logged: LoggedData
    actions: list[str]
    unknown_reward_count: int
    unknown_cost_count: int
    has_context: bool
    evaluation: Evaluation
    against_logged: Comparison
    against: Comparison | None
    advice: list[Exploration]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is unknown is null."""
        return _plain({
            "row_count": len(self.logged), "unknown_reward_count": self.unknown_reward_count, "unknown_cost_count": self.unknown_cost_count,
            "actions": self.actions, "has_context": self.has_context,
            "can_tell": self.evaluation.verdict.can_tell, "reasons": self.evaluation.verdict.reasons, "logged_reward": float(self.logged.reward.mean()),
            "reward": {name: asdict(one) for name, one in self.evaluation.reward.items()},
            "cost_usd": None if self.evaluation.cost_usd is None else {name: asdict(one) for name, one in self.evaluation.cost_usd.items()},
            "against_logged": asdict(self.against_logged), "against": None if self.against is None else asdict(self.against),
            "diagnostics": asdict(self.evaluation.diagnostics), "advice": [asdict(one) for one in self.advice],
        })


def evaluate_file(settings: Settings, path: str, columns: Columns = Columns(), *, method: str = "skewed", estimated: bool = False, seed: int = 0) -> JudgedFile:
    """Judge the target of a Parquet, CSV or JSON Lines file (a path or a glob) by every estimator, against what was logged, and against another
    policy in the same file. `method`: of the intervals, see `OffPolicy`. `estimated`: propensities are estimated from the context, and those in the file, if any, not looked at.

    Raises `StopTheLine` where the file cannot be what it should be: columns that are missing, propensities outside (0, 1], probabilities that do
    not sum to one, values that are missing; rows are told as they stand in the file, the first is row 1. Rows whose reward is null are left out
    and counted.
    """
    with connect(settings) as con:
        table = _Table(con, path)
        try:
            logged, policies, actions, unknown = table.read(columns, estimated)
        except duckdb.Error as error:
            raise _unreadable(path, error) from error
    if estimated:
        logged = estimate_propensity(logged, seed=seed)
    judge = OffPolicy(logged, method=method, seed=seed)
    target, other = policies
    return JudgedFile(
        logged, actions, unknown, table.unknown_cost_count, table.has_context, judge.evaluate(target), judge.compare(None, target),
        None if other is None else judge.compare(other, target), _advice(judge, target),
    )


def _advice(judge: OffPolicy, target: np.ndarray) -> list[Exploration]:
    """As many calls again, logged by the likelier choice of then and a share ε of exploring.

    Without the probabilities of all actions, the likelier choice is known where what was chosen had more than one half. Such rows stand for all.
    """
    logged, rows = judge.logged, np.arange(len(judge.logged))
    if np.ptp(logged.reward) == 0:
        return []
    if logged.logging_policy is not None:
        greedy, known = logged.logging_policy.argmax(axis=1), rows
    else:
        greedy, known = logged.action, np.flatnonzero(logged.propensity > 0.5)
    if known.size < FEWEST_FOR_ADVICE:
        return []
    part = LoggedData(
        logged.context[known], logged.action[known], logged.reward[known], logged.propensity[known], logged.action_count, candidates=logged.candidates[known],
    )
    if (target[known] * ~part.candidates).any():
        return []
    cost = None if logged.cost_usd is None else judge.predicted_cost_usd[known]
    return advise(
        part, np.eye(logged.action_count)[greedy[known]], target[known], judge.predicted[known], calls_per_day=len(logged), days=1, predicted_cost_usd=cost,
    )


class _Table:
    """The file as DuckDB reads it; each column comes out as one array."""

    def __init__(self, con: duckdb.DuckDBPyConnection, path: str) -> None:
        reader = next((r for end, r in READERS.items() if path.lower().endswith(end)), None)
        if reader is None:
            raise StopTheLine(f"{path}: how to read it is told by its ending, one of {', '.join(READERS)}")
        self._con, self._path, self.has_context, self.unknown_cost_count = con, path, True, 0
        try:
            con.execute(f"create view log as select * from {reader.format(literal(path))}")
            self._types = {row[0]: str(row[1]) for row in con.execute("describe log").fetchall()}
        except duckdb.Error as error:
            raise _unreadable(path, error) from error

    def read(self, columns: Columns, estimated: bool) -> tuple[LoggedData, tuple[np.ndarray, np.ndarray | None], list[str], int]:
        """Decisions, target and other policy as n×k probabilities, names of the actions, and how many rows had no reward."""
        action, reward = self._need(columns.action, "action"), self._need(columns.reward, "reward")
        self._is_kept = f"{quoted(reward)} is not null"
        self._where = f"where {self._is_kept}"
        rows, kept, nameless = self._con.execute(
            f"select count(*), count({quoted(reward)}), count(*) filter ({quoted(reward)} is not null and {quoted(action)} is null) from log"
        ).fetchone()
        if nameless:
            raise StopTheLine(f"{self._path}: {action} is missing in {nameless:,} rows")
        if not kept:
            raise StopTheLine(f"{self._path}: {rows:,} rows, none with a {reward}: nothing can be said about any policy")
        self._against = columns.against
        self._seen = {name for (name,) in self._con.execute(f"select distinct cast({quoted(action)} as varchar) from log {self._where}").fetchall()}
        policies = [name for name in (columns.target, columns.against) if name]
        self._families = {name: self._family(name) for name in {*policies, columns.logging}}
        actions = sorted(self._seen.union(self._families[columns.logging], *(self._names(name) for name in policies)))
        if len(actions) > 1_000:
            raise StopTheLine(f"{self._path}: {action} has {len(actions):,} different values; it is to name what was chosen, such as a model")
        probability = [self._policy(name, actions) for name in policies]
        logging = None if estimated or not self._families[columns.logging] else self._chances(columns.logging, actions)
        if estimated:
            propensity = np.ones(kept)
        else:
            propensity = logging if logging is not None else self._numbers(self._need(columns.propensity, "propensity", "; or have it estimated from the context"))
        cluster, cost = self._have(columns.cluster, "cluster"), self._have(columns.cost_usd, "cost_usd")
        arrays = self._context(columns.context, kept), self._place(action, actions), self._numbers(reward), propensity, len(actions)
        more = {
            "candidates": self._candidates(columns, actions), "cluster": None if cluster is None else self._clusters(cluster),
            "cost_usd": None if cost is None else self._costs(cost), "action_names": actions,
        }
        with self._in_words_of_the_file():
            logged = LoggedData(*arrays, **more)
        return logged, (probability[0], probability[1] if columns.against else None), actions, rows - kept

    def _need(self, name: str, option: str, otherwise: str = "") -> str:
        if name not in self._types:
            raise StopTheLine(f"{self._path} has no column {name!r}: name it with --{option}{otherwise}. It has {', '.join(self._types)}")
        return name

    def _have(self, name: str | None, usual: str) -> str | None:
        if name:
            return self._need(name, usual.removesuffix("_usd"))
        if name is not None:
            return None
        return usual if usual in self._types else None

    def _row(self, place: int) -> int:
        """Where the row at a place of the arrays stands in the file, counted from 1: rows without a reward are not among them."""
        counted = f"select row_number() over () as file_row, {self._is_kept} as is_kept from log"
        return self._con.execute(f"select file_row from ({counted}) where is_kept order by file_row limit 1 offset {place}").fetchone()[0]

    @contextmanager
    def _in_words_of_the_file(self) -> Iterator[None]:
        """What is wrong with arrays, told of the file that they came from."""
        try:
            yield
        except StopTheLine as error:
            told = re.sub(r"(?<=the first is row )\d+", lambda found: f"{self._row(int(found[0])):,}", str(error))
            raise StopTheLine(f"{self._path}: {told}") from error

    def _starting(self, name: str) -> dict[str, str]:
        """Column by what follows `<name>_`."""
        return {column.removeprefix(f"{name}_"): column for column in self._types if column.startswith(f"{name}_")}

    def _family(self, name: str) -> dict[str, str]:
        """Column by action of `<name>_<action>`: of the logged actions, and beside these all that hold nothing but probabilities."""
        parts = self._starting(name)
        if not self._seen & parts.keys():
            return {}
        return {action: column for action, column in parts.items() if action in self._seen or self._within_one(column)}

    def _within_one(self, name: str) -> bool:
        if not _is_number(self._types[name]):
            return False
        return self._con.execute(f"select bool_and(coalesce({quoted(name)} between 0 and 1, false)) from log {self._where}").fetchone()[0]

    def _names(self, name: str) -> set[str]:
        if name not in self._types:
            return set(self._families[name])
        return {str(value) for (value,) in self._con.execute(f"select distinct cast({quoted(name)} as varchar) from log {self._where}").fetchall() if value is not None}

    def _policy(self, name: str, actions: list[str]) -> np.ndarray:
        """n×k: all on the action named in the column, or else what the columns of probabilities say."""
        if name in self._types:
            if missing := self._con.execute(f"select count(*) from log {self._where} and {quoted(name)} is null").fetchone()[0]:
                raise StopTheLine(f"{self._path}: {name} is missing in {missing:,} rows")
            return np.eye(len(actions))[self._place(name, actions).astype(int)]
        if not self._families[name]:
            self._need(name, "against" if name == self._against else "target", f", or give {name}_<action> columns of probabilities")
        return self._chances(name, actions)

    def _chances(self, name: str, actions: list[str]) -> np.ndarray:
        parts = self._families[name]
        if forgotten := [one for one in actions if one in self._seen and one not in parts]:
            raise StopTheLine(f"{self._path} has {name}_<action> columns, but none for the logged {', '.join(forgotten)}; give zeros where it is never chosen")
        chances = self._fetch([self._number(parts[one]) if one in parts else "0.0" for one in actions])
        with self._in_words_of_the_file():
            if (missing := ~np.isfinite(chances)).any():
                one = int(missing.any(axis=0).argmax())
                raise StopTheLine(f"{parts[actions[one]]} is missing or no number in {missing[:, one].sum():,} rows; the first is row {missing[:, one].argmax()}")
            return probabilities(" + ".join(parts.values()), chances, chances.shape)

    def _candidates(self, columns: Columns, actions: list[str]) -> np.ndarray | None:
        name = self._have(columns.candidates, "candidates")
        if name is None:
            return None
        listed = f"from_json({quoted(name)}, '[\"varchar\"]')" if self._types[name] in ("VARCHAR", "JSON") else f"cast({quoted(name)} as varchar[])"
        return self._fetch([f"coalesce(cast(list_contains({listed}, {literal(one)}) as double), 0)" for one in actions]).astype(bool)

    def _context(self, names: tuple[str, ...] | None, kept: int) -> np.ndarray:
        chosen = list(self._starting("context").values()) if names is None else [self._need(name, "context") for name in names]
        features = []
        for name in chosen:
            kind, column = self._types[name], quoted(name)
            if kind == "VARCHAR" or kind.startswith("ENUM"):
                values = [v for (v,) in self._con.execute(f"select distinct cast({column} as varchar) from log {self._where} order by 1 limit {MOST_VALUES + 1}").fetchall()]
                if len(values) > MOST_VALUES:
                    raise StopTheLine(f"{self._path}: {name} has more than {MOST_VALUES} different texts; give numbers or a category")
                features += [f"cast(cast({column} as varchar) is not distinct from {'null' if v is None else literal(v)} as double)" for v in values]
                continue
            if not (kind == "BOOLEAN" or _is_number(kind)):
                raise StopTheLine(f"{self._path}: {name} is {kind}; what was known before the choice is given as numbers, booleans or short categories")
            features.append(f"coalesce(cast({column} as double), 0)")
            if self._con.execute(f"select bool_or({column} is null) from log {self._where}").fetchone()[0]:
                features.append(f"cast({column} is null as double)")
        self.has_context = bool(features)
        return self._fetch(features) if features else np.zeros((kept, 0))

    def _clusters(self, name: str) -> np.ndarray:
        """A number by label; a row without one stands alone."""
        found = self._con.execute(
            f"""select dense_rank() over (order by label, case when label is null then file_row end) as number
            from (select {quoted(name)} as label, row_number() over () as file_row from log {self._where}) order by file_row"""
        ).fetchnumpy()
        return np.asarray(found["number"])

    def _place(self, name: str, actions: list[str]) -> np.ndarray:
        listed = ", ".join(literal(one) for one in actions)
        return self._fetch([f"cast(list_position([{listed}], cast({quoted(name)} as varchar)) - 1 as double)"])[:, 0]

    def _number(self, name: str) -> str:
        return f"coalesce(try_cast({quoted(name)} as double), cast('nan' as double))"

    def _numbers(self, name: str) -> np.ndarray:
        return self._fetch([self._number(name)])[:, 0]

    def _costs(self, name: str) -> np.ndarray | None:
        """None, and counted, where rows have no cost: of what the others cost, nothing is known of these."""
        costs = self._numbers(name)
        self.unknown_cost_count = int(np.isnan(costs).sum())
        return None if self.unknown_cost_count else costs

    def _fetch(self, expressions: list[str]) -> np.ndarray:
        """n×expressions, in the order of the file."""
        select = ", ".join(f"{e} as c{n}" for n, e in enumerate(expressions))
        found = self._con.execute(f"select {select} from log {self._where}").fetchnumpy()
        return np.column_stack([np.asarray(found[f"c{n}"], dtype=np.float64) for n in range(len(expressions))])


_NUMERIC = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE"}


def _is_number(kind: str) -> bool:
    return kind.startswith("DECIMAL") or kind in _NUMERIC


def _unreadable(path: str, error: duckdb.Error) -> StopTheLine:
    return StopTheLine(f"{path} cannot be read: {str(error).splitlines()[0]}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tables(judged: JudgedFile) -> list[tuple[str, list[str], list[tuple]]]:
    """Title, headings and rows of what a person wants to see."""

    def row(name: str, one: Estimate) -> tuple:
        return name, round(one.value, 5), *((round(one.interval.low, 5), round(one.interval.high, 5)) if one.interval else (None, None)), one.because

    found, shown = judged.evaluation, [("Reward a call", judged.evaluation.reward, judged.logged.reward)]
    if found.cost_usd is not None:
        shown.append(("Cost a call, USD", found.cost_usd, judged.logged.cost_usd))
    headings = ["estimator", "estimate", "low", "high", "without an interval because"]
    answer = [
        (title, headings, [("what was logged", round(float(logged.mean()), 5), None, None, ""), *(row(*each) for each in estimates.items())]) for title, estimates, logged in shown
    ]
    if judged.unknown_cost_count:
        answer.append(("Cost a call, USD", ["not judged because"], [(f"{judged.unknown_cost_count:,} of {len(judged.logged):,} rows have no cost",)]))
    against = [("what was logged", judged.against_logged)] + ([("the other policy", judged.against)] if judged.against else [])
    said = {True: "the target is better", False: "the target is worse", None: "these logs cannot tell"}
    answer.append(("Target against", ["against", "difference", "low", "high", "95 %"], [(*row(name, one.difference)[:4], said[one.better]) for name, one in against]))
    d = found.diagnostics
    answer.append(("What carries the weight", ["measure", "value"], [
        ("rows", f"{d.row_count:,}"), ("traces", f"{d.cluster_count:,}"), ("propensities", d.propensity_kind), ("effective sample size", f"{d.effective_sample_size:,.0f}"),
        ("of the traces", f"{d.effective_sample_share:.1%}"), ("largest weight", f"{d.max_weight:.4g}"), ("heaviest trace carries", f"{d.max_weight_share:.2%}"),
        ("smallest propensity with weight", f"{d.min_propensity:.4g}"), ("mean weight (1 where propensities are true)", f"{d.mean_weight:.3f}"),
        ("overlap: the target could have chosen it too", f"{d.overlap_share:.1%}"), ("no chance to be logged", f"{d.unsupported_share:.2%}"), ("in unseen regions", f"{d.unseen_region_share:.2%}"),
    ]))
    if judged.advice:
        answer.append((f"What exploring would buy in {judged.advice[0].call_count:,} calls", ["ε", "effective sample size", "half width", "detectable difference", "reward given up a call"], [
            (f"{one.epsilon_share:.0%}", round(one.effective_sample_size), round(one.half_width, 4), round(one.detectable_difference, 4), round(one.regret, 5)) for one in judged.advice
        ]))
    return answer
