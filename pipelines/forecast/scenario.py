"""What if? Prices, migrations, caching and volumes changed on the tokens that were used, and costed anew.

A scenario is one or more steps, in order, separated by `;`:

    price(NAME) * 0.5                  NAME is a provider or model; * is all
    volume(NAME) * 1.2                 NAME is a tenant, workload, provider or model
    migrate(MODEL -> MODEL, 0.3)       that share of the calls (default: all) goes to the other model; `provider/model` says which seller
    cache_share(NAME) = 0.6            share of input tokens read from the cache; also + 0.1 and - 0.1, never beyond 0 and what is not written to it

Numbers may be per cent (`30%`); names with odd characters may stand in quotes. Costs follow from tokens by class and the prices paid for them in
the last four weeks of each part (marts.usage_daily); what is bought anew has the price paid for it elsewhere, else today's list price. Use
responds to prices by the elasticity in marts.demand_elasticity where that was identified; an answer's notes say whether.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import duckdb
import numpy as np
import pandas as pd

from pipelines.errors import NotConfigured

KEY = ["tenant", "workload", "provider_name", "model_name"]
SELLER = ["provider_name", "model_name"]
WEEKS = 4
INPUT = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h")
STAND_IN = {
    "cache_read": "input_uncached", "cache_write_5m": "input_uncached", "cache_write_1h": "cache_write_5m", "reasoning": "output_text",
    "input_media": "input_uncached", "output_media": "output_text",
}
"""A class without a price of its own is charged as this one."""
UNKNOWN = "unknown"
"""Class of a cost that no tokens are known of."""
NUMBER = r"(\d+(?:\.\d+)?)\s*(%?)"
FORMS = (
    re.compile(rf"(?P<what>price|volume)\(\s*(?P<name>.+?)\s*\)\s*(?P<sign>\*)\s*{NUMBER}"),
    re.compile(rf"(?P<what>cache_share)\(\s*(?P<name>.+?)\s*\)\s*(?P<sign>[=+-])\s*{NUMBER}"),
    re.compile(rf"(?P<what>migrate)\(\s*(?P<name>.+?)\s*->\s*(?P<to>.+?)\s*(?:,\s*{NUMBER}\s*)?\)"),
)


@dataclass(frozen=True)
class Step:
    """One change; `sign` and `amount` are as written, `to` is the model that calls migrate to."""

    what: str
    name: str
    sign: str
    amount: float
    to: str = ""

    def __str__(self) -> str:
        return f"migrate({self.name} -> {self.to}, {self.amount:g})" if self.to else f"{self.what}({self.name}) {self.sign} {self.amount:g}"


def read(text: str) -> list[Step]:
    """The steps of a scenario. Raises `NotConfigured` naming what is not understood, or a share that is none."""
    steps = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = next((m for form in FORMS if (m := form.fullmatch(part))), None)
        if match is None:
            raise NotConfigured(
                f"--what-if {part!r} is not understood; write price(anthropic) * 0.5, volume(chat) * 1.2, migrate(gpt-4o -> gpt-4o-mini, 0.3) or cache_share(chat) = 0.6")
        told = match.groupdict()
        number, per_cent = match.groups()[-2:]
        amount = 1.0 if number is None else float(number) / (100 if per_cent else 1)
        if told["what"] in ("migrate", "cache_share") and amount > 1:
            raise NotConfigured(f"--what-if {part!r}: a share is at most 1 (or 100%)")
        steps.append(Step(told["what"], told["name"].strip("'\""), told.get("sign") or "", amount, (told.get("to") or "").strip("'\"")))
    if not steps:
        raise NotConfigured("--what-if is empty")
    return steps


@dataclass(frozen=True)
class Elasticity:
    """Per cent that use changes when the price changes by one per cent; None with the reason where that is not known."""

    value: float | None = None
    told: str = "volumes stay as they are: marts.demand_elasticity is not built"


@dataclass
class Use:
    """What parts used lately: a line a part (row of `keys`), seller and token class, with tokens and USD a token."""

    keys: pd.DataFrame
    lines: pd.DataFrame
    list_price: Callable[[str | None, str], dict[tuple[str, str], dict[str, float]]]
    """Today's list prices of a model, by (provider, model) and token class; the first seller is the preferred one."""
    elasticity: Elasticity = field(default_factory=Elasticity)


@dataclass(frozen=True)
class Answer:
    """`ratio` (parts after × parts before) turns costs before into costs after; `keys` are the parts after, those of before first."""

    keys: pd.DataFrame
    ratio: np.ndarray
    notes: list[str]


