"""What confused the models: topics of prompts, and where a model fails more often than elsewhere, for marts.confusion.

A month's prompts are clustered by their text alone; no outcome is looked at before the clusters stand, so testing the outcomes
afterwards needs no second half of the data. Text: personal data out, numbers alike, TF-IDF (pipelines/learn/features.py), latent
semantic analysis (Deerwester et al. 1990), Ward's tree (1963) cut where the mean silhouette is highest (Rousseeuw 1987), k-means
from there. Everything is deterministic, and a sample is drawn by hash, so that a few more calls change a few of its prompts. A
cluster's id is a hash of its most telling word, and clusters with the same one are one: a topic keeps its id in another run and
another month as long as that word stays.

A cell is a cluster and a model, or a cluster and all models. Its failure share is the one that makes the calls' evidence most
likely (each call counts by its likelihood ratio; expectation–maximisation), drawn to the share of the model over all clusters by ten
calls. The test asks whether calls of the cell are likelier failures than the same model's other calls. Calls of a thread (session, else
trace) are not independent and outcomes not sure, so a cell counts for as many independent, sure calls as its variance is worth
(Rao and Scott 1981, 1992), and the tail is a binomial's (mid-p), as failures are few and skewed. All tests of a month share one false
discovery rate (Benjamini and Hochberg 1995). Models are compared within a cluster in the same way, with all alternatives paid for.
"""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.special import betainc, expit
from scipy.stats import false_discovery_control
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import normalize

from pipelines.learn.features import PromptFeatures
from pipelines.settings import ROOT

MOST_CALLS = 20_000
"""Of a busier month the calls of a hash's share of the threads are looked at: a month takes seconds, however many calls it has."""
FIT_PROMPTS = 3_000
"""Distinct prompts that clusters are learnt from: Ward's method takes the square of it."""
FEWEST_PROMPTS = 20
"""A month with fewer distinct prompts has no topics."""
CLUSTERS = (4, 5, 6, 8, 10, 12, 16, 20, 25, 30, 40)
"""How many there may be; the texts say how many there are."""
SILHOUETTE_PROMPTS = 1_500
DIMENSIONS = 64
READ_CHARACTERS = 2_000
"""Of longer prompts the beginning and the end are read."""
LEAST_CALLS, LEAST_THREADS = 30, 10
"""A smaller cell is not tested."""
NAME_WORDS, NAME_THREADS = 3, 5
"""Words of a label, and the threads that must have said a word for it to be one."""
FALSE_DISCOVERIES = 0.05
PRIOR_CALLS = 10
SUREST = 6.0
"""As in marts.call_outcome: nats of one call's evidence."""
ROUNDS = 300
NO_NAME = "(no common words)"

