"""The main job: real text -> routing -> predicted popularity -> plans -> simulated bills -> the answer."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.run import methods as answer
from experiments.run.folder import RunFolder
from experiments.run.inputs import Inputs, load_inputs, make_predictor
from experiments.run.routing import Routing, described, made_up, split_routing
from experiments.run.schema import Experiment
from experiments.tools.console import out, progress, step
from moe.files import write_json, write_whole
from moe.pretrained.settings import RecordingSettings
from moe.trace import RoutingTrace
from optimizer.popularity import prediction_error, skew
from optimizer.popularity.popularity_file import save_popularity
from optimizer.problem import PAPER_MEMORY_MB, make_problem
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.records import to_pandas
from simulator.serving.cluster import run_on_cluster
from simulator.serving.simulate import SimulatedRun, simulate
from simulator.serving.timeline import write_chrome_trace

STEPS = 5
TITLES = {
    "ods": "ODS",
    "ods-oracle": "ODS, oracle",
    "exact": "exact optimum",
    "best-uniform": "best uniform",
    "lambdaml": "LambdaML",
    "random": "random methods",
}


def title_of(plan: str) -> str:
    """A plan's name in tables: of a solver of the user's own, the function's."""
    return TITLES.get(plan, plan.rpartition(":")[2].replace("_", " "))


@dataclass(frozen=True)
class Played:
    """A plan and how it was played: warm over all served batches, and cold over the first."""

    name: str
    plan: DeploymentPlan
    warm: SimulatedRun
    cold: SimulatedRun


