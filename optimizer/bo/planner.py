"""From a tuning to a plan: write the pairs, predict, plan with ODS (the first half of a trial of Alg. 2)."""

import numpy as np

from moe.errors import InputError
from moe.trace import Batches
from optimizer.bo.space import LayeredTable, Tuning
from optimizer.exact import PREFERRED, ModelFronts
from optimizer.exact.layer_fronts import LayerFront, LayerOptions
from optimizer.exact.whole_fronts import whole_front
from optimizer.popularity import ProfileTable, TablePredictor
from optimizer.problem import with_tokens
from optimizer.solvers import solve
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ProblemLayer

KEPT_FRONTS = 256


class Planner:
    """Predicts popularity from a tuned table, and plans for it.

    Args:
        problem: the deployment problem; its popularity is replaced by the predicted one.
        table: the profile table to tune.
        predictor: one that predicts from a table; it is fitted anew for every layer.

    Raises InputError where problem and table differ in layers or experts.
    """

    def __init__(self, problem: DeploymentProblem, table: ProfileTable, predictor: TablePredictor) -> None:
        shape = (len(problem.layers), len(problem.layers[0].experts))
        if shape != (table.layers, table.experts):
            raise InputError(
                f"profile table: expected {shape[0]} layers x {shape[1]} experts, as the problem has, "
                f"got {table.layers} x {table.experts}"
            )
        self.problem, self.predictor = problem, predictor
        self.layered = LayeredTable(table)
        counts = table.expert_counts()
        self.frequencies = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
        self._fronts: dict[ProblemLayer, tuple[LayerOptions, dict[Communication, LayerFront], LayerFront]] = {}

    @property
    def table(self) -> ProfileTable:
        """The profile table without any pair."""
        return self.layered.table

    def popularity(self, batches: Batches, tuning: Tuning) -> np.ndarray:
        """Predicted tokens of each expert in the mean of the batches, shape (layers, experts)."""
        ids = np.concatenate(batches.token_ids)
        layers = self.layered.with_pairs(tuning.pairs)
        predicted = np.concatenate([self.predictor.fit_table(layer).predict(ids) for layer in layers])
        return tuning.applied(predicted / len(batches), self.frequencies)

    def problem_for(self, popularity: np.ndarray, margin: float = 0.0) -> DeploymentProblem:
        """The problem with this popularity, and a latency limit that is lower by this share."""
        limit = self.problem.latency_limit_s
        made = with_tokens(self.problem, popularity)
        return made.with_limit(None if limit is None else limit * (1 - margin))

    def plan(self, popularity: np.ndarray, margin: float = 0.0) -> DeploymentPlan:
        """The plan of ODS for a popularity, shape (layers, experts)."""
        problem = self.problem_for(popularity, margin)
        return solve(problem, "ods", fronts=self._model_fronts(problem))

    def _model_fronts(self, problem: DeploymentProblem) -> ModelFronts:
        """The exact fronts of the layers; a layer that was planned for lately keeps its own."""
        for e, layer in enumerate(problem.layers):
            if layer not in self._fronts:
                options = LayerOptions(problem, e)
                by_method = {method: whole_front(options, method) for method in PREFERRED}
                self._fronts[layer] = options, by_method, LayerFront.joined(list(by_method.values()))
        found = [self._fronts[layer] for layer in problem.layers]
        while len(self._fronts) > KEPT_FRONTS:
            del self._fronts[next(iter(self._fronts))]
        return ModelFronts(
            methods=(PREFERRED,) * len(found),
            options=tuple(x for x, _, _ in found),
            by_method=tuple(x for _, x, _ in found),
            fronts=tuple(x for _, _, x in found),
        )
