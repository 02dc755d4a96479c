"""Lambda contenders by the closed form: every memory size, with the fewest stages that it needs.

A request is a call of each stage, one call at a time in an instance. Tokens are generated in the instance that
holds the sequence; with more stages each token travels through all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from experiments.cost.offer import Offer, Parts, added
from experiments.cost.question import Question
from moe.spec import MoESpec
from optimizer.blocks import BLOCK_MEMORY_MB, make_blocks
from optimizer.problem import make_problem
from optimizer.stage_cost import stage_costs
from simulator.plan import MB, DeploymentProblem
from simulator.profiles.contenders import Contender, Lambda
from simulator.profiles.schema import PlatformProfile
from simulator.servers.promise import Times
from simulator.servers.sizing import erlang_b
from simulator.servers.work import Work
from simulator.serving.lane import Lane
from simulator.stage_rules import needed_lane_bytes, stage_sizes
from simulator.staged_plan import BlocksStage
from simulator.traffic.requests import MONTH_S

MOST_BUSY = 100_000  # instances: more are not followed
MOST_PEAK = 0.999  # share of the time in which no more calls run at once than there is room for


@dataclass(frozen=True)
class Deployed:
    """Stages of one memory size, and what they take for a sample of requests, shapes (requests,).

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
        rate = min(
            storage.connection_bytes_per_s.median, self.memory_mb * network.function_bytes_per_s_per_mb.median
        )
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
    def longest_call_s(self) -> float:
        """Of one stage: with several, each token that is generated is a call of its own."""
        each = self.pass_s / self.stages + self.steps_s * (self.stages == 1)
        return float(each.max()) + self.load_s

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
    offers = [offer(question, contender, runs, each) for each in found]
    serving = [offer for offer in offers if offer.serves]
    if serving:
        return min(serving, key=lambda offer: (offer.usd, offer.at(95)))
    return min(offers, key=lambda offer: offer.at(question.promise.percentile) or math.inf)


def _problem(
    spec: MoESpec, profile: PlatformProfile, tokens: float, generating: bool = False
) -> DeploymentProblem:
    """One sequence of so many tokens as a deployment problem; `generating`: each token reaches for any expert, and
    has logits. What stages cost is `optimizer.stage_cost`'s, a step of generation `simulator.serving.lane`'s."""
    whole = max(1, round(tokens))
    if spec.generates:
        spec = spec.model_copy(update={"head_share": 1.0 if generating else 1 / whole})
    spec = spec.model_copy(update={"sequence_tokens": whole})
    reached = spec.experts * (1.0 if generating else 1 - (1 - spec.top_k / spec.experts) ** whole)
    popularity = np.zeros((spec.moe_layers, spec.experts))
    popularity[:, : max(spec.top_k, round(reached))] = 1.0
    blocks = make_blocks(spec, popularity, profile, whole)
    of_experts = {"expert_bytes": spec.experts * spec.expert_parameter_bytes}
    blocks = blocks.model_copy(
        update={"layers": tuple(each.model_copy(update=of_experts) for each in blocks.layers)}
    )
    of_one = spec.model_copy(update={"experts": 1, "top_k": 1})  # blocks alone are asked of the problem
    made = make_problem(of_one, np.full((spec.moe_layers, 1), float(whole)), profile, objective="total")
    layers = tuple(each.model_copy(update={"experts": each.experts * spec.experts}) for each in made.layers)
    return made.model_copy(update={"layers": layers, "top_k": spec.top_k}).with_blocks(blocks)


