"""How close does the elasticity come to the truth, and how often does its interval hold it?

    python -m tests.benchmarks.elasticity_truth [panels]

Panels of 30 models over 60 weeks (tests/pipelines/economy/test_elasticity.py) with a response that is known: better models dearer
and used more, use that drifts, weeks that swing together, prices that change in 3 % of the model-weeks.
"""

from __future__ import annotations

import sys

import numpy as np

from pipelines.economy.elasticity import pooled, within
from tests.pipelines.economy.test_elasticity import differences, panel


def main(panels: int) -> None:
    print("truth   mean of estimates   root mean square error   95 % interval holds it   naive slope, mean")
    for truth in (-2.0, -1.11, -0.4, 0.0):
        told, naive = [], []
        for seed in range(panels):
            price, use = panel(seed, truth)
            told.append(within(*differences(price, use)))
            naive.append(pooled(use.ravel(), price.ravel()))
        found = np.array([t.elasticity for t in told])
        held = np.mean([t.low <= truth <= t.high for t in told])
        print(f"{truth:5.2f} {found.mean():19.3f} {np.sqrt(np.mean((found - truth) ** 2)):24.3f} {held:24.1%} {np.mean(naive):19.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
