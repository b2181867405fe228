"""How far each rater can be trusted: expectation–maximisation over the signals of four weeks, for marts.evaluator.

The model is that of Dawid and Skene (1979, Applied Statistics 28, 20–28) with two classes, a call that did its job and one that
did not, and with silence as an answer too. A channel is a kind of signal: its name, who gives it, and whether to the call, the
session or the trace. Given the class, channels speak or keep silent independently of each other; a rater who speaks names a
fifth of the scale. Every estimate is shrunk: a rater's towards its channel's, a channel's towards the rule's
(schemas/reference/signal.csv), so that one who has said little counts as the rule says, and one who always says the same
counts nothing.

Delays are seen only up to now (right truncation); their distribution is the product-limit estimate in reversed time of
Lynden-Bell (1971, MNRAS 155, 95–118).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit
from scipy.stats import t as student

WEEKS = 4
"""A week is judged by its own signals and those of the three before it."""
FIFTHS = 5
MAX_ROUNDS = 500
SETTLED = 1e-5
"""Largest change of a call's probability after which the rounds end."""
BASE_PRIOR, BASE_PRIOR_CALLS = 0.75, 50
"""Share of calls that do their job, before anything is known, and the calls that this opinion is worth."""
RATER_PRIOR_SIGNALS = 10
"""Few on purpose: a prior that thinks little of judges drags the base rate down with them."""
RATER_SIGNALS = 5
"""A person or evaluator with fewer signals in the window has no row: the channel's counts."""
SILENT_CALLS = 100
MATURE_SHARE = 0.95
DELAY_SIGNALS = 20
"""With fewer, the rule's delay is used."""
LATEST_MS = 14 * 86_400_000
"""Signals that come later than this are not waited for."""
LARGEST_WEIGHT = 7.0
"""In nats: odds of 1,100 to 1. No one witness is surer."""
UNANIMOUS_SHARE, UNANIMOUS_COUNT, UNANIMOUS_CHANCE = 0.98, 20, 0.001
DRIFT_SCORE, DRIFT_Z = 0.08, 4.0
PEER_SCORE = 0.03
"""How much less than its peers a rater agrees with all other evidence before it is flagged, if also four standard errors. Peers are the other
raters of its channel, constant ones left out: where most calls go well, who finds all of them good agrees with much and knows nothing. Who finds
nearly all good is no measure either, so peers must also agree more beyond chance."""

CHANNEL = "signal_name, rater_kind, level, is_last_call"
CELL = "concat(c.source, ':', coalesce(c.traffic_kind, ''))"
"""Where the same signals can come: agents do not press thumbs. Unlike cells would look like agreeing witnesses."""
NEWEST = """least(cast($end_day as timestamp), (select max(seen_at) from (
    select max(started_at) as seen_at from core.inference where started_at >= $from_day and started_at < $end_day
    union all select max(given_at) from marts.outcome_signal where started_at >= $from_day and started_at < $end_day)))"""
