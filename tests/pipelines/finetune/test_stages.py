"""What a dataset keeps and drops, drawn: calls in, examples and the funnel out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.errors import NotConfigured
from pipelines.finetune import stages
from tests.support.finetune import dropped, recipe, said, staged
from tests.support.marts import at, seen

LONG = " ".join(f"word{n}" for n in range(60))
SPREAD = {"split": {"by": "group"}}


def ids(con) -> list[str]:
    return seen(con, "select example_id from dataset_row order by 1")


def test_good_answers_stay_and_bad_unsure_and_conflicting_ones_do_not() -> None:
    calls = [said("good"), said("bad", "b?", good=0.2), said("unsure", "c?", confidence=0.01), said("both", "d?", conflicting=True), said("unknown", "e?", good=None)]
    with staged(recipe(**SPREAD), calls) as (con, made):
        assert ids(con) == ["good"]
        assert dropped(made) == {"no outcome, text or partner that the recipe asks for": 4}


def test_only_whole_conversations_stay() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]}
    broken = json.loads(json.dumps(call).replace('{\\"a\\": 1}', '{\\"a\\": '))
    user, result = {"role": "user", "content": "look it up"}, {"role": "tool", "tool_call_id": "t", "content": "42"}
    calls = [
        said("tools", [user, call, result]), said("calls", [{"role": "user", "content": "now"}], [call]),
        said("half", [user], [broken]), said("twice", [user, user]), said("empty", "x?", " "), said("orphan", [user, call, result | {"tool_call_id": "z"}]), said("ends", [user, {"role": "assistant", "content": "ok"}]),
    ]  # fmt: skip
    with staged(recipe(**SPREAD), calls) as (con, made):
        assert ids(con) == ["calls", "tools"]
        [(prompt,)] = con.execute("select prompt from dataset_row where example_id = 'tools'").fetchall()
        assert json.loads(prompt)[1] == call | {"content": "", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]}
        assert dropped(made) == {"tool arguments do not parse": 1, "roles do not alternate": 1, "empty answer": 1, "tool result without its call": 1, "does not end with a question": 1}


def test_refusals_and_truncated_answers_go() -> None:
    calls = [said("refused", "a?", "I'm sorry, but I can't help with that."), said("cut", "b?", finish_reason="length"), said("held", "c?", finish_reason="content_filter"),
             said("able", "d?", "I can't recommend it enough.")]  # fmt: skip
    with staged(recipe(**SPREAD), calls) as (con, made):
        assert ids(con) == ["able"]
        assert dropped(made) == {"refusal": 1, "truncated": 1, "held back by a filter": 1}


def test_copies_go_and_a_chain_of_likenesses_drops_no_stranger() -> None:
    def shifted(n: int) -> str:
        return " ".join(f"word{i}" for i in range(n, n + 60))

    # a like b, b like c, but a not like c.
    calls = [said("a", shifted(0)), said("b", shifted(5)), said("c", shifted(10)), said("same", shifted(0).upper().replace(" ", "\n  "))]
    with staged(recipe(**SPREAD), calls) as (con, made):
        assert ids(con) == ["a", "c"]
        assert dropped(made) == {"said before": 1, "nearly said before": 1}


def test_a_good_and_a_bad_answer_to_one_long_prompt_are_no_copies() -> None:
    calls = [said("good", LONG, "Paris"), said("bad", LONG, "Rome it is", good=0.1), said("again", LONG, "Paris, France"), said("worse", LONG, "Oslo it is", good=0.1)]
    with staged(recipe("kto", **SPREAD), calls) as (con, made):
        assert seen(con, "select example_id, is_good from dataset_row order by 1") == ["bad false", "good true"]
        assert dropped(made) == {"nearly said before": 2}


@pytest.mark.parametrize("change", [str, str.upper, lambda t: t.replace(" ", "  \n\t"), lambda t: t.replace(" ", ", ")])
def test_what_a_benchmark_holds_goes(tmp_path: Path, change) -> None:
    held = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
    file = tmp_path / "held.jsonl"
    file.write_text(json.dumps({"question": held, "answer": "72"}) + "\n" + json.dumps({"question": "Who was the first king?", "answer": "nobody knows"}) + "\n")
    calls = [said("met", f"Please solve: {change(held)} Think first."), said("short", change("Who was the first king?")), said("free", "How many clips did you sell? 72")]
    with staged(recipe(gates={"benchmarks": [str(file)]}, **SPREAD), calls) as (con, made):
        assert ids(con) == ["free"]
        assert dropped(made) == {"met in held.jsonl": 2}


def test_personal_data_is_replaced_the_same_all_through_a_conversation() -> None:
    values = ["bob.x@mail.example.com", "+49 30 1234567", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "84.17.3.9", "sk-proj-abcdefghijklmnop1234", "AKIAIOSFODNN7EXAMPLE"]
    asked = [{"role": "user", "content": "Hi\nbob.x@mail.example.com and " + " ; ".join(values)}]
    args = [{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "send", "arguments": json.dumps({"to": values[0], "text": f"a\n{values[2]}"})}}]}]
    later = said("later", f"write to {values[0]} and amy@b.org", session_id="s")
    calls = [said("first", asked, args, session_id="s"), later, said("other", "write to amy@b.org or 4111 1111 1111 1112 or 2026-11-20 or 1.2.3")]
    with staged(recipe(**SPREAD), calls) as (con, made):
        rows = dict(con.execute("select example_id, prompt || answer from dataset_row").fetchall())
        assert not [v for v in values if v in "".join(rows.values())]
        assert json.loads(con.execute("select answer from dataset_row where example_id = 'first'").fetchall()[0][0])[0]["tool_calls"][0]["function"]["arguments"] == '{"to":"[EMAIL_1]","text":"a\\n[CARD_1]"}'
        assert "write to [EMAIL_1] and [EMAIL_2]" in rows["later"]
        assert "write to [EMAIL_1] or 4111 1111 1111 1112 or 2026-11-20 or 1.2.3" in rows["other"]
        assert made.personal == {"email": 2, "phone": 1, "card": 1, "iban": 1, "ip": 1, "key": 2}
        assert not [v for v in values if v in json.dumps(made.funnel)]


def tool_answer(arguments: object) -> list[dict]:
    return [{"role": "assistant", "content": "", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": json.dumps(arguments)}}]}]


def test_a_number_that_is_personal_becomes_a_string_and_all_stays_json() -> None:
    card = 4111111111111111
    tools = json.dumps([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"id": {"type": "integer", "default": card, "maximum": 9}}}}}])
    arguments = {"id": card, "all": [1, card, [card]], "note": None, "said": f"n {card}", "inner": json.dumps({"a": f'"{card}"'}), "rate": 1.5}
    with staged(recipe(**SPREAD), [said("x", "look it up", tool_answer(arguments), tools=tools)]) as (con, made):
        [(answer, offered)] = con.execute("select answer, tools from dataset_row").fetchall()
        assert json.loads(json.loads(answer)[0]["tool_calls"][0]["function"]["arguments"]) == {
            "id": "[CARD_1]", "all": [1, "[CARD_1]", ["[CARD_1]"]], "note": None, "said": "n [CARD_1]", "inner": '{"a": "\\"[CARD_1]\\""}', "rate": 1.5}  # fmt: skip
        assert json.loads(offered)[0]["function"]["parameters"]["properties"]["id"] == {"type": "integer", "default": "[CARD_1]", "maximum": 9}
        assert made.personal == {"card": 1}


def test_nothing_personal_reaches_from_one_text_into_another() -> None:
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    asked = [{"role": "user", "content": f'It "begins" with\n{begin}?'}, {"role": "assistant", "content": f"It ends with {end}."}, {"role": "user", "content": f'Is\n{begin}\nMII"abc\n{end} one?'}]
    with staged(recipe(**SPREAD), [said("x", asked, tool_answer({"a": begin, "b": end, "c": "\x0bbob@example.com"}))]) as (con, made):
        [(prompt, answer)] = con.execute("select prompt, answer from dataset_row").fetchall()
        assert json.loads(prompt) == [*asked[:2], {"role": "user", "content": "Is\n[KEY_1] one?"}]
        assert json.loads(json.loads(answer)[0]["tool_calls"][0]["function"]["arguments"]) == {"a": begin, "b": end, "c": "\x0b[EMAIL_1]"}
        assert made.personal == {"key": 1, "email": 1}


def test_what_redaction_breaks_is_dropped_with_the_reason() -> None:
    # Passwords that are words of the format, and arguments that are nothing but a number.
    calls = [said("role", "open ftp://admin:user@example.org"), said("field", "open ftp://admin:content@example.org"), said("bare", "b?", tool_answer(4111111111111111)),
             said("whole", "c?")]  # fmt: skip
    with staged(recipe(**SPREAD), calls) as (con, made):
        assert seen(con, "select example_id, case when example_id = 'bare' then json_extract_string(answer, '$[0].tool_calls[0].function.arguments') end from dataset_row order by 1") == ['bare "[CARD_1]"', "whole -"]
        assert [(s["stage"], json.loads(s["reasons"])) for s in made.funnel if s["dropped_count"]] == [("redaction", {"no readable messages": 1, "unknown role": 1})]
        dropped(made)
    with staged(recipe(**SPREAD), calls[3:]) as (con, _):
        con.execute("""insert into work.redaction (example_no, prompt, answer) select example_no, '[{"role":"user","content":[CARD_1]}]', answer from example""")
        stages._check(con, made := stages.Made(), "redaction", "select * from clean")
        assert dropped(made) == {"no readable messages": 1}


def test_a_step_that_is_not_seen_is_taught_to_nobody() -> None:
    search, user = {"type": "web_search_call", "id": "w", "status": "completed", "action": {"query": "z"}}, {"role": "user", "content": "q?"}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
    calls = [said("asked", [user, search, answer, user]), said("answered", "b?", [answer, search, answer]), said("none", [{"content": "c?"}]), said("reasons", "d?", [{"type": "reasoning", "summary": []}, answer])]
    with staged(recipe(**SPREAD), calls) as (con, made):
        assert ids(con) == ["reasons"] and dropped(made) == {"unknown role": 3}


def test_a_rule_of_consent_binds_whole_and_says_yes_or_no() -> None:
    calls = [said(t, f"{t}?", tenant=t, **more) for t, more in (("acme", {}), ("beta", {}), ("gamma", {"workload": "w"}))]
    consent = "tenant,workload,is_allowed,licence\n,,yes,cc-by\nacme,,yes,\nbeta,,NO ,\ngamma,,yes,own\n,w,no,cc-by"
    with staged(recipe(**SPREAD), calls, training_consent=consent.replace(",w,no", ",w,yes")) as (con, _):
        # gamma: of rules that name as much, the licence that comes first.
        assert seen(con, "select inference_id, licence from call order by 1") == ["acme -", "gamma cc-by"]
    with staged(recipe(rights={"consent": "required", "licences": ["cc-by"]}, **SPREAD), calls, training_consent=consent) as (con, made):
        assert ids(con) == [] and dropped(made) == {"consent refused": 2, "licence not allowed": 1}
    for bad in ("beta,,,", "beta,,maybe,"):
        with pytest.raises(NotConfigured, match=r"training_consent\.csv .*tenant beta"), staged(recipe(), calls, training_consent=consent.replace("beta,,NO ,", bad)):
            pass


def test_rights_bind_by_tenant_provider_and_place() -> None:
    calls = [said(f"{tenant}{n}", f"{tenant} {n}", tenant=tenant, provider_name=provider, served_region=region)
             for n, (tenant, provider, region) in enumerate([("yes", "lab", "eu-west-1"), ("no", "lab", "eu-west-1"), ("new", "lab", "eu-west-1"), ("yes", "openai", "eu-west-1"), ("yes", "lab", "us-east-1"), ("yes", "lab", None)])]  # fmt: skip
    consent = "tenant,workload,is_allowed,licence\nyes,,yes,own\nno,,no,"
    with staged(recipe(rights={"consent": "required", "jurisdictions": ["eu", "ie"]}, **SPREAD), calls, training_consent=consent) as (con, made):
        assert ids(con) == ["yes0"]
        assert dropped(made) == {"consent refused": 1, "no consent known": 1, "provider terms forbid": 1, "served elsewhere or unknown where": 2}
    with staged(recipe(rights={"consent": "assumed", "is_distillation": True}), calls[:1]) as (con, made):
        assert dropped(made)["provider terms not known to allow distillation"] == 1


def test_pairs_come_from_corrections_regenerated_answers_and_outcomes() -> None:
    calls = [
        said("p1", "sum?", "4", good=0.9), said("p2", "sum?", "5", good=0.1),
        said("r1", "poem?", "first", good=None, session_id="s"), said("r2", "poem?", "second", good=None, session_id="s"),
        said("c1", "capital?", "Lyon", good=0.1), said("x1", "joke?", "a", good=0.9), said("x2", "joke?", "b", good=0.85),
        said("k1", "odd?", "no", good=0.95, session_id="t"), said("k2", "odd?", "yes", good=0.1, session_id="t"),
    ]  # fmt: skip
    with staged(recipe("preference", **SPREAD), calls, feedback=[{"target_id": "c1", "value_text": "Paris"}]) as (con, _):
        rows = seen(con, "select label_source, json_extract_string(answer, '$[0].content'), json_extract_string(rejected, '$[0].content') from dataset_row order by all")
        # k: the last answer is the worse one by its outcome, so that the regenerated pair is none, but the outcomes are one.
        assert rows == ["correction Paris Lyon", "outcome 4 5", "outcome no yes", "regenerate second first"]


def test_samples_taken_side_by_side_make_no_pair() -> None:
    # 09:00, 09:01, … are when they start; a question asked once the first answer is there is asked again.
    def poems(*ends: str | None) -> list[dict]:
        return [said(f"p{n}", "poem?", f"poem {n}", good=None, session_id="s", finished_at=end and at(end)) for n, end in enumerate(ends)]

    for ends, found in ((("09:05", "09:05", "09:05"), []), (("09:05", "09:05", None), []), (("09:05", "09:01", "09:02"), ["p2|p1"]), (("09:02", "09:03", "09:04"), ["p2|p0"]), ((None, None), ["p1|p0"])):
        with staged(recipe("preference", **SPREAD), poems(*ends)) as (con, _):
            assert ids(con) == found


def test_an_answer_that_came_back_leaves_the_pair_that_outcomes_make() -> None:
    calls = [said(id, "same?", answer, good, session_id="s") for id, answer, good in (("a", "first", 0.2), ("b", "second", 0.9), ("c", "first", 0.2))]
    with staged(recipe("preference", **SPREAD), calls) as (con, _):
        assert seen(con, "select label_source, example_id from dataset_row") == ["outcome b|a"]


def test_the_worse_call_ties_a_group_as_the_better_one_does() -> None:
    def pairs(**of: str) -> list[dict]:
        return [call for n in range(12) for call in (
            said(f"g{n:02}", f"question {n} of {n * 7919}?", f"good {n}", good=0.9, **dict.fromkeys(of, f"own{n}")), said(f"w{n:02}", f"question {n} of {n * 7919}?", f"bad {n}", good=0.1, **of))]  # fmt: skip

    together = {"conversation": {"session_id": "shared"}, "tenant": {"tenant": "shared"}}
    for name, of in together.items():
        for tie, groups in ((name, "1"), ("near_duplicate", "12")):
            with staged(recipe("preference", split={"by": "group", "together": [tie]}), pairs(**of)) as (con, _):
                assert seen(con, "select count(*), count(distinct group_key) from dataset_row") == [f"12 {groups}"]


def test_a_session_named_as_a_trace_is_another_conversation() -> None:
    calls = [said("s", "write to amy@b.org", session_id="x"), said("t", "write to bob@b.org please", trace_id="x"), said("x", "or to eve@b.org?")]
    with staged(recipe(**SPREAD), calls) as (con, _):
        assert seen(con, "select count(distinct conversation), count(*) from dataset_row where prompt like '%[EMAIL_1]%'") == ["3 3"]


def test_kto_takes_both_sides_and_eval_is_never_trained_on() -> None:
    calls = [said("good"), said("bad", "b?", "I cannot help.", good=0.1), said("middle", "c?", good=0.5)]
    with staged(recipe("kto", **SPREAD), calls) as (con, _):
        assert seen(con, "select example_id, is_good from dataset_row order by 1") == ["bad false", "good true"]
    held = {"dataset_version": "eval-1", "example_id": "e", "inference_id": "e", "started_at": None, "prompt": json.dumps([{"role": "user", "content": LONG}])}
    with staged(recipe(**SPREAD), [said("near", LONG + " more"), said("free")], held=[held]) as (con, made):
        assert ids(con) == ["free"]
        assert dropped(made) == {"near an evaluation prompt": 1}


@pytest.mark.parametrize("by", ["time", "group"])
def test_no_group_is_in_two_splits(by: str) -> None:
    calls = [said(f"c{n:03}", f"question {n // 3} " + " ".join(f"w{n // 3}_{i}" for i in range(20)) + f" {n}", f"answer {n} " + " ".join(f"a{n}_{i}" for i in range(40)), session_id=f"s{n % 50}") for n in range(120)]
    with staged(recipe(split={"by": by, "together": ["near_duplicate"]}), calls) as (con, made):
        assert seen(con, "select count(*) from (select group_key from dataset_row group by 1 having count(distinct split) > 1)") == ["0"]
        assert seen(con, "select count(distinct split), count(distinct group_key) from dataset_row") == ["3 40"]
        # The three like prompts of a group are never parted.
        assert seen(con, "select count(*) from (select regexp_extract(prompt, 'question ([0-9]+)', 1) as q from dataset_row group by 1 having count(distinct split) > 1)") == ["0"]
        if by == "time":
            assert seen(con, "select max(started_at) filter (where split = 'train') < min(started_at) filter (where split = 'test') from dataset_row") == ["true"]
        dropped(made)


@pytest.mark.parametrize("kind", ["kto", "preference", "sft"])
def test_labels_that_look_wrong_are_ranked_and_none_is_dropped(kind: str) -> None:
    def answer(n: int, is_good: bool) -> str:
        return f"{'checked verified exact result' if is_good else 'maybe unsure guess perhaps'} number {n} with token{n % 7} and more{n * 31 % 97}"

    wrong = {n for n in range(200) if n % 20 == 3}
    calls = []
    for n in range(200):
        is_good = n % 2 == 1
        if kind == "preference":
            calls += [said(f"a{n:03}", f"question {n} of {n * 7919}?", answer(n, n not in wrong), good=0.9), said(f"b{n:03}", f"question {n} of {n * 7919}?", answer(n, n in wrong), good=0.1)]
        else:
            calls.append(said(f"a{n:03}", f"question {n} of {n * 7919}?", answer(n, is_good != (n in wrong)), good=0.9 if is_good else 0.1))
    with staged(recipe(kind, gates={"near_duplicate_share": 1.0}, **SPREAD), calls) as (con, made):
        [(total, doubted)] = con.execute("select count(*), count(*) filter (where is_doubted) from dataset_row").fetchall()
        planted = [f"a{n:03}" for n in sorted(wrong)]
        found = [i[:4] for (i,) in con.execute(f"select example_id from dataset_row order by doubt_share desc, example_no limit {len(wrong)}").fetchall()]
        assert total == (100 if kind == "sft" else 200) and sorted(found) == planted
        assert len(wrong) / 2 <= doubted <= 2 * len(wrong)
        assert made.funnel[-1]["stage"] == "label review" and made.funnel[-1]["dropped_count"] == 0


def test_an_edit_that_was_kept_is_chosen_and_signals_that_conflict_make_no_pair() -> None:
    calls = [said("e1", "mail?", "Dear sir", good=0.4), said("c1", "sum?", "5", good=0.9), said("x1", "odd?", "no", conflicting=True), said("x2", "odd?", "yes", good=0.1)]
    feedback = [{"target_id": "e1", "name": "edit", "kind": "text", "value_text": "Dear madam"}, {"target_id": "c1", "value_text": "4"}, {"target_id": "x1", "value_text": "neither"}]
    with staged(recipe("preference", **SPREAD), calls, feedback=feedback) as (con, _):
        # c1: what outcomes call good cannot be the worse one; x1: its own signals pull both ways.
        assert seen(con, "select label_source, json_extract_string(answer, '$[0].content'), json_extract_string(rejected, '$[0].content'), request_model from dataset_row") == ["edit Dear madam Dear sir -"]


def test_a_budget_is_mixed_by_workload_and_difficulty() -> None:
    calls = [said(f"{w}{d}{n}", f"{w} {d} {n} " + ("far " * 2000 if d == "m" else ""), f"answer {w}{d}{n}", workload=w) for w in ("a", "b") for d in ("e", "m") for n in range(10)]
    shares = {"workload_shares": {"a": 0.5, "b": 0.5}, "difficulty_shares": {"easy": 0.2, "medium": 0.8}}
    with staged(recipe(gates={"near_duplicate_share": 1.0}, mix=shares | {"max_examples": 20}, **SPREAD), calls) as (con, made):
        assert seen(con, "select workload, difficulty, count(*) from dataset_row group by all order by all") == ["a easy 2", "a medium 8", "b easy 2", "b medium 8"]
        assert dropped(made) == {"beyond the budget": 20}
    with staged(recipe(gates={"near_duplicate_share": 1.0}, mix={"max_tokens": 100, "workload_shares": {"a": 1}}, **SPREAD), calls) as (con, made):
        [(tokens, others)] = con.execute("select sum(prompt_tokens + answer_tokens), count(*) filter (where workload <> 'a') from dataset_row").fetchall()
        assert 0 < tokens <= 100 and not others


def shouting(texts: list[str]) -> list[float]:
    return [float("!!!" in text) for text in texts]


def test_toxic_examples_go_by_a_list_or_by_the_users_own_scorer(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Grubby Oaf\n\nnincompoop\n")
    calls = [said("oaf", "Is he a GRUBBY, oaf?"), said("nin", "b?", "You nincompoop."), said("loud", "c?", "No!!!"), said("kind", "Is it grubby?")]
    with staged(recipe(gates={"toxicity": {"words": str(tmp_path / "words.txt")}}, **SPREAD), calls) as (con, made):
        assert ids(con) == ["kind", "loud"] and dropped(made) == {"a word of the list": 2}
    with staged(recipe(gates={"toxicity": {"scorer": f"{__name__}:shouting"}}, **SPREAD), calls) as (con, made):
        assert ids(con) == ["kind", "nin", "oaf"] and dropped(made) == {"scored toxic": 1}
    with pytest.raises(NotConfigured, match="no function"), staged(recipe(gates={"toxicity": {"scorer": "json:nothing"}}, **SPREAD), calls):
        pass


@pytest.mark.parametrize(("kind", "values"), [
    ("EMAIL", ["bob+tag@mail.sub.example.co.uk", "bob%40example.com", "élodie@exemple.fr"]),
    ("IBAN", ["DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "de89 3704 0044 0532 0130 00", "GB29-NWBK-6016-1331-9268-19"]),
    ("CARD", ["4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111", "378282246310005"]),
    ("PHONE", ["+49 170 1234567", "+49 (0)30 1234567", "0049 30 1234567", "(415) 555-2671", "06 12 34 56 78"]),
    ("IP", ["10.1.2.3", "2001:db8::8a2e:370:7334", "fe80::1ff:fe23:4567:890a"]),
    ("KEY", ["sk-ant-api03-abcdefghijklmnopqrst", "AKIAIOSFODNN7EXAMPLE", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "xoxb-123456789012-abcdef", "nvapi-abcdefghij0123456789xyz",
             "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\ndef\n-----END RSA PRIVATE KEY-----"]),
    (None, ["2026-11-20 10:00:00", "127.0.0.1", "4111 1111 1111 1112", "order 12345678", "DE88370400440532013000", "std::vector::iterator", "a::b::c", "api_key = os.environ['OPENAI_API_KEY']"]),
])  # fmt: skip
def test_personal_data_is_told_from_what_looks_like_it(kind: str | None, values: list[str]) -> None:
    # In a message, after an escaped line break, and in JSON inside the JSON of a tool call.
    calls = []
    for n, value in enumerate(values):
        args = [{"role": "assistant", "content": f'("{value}")', "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"body": json.dumps({"x": f"a\n{value}\nb"})})}}]}]
        calls.append(said(f"c{n}", f"Hi\n{value}\nand call {value}, please, number {n}", args))
    with staged(recipe(gates={"near_duplicate_share": 1.0}, **SPREAD), calls) as (con, made):
        rows = con.execute("select json_extract_string(prompt, '$[0].content') || json_extract_string(answer, '$[0].content') || json_extract_string(answer, '$[0].tool_calls[0].function.arguments') from dataset_row order by example_id").fetchall()
        assert len(rows) == len(values)
        for value, (text,) in zip(values, rows, strict=True):
            assert (value in text) == (kind is None), text
            assert kind is None or f"[{kind}_1]" in text
        # A value that is escaped another way is counted as another one.
        assert list(made.personal) == ([kind.lower()] if kind else []) and sum(made.personal.values()) in (0, len(values), len(values) + 1)


def test_what_is_called_a_key_is_one() -> None:
    calls = [said("aws", 'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1"'), said("json", 'use {"api_key": "0123456789abcdef0123456789abcdef"}'), said("url", "connect to redis://admin:s3cretpw9@localhost/0")]
    with staged(recipe(**SPREAD), calls) as (con, _):
        text = " ".join(seen(con, "select prompt from dataset_row"))
        assert "wJalr" not in text and "0123456789abcdef" not in text and "s3cretpw9" not in text and text.count("[KEY_1]") == 3