def use(con: duckdb.DuckDBPyConnection, keys: pd.DataFrame, end: date) -> Use:
    """The last four weeks of use of every part before a day, its list prices and the elasticity. `con` has marts.usage_daily, and may have
    core.price and marts.demand_elasticity."""
    classes = [*INPUT, "input_media", "output_text", "reasoning", "output_media"]
    tokens = ", ".join(f"sum({c}_tokens) as {c}" for c in classes)
    costs = ", ".join(
        "sum(cache_write_cost_usd - coalesce(cache_write_1h_cost_usd, 0)) as cache_write_5m_usd" if c == "cache_write_5m" else f"sum({c}_cost_usd) as {c}_usd" for c in classes)
    wide = con.execute(
        f"""select {', '.join(KEY)}, {tokens}, sum(charged_count) as request, {costs}, sum(request_cost_usd) as request_usd
        from (
            select *, max(usage_day) over (partition by {', '.join(KEY)}) as last_day from marts.usage_daily
            where usage_day < $end and cost_status in ('priced', 'estimated', 'partial', 'free')
        ) as used
        where usage_day > last_day - {7 * WEEKS} group by all""", {"end": end}).df()
    part = pd.MultiIndex.from_frame(keys[KEY].fillna("")).get_indexer(pd.MultiIndex.from_frame(wide[KEY].fillna("")))
    found = []
    for c in [*classes, "request"]:
        count, usd = wide[c].astype(float).fillna(0), wide[f"{c}_usd"].astype(float).fillna(0)
        found.append(wide[SELLER].assign(part=part, token_class=c, tokens=count, price=(usd / count.where(count > 0)).fillna(0)))
    lines = pd.concat(found, ignore_index=True).query("part >= 0 and tokens > 0")
    # A part with forecasts but without a known cost by class can still be scaled.
    costed = lines.assign(usd=lines["tokens"] * lines["price"]).groupby("part")["usd"].sum()
    bare = keys.index.difference(costed[costed > 0].index)
    lines = pd.concat([lines[~lines["part"].isin(bare)], keys.loc[bare, SELLER].assign(part=bare, token_class=UNKNOWN, tokens=1.0, price=1.0)], ignore_index=True)
    return Use(keys.reset_index(drop=True), lines, lambda provider, model: _listed(con, provider, model), _elasticity(con))


