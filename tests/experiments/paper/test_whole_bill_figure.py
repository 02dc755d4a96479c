"""The whole bill's figure, tiny: if these fail, a reader is told a wrong price of the wrong objective."""

import numpy as np
import pandas as pd
import pytest

from experiments.paper.claims import Claim
from experiments.paper.figures.whole_bill import figure as whole_bill
from experiments.paper.figures.whole_bill.objectives import EXPERTS, KEPT, OBJECTIVES, WHOLE
from experiments.paper.plans import MILLION, predicted_popularity, problem_of
from experiments.paper.routing import routing_of
from optimizer.evaluation import evaluate
from optimizer.exact import least_latency_s
from optimizer.solvers import solve
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.simulate import simulate
from tests.experiments.paper.cases import made, tiny

SLACK = (1.25, 3.0)
Figure = tuple[pd.DataFrame, dict[str, Claim]]


@pytest.fixture(scope="module")
def figure(no_recording: None) -> Figure:
    return made(whole_bill.FIGURE, slack=SLACK, batches=2)


def test_each_objectives_plan_is_billed_both_ways(figure: Figure) -> None:
    data, _ = figure
    assert len(data) == len(SLACK) * len(OBJECTIVES) * 2
    assert set(data["objective"]) == set(OBJECTIVES)
    parts = ["experts_usd", "requests_usd", "gates_usd", "waiting_usd", "gates_requests_usd"]
    assert data[parts].sum(axis=1).to_numpy() == pytest.approx(data["total_usd"].to_numpy())
    assert (data[parts] >= 0).all(axis=None)
    by = data[data["reload"] == "every-invocation"].pivot_table(
        index="slack", columns="objective", values="planned_experts_usd"
    )
    for name in OBJECTIVES:  # nothing has fewer GB-s than the optimum of them, within the limit
        if name != KEPT:
            assert (by[EXPERTS] <= by[name] * (1 + 1e-9)).all()
    kept, reloaded = (data[data["reload"] == x]["total_usd"].to_numpy() for x in ("when-cold", "every-invocation"))
    assert (kept < reloaded).all()
    assert (data["total_usd"] <= data["eager_total_usd"] * (1 + 1e-9)).all()  # what waits less is billed less


@pytest.mark.usefixtures("no_recording")
def test_bills_are_those_of_the_simulator(figure: Figure) -> None:
    data, _ = figure
    cell = whole_bill.cells(tiny(whole_bill.Settings, slack=SLACK, batches=2))[0]
    routing = routing_of(cell)
    problem = problem_of(cell, predicted_popularity(cell, routing))
    problem = problem.with_limit(SLACK[0] * least_latency_s(problem))
    plan = solve(problem, "exact")
    row = (
        data[(data["slack"] == SLACK[0]) & (data["objective"] == EXPERTS)]
        .set_index("reload")
        .loc["every-invocation"]
    )
    usd = MILLION / cell.batch_tokens
    assert row["planned_experts_usd"] == pytest.approx(evaluate(problem, plan).billed_cost_usd * usd, rel=1e-6)
    real = routing.batches(2, cell.batch_tokens, cell.seed).real
    run = simulate(problem, plan, cell.platform, routing=real, serving=JUST_IN_TIME, seed=cell.seed)
    assert row["total_usd"] == pytest.approx(run.bill.total_cost_usd * usd)
    closed = simulate(problem, plan, routing=real, serving=JUST_IN_TIME)
    assert row["closed_total_usd"] == pytest.approx(closed.bill.total_cost_usd * usd)
    each = [run.bill_of_batch(k).total_cost_usd / closed.bill_of_batch(k).total_cost_usd for k in (0, 1)]
    assert row["simulated_over_closed"] == pytest.approx(np.mean(each) - 1)


def test_the_right_objectives_excess_over_itself_is_nothing(figure: Figure) -> None:
    data, claims = figure
    for reload, right in (("every-invocation", WHOLE), ("when-cold", KEPT)):
        rows = data[(data["reload"] == reload) & (data["objective"] == right)]
        assert (rows["over_right"] == 0).all()
    assert all(claim.confirmed for name, claim in claims.items() if "by the closed form" in name)
    wrong = data.copy()
    mine = (wrong["objective"] == WHOLE) & (wrong["reload"] == "every-invocation") & (wrong["slack"] == 3.0)
    wrong.loc[mine, "planned_total_usd"] *= 10
    said = [
        x for x in whole_bill.claims(wrong) if "by the closed form, as planned; parameters reloaded" in x.claim
    ]
    assert [(x.confirmed, x.ours) for x in said] == [(False, "1 of 2 limits")]
    assert len(whole_bill.draw(data).axes) == 3
