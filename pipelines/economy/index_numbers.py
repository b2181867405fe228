"""Price indices of what we buy: GEKS-Törnqvist in a rolling window with mean splice, beside the classical ones.

Sources: ILO/IMF, Consumer Price Index Manual: Theory (2020), chapters 2, 7 and 10; Diewert and Fox, "Substitution bias in
multilateral methods for CPI construction" (2022) on splicing; the Office for National Statistics publishes its consumer prices
from scanner data with the same choice: GEKS-Törnqvist, 25 months, mean splice on published.

All functions take `price` and `cost` as arrays of shape (months, items); an item not bought in a month is nan in both. A price is
in USD a unit, a cost in USD. Only items bought in both months of a pair are compared (matched model).
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
from scipy.sparse.csgraph import connected_components

WINDOW_MONTHS = 25
"""Thirteen months are the least that meet every season twice; 25 is what the ONS uses: less revision by single months."""


def log_tornqvist(price: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """ln of the Törnqvist index from every month j to every month k, shape (months, months); nan where nothing is matched.

    Each item's price relative is weighted by the mean of its shares in the matched cost of both months. Antisymmetric, so
    time reversal holds exactly.
    """
    bought = np.isfinite(price) & np.isfinite(cost)
    logs, spent, seen = np.where(bought, np.log(np.where(bought, price, 1.0)), 0.0), np.where(bought, cost, 0.0), bought.astype(float)
    matched = spent @ seen.T
    with np.errstate(invalid="ignore", divide="ignore"):
        # [j, k]: the relatives of j to k, weighted by the shares in j.
        base = np.where(matched > 0, (spent @ logs.T - (spent * logs) @ seen.T) / matched, np.nan)
    return (base - base.T) / 2


def geks(log_bilateral: np.ndarray) -> np.ndarray:
    """ln of the multilateral levels, first month 0, from a matrix of bilateral ln indices (nan: no such comparison).

    The levels whose differences come closest to the bilateral indices in least squares. Where all pairs compare, that is the
    mean over all bridging months of Gini, Eltetö, Köves and Szulc; where some do not, it is still transitive. A month that no
    chain of comparisons joins to the first is nan.
    """
    known = np.isfinite(log_bilateral)
    np.fill_diagonal(known, False)
    chain = connected_components(known, directed=False)[1]
    joined = chain == chain[0]
    levels = np.full(len(known), np.nan)
    at = np.flatnonzero(joined)
    links = known[np.ix_(at, at)].astype(float)
    told = np.where(links > 0, log_bilateral[np.ix_(at, at)], 0.0)
    # Normal equations: the graph's Laplacian on the levels equals the sum of the relatives towards each month.
    laplacian = np.diag(links.sum(axis=1)) - links
    solved = np.zeros(len(at))
    if len(at) > 1:
        solved[1:] = np.linalg.solve(laplacian[1:, 1:], told.sum(axis=0)[1:])
    levels[at] = solved
    return levels


def rolling_geks(log_bilateral: np.ndarray, window: int = WINDOW_MONTHS) -> tuple[np.ndarray, np.ndarray]:
    """ln of the published GEKS series, first month 0, and the spread of the splice (in ln) at each month.

    The first window is computed as a whole. After it every month is published once, never revised: the new window's movement
    from each month it shares with the published series is hung onto that month, and the mean of these is taken (mean splice on
    published). The spread is the largest less the smallest of them: how far the choice of splice mattered; nan in the first window.
    """
    months = len(log_bilateral)
    published, spread = np.full(months, np.nan), np.full(months, np.nan)
    first = min(window, months)
    published[:first] = geks(log_bilateral[:first, :first])
    for month in range(first, months):
        start = month - window + 1
        levels = geks(log_bilateral[start : month + 1, start : month + 1][::-1, ::-1])[::-1]
        hung = published[start:month] + (levels[-1] - levels[:-1])
        hung = hung[np.isfinite(hung)]
        if len(hung):
            published[month], spread[month] = hung.mean(), hung.max() - hung.min()
    return published, spread


def direct(price: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Laspeyres and Paasche of every month on the first, and the share of the month's cost that is matched with it.

    nan where nothing is matched. Fisher is the root of the product of both.
    """
    quantity = cost / price
    both = np.isfinite(price) & np.isfinite(price[0])
    at_first, at_now = np.where(both, price[0], 0.0), np.where(both, price, 0.0)
    bought_first, bought_now = np.where(both, quantity[0], 0.0), np.where(both, quantity, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        laspeyres = (at_now * bought_first).sum(axis=1) / (at_first * bought_first).sum(axis=1)
        paasche = (at_now * bought_now).sum(axis=1) / (at_first * bought_now).sum(axis=1)
        matched = (at_now * bought_now).sum(axis=1) / np.nansum(cost, axis=1)
    return laspeyres, paasche, matched


def chained(log_bilateral: np.ndarray) -> np.ndarray:
    """ln of the series chained from month to month, first month 0; nan from the first gap on. It drifts: see tests."""
    links = np.diagonal(log_bilateral, offset=1)
    return np.concatenate([[0.0], np.cumsum(links)])


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make temp table `price_index_level`: one row a token class (and `all`) and month, from marts.price_paid.

    An item is a line of marts.price_paid summed over the month; its price is its cost over its tokens. What was free has no
    relative price and stays out.
    """
    bought = con.execute("""
        select token_class, cast(date_trunc('month', usage_day) as date) as month_day,
            dense_rank() over (order by provider_name, model_name, service_tier, context_above_tokens, token_class) - 1 as item_no,
            cast(sum(list_cost_usd) as double) as cost_usd, cast(sum(priced_tokens) as double) as tokens
        from marts.price_paid
        group by token_class, date_trunc('month', usage_day), provider_name, model_name, service_tier, context_above_tokens
        having sum(list_cost_usd) > 0""").fetchnumpy()
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    if len(bought["cost_usd"]):
        classes, month = np.asarray(bought["token_class"], dtype=str), bought["month_day"].astype("datetime64[M]")
        for token_class in ("all", *sorted(set(classes))):
            chosen = (classes == token_class) | (token_class == "all")  # noqa: S105 - a class, no password
            _append(columns, token_class, month[chosen], bought["item_no"][chosen], bought["cost_usd"][chosen], bought["tokens"][chosen])
    con.register("_price_index_level", pa.table({name: pa.array(columns[name], type) for name, type in COLUMNS.items()}))
    con.execute("create or replace temp table price_index_level as select * from _price_index_level")
    con.unregister("_price_index_level")


COLUMNS = {
    "token_class": pa.string(), "month_day": pa.date32(), "item_count": pa.int64(), "list_cost_usd": pa.float64(),
    "geks_tornqvist": pa.float64(), "laspeyres": pa.float64(), "paasche": pa.float64(), "chained_tornqvist": pa.float64(),
    "matched_share": pa.float64(), "splice_spread": pa.float64(),
}  # fmt: skip


def _append(columns: dict[str, list], token_class: str, month: np.ndarray, item: np.ndarray, cost_usd: np.ndarray, tokens: np.ndarray) -> None:
    """Add the series of one token class: every month from the first to the last in which anything was bought."""
    rows = (month - month.min()).astype(int)
    items, places = np.unique(item, return_inverse=True)
    cost = np.full((rows.max() + 1, len(items)), np.nan)
    quantity = cost.copy()
    cost[rows, places], quantity[rows, places] = cost_usd, tokens
    price = cost / quantity
    bilateral = log_tornqvist(price, cost)
    published, spread = rolling_geks(bilateral)
    laspeyres, paasche, matched = direct(price, cost)
    for name, values in {
        "token_class": [token_class] * len(cost), "month_day": (month.min() + np.arange(len(cost))).astype("datetime64[D]").tolist(),
        "item_count": np.isfinite(cost).sum(axis=1), "list_cost_usd": np.nansum(cost, axis=1), "geks_tornqvist": np.exp(published),
        "laspeyres": laspeyres, "paasche": paasche, "chained_tornqvist": np.exp(chained(bilateral)), "matched_share": matched,
        "splice_spread": np.expm1(spread),
    }.items():  # fmt: skip
        columns[name] += [None if isinstance(v, float) and not np.isfinite(v) else v for v in np.asarray(values).tolist()]
