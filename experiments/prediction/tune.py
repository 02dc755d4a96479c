"""Tune a profile table on a user's files: load them, run a sampler, judge what it found on unseen batches."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from moe.errors import InputError
from moe.files import FileModel, write_json, write_whole
from moe.statistics import estimate
from moe.trace import RoutingTrace
from optimizer.bo import (
    Alg2,
    Batches,
    Budget,
    Evaluate,
    Judge,
    Judged,
    KeyRange,
    Known,
    Objective,
    Planner,
    Realised,
    Tuned,
    Tuning,
    closed_form,
    sampler,
    tune,
)
from optimizer.bo.history import Row, load_history, save_history
from optimizer.popularity import ProfileTable, TablePredictor, options_of, predictor, save_table
from optimizer.popularity.table_file import load_layers, load_profile_table
from optimizer.realised import BilledOverflow
from simulator.plan import OBJECTIVE_UNIT, DeploymentPlan, DeploymentProblem, read_problem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.serving.layer import AS_PAPER
from simulator.serving.simulate import simulate


class TuneSettings(FileModel):
    """The settings of `smoe tune`, beside the constants of Alg. 2."""

    test: Path | None = Field(
        None, description="trace to judge on; none: the second half of --serve, never tuned on"
    )
    layers: tuple[int, ...] | None = Field(
        None, description="recorded layer that stands for each of the problem's, such as [0, 0, 1]"
    )
    served_tokens: int | None = Field(None, ge=1, description="budget of tokens that trials serve")
    wall_s: float | None = Field(None, ge=0, description="budget of seconds")
    objective: Objective = Field("bill+slo", description="what is tuned for")
    evaluate: Literal["closed-form", "simulator"] = Field("closed-form", description="how a plan is judged")
    profile: str | None = Field(None, description="of the simulator: platform profile; none: the ideal platform")
    overflow: BilledOverflow = Field("foreseen", description="a replica that meets more tokens than fit")
    predictor: str = Field("bayes", description="bayes or lina")
    variant: str = Field("printed", description="of bayes: printed, mixture, backoff")
    counting: Literal["hard", "expected"] = Field("hard", description="count argmaxes, or the posteriors")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.profile is not None and self.evaluate != "simulator":
            raise ValueError("profile: expected evaluate=simulator with it")
        return self


@dataclass(frozen=True)
class TuneOptions:
    """What `smoe tune` is asked for; paths are files, the rest as its help says."""

    problem: Path
    profiled: Path
    serve: Path
    sampler: str = "multi-epsilon"
    trials: int = 30
    settings: TuneSettings = field(default_factory=TuneSettings)
    alg2: Alg2 = field(default_factory=Alg2)
    seed: int = 0


def simulated(profile: PlatformProfile | None, overflow: BilledOverflow, seed: int) -> Evaluate:
    """Serving by the simulator: on a profile's platform, or without one on the ideal platform."""

    serving = AS_PAPER.model_copy(update={"overflow": overflow})

    def evaluate(problem: DeploymentProblem, plan: DeploymentPlan, real: np.ndarray) -> list[Realised]:
        try:
            run = simulate(problem, plan, profile, serving=serving, routing=list(real), seed=seed)
        except InputError as error:  # not one token fits beside the parameters
            return [Realised(np.inf, np.inf, np.inf, str(error))] * len(real)
        served = []
        for batch, latency_s in enumerate(run.latency_s.tolist()):
            bill = run.bill_of_batch(batch)
            if np.isnan(latency_s):
                served.append(Realised(np.inf, np.inf, np.inf, f"batch {batch} failed"))
            else:
                served.append(Realised(bill.billed_gb_s, bill.full_cost_usd, latency_s))
        return served

    return evaluate


