"""The main job: real text -> routing -> predicted popularity -> plans -> simulated bills -> the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.run.folder import RunFolder
from experiments.run.inputs import Inputs, load_inputs, make_predictor
from experiments.run.methods import title_of
from experiments.run.result import Played, Run, result_of, write_files
from experiments.run.schema import Experiment
from experiments.run.whole_model import cut_of, whole_plans
from experiments.run.workload import made_up, recording_settings, split_routing
from experiments.tools.console import progress, step
from experiments.tools.known_batches import played_s
from moe.trace import RoutingTrace
from optimizer.blocks import SHAPES
from optimizer.margin import Optima, PlanningLimit, batches_needed, planning_limit, solve_for
from optimizer.popularity import prediction_error, skew
from optimizer.problem import PAPER_MEMORY_MB, make_problem
from optimizer.robust import held_out_batches
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.serving.decode import Decode
from simulator.serving.simulate import SimulatedRun, simulate
from simulator.staged_plan import AnyPlan, StagedPlan

STEPS = 5
JUDGED_BATCHES = 100
"""By which a plan's share of late batches is told: of 5%, to within 2% and 11%."""


def run_experiment(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    """Run an experiment, fill its folder, and return what result.json holds.

    Raises InputError for names that do not exist and for a target that no plan reaches.
    """
    began = time.perf_counter()
    run = Run(load_inputs(experiment), folder)
    folder.begin(experiment)
    _record(run)
    recorded_s = time.perf_counter() - began
    _predict(run)
    _plan(run)
    _play(run)
    result = _write(run)
    wall_times: dict[str, float | None] = {f"solve {p.name}": p.plan.solve_s for p in run.played}
    wall_times |= {"all": time.perf_counter() - began, "recording": recorded_s, "cached": run.was_cached}
    folder.write_json("wall_times.json", wall_times)
    folder.finish(result)
    return result


def _record(run: Run) -> None:
    """Step 1: the routing: of real text through a real transformer, of a file, or of a law of popularity."""
    work = run.inputs.experiment.workload
    if work.is_recorded:
        trace, run.was_cached = _recorded(run.inputs.experiment)
    else:
        trace, run.was_cached = _read_or_made_up(run.inputs), False
    run.routing = split_routing(run.inputs, trace)
    run.batches = run.routing.in_order(work.batch_tokens)


def _recorded(experiment: Experiment) -> tuple[RoutingTrace, bool]:
    from moe.routing.record import cached_record

    work, settings = experiment.workload, recording_settings(experiment)
    doing = f"Routing {settings.tokens:,} tokens of {work.corpus} through {work.record}"
    with step(1, STEPS, doing) as report, progress("recording", "tokens") as update:
        recorded = cached_record(settings, progress=update)
        trace = recorded.trace
        report(
            f"{trace.layers} layers x {trace.num_experts} experts, top-{trace.top_k}, {work.gate} gates"
            + (", from the cache" if recorded.was_cached else "")
        )
    return trace, recorded.was_cached


def _read_or_made_up(inputs: Inputs) -> RoutingTrace:
    path = inputs.experiment.workload.trace
    with step(1, STEPS, f"Reading the routing of {path}" if path else "Making up routing") as report:
        trace = inputs.trace or made_up(inputs)
        report(f"{trace.tokens:,} tokens, {trace.layers} layers x {trace.num_experts} experts, top-{trace.top_k}")
    return trace


def _predict(run: Run) -> None:
    """Step 2: popularity of a mean served batch by the chosen predictor, and every predictor's error."""
    chosen, profiled, served = run.inputs.experiment.prediction, run.routing.profiled, run.routing.held_out
    run.prediction = []
    with step(2, STEPS, f"Predicting expert popularity from {profiled.tokens:,} profiled tokens") as report:
        for name in dict.fromkeys((chosen.predictor, "bayes", "lina", "uniform")):
            fitted = make_predictor(name, chosen).fit(profiled)
            tokens = fitted.predict(served.token_id, served) / len(run.batches)
            if name == chosen.predictor:
                run.predicted = tokens
            error = prediction_error(tokens, run.batches.mean)
            run.prediction.append(
                {"predictor": name, "mean_error_tokens": error.tokens, "mean_error_share": error.share}
            )
        hottest = float(skew(run.batches.mean).mean())
        report(
            ", ".join(f"{e['predictor']} {e['mean_error_share']:.1%} off" for e in run.prediction)
            + f"; the hottest expert of a layer has {hottest:.1f} times the mean"
        )


def _plan(run: Run) -> None:
    """Step 3: the deployment problem under its target, and each named plan."""
    experiment, platform = run.inputs.experiment, run.inputs.experiment.platform
    options: dict[str, Any] = {
        "name": experiment.name,
        "memory_mb": platform.memory_mb or PAPER_MEMORY_MB,
        "max_replicas": platform.max_replicas,
        "non_moe_memory_mb": platform.non_moe_memory_mb,
        "objective": experiment.target.objective,
        "shapes": SHAPES,
    }
    of_lambdaml: dict[str, Any] = {"max_memory_mb": platform.lambdaml_memory_mb}
    with step(3, STEPS, f"Planning the deployment of {run.inputs.spec.name}") as report:
        problem = make_problem(run.inputs.spec, run.predicted, run.inputs.profile, **options)
        lambdaml = solve(problem, "lambdaml", **of_lambdaml)
        limit_s = _latency_limit_s(experiment, problem, lambdaml)
        run.problem = problem.with_limit(limit_s)
        margin = _margin(run)
        run.planning_limit = margin(None)
        real = make_problem(run.inputs.spec, run.batches.mean, run.inputs.profile, **options).with_limit(limit_s)
        run.plans = []
        for name in experiment.plans:
            more = of_lambdaml if name == "lambdaml" else {"seed": experiment.seed}
            run.plans.append((name, solve_for(run.problem, run.planning_limit.limit_s, name, **more)))
            if name == "ods":
                run.plans.append(("ods-oracle", solve_for(real, run.planning_limit.limit_s, "ods")))
        first, plan = run.plans[0]
        assert isinstance(plan, DeploymentPlan)
        run.plans += whole_plans(run.problem, lambda optima: margin(optima).limit_s)
        run.cut = cut_of(run.problem)
        report(_limit_shown(run) + f"; {title_of(first)} {_shape(plan)}")


def _margin(run: Run) -> Callable[[Optima | None], PlanningLimit]:
    """Finds, of plans of a kind, the limit under which few of the batches like the profile's, played, are late."""
    experiment, profiled = run.inputs.experiment, run.routing.profiled
    late_share, work = experiment.target.late_share, experiment.workload
    if late_share is None or run.problem.latency_limit_s is None:
        return lambda optima: PlanningLimit(run.problem.latency_limit_s)
    chosen = experiment.prediction
    batches = held_out_batches(
        lambda: make_predictor(chosen.predictor, chosen),
        profiled,
        run.predicted,
        work.batch_tokens,
        batches_needed(late_share),
        experiment.seed,
    )

    def latencies_s(plan: AnyPlan, first: int | None) -> np.ndarray:
        profile, serving = run.inputs.profile, experiment.simulation
        with progress("playing a plan for its margin", "batches") as update:
            return played_s(run.problem, plan, profile, serving, batches[:first], experiment.seed, update)

    return lambda optima: planning_limit(run.problem, late_share, latencies_s, optima)


def _limit_shown(run: Run) -> str:
    """`latency limit 6.6 s, planned for 6.2 s`, and where that is not enough, how many are late all the same."""
    limit_s, planned = run.problem.latency_limit_s, run.planning_limit
    if limit_s is None or planned.limit_s is None:
        return "no latency limit"
    shown = f"latency limit {limit_s:.1f} s"
    if planned.limit_s < limit_s:
        shown += f", planned for {planned.limit_s:.1f} s"
    share = run.inputs.experiment.target.late_share
    if planned.late_share is None or share is None or planned.late_share <= share:
        return shown
    return shown + f" ({planned.late_share:.0%} of batches like the profile's are late; fewer would cost more)"


def _latency_limit_s(experiment: Experiment, problem: DeploymentProblem, lambdaml: DeploymentPlan) -> float | None:
    target = experiment.target
    if target.tokens_per_s is not None:
        return problem.served_tokens / target.tokens_per_s
    if target.throughput_of_lambdaml is not None:
        assert lambdaml.latency_s is not None
        return lambdaml.latency_s / target.throughput_of_lambdaml
    return target.latency_limit_s


def _shape(plan: AnyPlan) -> str:
    """`10 x storage, 2 x direct`: how many layers use which method."""
    if isinstance(plan, StagedPlan):
        return plan.shape_in_words
    methods = [layer.communication for layer in plan.layers]
    return ", ".join(f"{methods.count(m)} x {m}" for m in dict.fromkeys(methods))


def _play(run: Run) -> None:
    """Step 4: serve the real batches with every plan: warm one after the other, and each on its own cold."""
    experiment, profile, batches = run.inputs.experiment, run.inputs.profile, list(run.batches.real)
    with step(4, STEPS, f"Simulating {len(batches)} batches of real routing on {profile.name}") as report:
        run.played = []
        for name, plan in run.plans:
            how: dict[str, Any] = {"serving": experiment.simulation, "seed": experiment.seed}
            warm = simulate(run.problem, plan, profile, routing=batches, **how)
            cold = simulate(run.problem, plan, profile, routing=batches, warm=False, apart=True, **how)
            run.played.append(
                Played(name, plan, warm, cold, _to_come_s(run, plan), _generating(run, plan, batches, how))
            )
        report(f"{sum(len(p.warm.records) + len(p.cold.records) for p in run.played):,} invocations")


def _to_come_s(run: Run, plan: AnyPlan) -> np.ndarray | None:
    """Latencies of batches that may come, s, shape (batches,); None where no share of them may be late."""
    experiment, profile = run.inputs.experiment, run.inputs.profile
    if experiment.target.late_share is None or run.problem.latency_limit_s is None:
        return None
    batches = run.routing.likely(JUDGED_BATCHES, experiment.workload.batch_tokens, experiment.seed)
    with progress("playing a plan on batches to come", "batches") as update:
        return played_s(run.problem, plan, profile, experiment.simulation, batches, experiment.seed, update)


def _generating(run: Run, plan: AnyPlan, batches: list[np.ndarray], how: dict[str, Any]) -> SimulatedRun | None:
    """The first batch, warm, then what its sequences generate; its own pass gives the first of their tokens."""
    work = run.inputs.experiment.workload
    if not work.generate:
        return None
    decode = Decode(work.generate - 1, work.batch_sequences) if work.generate > 1 else None
    return simulate(run.problem, plan, run.inputs.profile, routing=batches[:1], decode=decode, **how)


def _write(run: Run) -> dict[str, Any]:
    """Step 5: the result, and every file but result.json itself."""
    with step(5, STEPS, "Writing tables, figure and trace") as report:
        result = result_of(run)
        write_files(run, result)
        report(run.folder.shown)
    return result
