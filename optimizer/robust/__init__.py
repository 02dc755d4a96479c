"""Plans for samples of the popularity, what no plan can go below on them, and samples of a predictor."""

from optimizer.robust.plan import Criterion, RobustSolution, plan_robustly, solve_robust
from optimizer.robust.samples import bootstrap, held_out_batches

__all__ = [
    "Criterion",
    "RobustSolution",
    "bootstrap",
    "held_out_batches",
    "plan_robustly",
    "solve_robust",
]
