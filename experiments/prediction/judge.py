"""Predictors judged on traces: how many tokens off they are, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import InputError
from moe.parquet import schema_of
from moe.trace import SCHEMA as TRACE_SCHEMA
from moe.trace import RoutingTrace, load_trace
from optimizer.popularity import (
    PREDICTORS,
    PredictionError,
    Predictor,
    ProfileTable,
    TablePredictor,
    load_table,
    options_of,
    prediction_error,
    predictor,
)
from optimizer.popularity.table_file import SCHEMA as TABLE_SCHEMA
from optimizer.problem import with_tokens
from optimizer.regret import OnRealTokens, Regret, best_on_real_tokens, regret
from simulator.plan import DeploymentProblem

DEFAULT_COUNTING = "expected"
CHOICES: dict[str, tuple[str, ...]] = {
    "variant": ("printed", "mixture", "backoff"),
    "counting": ("hard", "expected"),
}
"""Options that every value of is compared."""


@dataclass(frozen=True)
class Profile:
    """What predictors learn from.

    Attributes:
        table: all profiles, merged.
        trace: all traces, one after the other; None where one of the profiles is a table.
    """

    table: ProfileTable
    trace: RoutingTrace | None

    @staticmethod
    def load(paths: Sequence[Path]) -> Profile:
        """Traces and tables of one model, merged. Raises InputError."""
        traces, tables = [], []
        for path in paths:
            kind = schema_of(path)
            if kind == TABLE_SCHEMA:
                tables.append(load_table(path))
                continue
            if kind != TRACE_SCHEMA:
                raise InputError(
                    f"{path}: schema: expected a routing trace ('{TRACE_SCHEMA}') or a profile table "
                    f"('{TABLE_SCHEMA}'), got {kind!r}"
                )
            traces.append(load_trace(path))
            tables.append(ProfileTable.from_trace(traces[-1]))
        try:
            trace = RoutingTrace.joined(traces) if len(traces) == len(paths) else None
            return Profile(ProfileTable.merged(tables), trace)
        except InputError as error:
            raise InputError(f"{', '.join(map(str, paths))}: {error}") from None

    def fit(self, name: str, options: dict[str, Any]) -> Fitted:
        """The predictor of that name, fitted. Raises InputError where it needs traces and there are tables."""
        made = predictor(name, **options)
        if isinstance(made, TablePredictor):
            return Fitted(name, options, made.fit_table(self.table))
        if self.trace is None:
            raise InputError(f"predictor '{name}': expected traces to learn from, a profile table is not enough")
        return Fitted(name, options, made.fit(self.trace))


@dataclass(frozen=True)
class Served:
    """What is predicted, and beside what it is laid.

    Attributes:
        trace: of the tokens to be served.
        problem: a batch with the trace's mean popularity as its tokens; None: no regret is asked for.
        best: the plan made from these.
    """

    trace: RoutingTrace
    problem: DeploymentProblem | None = None
    best: OnRealTokens | None = None

    @staticmethod
    def of(trace: RoutingTrace, problem: DeploymentProblem | None = None) -> Served:
        """A trace, and the problem whose batches it stands for. Raises InputError where the two do not fit."""
        if problem is None:
            return Served(trace)
        if trace.top_k != problem.top_k:
            raise InputError(f"top_k: expected {trace.top_k}, as served, got {problem.top_k}")
        real = with_tokens(problem, trace.popularity() * problem.served_tokens / trace.tokens)
        return Served(trace, real, best_on_real_tokens(real))

    def regret(self, predicted: np.ndarray) -> Regret | None:
        """What planning with a prediction of the whole trace costs, in a batch of the problem's size."""
        if self.problem is None:
            return None
        return regret(self.problem, predicted * self.problem.served_tokens / self.trace.tokens, self.best)


@dataclass(frozen=True)
class Fitted:
    """A predictor that has learnt, and how it was named."""

    name: str
    options: dict[str, Any]
    predictor: Predictor

    def judge(self, served: Served) -> Judged:
        """Predict, and hold against the real tokens."""
        trace = served.trace
        predicted = np.asarray(self.predictor.predict(trace.token_id, trace), float)
        error = prediction_error(predicted, trace.popularity())
        if not (predicted >= 0).all() or np.isinf(predicted).any():
            raise InputError(
                f"predictor '{self.name}': expected tokens >= 0 of every expert, got {predicted.tolist()}"
            )
        return Judged(self.name, self.options, predicted, error, served.regret(predicted))


@dataclass(frozen=True)
class Judged:
    """One predictor's prediction of the served tokens, and how good it is."""

    predictor: str
    options: dict[str, Any]
    popularity: np.ndarray
    error: PredictionError
    regret: Regret | None

    @property
    def name(self) -> str:
        """`bayes, mixture, hard`: the predictor and its options."""
        return ", ".join([self.predictor, *map(str, self.options.values())])

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        found: dict[str, Any] = {
            "predictor": self.predictor,
            "options": self.options,
            "mean_error_tokens": self.error.tokens,
            "mean_error_share": self.error.share,
            "popularity": self.popularity.tolist(),
        }
        if self.regret is not None:
            found["regret"] = {"share": self.regret.share} | asdict(self.regret)
        return found


def fit_all(profile: Profile, given: dict[str, Any], own: Iterable[str] = ()) -> Iterator[Fitted]:
    """Every predictor with every variant and way of counting; without traces, those that a table is enough for.

    Args:
        given: options for those that take them.
        own: names of a user's own predictors, compared too.
    """
    for name in [*PREDICTORS, *own]:
        if profile.trace is not None or isinstance(predictor(name), TablePredictor):
            for options in variations(name, given):
                yield profile.fit(name, options)


def variations(name: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The options to compare a predictor with: the given ones that it takes, and all values of CHOICES."""
    takes = options_of(name)
    found: list[dict[str, Any]] = [{option: value for option, value in given.items() if option in takes}]
    for option, values in CHOICES.items():
        if option in takes and option not in given:
            found = [{**options, option: value} for options in found for value in values]
    return [{option: options[option] for option in takes if option in options} for options in found]
