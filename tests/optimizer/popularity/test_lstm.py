"""`lstm`: a rhythm in the past goes on, and noise is not taken for one."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity import prediction_error, predictor
from optimizer.popularity.synthetic import synthetic_trace

STEP = 64


def trace_of(shares: list[list[float]], seed: int = 0) -> RoutingTrace:
    """Steps of 64 tokens, two layers alike, experts drawn with these shares in each step."""
    rng = np.random.default_rng(seed)
    trace = synthetic_trace(seed, STEP * len(shares), layers=2, experts=len(shares[0]))
    drawn = np.concatenate([rng.choice(len(share), STEP, p=share) for share in shares])
    trace.experts[:] = drawn[:, None, None]
    return trace


def errors(trace: RoutingTrace, profiled_steps: int, served_steps: int = 1) -> tuple[float, float]:
    """Share of the error of lstm and of history in the steps after the profiled ones."""
    end = profiled_steps * STEP
    profiled, served = trace.slice(0, end), trace.slice(end, end + served_steps * STEP)
    found = []
    for name, options in (("lstm", {"batch_tokens": STEP}), ("history", {})):
        predicted = predictor(name, **options).fit(profiled).predict(served.token_id, served)
        found.append(prediction_error(predicted, served.popularity()).share)
    return found[0], found[1]


@pytest.mark.parametrize("profiled_steps", [40, 41])
def test_popularity_that_alternates_is_expected_to_alternate(profiled_steps: int) -> None:
    day, night = [0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]
    lstm, history = errors(trace_of([day, night] * 22), profiled_steps)
    assert lstm < 0.25
    assert history > 0.7


def test_several_batches_ahead_are_forecast_one_after_another() -> None:
    """Three steps of day, night, day are not three days."""
    day, night = [0.9, 0.05, 0.05], [0.05, 0.05, 0.9]
    lstm, history = errors(trace_of([day, night] * 24), 40, served_steps=3)
    assert lstm < 0.6 * history


def test_noise_is_not_taken_for_a_rhythm() -> None:
    """Steady popularity is where the mean is best: a forecast must not be much worse."""
    pairs = [errors(trace_of([[0.4, 0.3, 0.2, 0.1]] * 60, seed), 50, 10) for seed in range(4)]
    lstm, history = np.mean(pairs, axis=0)
    assert lstm < history + 0.05


@given(steps=st.integers(1, 6), rest=st.integers(0, STEP - 1))
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_a_short_profile_is_its_mean(steps: int, rest: int) -> None:
    trace = trace_of([[0.4, 0.3, 0.3]] * 7)
    profiled = trace.slice(0, STEP * steps + rest)
    found = predictor("lstm", batch_tokens=STEP).fit(profiled).predict(trace.token_id[:100])
    np.testing.assert_allclose(found.sum(axis=1), 100)
    if steps < 4:
        np.testing.assert_allclose(found, profiled.popularity() * 100 / profiled.tokens)


def test_a_seed_decides_and_no_generator_of_others_is_touched() -> None:
    import torch

    trace = trace_of([[0.7, 0.3], [0.3, 0.7]] * 10)
    before = torch.get_rng_state().clone()
    by_seed = [
        predictor("lstm", batch_tokens=STEP, seed=seed).fit(trace).predict(trace.token_id[:64]).tobytes()
        for seed in (0, 0, 1)
    ]
    assert by_seed[0] == by_seed[1] != by_seed[2]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(InputError, match="batch_tokens: expected at least 1"):
        predictor("lstm", batch_tokens=0)


def test_torch_is_not_imported_before_it_is_needed() -> None:
    """The command line, and a simulation, start in a tenth of a second."""
    code = (
        "import sys; from optimizer.popularity import predictor; predictor('lstm'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
