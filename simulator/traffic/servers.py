"""What serves batches: a generic function, an application of functions, a deployed MoE model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.records import Record
from simulator.serving.forward_pass import ForwardPass
from simulator.serving.overflow import replicas_run
from simulator.serving.replicas import problem_of_size, whole_tokens
from simulator.serving.settled import settled
from simulator.serving.simulate import deploy_plan
from simulator.traffic.metrics import Batch
from simulator.traffic.program_file import Entry, Functions, programs, row_of
from simulator.traffic.scenario import FunctionChoice, MoEChoice

FUNCTION = "function"


class Server(Protocol):
    """Serves batches."""

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Start serving a batch now; `done` is called once, with whether it succeeded."""


class FunctionServer:
    """A generic function: a batch is one call, whose work is that of its requests one after the other."""

    def __init__(self, service: LambdaService, choice: FunctionChoice, rng: np.random.Generator) -> None:
        self._service, self._memory_mb, self._call_s = service, choice.memory_mb, choice.call_s
        self._work = choice.work.stream(rng)
        choice.deploy(service, FUNCTION)

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Invoke the function."""
        self.call(batch, self._call_s + sum([self._work.next() for _ in batch.arrived_s]), done)

    def call(self, batch: Batch, work_s: float, done: Callable[[Batch, bool], None]) -> None:
        """Invoke it with so much work, s."""
        record = Record(batch.number, 0, "function", FUNCTION, self._memory_mb)
        self._service.invoke(record, (Compute(work_s),), lambda last: done(batch, last.status == "ok"))

    def works_s(self, sizes: np.ndarray) -> np.ndarray:
        """Work of batches of so many requests, one after the other, s, shape (batches,)."""
        drawn = self._work.many(int(sizes.sum()))
        if len(drawn) == len(sizes):
            return self._call_s + drawn
        each = iter(drawn.tolist())
        return np.array([self._call_s + sum(itertools.islice(each, size)) for size in sizes.tolist()])


class ApplicationServer:
    """Functions with programs: a batch is one call of the entry, which invokes the others."""

    def __init__(
        self, service: LambdaService, functions: Functions, entry: Entry, rng: np.random.Generator
    ) -> None:
        self._service, self._functions, self._entry = service, functions, entry
        self._programs = programs(functions, rng)
        for name, function in functions.items():
            function.deploy(service, name, self._programs[name])

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Invoke the entry."""
        entry = self._entry
        self._service.invoke(
            row_of(entry.function, self._functions, batch.number),
            self._programs[entry.function],
            lambda last: done(batch, last.status == "ok"),
            queued=not entry.wait,
            payload_bytes=entry.payload_bytes,
        )


class MoEServer:
    """A deployed MoE model: a batch is one forward pass; passes run side by side on the same functions.

    A batch of n tokens has the problem's popularity, scaled to n tokens, and n's share of the problem's non-MoE
    compute; replicas are the planned ones, or as many as the tokens need (`simulator.serving.overflow`).
    """

    def __init__(
        self,
        service: LambdaService,
        choice: MoEChoice,
        problem: DeploymentProblem,
        plan: DeploymentPlan,
        rng: np.random.Generator,
    ) -> None:
        problem, choice = settled(problem, plan, choice)
        self._service, self._choice, self._plan, self._rng = service, choice, plan, rng
        self._problem = problem
        self._scaled: dict[int, tuple[DeploymentProblem, list[np.ndarray]]] = {}
        deploy_plan(service, problem, plan, choice.warm and not choice.provisioned, choice.provisioned)

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Start a forward pass."""
        size = len(batch.arrived_s) * self._choice.tokens_per_request
        problem, tokens = self._scaled.get(size) or self._scale(size)
        if self._choice.tokens == "multinomial":
            tokens = [self._rng.multinomial(int(each.sum()), each / max(1, each.sum())) for each in tokens]
        replicas = replicas_run(problem, self._plan, tokens, self._choice.overflow)
        one = ForwardPass(self._service, problem, self._plan, tokens, replicas, self._choice, batch.number)
        ended = one.run()
        assert ended.callbacks is not None
        ended.callbacks.append(lambda _: done(batch, one.failed is None))

    def _scale(self, size: int) -> tuple[DeploymentProblem, list[np.ndarray]]:
        """The problem for batches of `size` tokens, and their tokens of each expert of each layer."""
        problem = problem_of_size(self._problem, size)
        self._scaled[size] = problem, [whole_tokens(layer.tokens) for layer in problem.layers]
        return self._scaled[size]
