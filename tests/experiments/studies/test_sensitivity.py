"""Sensitivity: which condition decides whether serverless is cheaper. Else readers measure the wrong thing."""

import dataclasses

import numpy as np
import pytest
import yaml

from experiments.studies import sensitivity
from experiments.studies.headline import FACTORS, OUTPUTS, Headline, evaluate, nominal, with_factors
from experiments.studies.sensitivity_page import write_study
from experiments.studies.sensitivity_picture import draw_tornado, swings_of
from experiments.tools.kept import Store, unseen
from moe.spec import load_spec
from simulator.profiles.constant import Samples
from simulator.profiles.schema import load_profile
from simulator.profiles.walk import with_constant
from simulator.serving.cluster import PERIODS

SPEC = load_spec("bert-moe").model_copy(update={"moe_layers": 2})


@pytest.fixture(scope="module")
def profile():
    return load_profile()


def at(profile, **changes):
    return evaluate(SPEC, profile, nominal() | changes)


def test_the_nominal_point_is_the_profile_itself(profile):
    """Else the middle of every bar is another platform's."""
    assert with_factors(profile, nominal()) == profile


def test_a_constant_of_measured_samples_takes_its_factor(profile):
    """One's own profile may hold samples; the study must not die of them."""
    samples = profile.start.warm_s.model_copy(update={"value": Samples(samples=(0.01, 0.02, 0.04))})
    measured = with_constant(profile, ("start", "warm_s"), samples)
    changed = with_factors(measured, nominal() | {"warm start": 2.0})
    assert changed.start.warm_s.value == Samples(samples=(0.02, 0.04, 0.08))


def test_ratios_move_as_they_must(profile):
    base = at(profile)
    assert at(profile, **{"price of a GB-s": 0.8}).cluster["second"] == pytest.approx(0.8 * base.cluster["second"])
    assert at(profile, **{"price of a GB-s": 0.8}).cost == pytest.approx(base.cost)
    assert at(profile, **{"cluster's efficiency": 0.45}).cluster["second"] < base.cluster["second"]
    assert at(profile, **{"cluster's paid time used": 0.4}).cluster["month"] == pytest.approx(
        2 * base.cluster["month"]
    )
    assert at(profile, **{"batches in a paid hour": 10}).cluster["hour"] == pytest.approx(
        10 * base.cluster["hour"]
    )
    small = at(profile, **{"compute beyond one vCPU": 0.85}).cost
    assert small < at(profile, **{"compute beyond one vCPU": 1.0}).cost, "large memory is then a waste"
    assert at(profile, **{"cluster's core": 2.8}).cluster["second"] > base.cluster["second"]


class Known:
    """Ratios that are known functions of two factors."""

    def __init__(self):
        self.calls = 0

    def __call__(self, points, update=unseen):
        self.calls += len(points)
        return [self._one(point) for point in points]

    def _one(self, point):
        x, y = point["FLOP/s of a vCPU"], point["price of a GB-s"]
        return Headline(0.6 * x**-0.5, 0.9, {"second": 1.2 * x * y, "month": 1.0, "hour": 1.0}, True)


def test_break_even_is_where_the_known_ratio_passes_the_claim():
    swings = sensitivity._swings(Known())
    mine = next(s for s in swings if (s.output, s.factor) == ("cost", "FLOP/s of a vCPU"))
    assert mine.claim_at == pytest.approx((0.6 / 0.5659) ** 2, rel=1e-2)
    dear = next(s for s in swings if (s.output, s.factor) == ("second", "FLOP/s of a vCPU"))
    assert dear.cheaper_at == pytest.approx(1 / 1.2, rel=1e-2)
    assert all(s.claim_at is None for s in swings if s.factor == "skew")


def test_sobol_indices_of_a_product_of_powers_are_its_exponents(monkeypatch):
    """log ratio = log x + log y: the indices are the shares of the logarithms' variances."""
    pytest.importorskip("SALib")

    def run(points, update=unseen):
        found = Known()(points)
        noise = [1 + 1e-9 * k for k in range(len(found))]
        return [
            dataclasses.replace(h, tokens_per_s=0.9 * n, cluster=h.cluster | {"month": n, "hour": n})
            for h, n in zip(found, noise, strict=True)
        ]

    indices, _, _, samples = sensitivity._sobol(run, 512, 0, unseen)
    assert samples == 512 * (len(FACTORS) + 2)
    flops, price = FACTORS[0], next(f for f in FACTORS if f.name == "price of a GB-s")
    shares = np.linspace(0, 1, 10_001)
    variances = {f.name: np.var(np.log(f.at(shares))) for f in (flops, price)}
    total = sum(variances.values())
    for name, variance in variances.items():
        index = next(x for x in indices if (x.output, x.factor) == ("second", name))
        assert index.first == pytest.approx(variance / total, abs=0.05)
        assert index.total == pytest.approx(variance / total, abs=0.05)


def test_the_same_seed_gives_the_same_intervals():
    """Seed 0, the default, is a seed as any other."""
    pytest.importorskip("SALib")

    def run(points, update=unseen):
        return [
            Headline(p["skew"] + 1, p["S3 delay"], dict.fromkeys(PERIODS, p["reading weights"]), True)
            for p in points
        ]

    one, two = (sensitivity._sobol(run, 8, 0, unseen)[0] for _ in range(2))
    assert one == two


def test_the_page_and_the_picture_say_what_the_study_found(tmp_path):
    pytest.importorskip("SALib")

    def run(points, update=unseen):
        return [
            Headline(
                0.4 * p["tokens of a batch"] ** 0.05,
                0.7 + p["skew"] / 10,
                {"second": p["price of a GB-s"], "month": p["cluster's price"], "hour": 1e-3 * p["skew"] + 1e-3},
                True,
            )
            for p in points
        ]

    found = sensitivity.study(SPEC, load_profile(), run, 8, 0)
    write_study(found, tmp_path)
    draw_tornado(found, tmp_path / "tornado")
    text = (tmp_path / "sensitivity.md").read_text()
    for title in OUTPUTS.values():
        assert title in text
    assert {p.name for p in tmp_path.iterdir()} >= {"tornado.png", "tornado.svg", "swings.csv", "sobol.csv"}
    assert swings_of(found, "cost")[-1][0] == "tokens of a batch"


def test_points_are_kept_and_the_same_for_any_workers(tmp_path):
    """A study that was stopped goes on; ratios that were read are those that were computed."""
    points = [nominal() | {"skew": skew} for skew in (0.1, 0.9)]
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(SPEC.model_dump(mode="json", by_alias=True)))
    alone, other = (Store(tmp_path / str(workers), workers=workers) for workers in (1, 2))
    run = sensitivity.evaluator(str(spec), "aws-us-east-1-2026", 0, alone)
    found = run(points)
    assert found == [evaluate(SPEC, load_profile(), point, 0) for point in points]
    assert sensitivity.evaluator(str(spec), "aws-us-east-1-2026", 0, other)(points) == found
    assert run(points) == found
    told = []
    assert run(points * 9, lambda done, total, rate: told.append((done, total)))[:2] == found
    assert told[-1] == (18, 18)
