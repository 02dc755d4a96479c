"""Rivals that cut the model into whole blocks: no layer of expert functions, other rules than the least bill."""

from dataclasses import replace

import numpy as np

from moe.errors import InputError
from optimizer.blocks import check_fits
from optimizer.exact.shapes import StagedSolution, solve_shapes
from optimizer.exact.solve import Infeasible
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import DeploymentProblem


def whole_model(problem: DeploymentProblem) -> StagedSolution:
    """The whole model in one function, of the memory and lanes that cost least within the limit.

    Raises InputError where no function holds it, Infeasible where no lanes meet the limit.
    """
    return replace(solve_shapes(problem, ("whole-model",)), lower_bound=None)


def layer_blocks(problem: DeploymentProblem, layers: int | None = None) -> StagedSolution:
    """Functions of so many consecutive blocks each, the last one of what is left, at the cheapest memories and
    lanes.

    Args:
        problem: with `blocks`.
        layers: of each function; None: the cheapest number.

    Raises InputError where such a function fits no memory size, Infeasible where the limit is out of reach.
    """
    count = len(problem.layers)
    if layers is not None and not 1 <= layers <= count:
        raise InputError(f"layers: expected from 1 to {count}, got {layers}")
    best: tuple[float, StagedSolution] | None = None
    failed: InputError | None = None
    for m in [layers] if layers is not None else sorted({-(-count // k) for k in range(1, count + 1)}):
        pairs = [(i, min(i + m, count)) for i in range(0, count, m)]
        try:
            check_fits(problem, "blocks", pairs)
            found = solve_shapes(problem, ("blocks",), pairs=pairs)
        except InputError as error:
            failed = error if failed is None or not isinstance(failed, Infeasible) else failed
            continue
        cost = evaluate_staged(problem, found.plan("")).total_cost_usd
        if best is None or cost < best[0]:
            best = cost, found
    if best is None:
        assert failed is not None
        raise failed
    return replace(best[1], lower_bound=None)


def gillis(problem: DeploymentProblem) -> StagedSolution:
    """Gillis-like: the partition into blocks of least latency, the cheapest of those.

    Gillis (Yu et al., ICDCS 2021) cuts a model into groups of layers for functions that work at once, by dynamic
    programming for the least latency. There a layer's tensors are split over functions of one size, and the first
    function works too; here lanes take whole sequences, memory is chosen, and whoever invokes them only waits. Its
    second mode, the least cost within a limit by reinforcement learning, is what `exact` solves to the optimum.
    """
    try:
        solve_shapes(problem.with_limit(1e-30), ("blocks",))
    except Infeasible as error:
        if not np.isfinite(error.least_latency_s):
            raise
        return replace(solve_shapes(problem.with_limit(error.least_latency_s), ("blocks",)), lower_bound=None)
    raise AssertionError("a limit of no time was met")
