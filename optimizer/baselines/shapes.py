"""Rivals that cut the model into whole blocks: no layer of expert functions, other rules than the least bill."""

import math
from dataclasses import replace

import numpy as np

from moe.errors import InputError
from optimizer.blocks import check_fits, needed_mb
from optimizer.evaluation import ROUNDING
from optimizer.exact.shape_graph import HANDOVERS
from optimizer.exact.shapes import StagedSolution, solve_shapes
from optimizer.exact.solve import Infeasible
from optimizer.stage_cost import front_itself, gets_usd, stage_costs
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import MB, DeploymentProblem
from simulator.stage_rules import input_handover
from simulator.staged_plan import BlocksStage, blocks_of


def whole_model(problem: DeploymentProblem, lanes: int | None = None, dearer: float = 0.0) -> StagedSolution:
    """The whole model in one function, of the memory and lanes that cost least within the limit.

    Args:
        problem: with `blocks`.
        lanes: so many; None: as many as suit.
        dearer: the fastest instead whose bill is at most this share above that.

    Raises InputError where no function holds it, Infeasible where no lanes meet the limit.
    """
    check_fits(problem, "whole-model")
    blocks, end = blocks_of(problem), len(problem.layers)
    most = min(blocks.max_lanes, blocks.sequences)
    if lanes is not None and not 1 <= lanes <= most:
        raise InputError(f"lanes: expected from 1 to {most}, got {lanes}")
    counts = np.arange(1, most + 1) if lanes is None else np.array([lanes])
    arrives = input_handover(problem)
    read_usd = gets_usd(problem, counts) if arrives == "storage" else 0.0
    found = []
    for leaves in HANDOVERS:
        costs = stage_costs(problem, np.zeros(1, int), np.array([end]), counts, arrives, leaves)
        usd, seconds = front_itself(problem, leaves == "payload")
        cost = np.where(costs.fits, costs.total_usd + read_usd + usd, np.inf)
        found.append((cost[0], costs.latency_s[0] + seconds))
    cost, latency_s = (np.array(x) for x in zip(*found, strict=True))
    limit_s = problem.latency_limit_s
    if limit_s is not None:
        least_s = float(latency_s[np.isfinite(cost)].min(initial=np.inf))
        if least_s > limit_s * (1 + ROUNDING):
            raise Infeasible(limit_s, least_s)
        cost = np.where(latency_s > limit_s * (1 + ROUNDING), np.inf, cost)
    close = cost <= cost.min() * (1 + dearer)
    k = np.unravel_index(np.lexsort((cost.ravel(), np.where(close, latency_s, np.inf).ravel()))[0], cost.shape)
    stage = BlocksStage(
        first_layer=0,
        last_layer=end - 1,
        memory_mb=blocks.memory_mb[int(k[1])],
        lanes=int(counts[k[2]]),
        handover=HANDOVERS[int(k[0])],
    )
    return StagedSolution((stage,))


def cut_pays_from(problem: DeploymentProblem, saving: float = 0.01, steps: int = 7) -> tuple[float, float]:
    """From which size on the cheapest plan is not the whole model in one function, without a latency limit.

    The size is changed and nothing else: a model with more parameters of which a token uses as many.

    Args:
        problem: with `blocks`. saving: share of the bill that cutting must save to pay.
        steps: of the bisection, each of which halves the logarithm of what is not known.

    Returns:
        Bytes of all parameters from which on cutting into blocks pays, and from which on no function holds them.
    """
    problem, layers = problem.with_limit(None), len(problem.layers)
    blocks = blocks_of(problem)
    total = sum(layer.parameter_bytes for layer in blocks.layers) + blocks.head_bytes
    rest = needed_mb(problem) * MB - total
    must = max(0.0, blocks.memory_mb[-1] * MB - rest) / total
    pairs = [(i, j) for i in range(layers) for j in range(i + 1, layers + 1) if j - i < layers]

    def pays(factor: float) -> bool:
        mine = _sized(problem, factor)
        whole, cut = whole_model(mine), solve_shapes(mine, ("blocks",), saving / 10, pairs)
        usd = [evaluate_staged(mine, x.plan("")).total_cost_usd for x in (whole, cut)]
        return usd[1] < usd[0] * (1 - saving)

    low, high = min(1.0, must) / 64, must * (1 - 1e-9)
    if layers == 1 or must <= 0 or not pays(high):
        return must * total, must * total
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high * total, must * total


def _sized(problem: DeploymentProblem, factor: float) -> DeploymentProblem:
    """The problem of a model with so many times the parameters, of which a token uses as many."""
    blocks = blocks_of(problem)
    layers = tuple(
        layer.model_copy(
            update={
                "parameter_bytes": layer.parameter_bytes * factor,
                "seconds_per_call": layer.seconds_per_call
                and tuple(factor * seconds for seconds in layer.seconds_per_call),
            }
        )
        for layer in blocks.layers
    )
    changes = {"layers": layers, "head_bytes": blocks.head_bytes * factor}
    return problem.with_blocks(blocks.model_copy(update=changes))


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
            failed = _nearer(failed, error)
            continue
        cost = evaluate_staged(problem, found.plan("")).total_cost_usd
        if best is None or cost < best[0]:
            best = cost, found
    if best is None:
        assert failed is not None
        raise failed
    return replace(best[1], lower_bound=None)


def _nearer(failed: InputError | None, error: InputError) -> InputError:
    """Of two sizes of function that failed the one that tells more: how fast the faster would be."""
    if isinstance(failed, Infeasible):
        slower = not isinstance(error, Infeasible) or error.least_latency_s >= failed.least_latency_s
        return failed if slower else error
    return error


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
