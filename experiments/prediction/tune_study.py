"""Does Bayesian optimisation of the profile table help? Every sampler, over drift and seeds, on unseen batches.

A Bert MoE of 12 x 4 whose routing is recorded on the packaged encoder: profiled on one corpus, served with batches
of which a share (the drift) is of another. Batches are bootstrap samples of held-out sequences; those tuned on and
those judged on share no sequence. Every run of every sampler is a row of runs.csv.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from experiments.prediction.tune import alg2_settings
from experiments.tools.provenance import write_provenance
from moe.files import write_whole
from moe.spec import load_spec
from moe.statistics import ratio_of_sums
from moe.trace import RoutingTrace
from optimizer.bo import (
    SAMPLERS,
    Alg2,
    Batches,
    Budget,
    Judge,
    KeyRange,
    Known,
    Objective,
    Planner,
    Tuning,
    closed_form,
    sampler,
    tune,
)
from optimizer.bo.tune import converged
from optimizer.exact.solve import Infeasible
from optimizer.popularity import ProfileTable, TablePredictor, predictor
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import load_profile

PROFILED, OTHER = "wikipedia", "python-docs"
PROFILED_TOKENS, HELD_OUT_TOKENS, SEQUENCE_TOKENS = 20_480, 81_920, 128
BATCH_TOKENS, TUNED_ON, JUDGED_ON = 10_240, 2, 10
LAYERS_OF_RECORDING = [e for e in range(6) for _ in range(2)]
DRIFTS = (0.0, 0.25, 0.5, 1.0)
MEMORY_MB = (768, 1152, 1536, 1920, 2304, 2688, 3008)
"""Every second size of the paper that holds an expert, to plan in half the time."""
LIMIT_SHARE = 0.5
"""The latency limit lies so far between the least latency and LambdaML's, for the profiled popularity."""

SENSITIVITY = (
    "pairs=100", "pairs=4000", "batches=1", "batches=8", "alpha=0.01", "alpha=0.25", "epsilon_0=0.1",
    "epsilon_0=1.0", "rho=0.25", "rho=2.0", "mu=0.0", "mu=1.0", "rho_3=0.0", "by_frequency=false",
)  # fmt: skip
SENSITIVE_AT, SENSITIVITY_SEEDS = 0.5, 5


@dataclass(frozen=True)
class Unit:
    """What one process does at a time: some samplers on the same batches."""

    objective: Objective
    drift: float
    seed: int
    counting: str = "hard"
    samplers: tuple[str, ...] = tuple(SAMPLERS)
    changes: tuple[str, ...] = ("",)
    trials: int = 30


@dataclass(frozen=True)
class Run:
    """One run: scores, bills and so on of the untuned table, the tuned one and the oracle, on unseen batches, and
    scores on those tuned on (`seen_`)."""

    counting: str
    drift: float
    objective: str
    sampler: str
    change: str
    seed: int
    trials: int
    served_tokens: int
    wall_s: float
    best_trial: int
    would_stop_at: int
    seen_none: float
    seen_tuned: float
    seen_oracle: float
    none: float
    tuned: float
    oracle: float
    bill_none: float
    bill_tuned: float
    bill_oracle: float
    latency_none: float
    latency_tuned: float
    latency_oracle: float
    over_none: float
    over_tuned: float
    over_oracle: float
    error_none: float
    error_tuned: float
    cheaper_than_oracle: bool
    best_scores: str


def units(seeds: int, trials: int) -> list[Unit]:
    """The whole study: the paper's predictor under both objectives, `expected` counting, and the constants."""
    each = range(seeds)
    found = [Unit("bill+slo", drift, seed) for seed in each for drift in DRIFTS]
    some = ("none", "random", "multi-epsilon", "few", "recount")
    found += [Unit("bill", drift, seed, samplers=some) for drift in (0.0, 1.0) for seed in each]
    found += [Unit("bill+slo", drift, seed, "expected", some) for drift in (0.0, 1.0) for seed in each]
    found += [
        Unit("bill+slo", SENSITIVE_AT, seed, samplers=("multi-epsilon",), changes=SENSITIVITY)
        for seed in each[:SENSITIVITY_SEEDS]
    ]
    return [replace(unit, trials=trials) for unit in found]


