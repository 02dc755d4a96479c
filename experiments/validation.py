"""The simulator held against the closed form, queueing theory and another simulator: a table with every error."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import simpy

from experiments.bench import bert_problem, uniform_plan
from optimizer.cost_model import evaluate
from optimizer.solvers import solve
from simulator.constant import Constant
from simulator.draws import Draws
from simulator.lambda_service import LambdaService
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.platform import Platform, ideal_platform
from simulator.profile import PlatformProfile, load_profile
from simulator.program import Compute
from simulator.records import Record
from simulator.simulate import simulate

UNUSED = np.random.default_rng(0)


@dataclass(frozen=True)
class Check:
    """One row: what was expected and from where, what the simulator gave, and its own spread over seeds.

    Attributes:
        what: the quantity. source: of the expected value.
        expected, found: the two values, `found` the mean over seeds.
        spread: standard deviation of `found` over seeds; 0 where nothing is random.
    """

    what: str
    source: str
    expected: float
    found: float
    spread: float = 0.0

    @property
    def error(self) -> float:
        """Relative error of the mean."""
        return self.found / self.expected - 1


@dataclass(frozen=True)
class Effect:
    """One mechanism switched off: relative change of bill and latency of the exact plan, and the plans' order."""

    mechanism: str
    total_cost: float
    latency: float
    order: tuple[str, ...]


def all_checks(seeds: int = 5) -> list[Check]:
    """Every check, closed form first."""
    return [*closed_form_checks(), *queueing_checks(seeds), *peer_checks(seeds)]


# -- the closed form --------------------------------------------------------------------------------------


def closed_form_checks(cases: int = 30) -> list[Check]:
    """The worst of many random plans on the ideal platform, beside Eq. 6-11."""
    problem, rng = bert_problem(3, 4, 2048), np.random.default_rng(1)
    found = []
    for method in ("storage", "direct", "pipelined"):
        plans = [random_plan(problem, method, rng) for _ in range(cases)]
        pairs = [(simulate(problem, plan, start="just-in-time"), evaluate(problem, plan)) for plan in plans]
        costs = [run.bill.billed_gb_s / closed.billed_gb_s for run, closed in pairs]
        latencies = [run.mean_latency_s / closed.latency_s for run, closed in pairs]
        for name, ratios in (("billed GB-s", costs), ("latency", latencies)):
            bound = "equal" if method == "storage" or (method == "direct" and name != "latency") else "at most"
            worst = max(ratios, key=lambda ratio: abs(ratio - 1))
            found.append(Check(f"{method}: {name}, worst of {cases} plans ({bound})", "Eq. 6-11", 1.0, worst))
    return found


def random_plan(problem: DeploymentProblem, method: Communication, rng: np.random.Generator) -> DeploymentPlan:
    """A plan with one method and random memories, replicas and minibatch sizes."""
    sizes = [size for size in problem.platform.memory_mb if size >= 768]
    layers = []
    for layer in problem.layers:
        experts = tuple(
            ExpertPlan(memory_mb=int(rng.choice(sizes)), replicas=int(rng.integers(1, 9))) for _ in layer.experts
        )
        beta = int(rng.integers(4, 128)) if method == "pipelined" else None
        layers.append(LayerPlan(communication=method, minibatch_tokens=beta, experts=experts))
    return DeploymentPlan(solver="random", layers=tuple(layers))


# -- queueing theory --------------------------------------------------------------------------------------


def at_once(**changes: object) -> Platform:
    """A platform whose calls start at once and take exactly their work."""
    still = {"warm_start": Draws(0.0, UNUSED)}
    return dataclasses.replace(ideal_platform(bert_problem(1, 1, 1)), **(still | changes))  # type: ignore[arg-type]


