"""Signals in → outcomes out: drawn calls and feedback through the real selects and the real estimation."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pipelines.contracts import contract
from pipelines.outcomes import CELL
from tests.support.outcomebook import at, build, connection, put

MANY = 40


def call(id: str, clock: str = "09:00:00", **other: Any) -> dict[str, Any]:
    return {
        "inference_id": id, "started_at": at(clock), "finished_at": at(clock), "source": "app", "status": "ok", "traffic_kind": "human",
        "session_id": f"s-{id}", "finish_reason": "stop", "request_model": "small",
    } | other  # fmt: skip


def said(target: str, name: str, value: float = 1.0, clock: str = "09:01:00", **other: Any) -> dict[str, Any]:
    given = {"source": "app", "target_kind": "call", "target_id": target, "name": name, "kind": "boolean", "value_number": value, "given_at": at(clock), "rater_kind": "user"}
    return {"feedback_id": f"{target} {name} {value} {clock} {other}"} | given | other


def asked(id: str, text: str, clock: str) -> dict[str, Any]:
    return {"inference_id": id, "started_at": at(clock), "input_messages": f'[{{"role": "user", "content": "{text}"}}]', "landing_file": "f"}


def resolved(calls: list, feedback: list = (), content: list = (), until: str = "+20 09:00:00", rules: Any = None, costs: list = ()):
    """All tables, seen from a day long after; the last call of the warehouse tells how late it is."""
    con = connection(rules)
    put(con, "core.inference", [*calls, call("now", until)])
    put(con, "core.feedback", list(feedback))
    put(con, "core.inference_content", list(content))
    put(con, "marts.call_cost", list(costs))
    return build(con)


def outcome(con, id: str) -> tuple:
    found = con.execute("select outcome_status, outcome_share, is_conflicting, level from marts.call_outcome where inference_id = $id", {"id": id}).fetchone()
    return (found[0], None if found[1] is None else round(found[1], 2), *found[2:])


def signals(con, columns: str = "inference_id, signal_name") -> list[tuple]:
    return con.execute(f"select {columns} from marts.implicit_signal where inference_id <> 'now' order by all").fetchall()


@pytest.mark.parametrize(
    ("ended", "signal"),
    [
        ({"status": "error", "error_type": "Timeout"}, "call_failed"),
        ({"status": "error", "error_type": "JSONSchemaValidationError"}, "schema_failure"),
        ({"finish_reason": "MALFORMED_FUNCTION_CALL"}, "schema_failure"),
        ({"finish_reason": "content_filter"}, "refused"),
        ({"finish_reason": "guardrail_intervened"}, "refused"),
        ({"finish_reason": "max_tokens"}, "truncated"),
        ({"finish_reason": "end_turn"}, None),
    ],
)
def test_how_a_call_ended(ended: dict, signal: str | None) -> None:
    con = resolved([call("a", **ended)])
    assert signals(con, "signal_name") == ([(signal,)] if signal else [])


ORDER = "Where is my parcel with the blue shoes that I ordered on Monday"


@pytest.mark.parametrize(
    ("second", "model", "minutes", "asker", "signal"),
    [
        (ORDER, "small", 2, "human", "regenerate"),
        (f"  {ORDER.upper()} ", "small", 2, "human", "regenerate"),
        (f"{ORDER} please", "small", 2, "human", "re_ask"),
        (f"{ORDER} please", "small", 2, None, "re_ask"),
        (f"{ORDER} please", "big", 2, "human", "escalation"),
        (ORDER, "big", 2, "human", "escalation"),
        (ORDER, "big", 40, "human", None),
        ("How do I return a hat", "small", 2, "human", None),
        # A program asks the very same again to try again, and nearly the same because it fills in a template.
        (ORDER, "small", 2, "agent", "regenerate"),
        (ORDER, "big", 2, "agent", "escalation"),
        (f"{ORDER} please", "small", 2, "agent", None),
        (f"{ORDER} please", "big", 2, "agent", None),
    ],
)
def test_asking_again(second: str, model: str, minutes: int, asker: str | None, signal: str | None) -> None:
    later = f"09:{minutes:02}:00"
    costs = [
        {"inference_id": m, "started_at": at("08:00:00"), "request_model": m, "output_tokens": 100, "output_text_cost_usd": usd, "list_cost_usd": usd}
        for m, usd in (("small", 0.001), ("big", 0.02))
    ]
    con = resolved(
        [call("a", session_id="s"), call("b", later, session_id="s", request_model=model, traffic_kind=asker)],
        content=[asked("a", ORDER, "09:00:00"), asked("b", second, later)], costs=costs, until=later,
    )  # fmt: skip
    assert signals(con, "inference_id, signal_name, evidence_id") == ([("a", signal, "b")] if signal else [])


HAT = "How do I return a hat"


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        # Samples of one question, side by side.
        ({"a": ("09:00:00", "09:00:20", ORDER), "b": ("09:00:00", "09:00:20", ORDER), "c": ("09:00:01", "09:00:20", ORDER)}, []),
        # All of them are asked for again, once; the thread is given up once.
        ({"a": ("09:00:00", "09:00:20", ORDER), "b": ("09:00:01", "09:00:20", ORDER), "c": ("09:00:40", "09:00:50", ORDER)},
         [("a", "regenerate", "c"), ("b", "regenerate", "c"), ("c", "abandonment", "b")]),
        # Another question while the answer was on its way does not hide the repeat.
        ({"a": ("09:00:00", "09:00:20", ORDER), "b": ("09:00:10", "09:00:15", HAT), "c": ("09:00:20", "09:00:30", ORDER)},
         [("a", "regenerate", "c"), ("c", "abandonment", "a")]),
        ({"a": ("09:00:00", "09:00:20", ORDER), "b": ("09:00:21", "09:00:25", HAT), "c": ("09:00:30", "09:00:40", ORDER)}, []),
        # The repeat is not the last where another question came while it was answered.
        ({"a": ("09:00:00", "09:00:05", ORDER), "b": ("09:00:10", "09:00:30", ORDER), "c": ("09:00:20", "09:00:25", HAT)}, [("a", "regenerate", "b")]),
        # No end known, and clocks that are off.
        ({"a": ("09:00:00", None, ORDER), "b": ("09:00:00", None, ORDER)}, []),
        ({"a": ("09:00:00", None, ORDER), "b": ("09:00:01", None, ORDER)}, [("a", "regenerate", "b"), ("b", "abandonment", "a")]),
        ({"a": ("09:00:00", "08:59:58", ORDER), "b": ("09:00:01", "09:00:02", ORDER)}, [("a", "regenerate", "b"), ("b", "abandonment", "a")]),
        # An answer of 40 minutes.
        ({"a": ("09:00:00", "09:40:00", ORDER), "b": ("09:00:01", "09:00:02", HAT), "c": ("09:41:00", "09:42:00", ORDER)}, []),
    ],
)  # fmt: skip
def test_nobody_asks_again_before_the_answer_is_there(calls: dict, found: list) -> None:
    con = resolved(
        [call(id, start, finished_at=end and at(end), session_id="s") for id, (start, end, _) in calls.items()],
        content=[asked(id, text, start) for id, (start, _, text) in calls.items()], until="12:00:00",
    )  # fmt: skip
    assert signals(con, "inference_id, signal_name, evidence_id") == found


def test_another_try_of_a_failed_call_says_nothing_more() -> None:
    con = resolved(
        [call("a", session_id="s", status="error"), call("b", "09:01:00", session_id="s")], content=[asked("a", ORDER, "09:00:00"), asked("b", ORDER, "09:01:00")]
    )
    assert signals(con) == [("a", "call_failed")]


def test_a_thread_that_ends_on_a_repeat_is_abandoned() -> None:
    late = resolved([call("a", session_id="s"), call("b", "09:01:00", session_id="s")], content=[asked("a", ORDER, "09:00:00"), asked("b", ORDER, "09:01:00")], until="09:31:00")
    assert signals(late) == [("a", "regenerate"), ("b", "abandonment")]
    soon = resolved([call("a", session_id="s"), call("b", "09:01:00", session_id="s")], content=[asked("a", ORDER, "09:00:00"), asked("b", ORDER, "09:01:00")], until="09:20:00")
    assert signals(soon) == [("a", "regenerate")]


USER, GOES, TOOL = {"role": "user", "content": ORDER}, {"role": "assistant", "content": "let me see"}, {"role": "tool", "content": "it is at the door"}
YES = {"role": "user", "content": "Go on"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        # An agent's loop: the question goes along with each answer of a tool.
        ([[USER], [USER, GOES, TOOL], [USER, GOES, TOOL, GOES, TOOL]], []),
        # The loop's last step is asked for again as it was.
        ([[USER], [USER, GOES, TOOL], [USER, GOES, TOOL]], [("b", "regenerate"), ("c", "abandonment")]),
        # The question again, when it was answered; and an assent that is.
        ([[USER], [USER, GOES, TOOL], [USER, GOES, TOOL, GOES, USER]], [("b", "regenerate"), ("c", "abandonment")]),
        ([[USER, GOES, YES], [USER, GOES, YES, GOES, YES], [USER]], []),
        ([[YES], [YES], [USER]], [("a", "regenerate")]),
    ],
)
def test_who_goes_on_does_not_ask_again(said: list, found: list) -> None:
    clocks = dict(zip("abc", ("09:00:00", "09:00:03", "09:00:06"), strict=True))
    con = resolved(
        [call(id, clock, session_id="s") for id, clock in clocks.items()],
        content=[asked(id, "", clock) | {"input_messages": json.dumps(messages)} for (id, clock), messages in zip(clocks.items(), said, strict=True)],
        until="12:00:00",
    )
    assert signals(con) == found


@pytest.mark.parametrize(("next_call", "found"), [("+1 09:00:00", ["abandonment", "regenerate"]), ("+2 09:00:00", ["regenerate"])])
def test_what_a_day_says_is_the_same_whatever_days_are_built_with_it(next_call: str, found: list) -> None:
    """Silence shows by what else arrives that day and the next."""
    con = resolved([call("a", "23:00:00", session_id="s"), call("b", "23:01:00", session_id="s")], content=[asked("a", ORDER, "23:00:00"), asked("b", ORDER, "23:01:00")], until=next_call)
    whole = con.execute("select * from marts.implicit_signal order by all").fetchall()
    sql, day = contract("marts.implicit_signal"), at("00:00:00").date()
    alone = con.execute(f"{sql.typed_from(sql.select)} order by all", {"from_day": day, "to_day": day + timedelta(days=1)}).fetchall()
    assert alone == whole
    assert sorted(row[2] for row in whole) == found


def test_a_tool_that_fails() -> None:
    answer = {**asked("b", "x", "09:01:00"), "input_messages": '[{"role":"user","content":"x"},{"role":"tool","content":"Error: no such order"}]'}
    con = resolved([call("a", session_id="s", tool_call_count=1), call("b", "09:01:00", session_id="s")], content=[asked("a", "x", "09:00:00"), answer])
    assert ("a", "tool_failure") in signals(con)


def test_outcomes_follow_their_signals() -> None:
    calls = [call("good"), call("bad"), call("silent"), call("failed", status="error"), call("undone")]
    con = resolved(calls, [said("good", "thumbs"), said("bad", "thumbs", 0.0), said("undone", "undo", rater_kind="implicit")])
    shares = {id: outcome(con, id)[:2] for id in ("good", "bad", "silent", "failed", "undone")}
    assert shares["good"][1] > 0.85 and shares["bad"][1] < 0.45 and shares["failed"][1] < 0.01 and shares["undone"][1] < 0.45
    assert shares["silent"][0] == "silent" and 0.6 < shares["silent"][1] < 0.85
    assert {s for id, (s, _) in shares.items() if id != "silent"} == {"resolved"}


def test_signals_that_contradict_each_other_are_flagged() -> None:
    con = resolved([call("a"), call("b")], [said("a", "task_success", rater_kind="rule"), said("a", "undo", rater_kind="implicit"), said("b", "thumbs")])
    assert outcome(con, "a")[2] is True and outcome(con, "b")[2] is False


def test_a_young_call_is_no_failure() -> None:
    feedback = [said("a", "undo", rater_kind="implicit"), said("b", "thumbs", 1.0, "09:30:00")]
    assert outcome(resolved([call("a"), call("b")], feedback, until="10:00:00"), "a")[:2] == ("immature", None)
    assert outcome(resolved([call("a"), call("b")], feedback), "a")[0] == "resolved"


def test_a_session_speaks_of_its_calls_and_most_of_its_last() -> None:
    calls = [call("a", "09:00:00", session_id="s"), call("b", "09:10:00", session_id="s"), call("c", "12:00:00", session_id="s")]
    con = resolved(calls, [said("s", "resolved", 1.0, "10:00:00", target_kind="session")])
    assert con.execute("select inference_id, level, is_last_call from marts.outcome_signal order by 1").fetchall() == [("a", "session", False), ("b", "session", True)]
    assert outcome(con, "b")[3] == "session" and outcome(con, "c")[0] == "silent"


def test_repeated_and_early_signals_count_once_and_are_marked() -> None:
    feedback = [said("a", "thumbs", 0.0, "09:01:00", rater_id="u"), said("a", "thumbs", 1.0, "09:02:00", rater_id="u"), said("b", "thumbs", 1.0, "08:59:00")]
    con = resolved([call("a"), call("b")], feedback)
    rows = con.execute("select inference_id, score_share, repeat_count, is_before_call, delay_ms from marts.outcome_signal order by 1").fetchall()
    assert rows == [("a", 1.0, 1, False, 120_000), ("b", 1.0, 0, True, 0)]


def test_scores_come_onto_one_scale_and_rules_are_data(tmp_path) -> None:
    feedback = [
        said("a", "stars", 5, kind="number"), said("a", "nps", 0, kind="number"), said("a", "hallucination", 1, kind="number"),
        said("a", "verdict", None, kind="category", value_text="Good"), said("a", "quality", 17, kind="number"), said("a", "note", None, kind="text", value_text="hm"),
        said("a", "answer", None, kind="correction", value_text="42"), said("a", "sparkle", 8, kind="number"),
        said("a", "issue-free meter", 8, kind="number"),
    ]  # fmt: skip
    own = tmp_path / "mine.csv"
    own.write_text("rule,name_pattern,rater_kind,shape,polarity,scale_low,scale_high,good_words,bad_words,accuracy_share,failure_to_success_ratio,prior_signals,prior_delay_ms,because\n"
                   "sparkle,sparkle,,judgement,1,0,10,,,0.8,,10,0,Ours.\n"
                   "meter,{bad}.free meter,,judgement,1,0,10,,,0.8,,10,0,A word of signal_word.csv in a pattern of ours.\n")  # fmt: skip
    con = resolved([call("a")], feedback, rules=own)
    assert dict(con.execute("select signal_name, score_share from marts.outcome_signal").fetchall()) == {
        "stars": 1.0, "nps": 0.0, "hallucination": 0.0, "verdict": 1.0, "quality": None, "answer": 0.0, "sparkle": 0.8,
        "issue-free meter": 0.8,
    }  # fmt: skip


NAMES = {
    # A yes is bad.
    0.0: """
        incorrect unresolved unsuccessful incomplete unhelpful not_helpful irrelevant failed has_error failure test_failed unit_tests_failed failed_tests wrong_answer is_bad
        invalid_json unsafe_content unsupported_claim_rate inaccurate ungrounded dissatisfied non_compliant noncompliance not-resolved not.correct not/relevant isIncorrect
        responseNotHelpful goal_not_met cannot_resolve not_fully_resolved no_success tool_error has_errors irrelevance not_found_error notable_error failed_to_resolve
        toxicity hallucination hallucination_detected harmful bias error_rate policy_violation novel_harm frustration thumbs_down dislike""",
    # A yes is good; those of the third line hold a bad word, or begin as if with a no, by accident.
    1.0: """
        harmless harmlessness unbiased non_toxic nontoxic no_hallucination hallucination_free error_free no_errors isNotToxic no_policy_violation no_harm harm_avoidance
        not_incorrect no_unsupported_claims no_safety_issues free_of_bias not_bad nothing_wrong never_failed pass_fail pass/fail correct_or_incorrect good_bad
        uncertainty understanding unit_tests incorporates notebook normal nonempty university failover fail_to_pass no_answer error_handling failure_recovery in_correct_format
        notable_success annotation_correct runSuccess no_corrections_needed unsafe_request_refused invalid_input_detection issue_resolved inclusive
        correctness resolved success completeness exact_match review_correct helpful relevance faithfulness groundedness safety compliance thumbs user-feedback vote""",
}


def test_a_name_that_says_no_is_read_as_one() -> None:
    expected = {name.lower(): score for score, names in NAMES.items() for name in names.split()}
    feedback = [said("a", name, rater_kind="evaluator") for names in NAMES.values() for name in names.split()]
    found = dict(resolved([call("a")], feedback).execute("select signal_name, score_share from marts.outcome_signal").fetchall())
    assert len(expected) > 100 and found == expected


@pytest.mark.parametrize(
    ("name", "value", "score"),
    [
        ("toxicity", "none", 1.0), ("toxicity", "high", 0.0), ("incorrect", "no", 1.0), ("incorrect", "Yes", 0.0), ("unresolved", "resolved", 1.0), ("unhelpful", "true", 0.0),
        ("failed", "false", 1.0), ("failed", "error", 0.0), ("harmless", "yes", 1.0), ("no_hallucination", "false", 0.0), ("pass_fail", "fail", 0.0), ("resolved", "unresolved", 0.0),
    ],
)  # fmt: skip
def test_words_are_good_or_bad_by_the_rule_of_their_name(name: str, value: str, score: float) -> None:
    con = resolved([call("a")], [said("a", name, None, kind="category", value_text=value)])
    assert con.execute("select score_share from marts.outcome_signal").fetchall() == [(score,)]


OWN, OTHER = {"source": "one", "session_id": "chat-1", "trace_id": "t-1"}, {"source": "two", "session_id": "chat-1", "trace_id": "t-1"}


@pytest.mark.parametrize(
    ("calls", "source", "reached"),
    [
        # (call, when, where) ... and which of them are spoken of, the last one marked.
        ([("a", "09:00:00", OWN), ("b", "09:01:00", OWN), ("c", "09:02:00", OTHER)], "one", [("a", False), ("b", True)]),
        ([("a", "09:00:00", OWN), ("c", "09:02:00", OTHER)], "two", [("c", True)]),
        # A source of nothing but feedback.
        ([("a", "09:00:00", OWN), ("c", "09:02:00", OTHER)], "buttons", [("a", False), ("c", True)]),
        # Its own calls were days before, or are too old to be meant.
        ([("a", "-5 09:00:00", OWN), ("c", "09:02:00", OTHER)], "one", [("a", True)]),
        ([("a", "-20 09:00:00", OWN), ("c", "09:02:00", OTHER)], "one", [("c", True)]),
    ],
)
@pytest.mark.parametrize(("kind", "target"), [("session", "chat-1"), ("trace", "t-1")])
def test_a_signal_of_a_session_stays_with_its_source(calls: list, source: str, reached: list, kind: str, target: str) -> None:
    con = resolved([call(id, clock, **where) for id, clock, where in calls], [said(target, "thumbs", 0.0, "10:00:00", target_kind=kind, source=source)])
    assert con.execute("select inference_id, is_last_call from marts.outcome_signal order by 1").fetchall() == reached
    # A day says the same when it is built alone.
    sql, day, of_day = contract("marts.outcome_signal"), at("00:00:00").date(), "started_at >= '2026-10-05' order by all"
    con.execute("create table alone as " + sql.typed_from(sql.select), {"from_day": day, "to_day": day + timedelta(days=1)})
    assert con.execute(f"select * from alone where {of_day}").fetchall() == con.execute(f"select * from marts.outcome_signal where {of_day}").fetchall()


def judged(constant: str) -> Any:
    """Calls of known worth, judged by one that knows, by thumbs, and by one that always says the same."""
    calls, feedback = [], []
    for n in range(6 * MANY):
        good, id = n % 3 != 0, f"c{n:03}"
        calls.append(call(id, f"09:{n % 60:02}:{n // 60:02}"))
        feedback.append(said(id, "quality", 0.9 if good != (n % 19 == 0) else 0.1, "11:00:00", kind="number", rater_kind="evaluator", rater_id="sharp"))
        feedback.append(said(id, "quality", 1.0, "11:00:00", kind="number", rater_kind="evaluator", rater_id="constant"))
        feedback.append(said(id, "thumbs", float(good != (n % 11 == 0)), "11:00:00", rater_id=f"u{n % 7}"))
        if n % 4 == 0:
            feedback.append(said(id, "thumbs", 0.0, "11:00:00", rater_id=constant))
    return resolved(calls, feedback)


def test_a_constant_judge_and_a_user_who_likes_nothing_weigh_nothing_and_are_flagged() -> None:
    con = judged("grump")
    found = {
        rater: (flag, weight)
        for rater, flag, weight in con.execute(
            "select rater_id, is_constant, case rater_id when 'grump' then weight_1 else weight_5 end from marts.evaluator where rater_id in ('sharp', 'constant', 'grump')"
        ).fetchall()
    }
    assert found["constant"][0] and found["grump"][0] and not found["sharp"][0]
    assert abs(found["constant"][1]) < 0.05 and abs(found["grump"][1]) < 0.35 and found["sharp"][1] > 1.5
    wrong = con.execute(
        "select count(*) from marts.call_outcome where inference_id <> 'now' and (outcome_share > 0.5) <> (cast(substr(inference_id, 2) as integer) % 3 <> 0)"
    ).fetchone()[0]
    assert wrong <= 0.06 * 6 * MANY


def test_the_one_of_three_judges_whose_labels_were_mixed_up_is_flagged() -> None:
    """All are wrong on one call in twelve; a tenth of one judge's labels are flipped on top."""
    draw, calls, feedback = np.random.default_rng(0), [], []
    for n in range(2_000):
        calls.append(call(f"c{n:04}", f"09:{n % 60:02}:{n // 60:02}"))
        for judge in ("one", "two", "three"):
            wrong = (draw.random() < 1 / 12) != (judge == "two" and draw.random() < 0.1)
            feedback.append(said(f"c{n:04}", "quality", float((n % 3 != 0) != wrong), "11:00:00", rater_kind="evaluator", rater_id=judge))
    rows = resolved(calls, feedback).execute("select rater_id, is_disagreeing, agreement_share_low, agreement_share_high, peer_agreement_share from marts.evaluator where rater_id is not null").fetchall()
    assert {rater for rater, flag, *_ in rows if flag} == {"two"}
    assert all(high < peers for rater, _, _, high, peers in rows if rater == "two")


