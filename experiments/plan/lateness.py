"""`plan --late-share`: the limit less its margin, found on popularity samples, and what the plan then comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.plan.options import Planning
from experiments.tools.console import progress
from experiments.tools.known_batches import played_s
from moe.errors import InputError
from optimizer.margin import Latencies, Lateness, planning_limit
from optimizer.realised import realise
from simulator.plan import DeploymentPlan
from simulator.profiles.schema import PlatformProfile
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.replicas import whole_tokens


@dataclass(frozen=True)
class Margin:
    """What a plan is made for, so that at most a share of the samples is late.

    Attributes:
        limit_s: to be kept. planning_limit_s: to plan for. latencies_s: serves the samples with a plan.
        played: whether they are played, or served by the closed form.
    """

    limit_s: float
    planning_limit_s: float
    latencies_s: Latencies
    played: bool

    @staticmethod
    def of(planning: Planning, late_share: float, profile: PlatformProfile | None, seed: int) -> Margin:
        """Of a problem with a limit and samples. Raises InputError.

        Args:
            profile: the platform on which samples are played; None: the closed form serves them.
        """
        problem, samples = planning.problem, planning.samples
        if problem.latency_limit_s is None or samples is None:
            missing = "--latency-limit" if samples is not None else "--set samples=FILE (smoe samples --held-out)"
            raise InputError(f"--late-share: expected together with {missing}")
        whole = [np.array([whole_tokens(layer) for layer in sample]) for sample in samples]

        def latencies_s(plan: DeploymentPlan, first: int | None = None) -> np.ndarray:
            if profile is None:
                return np.array([realise(problem, plan, tokens).latency_s for tokens in samples[:first]])
            with progress("playing a plan for its margin", "batches") as update:
                return played_s(problem, plan, profile, JUST_IN_TIME, whole[:first], seed, update)

        planned_s = planning_limit(problem, late_share, latencies_s).limit_s
        assert planned_s is not None
        return Margin(problem.latency_limit_s, planned_s, latencies_s, profile is not None)

    def of_plan(self, plan: DeploymentPlan) -> Lateness:
        """The plan's share of samples over the limit."""
        found = Lateness.of(self.latencies_s(plan, None), self.limit_s)
        assert found is not None
        return found

    def as_json(self, plan: DeploymentPlan) -> dict[str, Any]:
        """What `--json` adds to the plan."""
        late = self.of_plan(plan)
        return {
            "planning_limit_s": self.planning_limit_s,
            "late_share": late.share,
            "late_share_low": late.low,
            "late_share_high": late.high,
        }

    def shown(self, plan: DeploymentPlan) -> str:
        """A line for a person."""
        late, how = self.of_plan(plan), "played" if self.played else "by the closed form"
        return (
            f"planned for {self.planning_limit_s:.4g} s: {late.share:.1%} of the samples, {how}, are later than "
            f"{self.limit_s:.4g} s (95% interval {late.low:.1%} to {late.high:.1%})"
        )
