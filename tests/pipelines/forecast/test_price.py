"""Price forecasts: nothing later than the origin is seen, slips of the unit move nothing, what is announced is certain."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from pipelines.forecast import capability, price
from pipelines.forecast.as_known import book_as_known
from tests.benchmarks import forecast_price
from tests.support.pricebook import book, build, rate

ORIGIN = datetime(2025, 9, 15)


def lists(spoilt: bool = False) -> str:
    """Ten months of three models at two sellers; dear halves in March and May. `spoilt`: other prices after the origin."""
    lines = []
    for month in range(1, 13):
        day = f"2025-{month:02}-10"
        dear = 8 / 2 ** ((month > 3) + (month > 5))
        if spoilt and month > 9:
            dear *= 3
        lines += [f"{day} {feed} {model} input_uncached={usd} output_text={4 * usd}" for feed in ("litellm", "openrouter") for model, usd in (("gpt-4", dear), ("gpt-4o-mini", 0.15), ("claude-3-haiku", 0.25))]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def con():
    return book(lists())


def told(con) -> pd.DataFrame:
    with book_as_known(con, ORIGIN) as past:
        return price.forecast(past, ORIGIN)


def test_every_listed_model_has_every_horizon_and_chances_rise_with_it(con) -> None:
    rows = told(con)
    assert len(rows) == 2 * 3 * 4
    chances = rows.pivot_table(index=["feed", "feed_model"], columns="horizon_months", values="change_probability_share").to_numpy()
    assert (np.diff(chances, axis=1) > 0).all() and (chances > 0).all() and (chances < 1).all()
    gpt4 = rows[(rows["feed_model"] == "gpt-4") & (rows["horizon_months"] == 1)]
    assert gpt4["forecast_input_usd_per_mtok"].tolist() == [2.0, 2.0] and not gpt4["is_announced"].any()


def test_what_comes_after_the_origin_changes_nothing(con) -> None:
    pd.testing.assert_frame_equal(told(con), told(book(lists(spoilt=True))))


def test_a_slip_of_the_unit_moves_no_forecast(con) -> None:
    slipped = lists().replace("2025-09-10 litellm claude-3-haiku input_uncached=0.25 output_text=1.0", "2025-09-10 litellm claude-3-haiku input_uncached=250 output_text=1000")
    assert slipped != lists()
    pd.testing.assert_frame_equal(told(con), told(book(slipped)))


def test_an_announced_price_is_certain() -> None:
    con = book(lists())
    for usd, word, to in ((0.25, "null", "timestamp '2025-11-01'"), (0.5, "timestamp '2025-11-01'", "null")):
        con.execute(f"""insert into staging.price by name select * replace (timestamp '1970-01-01' as valid_from) from (
            select 'genai' as feed, 'genai/2025-09-10' as landing_file, 'haiku' as feed_model, 'anthropic' as provider_alias, 'standard' as service_tier, unnest(['input_uncached', 'output_text'])
            as token_class, 0 as context_above_tokens, 'token' as unit, {usd} / 1e6 as price_usd_per_unit, cast({word} as timestamp) as valid_from, cast({to} as timestamp) as valid_to)
            where {word} is null union all by name select 'genai' as feed, 'genai/2025-09-10' as landing_file, 'haiku' as feed_model, 'anthropic' as provider_alias, 'standard' as service_tier,
            unnest(['input_uncached', 'output_text']) as token_class, 0 as context_above_tokens, 'token' as unit, {usd} / 1e6 as price_usd_per_unit, cast({word} as timestamp) as valid_from,
            cast({to} as timestamp) as valid_to where {word} is not null""")
    con.execute("insert into staging.price_file values ('genai/2025-09-10', timestamp '2025-09-10')")
    rows = told(build(con))
    haiku = rows[rows["feed_model"] == "haiku"].sort_values("horizon_months")
    assert haiku["is_announced"].tolist() == [False, True, True, True]
    assert haiku["forecast_input_usd_per_mtok"].tolist() == [0.25, 0.5, 0.5, 0.5]
    assert (haiku["change_probability_share"].iloc[1:] == 1).all()


def test_the_record_stands_beside_the_baselines_and_the_point_is_never_worse_than_the_last_price(con) -> None:
    figures = price.scores(price.backtest(con))
    assert set(figures["horizon_months"]) >= {1, 3}
    assert (figures["mean_absolute_log_error"] <= figures["naive_mean_absolute_log_error"]).all()
    assert {"log_loss", "constant_log_loss", "feed_log_loss", "brier"} <= set(figures.columns)


def test_log_loss_is_that_of_the_textbook() -> None:
    assert price.log_loss(np.array([0.8, 0.8]), np.array([1, 0])) == pytest.approx([-np.log(0.8), -np.log(0.2)])


def test_a_price_of_capability_passes_a_line_between_horizons() -> None:
    rows = pd.DataFrame({
        "origin_at": datetime(2025, 1, 1), "horizon_months": [1, 3, 6, 12], "price_usd_per_mtok": 8.0,
        "price_q05_usd_per_mtok": [4.0, 2.0, 1.0, 0.5], "price_q50_usd_per_mtok": [8.0, 8.0, 4.0, 2.0], "price_q95_usd_per_mtok": [8.0, 8.0, 8.0, 8.0]})
    days = capability.passes(rows, 4.0)
    assert [str(d) for d in days.values()] == ["2025-01-31", "2025-07-02", "None"]


def test_capability_moves_like_its_past() -> None:
    """A price that halved every month for two years is forecast to halve on."""
    months = np.arange(24)
    rows = pd.DataFrame({"source": "board", "scale": "overall", "seller_scope": "any", "capability_model": "m", "month_no": 24000 + months, "price_usd_per_mtok": 64 * 0.5**months})
    found = capability.forecast(rows, datetime(2025, 1, 1)).set_index("horizon_months")
    now = rows["price_usd_per_mtok"].iloc[-1]
    assert found["price_q50_usd_per_mtok"].to_numpy() == pytest.approx(now * 0.5 ** found.index.to_numpy())
    assert found["yearly_factor"].to_numpy() == pytest.approx(np.full(4, 4096.0)) and found["half_life_days"].to_numpy() == pytest.approx(np.full(4, 365.25 / 12))


@pytest.fixture
def capable(tmp_path):
    """Forecasts of capability at ORIGIN over a year and more of falling prices of two rated models."""
    board = tmp_path / "board.csv"
    board.write_text(",gpt-4,strong\n20240101,1186,1250\n20260101,1500,900\n")  # the later ratings are not known at the origin

    def told(spoilt: bool = False, slip: bool = False) -> tuple[pd.DataFrame, dict]:
        lines, rng = [], np.random.default_rng(0)
        for n, day in enumerate(pd.date_range("2024-03-10", "2026-03-10", freq=pd.DateOffset(months=1))):
            late = day > pd.Timestamp(ORIGIN)
            usd = [32 * 0.8 ** min(n, 17), 48 * 0.85 ** min(n, 17)]
            if spoilt and late:
                usd = list(rng.permuted(usd) * rng.uniform(0.1, 5))
            if slip and day == pd.Timestamp("2025-09-10"):
                usd[0] /= 1000
            lines += [f"{day:%Y-%m-%d} litellm {model} input_uncached={one:.6f} output_text={one * 3:.6f}" for model, one in zip(("gpt-4", "strong"), usd, strict=True)]
        con = rate(book("\n".join(lines), provider_alias="openai"), "lmarena", str(board))
        _, widths = capability.backtest(con, first=date(2025, 3, 1), until=ORIGIN)
        with book_as_known(con, ORIGIN) as past:
            return capability.forecast(capability.history(past, ORIGIN), ORIGIN, widths), widths

    return told


def test_what_comes_after_the_origin_changes_no_forecast_of_capability(capable) -> None:
    (one, widths), (two, others) = capable(), capable(spoilt=True)
    assert len(one) and widths == others
    pd.testing.assert_frame_equal(one, two)


def test_a_slip_of_the_unit_moves_no_forecast_of_capability(capable) -> None:
    pd.testing.assert_frame_equal(capable()[0], capable(slip=True)[0])


def test_the_ridge_without_evidence_is_the_rate_of_the_list_and_learns_what_there_is() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, len(price.FEATURES)))
    chance = np.clip(0.05 * np.exp(1.2 * X[:, 1]), 0, 0.9)
    happened = (rng.random(4000) < chance).astype(float)
    base, first = np.full(4000, 0.05), np.zeros(4000, dtype=int)
    none = price.Ridge.fit(X, first, base, happened, np.zeros(4000))
    assert none.predict(X, 2, base) == pytest.approx(base)
    fitted = price.Ridge.fit(X, first, base, happened, np.ones(4000))
    assert price.log_loss(fitted.predict(X, 0, base), happened).mean() < 0.9 * price.log_loss(base, happened).mean()


def test_one_list_or_none_is_no_reason_to_fail() -> None:
    one = book("2025-09-10 openrouter openai/gpt-4o input_uncached=2 output_text=8")
    assert price.backtest(one).empty
    rows = told(one)
    assert len(rows) == 4 and rows["change_probability_share"].between(0, 1).all() and set(rows["learner"]) == {"rate"}


def test_a_folder_of_any_name_is_read_for_what_it_holds(tmp_path, capsys) -> None:
    folder = tmp_path / "kept back (later)"
    folder.mkdir()
    (folder / "2025-01-01.json").write_text('{"data": [{"id": "openai/gpt-4o", "pricing": {"prompt": "0.000002", "completion": "0.000008"}}]}')
    (folder / "2025-02-01.json").write_text('{"data": [{"id": "openai/gp')
    (folder / "2025-03-01.json").write_text("")
    (folder / "2025-04-01.json").write_text('{"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-06, "output_cost_per_token": 8e-06}}')
    con = forecast_price.book([folder, tmp_path / "not there"])
    assert con.execute("select feed, count(distinct feed_model) from core.price_quote group by 1 order by 1").fetchall() == [("litellm", 1), ("openrouter", 1)]
    told = capsys.readouterr().out
    assert "2025-02-01.json: left out, JSONDecodeError" in told and "2025-03-01.json: left out" in told and "holds no snapshots" in told


def test_each_list_has_what_did_better_on_its_own_outcomes() -> None:
    """Of one list the learners are right, of another the rate; a third has no outcome yet, and one changes too rarely to tell."""
    feeds = np.repeat(["learnt", "level", "new", "quiet"], [800, 100, 10, 100])
    rows = pd.DataFrame({"feed": feeds, "month_no": np.where(feeds == "new", 99, 0)})
    happened = np.where(feeds == "new", np.nan, (np.arange(len(rows)) % 4 == 0) & (feeds != "quiet"))

    class Told(price.Learnt):
        def told(self, known_from: int, at: np.ndarray, interval: int) -> dict[str, np.ndarray]:
            assert (feeds[at] == self.feed).all()
            right = np.where(happened[at] == 1, 0.9, 0.1)
            return {"rate": np.full(len(at), 0.25), "mean": np.where(feeds[at] == "level", 1 - right, right)}

    found = {feed: Told(price.Panel(rows), (happened,) * 4, feed).chosen(0) for feed in np.unique(feeds)}
    assert found == {"learnt": "mean", "level": "rate", "new": "mean", "quiet": "mean"}


def test_a_list_learns_from_itself_alone() -> None:
    """Of one list the models of one owner change, of another those of the other; each is told by its own, and one without changes has its rate."""
    rng = np.random.default_rng(0)
    parts = []
    for feed, sign in (("one", 1), ("two", -1), ("none", 0)):
        for month in range(8):
            X = pd.DataFrame(rng.normal(size=(150, len(price.FEATURES))), columns=list(price.FEATURES))
            chance = 0.15 * np.exp(sign * X["log_owner_share"]) if sign else np.zeros(150)
            parts.append(X.assign(feed=feed, feed_model=[f"m{n}" for n in range(150)], month_no=month, will_change=(rng.random(150) < chance).astype(float) if month else np.nan))
    seen = price.Panel(pd.concat(parts, ignore_index=True))
    names, chances = price.hazards(seen)
    now = seen.rows[seen.rows["month_no"] == 0]
    for feed, sign in (("one", 1), ("two", -1)):
        here = (now["feed"] == feed).to_numpy()
        assert sign * np.corrcoef(now.loc[here, "log_owner_share"], chances[here, 0])[0, 1] > 0.8
    quiet = (now["feed"] == "none").to_numpy()
    assert set(names[quiet].ravel()) == {"rate"} and np.ptp(chances[quiet, 0]) == 0 and chances[quiet, 0].max() < 0.02


def test_a_model_is_as_old_as_the_list_says() -> None:
    """A first snapshot tells of models that are years old."""
    def age(con) -> list[float]:
        with book_as_known(con, ORIGIN) as past:
            rows = price.panel(past, ORIGIN).rows
        return np.exp(rows.loc[rows["month_no"] == 0, "log_age_days"]).round().tolist()

    drawn = "2025-09-10 openrouter openai/gpt-4o input_uncached=2 output_text=8"
    assert age(book(drawn)) == [6.0] and age(book(drawn, listed_day=date(2024, 9, 15))) == [366.0]