@pytest.mark.parametrize("seldom", [0.0, 0.04])
def test_who_finds_nearly_all_calls_good_does_not_make_a_fair_judge_disagree(seldom: float) -> None:
    """Most calls are good, so `lazy` agrees with most of the evidence; a third judge, `noise`, knows nothing and judges a few."""
    draw, calls, feedback = np.random.default_rng(0), [], []
    for n in range(1_200):
        id, good = f"c{n:04}", n % 16 != 0
        calls.append(call(id, f"09:{n % 60:02}:{n // 60:02}"))
        feedback.append(said(id, "thumbs", float(good), "11:00:00"))
        scores = {"lazy": 0.1 if draw.random() < seldom else 0.9, "fair": 0.8 if good == (draw.random() < 0.8) else 0.2, "noise": 0.8 if draw.random() < 0.5 else 0.2}
        for judge, score in scores.items():
            if judge != "noise" or n % 5 == 0:
                feedback.append(said(id, "judge_quality", score, "11:00:00", kind="number", rater_kind="evaluator", rater_id=judge))
    rows = resolved(calls, feedback).execute("select rater_id, is_disagreeing, is_constant from marts.evaluator where rater_id is not null").fetchall()
    assert {rater for rater, flag, _ in rows if flag} == {"noise"}
    assert {rater for rater, _, flag in rows if flag} == (set() if seldom else {"lazy"})


