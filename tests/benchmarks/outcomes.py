"""Do resolved outcomes beat the simple ways, on a truth that is known? And what do poisoned signals do to them?

    python tests/benchmarks/outcomes.py [--calls 20000] [--seeds 3] [--data ../shared/data]

1. Simulated calls with their true success: log loss, Brier score and expected calibration error (10 bins) of marts.call_outcome beside
   the last signal, the majority and the mean of the signals, on calls with at least one signal, and on all calls (where the simple
   ways know nothing they say the mean of all signals).
2. The aider log: failures by model beside a direct count of undone messages.
3. Poison: a constant judge, users who dislike everything, doubled feedback, feedback before its call, 10 % of all labels flipped; three
   judges of the same calls, and a tenth of one judge's labels flipped. What is flagged stands beside it; evaluator-b is a weaker judge in truth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import duckdb  # noqa: E402

from pipelines.build import build_table  # noqa: E402
from pipelines.ingest import ingest_source  # noqa: E402
from pipelines.settings import Settings, Source  # noqa: E402
from pipelines.simulate import FORMATS, simulate  # noqa: E402
from tests.support.outcomebook import OUTCOMES, build, connection, world  # noqa: E402

# The simple ways look at the same signals on the same scale. 0.01 to 0.99, so that one wrong certainty does not decide.
GUESSES = """
create or replace temp table guess as
with signal as (select s.*, 0.01 + 0.98 * score_share as p from marts.outcome_signal as s where score_share is not null),
simple as (
    select inference_id, arg_max(p, given_at) as last_signal, case when avg(case when p > 0.5 then 1.0 when p < 0.5 then 0 else 0.5 end) > 0.5 then 0.99
        when avg(case when p > 0.5 then 1.0 when p < 0.5 then 0 else 0.5 end) < 0.5 then 0.01 else 0.5 end as majority, avg(p) as mean
    from signal group by inference_id
)
select t.success, o.outcome_share as resolved, s.inference_id is not null as has_signal,
    coalesce(last_signal, (select avg(p) from signal)) as last_signal, coalesce(majority, (select avg(p) from signal)) as majority, coalesce(mean, (select avg(p) from signal)) as mean
from truth as t join marts.call_outcome as o using (inference_id) left join simple as s using (inference_id)
where o.outcome_share is not null"""
SCORE = """
select count(*), -avg(case when success then ln({p}) else ln(1 - {p}) end), avg(pow({p} - success::int, 2)),
    (select sum(n * abs(mean_p - mean_s)) / sum(n) from (
        select count(*) as n, avg({p}) as mean_p, avg(success::int) as mean_s from guess where {where} group by least(9, floor(10 * {p}))))
from guess where {where}"""
WAYS = ("resolved", "last_signal", "majority", "mean")


def resolved(folder: Path, poison: str = "select 1") -> duckdb.DuckDBPyConnection:
    """A simulation's truth as a warehouse would hold it once all has been taken in, poisoned, and its outcomes resolved."""
    con = connection()
    world(con, f"{folder}/truth")
    con.execute(f"create table truth as select inference_id, success from read_parquet('{folder}/truth/call.parquet')")
    con.execute(poison)
    build(con, OUTCOMES)
    con.execute(GUESSES)
    return con


def scores(con: duckdb.DuckDBPyConnection, way: str, where: str) -> tuple[int, float, float, float]:
    return con.execute(SCORE.format(p=way, where=where)).fetchone()


# Each changes core.feedback; `judge` and `grump` are raters that are not there otherwise.
POISON = {
    "none": "select 1",
    "a judge that finds all perfect": """insert into core.feedback by name select 'judge ' || inference_id as feedback_id, 'call' as target_kind, inference_id as target_id,
        'helpfulness' as name, 'number' as kind, 1.0 as value_number, 'evaluator' as rater_kind, 'judge' as rater_id, finished_at + interval 5 minute as given_at
        from core.inference where status = 'ok'""",
    "three users who dislike all": """insert into core.feedback by name select 'grump ' || inference_id as feedback_id, 'call' as target_kind, inference_id as target_id,
        'thumbs' as name, 'boolean' as kind, 0.0 as value_number, 'user' as rater_kind, 'grump ' || hash(inference_id) % 3 as rater_id, finished_at + interval 5 minute as given_at
        from core.inference where status = 'ok' and hash(inference_id) % 10 = 0""",
    "every signal ten times": "insert into core.feedback by name select f.* replace (concat(f.feedback_id, ' ', r.n) as feedback_id) from core.feedback as f, range(9) as r (n)",
    "a tenth given before its call": """update core.feedback set given_at = c.started_at - interval 1 hour from core.inference as c
        where target_id = c.inference_id and hash(feedback_id) % 10 = 0""",
    "a tenth of the labels flipped": "update core.feedback set value_number = 1 - value_number where hash(feedback_id) % 10 = 1 and name in ('thumbs', 'helpfulness', 'task_success')",
}
THREE = """insert into core.feedback by name select concat('panel ', r.rater, i.inference_id) as feedback_id, 'call' as target_kind, i.inference_id as target_id, 'panel_grade' as name, 'boolean' as kind,
    ((t.success <> (hash(i.inference_id || r.rater) % 100 < 12)) <> ({flipped}))::int::double as value_number, 'evaluator' as rater_kind, r.rater as rater_id, i.finished_at + interval 5 minute as given_at
    from core.inference as i join truth as t using (inference_id), (values ('panel-1'), ('panel-2'), ('panel-3')) as r (rater) where i.status = 'ok' and hash(i.inference_id) % 5 = 0"""