@lru_cache(maxsize=1)
def recordings() -> tuple[RoutingTrace, RoutingTrace, RoutingTrace]:
    """What is profiled, what is held out of the same corpus, and the other corpus."""
    from moe.pretrained.settings import RecordingSettings
    from moe.routing.record import cached_record

    own, other = (
        cached_record(
            RecordingSettings(model="minilm", corpus=corpus, tokens=tokens, sequence_tokens=SEQUENCE_TOKENS)
        ).trace.with_layers(LAYERS_OF_RECORDING)
        for corpus, tokens in ((PROFILED, PROFILED_TOKENS + HELD_OUT_TOKENS), (OTHER, HELD_OUT_TOKENS))
    )
    return own.slice(0, PROFILED_TOKENS), own.slice(PROFILED_TOKENS, own.tokens), other


def limited_problem(profiled: RoutingTrace) -> DeploymentProblem:
    """The Bert MoE's problem under a latency limit that binds."""
    popularity = profiled.popularity() * (BATCH_TOKENS / profiled.tokens)
    spec = load_spec("bert-moe", experts=profiled.num_experts)
    problem = make_problem(spec, popularity, load_profile(), memory_mb=MEMORY_MB)
    slowest = solve(problem, "lambdaml", max_memory_mb=3008).latency_s
    try:
        solve(problem.with_limit(1e-3), "exact")
        raise AssertionError("no plan is done in a millisecond")
    except Infeasible as infeasible:
        fastest = infeasible.least_latency_s
    assert slowest is not None
    return problem.with_limit(fastest + LIMIT_SHARE * (slowest - fastest))