def run_tune(options: TuneOptions, out: Path, resume: bool = False) -> dict[str, Any]:
    """Tune, judge on unseen batches, fill the folder; returns what result.json holds.

    Files: history.parquet (after every trial), table.parquet (the tuned table), plan.json (for the unseen
    batches), convergence.png and .svg, result.json.

    Raises InputError for files that do not fit together, and for a folder that holds another run.
    """
    problem = read_problem(options.problem)
    layers = None if options.settings.layers is None else list(options.settings.layers)
    table = load_profile_table(options.profiled, problem, layers)
    tuning, unseen = _batches(options, problem, layers)
    planner = Planner(problem, table, _predictor(options.settings))
    evaluate = closed_form(options.settings.overflow)
    if options.settings.evaluate == "simulator":
        profile = load_profile(options.settings.profile) if options.settings.profile else None
        evaluate = simulated(profile, options.settings.overflow, options.seed)
    judge = Judge(planner, tuning, evaluate, options.settings.objective, options.alg2)
    about = _about(options, problem, table, tuning)
    history = out / "history.parquet"
    if history.exists() and not resume:
        raise InputError(f"--out {out}: holds a history already; --resume continues it")
    earlier: list[Row] = load_history(history, about) if resume else []
    known = Known(planner, KeyRange.of(table, tuning, options.alg2.by_frequency), tuning)
    found = tune(
        judge,
        sampler(options.sampler, known, options.alg2, options.seed),
        options.sampler,
        Budget(options.trials, options.settings.served_tokens, options.settings.wall_s),
        earlier,
        after_trial=lambda rows: save_history(rows, history, about),
    )
    test = Judge(planner, unseen, evaluate, options.settings.objective, options.alg2)
    tuned, plan = test(found.tuning)
    result = _result(options, judge, found, tuned, test, planner)
    _write(out, planner, found, plan, judge, result)
    return result


def cut(trace: RoutingTrace, batch_tokens: int) -> list[RoutingTrace]:
    """A trace in batches of so many tokens; what is left over is left out."""
    starts = range(0, trace.tokens - batch_tokens + 1, batch_tokens)
    return [trace.slice(start, start + batch_tokens) for start in starts]


