"""`miqcp`: problem (12) of Liu, Wang, Wu, INFOCOM 2025, given whole to SCIP or Gurobi.

- `solve_miqcp(problem)`: the plan that the solver finds within its time limit, with its bound.
- `fixed_method_miqcp(...)`: the same programme with one method for all layers: an inner solver of Alg. 1.
"""

from optimizer.miqcp.programme import Backend
from optimizer.miqcp.solve import PAPER_TIME_LIMIT_S, NoIncumbent, fixed_method_miqcp, solve_miqcp

__all__ = ["PAPER_TIME_LIMIT_S", "Backend", "NoIncumbent", "fixed_method_miqcp", "solve_miqcp"]
