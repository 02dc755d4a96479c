"""A deployed model that serves batches of any size.

Passes run side by side on the same functions: each request of a model in one stage is a call for each lane, cold
or warm as its instances are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from simulator.cloud.lambda_service import LambdaService
from simulator.plan import DeploymentProblem
from simulator.serving.decode import Decode
from simulator.serving.deployed import deploy_plan
from simulator.serving.layer import Serving
from simulator.serving.replicas import problem_of_size, whole_tokens
from simulator.serving.settled import settled
from simulator.serving.simulate import Layers, Pass, decode_steps, make_pass, of_plan
from simulator.serving.stages import Stages
from simulator.staged_plan import AnyPlan


class DeployedModel:
    """A deployed model: a batch is one pass over its tokens, and then one for each token that it generates.

    A batch of n tokens has the problem's popularity, scaled to n tokens, and n's share of the problem's non-MoE
    compute and sequences; replicas and lanes are the planned ones, or as many as its tokens need
    (`simulator.serving.overflow`).

    Args:
        service: where it runs. problem, plan: what is deployed. serving: how.
        warm: whether planned instances are initialised at the start; provisioned: whether they are kept so.
        drawn: deals a batch's tokens to experts (tokens of each, (experts,) -> the same); None: by popularity.
    """

    def __init__(
        self,
        service: LambdaService,
        problem: DeploymentProblem,
        plan: AnyPlan,
        serving: Serving,
        warm: bool = False,
        provisioned: bool = False,
        drawn: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        problem, serving = settled(problem, plan, serving)
        self._service, self._served, self._drawn = service, of_plan(problem, plan, serving), drawn
        self._scaled: dict[int, tuple[Layers | Stages, list[np.ndarray]]] = {}
        deploy_plan(service, problem, plan, serving, warm and not provisioned, provisioned)

    def serve(
        self, number: int, tokens: int, generate: Decode | None, done: Callable[[list[float]], None]
    ) -> None:
        """Serve batch number `number` now.

        Args:
            tokens: of the batch. generate: what it generates after them; None: nothing.
            done: called at the end, with the time to the end of the pass, or to the first token, and of each
                further token, s; NaN where it failed.
        """
        served, dealt = self._scaled.get(tokens) or self._scale(tokens)
        if self._drawn is not None:
            dealt = [self._drawn(each) for each in dealt]
        first = make_pass(self._service, served, number, dealt, generate)
        self._go_on(iter([first, *decode_steps(first, generate)]), [], done)

    def _go_on(self, passes: Iterator[Pass], took_s: list[float], done: Callable[[list[float]], None]) -> None:
        """Start the next pass; after the last, or one that failed, it is done."""
        one = next(passes, None)
        if one is None or any(map(math.isnan, took_s)):
            done(took_s)
            return
        began, ended = self._service.env.now, one.run()
        assert ended.callbacks is not None
        ended.callbacks.append(lambda _: self._go_on(passes, took_s + one.durations_s(began), done))

    def _scale(self, tokens: int) -> tuple[Layers | Stages, list[np.ndarray]]:
        """What serves batches of so many tokens, and their tokens of each expert of each layer."""
        served = replace(self._served, problem=problem_of_size(self._served.problem, tokens))
        self._scaled[tokens] = served, [whole_tokens(layer.tokens) for layer in served.problem.layers]
        return self._scaled[tokens]