"""Whatever else is there: a week comes out the same whether it is built alone or with others."""
SIGNALS = f"""
create or replace temp table fit_signal as
with spoken as (
    select s.*, {CELL} as cell, dense_rank() over (order by {CHANNEL}) - 1 as channel_no, count(*) over (partition by {CHANNEL}, rater_id) as rater_signals
    from marts.outcome_signal as s join core.inference as c using (inference_id)
    where s.started_at >= $from_day and s.started_at < $to_day and c.started_at >= $from_day and c.started_at < $to_day and score_share is not null
)
select * exclude (rater_signals), kept_id, dense_rank() over (order by channel_no, kept_id nulls first) - 1 as rater_no,
    greatest(0, delay_ms + date_diff('millisecond', given_at, {NEWEST})) as seen_ms,
    started_at >= $to_day - interval 7 day as is_this_week
from (select *, case when shape = 'judgement' and rater_signals >= {RATER_SIGNALS} then rater_id end as kept_id from spoken) as kept"""
CHANNELS = f"""
select channel_no, {CHANNEL}, s.rule, any_value(s.shape) as shape, list(distinct cell order by cell) as cells, count(*) as signal_count,
    any_value(r.polarity) as polarity, any_value(coalesce(r.accuracy_share, 0.5)) as accuracy_share, any_value(coalesce(r.failure_to_success_ratio, 1)) as ratio,
    any_value(coalesce(r.prior_signals, 10)) as prior_signals, any_value(coalesce(r.prior_delay_ms, 0)) as prior_delay_ms
from fit_signal as s
left join (select *, row_number() over (partition by rule order by rule_no) as nth from signal_rule) as r on r.rule = s.rule and r.nth = 1
group by channel_no, {CHANNEL}, s.rule order by channel_no"""
WAIT = "(select unnest($cells) as cell, unnest($wait_ms) as wait_ms) as waiting"
CALLS = f"""
select cell, count(*) from (select *, {CELL} as cell from core.inference as c) as c join {WAIT} using (cell)
where started_at >= $from_day and started_at < $to_day
    and coalesce(finished_at, started_at) + to_milliseconds(wait_ms) <= {NEWEST}
    and inference_id not in (select inference_id from fit_signal where shape = 'fact')
group by cell"""
VOICES = f"""
select dense_rank() over (order by inference_id) - 1 as call, list_position($cells, cell) - 1 as cell, channel_no as channel, rater_no as rater,
    score_share as score, case when shape = 'judgement' then score_fifth - 1 else -1 end as fifth, kept_id is null as is_lump, is_this_week,
    row_number() over (partition by inference_id, channel_no order by rater_no) = 1 as is_first
from fit_signal join {WAIT} using (cell)
where seen_ms >= wait_ms and inference_id not in (select inference_id from fit_signal where shape = 'fact')"""


FITTED = {
    "week_day": "date", "signal_name": "varchar", "rater_kind": "varchar", "level": "varchar", "is_last_call": "boolean", "rater_id": "varchar",
    "rule": "varchar", "shape": "varchar", "cells": "varchar[]", "signal_count": "bigint", "base_success_share": "double",
    "present_if_success_share": "double", "present_if_failure_share": "double", "present_weight": "double", "absent_weight": "double",
    **{f"weight_{n}": "double" for n in range(1, FIFTHS + 1)},
    "discrimination_share": "double", "mean_score_share": "double", "week_mean_score_share": "double", "week_signal_count": "bigint",
    "agreement_share": "double", "agreement_share_low": "double", "agreement_share_high": "double", "peer_agreement_share": "double",
    "matured_after_ms": "bigint", "is_constant": "boolean", "is_inverted": "boolean", "is_drifting": "boolean", "is_disagreeing": "boolean",
}  # fmt: skip
RATERS = """
select rater_no, any_value(channel_no) as channel_no, any_value(kept_id) as rater_id, count(*) as signal_count,
    count(*) filter (where is_this_week) as week_signal_count
from fit_signal group by rater_no order by rater_no"""


def fit(con: Any, from_day: date, to_day: date) -> None:
    """Make the temporary table `evaluator_fit` out of core.inference, marts.outcome_signal and signal_rule; weights are in nats.

    One row a week (its Monday), channel and rater with at least five signals, and one a channel with a null rater. Each week
    sees only its own calls, those of three weeks before, and signals up to two weeks after it, whatever else is there.
    """
    con.execute(f"create or replace temp table evaluator_fit ({', '.join(f'{name} {kind}' for name, kind in FITTED.items())})")
    weeks = con.execute(
        "select distinct cast(date_trunc('week', started_at) as date) from core.inference where started_at >= $1 and started_at < $2 order by 1", [from_day, to_day]
    ).fetchall()
    for (monday,) in weeks:
        if rows := _week(con, monday):
            con.register("fitted", pa.Table.from_pylist(rows))
            con.execute("insert into evaluator_fit by name select * from fitted")
            con.unregister("fitted")


