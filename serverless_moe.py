"""The door for Python: a model's sizes, expert popularity, a deployment problem, plans, and what they bill.

    import serverless_moe as smoe

A name is imported when it is first used, so this costs nothing by itself. docs/api.md goes through all of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.campaigns import calibrate_campaigns as calibrate
    from moe.errors import InputError
    from moe.routing.foreign import import_trace as read_trace
    from moe.spec import load_spec
    from optimizer import Infeasible, evaluate, front
    from optimizer.popularity import predict
    from optimizer.problem import make_problem
    from optimizer.solvers import solve_any as plan
    from simulator import load_profile, read_plan, read_problem, simulate
    from simulator.serving.layer import Serving

__all__ = [
    "Infeasible",
    "InputError",
    "Serving",
    "calibrate",
    "evaluate",
    "front",
    "load_profile",
    "load_spec",
    "make_problem",
    "plan",
    "predict",
    "read_plan",
    "read_problem",
    "read_trace",
    "simulate",
]

_FROM = {
    "Infeasible": "optimizer:Infeasible",
    "InputError": "moe.errors:InputError",
    "Serving": "simulator.serving.layer:Serving",
    "calibrate": "calibration.campaigns:calibrate_campaigns",
    "evaluate": "optimizer:evaluate",
    "front": "optimizer:front",
    "load_profile": "simulator:load_profile",
    "load_spec": "moe.spec:load_spec",
    "make_problem": "optimizer.problem:make_problem",
    "plan": "optimizer.solvers:solve_any",
    "predict": "optimizer.popularity:predict",
    "read_plan": "simulator:read_plan",
    "read_problem": "simulator:read_problem",
    "read_trace": "moe.routing.foreign:import_trace",
    "simulate": "simulator:simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        from moe.errors import nearest

        raise AttributeError(f"serverless_moe has no '{name}'{nearest(name, __all__)}", name=name)
    module, _, found = _FROM[name].partition(":")
    return getattr(import_module(module), found)


def __dir__() -> list[str]:
    return sorted(__all__)
