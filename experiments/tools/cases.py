"""Problems and plans that benchmarks and validation share."""

from __future__ import annotations

import numpy as np

from moe.routing.synthetic import zipf_shares
from moe.spec import load_spec
from optimizer.problem import make_problem
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.profiles.schema import load_profile


def bert_problem(layers: int, experts: int, tokens: int) -> DeploymentProblem:
    """A Bert MoE of any depth and width whose experts' popularity falls like 1/rank."""
    spec = load_spec("bert-moe", experts=experts).model_copy(update={"moe_layers": layers})
    return make_problem(spec, np.tile(tokens * zipf_shares(experts, 1.0), (layers, 1)), load_profile())


def uniform_plan(
    problem: DeploymentProblem, method: Communication, beta: int | None, replicas: int = 2
) -> DeploymentPlan:
    """3008 MB and the same replicas for every expert."""
    experts = (ExpertPlan(memory_mb=3008, replicas=replicas),) * len(problem.layers[0].experts)
    layer = LayerPlan(communication=method, minibatch_tokens=beta, experts=experts)
    return DeploymentPlan(solver="uniform", layers=(layer,) * len(problem.layers))
