"""The best Lambda candidate played by the simulator on the traffic, and extrapolated to the month.

A request is a call of each stage, one after the other; with several stages each token that it generates is one
more round of them. What a play counts is calls: of many for each request fewer requests are played. A part of a
trace has longer or shorter requests than all of it: its bill is scaled by the work of all (a ratio estimate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import simpy

from experiments.cost.functions import Deployed, keep_alive, kept_usd, kept_warm, offer
from experiments.cost.offer import Offer, Parts, added, mix
from experiments.cost.question import Question
from moe.statistics import t_half_width
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute, FirstCall
from simulator.cloud.platform import platform_of_profile
from simulator.cloud.transfers import Get
from simulator.profiles.contenders import Contender, Lambda
from simulator.records import Record
from simulator.servers.promise import Times
from simulator.traffic.open_loop import at_each
from simulator.traffic.requests import Requests

PLAYED = 4000  # requests
FEWEST = 100
MOST_CALLS = 60_000
WARM_UP = 0.1
BLOCKS = 10  # of a play, for its interval
WEIGHTS = "weights"


def played(question: Question, contender: Contender, chosen: Offer, found: list[Deployed] | str) -> Offer:
    """The offer as its function serves the traffic, with more memory where the promise is missed."""
    runs = contender.runs
    assert isinstance(runs, Lambda)
    assert not isinstance(found, str)
    last = chosen
    for deployed in found:
        if chosen.memory_mb is None or deployed.memory_mb < chosen.memory_mb:
            continue
        planned = offer(question, contender, runs, deployed)
        last = _played(question, runs, deployed, planned)
        if last.serves:
            break
    return last


def _played(question: Question, runs: Lambda, deployed: Deployed, planned: Offer) -> Offer:
    """One memory size, played level by level, and extrapolated to the month."""
    parts, times, cold, shares, spread = [], [], 0.0, [], 0.0
    for factor, share in question.traffic.levels:
        window = _play(question, runs, deployed, planned, factor)
        requests = question.traffic.per_month * factor * share
        parts.append(window.month(deployed, requests))
        times.append(window.times)
        shares.append(factor * share)
        cold += window.cold_share * factor * share
        spread += (window.half_width * requests) ** 2
    if runs.provisioned:
        parts.append(Parts(idle_usd=kept_usd(deployed, planned.peak)))
    total, mixed = added(parts), mix(times, shares)
    why_not = question.promise.broken(mixed)
    usd, half = total.total_usd, math.sqrt(spread)
    return replace(
        planned,
        parts=total,
        times=mixed,
        cold_share=cold,
        played=True,
        why_not=None if why_not is None else f"{why_not}, when played",
        interval=(max(0.0, usd - half), usd + half),
    )


@dataclass(frozen=True)
class _Window:
    """What was played of one level, without the first requests.

    Attributes:
        times: of its requests. cold_share: of them. half_width: of the 95% interval of USD a request.
        served_gb_s, init_gb_s, invocations, gets: of a request, on average.
        gb_s_usd: what a GB-s cost; of provisioned instances theirs.
    """

    times: Times
    cold_share: float
    half_width: float
    served_gb_s: float
    init_gb_s: float
    invocations: float
    gets: float
    gb_s_usd: float | None

    def scaled(self, work: float) -> _Window:
        """Of requests with so many times the work."""
        return replace(self, served_gb_s=self.served_gb_s * work, half_width=self.half_width * work)

    def month(self, deployed: Deployed, requests: float) -> Parts:
        """So many requests."""
        gb_s = requests * (self.served_gb_s + self.init_gb_s)
        usd = deployed.gb_s_usd(gb_s) if self.gb_s_usd is None else gb_s * self.gb_s_usd
        init = self.init_gb_s / (self.served_gb_s + self.init_gb_s)
        return Parts(
            compute_usd=usd * (1 - init),
            requests_usd=requests * self.invocations * deployed.profile.prices.invocation.median,
            storage_usd=requests * self.gets * deployed.profile.storage_class.get_usd,
            init_usd=usd * init,
        )


def _play(question: Question, runs: Lambda, deployed: Deployed, planned: Offer, factor: float) -> _Window:
    """Requests of one level on a platform of its own."""
    profile, rate = deployed.profile, question.traffic.rate * factor
    rng = np.random.default_rng([question.seed, round(1000 * factor)])
    arriving, rolling = rng.spawn(2)
    count = min(PLAYED, max(FEWEST, round(MOST_CALLS / float(deployed.calls.mean()))))
    window = question.traffic.window(count, rate, arriving)
    passes, steps = _works(question, deployed, window)
    env = simpy.Environment()
    rows: list[list[Record]] = [[] for _ in window.at_s]
    service = LambdaService(
        env, platform_of_profile(profile, None, rolling), lambda row: rows[row.batch].append(row)
    )
    stages = [f"stage {k}" for k in range(deployed.stages)]
    busy = rate * float((passes + steps).mean()) / deployed.stages
    alive = busy if rate * keep_alive(deployed) > 1 else 0.0
    if deployed.stages > 1 and alive:  # the few requests that are played do not warm them up
        alive = kept_warm(deployed, rate)
    for name in stages:
        service.deploy(
            name,
            deployed.memory_mb,
            warm=0 if runs.provisioned else math.ceil(alive),
            provisioned=math.ceil(planned.peak / deployed.stages) if runs.provisioned else 0,
            done=(WEIGHTS,),
        )
    load = FirstCall((Get([deployed.load_bytes], "parameter_download"),), WEIGHTS)
    works = zip(passes.tolist(), steps.tolist(), window.tokens_out.tolist(), strict=True)
    calls = [_calls(deployed, *each) for each in works]
    numbers = iter(range(len(calls)))
    first_s = np.full(len(calls), math.nan)

    def go_on(number: int, place: int) -> None:
        """The next call of a request."""
        if place == deployed.stages:
            first_s[number] = env.now
        if place == len(calls[number]):
            return
        row = Record(number, place, "function", stages[place % deployed.stages], deployed.memory_mb)
        service.invoke(row, (load, Compute(calls[number][place])), lambda _: go_on(number, place + 1))

    at_each(env, iter(window.at_s.tolist()), lambda: go_on(next(numbers), 0))
    env.run()
    found = _window(runs, deployed, window, rows, calls, steps, first_s)
    if question.traffic.trace is None:
        return found
    everything = _works(question, deployed, question.traffic.window(len(question.traffic.trace), rate, arriving))
    mine = (passes + steps)[int(WARM_UP * len(calls)) :]
    return found.scaled(float((everything[0] + everything[1]).mean() / mine.mean()))


def _calls(deployed: Deployed, pass_s: float, steps_s: float, tokens_out: float) -> list[float]:
    """Compute of each call of a request, s: of one stage all in one; else a round for the pass, one a token."""
    if deployed.stages == 1:
        return [pass_s + steps_s]
    more = max(0, round(tokens_out) - 1)
    each = steps_s / more / deployed.stages if more else 0.0
    return [pass_s / deployed.stages] * deployed.stages + [each] * more * deployed.stages


def _works(question: Question, deployed: Deployed, window: Requests) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each request's pass and steps: as of the sample, they are linear in tokens."""
    tokens_in, tokens_out = question.traffic.sample(len(deployed.pass_s))
    more = np.maximum(tokens_out - 1, 0)
    slope, fixed = line(tokens_in, deployed.pass_s)
    each = float(deployed.steps_s.sum() / more.sum()) if more.sum() else 0.0
    return fixed + slope * window.tokens_in, each * np.maximum(window.tokens_out - 1, 0)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and value at 0 of points on a line; of one point a line through 0."""
    low, high = int(x.argmin()), int(x.argmax())
    if x[high] == x[low]:
        return float(y[low] / x[low]), 0.0
    slope = float((y[high] - y[low]) / (x[high] - x[low]))
    return slope, float(y[low] - slope * x[low])


def _window(
    runs: Lambda,
    deployed: Deployed,
    window: Requests,
    rows: list[list[Record]],
    calls: list[list[float]],
    steps_s: np.ndarray,
    first_s: np.ndarray,
) -> _Window:
    first = int(WARM_UP * len(rows))
    counted = range(first, len(rows))
    ended = np.array([max(row.ended_s for row in rows[k]) for k in counted])
    latency = ended - window.at_s[first:]
    more = np.maximum(window.tokens_out[first:] - 1, 1)
    steps = steps_s[first:] if deployed.stages == 1 else ended - first_s[first:]
    times = Times(latency - steps, steps / more, latency)
    gb_s = np.array([sum(row.billed_gb_s for row in rows[k]) for k in counted])
    cold = np.array([any(row.cold for row in rows[k]) for k in counted])
    warm_gb_s = np.array([sum(math.ceil(each * 1000) / 1000 for each in calls[k]) for k in counted]) * deployed.gb
    init = np.where(cold, np.maximum(gb_s - warm_gb_s, 0.0), 0.0)
    tried = np.array([len(rows[k]) for k in counted])
    price = deployed.profile.prices.of("provisioned_duration_gb_s", deployed.profile.architecture)
    usd = gb_s * (price if runs.provisioned else deployed.profile.gb_s_usd)
    many = len(usd) // BLOCKS
    blocks = usd[: many * BLOCKS].reshape(BLOCKS, -1).mean(axis=1) if many > 1 else usd
    return _Window(
        times,
        float(cold.mean()),
        float(t_half_width(blocks)) if len(blocks) > 1 else 0.0,
        float((gb_s - init).mean()),
        float(init.mean()),
        float(tried.mean()),
        float(np.mean([sum(row.gets for row in rows[k]) for k in counted])),
        price if runs.provisioned else None,
    )
