"""The rivals' figure, tiny: if these fail, a rival is shown cheaper, or dearer, than it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.paper import job
from experiments.paper.claims import Claim
from experiments.paper.figures.rivals import figure as rivals
from experiments.paper.figures.rivals.contenders import GROUP, realised
from experiments.paper.figures.rivals.contenders import rivals as all_rivals
from experiments.paper.plans import MILLION, planning_limit, predicted_popularity, problem_of
from experiments.paper.routing import routing_of
from experiments.tools.shapes import LANES, WHOLE
from optimizer.blocks import make_blocks
from optimizer.evaluation import evaluate
from optimizer.exact import least_latency_s
from optimizer.grouped import plan_groups, remoe
from optimizer.realised import realise
from optimizer.solvers import solve
from tests.conftest import reference
from tests.experiments.paper.cases import made, tiny
from tests.optimizer.staged_problems import staged_problem

pytestmark = pytest.mark.slow
SLACK = (1.1, 2.0)


@pytest.fixture(scope="module")
def figure(no_recording: None) -> tuple[pd.DataFrame, dict[str, Claim]]:
    return made(rivals.FIGURE, slack=SLACK, draws=2, late_share=0.25)


def plans(data: pd.DataFrame) -> pd.DataFrame:
    return data[data["row"] == "plan"]


def test_every_rival_is_there_under_every_limit(figure: tuple[pd.DataFrame, dict[str, Claim]]) -> None:
    data, _ = figure
    names = set(all_rivals(reference("bert-4")[0], staged_problem(0).blocks)) | {"lambdaml 10240"}
    assert {WHOLE, LANES} < names
    for _, group in plans(data).groupby("slack"):
        assert set(group["rival"]) == names
        assert len(group) == len(names)
    assert (data["row"] == "cluster").sum() == 6  # three periods, with and without BetterTransformer


@pytest.mark.usefixtures("no_recording")
def test_costs_are_those_of_the_plans(figure: tuple[pd.DataFrame, dict[str, Claim]]) -> None:
    """The optimum and ODS, solved and evaluated again without the figure's code for it."""
    data, _ = figure
    cell = rivals.cells(tiny(rivals.Settings, slack=SLACK, draws=2, late_share=0.25))[1]
    routing = routing_of(cell)
    problem = problem_of(cell, predicted_popularity(cell, routing), cell.memory_mb)
    problem = problem.with_limit(SLACK[0] * least_latency_s(problem))
    problem = problem.with_limit(planning_limit(cell, routing, problem, cell.late_share))
    by = plans(data)[plans(data)["slack"] == SLACK[0]].set_index("rival")
    usd = problem.platform.price_per_gb_s / cell.batch_tokens * MILLION
    optimum = evaluate(problem, solve(problem, "exact")).billed_gb_s * usd
    assert by.loc["exact", "planned_usd"] == pytest.approx(optimum)
    ods = evaluate(problem, solve(problem, "ods"))
    assert by.loc["ods", "planned_usd"] == pytest.approx(ods.billed_gb_s * usd)
    assert by.loc["ods", "above_optimum"] == pytest.approx(ods.billed_gb_s * usd / optimum - 1, abs=1e-9)
    assert by.loc["ods", "planned_tokens_per_s"] == pytest.approx(cell.batch_tokens / ods.latency_s)
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    real = [realise(problem, solve(problem, "ods"), tokens).billed_gb_s * usd for tokens in batches.real]
    assert by.loc["ods", "realised_usd"] == pytest.approx(np.mean(real))


@pytest.mark.usefixtures("no_recording")
def test_the_model_that_is_not_cut_is_billed_for_all_its_compute(
    figure: tuple[pd.DataFrame, dict[str, Claim]],
) -> None:
    """Its GB-s by hand: seconds of a call and of every token, at one of the memory sizes."""
    data, _ = figure
    cell = rivals.cells(tiny(rivals.Settings, slack=SLACK, draws=2, late_share=0.25))[1]
    blocks = make_blocks(
        cell.spec, routing_of(cell).popularity(cell.batch_tokens), cell.platform, cell.batch_tokens
    )
    calls, tokens = (
        np.array([getattr(layer, name) for layer in blocks.layers]).sum(axis=0)
        for name in ("seconds_per_call", "seconds_per_token")
    )
    tail = 0.0 if blocks.tail_seconds_per_token is None else np.array(blocks.tail_seconds_per_token)
    gb_s = np.array(blocks.memory_mb) / 1024 * (calls + cell.batch_tokens * (tokens + tail))
    usd = gb_s * cell.platform.gb_s_usd / cell.batch_tokens * MILLION
    mine = plans(data)[plans(data)["rival"] == WHOLE]
    found = mine[mine["found"].astype(bool)]
    assert len(found)
    assert np.abs(usd[:, None] / found["planned_usd"].to_numpy(float) - 1).min(axis=0).max() < 0.01
    assert (found["planned_usd"] == found["realised_usd"]).all(), "routing changes nothing"