def bootstrap(
    own: RoutingTrace, other: RoutingTrace, drift: float, sizes: Sequence[int], rng: np.random.Generator
) -> list[Batches]:
    """Sets of so many batches each; a share `drift` of a batch's sequences is of the other trace.

    Sequences are drawn with replacement; those of one set are in no other.
    """
    per_batch = BATCH_TOKENS // SEQUENCE_TOKENS
    of_other = round(drift * per_batch)
    parts = [np.array_split(rng.permutation(x.tokens // SEQUENCE_TOKENS), len(sizes)) for x in (own, other)]
    found = []
    for k, size in enumerate(sizes):
        ids, real = [], []
        for _ in range(size):
            drawn = [
                _tokens(trace, rng.choice(part[k], count))
                for trace, part, count in zip((own, other), parts, (per_batch - of_other, of_other), strict=True)
            ]
            ids.append(np.concatenate([x.token_id for x in drawn]))
            real.append(sum(x.popularity() for x in drawn))
        found.append(Batches(tuple(ids), np.stack(real)))
    return found


def _tokens(trace: RoutingTrace, sequences: np.ndarray) -> RoutingTrace:
    at = (sequences[:, None] * SEQUENCE_TOKENS + np.arange(SEQUENCE_TOKENS)).ravel()
    return replace(
        trace,
        sequence=trace.sequence[at],
        token_id=trace.token_id[at],
        position_id=trace.position_id[at],
        attention_id=trace.attention_id[at],
        experts=trace.experts[at],
        weights=trace.weights[at],
    )


def run_unit(unit: Unit) -> list[Run]:
    """All runs of a unit."""
    profiled, own, other = recordings()
    table, problem = ProfileTable.from_trace(profiled), limited_problem(profiled)
    found = []
    for change in unit.changes:
        settings = alg2_settings([f"batches={TUNED_ON}", f"patience={unit.trials}", *([change] if change else [])])
        rng = np.random.default_rng([unit.seed, int(100 * unit.drift)])
        seen, unseen = bootstrap(own, other, unit.drift, (settings.batches, JUDGED_ON), rng)
        table_predictor = predictor("bayes", counting=unit.counting)
        assert isinstance(table_predictor, TablePredictor)
        planner = Planner(problem, table, table_predictor)
        known = Known(planner, KeyRange.of(table, seen, settings.by_frequency), seen)
        judges = [Judge(planner, x, closed_form(), unit.objective, settings) for x in (seen, unseen)]
        found += [_run(unit, change, name, known, *judges) for name in unit.samplers]
    return found


def _run(unit: Unit, change: str, name: str, known: Known, seen: Judge, unseen: Judge) -> Run:
    result = tune(seen, sampler(name, known, seen.settings, unit.seed), name, Budget(unit.trials))
    none, tuned = (unseen(x)[0] for x in (Tuning(), result.tuning))
    rows, rule = result.rows, Alg2()
    stops = (k for k in range(1, len(rows) + 1) if converged(rows[:k], rule))
    return Run(
        counting=unit.counting,
        drift=unit.drift,
        objective=seen.objective,
        sampler=name,
        change=change,
        seed=unit.seed,
        trials=len(rows),
        served_tokens=rows[-1].served_tokens,
        wall_s=round(sum(row.wall_s for row in rows), 2),
        best_trial=result.best,
        would_stop_at=next(stops, len(rows)),
        seen_none=rows[0].score,
        seen_tuned=rows[result.best].score,
        seen_oracle=seen.oracle.score,
        none=none.score,
        tuned=tuned.score,
        oracle=unseen.oracle.score,
        bill_none=none.cost,
        bill_tuned=tuned.cost,
        bill_oracle=unseen.oracle.cost,
        latency_none=none.latency_s,
        latency_tuned=tuned.latency_s,
        latency_oracle=unseen.oracle.latency_s,
        over_none=none.over_limit,
        over_tuned=tuned.over_limit,
        over_oracle=unseen.oracle.over_limit,
        error_none=none.prediction_error_tokens,
        error_tuned=tuned.prediction_error_tokens,
        cheaper_than_oracle=tuned.cheaper_than_oracle,
        best_scores=" ".join(f"{row.best_score:.6g}" for row in rows),
    )


def run_study(
    out: Path,
    seeds: int = 10,
    trials: int = 30,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Run what is not in `out`/runs.csv yet, and summarise it in summary.csv; returns the summary.

    Args:
        out: the folder.
        seeds, trials: of each sampler and drift.
        workers: processes.
        progress: called with units done and in all.
    """
    import pandas as pd

    path = out / "runs.csv"
    runs = pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame(columns=_columns())
    there = set(zip(*(runs[name] for name in ("objective", "drift", "seed", "counting", "change")), strict=True))
    every = units(seeds, trials)
    todo = [x for x in every if (x.objective, x.drift, x.seed, x.counting, x.changes[0]) not in there]
    with ProcessPoolExecutor(workers) as pool:
        for k, done in enumerate(as_completed([pool.submit(run_unit, unit) for unit in todo])):
            new = pd.DataFrame([asdict(run) for run in done.result()])
            runs = pd.concat([runs, new], ignore_index=True) if len(runs) else new
            runs = runs.sort_values(["counting", "change", "objective", "drift", "seed"], kind="stable")
            write_whole(path, runs.to_csv(index=False, float_format="%.6g"))
            if progress is not None:
                progress(len(every) - len(todo) + k + 1, len(every))
    runs = pd.read_csv(path, keep_default_na=False)
    found = summary(runs)
    write_whole(out / "summary.csv", found.to_csv(index=False, float_format="%.4g"))
    write_provenance(out, seeds=list(range(seeds)), trials=trials)
    return found


def _columns() -> list[str]:
    return [field.name for field in fields(Run)]


GROUP = ["counting", "objective", "drift", "sampler", "change"]


def summary(runs: Any) -> Any:
    """Of each sampler, drift, objective: means over seeds, and the gap closed with its 95% interval.

    `gap_closed` = sum of (none - tuned) / sum of (none - oracle) over seeds, on unseen batches; its interval is
    the percentile bootstrap over seeds. It is left out where the oracle is not better than none in that interval.
    """
    import pandas as pd

    found = []
    for key, group in runs.groupby(GROUP, sort=False):
        gap, low, high = ratio_of_sums(group["none"] - group["tuned"], group["none"] - group["oracle"])
        seen, _, _ = ratio_of_sums(
            group["seen_none"] - group["seen_tuned"], group["seen_none"] - group["seen_oracle"]
        )
        means = {
            name: group[name].mean()
            for name in _columns()
            if name not in (*GROUP, "seed", "best_scores", "cheaper_than_oracle")
        }
        found.append(
            dict(zip(GROUP, key, strict=True))
            | {
                "seeds": len(group),
                "gap_closed": gap,
                "low": low,
                "high": high,
                "gap_closed_seen": seen,
                "better_than_none": int((group["tuned"] < group["none"]).sum()),
                "cheaper_than_oracle": int(group["cheaper_than_oracle"].astype(bool).sum()),
            }
            | means
        )
    return pd.DataFrame(found)
