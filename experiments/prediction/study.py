"""How good predictors are on recorded traces, over models, gates, experts, texts and skew; and the regret."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.prediction.judge import Judged, Profile, Served, fit_all
from moe.pretrained.settings import GateKind, Progress
from moe.spec import load_spec
from moe.trace import RoutingTrace
from optimizer.exact import least_latency_s
from optimizer.popularity import ProfileTable, skew
from optimizer.problem import make_problem
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import load_profile

if TYPE_CHECKING:
    import pandas as pd

CORPORA = ("wikipedia", "news", "python-docs")
SERVED_TOKENS = 10_240
LAYERS: dict[str, tuple[int, ...]] = {"minilm": (0, 1, 2, 3, 4, 5), "smollm2": (0, 6, 12, 17, 23, 29)}
"""Recorded layers that are predicted: all of MiniLM's, six of SmolLM2's thirty."""


@dataclass(frozen=True)
class Study:
    """What is recorded: profiled on the first tokens of one text, tested on the last 10,240 of each."""

    models: tuple[str, ...] = ("minilm", "smollm2")
    corpora: tuple[str, ...] = CORPORA
    gates: tuple[GateKind, ...] = ("random", "standardised")
    experts: tuple[int, ...] = (4, 8, 16)
    top_k: tuple[int, ...] = (1, 2)
    seeds: tuple[int, ...] = (0, 1, 2)
    profiled_tokens: int = 20_480
    served_tokens: int = SERVED_TOKENS
    regret_model: str = "minilm-moe"
    regret_experts: tuple[int, ...] = (4, 8)
    regret_slack: float = 1.2


@dataclass(frozen=True)
class Case:
    """One model with one set of gates."""

    model: str
    gate: GateKind
    experts: int
    top_k: int
    seed: int


def cases(study: Study) -> list[Case]:
    """All models with all gates."""
    chosen = itertools.product(study.models, study.gates, study.experts, study.top_k, study.seeds)
    return [Case(*x) for x in chosen]


def traces(study: Study, of: list[Case], corpus: str) -> list[RoutingTrace]:
    """Traces of cases of one model on one corpus, all layers: from the cache folder, else recorded in one pass."""
    from moe.routing.record import RecordingSettings, cached_records

    tokens = study.profiled_tokens + study.served_tokens
    settings = [
        RecordingSettings(
            model=case.model,
            corpus=corpus,
            tokens=tokens,
            gate=case.gate,
            gate_seed=case.seed,
            experts=case.experts,
            top_k=case.top_k,
        )
        for case in of
    ]
    return [recording.trace for recording in cached_records(settings)]


def measured(study: Study, progress: Progress | None = None) -> pd.DataFrame:
    """A row for each case, profiled and served corpus, predictor and layer.

    Columns: those of Case, `profiled`, `served`, `same` (one corpus), `predictor`, `layer`, `skew` of its real
    popularity, `tokens` and `share` of the layer's error; of the whole model `regret`, `overrun` (latency over its
    limit, minus 1; 0 in time) and `failed`, NaN where they were not asked for.
    """
    import pandas as pd

    every = cases(study)
    for model, corpus in itertools.product(study.models, study.corpora):
        traces(study, [case for case in every if case.model == model], corpus)
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for done, case in enumerate(every):
        rows += _of_case(study, case)
        if progress is not None:
            progress(done + 1, len(every), (done + 1) / (time.perf_counter() - began))
    return pd.DataFrame(rows)


def _of_case(study: Study, case: Case) -> Iterator[dict[str, Any]]:
    recorded = {
        corpus: traces(study, [case], corpus)[0].with_layers(list(LAYERS[case.model])) for corpus in study.corpora
    }
    held_out = {}
    for corpus, trace in recorded.items():
        last = trace.slice(study.profiled_tokens, trace.tokens)
        held_out[corpus] = Served.of(last, _problem(study, case, last))
    for profiled, trace in recorded.items():
        part = trace.slice(0, study.profiled_tokens)
        profile = Profile(ProfileTable.from_trace(part), part)
        for fitted, (corpus, served) in itertools.product(fit_all(profile, {}), held_out.items()):
            about = asdict(case) | {"profiled": profiled, "served": corpus, "same": profiled == corpus}
            yield from (about | row for row in _rows(fitted.judge(served), served))


def _rows(judged: Judged, served: Served) -> Iterator[dict[str, Any]]:
    """A row for each layer."""
    real, found = served.trace.popularity(), judged.regret
    of_model = {"predictor": judged.name, "regret": np.nan, "overrun": np.nan, "failed": np.nan}
    if found is not None:
        of_model["failed"] = found.made is None
    if found is not None and found.made is not None and served.problem is not None:
        limit = served.problem.latency_limit_s or np.inf
        of_model |= {"regret": found.share, "overrun": max(0.0, found.made.latency_s / limit - 1)}
    off, hottest, mean = np.abs(judged.popularity - real).mean(axis=1), skew(real), real.mean(axis=1)
    for e in range(len(off)):
        yield of_model | {"layer": e, "skew": hottest[e], "tokens": off[e], "share": off[e] / mean[e]}


def _problem(study: Study, case: Case, served: RoutingTrace) -> DeploymentProblem | None:
    """The deployment problem of the served tokens, under a limit that binds; None for cases without a regret."""
    if (case.model, case.top_k) != ("minilm", 1) or case.experts not in study.regret_experts:
        return None
    spec = load_spec(study.regret_model, experts=case.experts, top_k=case.top_k)
    problem = make_problem(spec, served.popularity(), load_profile())
    return problem.with_limit(study.regret_slack * least_latency_s(problem))
