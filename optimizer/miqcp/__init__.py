"""`miqcp`: problem (12) of Liu, Wang, Wu, INFOCOM 2025, given whole to SCIP or Gurobi.

- `solve_miqcp(problem)`: the plan that the solver finds within its time limit, with its bound.
- `fixed_method_miqcp(...)`: the same programme with one method for all layers: an inner solver of Alg. 1.
"""

from optimizer.miqcp.solve import NoIncumbent, fixed_method_miqcp, solve_miqcp

__all__ = ["NoIncumbent", "fixed_method_miqcp", "solve_miqcp"]
