"""The certified optimum of problem (12): fronts of layers, merged.

- `solve_exact(problem)`: the cheapest plan within the latency limit, with its bound; Infeasible where none is.
- `front(problem)`: the whole cost-latency curve; `least_latency_s(problem)`: where it begins.
- `model_fronts(problem)`: fronts of the layers, made once for many limits; `cheapest_layers` chooses from them.
"""

from optimizer.exact.layer_fronts import check_experts_fit
from optimizer.exact.solve import (
    PREFERRED,
    Beta,
    Infeasible,
    ModelFronts,
    cheapest_layers,
    front,
    least_latency_s,
    model_fronts,
    solve_exact,
)
from optimizer.exact.whole_bill import each_setting

__all__ = [
    "PREFERRED",
    "Beta",
    "Infeasible",
    "ModelFronts",
    "cheapest_layers",
    "check_experts_fit",
    "each_setting",
    "front",
    "least_latency_s",
    "model_fronts",
    "solve_exact",
]
