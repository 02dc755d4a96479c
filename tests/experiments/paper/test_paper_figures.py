"""The plain data of the paper's figures, tiny: if these fail, a picture or its verdict shows something else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from experiments.paper.drift import drifted_sets
from experiments.paper.figures import fig03, fig04, fig11, overheads, ranking, robust
from experiments.paper.figures.fig02 import figure as fig02
from experiments.paper.figures.fig10 import figure as fig10
from experiments.paper.figures.fig12 import figure as fig12
from experiments.paper.figures.fig13 import figure as fig13
from experiments.paper.figures.fig13.rows import tuned_table
from experiments.paper.figures.fig14 import figure as fig14
from experiments.paper.job import asked_for
from experiments.paper.routing import recorded, routing_of
from experiments.paper.settings import Variant
from experiments.profiles.reading import write_profile
from experiments.run.routing import Routing
from moe.trace import RoutingTrace
from optimizer.bo import Tuning, closed_form
from optimizer.popularity import predictor
from simulator.plan import needed_memory_bytes
from simulator.profiles.constant import Fit
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.uncertainty import SPREAD, Factors, drawn_factors
from simulator.profiles.walk import with_constant
from tests.experiments.paper.cases import OTHER, TEXT, made, tiny
from tests.optimizer.popularity.test_scored import random_trace

pytestmark = pytest.mark.usefixtures("no_recording")


def test_fig02_bills_are_ordered_as_the_periods_are() -> None:
    data, claims = made(fig02.FIGURE, decode_steps=1)
    serving = data[data["row"] == "serving"].set_index("name")
    second, month, hour = (
        serving.loc[f"CPU, {x}", "billed_usd"] for x in ("by the second", "by the month", "1 h a batch")
    )
    assert month == pytest.approx(second / 0.2)  # the profile's month is 20% used
    # An hour for each batch is as much dearer than its seconds as an hour is longer than the batch.
    assert hour == pytest.approx(second * 3600 / serving.loc["CPU, by the second", "latency_s"], rel=1e-3)
    assert (serving["usd_whole"].dropna() > serving["billed_usd"][serving["usd_whole"].notna()]).all()
    gap = next(claim for name, claim in claims.items() if name.startswith("22.9"))
    assert gap.confirmed is None
    constant = data[(data["row"] == "constant") & data["factor"].notna()].iloc[0]
    assert constant["needed"] == pytest.approx(constant["value"] * constant["factor"])
    assert fig02.draw(data).axes


def test_fig03_counts_every_token_of_an_id() -> None:
    data, claims = made(fig03.FIGURE, gates=2, least_occurrences=2)
    ids = recorded(fig03.cells(tiny(fig03.Settings))[0].recording).token_id
    first = data[data["gate_seed"] == 0]
    own = first[first["row"] == "tokens"].groupby("token_id")["tokens"].sum()
    for token_id, tokens in own.items():
        assert tokens == (ids == token_id).sum()
    often = np.unique(ids, return_counts=True)[1] >= 2
    assert first.loc[first["row"] == "histogram", "ids_with"].sum() == often.sum()
    assert claims["a token ID goes to several experts"].confirmed  # the noise of a synthetic gate is 30%
    assert fig03.draw(data).axes


def test_fig04_direct_is_infeasible_where_its_payload_is_over_the_limit() -> None:
    data, claims = made(fig04.FIGURE, sizes=(256, 2560))
    for row in data[data["method"] == "direct"].itertuples():
        assert row.feasible == (row.largest_payload_bytes <= row.payload_limit_bytes)
        assert row.bytes_per_token == pytest.approx(384 * 4 * 4 / 3)  # MiniLM's hidden state, in base64
    assert data[data["method"] == "storage"]["feasible"].all()
    many = next(claim for name, claim in claims.items() if "infeasible" in name)
    fits = bool(data[(data["method"] == "direct") & (data["tokens"] == 2560)]["feasible"].iloc[0])
    assert many.confirmed is not fits
    assert fig04.draw(data).axes


def test_fig10_records_the_pairs_of_model_and_text_that_the_paper_has() -> None:
    (asked,) = asked_for(["10"], "default", 0)
    pairs = {(cell.model.title, cell.text.title) for cell in asked.figure.cells(asked.settings)}
    assert pairs == set(asked.settings.pairs)
    assert ("Bert2Bert", "encyclopedia") in pairs
    assert ("GPT2", "news") not in pairs
    with pytest.raises(ValidationError, match=r"pairs: \[Bert, poetry\]: expected one of models and one of texts"):
        fig10.Settings(**asked.settings.model_dump() | {"pairs": [("Bert", "poetry")]})


def test_fig10_error_is_the_mean_distance_on_held_out_tokens() -> None:
    variants = (Variant(experts=4, top_k=1), Variant(experts=4, top_k=2), Variant(experts=8, top_k=1))
    data, claims = made(fig10.FIGURE, variants=variants, test_tokens=1024, gates=1)
    routing = routing_of(fig10.cells(tiny(fig10.Settings, variants=variants, test_tokens=1024))[0])
    test = routing.held_out
    predicted = predictor("lina", counting="hard").fit(routing.profiled).predict(test.token_id)
    row = data[
        (data["predictor"] == "lina")
        & (data["counting"] == "hard")
        & (data["experts"] == 4)
        & (data["top_k"] == 1)
    ]
    assert row["tokens"].item() == pytest.approx(np.abs(predicted - test.popularity()).mean())
    assert row["test_tokens"].item() == 1024
    assert len(data) == len(variants) * 4
    assert claims["top-2 is predicted better than top-1"].ours.endswith("of 1 models and texts")
    assert fig10.draw(data).axes


def test_fig11_dearer_is_not_called_cheaper() -> None:
    data, claims = made(fig11.FIGURE, sizes=(256, 1024))
    few = data[(data["tokens"] == 256) & data["feasible"]].set_index("method")["billed_usd"]
    claim = next(claim for name, claim in claims.items() if "cheapest at 256" in name)
    assert claim.ours == few.idxmin()
    assert claim.confirmed == (few.idxmin() == "direct")
    speed = data[data["method"] == "storage"].sort_values("tokens")["tokens_per_s"].to_numpy()
    assert speed[1] > speed[0]  # starts and parameters take as long for fewer tokens
    assert fig11.draw(data).axes


@pytest.mark.slow
def test_fig12_nothing_is_cheaper_than_the_optimum_within_the_limit() -> None:
    data, claims = made(fig12.FIGURE, slack=(1.05, 1.5), miqcp_s=0.05, draws=2, late_share=0.25)
    assert set(data["solver"]) == set(fig12.SOLVERS)
    for _, group in data.groupby("slack"):
        by = group.set_index("solver")
        keeps = by[(by["feasible_share"] > 0) & by["found"]]
        assert (keeps["planned_usd"] >= by.loc["optimum", "planned_usd"] * (1 - 1e-9)).all()
        assert not by.loc["MIQCP", "found"]  # in a twentieth of a second
    none = next(claim for name, claim in claims.items() if name.startswith("MIQCP"))
    assert (none.confirmed, none.verdict) == (None, "cannot be judged")  # it finds none at low targets either
    assert none.ours == "no plan at 2 of 2 targets"
    assert fig12.draw(data).axes


def test_fig13_no_tuning_is_ratio_one() -> None:
    more = {"samplers": ("none", "random", "multi-epsilon"), "objectives": ("bill",), "runs": 2, "trials": 2}
    data, claims = made(fig13.FIGURE, tuned_on=1, **more)
    by = data.set_index("sampler")
    assert by.loc["none", "cost_ratio"] == 1
    assert by.loc["none", "error_ratio"] == 1
    assert len(by.loc["random", "cost_ratios"].split()) == 2
    best = next(claim for name, claim in claims.items() if "least bill" in name)
    assert best.ours.startswith(("0 of 1", "1 of 1"))
    assert fig13.draw(data).axes


def test_fig13_gaps_are_closed_by_runs_on_the_same_unseen_batches() -> None:
    more = {"samplers": ("none", "recount"), "objectives": ("bill+slo",), "runs": 2, "trials": 2, "tuned_on": 1}
    more |= {"texts": (TEXT, OTHER), "drifts": (0.5,), "changes": ({"pairs": 100},)}
    settings = tiny(fig13.Settings, **more)
    rows = pd.DataFrame([row for cell in fig13.cells(settings) for row in fig13.compute(cell)])
    assert (rows.groupby(["drift", "run"])["gap"].nunique() == 1).all()
    data = fig13.table(rows.to_dict("records")).set_index(["drift", "sampler", "change"])
    assert data.loc[(0.5, "none", ""), "gap_closed"] == 0
    own = rows[(rows["drift"] == 0.5) & (rows["sampler"] == "recount")]
    assert data.loc[(0.5, "recount", ""), "gap_closed"] == pytest.approx(own["gained"].sum() / own["gap"].sum())
    assert set(rows["change"][rows["sampler"] == "multi-epsilon"]) == {"pairs=100"}
    claim = next(x for x in fig13.claims(data.reset_index()) if "50% other noise" in x.case)
    assert claim.ours.endswith("'recount'")


def test_fig13_where_memory_binds_there_is_no_limit_and_overflow_is_met() -> None:
    memory = fig13.MemoryBinds(runs=2, samplers=("none",), runtime_bytes=262e6, token_bytes={"Small": 1e6})
    cell = next(x for x in fig13.cells(tiny(fig13.Settings, memory=memory)) if x.memory is not None)
    routing = routing_of(cell)
    batches = routing.batches(1, cell.batch_tokens, 0).batches
    planner, tuned = tuned_table(cell, routing, batches, "none", "bill", 1, 0, memory=cell.memory)
    problem, layer = planner.problem, planner.problem.layers[0]
    assert problem.latency_limit_s is None
    # Eq. 12c: parameters, the runtime, and what a token takes with its input and output.
    needed = needed_memory_bytes(layer, np.full(4, 100.0)) - layer.experts[0].parameter_bytes
    np.testing.assert_allclose(needed, 262e6 + 100 * 1e6)
    plan = planner.plan(planner.popularity(batches, Tuning()))
    assert tuned.rows[0].cost == closed_form("retry")(problem, plan, batches.real)[0].billed_gb_s
    half = planner.plan(batches.real[0] * 0.5)  # the calls that fail are paid
    met, foreseen = (closed_form(x)(problem, half, batches.real)[0].billed_gb_s for x in ("retry", "foreseen"))
    assert met > foreseen


def test_fig13_judges_only_where_the_room_is_wider_than_the_intervals() -> None:
    """Where the plan for the real counts is hardly cheaper than the untuned one, who is best is chance."""
    more = {"objectives": ("bill",), "samplers": ("random", "multi-epsilon"), "runs": 2, "trials": 2}
    data, _ = made(fig13.FIGURE, **more, tuned_on=1)
    ratio = {"cost_ratio": 0.95, "cost_ratio_low": 0.94, "cost_ratio_high": 0.96, "oracle_ratio": 0.9}
    own = data["sampler"] == "multi-epsilon"
    data.loc[own, list(ratio)] = list(ratio.values())
    data.loc[own, "cost_ratios"], data.loc[~own, "cost_ratios"] = "0.949 0.951", "0.99 0.991"
    for oracle, verdict in ((0.9, True), (0.995, None)):
        data.loc[own, "oracle_ratio"] = oracle
        claims = {claim.claim: claim for claim in fig13.claims(data)}
        room = next(claim for name, claim in claims.items() if name.startswith("room"))
        judged = [claim for name, claim in claims.items() if name.startswith("multi epsilon")]
        assert room.value == pytest.approx(1 - oracle)
        assert [x.confirmed for x in judged] == [verdict, verdict]
        assert all((x.verdict == "cannot be judged") == (verdict is None) for x in judged)


def test_fig13_an_unknown_constant_is_named() -> None:
    with pytest.raises(ValidationError, match="changes: no constant 'paris'; did you mean 'pairs'"):
        tiny(fig13.Settings, changes=({"paris": 3},))
    with pytest.raises(ValidationError, match="expected rising numbers"):
        tiny(fig13.Settings, changes=({"rho_1": 0.9},))


def test_drifted_batches_share_no_sequence_and_hold_their_share() -> None:
    own, other = (Routing(x.slice(0, 4), x, 4) for x in (_numbered(0), _numbered(1000)))
    sets = drifted_sets(own, other, 0.3, [2, 3], 40, seed=0)
    assert [len(x.batches) for x in sets] == [2, 3]
    for found in sets:
        for ids, real in zip(found.batches.token_ids, found.real, strict=True):
            assert len(ids) == 40
            assert (ids >= 1000).sum() == 12
            assert real.sum(axis=1).tolist() == [40, 40]
    seen, unseen = (np.concatenate(x.batches.token_ids) for x in sets)
    assert not set(seen) & set(unseen)


def _numbered(first: int) -> RoutingTrace:
    """400 tokens in which no ID occurs twice."""
    trace = random_trace(first, tokens=400)
    return replace(trace, token_id=first + np.arange(400, dtype=np.int32))


@pytest.mark.slow
def test_fig14_the_gain_is_split_without_rest() -> None:
    data, claims = made(fig14.FIGURE, runs=2, trials=2, tuned_on=1, late_share=0.25, draws=8)
    serving = data[data["row"] == "serving"].set_index("name")
    rule = serving[serving["is_rule"].eq(True)]
    assert len(rule) == 1
    assert rule["of_lambdaml"].item() == 1
    split = data[(data["row"] == "split") & (data["lambdaml_method"] == "storage")]
    assert list(split["name"]) == list(fig14.STEPS)
    ratio = serving.loc[fig14.BO, "billed_gb_s"] / serving.loc["LambdaML, storage", "billed_gb_s"]
    # Shares are means over batches, so they sum to the mean of the ratios, not to the ratio of the means.
    assert 1 - split["saved_share"].sum() == pytest.approx(ratio, rel=0.02)
    assert {f"of_cpu_{period}" for period in ("second", "hour", "month")} <= set(data.columns)
    cheaper = next(claim for name, claim in claims.items() if name.startswith("cheaper than LambdaML"))
    assert cheaper.value == pytest.approx(1 - serving.loc[fig14.BO, "of_lambdaml"])
    assert cheaper.confirmed == (cheaper.low is not None and cheaper.low >= 0.4341)
    assert fig14.draw(data).axes


def test_overheads_have_all_of_the_papers_rows() -> None:
    data, claims = made(overheads.FIGURE, repetitions=2, profiled_batches=2, trials=12, tuned_on=1)
    assert dict(zip(data["what"], data["paper_s"], strict=True)) == overheads.PAPER_S
    assert (data["wall_s"] > 0).all()
    assert all(claim.value and claim.value > 0 for claim in claims.values())


def test_ranking_of_a_sure_profile_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data, claims = made(ranking.FIGURE, draws=5)
    assert -1 <= data["tau_cost"].item() <= 1
    assert data["ods_over_lambdaml_low"].item() < data["ods_over_lambdaml_high"].item()
    assert all(claim.confirmed is None for claim in claims.values())

    def sure(profile: PlatformProfile, *args: Any, **more: Any) -> Factors:
        known = profile.mapped(lambda constant: constant.model_copy(update={"interval": None}))
        return drawn_factors(known, *args, **more | {"spread": dict.fromkeys(SPREAD, 1.0)})

    monkeypatch.setattr(ranking, "drawn_factors", sure)
    one, _ = made(ranking.FIGURE, draws=2)
    assert one[["tau_cost", "tau_latency", "same_cheapest"]].to_numpy() == pytest.approx(np.ones((1, 3)))
    assert one["ods_over_lambdaml_low"].item() == one["ods_over_lambdaml_high"].item()


def test_ranking_is_as_sure_as_the_values_that_stand(tmp_path: Path) -> None:
    """A fit that was refused says nothing of the value that was kept instead: with its interval of a millionfold
    the order of the plans would look like chance."""
    plain = load_profile()
    fit = Fit(method="mean", samples=9, runs=3, interval=(1e3, 1e15), file="mine.csv", sha256="0" * 64)
    vcpu = plain.compute.flops_per_vcpu.model_copy(update={"fit": fit, "kept": "better than the fit"})
    refused = tmp_path / "refused.yaml"
    write_profile(with_constant(plain, ("compute", "flops_per_vcpu"), vcpu), refused)
    expected, found = (made(ranking.FIGURE, draws=8, profile=name)[0] for name in (plain.name, str(refused)))
    pd.testing.assert_frame_equal(found, expected)


def test_robust_plans_are_judged_on_batches_that_no_sample_saw() -> None:
    data, claims = made(robust.FIGURE, samples=4, objectives=("gb_s",), batch_tokens=256)
    assert list(data["plan"]) == [robust.EXACT, *robust.CRITERIA]
    for row in data[data["plan"] != robust.EXACT].itertuples():
        assert np.isnan(row.lower_bound) or row.lower_bound <= row.sample_cost * (1 + 1e-12)
        assert (row.late == 1) <= (row.latency_s > row.limit_s)
    (claim,) = claims.values()
    by = data.set_index("plan")["cost"]
    assert claim.value == pytest.approx(by[robust.IN_TIME] / by[robust.EXACT] - 1)
