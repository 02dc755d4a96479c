"""What a plan may be made cheapest in, and each objective's plan under a limit."""

from __future__ import annotations

from experiments.studies.whole_bill import cheapest_in_all, with_parameters_kept
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.serving.layer import Reload

EXPERTS, REQUESTS = "GB-s of experts", "experts and requests"
WHOLE, KEPT = "whole bill", "whole bill, parameters kept"
OBJECTIVES = (EXPERTS, REQUESTS, WHOLE, KEPT)
RIGHT: dict[Reload, str] = {"every-invocation": WHOLE, "when-cold": KEPT}
"""The objective that is the whole bill where parameters are reloaded, and where they are kept."""
TIGHTER = tuple(0.93**k for k in range(1, 31))
"""Limits among whose optima the cheapest in the whole bill is sought, as shares of the latency without them."""


def plans_of(problem: DeploymentProblem) -> dict[str, DeploymentPlan]:
    """The plan of each objective under the problem's limit."""
    in_usd = problem.model_copy(update={"objective": "usd"})
    return {
        EXPERTS: solve(problem.model_copy(update={"objective": "gb_s"}), "exact"),
        REQUESTS: solve(in_usd, "exact"),
        WHOLE: cheapest_in_all(in_usd, TIGHTER),
        KEPT: cheapest_in_all(with_parameters_kept(in_usd), TIGHTER),
    }