def run_experiment(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    """Run an experiment, fill its folder, and return what result.json holds.

    Raises InputError for names that do not exist and for a target that no plan reaches.
    """
    began = time.perf_counter()
    inputs = load_inputs(experiment)
    folder.begin(experiment)
    routing, hit = _record(inputs)
    recorded_s = time.perf_counter() - began
    predicted, prediction = _predict(inputs, routing)
    problem, plans = _plan(inputs, routing, predicted)
    played = _play(inputs, routing, problem, plans)
    rows = _rows(inputs, routing, played)
    with step(5, STEPS, "Writing tables, figure and trace") as report:
        result = _result(inputs, folder, routing, prediction, problem, played, rows)
        _write_files(folder, problem, played, routing, predicted, rows, result)
        report(folder.shown)
    seconds = time.perf_counter() - began
    folder.write_json(
        "wall_times.json", _wall_times(played) | {"all": seconds, "recording": recorded_s, "cached": hit}
    )
    folder.finish(result)
    return result


def recording_settings(experiment: Experiment) -> RecordingSettings:
    """What an experiment has recorded: its profiled and served tokens, its gates."""
    work = experiment.workload
    return RecordingSettings(
        model=work.record,
        corpus=work.corpus,
        gate=work.gate,
        gate_seed=experiment.seed,
        seed=experiment.seed,
        experts=work.experts,
        top_k=work.top_k,
        expert_copies=work.expert_copies,
        tokens=work.tokens,
        at_most=work.bootstrap,
        sequence_tokens=work.sequence_tokens,
    )


def _record(inputs: Inputs) -> tuple[Routing, bool]:
    """Step 1: the routing: of real text through a real transformer, of a file, or of a law of popularity."""
    work = inputs.experiment.workload
    if work.is_recorded:
        trace, was_cached = _recorded(inputs.experiment)
    else:
        doing = f"Reading the routing of {work.trace}" if work.trace else "Making up routing"
        with step(1, STEPS, doing) as report:
            trace, was_cached = inputs.trace or made_up(inputs), False
            report(
                f"{trace.tokens:,} tokens, {trace.layers} layers x {trace.num_experts} experts, top-{trace.top_k}"
            )
    return split_routing(inputs, trace), was_cached


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


def _predict(inputs: Inputs, routing: Routing) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Step 2: popularity of a mean served batch by the chosen predictor, and every predictor's error."""
    chosen, batches = inputs.experiment.prediction, len(routing.batches)
    errors: list[dict[str, Any]] = []
    predicted = np.empty(0)
    with step(
        2, STEPS, f"Predicting expert popularity from {routing.profiled.tokens:,} profiled tokens"
    ) as report:
        for name in dict.fromkeys((chosen.predictor, "bayes", "lina", "uniform")):
            fitted = make_predictor(name, chosen).fit(routing.profiled)
            tokens = fitted.predict(routing.served.token_id, routing.served) / batches
            if name == chosen.predictor:
                predicted = tokens
            error = prediction_error(tokens, routing.real)
            errors.append({"predictor": name, "mean_error_tokens": error.tokens, "mean_error_share": error.share})
        hottest = float(skew(routing.real).mean())
        report(
            ", ".join(f"{e['predictor']} {e['mean_error_share']:.1%} off" for e in errors)
            + f"; the hottest expert of a layer has {hottest:.1f} times the mean"
        )
    return predicted, errors


def _plan(
    inputs: Inputs, routing: Routing, predicted: np.ndarray
) -> tuple[DeploymentProblem, list[tuple[str, DeploymentPlan]]]:
    """Step 3: the deployment problem under its target, and each named plan."""
    experiment, platform = inputs.experiment, inputs.experiment.platform
    options: dict[str, Any] = {
        "name": experiment.name,
        "memory_mb": platform.memory_mb or PAPER_MEMORY_MB,
        "max_replicas": platform.max_replicas,
        "non_moe_memory_mb": platform.non_moe_memory_mb,
        "objective": experiment.target.objective,
    }
    with step(3, STEPS, f"Planning the deployment of {inputs.spec.name}") as report:
        problem = make_problem(inputs.spec, predicted, inputs.profile, **options)
        lambdaml = solve(problem, "lambdaml", max_memory_mb=platform.lambdaml_memory_mb)
        problem = problem.with_limit(_latency_limit_s(experiment, problem, lambdaml))
        real = make_problem(
            inputs.spec, routing.real, inputs.profile, latency_limit_s=problem.latency_limit_s, **options
        )
        plans: list[tuple[str, DeploymentPlan]] = []
        for name in experiment.plans:
            more: dict[str, Any] = {"max_memory_mb": platform.lambdaml_memory_mb} if name == "lambdaml" else {}
            plans.append((name, solve(problem, name, seed=experiment.seed, **more)))
            if name == "ods":
                plans.append(("ods-oracle", solve(real, "ods")))
        limit = problem.latency_limit_s
        report(
            (f"latency limit {limit:.1f} s; " if limit else "no latency limit; ")
            + ", ".join(f"{title_of(name)} {_shape(plan)}" for name, plan in plans[:1])
        )
    return problem, plans


def _latency_limit_s(experiment: Experiment, problem: DeploymentProblem, lambdaml: DeploymentPlan) -> float | None:
    target = experiment.target
    if target.tokens_per_s is not None:
        return problem.served_tokens / target.tokens_per_s
    if target.throughput_of_lambdaml is not None:
        assert lambdaml.latency_s is not None
        return lambdaml.latency_s / target.throughput_of_lambdaml
    return target.latency_limit_s


def _play(
    inputs: Inputs, routing: Routing, problem: DeploymentProblem, plans: list[tuple[str, DeploymentPlan]]
) -> list[Played]:
    """Step 4: serve the real batches with every plan, warm, and the first batch cold."""
    how: dict[str, Any] = inputs.experiment.simulation.model_dump() | {"seed": inputs.experiment.seed}
    doing = f"Simulating {len(routing.batches)} batches of real routing on {inputs.profile.name}"
    with step(4, STEPS, doing) as report:
        played = []
        for name, plan in plans:
            warm = simulate(problem, plan, inputs.profile, routing=routing.batches, **how)
            cold = simulate(problem, plan, inputs.profile, routing=routing.batches[:1], warm=False, **how)
            played.append(Played(name, plan, warm, cold))
        report(f"{sum(len(p.warm.records) + len(p.cold.records) for p in played):,} invocations")
    return played


def _rows(inputs: Inputs, routing: Routing, played: list[Played]) -> list[answer.Row]:
    batch_tokens = inputs.experiment.workload.batch_tokens
    rows = [answer.lambda_row(title_of(p.name), p.warm, p.cold, p.plan.feasible) for p in played]
    cluster = run_on_cluster(inputs.spec, routing.real, batch_tokens, inputs.profile.cluster)
    return rows + answer.cluster_rows(cluster, batch_tokens, inputs.profile.cluster)


def _result(
    inputs: Inputs,
    folder: RunFolder,
    routing: Routing,
    prediction: list[dict[str, Any]],
    problem: DeploymentProblem,
    played: list[Played],
    rows: list[answer.Row],
) -> dict[str, Any]:
    """Everything that result.json says; no wall times, so that the same seed gives the same bytes."""
    work, spec = inputs.experiment.workload, inputs.spec
    model = f"{spec.name} ({spec.moe_layers} layers of {spec.experts} experts, top-{spec.top_k})"
    return {
        "schema": "result/1",
        "key": folder.key,
        "name": inputs.experiment.name,
        "about": inputs.experiment.about,
        "model": model,
        "routing_recorded_on": dict(sorted(routing.served.origin.items())),
        "layers_of_recording": list(work.layers_of_recording or range(spec.moe_layers)),
        "profile": inputs.profile.name,
        "batch_tokens": work.batch_tokens,
        "batches": work.batches,
        "latency_limit_s": problem.latency_limit_s,
        "prediction": prediction,
        "methods": answer.as_records(rows),
        "bill_of_a_batch": {p.name: asdict(p.warm.bill) for p in played},
        "optimality_gap": {p.name: p.plan.gap for p in played},
        "claims": [str(claim) for claim in answer.claims(rows)],
        "finding": answer.finding(rows, model, work.batch_tokens),
    }


def _write_files(
    folder: RunFolder,
    problem: DeploymentProblem,
    played: list[Played],
    routing: Routing,
    predicted: np.ndarray,
    rows: list[answer.Row],
    result: dict[str, Any],
) -> None:
    import pandas as pd

    from experiments.run.methods_picture import draw_methods
    from experiments.run.timeline_picture import draw_timeline

    write_json(folder.path / "problem.json", problem)
    records = []
    for p in played:
        write_json(
            folder.path / "plans" / f"{p.name.replace(':', '-')}.json", p.plan.model_copy(update={"solve_s": None})
        )
        for temperature, run in (("warm", p.warm), ("cold", p.cold)):
            table = to_pandas(run.records)
            table.insert(0, "start", temperature)
            table.insert(0, "plan", p.name)
            records.append(table)
    write_whole(folder.path / "records.parquet", pd.concat(records, ignore_index=True).to_parquet)
    write_whole(folder.path / "methods.parquet", pd.DataFrame(result["methods"]).to_parquet)
    save_popularity(predicted, folder.path / "popularity.parquet", routing.real)
    first_batch = [row for row in played[0].warm.records if row.batch == 0]
    write_chrome_trace(first_batch, folder.path / "trace.json")
    title = f"One warm batch of {result['model']}, {title_of(played[0].name)} plan"
    draw_timeline(first_batch, title, folder.path / "timeline")
    draw_methods(rows, result, [*result["claims"], recorded_on(result)], folder.path / "methods")


def _wall_times(played: list[Played]) -> dict[str, float | None]:
    return {f"solve {p.name}": p.plan.solve_s for p in played}


def _shape(plan: DeploymentPlan) -> str:
    """`10 x storage, 2 x direct`: how many layers use which method."""
    methods = [layer.communication for layer in plan.layers]
    return ", ".join(f"{methods.count(m)} x {m}" for m in dict.fromkeys(methods))


def recorded_on(result: dict[str, Any]) -> str:
    """Whose routing stands for the model's."""
    return described(result["routing_recorded_on"], result["layers_of_recording"])


def show(result: dict[str, Any], folder: RunFolder) -> None:
    """Print the answer: the table, what was found, where to look."""
    rows = [answer.Row(**{k: m[k] for k in answer.Row.__dataclass_fields__}) for m in result["methods"]]
    out.print()
    out.print(answer.answer_table(rows, f"{result['model']}, {result['batch_tokens']:,} tokens a batch"))
    out.print(answer.LEGEND, style="dim", soft_wrap=True)
    out.print(f"\n{recorded_on(result)}.")
    out.print(f"\n{result['finding']}\n")
    out.print(
        f"Look at {folder.shown}/: methods.png is the table, timeline.png what every function of one batch did "
        "(trace.json, opened at ui.perfetto.dev, too); the tables are parquet, and result.json has it all. "
        f"./smoe report {folder.shown} makes a page of it."
    )
