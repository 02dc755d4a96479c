"""Lambda contenders: memory size and stages by the closed form, and the best of them played.

A request is a call of each stage, one call at a time in an instance. Tokens are generated in the instance that holds
the sequence; with more stages each token travels through all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import simpy

from experiments.cost.offer import Offer, Parts, added, mix
from experiments.cost.question import Question
from moe.spec import MoESpec
from moe.statistics import t_half_width
from optimizer.blocks import BLOCK_MEMORY_MB, make_blocks
from optimizer.problem import make_problem
from optimizer.stage_cost import stage_costs
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute, FirstCall
from simulator.cloud.platform import platform_of_profile
from simulator.cloud.transfers import Get
from simulator.plan import MB, DeploymentProblem
from simulator.profiles.closed_form import transformer_flops_per_s, weight_read_s
from simulator.profiles.contenders import Contender, Lambda
from simulator.profiles.schema import PlatformProfile
from simulator.records import Record
from simulator.servers.promise import Times
from simulator.servers.sizing import erlang_b
from simulator.servers.work import Work
from simulator.stage_rules import needed_lane_bytes, stage_sizes
from simulator.traffic.open_loop import at_each
from simulator.traffic.requests import MONTH_S, Requests

PLAYED = 4000  # requests
WARM_UP = 0.1
BLOCKS = 10  # of a play, for its interval
MOST_PEAK = 0.999  # share of the time in which no more calls run at once than there is room for
WEIGHTS = "weights"


@dataclass(frozen=True)
class Deployed:
    """Stages of one memory size for the requests of a question; times of a stage, shapes (stages,) and (requests,).

    Attributes:
        profile: the platform. memory_mb, stages: of each function, how many.
        load_bytes: parameters of the largest stage, loaded by an instance's first call.
        pass_s, steps_s: of the sample's requests, all stages: the pass over the tokens in, and all tokens out.
        calls: invocations of each request. start_s: from the request to the handler, for each call.
    """

    profile: PlatformProfile
    memory_mb: int
    stages: int
    load_bytes: float
    pass_s: np.ndarray
    steps_s: np.ndarray
    calls: np.ndarray
    start_s: float

    @property
    def billed_s(self) -> np.ndarray:
        """Of each request, without cold starts, in whole milliseconds."""
        return np.ceil((self.pass_s + self.steps_s) * 1000) / 1000

    @property
    def load_s(self) -> float:
        """Of a stage's parameters from S3."""
        network, storage = self.profile.network, self.profile.storage
        rate = min(storage.connection_bytes_per_s.median, self.memory_mb * network.function_bytes_per_s_per_mb.median)
        return self.profile.storage_class.get_latency_s.median + self.load_bytes / rate

    @property
    def init_s(self) -> float:
        """INIT of an instance."""
        return self.profile.start.packages[self.profile.start.package].init_s.median

    @property
    def cold_s(self) -> float:
        """What a cold start adds to a request."""
        placed = self.profile.start.packages[self.profile.start.package].provisioning_s.median
        return placed + self.init_s + self.load_s

    def gb_s_usd(self, gb_s: float) -> float:
        """The price of a month's GB-s, by its tiers."""
        tiers = self.profile.prices.tiers_of(self.profile.architecture)
        ends = [above for above, _ in tiers[1:]] + [math.inf]
        return sum(usd * max(0.0, min(gb_s, end) - above) for (above, usd), end in zip(tiers, ends, strict=True))

    @property
    def gb(self) -> float:
        """Memory of a function."""
        return self.memory_mb / 1024


def of_functions(question: Question, contender: Contender, found: list[Deployed] | str) -> Offer:
    """What Lambda offers: the cheapest memory size that keeps the promise by the closed form, else the fastest.

    Args:
        found: as `deployments` has it.
    """
    runs = contender.runs
    assert isinstance(runs, Lambda)
    if isinstance(found, str):
        return Offer(contender.name, "", runs.batching, contender.price_list_date, why_not=found)
    offers = [_offer(question, contender, runs, each) for each in found]
    serving = [offer for offer in offers if offer.serves]
    if serving:
        return min(serving, key=lambda offer: (offer.usd, offer.at(95)))
    return min(offers, key=lambda offer: offer.at(question.promise.percentile) or math.inf)


# -- the closed form ----------------------------------------------------------------------------------------


