"""Plans for the whole bill: what is saved on experts, gates may pay for by waiting."""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.exact import Infeasible
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.simulate import simulate

TIGHTER = (0.8, 0.65, 0.5, 0.35, 0.25, 0.15, 0.1, 0.07)
"""Latency limits that are tried, as shares of the latency without one."""


def cheapest_in_all(problem: DeploymentProblem, tighter: Sequence[float] = TIGHTER) -> DeploymentPlan:
    """The plan with the least total bill, on the closed form's platform, of the exact ones under several limits.

    The total bill has the gates' waiting in it, which no solver minimises: a tighter limit spends more on experts,
    and less on that.

    Args:
        problem: its limit holds, or a tighter one.
        tighter: limits that are tried, falling, as shares of the latency of the plan under the problem's own.
    """
    best = solve(problem, "exact")
    assert best.latency_s is not None
    least_usd, unlimited_s = _total_usd(problem, best), best.latency_s
    for share in tighter:
        try:
            plan = solve(problem.with_limit(share * unlimited_s), "exact")
        except Infeasible:
            break
        if not plan.feasible:
            break
        usd = _total_usd(problem, plan)
        if usd < least_usd:
            best, least_usd = plan, usd
        elif usd > 1.1 * least_usd:
            break  # tighter still is dearer still
    return best


def with_parameters_kept(problem: DeploymentProblem) -> DeploymentProblem:
    """The problem where instances keep their parameters: these are held beside the runtime, and are no download.

    Of each replica's start a request to S3 is left that it does not make: its delay and its price.
    """
    constants = problem.platform
    started_s = constants.warm_start_s
    layers = [
        layer.model_copy(
            update={
                "next_load_s": min(started_s, layer.next_load_s),
                "experts": tuple(
                    expert.model_copy(
                        update={
                            "parameter_bytes": 0.0,
                            "intermediate_bytes": expert.intermediate_bytes + expert.parameter_bytes,
                        }
                    )
                    for expert in layer.experts
                ),
            }
        )
        for layer in problem.layers
    ]
    return problem.model_copy(update={"layers": tuple(layers), "head_s": min(started_s, problem.head_s)})


def _total_usd(problem: DeploymentProblem, plan: DeploymentPlan) -> float:
    return simulate(problem, plan, serving=JUST_IN_TIME).bill.total_cost_usd