def deployments(question: Question, profile: PlatformProfile) -> list[Deployed] | str:
    """Every memory size that needs no more stages than the largest; else what does not fit, in words."""
    spec, (tokens_in, tokens_out) = question.spec, question.traffic.sample(500)
    longest = int((tokens_in + tokens_out).argmax())
    usual = _problem(spec, profile, float(tokens_in.mean()))
    long = _problem(spec, profile, float(tokens_in[longest]))
    steps = _problem(spec, profile, float((tokens_in + tokens_out / 2).mean()), generating=True)
    kept = Work(spec).kv_bytes_per_token * float(tokens_in[longest] + tokens_out[longest]) * spec.generates
    fewest, needed = None, 0.0
    for stages in range(1, spec.moe_layers + 1):
        cut = _cut(spec.moe_layers, stages)
        needed = _needed(long, *cut) + kept / stages
        if needed <= BLOCK_MEMORY_MB[-1] * MB:
            fewest = cut
            break
    if fewest is None:
        return f"does not fit: a block needs {needed / MB:,.0f} MB > {BLOCK_MEMORY_MB[-1]:,} MB"
    pass_s = _passes(usual, fewest, tokens_in)
    sizes = [j for j, memory_mb in enumerate(BLOCK_MEMORY_MB) if needed <= memory_mb * MB]
    return [_deployed(usual, steps, profile, fewest, j, pass_s[:, j], tokens_out) for j in sizes]


def _cut(layers: int, stages: int) -> tuple[np.ndarray, np.ndarray]:
    """First layers and ends of stages as even as can be."""
    edges = np.round(np.linspace(0, layers, stages + 1)).astype(int)
    return edges[:-1], edges[1:]


def _needed(problem: DeploymentProblem, first: np.ndarray, end: np.ndarray) -> float:
    """Memory of the largest stage with one sequence, bytes."""
    sizes = stage_sizes(problem, first, end)
    return float(needed_lane_bytes(problem, sizes, np.full(len(first), problem.served_tokens)).max())


def _passes(problem: DeploymentProblem, cut: tuple[np.ndarray, np.ndarray], tokens_in: np.ndarray) -> np.ndarray:
    """Time of the sample's requests in all stages of each memory size, s, shape (requests, sizes): from that of
    the usual one, since it is linear in tokens; without the way to a function, which AWS does not bill."""
    costs = stage_costs(problem, *cut, np.array([1]), "payload", "payload")
    if not costs.fits[:, -1, 0].all():
        costs = stage_costs(problem, *cut, np.array([1]), "storage", "storage")
    gb = np.array(BLOCK_MEMORY_MB) / 1024
    billed_s = (costs.billed_gb_s[:, :, 0] / gb - problem.platform.warm_start_s).sum(axis=0)
    call_s = stage_sizes(problem, *cut).seconds_per_call.sum(axis=0)
    return call_s + np.outer(tokens_in, (billed_s - call_s) / problem.served_tokens)


def _deployed(
    usual: DeploymentProblem,
    steps: DeploymentProblem,
    profile: PlatformProfile,
    cut: tuple[np.ndarray, np.ndarray],
    j: int,
    pass_s: np.ndarray,
    tokens_out: np.ndarray,
) -> Deployed:
    """One memory size; with more stages each token travels through all of them, a call each."""
    stages, start_s = len(cut[0]), usual.platform.warm_start_s
    more = np.maximum(tokens_out - 1, 0)
    step_s = _step_s(steps, cut, BLOCK_MEMORY_MB[j]) if more.any() else 0.0
    return Deployed(
        profile,
        BLOCK_MEMORY_MB[j],
        stages,
        float(stage_sizes(usual, *cut).parameter_bytes.max()),
        pass_s,
        more * step_s,
        stages * (1 + more * (stages > 1)),
        start_s,
    )


def _step_s(problem: DeploymentProblem, cut: tuple[np.ndarray, np.ndarray], memory_mb: int) -> float:
    """One token of one sequence, through all stages."""
    stages = [
        BlocksStage(first_layer=first, last_layer=end - 1, memory_mb=memory_mb, lanes=1, handover="payload")
        for first, end in zip(*(each.tolist() for each in cut), strict=True)
    ]
    return sum(Lane.of(problem, stage, "payload").step_s(1) for stage in stages)


