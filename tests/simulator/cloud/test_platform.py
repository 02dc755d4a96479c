"""The platform of a profile: if these fail, a run with the same seed no longer gives the same numbers."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from simulator.cloud.platform import Platform, ideal_platform, platform_of_profile
from simulator.draws import Chances, Draws, Retries
from simulator.profiles.schema import load_profile
from tests.conftest import reference


def platform(seed: int = 0) -> Platform:
    return platform_of_profile(load_profile("paper"), None, np.random.default_rng(seed))


def test_each_stream_keeps_its_place_so_that_kept_results_stay_true() -> None:
    aws = platform()
    start, storage = aws.start, aws.storage
    drawn = (
        *(start.warm, start.package.provisioning, start.package.init, start.keep_alive),
        *(storage.gets.latency, storage.puts.latency, aws.compute.jitter, aws.payload.overhead),
    )
    assert [each.next() for each in drawn] == pytest.approx(
        [
            *(0.0453919876073598, 0.155, 0.08660118664000398, 600.0),
            *(0.017533349399446563, 0.04966930335109098, 0.9752249545380981, 0.012075475465189191),
        ]
    )
    callers = [retries for retries in (aws.retries, storage.gets.retries, storage.puts.retries) if retries]
    assert [retries.backoff_s(3) for retries in callers] == pytest.approx(
        [2.177208536108678, 1.1926736933826336, 1.6537113287894911]
    )


def test_no_two_things_share_a_stream() -> None:
    """Else a change of one constant would change what is drawn of another."""
    aws = platform()
    parts = [aws, aws.start, *aws.start.packages.values(), aws.failures, aws.compute, aws.payload]
    parts += [aws.storage.gets, aws.storage.puts]
    found = [
        value
        for part in parts
        for value in ([getattr(part, f.name) for f in fields(part)] if is_dataclass(part) else vars(part).values())
        if isinstance(value, Draws | Chances | Retries)
    ]
    generators = {id(value): id(value._rng) for value in found}  # the default package is there twice
    assert len(generators) > 20
    assert len(set(generators.values())) == len(generators)


def test_a_change_of_one_field_leaves_the_rest_of_its_group() -> None:
    problem, _, _ = reference("tiny")
    before = ideal_platform(problem)
    after = before.changed(start={"init_limit_s": 10.0}, name="mine")
    assert (after.name, after.start.init_limit_s) == ("mine", 10.0)
    assert (after.start.warm, after.compute) == (before.start.warm, before.compute)
