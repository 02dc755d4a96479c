"""The ideal platform beside the closed form (Eq. 6-11), over random plans of random problems."""

from __future__ import annotations

import numpy as np

from experiments.tools.cases import bert_problem
from experiments.validation.checks import Check
from optimizer.evaluation import evaluate
from simulator.plan import (
    Communication,
    DeploymentPlan,
    DeploymentProblem,
    ExpertPlan,
    LayerPlan,
    ProblemExpert,
    ProblemLayer,
    ProblemPlatform,
)
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.simulate import simulate

METHODS: tuple[Communication, ...] = ("storage", "direct", "pipelined")
SIZES = (512, 768, 1769, 3008)


def closed_form_checks(cases: int = 30, seed: int = 1) -> list[Check]:
    """The farthest of many random plans from the closed form, of one problem and of as many random problems.

    Experts start just in time, so that none waits, billed, for its input: the closed form knows no such wait.
    """
    rng, bert = np.random.default_rng(seed), bert_problem(3, 4, 2048)
    found = []
    for method in METHODS:
        found += _against_closed_form(f"{cases} plans of a Bert MoE", method, [bert] * cases, rng)
        problems = [random_problem(rng) for _ in range(cases)]
        found += _against_closed_form(f"{cases} random problems", method, problems, rng)
    return found


def _against_closed_form(
    name: str, method: Communication, problems: list[DeploymentProblem], rng: np.random.Generator
) -> list[Check]:
    ratios: dict[str, list[float]] = {"billed GB-s": [], "latency": []}
    for problem in problems:
        plan = random_plan(problem, method, rng)
        run, closed = simulate(problem, plan, serving=JUST_IN_TIME), evaluate(problem, plan)
        ratios["billed GB-s"].append(run.bill.billed_gb_s / closed.billed_gb_s)
        ratios["latency"].append(run.mean_latency_s / closed.latency_s)
    checks = []
    for quantity, values in ratios.items():
        equal = method == "storage" or (method == "direct" and quantity != "latency")
        what = f"{method}: {quantity}, farthest of {name} ({'equal' if equal else 'at most'})"
        # of a bound, one case above it is worse than any below
        above = max(values) > 1 + 1e-9
        worst = max(values) if above and not equal else max(values, key=lambda ratio: abs(ratio - 1))
        checks.append(Check(what, "Eq. 6-11", 1.0, worst, float(np.std(values, ddof=1))))
    return checks


def random_problem(rng: np.random.Generator) -> DeploymentProblem:
    """Up to 4 layers of up to 6 experts with random sizes, loads and platform; some experts get no token."""
    platform = ProblemPlatform(
        memory_mb=SIZES,
        max_replicas=8,
        storage_bandwidth_bytes_per_s=tuple(sorted(rng.uniform(20e6, 120e6, len(SIZES)).tolist())),
        direct_bandwidth_bytes_per_s=float(rng.uniform(10e6, 80e6)),
        storage_delay_s=float(rng.uniform(0.0, 0.06)),
        warm_start_s=float(rng.uniform(0.0, 0.05)),
        payload_limit_bytes=6291456,
        price_per_gb_s=1.66667e-5,
    )
    experts = int(rng.integers(1, 7))
    layers = tuple(_random_layer(rng, experts) for _ in range(int(rng.integers(1, 5))))
    head_s, tail_s = rng.uniform(0.1, 1.0, 2).tolist()
    return DeploymentProblem(name="random", platform=platform, layers=layers, head_s=head_s, tail_s=tail_s)


def _random_layer(rng: np.random.Generator, experts: int) -> ProblemLayer:
    tokens = rng.integers(1, 600, experts) * (rng.random(experts) < 0.85)
    tokens[0] = max(1, tokens[0])
    speeds = np.sort(rng.uniform(1e-4, 5e-3, len(SIZES)))[::-1]
    token_memory = float(rng.uniform(0.0, 3e6)) * int(rng.integers(2))
    return ProblemLayer(
        token_in_bytes=float(rng.uniform(512, 16384)),
        token_out_bytes=float(rng.uniform(512, 16384)),
        seconds_per_token=tuple(speeds.tolist()),
        seconds_per_call=tuple((speeds * 3).tolist()) if rng.integers(2) else None,
        non_moe_s=float(rng.uniform(0.0, 1.0)),
        next_load_s=float(rng.uniform(0.1, 1.0)),
        experts=tuple(
            ProblemExpert(
                tokens=int(d),
                parameter_bytes=float(rng.uniform(1e6, 1e8)),
                intermediate_bytes=1e8,
                intermediate_bytes_per_token=token_memory,
            )
            for d in tokens
        ),
    )


def random_plan(
    problem: DeploymentProblem, method: Communication | None, rng: np.random.Generator
) -> DeploymentPlan:
    """A plan with one method (None: any, of each layer) and random memories, replicas and minibatch sizes."""
    sizes = [size for size in problem.platform.memory_mb if size >= 512]
    layers = []
    for layer in problem.layers:
        experts = tuple(
            ExpertPlan(memory_mb=int(rng.choice(sizes)), replicas=int(rng.integers(1, 9))) for _ in layer.experts
        )
        chosen = method or METHODS[int(rng.integers(3))]
        beta = int(rng.integers(4, 128)) if chosen == "pipelined" else None
        layers.append(LayerPlan(communication=chosen, minibatch_tokens=beta, experts=experts))
    return DeploymentPlan(solver="random", layers=tuple(layers))