def offer(question: Question, contender: Contender, runs: Lambda, deployed: Deployed) -> Offer:
    """The month's bill and times of one memory size, by the closed form."""
    mean_s = float((deployed.pass_s + deployed.steps_s).mean())
    parts, cold_share, peak = [], 0.0, 0
    for factor, share in question.traffic.levels:
        rate = question.traffic.rate * factor
        cold = 0.0 if runs.provisioned else cold_share_of(rate, mean_s / deployed.stages, keep_alive(deployed))
        month = _month(deployed, question.traffic.per_month * factor * share, cold, runs.provisioned)
        parts.append(month)
        cold_share += cold * factor * share
        peak = max(peak, deployed.stages * most_at_once(rate * mean_s / deployed.stages))
    if runs.provisioned:
        parts.append(Parts(idle_usd=kept_usd(deployed, peak)))
    late = (0.5 + 0.618034 * np.arange(len(deployed.pass_s))) % 1 < cold_share
    first = deployed.pass_s + deployed.stages * deployed.start_s + late * deployed.cold_s * deployed.stages
    steps = deployed.steps_s + deployed.start_s * (deployed.calls - deployed.stages)
    more = np.maximum(question.traffic.sample(len(steps))[1] - 1, 1)
    times = Times(first, steps / more, first + steps)
    limit = deployed.profile.concurrency.account.median
    why_not = question.promise.broken(times)
    longest_s, most_s = deployed.longest_call_s, deployed.profile.concurrency.timeout_s.median
    if longest_s > most_s:
        why_not = f"a call takes {longest_s:,.0f} s > {most_s:,.0f} s that Lambda lets it take"
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
        package=runs.package,
        provisioned=runs.provisioned,
        works_s=deployed.pass_s + deployed.steps_s,
        peak=peak,
        closed_form_usd=total.total_usd,
    )


def _words(deployed: Deployed, peak: int, provisioned: bool) -> str:
    kept = f", {peak:,} kept" if provisioned else f", {peak:,} at peak"
    functions = "1 function" if deployed.stages == 1 else f"{deployed.stages} functions"
    return f"{functions} of {deployed.memory_mb:,} MB{kept}"


def keep_alive(deployed: Deployed) -> float:
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


def kept_usd(deployed: Deployed, kept: int) -> float:
    """What provisioned instances cost a month, beside what they do."""
    price = deployed.profile.prices.of("provisioned_gb_s", deployed.profile.architecture)
    return kept * deployed.gb * MONTH_S * price


def kept_warm(deployed: Deployed, rate: float) -> int:
    """Instances of a stage that are busy all at once again before the keep-alive ends, on average.

    Where tokens travel through several stages, these are short calls, many of each request: as Poisson arrivals.
    """
    calls = float(deployed.calls.mean()) / deployed.stages
    mean_s = float((deployed.pass_s + deployed.steps_s).mean()) / deployed.stages / calls
    seldom = (busy for busy, mean, _ in passages(rate * calls, mean_s) if mean > keep_alive(deployed))
    return next(seldom, MOST_BUSY)


def passages(rate: float, mean_s: float) -> Iterator[tuple[int, float, float]]:
    """For each number of busy instances, from 0: first two moments of the time until one more is busy, s, s^2.

    First passages of M/M/infinity from m to m + 1: their moments follow from those of the level below, as of a
    return at once or, with probability p, after an exponential time.
    """
    first, second = 0.0, 0.0
    for busy in range(MOST_BUSY):
        leaving = rate + busy / mean_s
        down = busy / mean_s / leaving
        mean = (1 / leaving + down * first) / (1 - down)
        again = first + mean
        square = 2 / leaving**2 + 2 / leaving * down * again + down * (second + 2 * first * mean)
        first, second = mean, square / (1 - down)
        yield busy, first, second


def cold_share_of(rate: float, mean_s: float, keep_alive_s: float) -> float:
    """Share of Poisson arrivals that start an instance, where the last used is used first.

    An arrival that finds m busy is cold if level m + 1 was last left longer ago than the keep-alive: a first
    passage (`passages`), taken to be, with probability p, exponential.
    """
    load, share = rate * mean_s, 0.0
    for busy, mean, square in passages(rate, mean_s):
        found = math.exp(busy * math.log(load) - load - math.lgamma(busy + 1))
        share += found * 2 * mean**2 / square * math.exp(-2 * keep_alive_s * mean / square)
        if busy > load and found < 1e-9:
            break
    return share


def most_at_once(load: float) -> int:
    """Calls at once that are exceeded by one in a thousand arrivals (Erlang's B)."""
    most = max(1, math.ceil(load + 2 * math.sqrt(load)))
    while erlang_b(most, load) > 1 - MOST_PEAK:
        most += 1
    return most
