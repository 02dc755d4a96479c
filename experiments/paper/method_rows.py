"""Rows of figures 4 and 11: one method for all layers, 3008 MB, no replicas, over the tokens of a batch."""

from __future__ import annotations

import numpy as np

from experiments.paper.figure import Rows
from experiments.paper.plans import MILLION, play, played_columns, problem_of
from experiments.paper.routing import Cell, routing_of
from experiments.tools import style
from optimizer.baselines import kinds_broken
from optimizer.problem import with_tokens
from optimizer.solvers import solve
from simulator.plan import Communication, constraint_violations, payload_bytes

METHOD_STYLE = {"pipelined": (style.BLUE, "o"), "storage": (style.ORANGE, "s"), "direct": (style.GREEN, "^")}


class MethodCell(Cell):
    """Batches of one size, by method."""

    methods: tuple[Communication, ...]


def method_rows(cell: MethodCell) -> Rows:
    """A row for each method: bills, throughput, and whether its payloads fit for every real batch.

    The plan is LambdaML's (3008 MB, one replica, minibatches the cheapest) for the profiled popularity.
    """
    routing = routing_of(cell)
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    problem = problem_of(cell, routing.popularity(cell.batch_tokens))
    real = np.array(batches.real)
    hottest = real.max()
    found = []
    for method in cell.methods:
        plan = solve(problem, "lambdaml", method=method)
        broken = [
            kind for tokens in real for _, _, kind in constraint_violations(with_tokens(problem, tokens), plan)
        ]
        run = play(cell, problem, plan, batches)
        columns = played_columns(run, batches)
        largest = float(payload_bytes(problem.layers[0], problem.platform, np.array(hottest)))
        found.append(
            cell.about
            | {"tokens": cell.batch_tokens, "method": method}
            | columns
            | {"billed_usd_batch": columns["billed_usd"] * cell.batch_tokens / MILLION}
            | {"feasible": kinds_broken(plan) == 0 and "payload" not in broken and "memory" not in broken}
            | {"next_load_s": sum(layer.next_load_s for layer in problem.layers)}
            | {"largest_payload_bytes": largest, "payload_limit_bytes": problem.platform.payload_limit_bytes}
            | {"hottest_share": float(hottest / cell.batch_tokens), "bytes_per_token": largest / float(hottest)}
        )
    return found
