"""One forward pass of an MoE model under a deployment plan: scatter to experts, gather from them, layer by layer.

The functions of a model with L MoE layers are L + 1 non-MoE functions (function e computes what comes before MoE
layer e and its gate; function L is the tail) and every expert's. A pass is one chain of programs: each function
starts the next one, and its layer's experts as the layer's method says (`simulator.serving.methods`).

Source: Liu, Wang, Wu, INFOCOM 2025, section III-C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import simpy

from simulator.cloud.call import Phase, Program
from simulator.cloud.invocation import Latch, Target
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.plan import DeploymentPlan, DeploymentProblem, non_moe_memory_mb
from simulator.records import Record
from simulator.serving.layer import Layer, Serving, loading, non_moe_function
from simulator.serving.methods import METHODS
from simulator.serving.replicas import replicas_of


@dataclass
class ForwardPass:
    """One batch through the model.

    Args:
        service: the Lambda service, which keeps the records.
        problem, plan: what is deployed.
        tokens: tokens of each expert of each layer, (experts,) per layer.
        replicas: calls of each expert of each layer, (experts,) per layer.
        serving: how.
        batch: number of the batch.
        step: 0 for the pass over the batch's tokens, then the number of the decode step.
        whole_tokens: whether tokens are dealt out whole, or divided.
        limits: whether memory and payload limits are enforced at all.
        first_layer: number of the problem's first layer in the model, where it is a run of its layers.
        arrival, leaving: what the first function does before it computes, and the last one in the end.
    """

    service: LambdaService
    problem: DeploymentProblem
    plan: DeploymentPlan
    tokens: list[np.ndarray]
    replicas: list[np.ndarray]
    serving: Serving
    batch: int
    step: int = 0
    whole_tokens: bool = True
    limits: bool = True
    first_layer: int = 0
    arrival: Program = ()
    leaving: Program = ()

    def __post_init__(self) -> None:
        self.ended = self.service.env.event()
        self.failed: Record | None = None
        self._latches: list[Latch] = []
        self._calls = [
            replicas_of(self.problem, e, layer, self.tokens[e], self.replicas[e], self.whole_tokens)
            for e, layer in enumerate(self.plan.layers)
        ]

    @property
    def beyond_plan(self) -> int:
        """Calls of experts beyond the planned replicas, foreseen."""
        planned = sum(int(layer.replicas.sum()) for layer in self.plan.layers)
        return sum(int(each.sum()) for each in self.replicas) - planned

    def durations_s(self, began: float) -> list[float]:
        """From `began` to its end; NaN where it failed."""
        return [self.service.env.now - began if self.failed is None else math.nan]

    def run(self) -> simpy.Event:
        """Start the pass; the event succeeds when the tail has ended, or a call has `failed` for good."""
        head = self._non_moe(0, self.arrival, self.problem.head_s)
        assert head.program is not None
        row = head.row.again(1, self.batch, self.step)
        self.service.invoke(row, head.program, head.then, repeatable=False)
        return self.ended

    def _non_moe(
        self, e: int, arrival: Program, load_s: float, payload_bytes: float = 0.0, delay_s: float = 0.0
    ) -> Target:
        """Non-MoE function e, which loads for `load_s`, takes what arrives, and goes on to the layers behind."""
        program: list[Phase] = [*loading(self.problem, self.service.platform, self.serving, load_s), *arrival]
        then = self._tail_ended
        for here in range(e, len(self.problem.layers)):
            program.append(Compute(self.problem.layers[here].non_moe_s))
            if self._calls[here]:
                program += self._moe_layer(here)
                then = self._check
                break
            # no token reaches the layer: this function goes on with the next
        else:
            program += [Compute(self.problem.tail_s), *self.leaving]
        row = Record(
            batch=self.batch,
            layer=self.first_layer + e,
            role="non-moe",
            function=non_moe_function(self.first_layer + e),
            memory_mb=non_moe_memory_mb(self.problem, e),
            tokens=self.problem.served_tokens,
        )
        return Target(row, tuple(program), payload_bytes, delay_s=delay_s, then=then, repeatable=False)

    def _moe_layer(self, e: int) -> Program:
        """What the gate's function of MoE layer e does, by the layer's communication method."""
        plan = self.plan.layers[e]
        layer = Layer(
            service=self.service,
            problem=self.problem,
            serving=self.serving,
            limits=self.limits,
            e=e,
            first_layer=self.first_layer,
            plan=plan,
            calls=self._calls[e],
            latch=self._latch,
            check=self._check,
        )

        def following(arrival: Program, *, payload_bytes: float = 0.0, delay_s: float = 0.0) -> Target:
            return self._non_moe(e + 1, arrival, layer.sizes.next_load_s, payload_bytes, delay_s)

        return METHODS[plan.communication](layer, following)

    def _latch(self, left: int) -> Latch:
        self._latches.append(Latch(self.service.env, left))
        return self._latches[-1]

    def _check(self, last: Record) -> None:
        """A call that failed for good ends the pass: whoever waits for it is told.

        One that failed because another did leaves it to that one, which may end later.
        """
        if last.status not in ("ok", "upstream-failed") and self.failed is None:
            self.failed = last
            for latch in self._latches:
                latch.give_up(last)
            if not self.ended.triggered:
                self.ended.succeed()

    def _tail_ended(self, last: Record) -> None:
        self._check(last)
        if last.status == "ok" and self.failed is None:
            self.ended.succeed()
