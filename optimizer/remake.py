"""A deployment problem made again of another platform profile, without the model that it was made for."""

from __future__ import annotations

import numpy as np

from moe.errors import InputError
from optimizer.problem import problem_platform
from simulator.plan import DeploymentProblem, ProblemExpert, ProblemLayer
from simulator.profiles.closed_form import expert_seconds
from simulator.profiles.schema import PlatformProfile


def remade(problem: DeploymentProblem, made_of: PlatformProfile, profile: PlatformProfile) -> DeploymentProblem:
    """The problem as `optimizer.problem.make_problem` would have made it of another profile.

    Args:
        problem: the problem. made_of: the profile that it was made of. profile: the other one.

    Raises InputError: the problem was made of something else.
    """
    before, memory_mb = problem.platform, problem.platform.memory_mb
    if before != problem_platform(made_of, memory_mb, before.max_replicas):
        raise InputError(
            f"{problem.name}: its platform is not that of profile '{made_of.name}'; expected a problem made by "
            "smoe problem --profile with the same profile"
        )
    after = problem_platform(profile, memory_mb, before.max_replicas)
    (call_0, token_0), (call_1, token_1) = (
        expert_seconds(each, memory_mb, 1.0, 1.0) for each in (made_of, profile)
    )
    non_moe = float(token_1[0] / token_0[0])  # a vCPU's speed by memory, the same at any size
    runtime = profile.compute.runtime_bytes.median - made_of.compute.runtime_bytes.median

    def loaded(seconds: float) -> float:
        """A load of a non-MoE function: warm start, delay, bytes."""
        fixed_0, fixed_1 = (each.warm_start_s + each.storage_delay_s for each in (before, after))
        return fixed_1 + (seconds - fixed_0) * before.gate_bandwidth / after.gate_bandwidth

    def layer(each: ProblemLayer) -> ProblemLayer:
        per_call = None if each.seconds_per_call is None else np.array(each.seconds_per_call) * call_1 / call_0
        experts = [_with_runtime(expert, runtime) for expert in each.experts]
        return each.model_copy(
            update={
                "seconds_per_token": tuple((np.array(each.seconds_per_token) * token_1 / token_0).tolist()),
                "seconds_per_call": None if per_call is None else tuple(per_call.tolist()),
                "non_moe_s": each.non_moe_s * non_moe,
                "next_load_s": loaded(each.next_load_s),
                "experts": tuple(experts),
            }
        )

    return problem.model_copy(
        update={
            "platform": after,
            "layers": tuple(layer(each) for each in problem.layers),
            "head_s": loaded(problem.head_s),
            "tail_s": problem.tail_s * non_moe,
        }
    )


def _with_runtime(expert: ProblemExpert, more_bytes: float) -> ProblemExpert:
    return expert.model_copy(update={"intermediate_bytes": expert.intermediate_bytes + more_bytes})
