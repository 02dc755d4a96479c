"""The validation page: if these fail, it says something else than the simulator does."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibration.check.checks import Measured, scatter
from calibration.check.probes import bytes_moved, requests_in_a_second, warm_share
from calibration.published.files import FILES, public_rows
from experiments.tools.cases import bert_problem, uniform_plan
from experiments.validation import page
from experiments.validation.checks import Check
from experiments.validation.closed_form import closed_form_checks
from experiments.validation.laws import law_checks
from experiments.validation.mechanisms import (
    FAN_IN_METHODS,
    Situation,
    each_transfer_alone,
    fan_in,
    large_experts,
    situation,
    with_sustained_burst,
    without_tails,
)
from moe.errors import InputError
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.serving.simulate import simulate
from tests.experiments.conftest import Run

SHARED = Path(__file__).parents[4] / "shared" / "data"
PROFILE = load_profile()


def small_situation() -> Situation:
    return situation("small", bert_problem(1, 2, 256), PROFILE, 1.25, seeds=2)


@pytest.fixture(scope="module")
def small() -> page.Validation:
    """A page of a few quick rows."""
    checks = {title: [Check("some", "theory", 1.0, 1.01, 0.02)] for title in (page.CLOSED_FORM, page.QUEUEING)}
    checks |= {page.PEERS: [], page.LAWS: [Check("other", "law", 1.0, 1.0)]}
    fans = fan_in(2, (1, 2), FAN_IN_METHODS[:1])
    return page.Validation(2, {"numpy": "0"}, checks, None, fans, [small_situation()])


# -- rows -------------------------------------------------------------------------------------------------


def test_the_closed_form_and_the_laws_are_met_as_the_page_says() -> None:
    for check in closed_form_checks(cases=4) + law_checks(cases=4):
        if "(at most)" in check.what:
            assert check.error <= 1e-9, check.what
        else:
            assert abs(check.error) < 1e-9, check.what


def test_tails_slow_a_layer_down_and_more_so_with_more_replicas() -> None:
    few, many = fan_in(4, (1, 16), FAN_IN_METHODS[:1])
    assert 0 < few.added_by_tails.mean() < many.added_by_tails.mean()
    assert many.closed_form_s < few.closed_form_s


def test_each_mechanism_that_is_switched_off_is_off() -> None:
    problem = bert_problem(2, 4, 2048)
    plan = uniform_plan(problem, "storage", None, 4)
    shared = simulate(problem, plan, without_tails(PROFILE)).mean_latency_s
    with each_transfer_alone():
        alone = simulate(problem, plan, without_tails(PROFILE)).mean_latency_s
    assert alone < shared
    assert simulate(problem, plan, without_tails(PROFILE), seed=5).mean_latency_s == shared  # nothing is random
    large, paper = large_experts(), load_profile("paper")  # a process of Python is slower than the burst
    parted = with_constant(paper, ("storage", "parts"), 8.0)
    slow, fast = (
        simulate(large, uniform_plan(large, "storage", None), each).mean_latency_s
        for each in (parted, with_sustained_burst(parted))
    )
    assert fast < 0.9 * slow


def test_a_situation_names_the_cheapest_plan_within_its_target() -> None:
    found = small_situation()
    assert found.effects[0].total_cost == found.effects[0].latency == 0.0
    for effect in found.effects:
        assert effect.decision is None or effect.decision in effect.ranking
        assert 0 <= effect.decided <= 1


# -- public measurements ----------------------------------------------------------------------------------


def stellar(folder: Path) -> None:
    rows = [
        ("warm_invocation_response_ms_minus_rtt", 18.0, 74.0),
        ("inline_transfer_1KB_ms", 22.0, None),
        ("inline_transfer_4MB_ms", 124.0, 174.0),
    ]
    pd.DataFrame(rows, columns=["metric", "p50", "p99"]).to_csv(
        folder / "stellar_aws_scalars_2021.csv", index=False
    )


def test_a_measured_quantity_stands_beside_what_the_simulator_does(tmp_path: Path) -> None:
    stellar(tmp_path)
    rows = {row.quantity: row for row in public_rows(tmp_path)}
    assert rows["warm invocation, p50"].error == pytest.approx(0.0, abs=0.03)
    assert rows["function to function, 1 KB, payload alone, p50"].error == pytest.approx(-0.5, abs=0.02)
    assert rows["warm invocation, p50"].spread is None


def test_the_spread_of_a_measurement_is_between_its_days(tmp_path: Path) -> None:
    days = {"2026-07-01": 80.0, "2026-07-02": 100.0}
    rows = [
        (day, "python3.12", package, architecture, ms)
        for day, ms in days.items()
        for package, architecture in (("zip", "x86_64"), ("image", "x86_64"), ("zip", "arm64"))
        for _ in range(3)
    ]
    columns = ["date", "runtime", "package_type", "architecture", "init_ms"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "coldstart_maxday_raw_2026.csv", index=False)
    first = public_rows(tmp_path)[0]
    assert first.measured == 90.0
    assert first.spread == pytest.approx(np.std([80, 100], ddof=1) / 90)
    assert (first.data, first.spread_of) == ("fitted", "2 days")
    assert scatter([1.0]) is None


def test_probes_play_what_the_profile_says() -> None:
    moved = bytes_moved(PROFILE, 7076, np.array([0.1, 100.0]))
    assert moved[0] == pytest.approx(0.1 * 1.2e9, rel=1e-6)
    assert moved[1] == pytest.approx(310e6 + 100 * 78e6, rel=1e-6)  # the whole bucket, and what flows in
    assert requests_in_a_second(PROFILE, "put") == 3500
    assert warm_share(PROFILE, 5, 599.0) == 1.0
    assert warm_share(PROFILE, 5, 602.0) == 0.0


def test_public_files_that_are_missing_or_malformed_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the public files"):
        public_rows(tmp_path)
    (tmp_path / "lambda_vcpu_tiers.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"lambda_vcpu_tiers.csv: a column or row is missing"):
        public_rows(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public measurements are not here")
def test_every_public_file_is_measured_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.check.probes.MANY", 400)
    assert all(list(SHARED.rglob(file.pattern)) for file in FILES)
    rows = public_rows(SHARED)
    assert len({row.quantity for row in rows}) == len(rows)
    fitted = [
        row for row in rows if row.data == "fitted" and "p99" not in row.quantity and "peak" not in row.quantity
    ]
    assert max(abs(row.error) / max(0.15, 1.5 * (row.spread or 0.0)) for row in fitted) < 1
    assert all(np.isfinite(row.error) for row in rows)


# -- the page ---------------------------------------------------------------------------------------------


def test_the_page_has_every_row_with_its_error(small: page.Validation) -> None:
    text = page.markdown(small, "picture.svg")
    assert "| some | 1, theory | 1.01 | +1.00% | 0.02 |" in text
    assert "![latency added by tails, and error of the closed form, over replicas](picture.svg)" in text
    assert "SimFaaS is not installed" in text
    assert "`./smoe bench validation --public DIR`" in text
    assert text.count("| storage | ") == 2
    assert text.count("| token bucket (always burst) | ") == 1


def test_the_page_says_how_far_unseen_measurements_are(small: page.Validation) -> None:
    rows = [
        Measured("near", "ms", 10.0, 10.5, 0.1, "3 days", "unseen", "someone, 2020"),
        Measured("far", "ms", 10.0, 15.0, 0.1, "3 days", "unseen", "someone, 2020"),
        Measured("fit", "", 1.0, 1.0, None, "one run", "fitted", "someone, 2020"),
    ]
    text = page.markdown(dataclasses.replace(small, public=rows))
    assert "Of 3 rows, 2 are unseen: the median of their errors' sizes is 28%." in text
    assert "2 of these know the measurement's spread; 1 are within it." in text
    assert "| near | 10 ms | 10.5 ms | +5.0% | 10.0%, 3 days | unseen | someone, 2020 |" in text


def test_the_command_writes_page_and_picture_or_prints_json(
    small: page.Validation, smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(*_: Any, **__: Any) -> page.Validation:
        return small

    monkeypatch.setattr(page, "validate", quick)
    out = tmp_path / "page.md"
    code, printed, _ = smoe("bench", "validation", "--out", str(out), "--json")
    assert code == 0
    assert out.read_text() == page.markdown(small, "page-fan-in.svg")
    assert (tmp_path / "page-fan-in.png").stat().st_size > 5_000
    data = json.loads(printed)
    assert data["checks"][0] == {
        "section": "The closed form",
        "what": "some",
        "source": "theory",
        "expected": 1.0,
        "found": 1.01,
        "spread": 0.02,
        "error": pytest.approx(0.01),
    }
    assert len(data["fan_in"][0]["simulated_s"]) == 2
    assert smoe("bench", "validation", "--public", str(tmp_path / "nowhere"))[0] == 2


def test_a_profile_without_tails_keeps_its_medians() -> None:
    still: PlatformProfile = without_tails(PROFILE)
    for name, package in PROFILE.start.packages.items():
        assert still.start.packages[name].init_s.value == pytest.approx(package.init_s.median)
    assert still.start.warm_s.value == pytest.approx(PROFILE.start.warm_s.median)
    assert still.storage.get_latency_s.value == pytest.approx(0.020)
    assert still.network == PROFILE.network
