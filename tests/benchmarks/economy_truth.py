"""How close do the marts come to a known truth? Elasticity, variance of spend, loops, abandonment and breaches of residency.

    python -m tests.benchmarks.economy_truth [--panels 200] [--worlds 10]

Elasticity: panels of 30 models over 60 weeks with a response that is known (tests/pipelines/economy/test_elasticity.py): better models dearer
and used more, use that drifts, weeks that swing together, prices that change in 3 % of the model-weeks.
Variance: worlds of 30 uses whose calls, prices and verbosity change by random known factors; the truth is the mean contribution of
each factor over all orders in which they could have changed (Shapley), which the log-mean decomposition comes near in another way.
Loops, abandonment, breaches: the worlds of tests/warehouse/marts, drawn with other seeds; a loop may be missed, and work mistaken for one.
"""

from __future__ import annotations

import argparse
import itertools
import random

import numpy as np

from pipelines.economy.elasticity import pooled, within
from tests.pipelines.economy.test_elasticity import differences, panel
from tests.support.economy import build, use, warehouse
from tests.warehouse.marts import test_residency as residency
from tests.warehouse.marts import test_workflow as workflow

FACTORS = ("volume", "price", "verbosity")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--panels", type=int, default=200)
    options.add_argument("--worlds", type=int, default=10)
    given = options.parse_args()
    elasticity(given.panels)
    variance(given.worlds)
    loops(given.worlds)
    breaches(given.worlds)


def elasticity(panels: int) -> None:
    print("elasticity\n  truth   mean of estimates   root mean square error   95 % interval holds it   naive slope, mean")
    for truth in (-2.0, -1.11, -0.4, 0.0):
        told, naive = [], []
        for seed in range(panels):
            price, use = panel(seed, truth)
            told.append(within(*differences(price, use)))
            naive.append(pooled(use.ravel(), price.ravel()))
        found = np.array([t.elasticity for t in told])
        held = np.mean([t.low <= truth <= t.high for t in told])
        print(f"  {truth:5.2f} {found.mean():19.3f} {np.sqrt(np.mean((found - truth) ** 2)):24.3f} {held:24.1%} {np.mean(naive):19.2f}")


def variance(worlds: int) -> None:
    print("\nvariance of spend, USD\n  world   " + "".join(f"{f + ' truth':>18}{f + ' found':>18}" for f in FACTORS) + "   largest error, share of the change")
    errors = []
    for seed in range(worlds):
        before, after, truth = changed_use(random.Random(seed))
        con = build(warehouse([*before, *after]), "marts.spend_variance")
        found = con.execute(f"""
            select {', '.join(f'cast(sum({f}_effect_usd) as double)' for f in FACTORS)}, cast(sum(change_usd) as double)
            from marts.spend_variance where period_kind = 'month' and period_day = date '2026-11-01'""").fetchone()
        errors.append(max(abs(a - b) for a, b in zip(found, truth, strict=False)) / abs(found[-1]))
        print(f"  {seed:>5}   " + "".join(f"{t:18.3f}{f:18.3f}" for t, f in zip(truth, found, strict=False)) + f"   {errors[-1]:.3%}")
    print(f"  mean of the largest errors {np.mean(errors):.3%}, worst {max(errors):.3%}")


def changed_use(chance: random.Random) -> tuple[list[dict], list[dict], list[float]]:
    """Use of two months, and what each factor contributed in the mean over all orders of change."""
    price = {m: chance.uniform(0.5, 1.2) for m in "abcde"}
    calls = {w: chance.uniform(0.7, 2.0) for w in "uvwxyz"}
    words = {w: chance.uniform(0.8, 1.5) for w in "uvwxyz"}
    before, after, truth = [], [], dict.fromkeys(FACTORS, 0.0)
    for m, w in itertools.product(price, calls):
        sent, got, n = chance.uniform(1, 9), chance.uniform(1, 9), chance.randint(100, 1000)
        more = round(n * calls[w])
        change = {"volume": more / n, "price": price[m], "verbosity": words[w]}
        before.append(use("2026-10-05", m, workload=w, call_count=n, input=(90 * n, sent), output=(30 * n, got)))
        longer = round(30 * more * words[w])
        change["verbosity"] = longer / (30 * more)
        after.append(use("2026-11-05", m, workload=w, call_count=more, input=(90 * more, sent * change["volume"] * price[m]),
                         output=(longer, got * change["volume"] * change["verbosity"] * price[m])))
        orders = list(itertools.permutations(FACTORS))
        for order in orders:
            now = dict.fromkeys(FACTORS, 1.0)
            for factor in order:
                old = now["volume"] * now["price"] * (sent + got * now["verbosity"])
                now[factor] = change[factor]
                truth[factor] += (now["volume"] * now["price"] * (sent + got * now["verbosity"]) - old) / len(orders)
    return before, after, [truth[f] for f in FACTORS]


def loops(worlds: int) -> None:
    planted = caught = alarms = abandoned = left = right = 0
    for seed in range(worlds):
        calls, looping, gone = workflow.agents_and_people(seed)
        stuck, ended = workflow.found_in(calls)
        planted, caught, alarms = planted + len(looping), caught + len(stuck & looping), alarms + len(stuck - looping)
        abandoned, left, right = abandoned + len(gone), left + len(ended), right + len(ended & gone)
    print(f"\nloops: {caught} of {planted} found ({caught / planted:.1%}), {alarms} false alarms among {caught + alarms} ({alarms / (caught + alarms):.1%})")
    print(f"abandonment: {right} of {abandoned} found ({right / abandoned:.1%}), {left - right} false")


def breaches(worlds: int) -> None:
    truth = found = unknown = told_unknown = 0
    for seed in range(worlds):
        calls, broken, silent = residency.journeys(seed)
        told = dict(row.split() for row in residency.rows("select verdict, sum(call_count) from marts.residency group by 1", calls, residency.RULES))
        truth, found = truth + broken, found + int(told.get("outside", 0))
        unknown, told_unknown = unknown + silent, told_unknown + int(told.get("unknown_region", 0))
    print(f"residency: {found} breaches told of {truth} planted where the region is logged; {told_unknown} calls told unknown of {unknown} whose region is not")


if __name__ == "__main__":
    main()
