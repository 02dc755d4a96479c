"""`smoe validate`: from a profile to files that say how far the simulation is from the real thing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.live_model import CalibratingRow
from experiments.live.compare import Comparison, Ranking, compare, rank
from experiments.live.faults import Fault, provoke_faults
from experiments.live.platform import live_model
from experiments.live.session import Say, Served, Session, loads_of
from experiments.live.settings import LiveSettings
from lambda_probe.live_rows import table_of
from moe.corpora import load_corpus, tokens_of
from moe.export import ExportedModel, export
from moe.files import read_model
from moe.models import load_model
from simulator.plan import DeploymentPlan, check_plan_fits
from simulator.profile import PlatformProfile, with_constant

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


def run_validation(
    settings: LiveSettings,
    backend: str,
    profile: PlatformProfile,
    measure: bool,
    plan_path: Path | None = None,
    role: str | None = None,
    seed: int = 0,
    budget_usd: float = math.inf,
    say: Say = print,
) -> Validation:
    """Export a model, calibrate, serve and simulate plans, compare.

    Args:
        backend: `local` or `aws`. profile: of the platform; where it is to be measured, what else holds.
        measure: whether the platform's constants are measured here, on plans that are not validated.
        plan_path: one plan of the user's, for this model, instead of the list.
        role: on AWS, that functions run as.
        budget_usd: no batch is served once more was billed, at the profile's prices.
        say: told what is going on.

    Raises:
        InputError: bad input; the platform refuses a function; a calibrating batch fails.
    """
    began, local = time.monotonic(), backend == "local"
    if local:  # what the endpoint does, whatever the profile says
        vcpu = profile.compute.mb_per_vcpu
        set_here = vcpu.model_copy(update={"value": settings.mb_per_core, "source": "the endpoint's setting"})
        profile = with_constant(profile, ("compute", "mb_per_vcpu"), set_here)
    else:
        settings = replace(settings, mb_per_core=profile.compute.mb_per_vcpu.median)
    say("exporting the model")
    model, sequences = _model_and_text(settings, seed)
    given = _given(plan_path)
    with live_model(backend, settings, model, profile, role) as live:
        served_loads = loads_of(model, sequences, settings.loads)
        session = Session(live, settings, served_loads, profile, measure, local, say, seed, budget_usd)
        if given is not None:
            check_plan_fits(session.guess(), given)
        session.calibrate()
        plans = session.plans(given)
        live_batches = session.serve(plans)
        faults = provoke_faults(session) if given is None else []
        session.calibrate()
        served = [session.simulate(x) for x in live_batches]
    comparisons = tuple(compare(x, settings.tolerance, settings.cores) for x in served)
    rankings = tuple(ranking for quantity in RANKED for ranking in rank(comparisons, quantity))
    seconds = time.monotonic() - began
    return Validation(settings, backend, session, tuple(served), comparisons, rankings, tuple(faults), seconds)


def _model_and_text(settings: LiveSettings, seed: int) -> tuple[ExportedModel, np.ndarray]:
    loaded = load_model(settings.model)
    tokens = max(settings.loads) * settings.sequence_tokens
    sequences = tokens_of(load_corpus(settings.corpus), loaded.tokenizer, tokens, settings.sequence_tokens, seed)
    sample = sequences[:GATE_SAMPLE]
    model = export(loaded, settings.gates, settings.layers, settings.sequence_tokens, sample, settings.noise)
    return model, sequences


def _given(path: Path | None) -> DeploymentPlan | None:
    return None if path is None else read_model(DeploymentPlan, path)


def record_table(served: Sequence[Served]) -> pd.DataFrame:
    """Every call, live and simulated, in the record table's columns; `plan`, `load`, `live` say whose."""
    tables = []
    for x in served:
        about = {"plan": x.live.name, "load": x.live.load}
        tables += [table_of(batch.rows, about | {"live": True}) for batch in x.live.batches]
        tables.append(x.simulated.to_pandas().assign(**about, live=False))
    return pd.concat(tables, ignore_index=True)


def calibrating_table(rows: Sequence[CalibratingRow]) -> pd.DataFrame:
    """The calls that constants were fitted to; `communication`, `load`, `parameter_bytes` say of what."""
    table = table_of([x.row for x in rows], {})
    for name, column in (("communication", "communication"), ("batch_tokens", "load"), ("parameter_bytes",) * 2):
        table[column] = [getattr(x, name) for x in rows]
    return table
