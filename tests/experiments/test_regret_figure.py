"""The regret figure, tiny: if these fail, it does not tell what a wrong prediction costs."""

import numpy as np
import pytest
from pydantic import ValidationError

from experiments.figures.paper import regret
from experiments.figures.paper.plans import least_latency_s, problem_of
from experiments.figures.paper.routing import routing_of
from experiments.figures.paper.settings import TextChoice
from optimizer.regret import best_on_real_tokens
from optimizer.regret import regret as regret_of
from tests.experiments.paper import TEXT, made, tiny

pytestmark = pytest.mark.usefixtures("no_recording")

OTHER = TextChoice(title="other noise", corpus="news", stands_for="CCnews", tokens=4096)
SMALL = {
    "texts": (TEXT, OTHER),
    "mixes": (0.5, 1.0),
    "exponents": (0.5, 1.5),
    "draws": 2,
    "predictors": ("history", "uniform", "bayes"),
}


@pytest.fixture
def found(no_recording):
    return made(regret.FIGURE, **SMALL)


def test_every_place_has_every_predictor_that_can_be_there(found) -> None:
    data, _ = found
    drift, skew = data[data["over"] == "drift"], data[data["over"] == "skew"]
    assert set(zip(drift["text"], drift["x"], strict=True)) == {
        ("noise", 0.0),
        ("other noise", 0.5),
        ("other noise", 1.0),
    }
    assert (drift.groupby(["text", "x"])["predictor"].nunique() == 3).all()
    assert set(skew["predictor"]) == {"history", "uniform"}  # a law's tokens have no IDs
    assert set(skew["x"]) == {0.5, 1.5}


def test_a_row_is_the_regret_of_its_batches() -> None:
    """Against `optimizer.regret`, by hand: skewed popularity, planned as if all experts were alike."""
    cell = next(x for x in regret.cells(tiny(regret.Settings, **SMALL)) if x.exponent == 1.5)
    row = next(x for x in regret.compute(cell) if x["predictor"] == "uniform" and x["group"] == 0)
    assert row["regret"] != 0
    assert row["beyond"] > 0  # planned for less than the most popular expert gets


def test_the_real_popularity_has_no_regret() -> None:
    cell = regret.cells(tiny(regret.Settings, **SMALL))[0]
    served = routing_of(cell).held_out.slice(0, 512)
    problem = problem_of(cell, served.popularity())
    problem = problem.with_limit(cell.slack * least_latency_s(problem))
    none = regret_of(problem, served.popularity().astype(float), best_on_real_tokens(problem))
    assert none.share == pytest.approx(0, abs=1e-9)


def test_more_skew_makes_ignorance_later(found) -> None:
    data, _ = found
    skew = data[(data["over"] == "skew") & (data["predictor"] == "uniform")].set_index("x")["beyond"]
    assert skew[1.5] > skew[0.5] > 0


def test_its_claims_are_of_the_table_and_it_is_drawn(found) -> None:
    data, claims = found
    row = data[(data["x"] == 0.0) & (data["over"] == "drift")].sort_values(["beyond", "regret"]).iloc[0]
    said = claims["regret on the profiled text (Small)"]
    assert said.ours == f"{row.predictor} {row.regret:+.1%}, {row.beyond:+.1%} beyond the limit"
    assert np.isclose(said.value, row.regret)
    assert len(regret.draw(data).axes) == 4


def test_an_unknown_predictor_is_refused() -> None:
    with pytest.raises(ValidationError, match="predictors"):
        tiny(regret.Settings, predictors=("crystal ball",))
