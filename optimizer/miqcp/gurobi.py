"""Gurobi, where gurobipy is installed, as a reader of problem (12)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from moe.errors import InputError
from optimizer.miqcp.programme import COMPARED, FEASIBILITY, Found, Kind, Point, Range, Sense, SolverProgramme

FREE_VARIABLES, FREE_CONSTRAINTS, FREE_QUADRATIC_VARIABLES = 2000, 2000, 200
"""What the size-limited licence that comes with gurobipy solves; the last where any constraint is quadratic
(found by trying, gurobipy 13.0.3)."""


class GurobiProgramme(SolverProgramme):
    """A programme that Gurobi solves, quietly."""

    def __init__(self) -> None:
        """Raises InputError where gurobipy is not installed or has no licence."""
        try:
            import gurobipy
        except ImportError:
            raise InputError(
                "gurobi: gurobipy is not installed; pip install gurobipy, or the extra 'gurobi' of serverless-moe"
            ) from None
        self._gurobi = gurobipy
        try:
            self._model = gurobipy.Model(env=gurobipy.Env(params={"OutputFlag": 0}))
        except gurobipy.GurobiError as error:
            raise InputError(f"gurobi: no licence to use: {error}") from None
        self._model.Params.FeasibilityTol = FEASIBILITY
        self._model.Params.IntFeasTol = FEASIBILITY
        self._model.Params.MIPGap = 0.0
        self._model.Params.NonConvex = 2
        self._variables: dict[str, Any] = {}

    def variable(self, name: str, kind: Kind, within: Range) -> Any:
        """A Gurobi variable."""
        grb = self._gurobi.GRB
        kinds = {"binary": grb.BINARY, "integer": grb.INTEGER, "continuous": grb.CONTINUOUS}
        made = self._model.addVar(lb=within.low, ub=within.high, vtype=kinds[kind], name=name)
        self._variables[name] = made
        return made

    def total(self, coefficients: Sequence[float] | np.ndarray, variables: Sequence[Any]) -> Any:
        """A linear expression."""
        return self._gurobi.quicksum(float(c) * x for c, x in zip(coefficients, variables, strict=True))

    def require(self, left: Any, sense: Sense, right: Any) -> None:
        """A Gurobi constraint."""
        self._model.addConstr(COMPARED[sense](left, right))

    def minimise(self, expression: Any) -> None:
        """The objective."""
        self._model.setObjective(expression, self._gurobi.GRB.MINIMIZE)

    def solve(self, time_limit_s: float, start: Mapping[str, float] | None = None) -> Found:
        """Branch and bound until proven, or stopped by the clock. Raises InputError where the licence does not
        allow a programme of that size."""
        model, grb = self._model, self._gurobi.GRB
        if start is not None:
            for name, variable in self._variables.items():
                variable.Start = start[name]
        model.Params.TimeLimit = max(0.0, time_limit_s)
        try:
            model.optimize()
        except self._gurobi.GurobiError as error:
            if error.errno != grb.Error.SIZE_LIMIT_EXCEEDED:
                raise
            raise InputError(self._too_large()) from None
        if model.Status == grb.INTERRUPTED:
            raise KeyboardInterrupt
        infeasible = model.Status in (grb.INFEASIBLE, grb.INF_OR_UNBD)
        if not infeasible and model.Status not in (grb.OPTIMAL, grb.TIME_LIMIT):
            raise RuntimeError(f"Gurobi ended with status {model.Status}")
        bound = None if infeasible else float(model.ObjBound)
        return Found(
            status="infeasible" if infeasible else "optimal" if model.Status == grb.OPTIMAL else "stopped",
            solutions=self._solutions(),
            bound=None if bound is None or abs(bound) >= grb.INFINITY else bound,
        )

    def _solutions(self) -> Iterator[Point]:
        for k in range(self._model.SolCount):
            self._model.Params.SolutionNumber = k
            yield Point({name: x.Xn for name, x in self._variables.items()}, self._model.PoolObjVal)

    def _too_large(self) -> str:
        m = self._model
        allowed = FREE_QUADRATIC_VARIABLES if m.NumQConstrs else FREE_VARIABLES
        quadratic = ", as some constraints are quadratic," if m.NumQConstrs else ""
        return (
            f"gurobi: the size-limited licence that comes with gurobipy allows {allowed} variables{quadratic} and "
            f"{FREE_CONSTRAINTS} constraints; this programme has {m.NumVars} and {m.NumConstrs + m.NumQConstrs}"
        )
