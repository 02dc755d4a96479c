"""A run under way, and what its folder gets: the result, the tables, the pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.run.folder import RunFolder
from experiments.run.inputs import Inputs
from experiments.run.methods import (
    Row,
    as_records,
    claims,
    cluster_finding,
    cluster_rows,
    finding,
    generation,
    lambda_row,
    lateness,
    plan_file,
    row_named,
    title_of,
)
from experiments.run.platform import ServedBatch, serve_batch, server_finding, server_generation, server_rows
from experiments.run.routing import Routing
from experiments.run.whole_model import Cut, shape_finding
from moe.files import write_json, write_whole
from moe.trace import Batches
from optimizer.margin import Lateness, PlanningLimit
from optimizer.popularity.popularity_file import save_popularity
from simulator.plan import DeploymentProblem
from simulator.records import Record, to_pandas
from simulator.serving.cluster import run_on_cluster
from simulator.serving.simulate import SimulatedRun
from simulator.serving.timeline import write_chrome_trace
from simulator.staged_plan import AnyPlan

if TYPE_CHECKING:
    import pandas as pd

OF_THE_PAPER = ("bert-moe", "gpt2-moe", "gpt2-xl-moe", "bert2bert-moe")
"""Models beside whose numbers the paper's claims stand."""


@dataclass(frozen=True)
class Played:
    """A plan and how it was played over all served batches: warm, and each without a warm instance.

    `to_come_s`: latencies of batches drawn from the served text, s, shape (batches,); None: not played.
    `generating`: the first batch, with what its sequences generate; None: nothing.
    """

    name: str
    plan: AnyPlan
    warm: SimulatedRun
    cold: SimulatedRun
    to_come_s: np.ndarray | None = None
    generating: SimulatedRun | None = None

    @property
    def judged_s(self) -> np.ndarray:
        """Latencies by which it is said how many batches are late, s, shape (batches,)."""
        return self.warm.latency_s if self.to_come_s is None else self.to_come_s


@dataclass
class Run:
    """An experiment under way. Each step sets what is its own, and reads what the steps before it have set.

    Attributes:
        inputs, folder: given.
        routing: step 1; its held-out part is what is served.
        batches: step 1; the served batches.
        was_cached: step 1; whether the routing had been recorded before.
        prediction: step 2; the error of every predictor.
        predicted: step 2; tokens of each expert in the mean batch, shape (layers, experts).
        problem, plans: step 3; the plans by name, in the order in which they are shown.
        planning_limit: step 3; what the plans are made for: the problem's limit less the margin.
        cut: step 3; whether the model must be cut, and from which size on it pays.
        played: step 4; each plan, played.
    """

    inputs: Inputs
    folder: RunFolder
    routing: Routing = field(init=False)
    batches: Batches = field(init=False)
    was_cached: bool = field(init=False)
    prediction: list[dict[str, Any]] = field(init=False)
    predicted: np.ndarray = field(init=False)
    problem: DeploymentProblem = field(init=False)
    planning_limit: PlanningLimit = field(init=False)
    cut: Cut = field(init=False)
    plans: list[tuple[str, AnyPlan]] = field(init=False)
    played: list[Played] = field(init=False)


def rows_of(run: Run) -> list[Row]:
    """A row for each way to serve the model: plans, charged periods of the CPU cluster, and of a server if any."""
    inputs, batch_tokens = run.inputs, run.inputs.experiment.workload.batch_tokens
    limit_s = run.problem.latency_limit_s
    rows = [
        lambda_row(title_of(p.name), p.warm, p.cold, p.plan.feasible, Lateness.of(p.judged_s, limit_s))
        for p in run.played
    ]
    cluster = run_on_cluster(inputs.spec, run.batches.mean, batch_tokens, inputs.profile)
    rows += cluster_rows(cluster, batch_tokens, inputs.profile.cluster)
    served = served_by(run)
    if served is None:
        return rows
    return rows + server_rows(served, batch_tokens, inputs.profile.cluster.month_utilisation.median, limit_s)


def served_by(run: Run) -> ServedBatch | None:
    """A batch on the server that `platform:` names; None: it names none."""
    inputs = run.inputs
    if inputs.server is None:
        return None
    return serve_batch(inputs.server, inputs.spec, inputs.experiment.workload, run.problem.latency_limit_s)


