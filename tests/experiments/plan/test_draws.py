"""Runs over the draws of a profile: if these fail, a result looks surer, or less sure, than its measurements."""

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.campaigns import calibrate_campaigns
from experiments.profiles.reading import write_profile
from moe.errors import InputError
from moe.files import write_json
from moe.spec import load_spec
from optimizer.problem import make_problem, remade
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.uncertainty import drawn, most_draws
from simulator.profiles.walk import constant_at, with_constant
from tests.calibration.check.campaign_of import probe, write
from tests.calibration.check.test_calibration_laws import other
from tests.experiments.conftest import Run

POPULARITY = np.array([[400.0, 100.0, 300.0, 200.0], [50.0, 850.0, 60.0, 40.0]])
PATH = ("payload", "bytes_per_s")


def problem_of(profile: PlatformProfile) -> DeploymentProblem:
    return make_problem(load_spec("bert-moe", experts=4, moe_layers=2), POPULARITY, profile)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> PlatformProfile:
    """A small campaign on the other platform."""
    rows = probe(other(), runs=4, probes=("warm", "expert", "send"))
    return calibrate_campaigns([write(rows, tmp_path_factory.mktemp("draws"))], load_profile()).profile


def test_a_problem_made_again_is_the_one_that_would_have_been_made() -> None:
    made, wanted = remade(problem_of(load_profile()), load_profile(), other()), problem_of(other())
    assert made.platform == wanted.platform
    for mine, yours in zip(made.layers, wanted.layers, strict=True):
        for name in ("seconds_per_token", "seconds_per_call", "non_moe_s", "next_load_s"):
            assert getattr(mine, name) == pytest.approx(getattr(yours, name), rel=1e-9)
        assert mine.experts == yours.experts
    assert (made.head_s, made.tail_s) == pytest.approx((wanted.head_s, wanted.tail_s))
    with pytest.raises(InputError, match="not that of profile 'other'"):
        remade(problem_of(load_profile()), other(), other())


def test_a_draw_moves_what_was_measured_and_nothing_else(calibrated: PlatformProfile) -> None:
    one, two = drawn(calibrated, 0), drawn(calibrated, 1)
    fit = constant_at(calibrated, PATH).fit
    assert fit is not None
    assert fit.draws is not None
    assert fit.interval is not None
    assert constant_at(one, PATH).value == fit.draws[0]
    assert constant_at(one, PATH).value != constant_at(two, PATH).value
    warm = one.start.warm_s
    assert warm.fit is not None
    assert warm.fit.draws is not None
    assert warm.median == pytest.approx(warm.fit.draws[0], rel=1e-3)
    assert one.storage == calibrated.storage
    inside = [fit.interval[0] <= x <= fit.interval[1] for x in fit.draws]
    assert 0.85 <= np.mean(inside) <= 1.0


def test_a_profile_without_draws_says_so() -> None:
    assert most_draws(load_profile()) == 0
    with pytest.raises(InputError, match="no constant has any: they come from smoe calibrate"):
        drawn(load_profile(), 0)


def test_more_draws_than_there_are(calibrated: PlatformProfile) -> None:
    most = most_draws(calibrated)
    assert most == 40
    with pytest.raises(InputError, match=r"expected no more than there are, got 41; it has 40"):
        drawn(calibrated, most)


def test_simulate_and_plan_over_draws(smoe: Run, calibrated: PlatformProfile, tmp_path: Path) -> None:
    profile, problem, plan = (str(tmp_path / name) for name in ("p.yaml", "problem.json", "plan.json"))
    write_profile(calibrated, Path(profile))
    write_json(Path(problem), problem_of(load_profile(profile)))
    code, printed, told = smoe("plan", problem, "--profile", profile, "--set", "draws=5", "--json", "--out", plan)
    assert code == 0, told
    over = json.loads(printed)["over_draws"]
    assert over["draws"] == 5
    for row in over["rows"]:
        assert row["this_plan_cost"] >= row["cost"] * (1 - 1e-9)
        assert row["same_plan"] <= (row["this_plan_over_best"] == pytest.approx(0.0, abs=1e-9))
    assert len({row["cost"] for row in over["rows"]}) > 1
    code, printed, _ = smoe("simulate", problem, plan, "--profile", profile, "--set", "draws=5", "--json")
    found = json.loads(printed)
    assert found["price_list_date"] == "2026-09-19"  # of the profile: whoever reads the bill later must know
    levels = found["over_draws"]["quantiles"]["latency_s"]
    assert levels["p5"] < levels["p50"] < levels["p95"]
    assert levels["p5"] * 0.9 < found["latency_s"] < levels["p95"] * 1.1
    code, printed, _ = smoe("simulate", problem, plan, "--profile", profile, "--set", "draws=5")
    assert code == 0
    assert "5 draws of the profile" in printed
    assert "Prices of 2026-09-19." in printed
    code, _, told = smoe("simulate", problem, plan, "--set", "draws=5")
    assert (code, "--set draws: expected together with --profile" in told) == (2, True)


def test_a_constant_that_was_kept_has_no_draws(calibrated: PlatformProfile) -> None:
    kept = constant_at(calibrated, PATH).model_copy(update={"kept": "better than the fit"})
    assert constant_at(drawn(with_constant(calibrated, PATH, kept), 0), PATH).value == kept.value