def _has(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    return bool(con.execute("select 1 from information_schema.tables where table_schema = $1 and table_name = $2", [schema, name]).fetchall())


def _elasticity(con: duckdb.DuckDBPyConnection) -> Elasticity:
    if not _has(con, "marts", "demand_elasticity"):
        return Elasticity()
    rows = con.execute("""select elasticity, elasticity_low, elasticity_high, horizon_weeks, reason from marts.demand_elasticity
        order by elasticity is null, horizon_weeks desc limit 1""").fetchall()
    if not rows or rows[0][0] is None:
        return Elasticity(None, f"volumes stay as they are: how use responds to prices is not identified ({rows[0][4] if rows else 'no use yet'})")
    value, low, high, weeks, _ = rows[0]
    soon = "in the same week" if weeks == 0 else f"within {weeks} week{'' if weeks == 1 else 's'}"
    return Elasticity(value, f"use responds with the elasticity that was identified from our own price changes, {value:+.2f} (95 % {low:+.2f} to {high:+.2f}) {soon}")


def _listed(con: duckdb.DuckDBPyConnection, provider: str | None, model: str) -> dict[tuple[str, str], dict[str, float]]:
    if not _has(con, "core", "price"):
        return {}
    rows = con.execute(
        """select price.provider_name, price.model_name, token_class, cast(price_usd_per_unit as double)
        from core.price as price left join feed_precedence as feed on feed.feed = price.feed
        where price.model_name = $model and ($provider is null or price.provider_name = $provider) and service_tier = 'standard' and region is null
            and price_condition is null and context_above_tokens = 0 and unit in ('token', 'request') and known_to is null
            and valid_from <= $now and (valid_to is null or valid_to > $now) and delisted_at is null
        order by coalesce(feed.precedence, 999), price.feed, length(price.feed_model), price.feed_model""",
        {"model": model, "provider": provider, "now": datetime.now(UTC).replace(tzinfo=None)}).fetchall()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for seller, name, token_class, usd in rows:
        found.setdefault((seller, name), {}).setdefault(token_class, usd)
    return found


def apply(steps: list[Step], used: Use) -> Answer:
    """Apply steps in order. Raises `NotConfigured`, with near matches, where a name is unknown, and where a price is not to be had."""
    before = used.lines.assign(usd=used.lines["tokens"] * used.lines["price"]).groupby("part")["usd"].sum().reindex(used.keys.index).to_numpy()
    lines, notes, prices = used.lines.copy(), [], []
    for step in steps:
        if step.what == "price":
            hit = _hit(step, lines, used.keys, SELLER)
            lines.loc[hit, "price"] *= step.amount
            prices.append(step)
            if used.elasticity.value is not None and step.amount > 0:
                lines.loc[hit, "tokens"] *= step.amount**used.elasticity.value
            note = used.elasticity.told if used.elasticity.value is None or step.amount > 0 else "volumes stay as they are: no elasticity says what happens at a price of nothing"
        elif step.what == "volume":
            lines.loc[_hit(step, lines, used.keys, KEY), "tokens"] *= step.amount
            note = ""
        elif step.what == "cache_share":
            lines, note = _cached(step, lines, used, prices)
        else:
            lines, note = _migrated(step, lines, used, prices)
        if note and note not in notes:
            notes.append(note)
    ends = lines[["part", *SELLER]].merge(used.keys[["tenant", "workload"]], left_on="part", right_index=True, how="left")
    usd = (lines["tokens"] * lines["price"]).to_numpy()
    after = pd.concat([used.keys[KEY], ends[KEY]], ignore_index=True).drop_duplicates(ignore_index=True)
    place = pd.MultiIndex.from_frame(after.fillna("")).get_indexer(pd.MultiIndex.from_frame(ends[KEY].fillna("")))
    ratio = np.zeros((len(after), len(used.keys)))
    np.add.at(ratio, (place, ends["part"].to_numpy()), usd)
    return Answer(after, ratio / np.where(before > 0, before, 1), notes)


def _hit(step: Step, lines: pd.DataFrame, keys: pd.DataFrame, columns: list[str]) -> np.ndarray:
    if step.name == "*":
        return np.ones(len(lines), dtype=bool)
    hit = (lines[SELLER] == step.name).any(axis=1).to_numpy()
    names = _names(lines[SELLER])
    if columns == KEY:
        owner = keys.loc[lines["part"], ["tenant", "workload"]]
        hit = hit | (owner == step.name).any(axis=1).to_numpy()
        names |= _names(owner)
    if not hit.any():
        raise _unknown(step, step.name, names)
    return hit


def _names(told: pd.DataFrame) -> set[str]:
    return {name for name in told.to_numpy().ravel() if isinstance(name, str)}


def _unknown(step: Step, name: str, names: set[str]) -> NotConfigured:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    told = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(names)[:20])}"
    return NotConfigured(f"--what-if {step}: nothing has the name {name}; {told}")


def _price_of(name: str, told: dict[str, float]) -> float | None:
    """The price of a token class, or of what stands in for it; nothing for requests without a fee."""
    while name not in told:
        if name == "request":
            return 0.0
        if name not in STAND_IN:
            return None
        name = STAND_IN[name]
    return told[name]


def _paid(lines: pd.DataFrame) -> dict[str, float]:
    """Mean price by class of what is used."""
    usd = (lines["tokens"] * lines["price"]).groupby(lines["token_class"]).sum()
    tokens = lines.groupby("token_class")["tokens"].sum()
    return {name: float(usd[name] / count) for name, count in tokens.items() if count > 0 and name != UNKNOWN}


def _today(used: Use, provider: str | None, model: str, prices: list[Step]) -> dict[tuple[str, str], dict[str, float]]:
    """List prices as the scenario has them so far."""
    found = used.list_price(provider, model)
    return {
        seller: {c: usd * float(np.prod([s.amount for s in prices if s.name in ("*", *seller)])) for c, usd in told.items()} for seller, told in found.items()
    }


