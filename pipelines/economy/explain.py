"""Why did spend change? A plain answer from the decomposition of marts.spend_variance, for any two spans of days."""

from __future__ import annotations

import calendar
import math
import re
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb

from pipelines.contracts import contract
from pipelines.economy import periods
from pipelines.engine import views
from pipelines.errors import NotConfigured
from pipelines.settings import Settings

CAUSES = {
    "price_effect_usd": "prices of the same tokens",
    "volume_effect_usd": "number of answered calls",
    "mix_effect_usd": "choice of models and providers",
    "new_model_effect_usd": "models that nobody used before",
    "retired_model_effect_usd": "models that nobody uses any more",
    "tier_effect_usd": "service tiers (batch, flex, priority)",
    "context_effect_usd": "calls above a context threshold",
    "prompt_effect_usd": "input tokens per call",
    "cache_effect_usd": "use of the prompt cache",
    "verbosity_effect_usd": "output tokens per call",
    "reasoning_effect_usd": "share of reasoning in the output",
    "retry_effect_usd": "charged calls per answered call (failures, retries)",
    "fee_effect_usd": "fees by request and web search",
}
"""The effects of marts.spend_variance in words."""
NAMED = 3
"""As many models or workloads are named for each cause."""


@dataclass(frozen=True)
class Span:
    """Days from `first` to before `end`."""

    first: date
    end: date

    def __str__(self) -> str:
        last = self.end - timedelta(days=1)
        return str(self.first) if last == self.first else f"{self.first} to {last}"


def span(text: str) -> Span:
    """`2026-10-05` a day, `2026-10` a month, `2026-W41` an ISO week, `2026-10-05..2026-10-11` days (both included)."""
    try:
        if match := re.fullmatch(r"(\S+?)\.\.(\S+)", text):
            found = Span(date.fromisoformat(match[1]), date.fromisoformat(match[2]) + timedelta(days=1))
        elif match := re.fullmatch(r"(\d{4})-(\d{2})", text):
            first = date(int(match[1]), int(match[2]), 1)
            found = Span(first, first + timedelta(days=calendar.monthrange(first.year, first.month)[1]))
        else:
            first = date.fromisoformat(text)
            found = Span(first, first + timedelta(days=7 if re.fullmatch(r"\d{4}-?W\d{2}", text) else 1))
    except ValueError as error:
        raise NotConfigured(f"{text!r} is no span of days ({error}); write 2026-10-05, 2026-10, 2026-W41 or 2026-10-05..2026-10-11") from error
    if found.end <= found.first:
        raise NotConfigured(f"{text!r} ends before it begins")
    return found


def explain_spend(settings: Settings, before: Span, after: Span) -> str:
    """The change of list spend from one span to another in plain sentences, largest cause first; the figures sum to the change.

    Computed by the select of marts.spend_variance over marts.usage_daily. Raises `NotConfigured` when that is not built.
    """
    with views(settings) as con:
        try:
            return _explain(con, before, after)
        except duckdb.CatalogException as error:
            raise NotConfigured("marts.usage_daily is not built yet; flywheel build makes it") from error


def _explain(con: duckdb.DuckDBPyConnection, before: Span, after: Span) -> str:
    periods.ask(con, (before.first, before.end), (after.first, after.end))
    promised = contract("marts.spend_variance")
    con.execute(f"create or replace temp table variance as {promised.typed_from(promised.select)}")
    sums = ", ".join(f"sum({name})" for name in ("previous_cost_usd", "list_cost_usd", "change_usd", "residual_usd", *CAUSES))
    old, new, change, residual, *effects = (float(v or 0) for v in con.execute(f"select {sums} from variance").fetchone())
    if not old and not new:
        return f"There is no spend of a known cost from {before} or {after}."
    # Cents, unless there is too little of them to tell anything: one number of decimals in a whole report.
    decimals = 2 if max(old, new) >= 10 else 4 if max(old, new) >= 1 else 6
    told = [
        f"List spend {'rose' if change > 0 else 'fell' if change < 0 else 'stayed'} from {_usd(old, decimals)} ({before}) to {_usd(new, decimals)} ({after}): "
        f"{_signed(change, decimals)}{f', {change / old:+.1%}' if old else ''}.",
    ]
    if (a := (before.end - before.first).days) != (b := (after.end - after.first).days):
        told.append(f"The spans differ in length, {a} against {b} days; that is part of the number of calls.")
    told.append("")
    for name, effect in sorted(zip(CAUSES, effects, strict=True), key=lambda pair: -abs(pair[1])):
        if abs(effect) >= max(0.00005 * max(old, new), 0.5 * 10**-decimals):
            told.append(f"{_signed(effect, decimals):>14}  {CAUSES[name]}{_most(con, name, effect, decimals)}")
    told += [f"{_signed(change, decimals):>14}  in all; left over: {_signed(residual, 9) if abs(residual) > 1e-9 else 'nothing'}", "", *_facts(con, before, after)]
    return "\n".join(told)


def _most(con: duckdb.DuckDBPyConnection, name: str, effect: float, decimals: int) -> str:
    """Where most of an effect comes from: workloads for their volume, models for all else."""
    if name == "volume_effect_usd":
        what = "coalesce(nullif(concat_ws(' / ', tenant, workload), ''), 'no workload given')"
    else:
        what = "coalesce(model_name, 'model unknown') || coalesce(' at ' || provider_name, '')"
    rows = con.execute(f"""
        select {what}, cast(sum({name}) as double) as effect, cast(sum(list_cost_usd) as double), cast(sum(previous_cost_usd) as double)
        from variance group by 1 having abs(effect) > 0.05 * abs({effect}) order by abs(effect) desc, 1 limit {NAMED}""").fetchall()
    parts = []
    for label, part, now, then in rows:
        # The factor that alone would have made this effect: for prices, their change.
        mean = (now - then) / math.log(now / then) if now > 0 and then > 0 and abs(now / then - 1) > 1e-9 else then
        ratio = f" ({math.exp(part / mean) - 1:+.1%})" if name == "price_effect_usd" and mean > 0 and then > 0 else ""
        parts.append(f"{label} {_signed(part, decimals)}{ratio}")
    return f": {', '.join(parts)}" if parts else ""


def _facts(con: duckdb.DuckDBPyConnection, before: Span, after: Span) -> list[str]:
    """Sums beside the decomposition, and what it cannot see."""
    sides = [
        con.execute("""
            select coalesce(sum(call_count), 0), coalesce(sum(call_count - error_count), 0),
                coalesce(sum(case when cost_status in ('unpriced', 'no_usage') then call_count end), 0)
            from marts.usage_daily where usage_day >= $1 and usage_day < $2""", [side.first, side.end]).fetchone()
        for side in (before, after)
    ]
    facts = [f"Calls went from {sides[0][0]:,} ({sides[0][1]:,} answered) to {sides[1][0]:,} ({sides[1][1]:,} answered)."]
    if unknown := [f"{side[2]:,} of {when}" for side, when in zip(sides, (before, after), strict=True) if side[2]]:
        facts.append(f"Calls of unknown cost are in none of these figures: {' and '.join(unknown)}.")
    return facts


def _usd(value: float, decimals: int) -> str:
    return f"${value:,.{decimals}f}"


def _signed(value: float, decimals: int) -> str:
    return ("+" if value >= 0 else "-") + _usd(abs(value), decimals)
