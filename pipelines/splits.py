"""Groups of calls that must not be torn apart by a split: for datasets.routing_split.

Calls that share a session, a trace or a (nearly) equal prompt, directly or through others, are one group: a connected
component of the graph whose edges join a call to its session, its trace and its prompt, and like prompts to each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LIKE = 0.7
"""Jaccard similarity of three-word shingles from which two prompts count as the same."""
BANDS, ROWS = 16, 4
"""Minhash bands: a pair of similarity 0.7 shares one with probability 0.988; what shares one is compared in full."""
CROWD = 64
"""Prompts that share a band beyond this many are compared with the first of the band only: a crowd of copies is a chain."""

PROMPTS = """
create or replace temp table split_prompt as
select row_number() over (order by prompt_key) - 1 as prompt_no, prompt_key, any_value(prompt order by inference_id) as prompt
from datasets.routing_log where prompt is not null group by prompt_key"""
SHINGLES = """
create or replace temp table split_shingle as
with worded as (
    select prompt_no, list_filter(regexp_split_to_array(regexp_replace(lower(prompt), '[0-9]+', '0', 'g'), '[^\\pL\\pN]+'), lambda w: w <> '') as word
    from split_prompt
)
select distinct prompt_no, hash(case when len(word) < 3 then array_to_string(word, ' ') else array_to_string(word[n : n + 2], ' ') end) as shingle
from (select prompt_no, word, unnest(generate_series(1, greatest(1, len(word) - 2))) as n from worded) as run"""
# One hash function a band row: the shingle's hash, mixed with the row's number.
BAND = f"""
create or replace temp table split_band as
with signature as (
    select prompt_no, row_no, min(hash(xor(shingle, hash(row_no)))) as lowest
    from split_shingle, (select unnest(range({BANDS * ROWS})) as row_no) as rows
    group by prompt_no, row_no
)
select prompt_no, row_no // {ROWS} as band, hash(list(lowest order by row_no)) as bucket
from signature group by prompt_no, row_no // {ROWS}"""
PAIRS = f"""
with crowded as (
    select *, row_number() over (partition by band, bucket order by prompt_no) as nth, min(prompt_no) over (partition by band, bucket) as first_no,
        count(*) over (partition by band, bucket) as crowd
    from split_band
),
candidate as (
    select distinct a.prompt_no as a, b.prompt_no as b
    from crowded as a join crowded as b on a.band = b.band and a.bucket = b.bucket and a.prompt_no < b.prompt_no
    where a.crowd <= {CROWD} or a.nth = 1
),
size as (select prompt_no, count(*) as shingles from split_shingle group by prompt_no),
shared as (
    select a, b, count(*) as shared
    from candidate
    join split_shingle as x on x.prompt_no = a
    join split_shingle as y on y.prompt_no = b and y.shingle = x.shingle
    group by a, b
)
select a, b from shared join size as m on m.prompt_no = a join size as n on n.prompt_no = b
where shared >= {LIKE} * (m.shingles + n.shingles - shared)"""
EDGES = """
with call as (
    select inference_id, row_number() over (order by inference_id) - 1 as call_no, source || ' ' || session_id as session, source || ' ' || trace_id as trace, prompt_key
    from datasets.routing_log
)
select call_no, dense_rank() over (order by kind, value) - 1 as tie_no, case when kind = 'prompt' then value end as prompt_key
from (
    select call_no, 'session' as kind, session as value from call where session is not null
    union all select call_no, 'trace', trace from call where trace is not null
    union all select call_no, 'prompt', prompt_key from call where prompt_key is not null
) as tie"""


def group(con: Any) -> None:
    """Make the temporary table `routing_group` (inference_id, group_key) out of datasets.routing_log; deterministic."""
    for sql in (PROMPTS, SHINGLES, BAND):
        con.execute(sql)
    con.execute(f"create or replace temp table split_edge as {EDGES}")
    ties = con.execute("select call_no, tie_no from split_edge").fetchnumpy()
    alike = con.execute(
        f"""select x.tie_no as a, y.tie_no as b from ({PAIRS}) as pair
        join split_prompt as p on p.prompt_no = a join split_prompt as q on q.prompt_no = b
        join (select distinct prompt_key, tie_no from split_edge) as x on x.prompt_key = p.prompt_key
        join (select distinct prompt_key, tie_no from split_edge) as y on y.prompt_key = q.prompt_key"""
    ).fetchnumpy()
    [(calls,)] = con.execute("select count(*) from datasets.routing_log").fetchall()
    size = calls + int(ties["tie_no"].max(initial=-1)) + 1
    start = np.concatenate([ties["call_no"], calls + alike["a"]]).astype(np.int64)
    end = np.concatenate([calls + ties["tie_no"], calls + alike["b"]]).astype(np.int64)
    _, component = connected_components(coo_array((np.ones(len(start), dtype=np.int8), (start, end)), shape=(size, size)), directed=False)
    con.register("split_component", pa.table({"call_no": np.arange(calls), "component": component[:calls]}))
    con.execute(
        """create or replace temp table routing_group as
        select inference_id, min(inference_id) over (partition by component) as group_key
        from (select inference_id, row_number() over (order by inference_id) - 1 as call_no from datasets.routing_log) as call
        join split_component using (call_no)"""
    )
    con.unregister("split_component")