def _week(con: Any, monday: date) -> list[dict[str, Any]]:
    """The rows of one week; none where its window has no signal."""
    window = {"from_day": monday - timedelta(weeks=WEEKS - 1), "to_day": monday + timedelta(weeks=1), "end_day": monday + timedelta(weeks=3)}
    con.execute(SIGNALS, window)
    channels = con.sql(CHANNELS).to_arrow_table().to_pylist()
    if not channels:
        return []
    delays = con.execute("select channel_no, delay_ms, seen_ms from fit_signal").fetchnumpy()
    for channel in channels:
        mine = delays["channel_no"] == channel["channel_no"]
        channel["matured_after_ms"] = matured_after(delays["delay_ms"][mine], delays["seen_ms"][mine], channel["prior_delay_ms"])
    cells = sorted({cell for channel in channels for cell in channel["cells"]})
    waiting = {"cells": cells, "wait_ms": [max(c["matured_after_ms"] for c in channels if cell in c["cells"]) for cell in cells]}
    called = dict(con.execute(CALLS, {**window, **waiting}).fetchall())
    voices = Voices(**{name: np.asarray(column) for name, column in con.execute(VOICES, waiting).fetchnumpy().items()})
    raters = con.sql(RATERS).to_arrow_table().to_pylist()
    found = estimate(voices, np.array([called.get(cell, 0) for cell in cells]), np.array([[cell in c["cells"] for c in channels] for cell in cells]), channels, raters)

    constant_channel, constant_rater = _constant(voices, len(channels), np.array([r["channel_no"] for r in raters], dtype=int))
    rows = []
    for rater in [*({"channel_no": n, "rater_id": None} for n in range(len(channels))), *(r for r in raters if r["rater_id"] is not None)]:
        n = rater["channel_no"]
        channel = channels[n]
        if rater["rater_id"] is None:
            mine, peers, share = voices.channel == n, None, found.channel_share[:, n]
            is_constant = constant_channel[n]
        else:
            mine = voices.rater == rater["rater_no"]
            peers, share = (voices.channel == n) & ~mine & ~constant_rater[voices.rater], found.rater_share[:, rater["rater_no"]]
            is_constant = constant_rater[rater["rater_no"]]
        weights = weight_of(share) if channel["shape"] == "judgement" else np.zeros(FIFTHS)
        rows.append({
            "week_day": monday, **{k: channel[k] for k in ("signal_name", "rater_kind", "level", "is_last_call", "rule", "shape", "cells", "matured_after_ms")},
            "rater_id": rater["rater_id"], "signal_count": rater.get("signal_count", channel["signal_count"]), "base_success_share": found.base,
            "present_if_success_share": None if channel["shape"] == "fact" else found.present[1, n],
            "present_if_failure_share": None if channel["shape"] == "fact" else found.present[0, n],
            "present_weight": found.present_weight[n], "absent_weight": found.absent_weight[n],
            **{f"weight_{k + 1}": weights[k] for k in range(FIFTHS)}, **_record(voices, found, mine, peers, share, channel["shape"], bool(is_constant)),
        })  # fmt: skip
    return rows


def matured_after(delay_ms: np.ndarray, seen_ms: np.ndarray, prior_ms: int) -> int:
    """Milliseconds after which 95 % of the signals that ever come have come, though later ones could not be seen yet.

    `seen_ms` is how long each signal's call has been watched. Lynden-Bell: F(x) is the product over delays d > x of 1 - n(d) / R(d),
    with R(d) the signals whose delay is at most d and whose call has been watched for at least d.
    """
    if len(delay_ms) < DELAY_SIGNALS:
        return int(min(LATEST_MS, max([prior_ms, *delay_ms.tolist()])))
    ordered, seen = np.sort(delay_ms), np.sort(np.maximum(seen_ms, delay_ms))
    at, count = np.unique(ordered, return_counts=True)
    at_risk = np.searchsorted(ordered, at, side="right") - np.searchsorted(seen, at, side="left")
    stays = 1 - count / np.maximum(at_risk, count)
    by_then = np.append(np.cumprod(stays[::-1])[::-1][1:], 1.0)
    return int(min(LATEST_MS, at[np.searchsorted(by_then, MATURE_SHARE)]))


