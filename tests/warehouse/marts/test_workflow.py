"""Calls, costs, messages and feedback → marts.workflow."""

from __future__ import annotations

import random
from datetime import timedelta

from tests.support.marts import DAY, at, call, cost, drawn, seen


def rows(sql: str, calls: list[dict], **reads: list[dict]) -> list[str]:
    named = {{"costs": "marts.call_cost", "feedback": "core.feedback", "content": "core.inference_content"}[name]: rows for name, rows in reads.items()}
    with drawn("marts.workflow", {"core.inference": calls} | named) as con:
        return seen(con, sql)


def chain(*steps: dict, session: str = "s", **other) -> list[dict]:
    """Calls of one session, a minute apart."""
    return [call(f"{session}-{n:03}", f"10:{n:02}", session_id=session, **(other | step)) for n, step in enumerate(steps)]


FAILED = {"status": "error"}
PATH = "select model_path, model_change_count, error_count, retry_count, fallback_count, recovered_count, ended_as from marts.workflow"


def test_retry_and_fallback():
    steps = chain({"request_model": "small"}, FAILED | {"request_model": "small"}, FAILED | {"request_model": "small"}, {"request_model": "large"})
    assert rows(PATH, steps) == ["small > large 1 2 1 1 1 answered"]


def test_attempts_that_only_the_gateway_saw():
    assert rows("select retry_count from marts.workflow", chain({"retry_count": 2}, {"retry_count": 0})) == ["2"]


def test_sessions_before_traces_and_neither_is_no_chain():
    calls = [call("a", session_id="s", trace_id="t"), call("b", trace_id="t"), call("c")]
    assert rows("select chain_kind, chain_id, call_count from marts.workflow order by all", calls) == ["session s 1", "trace t 1"]


def test_how_it_ended():
    sql = "select chain_id, ended_as, is_abandoned, is_success from marts.workflow order by 1"
    calls = [
        *chain({}, {"finish_reason": "stop"}, session="a"), *chain({}, FAILED, session="b"), *chain({"finish_reason": "length"}, session="c"),
        *chain({"finish_reason": "tool_use"}, session="d"), *chain({"finish_reason": "tool_calls"}, {}, session="e"),
    ]  # fmt: skip
    assert rows(sql, calls) == ["a answered false true", "b failed true false", "c cut_off true false", "d waiting_for_tool true false", "e answered false true"]


def test_over_midnight():
    calls = [
        call("a", "23:59", day=DAY - timedelta(1), session_id="came"), call("b", "00:01", session_id="came"),
        call("c", "23:59", session_id="goes", finish_reason="tool_calls"), call("d", "00:01", day=DAY + timedelta(1), session_id="goes"),
    ]  # fmt: skip
    sql = "select chain_id, call_count, is_continued, ended_as, is_abandoned, is_success from marts.workflow order by 1"
    assert rows(sql, calls) == ["came 1 true answered false true", "goes 1 false continues false -"]


def test_what_people_say_counts_more_than_the_ending():
    said = {"feedback_id": "f", "source": "app", "source_format": "x", "target_kind": "session", "target_id": "s", "name": "solved", "kind": "boolean", "landing_file": "x", "landing_line": 1}
    sql = "select is_success, success_basis, rating from marts.workflow"
    assert rows(sql, chain({}), feedback=[said | {"value_number": 0.0, "given_at": at("23:00")}]) == ["false rating 0"]
    late = said | {"value_number": 1.0, "given_at": at("09:00", DAY + timedelta(1))}
    assert rows(sql, chain({}, FAILED), feedback=[late]) == ["true rating 1"]
    assert rows(sql, chain({}), feedback=[said | {"kind": "number", "value_number": 7.0, "given_at": at("23:00")}]) == ["true ending -"]


def test_cost_and_time():
    calls = chain({"input_uncached_tokens": 100}, {"input_uncached_tokens": 100}, {"input_uncached_tokens": 300})
    costs = [cost("s-000", usd=1), cost("s-001", usd=2), cost("s-002", usd=None)]
    sql = "select list_cost_usd, repeated_cost_usd, unpriced_count, reask_count, elapsed_ms, model_ms from marts.workflow"
    assert rows(sql, calls, costs=costs) == ["3 2 1 1 121000 3000"]