def test_the_check_fails_where_a_rival_is_below_the_front(figure: tuple[pd.DataFrame, dict[str, Claim]]) -> None:
    data, claims = figure
    name = "no plan costs less than the certified front at its speed"
    assert claims[name].confirmed
    wrong = data.copy()
    wrong.loc[(wrong["rival"] == "replicas-only"), "least_above_front"] = -1e-3
    claim = {x.claim: x for x in rivals.claims(wrong)}[name]
    assert claim.confirmed is False
    cases = int(claims[name].ours.split()[-2])
    assert claim.ours == f"{cases - len(SLACK)} of {cases} plans"


def test_a_rival_cheaper_than_ods_is_said(figure: tuple[pd.DataFrame, dict[str, Claim]]) -> None:
    data = figure[0].copy()
    mine = (data["rival"] == "memory-only") & (data["slack"] == 2.0)
    data.loc[mine, ["planned_usd", "feasible_share", "found"]] = [1e-6, 1.0, True]
    claim = {x.claim: x for x in rivals.claims(data)}["ODS costs at most as much as any rival within the limit"]
    assert claim.confirmed is False
    assert "memory-only by 100.0% at 2 times the least latency" in claim.reason


def test_the_front_falls_with_slack_and_the_picture_is_drawn(
    figure: tuple[pd.DataFrame, dict[str, Claim]],
) -> None:
    data, _ = figure
    front = data[data["row"] == "front"].sort_values("target_tokens_per_s")["planned_usd"].dropna().to_numpy()
    assert len(front) > 100
    assert (np.diff(front) >= -1e-12).all()
    random = plans(data)[plans(data)["rival"] == "random"]
    assert (random["planned_usd_high"] >= random["planned_usd"]).all()
    assert len(rivals.draw(data).axes) == 3


@pytest.mark.usefixtures("no_recording")
def test_its_checks_are_not_counted_as_the_papers_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_record", lambda todo: {})
    settings = tiny(rivals.Settings, slack=(1.5,), draws=2, seed=0)
    asked = [replace(x, settings=settings) for x in job.asked_for(["rivals"], "quick", 0)]
    summary = job.run_figures(asked, "quick", 0, tmp_path, False, 1)
    verdicts = [claim["verdict"] for claim in summary["claims"] if claim["verdict"]]
    page = (tmp_path / "paper.md").read_text()
    assert "Of 0 claims that can be judged, 0 are confirmed" in " ".join(page.split())
    own = page[page.index("## Checks of our own") :]
    assert (
        len(verdicts) == 2 == sum(line.count("confirmed") > 0 for line in own.splitlines() if line.startswith("|"))
    )
    assert (tmp_path / "rivals.png").is_file()


def test_groups_and_remoe_are_served_by_whoever_has_the_expert() -> None:
    """On the tokens that were planned for, neither may be billed more than planned, nor much less."""
    problem = reference("bert-4")[0].with_limit(None)
    real = np.array([layer.tokens for layer in problem.layers])
    for answer in (plan_groups(problem, GROUP, "popularity"), remoe(problem)):
        planned = getattr(answer, "billed_gb_s", None) or answer.plan.billed_gb_s
        billed = realised(problem, answer, real).billed_gb_s
        assert planned is not None
        assert 0.9 * planned <= billed <= planned * (1 + 1e-9)
    groups = plan_groups(problem, GROUP, "popularity")
    doubled = real * np.array([2, 1, 1, 1])  # by hand: the sums over each layer's groups
    sums = [[row[list(x)].sum() for x in of] for row, of in zip(doubled, groups.grouping.layers, strict=True)]
    assert realised(problem, groups, doubled) == realise(groups.problem, groups.plan, np.array(sums))
