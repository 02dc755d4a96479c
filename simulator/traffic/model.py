"""A deployed model that serves batches of any size, and requests that arrive played in one call from Python.

Passes run side by side on the same functions: each request of a model in one stage is a call for each lane, cold
or warm as its instances are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import simpy

from moe.errors import InputError
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.records import STANDBY, Bill, Record
from simulator.serving.decode import Decode
from simulator.serving.deployed import deploy_plan
from simulator.serving.layer import DEFAULT_SERVING, Serving, as_served
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


@dataclass
class PlayedRequests:
    """Requests that were played, in the order of their arrival; arrays of shape (requests,).

    Attributes:
        latency_s: from arrival to the answer; NaN where it failed.
        first_token_s: from arrival to the first token. token_s: mean time of a further one; NaN without.
        cold: whether an instance was started for it.
        bill: of all requests that count, by parts. peak_concurrency: most calls under way at once.
    """

    latency_s: np.ndarray
    first_token_s: np.ndarray
    token_s: np.ndarray
    cold: np.ndarray
    bill: Bill = field(default_factory=Bill)
    peak_concurrency: int = 0

    @property
    def cold_share(self) -> float:
        """Share of the requests for which an instance was started."""
        return float(self.cold.mean())


def play_requests(
    problem: DeploymentProblem,
    plan: AnyPlan,
    profile: PlatformProfile,
    arrived_s: np.ndarray | Sequence[float],
    tokens_in: np.ndarray | int,
    tokens_out: np.ndarray | int = 0,
    *,
    serving: Serving = DEFAULT_SERVING,
    warm: bool = False,
    provisioned: bool = False,
    uncounted: int = 0,
    seed: int = 0,
    platform: Platform | None = None,
) -> PlayedRequests:
    """Play requests that arrive whether or not earlier ones are answered, each a batch of its own.

    Args:
        problem, plan: what is deployed; of any batch size. profile: the platform.
        arrived_s: when each arrives, sorted, s, shape (requests,).
        tokens_in: of each, shape (requests,), or of all. tokens_out: that each generates.
        serving: how. warm, provisioned: as of `DeployedModel`.
        uncounted: so many first requests warm the functions up: they are in no number and not in the bill.
        seed: of all random streams. platform: instead of the profile's.

    Raises InputError: a request without tokens.
    """
    arrived = np.asarray(arrived_s, float)
    size, generated = (np.broadcast_to(np.asarray(x, int), arrived.shape) for x in (tokens_in, tokens_out))
    if len(arrived) and size.min() < 1:
        raise InputError(f"tokens_in: expected at least 1 token in every request, got {size.min()}")
    rng = np.random.default_rng(seed)
    platform = platform or as_served(platform_of_profile(profile, problem.platform, rng), serving)
    times_s = np.full((3, len(arrived)), math.nan)
    found = PlayedRequests(times_s[0], times_s[1], times_s[2], np.zeros(len(arrived), bool))

    def keep(row: Record) -> None:
        if row.role in STANDBY:
            found.bill.add(row)
        elif row.batch >= uncounted:
            found.bill.add(row)
            found.cold[row.batch] |= row.cold
            running = sum(function.running for function in functions) + (row.status != "throttled")
            found.peak_concurrency = max(found.peak_concurrency, running)

    service = LambdaService(simpy.Environment(), platform, keep)
    model = DeployedModel(service, problem, plan, serving, warm, provisioned)
    functions = list(service.functions.values())

    def arrive(k: int) -> None:
        at, more = service.env.now, int(generated[k])

        def done(took_s: list[float]) -> None:
            found.latency_s[k] = service.env.now - at if not any(map(math.isnan, took_s)) else math.nan
            found.first_token_s[k] = took_s[0]
            found.token_s[k] = float(np.mean(took_s[1:])) if took_s[1:] else math.nan

        # The pass over the input gives the first token.
        model.serve(k, int(size[k]), Decode(more - 1, 1) if more > 1 else None, done)

    def arrivals() -> Iterator[simpy.Event]:
        for k, at in enumerate(arrived.tolist()):
            if at > service.env.now:
                yield service.env.timeout(at - service.env.now)
            arrive(k)

    service.env.process(arrivals())  # type: ignore[arg-type]
    service.env.run()
    service.charge_provisioned()
    for name in ("latency_s", "first_token_s", "token_s", "cold"):
        setattr(found, name, getattr(found, name)[uncounted:])
    return found
