"""The regret figure, tiny: if these fail, it does not tell what a wrong prediction costs."""

import numpy as np
import pytest
from pydantic import ValidationError

from experiments.paper.figures.regret import figure as regret
from experiments.paper.plans import problem_of
from experiments.paper.routing import routing_of
from moe.routing.synthetic import SyntheticPopularity, synthetic_routing
from optimizer.exact.solve import least_latency_s
from optimizer.problem import with_tokens
from optimizer.realised import realise
from optimizer.regret import best_on_real_tokens
from optimizer.regret import regret as regret_of
from optimizer.solvers import solve
from tests.experiments.paper.cases import OTHER, TEXT, made, tiny

pytestmark = pytest.mark.usefixtures("no_recording")

SMALL = {
    "texts": (TEXT, OTHER),
    "mixes": (0.5, 1.0),
    "exponents": (0.5, 1.5),
    "draws": 2,
    "predictors": ("history", "uniform", "bayes"),
}


@pytest.fixture(scope="module")
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


def test_a_row_is_the_regret_of_its_batch() -> None:
    """Against the exact plans of both popularities, evaluated by the closed form."""
    cell = next(x for x in regret.cells(tiny(regret.Settings, **SMALL)) if x.exponent == 1.5)
    row = next(x for x in regret.compute(cell) if x["predictor"] == "uniform" and x["group"] == 0)
    spec = cell.spec
    served = synthetic_routing(
        SyntheticPopularity(law="zipf", exponent=1.5),
        layers=spec.moe_layers, experts=spec.experts, top_k=spec.top_k, profiled_tokens=5120, batch_tokens=512,
        batches=1, sequence_tokens=cell.sequence_tokens, seed=0,
    ).slice(5120, 5632)  # fmt: skip
    problem = problem_of(cell, served.popularity())
    problem = problem.with_limit(1.2 * least_latency_s(problem))
    even = np.full((spec.moe_layers, spec.experts), 512 * spec.top_k / spec.experts)
    best, blind = solve(problem, "exact"), solve(with_tokens(problem, even), "exact")
    real = served.popularity()
    cost, late = (realise(problem, blind, real), realise(problem, best, real))
    assert row["regret"] == pytest.approx(cost.cost(problem) / late.cost(problem) - 1)
    assert row["beyond"] == pytest.approx(cost.latency_s / problem.latency_limit_s - 1)
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


def test_its_claims_are_of_the_table(found) -> None:
    data, claims = found
    row = data[(data["x"] == 0.0) & (data["over"] == "drift")].sort_values(["beyond", "regret"]).iloc[0]
    said = claims["regret on the profiled text"]
    assert said.ours == f"{row.predictor} {row.regret:+.1%}, {row.beyond:+.1%} beyond the limit"
    assert np.isclose(said.value, row.regret)
    again = claims["share of other noise above which limits are missed by more"]
    assert again.ours.startswith("history: ")


def test_intervals_are_as_wide_as_the_sequences_make_them(found) -> None:
    """Ten samples of one held-out batch are one batch, not ten."""
    data, _ = found
    drift = data[data["over"] == "drift"]
    assert (drift["independent"] == 3).all()  # 16 held-out sequences of 128 are four batches; three are served
    few, _ = made(regret.FIGURE, **SMALL | {"batches": 8, "predictors": ("history",), "exponents": (0.5,)})
    assert (few[few["over"] == "drift"]["independent"] == 4).all()


def test_it_is_drawn(found) -> None:
    data, _ = found
    assert len(regret.draw(data).axes) == 4


def test_an_unknown_predictor_is_refused() -> None:
    with pytest.raises(ValidationError, match="predictors"):
        tiny(regret.Settings, predictors=("crystal ball",))
