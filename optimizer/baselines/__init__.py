"""What others deploy: the paper's baselines, and solvers that leave a decision out."""

from optimizer.baselines.one_decision_less import best_memory, memory_only, one_replica, reactive, reactive_plans
from optimizer.baselines.paper import best_uniform, kinds_broken, lambdaml, random_methods
from optimizer.baselines.replicas_only import replicas_only

__all__ = [
    "best_memory",
    "best_uniform",
    "kinds_broken",
    "lambdaml",
    "memory_only",
    "one_replica",
    "random_methods",
    "reactive",
    "reactive_plans",
    "replicas_only",
]
