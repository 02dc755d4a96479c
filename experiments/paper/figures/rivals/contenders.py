"""Who is compared: every solver and rival by name, on the same problem; and what their plans come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from experiments.run.whole_model import DEARER
from experiments.tools.shapes import LANES, WHOLE
from optimizer.baselines.shapes import whole_model
from optimizer.evaluation import evaluate
from optimizer.grouped import GroupedPlan, RemoePlan, plan_groups, realise_remoe, remoe
from optimizer.grouped import blocks as blocks_of_experts
from optimizer.realised import Realised, realise
from optimizer.solvers import solve
from optimizer.staged_evaluation import evaluate_staged, with_staged_evaluation
from simulator.plan import DeploymentPlan, DeploymentProblem, Violation
from simulator.staged_plan import AnyPlan, StagedPlan
from simulator.stages import Blocks

GROUP = 2
LAMBDAML = (3008, 3072, 10240)
"""Largest memory sizes of LambdaML's rule, MB."""


@dataclass(frozen=True)
class Whole:
    """The model that is not cut: the problem with its blocks, and the plan, whose bill has attention and gates."""

    problem: DeploymentProblem
    plan: StagedPlan


Answer: TypeAlias = DeploymentPlan | GroupedPlan | RemoePlan | Whole
Rival: TypeAlias = Callable[[DeploymentProblem], Answer]


def rivals(
    problem: DeploymentProblem, blocks: Blocks, history: np.ndarray | None = None, seed: int = 0
) -> dict[str, Rival]:
    """Every rival by name, in the order of tables; LambdaML with each maximum that this problem can tell.

    Args:
        problem: its memory sizes count. blocks: of the model that is not cut.
        history: popularity of the last period, (layers, experts), for `reactive`; None: nothing was served yet.
        seed: of `random`.
    """
    largest = {
        max((m for m in problem.platform.memory_mb if m <= most), default=0): most for most in LAMBDAML[::-1]
    }
    by_name: dict[str, Rival] = {
        name: partial(solve, solver=name)
        for name in ("exact", "ods", "best-uniform", "replicas-only", "memory-only", "best-memory")
    }
    by_name["reactive"] = partial(solve, solver="reactive", history=history)
    by_name["best-uniform, known"] = partial(solve, solver="best-uniform", popularity="known")
    by_name |= {
        f"lambdaml {m}": partial(solve, solver="lambdaml", max_memory_mb=m) for m in sorted(largest.values())
    }
    by_name["random"] = partial(solve, solver="random", seed=seed)
    by_name[f"blocks of {GROUP}"] = partial(blocks_of_experts, size=GROUP)
    for group_by in ("index", "popularity", "load"):
        by_name[f"exact, groups of {GROUP} by {group_by}"] = partial(plan_groups, size=GROUP, group_by=group_by)
    by_name["remoe"] = remoe
    by_name[WHOLE] = partial(_whole, blocks=blocks, lanes=1)
    by_name[LANES] = partial(_whole, blocks=blocks, dearer=DEARER)
    return by_name


def _whole(problem: DeploymentProblem, blocks: Blocks, lanes: int | None = None, dearer: float = 0.0) -> Whole:
    """The whole model in one function, or in the fastest lanes that cost little more."""
    problem = problem.with_blocks(blocks).model_copy(update={"objective": "total"})
    plan = whole_model(problem, lanes, dearer).plan("whole-model")
    return Whole(problem, with_staged_evaluation(problem, plan))


def played(problem: DeploymentProblem, answer: Answer) -> tuple[DeploymentProblem, AnyPlan]:
    """The problem that an answer's plan is for, grouped, rewritten or with blocks, and the plan."""
    return (problem, answer) if isinstance(answer, DeploymentPlan) else (answer.problem, answer.plan)


def broken(problem: DeploymentProblem, plan: AnyPlan) -> tuple[Violation, ...]:
    """Constraints that a plan of either kind breaks, the problem's limit among them."""
    if isinstance(plan, StagedPlan):
        return evaluate_staged(problem, plan).violations
    return evaluate(problem, plan).violations


def bills(answer: Answer) -> tuple[float, float]:
    """Billed GB-s, and full USD, of an answer as planned; Remoe's hot experts included."""
    billed = answer.plan if isinstance(answer, GroupedPlan | Whole) else answer
    assert billed.billed_gb_s is not None
    assert billed.full_cost_usd is not None
    return billed.billed_gb_s, billed.full_cost_usd


def realised(problem: DeploymentProblem, answer: Answer, real: np.ndarray) -> Realised:
    """One batch served with an answer, by the closed form.

    Args:
        problem: what the answer was made for.
        answer: of a rival.
        real: tokens of each expert, shape (layers, experts).
    """
    if isinstance(answer, RemoePlan):
        return realise_remoe(problem, answer, real)
    if isinstance(answer, GroupedPlan):
        return realise(answer.problem, answer.plan, answer.grouping.of_tokens(real))
    if isinstance(answer, Whole):  # does the same work wherever tokens are routed
        plan = answer.plan
        assert plan.latency_s is not None
        return Realised(*bills(answer), plan.latency_s)
    return realise(problem, answer, real)