@dataclass
class Voices:
    """Signals of calls that are old enough, a signal a place: numbers of its call, cell, channel and rater, and what it says."""

    call: np.ndarray
    cell: np.ndarray
    channel: np.ndarray
    rater: np.ndarray
    score: np.ndarray
    fifth: np.ndarray
    """0 to 4; -1 for an event."""
    is_lump: np.ndarray
    """Whether the rater has no row of its own."""
    is_first: np.ndarray
    """Whether it is the first of its channel on its call: a channel speaks once, however many raters it has."""
    is_this_week: np.ndarray


@dataclass
class Found:
    """What the rounds end with. First axis: 0 is failure, 1 is success."""

    base: float
    present: np.ndarray
    """(class, channel): how often a channel speaks."""
    present_weight: np.ndarray
    absent_weight: np.ndarray
    channel_share: np.ndarray
    """(class, channel, fifth): what a channel's raters say of calls of a class."""
    rater_share: np.ndarray
    """(class, rater, fifth)."""
    without: np.ndarray
    """By signal: probability that its call did its job, by all that is known but this signal."""


def weight_of(share: np.ndarray) -> np.ndarray:
    """Log likelihood ratio of success, in nats, from shares whose first axis is the class."""
    return np.clip(np.log(np.maximum(share[1], 1e-6)) - np.log(np.maximum(share[0], 1e-6)), -LARGEST_WEIGHT, LARGEST_WEIGHT)