def _problem(spec: MoESpec, profile: PlatformProfile, tokens: float) -> DeploymentProblem:
    """One sequence of so many tokens as a deployment problem: what stages cost is `optimizer.stage_cost`'s."""
    whole = max(1, round(tokens))
    share = 1 / whole if spec.generates else spec.head_share
    spec = spec.model_copy(update={"sequence_tokens": whole, "head_share": share})
    reached = max(spec.top_k, round(spec.experts * (1 - (1 - spec.top_k / spec.experts) ** whole)))
    popularity = np.zeros((spec.moe_layers, spec.experts))
    popularity[:, :reached] = whole * spec.top_k / reached
    of_one = spec.model_copy(update={"experts": 1, "top_k": 1})  # blocks alone are asked of the problem
    made = make_problem(of_one, np.full((spec.moe_layers, 1), float(whole)), profile, objective="total")
    return made.with_blocks(make_blocks(spec, popularity, profile, whole))


def deployments(question: Question, profile: PlatformProfile) -> list[Deployed] | str:
    """Every memory size that needs no more stages than the largest; else what does not fit, in words."""
    spec, (tokens_in, tokens_out) = question.spec, question.traffic.sample(500)
    longest = int((tokens_in + tokens_out).argmax())
    usual = _problem(spec, profile, float(tokens_in.mean()))
    long = _problem(spec, profile, float(tokens_in[longest]))
    kept = Work(spec).kv_bytes_per_token * float(tokens_in[longest] + tokens_out[longest]) * spec.generates
    cuts = [_cut(spec.moe_layers, stages) for stages in range(1, spec.moe_layers + 1)]
    needed = [_needed(long, first, end) + kept / len(first) for first, end in cuts]
    fewest = next((k for k, each in enumerate(needed) if each <= BLOCK_MEMORY_MB[-1] * MB), None)
    if fewest is None:
        return f"does not fit: a block needs {needed[-1] / MB:,.0f} MB > {BLOCK_MEMORY_MB[-1]:,} MB"
    sizes = [j for j, memory_mb in enumerate(BLOCK_MEMORY_MB) if needed[fewest] <= memory_mb * MB]
    return [_deployed(usual, profile, spec, cuts[fewest], j, tokens_in, tokens_out) for j in sizes]


def _cut(layers: int, stages: int) -> tuple[np.ndarray, np.ndarray]:
    """First layers and ends of stages as even as can be."""
    edges = np.round(np.linspace(0, layers, stages + 1)).astype(int)
    return edges[:-1], edges[1:]


def _needed(problem: DeploymentProblem, first: np.ndarray, end: np.ndarray) -> float:
    """Memory of the largest stage with one sequence, bytes."""
    sizes = stage_sizes(problem, first, end)
    return float(needed_lane_bytes(problem, sizes, np.full(len(first), problem.served_tokens)).max())


def _deployed(
    problem: DeploymentProblem,
    profile: PlatformProfile,
    spec: MoESpec,
    cut: tuple[np.ndarray, np.ndarray],
    j: int,
    tokens_in: np.ndarray,
    tokens_out: np.ndarray,
) -> Deployed:
    """One memory size: times of the sample's requests from those of the usual one, which are linear in tokens."""
    first, end = cut
    memory_mb, start_s = BLOCK_MEMORY_MB[j], problem.platform.warm_start_s
    costs = stage_costs(problem, first, end, np.array([1]), "payload", "payload")
    if not costs.fits[:, j, 0].all():
        costs = stage_costs(problem, first, end, np.array([1]), "storage", "storage")
    sizes = stage_sizes(problem, first, end)
    billed_s = costs.billed_gb_s[:, j, 0] / (memory_mb / 1024) - start_s
    call_s = sizes.seconds_per_call[:, j].sum()
    token_s = (billed_s.sum() - call_s) / problem.served_tokens
    steps = np.maximum(tokens_out - 1, 0) * spec.generates
    stages = len(first)
    step_s = _step_s(spec, profile, memory_mb) + (stages > 1) * stages * start_s
    return Deployed(
        profile,
        memory_mb,
        stages,
        float(sizes.parameter_bytes.max()),
        call_s + token_s * tokens_in,
        steps * step_s,
        stages * (1 + steps * (stages > 1)),
        start_s,
    )


def _step_s(spec: MoESpec, profile: PlatformProfile, memory_mb: int) -> float:
    """One token of one sequence: it reads the weights that it uses."""
    work, rate = Work(spec), transformer_flops_per_s(profile, [memory_mb], spec.precision)[0]
    read = weight_read_s(profile, [memory_mb], float(work.bytes_read(1)))[0]
    return float(read + work.step_flops(spec.sequence_tokens) / rate)