def poisson_load(
    service: LambdaService, rate: float, mean_work_s: float, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Play Poisson arrivals of exponential work on a function `f`; returns arrival times and work, s."""
    rng, env = np.random.default_rng(seed), service.env
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    work = rng.exponential(mean_work_s, count)

    def arrive(work_s: float) -> Callable[[], object]:
        return lambda: service.invoke(Record(0, 0, "request", "f", 1024), (Compute(work_s),))

    for at, work_s in zip(arrivals.tolist(), work.tolist(), strict=True):
        service.after(at, arrive(work_s))
    env.run()
    return arrivals, work


def queueing_checks(seeds: int) -> list[Check]:
    """Mean concurrency of M/M/inf, Erlang-B, and cold starts of last-used-first reuse."""
    concurrency, throttled, cold, window = [], [], [], []
    for seed in range(seeds):
        service = LambdaService(simpy.Environment(), at_once())
        arrivals, _ = poisson_load(service, 50.0, 0.4, 20_000, seed)
        concurrency.append(sum(row.ended_s - row.started_s for row in service.records) / arrivals[-1])
        service = LambdaService(simpy.Environment(), at_once())
        service.deploy("f", 1024, reserved=5)
        poisson_load(service, 3.0, 1.0, 20_000, seed)
        throttled.append(float(np.mean([row.status == "throttled" for row in service.records])))
        service = LambdaService(simpy.Environment(), at_once(keep_alive=Draws(3.0, UNUSED)))
        arrivals, work = poisson_load(service, 2.0, 0.8, 5_000, seed)
        cold.append(float(np.mean([row.cold for row in service.records])))
        window.append(cold_by_sliding_window(arrivals, work, 3.0) / len(arrivals))
    return [
        _over_seeds("mean concurrency, 50 calls/s of 0.4 s", "M/M/inf", 20.0, concurrency),
        _over_seeds("throttled share, load 3 on 5", "Erlang-B", erlang_b(5, 3.0), throttled),
        _over_seeds("cold-start share, keep-alive 3 s", "sliding window", float(np.mean(window)), cold),
    ]


def erlang_b(servers: int, load: float) -> float:
    """Share of calls that find all servers busy."""
    terms = [load**k / math.factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)


def cold_by_sliding_window(arrivals: np.ndarray, work: np.ndarray, keep_alive_s: float) -> int:
    """Cold starts of last-used-first reuse: a call that lifts concurrency to level m is warm only if level m was
    last left within the keep-alive."""
    steps = [(at, 1) for at in arrivals] + [(at, -1) for at in arrivals + work]
    level, cold, left_s = 0, 0, [-math.inf] * (len(arrivals) + 1)
    for at, step in sorted(steps):
        if step > 0:
            level += 1
            cold += at - left_s[level] > keep_alive_s
        else:
            left_s[level] = at
            level -= 1
    return cold


# -- another simulator ------------------------------------------------------------------------------------


def peer_checks(seeds: int) -> list[Check]:
    """Cold starts and instances beside SimFaaS; nothing where it is not installed."""
    if not importlib.util.find_spec("simfaas"):
        return []
    theirs = np.mean([simfaas_run(seed) for seed in range(seeds)], axis=0)
    ours = np.array([our_run(seed) for seed in range(seeds)])
    names = ("cold-start share, 5 calls/s of 0.5 s, keep-alive 4 s", "mean instances, the same")
    return [_over_seeds(name, "SimFaaS 0.2.2", float(theirs[k]), ours[:, k]) for k, name in enumerate(names)]


def simfaas_run(seed: int, span_s: float = 4000.0) -> tuple[float, float]:
    """Cold-start share and mean instances by SimFaaS."""
    from simfaas.ServerlessSimulator import ServerlessSimulator

    np.random.seed(seed)  # noqa: NPY002  (it draws from numpy's global generator)
    simulator = ServerlessSimulator(
        arrival_rate=5.0, warm_service_rate=2.0, cold_service_rate=2.0, expiration_threshold=4.0, max_time=span_s
    )
    simulator.generate_trace(debug_print=False, progress=False)
    return simulator.total_cold_count / simulator.total_req_count, simulator.get_average_server_count()


def our_run(seed: int, span_s: float = 4000.0) -> tuple[float, float]:
    """Cold-start share and mean instances by this simulator, on the same workload."""
    service = LambdaService(simpy.Environment(), at_once(keep_alive=Draws(4.0, UNUSED)))
    arrivals, _ = poisson_load(service, 5.0, 0.5, int(5 * span_s), seed)
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in service.records:
        first[row.instance] = min(first.get(row.instance, math.inf), row.requested_s)
        last[row.instance] = max(last.get(row.instance, 0.0), row.ended_s)
    alive = sum(last[name] + 4.0 - first[name] for name in first)
    return float(np.mean([row.cold for row in service.records])), alive / float(arrivals[-1])


def _over_seeds(what: str, source: str, expected: float, found: Iterable[float]) -> Check:
    values = np.array(list(found))
    return Check(
        what, source, expected, float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    )


# -- what the closed form leaves out ----------------------------------------------------------------------


@dataclass(frozen=True)
class FanIn:
    """Latency of one plan by its replicas: the closed form's, and what S3's tails add to the simulation (a share).

    Attributes:
        closed_form_s, simulated_s: latency of a batch; simulated is the mean over seeds.
        tails, tails_spread: simulated with tails over simulated with medians, minus 1; paired by seed.
    """

    replicas: int
    closed_form_s: float
    simulated_s: float
    tails: float
    tails_spread: float


def fan_in(seeds: int = 10) -> list[FanIn]:
    """What the maximum over more and more S3 requests does to the latency, as replicas grow."""
    problem, profile = bert_problem(12, 4, 10_240), load_profile()
    medians = without_tails(profile)
    found = []
    for replicas in (1, 2, 4, 8):
        plan = uniform_plan(problem, "storage", None, replicas)
        still = simulate(problem, plan, medians).mean_latency_s
        seen = np.array([simulate(problem, plan, profile, seed=seed).mean_latency_s for seed in range(seeds)])
        added = seen / still - 1
        closed = evaluate(problem, plan).latency_s
        found.append(FanIn(replicas, closed, float(seen.mean()), float(added.mean()), float(added.std(ddof=1))))
    return found


def mechanism_effects(seeds: int = 5) -> list[Effect]:
    """Each mechanism switched off in turn, same seeds: the exact plan's bill and latency, the plans' order."""
    problem = bert_problem(12, 4, 10_240)
    slowest = solve(problem, "lambdaml").latency_s or 0.0
    limited = problem.with_limit(slowest / 0.8)
    plans = {name: solve(limited, name) for name in ("exact", "lambdaml", "best-uniform")}
    base = load_profile()

    def play(profile: PlatformProfile, warm: bool) -> dict[str, tuple[float, float]]:
        found = {}
        for name, plan in plans.items():
            runs = [simulate(problem, plan, profile, warm=warm, seed=seed) for seed in range(seeds)]
            cost = float(np.mean([run.bill.total_cost_usd for run in runs]))
            found[name] = cost, float(np.mean([run.mean_latency_s for run in runs]))
        return found

    reference = play(base, warm=True)
    variants = {
        "(none)": (base, True),
        "warm starts (all cold)": (base, False),
        "latency tails (medians)": (without_tails(base), True),
        "token bucket (always burst)": (with_sustained_burst(base), True),
    }
    effects = []
    for name, (profile, warm) in variants.items():
        found = play(profile, warm)
        change = [found["exact"][k] / reference["exact"][k] - 1 for k in (0, 1)]
        effects.append(Effect(name, change[0], change[1], tuple(sorted(found, key=lambda plan: found[plan][0]))))
    return effects


def without_tails(profile: PlatformProfile) -> PlatformProfile:
    """The profile with every distribution replaced by its median."""
    groups = {}
    for group, section in profile:
        constants = {n: c for n, c in section if isinstance(c, Constant)} if hasattr(section, "model_copy") else {}
        if constants:
            medians = {n: c.model_copy(update={"value": c.median}) for n, c in constants.items()}
            groups[group] = section.model_copy(update=medians)
    return profile.model_copy(update=groups)


def with_sustained_burst(profile: PlatformProfile) -> PlatformProfile:
    """The profile whose functions keep their burst bandwidth for ever."""
    network = profile.network
    sustained = network.sustained_bytes_per_s.model_copy(update={"value": network.burst_bytes_per_s.median})
    return profile.model_copy(update={"network": network.model_copy(update={"sustained_bytes_per_s": sustained})})


# -- the page ---------------------------------------------------------------------------------------------


def page(seeds: int = 10) -> str:
    """The validation page, as Markdown; takes about half a minute."""
    lines = [_INTRODUCTION, "| quantity | expected, from | simulated | error | spread over seeds |"]
    lines.append("|---|---|---|---|---|")
    for check in all_checks(seeds):
        lines.append(
            f"| {check.what} | {check.expected:.4g}, {check.source} | {check.found:.4g} | {_error(check.error)} "
            f"| {check.spread:.2g} |"
        )
    lines += [_FAN_IN, "| replicas | closed form | simulated | added by tails |", "|---|---|---|---|"]
    for row in fan_in(seeds):
        lines.append(
            f"| {row.replicas} | {row.closed_form_s:.1f} s | {row.simulated_s:.1f} s "
            f"| {row.tails:+.2%} (± {row.tails_spread:.2%}) |"
        )
    lines += [_MECHANISMS, "| switched off | total bill | latency | plans, cheapest first |", "|---|---|---|---|"]
    for effect in mechanism_effects(seeds):
        order = ", ".join(effect.order)
        lines.append(f"| {effect.mechanism} | {effect.total_cost:+.2%} | {effect.latency:+.2%} | {order} |")
    return "\n".join(lines) + "\n"


def _error(error: float) -> str:
    return f"{error:+.2%}" if abs(error) > 1e-6 else f"{error:.0e}"


_INTRODUCTION = """# Validation of the simulator

Written by `./smoe bench validation --out docs/validation.md`. Each error stands beside the spread of the
simulation itself over seeds: being closer than that is luck. SimFaaS reuses the idle instance that was *started*
last, this simulator the one *used* last; the first keeps slightly more instances, hence has slightly fewer cold
starts.
"""
_FAN_IN = """
## Fan-in: a layer ends with its slowest request

Bert MoE, 12 x 4, 10,240 tokens, `storage`, 3008 MB, packaged profile. The closed form knows medians only, and
lets a gate upload over one connection; the simulation's gate uses all of its function's bandwidth, so it is faster
in all.
"""
_MECHANISMS = """
## Mechanisms, switched off in turn

The same model; change of the exact plan's total bill and latency against the packaged profile with warm functions,
and whether the order of plans by total bill changes.
"""