CALLS = f"""
create or replace temp table confusion_call as
with said as (
    select call.inference_id, call.started_at, cast(date_trunc('month', call.started_at) as date) as month_day,
        thread_of(call.source, call.session_id, call.trace_id, call.inference_id) as thread,
        coalesce(cost.model_name, lower(call.request_model)) as model_name, cost.list_cost_usd,
        1 - outcome.outcome_share as failure_share, outcome.evidence_weight, asked.prompt
    from core.inference as call
    join marts.prompt as asked on asked.inference_id = call.inference_id and asked.started_at = call.started_at
    left join marts.call_cost as cost on cost.inference_id = call.inference_id and cost.started_at = call.started_at
    left join marts.call_outcome as outcome on outcome.inference_id = call.inference_id and outcome.started_at = call.started_at
    where call.started_at >= $from_day and call.started_at < $to_day
        and is_generation(call.operation_name)
),
counted as (
    select *, ('0x' || left(md5(thread), 8))::bigint / 4294967296 as thread_place, least(1, {MOST_CALLS} / count(*) over (partition by month_day)) as sampled_share
    from said where trim(prompt) <> ''
)
select inference_id, month_day, thread, model_name, list_cost_usd, failure_share, evidence_weight, sampled_share,
    md5(case when length(prompt) > {READ_CHARACTERS} then left(prompt, {READ_CHARACTERS // 2}) || ' ' || right(prompt, {READ_CHARACTERS // 2}) else prompt end) as prompt_key,
    case when length(prompt) > {READ_CHARACTERS} then left(prompt, {READ_CHARACTERS // 2}) || ' ' || right(prompt, {READ_CHARACTERS // 2}) else prompt end as prompt
from counted where thread_place < sampled_share"""
PROMPTS = """
create or replace temp table confusion_prompt as
with prompt as (
    select month_day, prompt_key, any_value(prompt) as prompt, min(thread) as thread from confusion_call group by month_day, prompt_key
),
personal as (
    -- The longest first: a number inside an account is gone before it is looked for.
    select month_day, prompt_key, list(value || chr(30) || ' ' order by length(value) desc, value) as pairs
    from (select distinct month_day, prompt_key, found.value as value
        from (select month_day, prompt_key, unnest(personal_found(apart(prompt))) as found from prompt where may_be_personal(prompt)) as hit) as one
    where value <> ''
    group by month_day, prompt_key
)
select prompt.month_day, prompt_key, thread,
    regexp_replace(case when pairs is null then prompt else redacted(prompt, pairs) end, '[0-9]+', '0', 'g') as said
from prompt left join personal using (month_day, prompt_key)"""
CELLS = {
    "month_day": "date", "cluster_id": "varchar", "label": "varchar", "model_name": "varchar", "call_count": "bigint", "judged_count": "bigint", "thread_count": "bigint",
    "failure_share": "double", "failure_share_low": "double", "failure_share_high": "double", "usual_failure_share": "double", "chance_share": "double",
    "false_discovery_share": "double", "verdict": "varchar", "better_model_name": "varchar", "better_failure_share": "double", "better_false_discovery_share": "double",
}  # fmt: skip


def prepare(con: Any, from_day: date, to_day: date) -> None:
    """Make the temporary tables `confusion_call`, `confusion_member` (inference_id, cluster_id) and `confusion_cell` out of calls, texts, costs and outcomes."""
    con.execute((ROOT / "warehouse" / "finetune" / "personal.sql").read_text())
    con.execute(CALLS, {"from_day": from_day, "to_day": to_day})
    con.execute(PROMPTS)
    con.execute("create or replace temp table confusion_member (inference_id varchar, cluster_id varchar)")
    con.execute(f"create or replace temp table confusion_cell ({', '.join(f'{name} {kind}' for name, kind in CELLS.items())})")
    for (month,) in con.execute("select distinct month_day from confusion_call order by 1").fetchall():
        prompts = con.execute("select prompt_key, thread, said from confusion_prompt where month_day = $month order by prompt_key", {"month": month}).df()
        if len(prompts) < FEWEST_PROMPTS:
            continue
        ids, labels = topics(prompts["said"].tolist(), prompts["thread"].to_numpy())
        calls = con.execute(
            """select inference_id, prompt_key, thread, coalesce(model_name, '') as model_name, failure_share, evidence_weight
            from confusion_call where month_day = $month order by inference_id""", {"month": month}).df()
        calls["cluster_id"] = ids[np.searchsorted(prompts["prompt_key"].to_numpy(), calls["prompt_key"].to_numpy())]
        con.register("confused", pa.Table.from_pandas(calls[["inference_id", "cluster_id"]], preserve_index=False))
        con.execute("insert into confusion_member by name select * from confused")
        found = cells(calls)
        found.insert(0, "month_day", month)
        found["label"] = found["cluster_id"].map(labels)
        con.register("confused", pa.Table.from_pandas(found, preserve_index=False))
        con.execute("insert into confusion_cell by name select * from confused")
        con.unregister("confused")


