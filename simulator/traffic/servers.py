"""What serves batches: a generic function, an application of functions, a deployed MoE model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.plan import DeploymentProblem
from simulator.records import Record
from simulator.serving.decode import Decode
from simulator.staged_plan import AnyPlan
from simulator.traffic.metrics import Batch
from simulator.traffic.model import DeployedModel
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
    """A deployed model (`simulator.traffic.model`): a batch is one pass over its tokens, then it generates."""

    def __init__(
        self,
        service: LambdaService,
        choice: MoEChoice,
        problem: DeploymentProblem,
        plan: AnyPlan,
        rng: np.random.Generator,
    ) -> None:
        def drawn(tokens: np.ndarray) -> np.ndarray:
            return rng.multinomial(int(tokens.sum()), tokens / max(1, tokens.sum()))

        self._choice = choice
        deal = drawn if choice.tokens == "multinomial" else None
        self._model = DeployedModel(service, problem, plan, choice, choice.warm, choice.provisioned, deal)

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Start a pass over all tokens of its requests."""
        requests, more = len(batch.arrived_s), self._choice.generated_tokens - 1

        def ended(took_s: list[float]) -> None:
            batch.first_token_s = batch.left_s + took_s[0]
            batch.token_s = float(np.mean(took_s[1:])) if took_s[1:] else math.nan
            done(batch, not any(map(math.isnan, took_s)))

        decode = Decode(more, requests) if more > 0 else None
        self._model.serve(batch.number, requests * self._choice.tokens_per_request, decode, ended)
