"""Two readings of the paper's saving over LambdaML, by the closed form, each with its interval over the constants.

On today's Lambda the storage bandwidth of a function grows with its memory, functions run numpy, and the gate's
function hands `direct` results on. The paper's equations have one bandwidth for all sizes, its functions run
PyTorch (no 128 MB function can), and results reach the next function by themselves.

Source: Liu, Wang, Wu, INFOCOM 2025, Eq. 3-11 and section V.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from experiments.tools.paper_numbers import SLOWER_THAN_LAMBDAML
from moe.spec import MoESpec
from optimizer.problem import PAPER_MEMORY_MB, make_problem, with_memory
from optimizer.solvers import solve
from simulator.plan import MB, DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.uncertainty import drawn_factors

Reading: TypeAlias = Literal["today's Lambda", "the paper's equations as they stand"]
TODAY, AS_PRINTED = READINGS = get_args(Reading)
THROUGHPUTS = (1.0, 1 - SLOWER_THAN_LAMBDAML)
"""Of LambdaML's, that the plan must reach: the same, and what the paper came to."""
PYTORCH_BYTES = 250 * MB
"""Memory of a function that has imported PyTorch; the smallest Lambda has 128 MB."""


def read_problem(
    spec: MoESpec, popularity: np.ndarray, profile: PlatformProfile, reading: str
) -> DeploymentProblem:
    """The deployment problem of a batch under a reading."""
    if reading == TODAY:
        return make_problem(spec, popularity, profile)
    problem = make_problem(spec, popularity, profile, memory_mb=PAPER_MEMORY_MB[1:])
    one_bandwidth = profile.storage.connection_bytes_per_s.median
    platform = problem.platform.model_copy(
        update={"direct_hands_on": False, "storage_bandwidth_bytes_per_s": one_bandwidth}
    )
    token_bytes = 2 * spec.token_bytes + spec.expert_activation_bytes
    return with_memory(problem.model_copy(update={"platform": platform}), PYTORCH_BYTES, token_bytes)


def saved_share(problem: DeploymentProblem, throughput: float) -> float:
    """Share of LambdaML's GB-s that the cheapest plan saves at a share of LambdaML's throughput."""
    rule = solve(problem, "lambdaml")
    assert rule.latency_s
    assert rule.billed_gb_s
    best = solve(problem.with_limit(rule.latency_s / throughput * (1 + 1e-9)))
    return 1 - best.objective_value / rule.billed_gb_s


def reading_rows(
    spec: MoESpec, popularity: np.ndarray, profile: PlatformProfile, draws: int, seed: int
) -> list[dict[str, Any]]:
    """What is saved under each reading at each throughput; the interval holds 95% of the drawn constants.

    Args:
        spec, popularity, profile: the model, tokens of each expert (layers, experts), the platform.
        draws: of the profile's uncertain constants. seed: of the draws.
    """
    factors = drawn_factors(profile, draws, seed)
    profiles = [profile, *(factors.applied(profile, k) for k in range(draws))]
    found = []
    for reading in READINGS:
        problems = [read_problem(spec, popularity, each, reading) for each in profiles]
        for throughput in THROUGHPUTS:
            here, *others = (saved_share(problem, throughput) for problem in problems)
            low, high = np.quantile(others, [0.025, 0.975]).tolist()
            about = {"row": "reading", "name": reading, "throughput_of_lambdaml": throughput}
            found.append(about | {"saved_share": here, "saved_share_low": low, "saved_share_high": high})
    return found
