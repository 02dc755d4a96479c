"""What a plan may be made cheapest in, and each objective's plan under a limit."""

from __future__ import annotations

from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem, Reload
from simulator.serving.settled import served_so

EXPERTS, REQUESTS = "GB-s of experts", "experts and requests"
WHOLE, KEPT = "whole bill", "whole bill, parameters kept"
OBJECTIVES = (EXPERTS, REQUESTS, WHOLE, KEPT)
RIGHT: dict[Reload, str] = {"every-invocation": WHOLE, "when-cold": KEPT}
"""The objective that is the whole bill where parameters are reloaded, and where they are kept."""


def plans_of(problem: DeploymentProblem) -> dict[str, DeploymentPlan]:
    """The plan of each objective under the problem's limit."""
    gb_s, usd, total = (problem.model_copy(update={"objective": x}) for x in ("gb_s", "usd", "total"))
    return {
        EXPERTS: solve(gb_s, "exact"),
        REQUESTS: solve(usd, "exact"),
        WHOLE: solve(served_so(total, None, "every-invocation"), "exact"),
        KEPT: solve(served_so(total, None, "when-cold"), "exact"),
    }
