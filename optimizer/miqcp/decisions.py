"""The decision variables of problem (12): their names, the plan that their values are, and a plan as values."""

from collections.abc import Mapping, Sequence

import numpy as np

from optimizer.exact.layer_plan import idle_expert
from simulator.plan import (
    COMMUNICATIONS,
    Communication,
    DeploymentPlan,
    DeploymentProblem,
    ExpertPlan,
    LayerPlan,
)

Methods = tuple[Communication, ...]


def method_name(e: int, method: Communication) -> str:
    """Variable: layer e uses the method."""
    return f"a[{e},{method}]"


def option_name(e: int, i: int, memory_mb: int, replicas: int) -> str:
    """Variable: expert i of layer e is deployed so."""
    return f"x[{e},{i},{memory_mb},{replicas}]"


def witness_name(e: int, i: int) -> str:
    """Variable: the replicas of expert i hold the minibatch size (12e)."""
    return f"largest[{e},{i}]"


def decisions(problem: DeploymentProblem, plan: DeploymentPlan) -> dict[str, float]:
    """The values of the decision variables that are a plan."""
    sizes, counts = problem.platform.memory_mb, range(1, problem.platform.max_replicas + 1)
    chosen = {f"beta[{e}]": float(layer.minibatch_tokens or 1) for e, layer in enumerate(plan.layers)}
    chosen["beta"] = max(chosen.values())
    for e, (layer, deployed) in enumerate(zip(problem.layers, plan.layers, strict=True)):
        chosen |= {method_name(e, x): float(x == deployed.communication) for x in COMMUNICATIONS}
        witness = int(np.ceil(layer.tokens / deployed.replicas).argmax())
        for i, expert in enumerate(deployed.experts):
            held = deployed.communication == "pipelined" and i == witness
            chosen[witness_name(e, i)] = float(held)
            at = (expert.memory_mb, expert.replicas)
            chosen |= {option_name(e, i, j, g): float((j, g) == at) for j in sizes for g in counts}
    return chosen


def layers_of(
    problem: DeploymentProblem, values: Mapping[str, float], methods: Sequence[Methods]
) -> tuple[LayerPlan, ...]:
    """The layers' plans that values of the decision variables are."""
    sizes, counts = problem.platform.memory_mb, range(1, problem.platform.max_replicas + 1)
    layers = []
    for e, layer in enumerate(problem.layers):
        method: Communication = "storage"
        if any(expert.tokens > 0 for expert in layer.experts):
            method = max(methods[e], key=lambda x: values.get(method_name(e, x), 0.0))
        beta = round(values.get(f"beta[{e}]", values.get("beta", 1.0)))
        experts = []
        for i, expert in enumerate(layer.experts):
            if expert.tokens > 0:
                options = [(j, g) for j in sizes for g in counts]
                j, g = max(options, key=lambda at: values.get(option_name(e, i, *at), 0.0))
                experts.append(ExpertPlan(memory_mb=j, replicas=g))
            else:
                experts.append(idle_expert(problem, e, i))
        layers.append(
            LayerPlan(
                communication=method,
                minibatch_tokens=beta if method == "pipelined" else None,
                experts=tuple(experts),
            )
        )
    return tuple(layers)
