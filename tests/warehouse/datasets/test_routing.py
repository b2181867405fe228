"""Calls in → routing log, splits and wide table out, through the real selects."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.contracts import contract
from tests.support.outcomebook import OUTCOMES, ROUTING, at, build, connection, put

PROMPT = "Tell me where the parcel of order {} is now and when it will come to my door"
ROLES = ("user", "assistant")
ODD = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]


def call(id: str, clock: str = "09:00:00", model: str = "m1", **other: Any) -> dict[str, Any]:
    return {
        "inference_id": id, "started_at": at(clock), "finished_at": at(clock), "source": "app", "status": "ok", "workload": "w", "request_model": model,
        "operation_name": "chat",
    } | other  # fmt: skip


def routed(calls: list[dict[str, Any]], texts: dict[str, str | list[str]] | None = None, feedback: list[dict[str, Any]] = ()):
    con = connection()
    # The last call tells how late it is in the warehouse, and is of another place.
    put(con, "core.inference", [*calls, call("now", "+20 09:00:00", workload="none")])
    when = {c["inference_id"]: c["started_at"] for c in calls}
    put(con, "core.inference_content", [
        {"inference_id": id, "started_at": when[id], "landing_file": "f", "input_messages": json.dumps([{"role": ROLES[n % 2], "content": turn} for n, turn in enumerate([text] if isinstance(text, str) else text)]),
         "output_messages": json.dumps([{"role": "assistant", "content": f"answer {id}"}])}
        for id, text in (texts or {}).items()
    ])  # fmt: skip
    put(con, "core.feedback", list(feedback))
    build(con, (*OUTCOMES, *ROUTING))
    return con


def test_logged_choices_are_taken_as_they_are() -> None:
    con = routed([call("a", routing_candidates='["m2", "m1"]', routing_propensity=0.3, routing_policy="p-v1")])
    columns = "routing_candidates, candidate_count, candidates_kind, action, propensity_share, propensity_kind, routing_policy"
    assert con.execute(f"select {columns} from datasets.routing_log").fetchall() == [('["m1","m2"]', 2, "logged", "m1", 0.3, "logged", "p-v1")]


def test_choices_not_logged_are_estimated_and_say_so() -> None:
    con = routed([*(call(f"a{n}", f"09:00:{n:02}") for n in range(30)), *(call(f"b{n}", f"10:00:{n:02}", "m2") for n in range(10)), call("c", "+9 09:00:00", "m2")])
    found = con.execute("select action, propensity_share, propensity_kind, candidates_kind, count(*) from datasets.routing_log group by all order by 1").fetchall()
    share = (30 + 10 * (30 + 5) / 50) / 50
    assert [(a, round(p, 6), k, c, n) for a, p, k, c, n in found] == [
        ("m1", round(share, 6), "estimated", "estimated", 30), ("m2", round(1 - share, 6), "estimated", "estimated", 10),
    ]  # fmt: skip


def test_choices_are_counted_among_calls_with_the_same_candidates() -> None:
    """Even choices between m1 and m2, or m3 and m4: each half as likely, not a quarter. Calls that say nothing of candidates are counted by themselves."""
    pair = {0: ["m1", "m2"], 1: ["m4", "m3"]}
    calls = [call(f"a{n:02}", f"09:{n:02}:00", pair[n % 2][n // 2 % 2], routing_candidates=json.dumps(pair[n % 2])) for n in range(40)]
    silent = [call(f"b{n:02}", f"10:{n:02}:00", "m1" if n < 15 else "m5") for n in range(20)]
    found = routed([*calls, *silent]).execute("select candidates_kind, routing_candidates, action, propensity_share, count(*) from datasets.routing_log group by all order by all").fetchall()
    often, seldom = ((n + 10 * (n + 5) / 30) / 30 for n in (15, 5))
    assert [(k, c, a, round(p, 6), n) for k, c, a, p, n in found] == [
        ("estimated", '["m1","m5"]', "m1", round(often, 6), 15), ("estimated", '["m1","m5"]', "m5", round(seldom, 6), 5),
        ("logged", '["m1","m2"]', "m1", 0.5, 10), ("logged", '["m1","m2"]', "m2", 0.5, 10),
        ("logged", '["m3","m4"]', "m3", 0.5, 10), ("logged", '["m3","m4"]', "m4", 0.5, 10),
    ]  # fmt: skip


def test_turns_are_counted_over_six_days_whatever_days_are_built_together() -> None:
    con = routed([call(f"c{n:02}", f"+{n} 09:00:00", f"m{n % 2}", session_id="s") for n in range(12)])
    turns = dict(con.execute("select inference_id, turn_count from datasets.routing_log").fetchall())
    assert [turns[f"c{n:02}"] for n in range(1, 12)] == [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    log, day = contract("datasets.routing_log"), at("+11 00:00:00").date()
    assert con.execute(f"select inference_id, turn_count from ({log.select})", {"from_day": day, "to_day": day + timedelta(days=1)}).fetchall() == [("c11", 6)]


@pytest.mark.parametrize("propensity", [0.0, 1.7, float("nan")])
def test_a_propensity_that_cannot_be_is_not_believed(propensity: float) -> None:
    calls = [call("a", routing_candidates='["m1","m2"]', routing_propensity=propensity), call("b", routing_candidates='["m2","m3"]', routing_propensity=0.5), call("c", "09:01:00", "m2")]
    kinds = dict(routed(calls).execute("select inference_id, candidates_kind || ' ' || propensity_kind from datasets.routing_log").fetchall())
    assert kinds == {"a": "logged estimated", "b": "estimated estimated", "c": "estimated estimated"}


def test_young_calls_have_no_reward() -> None:
    signal = {"feedback_id": "f", "target_kind": "call", "target_id": "old", "name": "thumbs", "kind": "boolean", "value_number": 1.0, "rater_kind": "user", "given_at": at("09:05:00")}
    con = routed([call("old", session_id="s"), call("young", "+20 08:59:00", "m1"), call("other", "+20 08:58:00", "m2")], feedback=[signal])
    rows = con.execute("select inference_id, is_matured, reward is null from datasets.routing_log order by 1").fetchall()
    assert [r for r in rows if r[0] != "old"] == [("other", False, True), ("young", False, True)]


def test_several_answers_to_one_prompt_stand_side_by_side_and_nothing_is_filled_in() -> None:
    texts = {"a": PROMPT.format(1), "b": " " + PROMPT.format(1).upper(), "c": "Another question altogether about hats", "d": "Another question altogether about hats", "e": "alone"}
    calls = [call("a", session_id="s"), call("b", "09:01:00", "m2", session_id="s"), call("c", "09:02:00", "m2"), call("d", "09:03:00", "m3"), call("e", "09:04:00", "m1")]
    thumbs = [
        {"feedback_id": f"f{i}", "target_kind": "call", "target_id": i, "name": "thumbs", "kind": "boolean", "value_number": 1.0, "rater_kind": "user", "given_at": at("09:05:00")}
        for i in "abcde"
    ]
    con = routed(calls, texts, thumbs)
    rows = con.execute("select inference_id, action, is_observed, reward is not null, response, is_asked_again from datasets.routing_wide order by prompt_key, action").fetchall()
    assert sorted(rows, key=str) == sorted([
        ("a", "m1", True, True, "answer a", False), ("b", "m2", True, True, "answer b", True), (None, "m3", False, False, None, None),
        (None, "m1", False, False, None, None), ("c", "m2", True, True, "answer c", False), ("d", "m3", True, True, "answer d", False),
    ], key=str)  # fmt: skip


def test_prompts_that_recur_keep_the_answers_of_their_own_split() -> None:
    """Twenty prompts asked of two models in four weeks; `moved` was asked of one model before and of the other after."""
    texts, calls = {}, []
    for week in range(4):
        for prompt in range(20):
            for model in ("m1", "m2"):
                calls.append(call(f"w{week}p{prompt:02}{model}", f"+{4 * week} 09:{prompt:02}:00", model))
                texts[calls[-1]["inference_id"]] = PROMPT.format(f"{ODD[prompt % 6]} {ODD[prompt // 6]} " * 8)
        calls.append(call(f"w{week}moved", f"+{4 * week} 10:00:00", "m1" if week < 3 else "m2"))
        texts[f"w{week}moved"] = "Another question altogether about hats"
    thumbs = [
        {"feedback_id": f"f{c['inference_id']}", "target_kind": "call", "target_id": c["inference_id"], "name": "thumbs", "kind": "boolean", "value_number": float(c["inference_id"] < "w2"),
         "rater_kind": "user", "given_at": c["started_at"] + timedelta(minutes=5)} for c in calls
    ]  # fmt: skip
    con = routed(calls, texts, thumbs)
    assert con.execute("select count(*) > 20 from datasets.routing_split where split = 'straddling'").fetchall() == [(True,)]
    wide = con.execute("select prompt, action, split, answer_count, inference_id, reward from datasets.routing_wide order by 1, 2").fetchall()
    assert {(action, split) for prompt, action, split, *_ in wide if "hats" in prompt} == {("m1", "straddling"), ("m2", "straddling")}
    expected = con.execute("""select l.prompt, l.action, min(s.split), count(*), min(l.inference_id), avg(l.reward)
        from datasets.routing_log as l join datasets.routing_split as s using (inference_id)
        where s.split <> 'straddling' and l.prompt not like '%hats' group by l.prompt, l.action order by 1, 2""").fetchall()
    assert len(expected) == 40 and {split for _, _, split, *_ in expected} >= {"train", "test"}
    assert [row for row in wide if "hats" not in row[0]] == expected


def test_nearly_equal_prompts_are_one_group() -> None:
    long = "Please look at the following report of the third quarter and tell me which of its numbers changed most since the second"
    texts = {"a": long, "b": long + " one", "c": "Something else that shares no run of words with the former text at all", "d": long.replace("third", "fourth")}
    con = routed([call(i, f"09:00:0{n}", f"m{n}") for n, i in enumerate(texts)], texts)
    groups = dict(con.execute("select inference_id, group_key from datasets.routing_split").fetchall())
    assert groups["a"] == groups["b"] != groups["c"]


def test_a_word_or_two_does_not_make_one_group_of_strangers() -> None:
    parcel, hats, lao = "Where is the parcel of my order?", "Which hats are worn in autumn?", "ພັດສະດຸຂອງຂ້ອຍຢູ່ໃສໃນຕອນນີ້ແລະມັນຈະມາຮອດເມື່ອໃດ"
    drawn = [  # call, session, turns, group
        ("a1", "a", "Hi!", "a"), ("a2", "a", ["Hi!", "Hello.", parcel, "On its way.", "Yes, please."], "a"),
        ("b1", "b", "hi", "b"), ("b2", "b", ["hi", "Hello.", hats, "Felt ones.", "yes please"], "b"),
        ("c1", None, "Order 17", "c"), ("d1", None, "Order 18", "d"), ("e1", None, "???", "e"),
        # The same turns before it, three words, or as long a word as three: as ever.
        ("f1", None, ["Tell me of hats.", "They warm.", "thanks"], "f"), ("f2", None, ["tell me of  hats.", "They warm.", "Thanks"], "f"),
        ("g1", None, "call order 17", "g"), ("g2", None, "call order 18", "g"), ("h1", None, lao, "h"), ("h2", None, [lao, "?", lao], "h"),
    ]  # fmt: skip
    con = routed([call(id, f"09:00:{n:02}", f"m{n % 2}", session_id=session) for n, (id, session, _, _) in enumerate(drawn)], {id: turns for id, _, turns, _ in drawn})
    groups = dict(con.execute("select inference_id, group_key from datasets.routing_split").fetchall())
    assert groups == {id: f"{group}1" for id, _, _, group in drawn}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 5)), min_size=4, max_size=24))
def test_no_session_trace_or_prompt_is_in_two_splits(drawn: list[tuple[int, int, int]]) -> None:
    """Whatever hangs together, directly or through others, is in one split or in none."""
    con = connection()
    log = [
        {"inference_id": f"c{n:02}", "started_at": at(f"09:{n:02}:00"), "source": "app", "is_matured": True, "session_id": f"s{session}" if session else None,
         "trace_id": f"t{trace}" if trace else None, "prompt": prompt and f"{ODD[prompt]} " * 3 + f"order {n} of {ODD[prompt]} please"}
        for n, (session, trace, prompt) in enumerate(drawn)
    ]  # fmt: skip
    con.execute(f"create table datasets.routing_log ({', '.join(f'{c.name} {c.type}' for c in contract('datasets.routing_log').columns)})")
    put(con, "datasets.routing_log", [row | {"prompt": row["prompt"] or None, "prompt_key": row["prompt"] or None} for row in log])
    build(con, ("datasets.routing_split",))
    assert con.execute("select count(*), count(distinct inference_id) from datasets.routing_split").fetchone() == (len(log), len(log))
    for tie in ("l.session_id", "l.trace_id", "l.prompt_key", "regexp_replace(l.prompt, '[0-9]+', '0')"):
        torn = f"select {tie} from datasets.routing_log l join datasets.routing_split s using (inference_id) where {tie} is not null and split <> 'straddling' group by 1 having count(distinct split) > 1"
        assert con.execute(torn).fetchall() == [], tie
    order = con.execute("select max(started_at) filter (where split = 'train') < min(started_at) filter (where split in ('validation', 'test')) from datasets.routing_split").fetchone()[0]
    assert order in (True, None)
