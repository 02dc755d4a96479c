"""The page of `./smoe run`: cost and speed of every way to serve the model, and why."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.report.latency_path import latency_by_phase
from experiments.report.page import Column, DataTable, Page, Plot, Section, Value
from experiments.report.parts import (
    bill_bars,
    configuration,
    phase_bars,
    picture,
    present,
    provenance,
    timeline,
)
from experiments.report.reading import ExperimentResult, Run, read_records, records_of
from experiments.run.methods import MILLION, Row, plan_file, ratios, title_of
from experiments.run.report import recorded_on
from experiments.run.schema import Experiment

USD = "USD per million tokens"
NO_RECORDS = (
    "records.parquet is not in this folder (git leaves it out): run it again for the interactive timeline."
)


def experiment_page(run: Run) -> Page:
    """The page. Raises InputError for files that are broken."""
    result = run.read(ExperimentResult)
    lead = [text for text in (result.about, result.finding, f"{recorded_on(run.result)}.") if text]
    sections = present(
        _methods(result),
        _bill(result),
        *_time(run, result),
        _experts(run, result),
        _prediction(result),
        configuration(run, Experiment),
        provenance(run),
    )
    return Page(f"{result.name}: {result.model}", lead, sections, f"Made by ./smoe report from {run.path}.")


def _methods(result: ExperimentResult) -> Section:
    """Cost and throughput of the methods."""
    columns = [
        Column("method"),
        Column("whole bill", "USD/M tokens", "USD per million tokens, everything that is paid"),
        Column("experts' compute", "USD/M tokens", "of it the experts' functions; of the cluster: its MoE share"),
        Column("experts, with requests", "USD/M tokens", "the same and the experts' requests"),
        Column("warm latency", "s", "of a batch, head to tail"),
        Column("late", "%", "of warm batches over the limit, drawn from the served text where some may be late"),
        Column("late, 95% interval", "", "Wilson's, of the share that is late; !: more than may be"),
        Column("cold latency", "s", "of the same batches, no instance running"),
        Column("throughput", "tokens/s", "of a warm batch"),
        Column("whole bill, of LambdaML's", "%"),
        Column("experts' compute, of LambdaML's", "%"),
        Column("optimality gap", "%", "of the plan, by the closed form; empty: not certified"),
        Column("keeps the target", "", "by the closed form, for the predicted popularity"),
        Column("overflowed calls", "", "replicas beyond the plan, since more tokens came than were foreseen"),
    ]
    gaps = {title_of(name): gap for name, gap in result.optimality_gap.items()}
    rows = [_method_row(row, result, gaps) for row in result.methods]
    methods = [row.method for row in result.methods]
    bills = {"whole bill": "total_usd", "experts, with requests": "full_usd", "experts' compute": "billed_usd"}
    series = [
        {"name": name, "values": [getattr(row, key) for row in result.methods]} for name, key in bills.items()
    ]
    limit = f", at most {result.latency_limit_s:.4g} s a batch" if result.latency_limit_s else ""
    if limit and result.planning_limit_s and result.late_share is not None:
        limit += f" for all but {result.late_share:.0%}"
        limit += f" (expert functions are planned for {result.planning_limit_s:.4g} s"
        expected = result.planning_late_share
        if expected is not None and expected > result.late_share:
            limit += f", and {expected:.0%} of batches like the profile's are late: fewer would cost more"
        limit += ")"
    return Section(
        "Cost and throughput of the methods",
        [
            DataTable("methods", columns, rows, about="A row for each way to serve the model."),
            Plot("dots", "Cost of the methods", {"unit": USD, "rows": methods, "series": series, "log": True}),
            Plot(
                "scatter",
                "Cost over throughput",
                {
                    "table": "methods",
                    "x": "throughput",
                    "y": "whole bill",
                    "by": "method",
                    "log": True,
                    "line": False,
                },
                "To the right is faster, down is cheaper; any column over any other.",
            ),
        ],
        [
            f"Batches of {result.batch_tokens:,} tokens{limit}, on {result.profile}"
            f"{f', prices of {result.price_list_date}' * bool(result.price_list_date)}; "
            f"means of {result.batches} batch{'es' * (result.batches > 1)}."
        ],
        result.claims,
    )


def _method_row(row: Row, result: ExperimentResult, gaps: dict[str, float | None]) -> list[Value]:
    over, gap = ratios(row, result.methods), gaps.get(row.method)
    shares = (over["total_over_lambdaml"], over["billed_over_lambdaml"], gap)
    return [
        row.method,
        row.total_usd,
        row.billed_usd,
        row.full_usd,
        row.latency_s,
        None if row.late_share is None else 100 * row.late_share,
        _interval(row) + (" !" if row.is_late(result.late_share) else ""),
        row.cold_latency_s,
        row.tokens_per_s,
        *(None if share is None else 100 * share for share in shares),
        row.feasible,
        row.overflowed,
    ]


def _interval(row: Row) -> str:
    if row.late_share_low is None or row.late_share_high is None:
        return ""
    return f"{row.late_share_low:.0%} to {row.late_share_high:.0%}"


def _bill(result: ExperimentResult) -> Section | None:
    """The bill by parts."""
    bills = {title_of(name): bill for name, bill in result.bill_of_a_batch.items()}
    if not bills:
        return None
    scale = MILLION / result.batch_tokens
    return Section("What is paid for", [bill_bars(bills, scale, USD)])


def _time(run: Run, result: ExperimentResult) -> list[Section]:
    """Latency by phase, and the timeline: from the record table, or its picture where git left the table out."""
    table = read_records(run)
    if table is None:
        drawn = picture(run.path / "timeline.svg", "What every function of one batch did", NO_RECORDS)
        return [Section("Timeline of a batch", drawn)] if drawn else []
    played = {
        (plan, start): records_of(table, plan, start)
        for plan in dict.fromkeys(table["plan"])
        for start in ("warm", "cold")
    }
    seconds: dict[str, dict[str, float]] = {}
    for (plan, start), batches in played.items():
        ways = [way for records in batches.values() if (way := latency_by_phase(records)) is not None]
        if ways:
            name = f"{title_of(plan)}, {start}"
            seconds[name] = {phase: float(np.mean([way[phase] for way in ways])) for phase in ways[0]}
    about = (
        "Along the way that decides the latency: the head, of each MoE layer the replica that ended last, the "
        "tail. Means over batches; the parts add up to the latency of a batch."
    )
    shown = [
        (f"{title_of(plan)}, {start}, batch {min(batches)}", batches[min(batches)])
        for (plan, start), batches in played.items()
        if batches
    ]
    bars = timeline(
        "What every function of a batch did", shown, "A line for each instance, a colour for each phase."
    )
    return [
        Section("Where the time goes", [phase_bars("Latency by phase", seconds, about)] if seconds else []),
        Section("Timeline of a batch", [bars]),
    ]


def _experts(run: Run, result: ExperimentResult) -> Section | None:
    """Load of the experts, and what each plan gives them."""
    path = run.path / "problem.json"
    if not path.exists():
        return None
    from simulator.plan import read_problem
    from simulator.staged_plan import StagedPlan, read_any_plan, whole_model

    problem = read_problem(path)
    predicted = np.array([layer.tokens for layer in problem.layers])
    grids = [_grid("predicted load", "tokens a batch", predicted)]
    real = _real(run, predicted.shape)
    if real is not None:
        grids.append(_grid("real load", "tokens a batch", real))
        grids.append(_grid("predicted minus real load", "tokens a batch", predicted - real, diverging=True))
    titles = {plan_file(name): title_of(name) for name in result.optimality_gap}
    rows: list[list[Value]] = []
    for plan_path in sorted((run.path / "plans").glob("*.json")):
        plan, title = read_any_plan(plan_path, problem), titles.get(plan_path.name, plan_path.stem)
        if isinstance(plan, StagedPlan):
            stage = whole_model(plan)
            if stage is not None:
                rows.append([title, "all", "one function", None, stage.lanes, None, str(stage.memory_mb)])
            continue
        replicas = np.array([layer.replicas for layer in plan.layers])
        grids.append(_grid(f"replicas, {title}", "replicas", replicas))
        grids.append(_grid(f"memory, {title}", "MB", np.array([layer.memory_mb for layer in plan.layers])))
        rows += [
            [
                *(title, e, layer.communication, layer.minibatch_tokens),
                *(int(layer.replicas.sum()), _listed(layer.replicas), _listed(layer.memory_mb)),
            ]
            for e, layer in enumerate(plan.layers)
        ]
    columns = [
        Column("plan"),
        Column("layer"),
        Column("communication method"),
        Column("minibatch", "tokens"),
        Column("functions"),
        Column("replicas of each expert"),
        Column("memory of each expert", "MB"),
    ]
    blocks: list[Any] = [Plot("heat", "Experts", {"across": "layer", "up": "expert", "grids": grids})]
    if rows:
        blocks.append(DataTable("plans", columns, rows, title="The plans, layer by layer"))
    return Section("Load of the experts, and the plans", blocks)


def _listed(values: np.ndarray) -> str:
    """The numbers, or the one that all are."""
    numbers = values.tolist()
    return f"all {numbers[0]}" if len(set(numbers)) == 1 else ", ".join(map(str, numbers))


def _grid(name: str, unit: str, values: np.ndarray, diverging: bool = False) -> dict[str, Any]:
    """A grid of a heat map; values have shape (layers, experts)."""
    return {"name": name, "unit": unit, "diverging": diverging, "values": np.round(values.T, 4).tolist()}


def _real(run: Run, shape: tuple[int, ...]) -> np.ndarray | None:
    """Real tokens of each expert in the mean batch, (layers, experts), if the folder has them."""
    path = run.path / "popularity.parquet"
    if not path.exists():
        return None
    from moe.parquet import read_columns

    table = read_columns(path, ("layer", "expert", "real"))
    real = table.pivot(index="layer", columns="expert", values="real").to_numpy(float)
    return real if real.shape == shape else None


def _prediction(result: ExperimentResult) -> Section:
    """How far off the predictors are."""
    columns = [
        Column("predictor"),
        Column("mean error", "tokens per expert"),
        Column("mean error", "% of the mean load"),
    ]
    rows: list[list[Value]] = [
        [each.predictor, each.mean_error_tokens, 100 * each.mean_error_share] for each in result.prediction
    ]
    return Section("Prediction of expert popularity", [DataTable("prediction", columns, rows)])