def _offer(question: Question, contender: Contender, runs: Lambda, deployed: Deployed) -> Offer:
    """The month's bill and times of one memory size, by the closed form."""
    mean_s = float((deployed.pass_s + deployed.steps_s).mean())
    start_s = deployed.start_s * deployed.calls
    parts, cold_share, peak = [], 0.0, 0
    for factor, share in question.traffic.levels:
        rate = question.traffic.rate * factor
        cold = 0.0 if runs.provisioned else cold_share_of(rate, mean_s / deployed.stages, _keep_alive(deployed))
        month = _month(deployed, question.traffic.per_month * factor * share, cold, runs.provisioned)
        parts.append(month)
        cold_share += cold * factor * share
        peak = max(peak, deployed.stages * most_at_once(rate * mean_s / deployed.stages))
    if runs.provisioned:
        parts.append(Parts(idle_usd=_kept_usd(deployed, peak)))
    late = (0.5 + 0.618034 * np.arange(len(start_s))) % 1 < cold_share
    first = deployed.pass_s + start_s + late * deployed.cold_s * deployed.stages
    steps = deployed.steps_s
    more = np.maximum(question.traffic.sample(len(steps))[1] - 1, 1)
    times = Times(first, steps / more, first + steps)
    limit = deployed.profile.concurrency.account.median
    why_not = question.promise.broken(times)
    if peak > limit:
        why_not = f"{peak:,} calls at once > {limit:,.0f} of the account"
    total = added(parts)
    return Offer(
        contender.name,
        _words(deployed, peak, runs.provisioned),
        runs.batching,
        contender.price_list_date,
        shape="whole-model" if deployed.stages == 1 else "blocks",
        why_not=why_not,
        parts=total,
        times=times,
        cold_share=cold_share,
        functions=deployed.stages,
        memory_mb=deployed.memory_mb,
        peak=peak,
        closed_form_usd=total.total_usd,
    )


def _words(deployed: Deployed, peak: int, provisioned: bool) -> str:
    kept = f", {peak:,} kept" if provisioned else f", {peak:,} at peak"
    functions = "1 function" if deployed.stages == 1 else f"{deployed.stages} functions"
    return f"{functions} of {deployed.memory_mb:,} MB{kept}"


def _keep_alive(deployed: Deployed) -> float:
    return deployed.profile.start.keep_alive_s.median


def _month(deployed: Deployed, requests: float, cold: float, provisioned: bool) -> Parts:
    """Requests of a month, a share of them cold; without what keeps provisioned instances."""
    prices, architecture = deployed.profile.prices, deployed.profile.architecture
    gb_s = requests * float(deployed.billed_s.mean()) * deployed.gb
    starts = requests * cold * deployed.stages
    init_gb_s = starts * (deployed.init_s + deployed.load_s) * deployed.gb
    if provisioned:
        compute = gb_s * prices.of("provisioned_duration_gb_s", architecture)
    else:
        compute = deployed.gb_s_usd(gb_s + init_gb_s) * (gb_s / (gb_s + init_gb_s))
    return Parts(
        compute_usd=compute,
        requests_usd=requests * float(deployed.calls.mean()) * prices.invocation.median,
        storage_usd=starts * deployed.profile.storage_class.get_usd,
        init_usd=0.0 if provisioned else deployed.gb_s_usd(gb_s + init_gb_s) - compute,
    )


def _kept_usd(deployed: Deployed, kept: int) -> float:
    """What provisioned instances cost a month, beside what they do."""
    price = deployed.profile.prices.of("provisioned_gb_s", deployed.profile.architecture)
    return kept * deployed.gb * MONTH_S * price


def cold_share_of(rate: float, mean_s: float, keep_alive_s: float) -> float:
    """Share of Poisson arrivals that start an instance, where the lowest free instance serves.

    The j-th instance is asked for by calls that find j - 1 busy, at a rate of `rate` x B(j - 1) with Erlang's B: it
    is gone, and one is started, where none of them came within its keep-alive.
    """
    load, share, blocked = rate * mean_s, 0.0, 1.0
    for j in range(1, 100_000):
        below = load * blocked / (j + load * blocked)
        share += (blocked - below) * math.exp(-keep_alive_s * rate * blocked)
        blocked = below
        if blocked < 1e-12:
            break
    return share


def most_at_once(load: float) -> int:
    """Calls at once that are exceeded by one in a thousand arrivals (Erlang's B)."""
    most = max(1, math.ceil(load + 2 * math.sqrt(load)))
    while erlang_b(most, load) > 1 - MOST_PEAK:
        most += 1
    return most


# -- played -------------------------------------------------------------------------------------------------


