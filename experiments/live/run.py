"""`smoe validate`: from a profile to files that say how far the simulation is from the real thing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

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
from simulator.profile import PlatformProfile

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
    say: Say = print,
) -> Validation:
    """Export a model, calibrate, serve and simulate plans, compare.

    Args:
        backend: `local` or `aws`. profile: of the platform; where it is to be measured, what else holds.
        measure: whether the platform's constants are measured here, on plans that are not validated.
        plan_path: one plan of the user's, for this model, instead of the list.
        role: on AWS, that functions run as.
        say: told what is going on.

    Raises:
        InputError: bad input; the platform refuses a function; a calibrating batch fails.
    """
    began, local = time.monotonic(), backend == "local"
    if not local or not measure:
        settings = replace(settings, mb_per_core=profile.compute.mb_per_vcpu.median)
    say("exporting the model")
    model, loads = _model_and_text(settings, seed)
    given = _given(plan_path)
    with live_model(backend, settings, model, profile, role) as live:
        session = Session(
            live, settings, loads_of(model, loads, settings.loads), profile, measure, local, say, seed
        )
        if given is not None:
            check_plan_fits(session.guess(), given)
        session.calibrate()
        plans = session.plans(given)
        served = session.validate(plans)
        faults = provoke_faults(session) if given is None else []
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
        about = {"plan": x.name, "load": x.load}
        tables += [table_of(batch.rows, about | {"live": True}) for batch in x.batches]
        tables.append(x.simulated.to_pandas().assign(**about, live=False))
    return pd.concat(tables, ignore_index=True)
