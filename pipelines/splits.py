"""Groups of calls that must not be torn apart by a split: for datasets.routing_split.

Calls that share a session, a trace or a (nearly) equal prompt, directly or through others, are one group: a connected
component of the graph whose edges join a call to its session, its trace and its prompt, and like prompts to each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.near import components, near_pairs

LIKE = 0.7
"""Jaccard similarity of three-word shingles from which two prompts count as the same."""
LEAST_WORDS, LEAST_CHARACTERS = 3, 30
"""A prompt with fewer of both is short: it holds no run of three words. Scripts that set no spaces have long words."""
PROMPTS = f"""
create or replace temp table split_prompt as
select row_number() over (order by prompt_key) - 1 as prompt_no, prompt_key, prompt
from (select prompt_key, any_value(prompt order by inference_id) as prompt from datasets.routing_log where prompt is not null group by prompt_key) as told
where case when length(prompt) >= {LEAST_CHARACTERS} then true else len(text_words(prompt)) >= {LEAST_WORDS} end"""
PROMPTS_SAID = """
create or replace temp table split_said as
select prompt_no, min(prompt_no) over (partition by said) as no, said
from (select prompt_no, regexp_replace(prompt, '[0-9]+', '0', 'g') as said from split_prompt)"""
"""Every number is the same word: prompts that differ in a number only are one prompt, `no`."""
WORDS = "create or replace temp table split_word as select no, word_hashes(text_words(said)) as word from split_said where no = prompt_no"
EDGES = """
with call as (
    select inference_id, row_number() over (order by inference_id) - 1 as call_no, source || ' ' || session_id as session, source || ' ' || trace_id as trace, prompt_key,
        prompt is null or prompt_key in (select prompt_key from split_prompt) or message_count > 2 as is_telling
    from datasets.routing_log
)
select call_no, dense_rank() over (order by kind, value) - 1 as tie_no, case when kind = 'prompt' then value end as prompt_key
from (
    select call_no, 'session' as kind, session as value from call where session is not null
    union all select call_no, 'trace', trace from call where trace is not null
    union all select call_no, 'prompt', prompt_key from call where prompt_key is not null and is_telling
) as tie"""
"""A short prompt ties calls only with turns before it: one message, or a system prompt and one, has none."""


def group(con: Any) -> None:
    """Make the temporary table `routing_group` (inference_id, group_key) out of datasets.routing_log; deterministic."""
    con.execute(PROMPTS)
    con.execute(PROMPTS_SAID)
    con.execute(WORDS)
    con.execute(f"create or replace temp table split_edge as {EDGES}")
    ties = con.execute("select call_no, tie_no from split_edge").fetchnumpy()
    same = con.execute("select no, prompt_no from split_said where no < prompt_no order by prompt_no").fetchnumpy()
    tie_of = con.execute(
        "select tie_no from split_prompt join (select distinct prompt_key, tie_no from split_edge where prompt_key is not null) using (prompt_key) order by prompt_no"
    ).fetchnumpy()["tie_no"]
    [(calls,)] = con.execute("select count(*) from datasets.routing_log").fetchall()
    size = calls + int(ties["tie_no"].max(initial=-1)) + 1
    start = np.concatenate([ties["call_no"], calls + tie_of[same["no"]]]).astype(np.int64)
    end = np.concatenate([calls + ties["tie_no"], calls + tie_of[same["prompt_no"]]]).astype(np.int64)
    component = components(size, start, end)
    # Only prompts that nothing else ties together need to be compared.
    a, b = near_pairs(con, "select no, word from split_word", LIKE, component[calls + tie_of.astype(np.int64)])
    component = components(size, np.concatenate([start, calls + tie_of[a]]), np.concatenate([end, calls + tie_of[b]]))
    con.register("split_component", pa.table({"call_no": np.arange(calls), "component": component[:calls]}))
    con.execute(
        """create or replace temp table routing_group as
        select inference_id, min(inference_id) over (partition by component) as group_key
        from (select inference_id, row_number() over (order by inference_id) - 1 as call_no from datasets.routing_log) as call
        join split_component using (call_no)"""
    )
    con.unregister("split_component")
