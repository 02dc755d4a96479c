"""`smoe validate`: from a profile to files that say how far the simulation is from the real thing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.measured.live_model import CalibratingRow
from experiments.live.compare import Comparison, Ranking, compare, rank
from experiments.live.costs import live_estimate
from experiments.live.faults import Fault, provoke_faults
from experiments.live.platform import LivePlatform, live_model
from experiments.live.problem import Load, guessed_problem, loads_of
from experiments.live.session import Say, Served, Session
from experiments.live.settings import LiveSettings
from lambda_probe.campaign.costs import Estimate
from lambda_probe.live.rows import table_of
from moe.files import read_model
from moe.pretrained.export import ExportedModel, export
from moe.pretrained.models import load_model
from moe.text.corpora import load_corpus, tokens_of
from simulator.plan import DeploymentPlan, check_plan_fits
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import with_constant

RANKED = ("cost_usd", "full_usd", "total_usd", "latency_s")
GATE_SAMPLE = 16  # sequences


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
        check_plan_fits(guessed_problem(model, loads[max(loads)].routing, profile, settings), given)
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
    model = export(loaded, settings.gates, settings.layers, settings.sequence_tokens, sample, settings.noise)
    return model, sequences


def record_table(served: Sequence[Served]) -> pd.DataFrame:
    """Every call, live and simulated, in the record table's columns; `plan`, `load`, `live` say whose."""
    tables = []
    for x in served:
        about = {"plan": x.live.name, "load": x.live.load}
        tables += [table_of(batch.rows, about | {"live": True}) for batch in x.live.batches]
        tables.append(x.simulated.to_pandas().assign(**about, live=False))
    return pd.concat(tables, ignore_index=True)


def kept_table(session: Session) -> pd.DataFrame:
    """Every call of every batch that was served, calibrating ones too; `plan`, `load` say of which."""
    tables = [table_of(rows, {"plan": plan, "load": load, "live": True}) for plan, load, rows in session.kept]
    return pd.concat(tables, ignore_index=True)


def calibrating_table(rows: Sequence[CalibratingRow]) -> pd.DataFrame:
    """The calls that constants were fitted to; `communication`, `load`, `parameter_bytes` say of what."""
    table = table_of([x.row for x in rows], {})
    for name, column in (("communication", "communication"), ("batch_tokens", "load"), ("parameter_bytes",) * 2):
        table[column] = [getattr(x, name) for x in rows]
    return table
