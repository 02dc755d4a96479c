"""Known batches, played to find a limit's margin: by the same random numbers whatever the plan."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from simulator.plan import DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.serving.layer import Serving
from simulator.serving.simulate import simulate
from simulator.staged_plan import AnyPlan


def played_s(
    problem: DeploymentProblem,
    plan: AnyPlan,
    profile: PlatformProfile,
    serving: Serving,
    batches: Sequence[np.ndarray] | np.ndarray,
    seed: int,
    progress: Callable[[int, int, float], None] = lambda done, total, per_s: None,
) -> np.ndarray:
    """Latencies of batches that a plan serves, each on warm instances of its own and by random numbers of its own.

    So the batches are independent, and a plan that draws more numbers than another meets the same ones in the next
    batch all the same.

    Args:
        problem, plan, profile, serving: as of `simulate`.
        batches: whole tokens of each expert, shape (batches, layers, experts).
        seed: what the plans are later played with; the numbers drawn here are others.
        progress: called with batches done, all of them, and batches per second.

    Returns:
        s, shape (batches,); NaN for a batch that failed.
    """
    seeds = np.random.SeedSequence(seed).generate_state(len(batches)).tolist()
    found, began_s = [], time.perf_counter()
    for tokens, own in zip(batches, seeds, strict=True):
        found.append(simulate(problem, plan, profile, serving=serving, routing=[tokens], seed=own).latency_s)
        progress(len(found), len(batches), len(found) / (time.perf_counter() - began_s))
    return np.concatenate(found)
