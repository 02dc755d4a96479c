"""Bayesian optimisation of the profile table (Alg. 2), its rivals, and better uses of the same trials.

- `sampler(name, known, settings, seed)`: what to try; all samplers behind one interface.
- `Judge(planner, batches, evaluate, objective, settings)`: what a tuning comes to on batches.
- `tune(judge, sampler, name, budget)`: the loop.

Source: Liu, Wang, Wu, INFOCOM 2025, Alg. 2; what it finds, and whether it helps: docs/planning.md.
"""

from moe.errors import InputError, nearest, shortened
from moe.trace import Batches
from optimizer.bo.alg2 import Alg2
from optimizer.bo.greedy import MultiEpsilon, NoTuning, RandomPairs, SingleEpsilon
from optimizer.bo.judge import OBJECTIVES, Judge, Judged, Objective
from optimizer.bo.modelled import FewNumbers, GpEi, Recount, Tpe
from optimizer.bo.planner import Planner
from optimizer.bo.sampler import Known, Sampler
from optimizer.bo.space import KeyRange, Tuning
from optimizer.bo.tune import Budget, Tuned, tune
from optimizer.realised import Evaluate, Realised, closed_form

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "Alg2",
    "Batches",
    "Budget",
    "Evaluate",
    "Judge",
    "Judged",
    "KeyRange",
    "Known",
    "Objective",
    "Planner",
    "Realised",
    "Sampler",
    "Tuned",
    "Tuning",
    "closed_form",
    "sampler",
    "tune",
]

SAMPLERS: dict[str, type[Sampler]] = {
    "none": NoTuning,
    "random": RandomPairs,
    "single-epsilon": SingleEpsilon,
    "tpe": Tpe,
    "gp-ei": GpEi,
    "multi-epsilon": MultiEpsilon,
    "few": FewNumbers,
    "recount": Recount,
}
"""By name: the paper's `multi-epsilon`, its rivals, and two that tune a few numbers instead of Q pairs."""


def sampler(name: str, known: Known, settings: Alg2, seed: int) -> Sampler:
    """The sampler of that name. Raises InputError for an unknown one."""
    if name not in SAMPLERS:
        raise InputError(f"sampler: no sampler {shortened(name)}{nearest(name, SAMPLERS)}")
    return SAMPLERS[name](known, settings, seed)
