"""`smoe validate`: from a profile to files that say how far the simulation is from the real thing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.live.compare import Comparison, Ranking, compare, median_error, middle, rank
from experiments.live.costs import live_estimate
from experiments.live.faults import Fault, provoke_faults
from experiments.live.platform import LivePlatform, live_model
from experiments.live.problem import Load, guessed_problem, loads_of
from experiments.live.session import Say, Served, Session
from experiments.live.settings import LiveSettings
from lambda_probe.campaign.costs import Estimate
from moe.files import read_model
from moe.pretrained.export import ExportedModel, export
from moe.pretrained.models import load_model
from moe.routing.record import LEARNT_TOKENS, gate_sample
from moe.text.corpora import GATE_TEXT, load_corpus, tokens_of
from simulator.plan import DeploymentPlan, check_plan_fits
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import with_constant
from simulator.serving.settled import served_so

RANKED = ("cost_usd", "full_usd", "total_usd", "latency_s")
GATE_SAMPLE = 16  # sequences
COST_GOAL, LATENCY_GOAL = 0.10, 0.15
"""What the median errors may be."""


@dataclass(frozen=True)
class Validation:
    """What a live validation found; `session` has the fits, `served` the rows."""

    settings: LiveSettings
    backend: str
    session: Session
    served: tuple[Served, ...]
    comparisons: tuple[Comparison, ...]
    rankings: tuple[Ranking, ...]
    faults: tuple[Fault, ...]
    seconds: float

    def missed(self) -> list[str]:
        """In words, each goal that is missed; none of them when the validation is passed."""
        total, found = self.summary(), []
        if not total["outputs_right"]:
            found.append("outputs differ from the undistributed model's")
        for name, goal in (("cost", COST_GOAL), ("latency", LATENCY_GOAL)):
            if not total[f"{name}_error"] <= goal:  # also where nothing could be compared
                found.append(f"median error of the {name} {total[f'{name}_error']:.1%}, over {goal:.0%}")
        return found

    def summary(self) -> dict[str, Any]:
        """What the whole comes to; plans that ask for more cores than there are, and failed ones, are left out."""
        fair = [x for x in self.comparisons if not x.oversubscribed and not x.failed]
        return {
            "plans": len({x.plan for x in self.comparisons}),
            "batches": sum(len(x.live.batches) for x in self.served),
            "outputs_right": all(x.correct for x in self.comparisons if not x.failed),
            "cost_error": median_error(x.cost_usd for x in fair),
            "full_error": median_error(x.full_usd for x in fair),
            "total_error": median_error(x.total_usd for x in fair),
            "latency_error": median_error(x.latency_s for x in fair),
            "worst_cost_error": max((abs(x.cost_usd.error) for x in fair), default=math.nan),
            "worst_latency_error": max((abs(x.latency_s.error) for x in fair), default=math.nan),
            "cost_spread": middle(x.cost_usd.spread for x in fair),
            "latency_spread": middle(x.latency_s.spread for x in fair),
            "calls_error": middle(x.calls_error for x in fair),
            "drift": self.session.drift,
            "contention": middle(x.contention for x in fair),
            "others_busy_cores": middle(x.busy_cores for x in self.comparisons),
        }


@dataclass(frozen=True)
class Prepared:
    """All that is served, before a platform is touched.

    Attributes:
        profile: of the platform. model, loads: what is served. given: one plan of the user's, or None.
    """

    settings: LiveSettings
    profile: PlatformProfile
    model: ExportedModel
    loads: dict[int, Load]
    given: DeploymentPlan | None

    def estimate(self) -> Estimate:
        """What serving it comes to."""
        return live_estimate(self.model, self.loads, self.settings, self.profile, self.given)


def prepare(
    settings: LiveSettings, backend: str, profile: PlatformProfile, plan_path: Path | None = None, seed: int = 0
) -> Prepared:
    """Export the model, and read what is served.

    Args:
        backend: `local` or `aws`. profile: of the platform; where it is to be measured, what else holds.
        plan_path: one plan of the user's, for this model, instead of the list. seed: of the text.

    Raises InputError.
    """
    if backend == "local":  # what the endpoint does, whatever the profile says
        vcpu = profile.compute.mb_per_vcpu
        set_here = vcpu.model_copy(update={"value": settings.mb_per_core, "source": "the endpoint's setting"})
        profile = with_constant(profile, ("compute", "mb_per_vcpu"), set_here)
    else:
        settings = replace(settings, mb_per_core=profile.compute.mb_per_vcpu.median)
    given = None if plan_path is None else read_model(DeploymentPlan, plan_path)
    model, sequences = _model_and_text(settings, seed)
    loads = loads_of(model, sequences, settings.loads)
    if given is not None:
        guessed = guessed_problem(model, loads[max(loads)].routing, profile, settings)
        check_plan_fits(guessed, given)
        served_so(guessed, given.non_moe_memory_mb, given.reload)
    return Prepared(settings, profile, model, loads, given)


def run_validation(
    prepared: Prepared,
    platform: LivePlatform,
    measure: bool,
    seed: int = 0,
    budget_usd: float = math.inf,
    say: Say = print,
    keep: Callable[[Session], None] = lambda session: None,
) -> Validation:
    """Calibrate, serve and simulate plans, compare.

    Args:
        measure: whether the platform's constants are measured here, on plans that are not validated.
        seed: of the simulation. budget_usd: nothing is called once so much was billed, at the profile's prices.
        say: told what is going on. keep: given all that was served, after each batch.

    Raises:
        InputError: the platform refuses a function.
        PlatformError: a calibrating batch fails, or the budget is used up.
    """
    began, settings, given = time.monotonic(), prepared.settings, prepared.given
    local = platform.backend == "local"
    with live_model(platform, settings, prepared.model, prepared.profile) as live:
        session = Session(
            live, settings, prepared.loads, prepared.profile, measure, local, say, seed, budget_usd, keep
        )
        session.calibrate()
        live_batches = session.serve(session.plans(given))
        faults = provoke_faults(session) if given is None else []
        session.calibrate()
    served = [session.simulate(x) for x in live_batches]
    comparisons = tuple(compare(x, settings.tolerance, settings.cores) for x in served)
    rankings = tuple(ranking for quantity in RANKED for ranking in rank(comparisons, quantity))
    seconds = time.monotonic() - began
    return Validation(
        settings, platform.backend, session, tuple(served), comparisons, rankings, tuple(faults), seconds
    )


def _model_and_text(settings: LiveSettings, seed: int) -> tuple[ExportedModel, np.ndarray]:
    loaded = load_model(settings.model)
    tokens = max(settings.loads) * settings.sequence_tokens
    sequences = tokens_of(load_corpus(settings.corpus), loaded.tokenizer, tokens, settings.sequence_tokens, seed)
    sample = sequences[:GATE_SAMPLE]
    if settings.gates.gate == "trained":
        sample = gate_sample(loaded, GATE_TEXT, LEARNT_TOKENS)
    model = export(loaded, settings.gates, settings.layers, settings.sequence_tokens, sample, settings.noise)
    return model, sequences
