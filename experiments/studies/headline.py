"""The headline ratios as a function of uncertain constants: what the study of sensitivity varies and evaluates.

The ratios of Liu, Wang, Wu, INFOCOM 2025: cost and throughput against LambdaML, cost against a CPU cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.tools.paper_numbers import LAMBDAML_MB, SLOWER_THAN_LAMBDAML
from moe.routing.synthetic import zipf
from moe.spec import MoESpec
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, Reload
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import Keys, multiplied, with_constant
from simulator.serving.cluster import PERIODS, run_on_cluster
from simulator.serving.layer import AS_PAPER
from simulator.serving.simulate import simulate


@dataclass(frozen=True)
class Factor:
    """An uncertain constant or condition.

    Attributes:
        name: in tables. low, high: its range. nominal: what the shipped profile and the paper's setting say.
        log: whether it is spread evenly in its logarithm. unit: of the numbers; `x` is a factor on the profile's.
        why: where the range is from.
    """

    name: str
    low: float
    high: float
    nominal: float
    log: bool
    unit: str
    why: str

    def at(self, share: float | np.ndarray) -> np.ndarray:
        """The value(s) at a share in [0, 1] of the range."""
        share = np.asarray(share, float)
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share


FACTORS = (
    Factor(
        "FLOP/s of a vCPU", 0.58, 1.44, 1, True, "x", "45 GFLOP/s (26-65), products of matrices of 2017 and 2022"
    ),
    Factor("compute beyond one vCPU", 0.85, 1, 0.91, False, "exponent", "1: linear in memory; measured on arm64"),
    Factor("attention's speed", 0.33, 1.1, 0.711, True, "of experts'", "whole transformers reach 15-50 GFLOP/s"),
    Factor("reading weights", 0.375, 3.1, 1, True, "x", "8 GB/s of a vCPU (3-25)"),
    Factor("S3 bandwidth", 0.25, 4, 1, True, "x", "2020's 0.07 MB/s per MB; burst and connections reach more"),
    Factor("S3 delay", 0.2, 2.5, 1, True, "x", "S3 Express 5 ms; the median moved 18 to 41 ms in a day"),
    Factor("warm start", 0.25, 4, 1, True, "x", "18 ms, STeLLAR 2021"),
    Factor("payload bandwidth", 0.25, 4, 1, True, "x", "two points of 2021"),
    Factor("payload encoding", 1, 2.7, 4 / 3, False, "bytes/byte", "raw 1, base64 4/3, numbers as JSON text 2.7"),
    Factor("price of a GB-s", 0.8, 1.1, 1, False, "x", "arm64 is 0.8; regions differ by 10%"),
    Factor("cluster's core", 1.1, 2.8, 1.7, True, "vCPUs", "FLOP/s of a core over a Lambda vCPU's: m7a, c7i, c6i"),
    Factor("cluster's price", 0.3, 1.5, 1, True, "x", "spot to other sizes; on demand is 1"),
    Factor("cluster's efficiency", 0.37, 1, 0.9, True, "share", "MLPerf: more cores, or with a promised latency"),
    Factor("cluster's paid time used", 0.02, 1, 0.2, True, "share", "of a month"),
    Factor("batches in a paid hour", 1, 900, 1, True, "1/h", "the paper's figures take one"),
    Factor(
        "parameters kept", 0, 1, 0, False, "0 or 1", "0: downloaded by each call (paper), 1: by an instance once"
    ),
    Factor("skew", 0, 1.5, 0.5, False, "Zipf", "popularity of an expert is 1/rank^s; recorded ones are near 0.5"),
    Factor("tokens of a batch", 512, 20480, 10240, True, "tokens", "the paper's range and twice it"),
)

S3_BANDWIDTH: tuple[Keys, ...] = (
    ("network", "function_bytes_per_s_per_mb"),
    ("network", "function_upload_bytes_per_s_per_mb"),
    ("network", "process_bytes_per_s"),
    ("network", "sustained_bytes_per_s"),
    ("network", "burst_bytes_per_s"),
    ("storage", "connection_bytes_per_s"),
    ("storage", "put_connection_bytes_per_s"),
)
SCALED: dict[str, tuple[Keys, ...]] = {
    "FLOP/s of a vCPU": (("compute", "flops_per_vcpu"),),  # a core of the cluster is so many times as fast
    "reading weights": (("compute", "weight_bandwidth_per_vcpu"), ("compute", "weight_bandwidth_per_function")),
    "S3 bandwidth": S3_BANDWIDTH,
    "S3 delay": (("storage", "get_latency_s"), ("storage", "put_latency_s")),
    "warm start": (("start", "warm_s"), ("payload", "overhead_s")),
    "payload bandwidth": (("payload", "bytes_per_s"),),
    "price of a GB-s": (("prices", "gb_s"),),
    "cluster's price": (("cluster", "price_per_hour"),),
}
"""Constants that a factor multiplies."""
REPLACED: dict[str, Keys] = {
    "compute beyond one vCPU": ("compute", "scaling_exponent"),
    "attention's speed": ("compute", "transformer_speed"),
    "cluster's core": ("cluster", "core_speed"),
    "payload encoding": ("payload", "encoding_factor"),
    "cluster's efficiency": ("cluster", "efficiency"),
    "cluster's paid time used": ("cluster", "month_utilisation"),
}
"""Constants that become a factor's value."""


