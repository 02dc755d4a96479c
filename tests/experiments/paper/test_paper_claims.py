"""Verdicts: if these fail, a claim is called confirmed that our numbers do not confirm, or the reverse."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.paper.break_even import LEVERS, crossing, saving_over_lambdaml
from experiments.paper.claims import Claim, as_rows, bounded, counted, joined
from experiments.paper.plans import within_lambdaml
from experiments.run.routing import Routing
from moe.spec import load_spec
from optimizer.popularity.synthetic import synthetic_trace
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.profiles.closed_form import closed_form
from simulator.profiles.schema import PAPER_PROFILE, load_profile


@pytest.mark.parametrize(
    ("found", "at_least", "confirmed"),
    [
        ((0.5, 0.45, 0.55), True, True),
        ((0.5, 0.40, 0.60), True, None),  # the interval contains the bound
        ((0.3, 0.25, 0.35), True, False),
        ((0.3, 0.25, 0.35), False, True),
        ((0.4, 0.30, 0.50), False, None),
        ((0.5, 0.45, 0.55), False, False),
    ],
)
def test_a_bound_must_hold_for_the_whole_interval(
    found: tuple[float, float, float], at_least: bool, confirmed: bool | None
) -> None:
    claim = bounded("14", "saves", 0.4341, found, at_least=at_least)
    assert claim.confirmed is confirmed
    assert claim.verdict == {True: "confirmed", False: "not confirmed", None: "cannot be judged"}[confirmed]


def test_numbers_are_printed_as_they_are() -> None:
    claim = bounded("14", "saves", 0.7567, (0.99981, 0.9998, 0.99982), at_least=True)
    assert claim.ours == "99.981% (99.980% to 99.982%)"
    assert claim.paper == "at least 75.67%"
    assert bounded("2", "reads", 3.3, (130.0, 130.0, 130.0), at_least=True, share=False).ours == "130"


def test_in_all_means_in_all_and_no_case_is_no_verdict() -> None:
    assert counted("10", "c", "in all", [True, True], "cases").confirmed is True
    assert counted("10", "c", "in all", [True, False], "cases").confirmed is False
    nothing = counted("3", "c", "yes", [], "cases")
    assert (nothing.confirmed, nothing.verdict, nothing.ours) == (None, "", "no cases")
    assert as_rows([nothing])[0]["verdict"] == ""


def test_test_batches_never_hold_a_profiled_sequence_and_sets_share_none() -> None:
    trace = synthetic_trace(1, 128 * 40, layers=2)
    made = Routing(trace.slice(0, 128 * 20), trace.slice(128 * 20, trace.tokens), 128)
    one, two = made.sets([1, 3], 512, seed=0)
    assert (one.kind, two.kind) == ("1 disjoint batches", "3 disjoint batches")
    assert one.independent == 1
    short = made.batches(50, 512, seed=0)
    assert short.kind == "50 bootstrap samples of 2,560 held-out tokens"
    assert short.independent == pytest.approx(5)
    held_out = {tuple(ids) for ids in made.held_out.token_id.reshape(-1, 128).tolist()}
    in_sets = []
    for batches in (one, two, short):
        drawn = [tuple(ids) for batch in batches.batches.token_ids for ids in batch.reshape(-1, 128).tolist()]
        assert set(drawn) <= held_out
        assert np.array_equal(np.sum(batches.real, axis=2), np.full((len(batches.real), 2), 512))
        in_sets.append(set(drawn))
    assert not in_sets[0] & in_sets[1]


def test_a_crossing_is_found_where_there_is_one() -> None:
    assert crossing(lambda x: x**2, 9.0, 0.1, 100.0) == pytest.approx(3, rel=1e-3)
    assert crossing(lambda x: 1 / x, 2.0, 0.01, 100.0) == pytest.approx(0.5, rel=2e-3)
    assert crossing(lambda x: x, 1000.0, 0.1, 100.0) is None


def test_a_lever_moves_what_it_is_called() -> None:
    profile = load_profile()
    before = closed_form(profile, (768, 3008))
    bandwidth, delay = (next(x for x in LEVERS if word in x.title) for word in ("bandwidth", "latency"))
    after = closed_form(bandwidth.multiplied(profile, 0.5), (768, 3008))
    assert after.storage_bandwidth_bytes_per_s == pytest.approx(before.storage_bandwidth_bytes_per_s / 2)
    slow = closed_form(delay.multiplied(profile, 3), (768,))
    assert slow.storage_delay_s == pytest.approx(3 * before.storage_delay_s, rel=1e-6)


def test_the_saving_by_the_papers_equations_hands_nothing_on() -> None:
    """Eq. 11 has no such step; with it `direct`, LambdaML's as well, is slower, and the limit another one."""
    spec, profile = load_spec("bert-moe"), load_profile(PAPER_PROFILE)
    popularity = np.tile([640.0, 320.0, 192.0, 128.0], (spec.moe_layers, 1))

    def saving(hands_on: bool) -> float:
        problem = make_problem(spec, popularity, profile)
        platform = problem.platform.model_copy(update={"direct_hands_on": hands_on})
        limited = within_lambdaml(problem.model_copy(update={"platform": platform}))
        best, rule = (solve(limited, name).billed_gb_s for name in ("exact", "lambdaml"))
        assert best is not None
        assert rule
        return 1 - best / rule

    found = saving_over_lambdaml(spec, popularity, profile)
    assert found == saving(hands_on=False)
    assert found != saving(hands_on=True)


def test_a_claim_is_one_row_whatever_it_was_tried_on() -> None:
    held = Claim("14", "cheaper", "at least 43%", "50%", True, "big experts", case="Bert")
    failed = replace(held, ours="13%", confirmed=False, reason="small room", case="GPT2")
    row = joined([held, failed])
    assert [(x.verdict, x.ours, x.reason) for x in row] == [
        ("not confirmed", "Bert: 50%; GPT2: 13%", "GPT2: small room")
    ]
    assert joined([held, replace(held, case="GPT2")])[0].verdict == "confirmed"


def test_a_case_that_cannot_be_judged_does_not_decide() -> None:
    held = Claim("12", "cheapest", "yes", "6 of 6", True, case="Bert")
    unjudged = replace(held, case="GPT2").left_open("the rival has no plan")
    assert unjudged.verdict == "cannot be judged"
    assert joined([held, unjudged])[0].verdict == "confirmed"
    assert joined([unjudged, unjudged])[0].verdict == "cannot be judged"