def result_of(run: Run) -> dict[str, Any]:
    """Everything that result.json says; no wall times, so that the same seed gives the same bytes."""
    experiment, spec, rows = run.inputs.experiment, run.inputs.spec, rows_of(run)
    work = experiment.workload
    served = served_by(run)
    model = f"{spec.name} ({spec.moe_layers} layers of {spec.experts} experts, top-{spec.top_k})"
    return {
        "schema": "result/1",
        "key": run.folder.key,
        "name": experiment.name,
        "about": experiment.about,
        "model": model,
        "routing_recorded_on": dict(sorted(run.routing.held_out.origin.items())),
        "layers_of_recording": list(work.layers_of_recording or range(spec.moe_layers)),
        "profile": run.inputs.profile.name,
        "server": None if served is None else {"contender": served.contender, "machine": served.machine.name},
        "price_list_date": run.inputs.profile.prices.price_list_date.isoformat(),
        "batch_tokens": work.batch_tokens,
        "batches": work.batches,
        "latency_limit_s": run.problem.latency_limit_s,
        "planning_limit_s": run.planning_limit.limit_s,
        "planning_late_share": run.planning_limit.late_share,
        "late_share": experiment.target.late_share,
        "judged_batches": len(run.played[0].judged_s),
        "prediction": run.prediction,
        "methods": as_records(rows),
        "bill_of_a_batch": {p.name: asdict(p.warm.bill) for p in run.played},
        "optimality_gap": {p.name: p.plan.gap for p in run.played},
        "generation": _generation(run),
        "cut": asdict(run.cut),
        "claims": [str(claim) for claim in claims(rows)] if spec.name in OF_THE_PAPER else [],
        "finding": _finding(run, rows, model),
    }


def _generation(run: Run) -> dict[str, dict[str, float | None]]:
    """What the sequences of a batch generate: by plan, and on the server, if one is named."""
    work, served = run.inputs.experiment.workload, served_by(run)
    found = {
        p.name: generation(p.generating, work.generate, work.batch_sequences)
        for p in run.played
        if p.generating is not None
    }
    if served is None or not work.generate:
        return found
    return found | {served.contender: server_generation(served, work.batch_sequences)}


def _finding(run: Run, rows: list[Row], model: str) -> str:
    """What is found in the rows: a few sentences."""
    target, served = run.inputs.experiment.target, served_by(run)
    said = finding(rows, model, run.inputs.experiment.workload.batch_tokens)
    said += shape_finding(rows, run.cut, title_of(run.played[0].name))
    if (row_named(rows, "ODS") or rows[0]).is_late(target.late_share):
        said += lateness(rows, run.problem.latency_limit_s, target.late_share)
    else:
        said += cluster_finding(rows)
    return said + ("" if served is None else server_finding(served, rows))


def write_files(run: Run, result: dict[str, Any]) -> None:
    """Write problem, plans, tables and pictures; result.json and wall times are written by the job, last."""
    import pandas as pd

    folder = run.folder.path
    write_json(folder / "problem.json", run.problem)
    for p in run.played:
        write_json(folder / "plans" / plan_file(p.name), p.plan.model_copy(update={"solve_s": None}))
    write_whole(folder / "records.parquet", _record_table(run.played).to_parquet)
    write_whole(folder / "methods.parquet", pd.DataFrame(result["methods"]).to_parquet)
    save_popularity(run.predicted, folder / "popularity.parquet", run.batches.mean)
    first_batch = [row for row in run.played[0].warm.records if row.batch == 0]
    write_chrome_trace(first_batch, folder / "trace.json")
    _draw(run, result, first_batch)


def _record_table(played: list[Played]) -> pd.DataFrame:
    """Every call of every plan, warm and cold, with the plan's name in front."""
    import pandas as pd

    tables = []
    for p in played:
        for start, simulated in (("warm", p.warm), ("cold", p.cold)):
            table = to_pandas(simulated.records)
            table.insert(0, "start", start)
            table.insert(0, "plan", p.name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _draw(run: Run, result: dict[str, Any], first_batch: list[Record]) -> None:
    from experiments.run.methods_picture import draw_methods
    from experiments.run.timeline_picture import draw_timeline

    title = f"One warm batch of {result['model']}, {title_of(run.played[0].name)} plan"
    draw_timeline(first_batch, title, run.folder.path / "timeline")
    draw_methods(result, run.folder.path / "methods")
