"""One MoE layer of a forward pass: how it is served, and what all communication methods make its program of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field

from moe.files import FileModel
from simulator.cloud.call import Phase, Program, Then
from simulator.cloud.invocation import Latch, Target
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Allocate, FirstCall, Sleep
from simulator.cloud.platform import Platform
from simulator.cloud.transfers import Get
from simulator.plan import DeploymentProblem, LayerPlan, ProblemLayer, Reload
from simulator.records import Record
from simulator.serving.overflow import OVERFLOWS, Overflow, replicas_that_fit
from simulator.serving.rehearsal import PARAMETERS
from simulator.serving.replicas import Replica, split

Start: TypeAlias = Literal["eager", "just-in-time"]
Gather: TypeAlias = Literal["after-all", "as-ready"]


class Serving(FileModel):
    """How a plan is served. Raises ValueError for a value that a field does not take.

    >>> import serverless_moe as smoe
    >>> smoe.Serving(start="just-in-time").overflow
    'foreseen'
    """

    start: Start = Field(
        "eager", description="of experts: with their layer, or just in time for their first input"
    )
    next_layer_start: Start = Field(
        "just-in-time",
        description="of the next non-MoE function: with the layer (paper), or to have loaded when results come",
    )
    gather: Gather = Field("after-all", description="its downloads: when all results are there, or each at once")
    overflow: Overflow = Field("foreseen", description="of a replica that meets more tokens than fit")
    reload: Reload | None = Field(
        None,
        description="of parameters: at each call, or once an instance; null: as the plan settles, else at each "
        "call, of stages of blocks as the problem says",
    )
    blocks_package: str | None = Field(
        None, description="of stages of blocks: an image has their parameters in it, else they come from S3"
    )
    hedge_after_s: float | None = Field(
        0.2,
        gt=0,
        description="an S3 request that takes longer is sent again, and the first answer counts; null: not",
    )


DEFAULT_SERVING = Serving()
JUST_IN_TIME = Serving(start="just-in-time")
"""As the closed form reckons (Eq. 3-11): an expert waits for no input, nor a non-MoE function for results."""
AS_PAPER = Serving(start="just-in-time", next_layer_start="eager", hedge_after_s=None)
"""The same, but the next non-MoE function starts with the layer, and waits, billed (Eq. 7's picture), and no
request is sent again."""
EAGER = Serving(next_layer_start="eager", hedge_after_s=None)
"""Everything starts with its layer, as the functions of `lambda_probe.live` start each other, without hedges."""


def as_served(platform: Platform, serving: Serving) -> Platform:
    """The platform as programs that are served so meet it: S3 with requests that are sent again."""
    if serving.hedge_after_s is None or platform.is_ideal:
        return platform
    return platform.changed(storage=platform.storage.hedged(serving.hedge_after_s))


@dataclass(frozen=True)
class Layer:
    """One MoE layer of a pass, as its gate's function sees it.

    Args:
        service, problem, serving, limits: as of the pass (`simulator.serving.forward_pass`).
        e: number of the layer. first_layer: where the problem begins in the model. plan: its plan. calls: of its
            experts.
        latch: makes a latch for so many calls, which is told if the pass fails.
        check: called with the row of each call's last attempt.
    """

    service: LambdaService
    problem: DeploymentProblem
    serving: Serving
    limits: bool
    e: int
    first_layer: int
    plan: LayerPlan
    calls: list[Replica]
    latch: Callable[[int], Latch]
    check: Then

    @property
    def platform(self) -> Platform:
        """Where it runs."""
        return self.service.platform

    @property
    def sizes(self) -> ProblemLayer:
        """Its bytes and times."""
        return self.problem.layers[self.e]

    def experts(
        self,
        program: Callable[[Replica, int], Program],
        again: Callable[[Replica, int], Program],
        first_input_s: float = 0.0,
        payload_per_token: float = 0.0,
    ) -> tuple[Target, ...]:
        """Every replica, started with the layer, or so that its head ends when its first input is there.

        Args:
            program: of call number k. again: of one of the replicas that take an overflown call's place.
            first_input_s: when S3 has the first input, from the layer's start, s.
            payload_per_token: raw bytes of a call's payload; 0: it has none.
        """
        just_in_time = self.serving.start == "just-in-time" and payload_per_token == 0
        found = []
        for k, c in enumerate(self.calls):

            def instead(last: Record, c: Replica = c, k: int = k) -> tuple[Target, ...]:
                if self.serving.overflow != "retry" or last.status not in OVERFLOWS:
                    return ()
                return tuple(
                    Target(self._record(part), again(part, k), part.tokens * payload_per_token, then=self.check)
                    for part in self._split(c)
                )

            target = Target(
                self._record(c),
                program(c, k),
                c.tokens * payload_per_token,
                limit_bytes=None if self.limits else math.inf,
                delay_s=max(0.0, first_input_s - self._expected_head_s(c)) if just_in_time else 0.0,
                then=self.check,
                instead=instead,
            )
            found.append(target)
        return tuple(found)

    def head(self, replica: Replica) -> Phase:
        """Download of an expert's parameters."""
        return _parameters(replica.parameter_bytes, self.serving)

    def need_memory(self, replica: Replica) -> Program:
        """What kills a replica that overflows, where limits are enforced."""
        return (Allocate(replica.needed_bytes),) if self.limits else ()

    def _record(self, replica: Replica) -> Record:
        """The row of a call from its start; the batch is its caller's."""
        layer = self.first_layer + replica.layer
        return Record(
            batch=0,
            layer=layer,
            role="expert",
            function=expert_function(layer, replica.expert),
            memory_mb=replica.memory_mb,
            expert=replica.expert,
            replica=replica.number,
            tokens=replica.tokens,
        )

    def _split(self, replica: Replica) -> list[Replica]:
        """A replica that overflows, as the least number of replicas that fit."""
        i, plan = replica.expert, self.plan
        share = np.zeros(len(plan.experts))
        share[i] = replica.tokens
        fits = replicas_that_fit(self.problem, self.e, plan, share * plan.replicas)[i] // plan.replicas[i]
        return split(self.problem, replica, int(fits))

    def _expected_head_s(self, replica: Replica) -> float:
        """T_h of a replica on this platform, by medians, s."""
        platform = self.platform
        warm_s = platform.start.warm.median
        if self.serving.reload == "when-cold":
            return warm_s
        rates = platform.network.rates(replica.memory_mb)
        get_s = platform.get_work_s(replica.memory_mb) + platform.storage.gets.latency.median
        return warm_s + get_s + replica.parameter_bytes / min(rates.function, rates.connection)


def loading(problem: DeploymentProblem, platform: Platform, serving: Serving, load_s: float) -> Program:
    """Download of a non-MoE function's parameters.

    The problem gives the load as a time on the closed form's platform. There it is taken as it stands (the start
    of the call is in it); elsewhere it says how many bytes there are to download.
    """
    constants = problem.platform
    size = constants.loaded_bytes(load_s)
    if platform.is_ideal:
        sleep = Sleep(max(0.0, load_s - constants.warm_start_s), "parameter_download", gets=int(size > 0))
        return (_loaded(sleep, serving),)
    return (_parameters(size, serving),) if size > 0 else ()


def _parameters(size: float, serving: Serving) -> Phase:
    return _loaded(Get([size], "parameter_download"), serving)


def _loaded(phase: Phase, serving: Serving) -> Phase:
    """A load as often as it is done."""
    return FirstCall((phase,), PARAMETERS) if serving.reload == "when-cold" else phase


def non_moe_function(e: int) -> str:
    """Name of non-MoE function e."""
    return f"non-moe-{e}"


def expert_function(e: int, i: int) -> str:
    """Name of the function of expert i of layer e."""
    return f"layer-{e}-expert-{i}"