def _batches(
    options: TuneOptions, problem: DeploymentProblem, layers: list[int] | None
) -> tuple[Batches, Batches]:
    """The batches to tune on, and the unseen ones: those of `test`, or the second half of --serve."""
    size = round(problem.served_tokens)

    def of(path: Path) -> list[RoutingTrace]:
        trace = load_layers(path, layers)
        shape = (len(problem.layers), len(problem.layers[0].experts))
        if (trace.layers, trace.num_experts) != shape:
            raise InputError(
                f"{path}: expected {shape[0]} layers x {shape[1]} experts, as the problem has, got "
                f"{trace.layers} x {trace.num_experts}; --set layers=[0,0,1,1] names "
                "the recorded layer that stands for each"
            )
        return cut(trace, size)

    served = of(options.serve)
    unseen = of(options.settings.test) if options.settings.test is not None else served[(len(served) + 1) // 2 :]
    seen = served if options.settings.test is not None else served[: (len(served) + 1) // 2]
    if not seen or not unseen:
        raise InputError(
            f"{options.settings.test or options.serve}: expected at least two batches of {size:,} tokens, "
            "to tune on and to judge on (with --set test=FILE, one in each file)"
        )
    return Batches.of(seen[: options.alg2.batches]), Batches.of(unseen)


def _predictor(settings: TuneSettings) -> TablePredictor:
    takes = options_of(settings.predictor)
    given: dict[str, Any] = {"variant": settings.variant, "counting": settings.counting}
    found = predictor(settings.predictor, **{name: value for name, value in given.items() if name in takes})
    if not isinstance(found, TablePredictor):
        raise InputError(f"predictor={settings.predictor}: expected one that predicts from a profile table")
    return found


def _about(
    options: TuneOptions, problem: DeploymentProblem, table: ProfileTable, batches: Batches
) -> dict[str, Any]:
    """What a history is of, as far as it decides what the trials come to."""

    def sha(*parts: bytes) -> str:
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    names = {"objective", "predictor", "variant", "counting", "evaluate", "overflow", "profile"}
    return {
        "sampler": options.sampler,
        "seed": options.seed,
        **options.settings.model_dump(include=names),
        "settings": options.alg2.model_dump(),
        "problem": sha(problem.model_dump_json().encode()),
        "table": sha(table.keys.tobytes(), table.count.tobytes()),
        "batches": sha(batches.real.tobytes(), *(np.asarray(ids).tobytes() for ids in batches.token_ids)),
    }


def gap_closed(none: float, tuned: float, oracle: float) -> float | None:
    """Share of the way from the untuned score to the oracle's; None where the oracle is no better than untuned."""
    return (none - tuned) / (none - oracle) if none > oracle * (1 + 1e-9) else None


def verdict(untuned: Judged, tuned: Judged, oracle: Judged) -> dict[str, Any]:
    """Whether tuning lowered the score of unseen batches, as shares of the untuned one, paired batch by batch.

    `room`: what the plan for the real counts saves; `saved`, `saved_low`, `saved_high`: what tuning does, with its
    95% interval. Not judged where the room is below half the interval, from one batch, or where one failed.
    """
    found: dict[str, Any] = {"verdict": "cannot be judged", "room": None, "saved": None}
    found |= {"saved_low": None, "saved_high": None}
    if not all(np.isfinite(x.score) for x in (untuned, tuned, oracle)):
        return found
    saved = estimate((np.array(untuned.scores) - np.array(tuned.scores)) / untuned.score)
    room = 1 - oracle.score / untuned.score
    found |= {"room": room, "saved": saved.mean}
    if saved.half_width is None:
        return found
    if room > saved.half_width:
        helps, harms = saved.low > 0, saved.high < 0
        found["verdict"] = "tuning helps" if helps else "tuning harms" if harms else "tuning does not help"
    return found | {"saved_low": saved.low, "saved_high": saved.high}


def _result(
    options: TuneOptions, judge: Judge, found: Tuned, tuned: Judged, test: Judge, planner: Planner
) -> dict[str, Any]:
    """Everything that result.json says; no wall times, which are in the history."""
    untuned, tuning = test(Tuning())[0], found.tuning
    best, first = found.rows[found.best], found.rows[0]
    return {
        "schema": "tuning/1",
        "sampler": options.sampler,
        "objective": options.settings.objective,
        "unit": OBJECTIVE_UNIT[planner.problem.objective],
        "seed": options.seed,
        "latency_limit_s": planner.problem.latency_limit_s,
        "stopped": found.stopped,
        "used": {"trials": len(found.rows), "served_tokens": found.rows[-1].served_tokens},
        "best_trial": found.best,
        "tuning_batches": {
            "untuned": _numbers(first.judged),
            "tuned": _numbers(best.judged),
            "oracle": _numbers(judge.oracle),
            "gap_closed": gap_closed(first.score, best.score, judge.oracle.score),
        },
        "unseen_batches": {
            "untuned": _numbers(untuned),
            "tuned": _numbers(tuned),
            "oracle": _numbers(test.oracle),
            "gap_closed": gap_closed(untuned.score, tuned.score, test.oracle.score),
        },
        "tuning": verdict(untuned, tuned, test.oracle),
        "cheaper_than_oracle": tuned.cheaper_than_oracle,
        "tuned": {
            "pairs_written": tuning.pairs.written,
            "blend": tuning.blend,
            "sharpness": tuning.sharpness,
            "margin": tuning.margin,
            "factor": None if tuning.factor is None else tuning.factor.tolist(),
        },
        "theorem_2_tau": _taus(options.alg2),
        "settings": options.alg2.model_dump(),
    }


def _numbers(judged: Judged) -> dict[str, Any]:
    """What a user reads of a judgement; null where a batch failed."""
    names = ("score", "cost", "latency_s", "over_limit", "prediction_error_tokens")
    found = {name: getattr(judged, name) for name in names}
    return {name: x if np.isfinite(x) else None for name, x in found.items()} | {"failed": judged.failed}


def _taus(settings: Alg2) -> dict[str, float | None]:
    """Theorem 2: after how many trials exploration has ended; null: never."""
    corrected = settings.tau_corrected()
    return {"as_printed": settings.tau_as_printed(), "corrected": corrected if np.isfinite(corrected) else None}


def _write(
    out: Path, planner: Planner, found: Tuned, plan: DeploymentPlan, judge: Judge, result: dict[str, Any]
) -> None:
    from experiments.prediction.tune_picture import Curve, draw_convergence

    layers = planner.layered.with_pairs(found.tuning.pairs)
    keys = [np.insert(layer.keys[:, 1:], 0, e, axis=1) for e, layer in enumerate(layers)]
    counts = np.concatenate([layer.count for layer in layers])
    save_table(replace(planner.table, keys=np.concatenate(keys), count=counts), out / "table.parquet")
    write_json(out / "plan.json", plan.model_copy(update={"solve_s": None}))
    curve = Curve.of(result["sampler"], [[row.best_score for row in found.rows]])
    tried = [row.score for row in found.rows]
    title = f"{result['sampler']}, objective {result['objective']}: tuning batches"
    draw_convergence([curve], judge.oracle.score, f"score, {result['unit']}", title, out / "convergence", tried)
    text = json.dumps(result, indent=1, allow_nan=False)
    write_whole(out / "result.json", text + "\n")