def played(question: Question, contender: Contender, offer: Offer, found: list[Deployed] | str) -> Offer:
    """The offer as its function serves the traffic, with more memory where the promise is missed."""
    runs = contender.runs
    assert isinstance(runs, Lambda)
    assert not isinstance(found, str)
    if offer.shape != "whole-model":
        return offer  # its tokens travel through stages: too many calls to play
    last = offer
    for deployed in found:
        if offer.memory_mb is None or deployed.memory_mb < offer.memory_mb:
            continue
        planned = _offer(question, contender, runs, deployed)
        last = _played(question, runs, deployed, planned)
        if last.serves:
            break
    return last


def _played(question: Question, runs: Lambda, deployed: Deployed, offer: Offer) -> Offer:
    """One memory size, played level by level, and extrapolated to the month."""
    parts, times, cold, shares, spread = [], [], 0.0, [], 0.0
    for factor, share in question.traffic.levels:
        window = _play(question, runs, deployed, offer, factor)
        requests = question.traffic.per_month * factor * share
        parts.append(window.month(deployed, requests))
        times.append(window.times)
        shares.append(factor * share)
        cold += window.cold_share * factor * share
        spread += (window.half_width * requests) ** 2
    if runs.provisioned:
        parts.append(Parts(idle_usd=_kept_usd(deployed, offer.peak)))
    total, mixed = added(parts), mix(times, shares)
    why_not = question.promise.broken(mixed)
    usd, half = total.total_usd, math.sqrt(spread)
    return replace(
        offer,
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


def _play(question: Question, runs: Lambda, deployed: Deployed, offer: Offer, factor: float) -> _Window:
    """Requests of one level on a platform of its own."""
    profile, rate = deployed.profile, question.traffic.rate * factor
    rng = np.random.default_rng([question.seed, round(1000 * factor)])
    arriving, rolling = rng.spawn(2)
    window = question.traffic.window(PLAYED, rate, arriving)
    passes, steps = _works(question, deployed, window)
    env, rows = simpy.Environment(), [[] for _ in window.at_s]  # type: list[list[Record]]
    service = LambdaService(env, platform_of_profile(profile, None, rolling), lambda row: rows[row.batch].append(row))
    busy = rate * float((passes + steps).mean())
    alive = busy if rate * _keep_alive(deployed) > 1 else 0.0
    service.deploy(
        "model",
        deployed.memory_mb,
        warm=0 if runs.provisioned else math.ceil(alive),
        provisioned=offer.peak if runs.provisioned else 0,
        done=(WEIGHTS,),
    )
    load = FirstCall((Get([deployed.load_bytes], "parameter_download"),), WEIGHTS)
    works = (passes + steps).tolist()
    numbers = iter(range(len(works)))

    def arrive() -> None:
        number = next(numbers)
        row = Record(number, 0, "function", "model", deployed.memory_mb)
        service.invoke(row, (load, Compute(works[number])))

    at_each(env, iter(window.at_s.tolist()), arrive)
    env.run()
    return _window(question, runs, deployed, window, rows, works, steps)


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
    question: Question,
    runs: Lambda,
    deployed: Deployed,
    window: Requests,
    rows: list[list[Record]],
    works: list[float],
    steps: np.ndarray,
) -> _Window:
    first = int(WARM_UP * len(rows))
    counted = range(first, len(rows))
    ended = np.array([rows[k][-1].ended_s for k in counted])
    latency = ended - window.at_s[first:]
    more = np.maximum(window.tokens_out[first:] - 1, 1)
    times = Times(latency - steps[first:], steps[first:] / more, latency)
    gb_s = np.array([sum(row.billed_gb_s for row in rows[k]) for k in counted])
    cold = np.array([any(row.cold for row in rows[k]) for k in counted])
    warm_gb_s = np.ceil(np.array(works)[first:] * 1000) / 1000 * deployed.gb
    init = np.where(cold, np.maximum(gb_s - warm_gb_s, 0.0), 0.0)
    tried = np.array([len(rows[k]) for k in counted])
    price = deployed.profile.prices.of("provisioned_duration_gb_s", deployed.profile.architecture)
    usd = gb_s * (price if runs.provisioned else deployed.profile.gb_s_usd)
    blocks = usd[: len(usd) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(axis=1)
    return _Window(
        times,
        float(cold.mean()),
        float(t_half_width(blocks)),
        float((gb_s - init).mean()),
        float(init.mean()),
        float(tried.mean()),
        float(np.mean([sum(row.gets for row in rows[k]) for k in counted])),
        price if runs.provisioned else None,
    )