def test_where_signals_can_come_is_said_alike_by_the_estimation_and_the_select() -> None:
    """Other words for the same cell, and no silence would ever count."""
    assert f"{CELL.replace('c.', '')} as cell" in contract("marts.call_outcome").select


@pytest.mark.parametrize(("scores", "half"), [([4], None), ([2, 4], 12.706 * 0.25), ([2, 3, 4], 4.303 * 0.25 / 3**0.5)])
def test_one_signal_has_no_interval(scores: list, half: float | None) -> None:
    """Nothing else is known, so that how far scores agree with it moves with them, by twice what the base rate is above a half."""
    calls = [call(f"c{n}") for n in range(3)]
    con = resolved(calls, [said(f"c{n}", "stars", score, kind="number") for n, score in enumerate(scores)])
    mean, low, high, base = con.execute("select agreement_share, agreement_share_low, agreement_share_high, base_success_share from marts.evaluator").fetchall()[0]
    if half is None:
        assert mean is not None and low is high is None
    else:
        reach = half * (2 * base - 1)
        assert (low, high) == pytest.approx((max(0, mean - reach), min(1, mean + reach)), abs=0.01)


def test_an_answer_held_against_its_key_nearly_settles_it() -> None:
    """One witness alone: nothing else can tell how far it is right, so the rule must."""
    calls = [call(f"c{n:03}", f"09:{n % 60:02}:{n // 60:02}") for n in range(300)]
    con = resolved(calls, [said(c["inference_id"], "exact_match", float(n % 3 != 0), "09:30:00", rater_kind="rule", rater_id="key") for n, c in enumerate(calls)])
    low, high = con.execute("select max(outcome_share) filter (where cast(substr(inference_id, 2) as integer) % 3 = 0), min(outcome_share) filter (where cast(substr(inference_id, 2) as integer) % 3 <> 0) from marts.call_outcome where inference_id <> 'now'").fetchone()
    assert low < 0.2 and high > 0.95


def test_a_week_is_the_same_whatever_else_is_in_the_warehouse() -> None:
    """Neither later weeks nor the days that are built together change what a week learns."""
    weeks = [call(f"w{w}", f"+{7 * w} 09:00:00") for w in range(6)]
    feedback = [said(f"w{w}", "thumbs", float(w % 2), f"+{7 * w} 10:00:00") for w in range(6)]
    alone = resolved(weeks[:4], feedback[:4], until="+60 09:00:00")
    more = resolved(weeks, feedback, until="+60 09:00:00")
    first = "select * from marts.evaluator where week_day = '2026-10-05' order by all"
    assert alone.execute(first).fetchall() == more.execute(first).fetchall() != []