def test_failed_tools():
    one = '[{"role":"user","content":[{"type":"tool_result","is_error":true,"content":"no"}]}]'
    two = '[{"role":"tool","content":"Error: no such file"},{"role":"tool","content":"Traceback (most recent"},{"role":"user","content":"An Error is here"}]'
    content = [{"inference_id": f"s-00{n}", "started_at": at(f"10:0{n}"), "input_messages": text, "landing_file": "x"} for n, text in enumerate((one, two))]
    assert rows("select tool_error_count from marts.workflow", chain({}, {}), content=content) == ["2"]
    assert rows("select tool_error_count from marts.workflow", chain({})) == ["-"]


def sizes(*pairs: tuple[int, int]) -> list[dict]:
    return [{"input_uncached_tokens": sent, "output_text_tokens": got} for sent, got in pairs]


def test_a_loop_is_four_equal_steps():
    sql = "select stuck_call_count from marts.workflow"
    assert rows(sql, chain(*sizes((1000, 50), (1100, 50), (1200, 51), (1301, 50), (1400, 49)))) == ["2"]
    assert rows(sql, chain(*sizes((1000, 50), (1100, 50), (1200, 50)))) == ["0"]
    # Many documents with equal answers in one trace are work, not a loop: the input does not grow.
    assert rows(sql, chain(*sizes(*[(1000, 1)] * 9))) == ["0"]
    assert rows(sql, chain(*sizes((1000, 50), (1100, 90), (1200, 50), (1300, 90), (1400, 50)))) == ["0"]


def agents_and_people(seed: int) -> tuple[list[dict], set[str], set[str]]:
    """Calls of 400 sessions, with those that loop and those that were abandoned."""
    draw = random.Random(seed)
    calls, loops, abandoned = [], set(), set()
    for n in range(400):
        name, sent, steps = f"s{n:03}", draw.randint(500, 5000), []
        is_agent, is_looping = n % 2 == 0, n % 10 == 0
        for _ in range(draw.randint(3, 14)):
            got = max(5, round(draw.lognormvariate(4.5, 0.7)))
            steps.append((sent, got))
            sent += got + max(10, round(draw.lognormvariate(5.5, 0.8)))
        if is_looping:
            # The same tool call and result over and over; a time stamp in it makes sizes differ by a token or two.
            got, grown = draw.randint(20, 200), draw.randint(60, 900)
            for _ in range(draw.randint(5, 20)):
                steps.append((sent, got + draw.randint(-1, 1)))
                sent += grown + draw.randint(-2, 2)
            loops.add(name)
        drawn_calls = chain(*sizes(*steps), session=name, traffic_kind="agent" if is_agent else "human", finish_reason="tool_use" if is_agent else "stop")
        drawn_calls[-1] |= {"finish_reason": "stop"}
        if draw.random() < 0.2:
            drawn_calls[-1] |= draw.choice([{"status": "error", "http_status": 500, "finish_reason": None}, {"finish_reason": "max_tokens"}])
            abandoned.add(name)
        calls += drawn_calls
    return calls, loops, abandoned


def found_in(calls: list[dict]) -> tuple[set[str], set[str]]:
    """Sessions that the mart says are stuck, and those it says were abandoned."""
    with drawn("marts.workflow", {"core.inference": calls}) as con:
        return tuple({row[0] for row in con.execute(f"select chain_id from marts.workflow where {flag}").fetchall()} for flag in ("is_stuck", "is_abandoned"))


def test_loops_and_abandonment_are_found_where_they_were_put():
    """400 agents and people, with the truth known: four in five loops are found, and no more than one alarm in twenty is false."""
    calls, loops, abandoned = agents_and_people(5)
    found, left = found_in(calls)
    assert len(found & loops) / len(loops) >= 0.8
    assert len(found - loops) / len(found) <= 0.05
    assert left == abandoned
