"""Rivals that leave one of the decisions out: one memory size for all, no replicas, yesterday's popularity.

Each says what it adapts (docs/planning.md has them side by side).
"""

import numpy as np

from moe.errors import InputError
from optimizer.baselines.paper import best_uniform, equally_popular
from optimizer.evaluation import Solution
from optimizer.exact import Beta, cheapest_layers, model_fronts
from optimizer.problem import with_tokens
from simulator.plan import DeploymentProblem


def best_memory(problem: DeploymentProblem, beta: Beta = "per-layer") -> Solution:
    """One memory size for all experts, one replica each, the best single method: the cheapest within the limit,
    or the fastest where none meets it.

    Adapted from AWS Lambda Power Tuning, which runs one function at every size: here all experts are one
    function, and its runs are the closed form on the problem's popularity.

    Raises InputError where no size holds every expert on one replica.
    """
    return best_uniform(one_replica(problem), beta, popularity="known")


def memory_only(problem: DeploymentProblem, beta: Beta = "per-layer") -> Solution:
    """The cheapest plan within the limit with one replica of each expert (g = 1), or the fastest of these.

    The exact solver on the problem with `max_replicas` 1: nothing but replication is left out.

    Raises InputError where an expert fits no memory size on one replica.
    """
    one = one_replica(problem)
    return Solution(cheapest_layers(one, model_fronts(one), beta)[0])


def reactive(problem: DeploymentProblem, beta: Beta = "per-layer", history: np.ndarray | None = None) -> Solution:
    """The plan that a periodic controller would serve this problem's tokens with: the cheapest within the limit
    (else the fastest) for the popularity of the last period; it comes to what the problem's popularity makes it.

    Args:
        problem: its popularity is the real one, which the controller does not know.
        beta: minibatch sizes, of each layer or one for the model.
        history: popularity of the last period's batches, shape (batches, layers, experts), or of one,
            (layers, experts); None: nothing was served yet, all experts of a layer are taken to be alike.

    Raises InputError where an expert fits no memory size, and for a history of another shape.
    """
    level = equally_popular(problem) if history is None else with_tokens(problem, _mean(problem, history))
    return Solution(cheapest_layers(level, model_fronts(level), beta)[0])


def reactive_plans(
    problem: DeploymentProblem, popularity: np.ndarray, batches_per_period: int = 1, beta: Beta = "per-layer"
) -> tuple[Solution, ...]:
    """The plans of a periodic reactive controller: each period is served with the plan for the mean popularity
    of the period before; the first as if all experts were alike.

    Adapted from controllers that scale experts by what they observed: deploying takes no time and costs
    nothing, the cold starts that follow it are not charged.

    Args:
        problem: all but the popularity.
        popularity: of the batches as they were served, shape (batches, layers, experts).
        batches_per_period: batches between two plans.
        beta: minibatch sizes.

    Returns:
        A plan for each period, the last one for the period that begins after the last whole one.
    """
    if batches_per_period < 1:
        raise InputError(f"batches_per_period: expected at least 1, got {batches_per_period}")
    periods = len(popularity) // batches_per_period
    seen = [popularity[k * batches_per_period : (k + 1) * batches_per_period] for k in range(periods)]
    return tuple(reactive(problem, beta, history) for history in [None, *seen])


def one_replica(problem: DeploymentProblem) -> DeploymentProblem:
    """The same problem where no expert may have a second replica."""
    return problem.model_copy(update={"platform": problem.platform.model_copy(update={"max_replicas": 1})})


def _mean(problem: DeploymentProblem, history: np.ndarray) -> np.ndarray:
    """Mean popularity of the batches of a history, (layers, experts)."""
    history = np.asarray(history, float)
    if history.ndim == 2:
        history = history[None]
    shape = (len(problem.layers), len(problem.layers[0].experts))
    if history.ndim != 3 or history.shape[1:] != shape or not len(history):
        raise InputError(
            f"history: expected the popularity of batches with {shape[0]} layers x {shape[1]} experts, got "
            f"{' x '.join(map(str, history.shape))}"
        )
    return np.asarray(history.mean(axis=0))