def topics(said: list[str], thread: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """The cluster id of each of distinct prompts, and the label of each id. `thread` is one that said it: a name's words come from several."""
    order = np.argsort([hashlib.md5(text.encode()).hexdigest() for text in said], kind="stable")  # noqa: S324 - a draw, no secret
    drawn = order[:FIT_PROMPTS]
    features = PromptFeatures(shape_weight=0.0, most_words=20_000)
    learnt = features.fit_transform([said[n] for n in drawn])
    if features.words_ is None or learnt.shape[1] < 4:
        return np.full(len(said), _id(NO_NAME)), {_id(NO_NAME): NO_NAME}
    svd = TruncatedSVD(min(DIMENSIONS, learnt.shape[1] - 1, len(drawn) - 1), random_state=0)
    place = normalize(svd.fit_transform(learnt))
    tree = linkage(place, "ward")
    cuts = {count: fcluster(tree, count, "maxclust") - 1 for count in CLUSTERS}
    start = max(cuts.values(), key=lambda cut: _apart(place[:SILHOUETTE_PROMPTS], cut[:SILHOUETTE_PROMPTS]))
    count = int(start.max()) + 1
    means = KMeans(count, init=np.stack([place[start == n].mean(axis=0) for n in range(count)]), n_init=1, random_state=0).fit(place)
    words = learnt[:, slice(*features.columns_["words"])].tocsr()
    # Clusters whose most telling word is the same are one.
    telling = _telling(words, means.labels_, thread[drawn], features.words_.get_feature_names_out(), count)
    heads = sorted({told[:1] for told in telling})
    merged = np.array([heads.index(told[:1]) for told in telling])
    told = _telling(words, merged[means.labels_], thread[drawn], features.words_.get_feature_names_out(), len(heads))
    ids = [_id(head[0] if head else NO_NAME) for head in heads]
    labels = {id: " · ".join(dict.fromkeys([*head, *rest]).keys() if head else [NO_NAME]) for id, head, rest in zip(ids, heads, told, strict=True)}
    number = np.concatenate([means.predict(normalize(svd.transform(features.transform(said[n : n + 5_000])))) for n in range(0, len(said), 5_000)])
    return np.array(ids, dtype=object)[merged[number]], labels


def _apart(place: np.ndarray, cut: np.ndarray) -> float:
    """The silhouette (Rousseeuw 1987), -1..1; -1 where all are one cluster, or each its own."""
    return float(silhouette_score(place, cut)) if 1 < len(np.unique(cut)) < len(cut) else -1.0


def _id(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()[:12]  # noqa: S324 - a name, no secret


def _telling(words: sparse.csr_matrix, cluster: np.ndarray, thread: np.ndarray, terms: np.ndarray, count: int) -> list[tuple[str, ...]]:
    """By cluster: the words that stand out most, single ones, said in several threads, no numbers."""
    usable = np.array([" " not in t and len(t) > 2 and t.isalpha() and t not in ENGLISH_STOP_WORDS for t in terms])
    overall = np.asarray(words.mean(axis=0)).ravel()
    names = []
    for n in range(count):
        mine = np.flatnonzero(cluster == n)
        if not len(mine):
            names.append(())
            continue
        standing_out = np.where(usable, np.asarray(words[mine].mean(axis=0)).ravel() - overall, 0.0)
        chosen: list[str] = []
        for term in np.argsort(-standing_out, kind="stable")[:50]:
            if standing_out[term] <= 0 or len(chosen) == NAME_WORDS:
                break
            said_by = mine[words[mine][:, [term]].toarray().ravel() > 0]
            if len(set(thread[said_by])) >= NAME_THREADS:
                chosen.append(str(terms[term]))
        names.append(tuple(chosen))
    return names


def cells(calls: pd.DataFrame) -> pd.DataFrame:
    """A row a cell of one month's `calls` (cluster_id, model_name, thread, failure_share and evidence_weight, null where unknown).

    Every cluster has a row with a null model; a model has one where it was judged often enough to be tested.
    """
    judged = calls[calls["failure_share"].notna()]
    thread = pd.factorize(judged["thread"])[0]
    cluster, names = pd.factorize(judged["cluster_id"], sort=True)
    y, ratio = judged["failure_share"].to_numpy(float), np.exp(np.clip(judged["evidence_weight"].to_numpy(float), -SUREST, SUREST))
    model = judged["model_name"].to_numpy()
    counted = calls.groupby("cluster_id").size()
    by_model = calls.groupby(["cluster_id", "model_name"]).size()
    rows = []
    for name in [None, *sorted(m for m in set(model) if m)]:
        here = np.flatnonzero(model == name) if name is not None else np.arange(len(y))
        [usual], _, _ = likely_failures(ratio[here], thread[here], np.zeros(len(here), int), 1, None)
        share, low, high = likely_failures(ratio[here], thread[here], cluster[here], len(names), usual)
        chance = more_failures(y[here], thread[here], cluster[here], len(names))
        for n, cluster_id in enumerate(names):
            mine = here[cluster[here] == n]
            threads = len(np.unique(thread[mine]))
            enough = len(mine) >= LEAST_CALLS and threads >= LEAST_THREADS and not np.isnan(chance[n])
            if name is not None and not enough:
                continue
            rows.append({
                "cluster_id": cluster_id, "model_name": name, "call_count": int(counted[cluster_id] if name is None else by_model[cluster_id, name]),
                "judged_count": len(mine), "thread_count": threads, "failure_share": share[n] if len(mine) else None,
                "failure_share_low": low[n] if enough else None, "failure_share_high": high[n] if enough else None, "usual_failure_share": usual,
                "chance_share": chance[n] if enough else None,
            })  # fmt: skip
    rows += [
        {"cluster_id": c, "model_name": None, "call_count": int(n), "judged_count": 0, "thread_count": 0} for c, n in counted.items() if c not in set(names)
    ]
    found = pd.DataFrame(rows, columns=[c for c in CELLS if c not in ("month_day", "label")])
    found["false_discovery_share"] = _adjusted(found["chance_share"])
    found["verdict"] = np.select(
        [found["chance_share"].isna(), (found["false_discovery_share"] <= FALSE_DISCOVERIES) & (found["failure_share"] > found["usual_failure_share"])],
        ["too few", "confused"], "not shown")
    _better(found, y, thread, cluster, model, dict(zip(names, range(len(names)), strict=True)))
    return found.astype({"better_model_name": object, "model_name": object})


def likely_failures(ratio: np.ndarray, thread: np.ndarray, cell: np.ndarray, size: int, usual: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By cell: its share of failures and a 95 % interval, from likelihood ratios of success; drawn towards `usual` by ten calls.

    The interval is the sandwich's, clustered by thread, on the logit scale.
    """
    towards, weight = (0.5, 1.0) if usual is None else (1 - usual, float(PRIOR_CALLS))
    calls = np.bincount(cell, minlength=size)
    success = np.full(size, towards)
    for _ in range(ROUNDS):
        p = success[cell] * ratio
        p /= p + 1 - success[cell]
        fresh = (np.bincount(cell, weights=p, minlength=size) + weight * towards) / (calls + weight)
        done = np.max(np.abs(fresh - success), initial=0.0) < 1e-7
        success = fresh
        if done:
            break
    score = (ratio - 1) / (success[cell] * ratio + 1 - success[cell])
    information = np.bincount(cell, weights=score**2, minlength=size) + weight / (success * (1 - success))
    spread = np.sqrt((_by_thread(score, thread, cell, size) ** 2).sum(axis=0) + weight / (success * (1 - success))) / information
    failure = np.clip(1 - success, 1e-9, 1 - 1e-9)
    centre, half = np.log(failure / (1 - failure)), 1.96 * spread / (failure * (1 - failure))
    return failure, expit(centre - half), expit(centre + half)


def more_failures(y: np.ndarray, thread: np.ndarray, cell: np.ndarray, size: int) -> np.ndarray:
    """By cell: the probability of so many more failures in it than in the others together, if all failed alike; NaN where there is no other.

    `y` is the probability that a call failed. A cell is worth as many independent, sure calls as its variance by thread says, and
    no more than the variance and the likeness within threads over all cells say: the own variance of a small cell is itself drawn.
    """
    n = np.bincount(cell, minlength=size).astype(float)
    chance = np.full(size, np.nan)
    able = (n > 0) & (n < len(y))
    if not able.any() or y.std() == 0:
        return chance
    ones, said = _by_thread(np.ones(len(y)), thread, cell, size), _by_thread(y, thread, cell, size)
    mean = y.mean()
    # What a call is worth beside a sure one, and how alike the calls of a thread are, over all cells.
    sure, alike = mean * (1 - mean) / y.var(), _alike(y - mean, thread)
    worth, share = [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        for number, total in ((ones, said), (_rest(ones), _rest(said))):
            size_of = number.sum(axis=0)
            here = total.sum(axis=0) / size_of
            squared = (number**2).sum(axis=0)
            pooled = size_of * sure / (1 + alike * (squared / size_of - 1))
            # The cell's own variance, around its own mean: sums by thread of y - mean.
            off = (total**2).sum(axis=0) - 2 * here * (total * number).sum(axis=0) + here**2 * squared
            threads = (number > 0).sum(axis=0)
            own = here * (1 - here) * size_of**2 / (off * threads / np.maximum(threads - 1, 1))
            worth.append(np.fmin(pooled, own))
            share.append(here)
        both = 1 / (1 / worth[0] + 1 / worth[1])
        failed, well, others = np.clip(both * share[0], 1e-9, None), np.clip(both * (1 - share[0]), 1e-9, None), np.clip(share[1], 1e-9, 1 - 1e-9)
        tail = (betainc(failed, well + 1, others) + betainc(failed + 1, well, others)) / 2
    chance[able] = tail[able]
    return chance


def _alike(e: np.ndarray, thread: np.ndarray) -> float:
    """Correlation of two calls of a thread, by analysis of variance, not below zero; `e` has mean zero."""
    size = np.bincount(thread)
    pairs = (size * (size - 1.0)).sum()
    return float(max(0.0, ((np.bincount(thread, weights=e) ** 2).sum() - (e**2).sum()) / pairs / e.var())) if pairs else 0.0


def _rest(table: np.ndarray) -> np.ndarray:
    """By thread and cell: the sum over all other cells."""
    return table.sum(axis=1, keepdims=True) - table


def _by_thread(value: np.ndarray, thread: np.ndarray, cell: np.ndarray, size: int) -> np.ndarray:
    """(threads, cells): the sum of the values of each."""
    threads = int(thread.max(initial=-1)) + 1
    return np.bincount(thread * size + cell, weights=value, minlength=threads * size).reshape(threads, size)


def _adjusted(chance: pd.Series) -> pd.Series:
    adjusted = pd.Series(np.nan, index=chance.index)
    if chance.notna().any():
        adjusted[chance.notna()] = false_discovery_control(chance.dropna().to_numpy(float))
    return adjusted


def _better(found: pd.DataFrame, y: np.ndarray, thread: np.ndarray, cluster: np.ndarray, model: np.ndarray, number: dict[str, int]) -> None:
    """Name, by row, the model that surely fails less often on the same cluster; on a row of all models, less often than the others together."""
    found["better_model_name"], found["better_failure_share"], found["better_false_discovery_share"] = None, np.nan, np.nan
    tested = found[found["model_name"].notna()].groupby("cluster_id")["model_name"].agg(list)
    share = found.set_index(["cluster_id", "model_name"])["failure_share"]
    chances: dict[int, tuple[float, str]] = {}
    for at, row in found.iterrows():
        rivals = [m for m in tested.get(row["cluster_id"], []) if m != row["model_name"]]
        of_all = pd.isna(row["model_name"])
        if not rivals or (of_all and len(rivals) < 2):
            continue
        here = np.flatnonzero(cluster == number[row["cluster_id"]])
        told = []
        for rival in rivals:
            mine = here if of_all else here[(model[here] == row["model_name"]) | (model[here] == rival)]
            [_, chance] = more_failures(y[mine], np.unique(thread[mine], return_inverse=True)[1], (model[mine] != rival).astype(int), 2)
            told.append((1.0 if np.isnan(chance) else min(1.0, float(chance) * len(rivals)), rival))
        chances[at] = min(told)
    if not chances:
        return
    for (at, (_, rival)), adjusted in zip(chances.items(), false_discovery_control([chance for chance, _ in chances.values()]), strict=True):
        if adjusted <= FALSE_DISCOVERIES:
            found.loc[at, ["better_model_name", "better_failure_share", "better_false_discovery_share"]] = rival, share[found.loc[at, "cluster_id"], rival], adjusted