@dataclass(frozen=True)
class Headline:
    """Billed cost (the paper's bill) and throughput of the cheapest plan, as ratios.

    Attributes:
        cost, tokens_per_s: over LambdaML's. cluster: cost over the CPU cluster's, by the time that is paid.
        feasible: whether the plan keeps the throughput that is asked for.
    """

    cost: float
    tokens_per_s: float
    cluster: dict[str, float]
    feasible: bool

    def value(self, name: str) -> float:
        """A ratio by the name of OUTPUTS."""
        return getattr(self, name) if name in ("cost", "tokens_per_s") else self.cluster[name]


OUTPUTS = {
    "cost": "cost over LambdaML's",
    "tokens_per_s": "throughput over LambdaML's",
    "second": "cost over the cluster's, seconds used",
    "month": "cost over the cluster's, a month's use",
    "hour": "cost over the cluster's, paid hours",
}


def nominal() -> dict[str, float]:
    """Every factor's nominal value."""
    return {factor.name: factor.nominal for factor in FACTORS}


def evaluate(spec: MoESpec, profile: PlatformProfile, values: Mapping[str, float], seed: int = 0) -> Headline:
    """The headline ratios with these values of the factors.

    The plan is the cheapest one at 81.24% of LambdaML's throughput (exact, by the closed form); both are then
    played on the simulated platform with the same random numbers.
    """
    changed = with_factors(profile, values)
    popularity = zipf(spec.moe_layers, spec.experts, values["skew"], np.random.default_rng(seed))
    tokens = values["tokens of a batch"] * popularity * spec.top_k
    problem = make_problem(spec, tokens, changed, non_moe_memory_mb=LAMBDAML_MB)
    lambdaml = solve(problem, "lambdaml", max_memory_mb=LAMBDAML_MB)
    assert lambdaml.latency_s is not None
    limited = problem.with_limit(lambdaml.latency_s / (1 - SLOWER_THAN_LAMBDAML))
    plan = solve(limited, "exact")
    reload: Reload = "when-cold" if values["parameters kept"] >= 0.5 else "every-invocation"
    serving = AS_PAPER.model_copy(update={"reload": reload})

    def play(chosen: DeploymentPlan) -> tuple[float, float]:
        run = simulate(limited, chosen, changed, serving=serving, seed=seed)
        return run.bill.compute_usd, run.mean_latency_s

    cost, latency_s = play(plan)
    base_cost, base_latency_s = play(lambdaml)
    cluster = run_on_cluster(spec, tokens, values["tokens of a batch"], changed).cost_usd
    per = {"hour": cluster["hour"] / values["batches in a paid hour"]}
    return Headline(
        cost=cost / base_cost,
        tokens_per_s=base_latency_s / latency_s,
        cluster={period: cost / per.get(period, cluster[period]) for period in PERIODS},
        feasible=bool(plan.feasible),
    )


def with_factors(profile: PlatformProfile, values: Mapping[str, float]) -> PlatformProfile:
    """The profile with the factors on its constants."""
    for name, paths in SCALED.items():
        profile = multiplied(profile, paths, values[name])
    for name, path in REPLACED.items():
        profile = with_constant(profile, path, values[name])
    return profile