POISON |= {
    "three judges of a fifth of the calls": THREE.format(flipped="false"),
    "a tenth of one judge's flipped": THREE.format(flipped="r.rater = 'panel-2' and hash(i.inference_id || 'flip') % 10 = 0"),
}
FLAGS = """select coalesce(string_agg(distinct coalesce(rater_id, signal_name) || ' ' || case when is_constant then 'constant' when is_inverted then 'inverted' when is_drifting then 'drifting' else 'disagreeing' end, ', '), '-')
    from marts.evaluator where (is_constant or is_inverted or is_drifting or is_disagreeing) and (rater_kind <> 'user' or rater_id like 'grump%')"""
MARKED = "select sum(case when is_before_call then 1 else 0 end), sum(repeat_count) from marts.outcome_signal"


def aider(data: Path) -> list[tuple]:
    """By model: calls, undone by a direct count of the log, and calls whose outcome is below a half."""
    with tempfile.TemporaryDirectory() as home:
        log = data / "logs" / "aider"
        settings = Settings.load(home=home, user_formats=ROOT / "tests" / "user_formats", sources={"aider": Source(url=str(log), format="aider")})
        ingest_source(settings, "aider", date(2026, 1, 1))
        for table in ("marts.call_cost", *OUTCOMES):
            build_table(settings, table)
        with duckdb.connect(str(settings.views), read_only=True) as con:
            # The direct count knows nothing of this project: the last message before an undo, in the lines of the log.
            con.execute(f"""create temp table event as select row_number() over () as n, event, user_id, json_extract_string(properties, '$.main_model') as model
                from read_json('{log}/*.jsonl.gz', columns = {{event: 'varchar', properties: 'varchar', user_id: 'varchar'}}, format = 'newline_delimited')""")
            return con.execute("""
                with direct as (
                    select model, count(*) as sent, count(*) filter (where after = 'command_undo') as undone
                    from (select model, event, lead(event) over (partition by user_id order by n) as after
                        from event where event in ('message_send', 'launched', 'command_undo'))
                    where event = 'message_send'
                    group by model
                )
                select d.model, d.sent, round(d.undone / d.sent, 4), round(avg((o.outcome_share < 0.5)::int), 4), round(1 - avg(o.outcome_share), 3), count(*) filter (where not o.is_matured)
                from direct as d join core.inference as i on i.request_model is not distinct from nullif(d.model, 'None') join marts.call_outcome as o using (inference_id)
                group by all having d.sent >= 50 order by d.sent desc""").fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, asked.seeds + 1):
            simulate(Path(folder, str(seed)), calls=asked.calls, days=10, first_day=date(2026, 10, 5), seed=seed, formats=FORMATS, with_content=False)
        report(Path(folder), asked.seeds)
    if (asked.data / "logs" / "aider").is_dir():
        print("model, messages, undone (direct count), failures (outcome < 0.5), mean failure probability, immature")
        for row in aider(asked.data):
            print(*row)


def report(folder: Path, seeds: int) -> None:
    """Print how the ways compare, and what poison does."""
    for seed in range(1, seeds + 1):
        con = resolved(folder / str(seed))
        for where in ("has_signal", "true"):
            for way in WAYS:
                n, loss, brier, error = scores(con, way, where)
                print(f"seed {seed}  {'calls with signals' if where == 'has_signal' else 'all matured calls':19} {n:6,}  {way:12} log loss {loss:.3f}  Brier {brier:.3f}  ECE {error:.3f}")
    for name, sql in POISON.items():
        con = resolved(folder / "1", sql)
        n, loss, brier, error = scores(con, "resolved", "true")
        before, repeats = con.execute(MARKED).fetchone()
        print(f"{name:34} resolved: log loss {loss:.3f} ECE {error:.3f}; mean of signals: {scores(con, 'mean', 'true')[1]:.3f}; "
              f"flagged: {con.execute(FLAGS).fetchone()[0]}; before the call {before:,}, repeats {repeats:,}")


if __name__ == "__main__":
    main()