def _migrated(step: Step, lines: pd.DataFrame, used: Use, prices: list[Step]) -> tuple[pd.DataFrame, str]:
    leaving = _seller(step.name, lines)
    if not leaving.any():
        raise _unknown(step, step.name, set(lines["model_name"].dropna()))
    target = lines[_seller(step.to, lines)]
    if len(target):
        # Of several sellers, one that the calls go to already, and the one most is bought from.
        same = target[target["provider_name"].isin(lines.loc[leaving, "provider_name"].dropna().mode())]
        target = same if len(same) else target
        sellers = _sellers(target)
        at = (target["tokens"] * target["price"]).groupby(sellers).sum().idxmax()
        told, listed = _paid(target[sellers.map(lambda seller: seller == at)]), next(iter(_today(used, *at, prices).values()), {})
        told, source = {**listed, **told}, "what is paid for it now"
    else:
        provider, _, model = step.to.rpartition("/")
        choices = _today(used, provider or None, model, prices)
        if not choices:
            raise _unknown(step, step.to, set(lines["model_name"].dropna()))
        own = set(lines.loc[leaving, "provider_name"])
        at = next((seller for seller in choices if seller[0] in own), next(iter(choices)))
        told, source = choices[at], "today's list prices"
    gone = lines[leaving & (lines["token_class"] != UNKNOWN).to_numpy()]
    wanted = {c: _price_of(c, told) for c in gone["token_class"].unique()}
    if missing := sorted(c for c, usd in wanted.items() if usd is None):
        raise NotConfigured(f"--what-if {step}: there is no price of {', '.join(missing)} of {_called(at)}")
    come = gone.assign(provider_name=at[0], model_name=at[1], tokens=gone["tokens"] * step.amount, price=gone["token_class"].map(wanted).astype(float))
    left = lines.copy()
    left.loc[gone.index, "tokens"] *= 1 - step.amount
    return pd.concat([left, come], ignore_index=True), f"{step.name} -> {_called(at)}: the same tokens at {source}; another model may use more or fewer for the same task"


def _sellers(lines: pd.DataFrame) -> pd.Series:
    """(provider, model) of every line, None where it is not known: pandas' groups would make NaN of that, which is no name to ask a price of."""
    return pd.Series([tuple(None if pd.isna(name) else name for name in row) for row in lines[SELLER].itertuples(index=False)], lines.index, dtype=object)


def _called(seller: tuple[str | None, str | None]) -> str:
    return "/".join(name or UNKNOWN for name in seller)


def _seller(name: str, lines: pd.DataFrame) -> np.ndarray:
    """(n,) which lines are of a model, said alone or as provider/model."""
    both = lines["provider_name"].fillna("") + "/" + lines["model_name"].fillna("")
    return ((lines["model_name"] == name) | (both == name)).to_numpy()


def _cached(step: Step, lines: pd.DataFrame, used: Use, prices: list[Step]) -> tuple[pd.DataFrame, str]:
    hit = _hit(step, lines, used.keys, KEY)
    notes, gone, fresh, without = set(), [], [], set()
    cacheable = lines[hit & lines["token_class"].isin(INPUT).to_numpy()]
    for (_, seller), group in cacheable.groupby([cacheable["part"], _sellers(cacheable)]):
        tokens = group.groupby("token_class")["tokens"].sum()
        total, read_now = tokens.sum(), tokens.get("cache_read", 0.0)
        most = total - tokens.get("cache_write_5m", 0.0) - tokens.get("cache_write_1h", 0.0)
        wanted = {"=": step.amount, "+": read_now / total + step.amount, "-": read_now / total - step.amount}[step.sign] * total
        target = float(np.clip(wanted, 0, most))
        if abs(target - wanted) > 1e-9 * total:
            notes.add("where a cache share is beyond what is possible, it is as near as can be")
        paid = _paid(group)
        if {"cache_read", "input_uncached"} - set(paid):
            paid = {**next(iter(_today(used, *seller, prices).values()), {}), **paid}
        if target > 0 and "cache_read" not in paid:
            without.add(_called(seller))
            continue
        uncached = _price_of("input_uncached", paid)
        if target < most and uncached is None:
            raise NotConfigured(f"--what-if {step}: there is no price of uncached input of {_called(seller)}")
        gone += list(group.index[group["token_class"].isin(["input_uncached", "cache_read"])])
        fresh.append(group.iloc[[0, 0]].assign(token_class=["input_uncached", "cache_read"], tokens=[most - target, target], price=[uncached or 0.0, paid.get("cache_read", 0.0)]))
    if without:
        told = f"there is no price of cached input of {', '.join(sorted(without))}"
        if not fresh:
            raise NotConfigured(f"--what-if {step}: {told}")
        notes.add(f"{told}: left as it is")
    notes.add("cache writes stay as they are")
    return pd.concat([lines.drop(gone), *fresh], ignore_index=True), "; ".join(sorted(notes))