def estimate(voices: Voices, called: np.ndarray, eligible: np.ndarray, channels: list[dict[str, Any]], raters: list[dict[str, Any]]) -> Found:
    """Expectation–maximisation until no call moves; deterministic.

    `called` counts the old enough calls of each cell, `eligible` (cell, channel) says which channels a cell knows. How much more
    often a signal comes for failures is measured within cells, against how often it comes there at all.
    """
    n_cell, n_channel, n_rater = len(called), len(channels), len(raters)
    call_cell = voices.cell[np.unique(voices.call, return_index=True)[1]]
    silent = np.maximum(called - np.bincount(call_cell, minlength=n_cell), 0)
    judging = voices.fifth >= 0
    of_channel, of_rater = voices.channel * FIFTHS + voices.fifth, voices.rater * FIFTHS + voices.fifth
    rater_channel = np.array([r["channel_no"] for r in raters], dtype=int)

    def tally(place: np.ndarray, where: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
        """(class, …): how many calls of either class the places hold."""
        return np.stack([np.bincount(place[where], weights=w[where], minlength=size) for w in (1 - y, y)])

    # What each says, whatever the class; a channel's is drawn towards both ends of the scale by four signals, a rater's towards
    # its channel's by two.
    everything = np.ones(len(voices.call))
    ends = 4 * np.array([1 - BASE_PRIOR, 1e-9, 1e-9, 1e-9, BASE_PRIOR])
    channel_says = tally(of_channel, judging, everything, n_channel * FIFTHS)[1].reshape(n_channel, FIFTHS) + ends
    channel_says /= channel_says.sum(axis=1, keepdims=True)
    rater_says = tally(of_rater, judging, everything, n_rater * FIFTHS)[1].reshape(n_rater, FIFTHS) + 2 * channel_says[rater_channel]
    rater_says /= rater_says.sum(axis=1, keepdims=True)

    # What the rules expect: odds of an answer turn with the score, by the accuracy that the rule gives it.
    accuracy = np.array([c["accuracy_share"] for c in channels])[:, None]
    tilt = np.power(accuracy / (1 - accuracy), (np.arange(FIFTHS) - 2) / 4)
    expected = np.stack([channel_says / tilt, channel_says * tilt])
    expected /= expected.sum(axis=2, keepdims=True)
    strength = np.array([c["prior_signals"] for c in channels], dtype=float)
    spoken = np.bincount((voices.cell * n_channel + voices.channel)[voices.is_first], minlength=n_cell * n_channel).reshape(n_cell, n_channel)
    cell_rate = spoken / np.maximum(called, 1)[:, None]
    # Silence of few calls says nothing: a hundred silent ones are put beside them.
    rate = np.clip((spoken.sum(axis=0) + 0.5) / (called @ eligible + SILENT_CALLS), 1e-6, 0.98)
    ratio = np.array([c["ratio"] for c in channels], dtype=float)
    expected_odds = np.stack([ratio, np.ones(n_channel)]) / (BASE_PRIOR + (1 - BASE_PRIOR) * ratio)
    # Calls that a fact settles are left out, so what is known of facts is nothing but what they settle.
    is_fact = np.array([c["shape"] == "fact" for c in channels])
    settles = LARGEST_WEIGHT * np.array([c["polarity"] for c in channels])

    base, odds, channel_share = BASE_PRIOR, expected_odds, expected
    rater_share = _rater_prior(rater_says, channel_says, channel_share, rater_channel)
    before = np.full(len(call_cell), -1.0)
    for _ in range(MAX_ROUNDS):
        present = np.clip(rate * odds, 1e-7, 1 - 1e-3)
        present_weight = np.where(is_fact, settles, weight_of(odds))
        absent_weight = np.where(is_fact, 0.0, weight_of(1 - present))
        says = np.where(voices.is_lump, weight_of(channel_share).ravel()[np.maximum(of_channel, 0)], weight_of(rater_share).ravel()[np.maximum(of_rater, 0)])
        says = np.where(judging, says, 0.0)
        quiet = logit(base) + eligible @ absent_weight
        turns = np.where(voices.is_first, (present_weight - absent_weight)[voices.channel], 0.0)
        total = quiet[call_cell] + np.bincount(voices.call, weights=says + turns, minlength=len(call_cell))
        y, y_quiet = expit(total), expit(quiet)
        if np.max(np.abs(y - before), initial=0.0) < SETTLED:
            break
        before = y
        good = np.bincount(call_cell, weights=y, minlength=n_cell) + silent * y_quiet
        base = float((good.sum() + BASE_PRIOR * BASE_PRIOR_CALLS) / (called.sum() + BASE_PRIOR_CALLS))
        y_voice = y[voices.call]
        exposed = np.stack([(called - good) @ cell_rate, good @ cell_rate])
        odds = (tally(voices.channel, voices.is_first, y_voice, n_channel) + strength * expected_odds) / (exposed + strength)
        said = tally(of_channel, judging, y_voice, n_channel * FIFTHS).reshape(2, n_channel, FIFTHS) + strength[:, None] * expected
        channel_share = said / said.sum(axis=2, keepdims=True)
        prior = _rater_prior(rater_says, channel_says, channel_share, rater_channel)
        said = tally(of_rater, judging, y_voice, n_rater * FIFTHS).reshape(2, n_rater, FIFTHS) + RATER_PRIOR_SIGNALS * prior
        rater_share = said / said.sum(axis=2, keepdims=True)
    return Found(base, present, present_weight, absent_weight, channel_share, rater_share, expit(total[voices.call] - says - turns))


def _rater_prior(rater_says: np.ndarray, channel_says: np.ndarray, channel_share: np.ndarray, rater_channel: np.ndarray) -> np.ndarray:
    """A rater as its channel, but saying what it says as often as it does: one who always says the same tells nothing."""
    prior = rater_says * (channel_share / channel_says)[:, rater_channel]
    return prior / prior.sum(axis=2, keepdims=True)


def _constant(voices: Voices, n_channel: int, rater_channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By channel and by rater: whether it always says the same, or does so more unanimously than the rest of its channel by chance."""
    judging = voices.fifth >= 0
    rater = np.bincount((voices.rater * FIFTHS + voices.fifth)[judging], minlength=len(rater_channel) * FIFTHS).reshape(-1, FIFTHS)
    channel = np.zeros((n_channel, FIFTHS))
    np.add.at(channel, rater_channel, rater)

    def is_constant(said: np.ndarray, others: np.ndarray) -> np.ndarray:
        top = np.arange(len(said)), said.argmax(axis=1)
        by_chance = np.where(others.any(axis=1), ((others[top] + 1) / (others.sum(axis=1) + 2)) ** said[top], 1.0)
        return (said[top] >= UNANIMOUS_SHARE * said.sum(axis=1)) & ((said.sum(axis=1) >= UNANIMOUS_COUNT) | (by_chance < UNANIMOUS_CHANCE))

    return is_constant(channel, np.zeros_like(channel)), is_constant(rater, channel[rater_channel] - rater)


def _record(voices: Voices, found: Found, mine: np.ndarray, peers: np.ndarray | None, share: np.ndarray, shape: str, is_constant: bool) -> dict[str, Any]:
    """What a rater's own signals show: how well they tell good from bad, and whether they are inverted, drifting, or worse than those of `peers`."""
    score, week = voices.score[mine], voices.is_this_week[mine]
    record = {
        "week_signal_count": int(week.sum()), "mean_score_share": float(score.mean()) if len(score) else None,
        "week_mean_score_share": float(score[week].mean()) if week.any() else None,
        "discrimination_share": None, "agreement_share": None, "agreement_share_low": None, "agreement_share_high": None, "peer_agreement_share": None,
        "is_constant": is_constant, "is_inverted": False, "is_drifting": False, "is_disagreeing": False,
    }  # fmt: skip
    if shape != "judgement" or not len(score):
        return record
    # The chance that a good call gets the higher score, ties halved (area under the ROC curve).
    above = float(share[1] @ (np.cumsum(share[0]) - share[0] / 2))
    record["discrimination_share"] = above
    record["is_inverted"] = bool(above < 0.45)
    # Agreement with all other evidence, and the mean score, before this week and in it.
    agreed, beyond_chance = _agreement(voices, found, mine)
    record["is_drifting"] = any(abs(_change(x[~week], x[week])) > DRIFT_SCORE for x in (score, agreed))
    record["agreement_share"] = mean = float(agreed.mean())
    if len(agreed) > 1:
        half = float(student.ppf(0.975, len(agreed) - 1) * agreed.std(ddof=1) / np.sqrt(len(agreed)))
        record |= {"agreement_share_low": max(0.0, mean - half), "agreement_share_high": min(1.0, mean + half)}
    if peers is not None and peers.any():
        peers_agreed, peers_beyond_chance = _agreement(voices, found, peers)
        record["peer_agreement_share"] = float(peers_agreed.mean())
        record["is_disagreeing"] = _change(peers_agreed, agreed) < -PEER_SCORE and beyond_chance < peers_beyond_chance
    return record


def _agreement(voices: Voices, found: Found, where: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each score agrees with the probability of success by all that is known otherwise; and by how much on average more than the same
    scores would if dealt out at random."""
    score, success = voices.score[where], found.without[where]
    agreed = score * success + (1 - score) * (1 - success)
    return agreed, float(agreed.mean() - score.mean() * success.mean() - (1 - score.mean()) * (1 - success.mean()))


def _change(before: np.ndarray, now: np.ndarray) -> float:
    """How far the mean moved; zero where that may be chance (four standard errors) or there is too little to say."""
    if min(len(before), len(now)) < DELAY_SIGNALS:
        return 0.0
    spread = np.sqrt(before.var() / len(before) + now.var() / len(now)) + 1e-9
    change = float(now.mean() - before.mean())
    return change if abs(change) > DRIFT_Z * spread else 0.0
