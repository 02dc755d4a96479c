"""A mixed-integer quadratic programme while it is written down: one description, several readers.

A description calls the methods of a `Programme` and joins what they return by `+`, `-` and `*`. SCIP and Gurobi
read the same description as variables and constraints; `Values` reads it as numbers: given the decisions, it
works out every auxiliary variable, which makes a warm start, and a check of the description itself.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Backend: TypeAlias = Literal["scip", "gurobi"]
Kind: TypeAlias = Literal["binary", "integer", "continuous"]
Sense: TypeAlias = Literal["<=", ">=", "=="]
Status: TypeAlias = Literal["optimal", "stopped", "infeasible"]

FEASIBILITY = 1e-7
"""By how much a solver may break a constraint. At 1e-9 SCIP 10 was seen to call optimal what is not."""

ROUNDING = 1e-9
"""By what share numbers may differ that are the same but for the order of summing."""


COMPARED: dict[Sense, Callable[[Any, Any], Any]] = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Range:
    """What a variable can be: its bounds, which solvers need for the products it is in."""

    low: float
    high: float

    @staticmethod
    def of(*values: np.ndarray | float) -> "Range":
        """Of all these numbers, and a little more, since another order of summing rounds otherwise."""
        low, high = min(float(np.min(x)) for x in values), max(float(np.max(x)) for x in values)
        slack = ROUNDING * max(abs(low), abs(high))
        return Range(low - slack, high + slack)


@dataclass(frozen=True)
class Point:
    """The values of all variables by name, and of the objective."""

    values: Mapping[str, float]
    objective: float


@dataclass(frozen=True)
class Found:
    """What a solver came to.

    Attributes:
        status: `stopped`: by the clock, with or without a solution.
        solutions: the best first.
        bound: what no solution's objective goes below, None if the solver knows none.
    """

    status: Status
    solutions: Iterator[Point]
    bound: float | None


class Programme(ABC):
    """The reader of a description. Expressions are of whatever type its variables' `+`, `-`, `*` make."""

    @abstractmethod
    def variable(self, name: str, kind: Kind, within: Range) -> Any:
        """A variable of that name."""

    @abstractmethod
    def total(self, coefficients: Sequence[float] | np.ndarray, variables: Sequence[Any]) -> Any:
        """The sum of coefficient x variable."""

    @abstractmethod
    def require(self, left: Any, sense: Sense, right: Any) -> None:
        """A constraint."""

    @abstractmethod
    def minimise(self, expression: Any) -> None:
        """The objective, linear."""

    def binary(self, name: str) -> Any:
        """A variable that is 0 or 1."""
        return self.variable(name, "binary", Range(0, 1))

    def equal(self, name: str, expression: Any, within: Range) -> Any:
        """A variable that stands for a linear expression."""
        value = self.variable(name, "continuous", within)
        self.require(value, "==", expression)
        return value

    def maximum(self, name: str, expressions: Sequence[Any], within: Range) -> Any:
        """The largest of expressions, where the objective or a limit presses it down: at least each of them."""
        value = self.variable(name, "continuous", within)
        for expression in expressions:
            self.require(value, ">=", expression)
        return value

    def minimum(self, name: str, first: Any, second: Any, within: Range) -> Any:
        """The smaller of two, where the objective or a limit presses it down: at least the one that is chosen."""
        takes_first = self.binary(f"{name}.first")
        value = self.variable(name, "continuous", within)
        self.require(value, ">=", takes_first * first + (1 - takes_first) * second)
        return value

    def quotient(self, name: str, dividend: Any, divisor: Any, high: float) -> Any:
        """ceil(dividend / divisor), where the objective or a limit presses it down; from 1 to `high`."""
        value = self.variable(name, "integer", Range(1, high))
        self.require(value * divisor, ">=", dividend)
        return value


class SolverProgramme(Programme):
    """A description that a solver reads and solves."""

    @abstractmethod
    def solve(self, time_limit_s: float, start: Mapping[str, float] | None = None) -> Found:
        """Solve it.

        Args:
            time_limit_s: wall time.
            start: a solution to begin with: values of all variables.

        Raises KeyboardInterrupt when interrupted.
        """


class Values(Programme):
    """A description read as numbers.

    Attributes:
        values: of all variables, by name: those given and those worked out.
        objective: what is minimised.
        broken: constraints that do not hold.
    """

    def __init__(self, decisions: Mapping[str, float]) -> None:
        """`decisions`: values of the variables that the description does not work out itself."""
        self.values = dict(decisions)
        self.objective = 0.0
        self.broken: list[str] = []

    def variable(self, name: str, kind: Kind, within: Range) -> float:
        """The value that was given."""
        return self._set(name, self.values[name], within)

    def total(self, coefficients: Sequence[float] | np.ndarray, variables: Sequence[float]) -> float:
        """The sum."""
        return float(np.dot(coefficients, variables))

    def require(self, left: float, sense: Sense, right: float) -> None:
        """Note the constraint if it does not hold."""
        over = {"<=": left - right, ">=": right - left, "==": abs(left - right)}[sense]
        if over > ROUNDING * max(1.0, abs(left), abs(right)):
            self.broken.append(f"{left!r} {sense} {right!r}")

    def minimise(self, expression: float) -> None:
        """Keep its value."""
        self.objective = float(expression)

    def equal(self, name: str, expression: float, within: Range) -> float:
        """Its value."""
        return self._set(name, expression, within)

    def maximum(self, name: str, expressions: Sequence[float], within: Range) -> float:
        """The largest."""
        return self._set(name, max(expressions), within)

    def minimum(self, name: str, first: float, second: float, within: Range) -> float:
        """The smaller, and which it is."""
        self.values[f"{name}.first"] = float(first <= second)
        return self._set(name, min(first, second), within)

    def quotient(self, name: str, dividend: float, divisor: float, high: float) -> float:
        """Rounded up."""
        return self._set(name, float(np.ceil(dividend / divisor)), Range(1, high))

    def _set(self, name: str, value: float, within: Range) -> float:
        self.values[name] = value
        if not within.low <= value <= within.high:
            self.broken.append(f"{name}: {within.low!r} <= {value!r} <= {within.high!r}")
        return value
