"""Known batches: if these fail, a margin rests on chance that differs from plan to plan."""

import numpy as np

from experiments.tools.known_batches import played_s
from optimizer.solvers import solve
from serverless_moe import load_profile
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.replicas import whole_tokens
from tests.conftest import reference


def test_a_batch_takes_as_long_whatever_batches_are_before_it() -> None:
    problem, profile = reference("bert-4")[0], load_profile()
    plan = solve(problem)
    batch = np.array([whole_tokens(layer.tokens) for layer in problem.layers])
    other = batch[:, ::-1]

    def latencies_s(batches: list[np.ndarray], seed: int = 0) -> list[float]:
        found: list[float] = played_s(problem, plan, profile, JUST_IN_TIME, batches, seed).tolist()
        return found

    three = latencies_s([batch, batch, batch])
    assert len(set(three)) == 3
    assert latencies_s([other, batch, batch])[1:] == three[1:]
    assert latencies_s([batch]) == three[:1] != latencies_s([batch], seed=1)
