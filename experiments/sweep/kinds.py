"""What a sweep has to know of the kinds of files that it can sweep: experiments, with `cost:` too, and traffic."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field

from experiments.run.cost_schema import CostExperiment
from experiments.run.folder import RunFolder, Runnable
from experiments.run.schema import Experiment
from experiments.sweep.block import Sweep
from simulator.traffic.scenario import Scenario, beside

Result = dict[str, Any]
Row = dict[str, Any]
ABOUT = "values that keys take: grid, zip, list, random, seeds"


class ExperimentFile(Experiment):
    """An experiment, and what to sweep."""

    sweep: Sweep | None = Field(None, description=ABOUT)


class CostFile(CostExperiment):
    """An experiment that asks for monthly bills, and what to sweep."""

    sweep: Sweep | None = Field(None, description=ABOUT)


class ScenarioFile(Scenario):
    """A traffic scenario, and what to sweep."""

    sweep: Sweep | None = Field(None, description=ABOUT)


AnyFile: TypeAlias = ExperimentFile | CostFile | ScenarioFile


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        point: model of one point's file. file: the same with a sweep.
        located: a file's mapping with the names of files in it made right, given the file's folder.
        check: raises InputError when a point names what is not there.
        names: the part of a point that `check` depends on; points that share it are checked once.
        run: computes one point into its folder, and returns its result.
        rows: a result as rows of the table of all points.
        shown: a result in the words and few figures of the summary: heading -> text.
        draw: a picture of the table of all points, given its rows, the swept keys, the sweep's name and the path.
    """

    point: type[Runnable]
    file: type[AnyFile]
    located: Callable[[dict[str, Any], Path], dict[str, Any]]
    check: Callable[[Any], object]
    names: Callable[[Any], Hashable]
    run: Callable[[Any, RunFolder], Result]
    rows: Callable[[Result], list[Row]]
    shown: Callable[[Result], dict[str, str]]
    draw: Callable[[list[Row], list[str], str, Path], None] | None = None


def kind_of(runnable: Runnable) -> Kind:
    """The kind of a point."""
    if isinstance(runnable, CostExperiment):
        return COSTS
    return EXPERIMENTS if isinstance(runnable, Experiment) else SCENARIOS


# -- experiments ------------------------------------------------------------------------------------------


def _run_experiment(experiment: Experiment, folder: RunFolder) -> Result:
    from experiments.run.main_job import run_experiment

    return run_experiment(experiment, folder)


def _check_experiment(experiment: Experiment) -> object:
    from experiments.run.inputs import load_inputs

    return load_inputs(experiment)


def _names_in_experiment(experiment: Experiment) -> Hashable:
    sizes = {"profiled_tokens": 1, "batch_tokens": 1, "batches": 1}
    work = experiment.workload.model_copy(update=sizes)
    return work, experiment.prediction, experiment.platform.profile


def _rows_of_experiment(result: Result) -> list[Row]:
    """A row for each way to serve the model."""
    of_point = {
        "latency_limit_s": result["latency_limit_s"],
        "prediction_error_share": result["prediction"][0]["mean_error_share"],
    }
    return [method | of_point for method in result["methods"]]


def _shown_of_experiment(result: Result) -> dict[str, str]:
    from experiments.tools.style import rounded

    first = result["methods"][0]
    of_lambdaml = first["total_over_lambdaml"]
    return {
        "method": first["method"],
        "whole bill $/M": rounded(first["total_usd"]),
        "experts $/M": rounded(first["billed_usd"]),
        "tokens/s": f"{first['tokens_per_s']:,.0f}",
        "of LambdaML": "" if of_lambdaml is None else f"{of_lambdaml:.0%}",
    }


EXPERIMENTS = Kind(
    point=Experiment,
    file=ExperimentFile,
    located=lambda data, folder: data,
    check=_check_experiment,
    names=_names_in_experiment,
    run=_run_experiment,
    rows=_rows_of_experiment,
    shown=_shown_of_experiment,
)


def _all_but_the_seed(point: CostExperiment | Scenario) -> Hashable:
    return point.model_copy(update={"seed": 0}).model_dump_json()


# -- experiments with cost: --------------------------------------------------------------------------------


def _run_cost(experiment: CostExperiment, folder: RunFolder) -> Result:
    from experiments.cost.run import run_cost

    return run_cost(experiment, folder)


def _check_cost(experiment: CostExperiment) -> object:
    from experiments.cost.run import check

    return check(experiment)


def _rows_of_cost(result: Result) -> list[Row]:
    from experiments.cost.run import rows

    return rows(result)


def _shown_of_cost(result: Result) -> dict[str, str]:
    from experiments.cost.run import shown

    return shown(result)


def _draw_costs(rows: list[Row], keys: list[str], name: str, path: Path) -> None:
    from experiments.cost.sweep_picture import draw_bills

    draw_bills(rows, keys, name, path)


COSTS = Kind(
    point=CostExperiment,
    file=CostFile,
    located=lambda data, folder: data,
    check=_check_cost,
    names=_all_but_the_seed,
    run=_run_cost,
    rows=_rows_of_cost,
    shown=_shown_of_cost,
    draw=_draw_costs,
)

# -- traffic scenarios ------------------------------------------------------------------------------------


def _run_scenario(scenario: Scenario, folder: RunFolder) -> Result:
    from experiments.traffic.run import run_scenario

    return run_scenario(scenario, folder)


def _check_scenario(scenario: Scenario) -> object:
    from simulator.traffic.open_loop import read_inputs

    return read_inputs(scenario)


def _rows_of_scenario(result: Result) -> list[Row]:
    """One row: each metric's mean, and half the width of its 95% interval."""
    row: Row = {"slo_s": result["slo_s"], "offered_requests_per_s": result["offered_requests_per_s"]}
    row["stopped"] = next((reason for reason in result["stopped"] if reason), None)
    for name, found in result["metrics"].items():
        row[name] = found["mean"]
        row[f"{name}_ci95_half_width"] = found["ci95_half_width"]
    return [row]


def _shown_of_scenario(result: Result) -> dict[str, str]:
    shown = {
        "in SLO": ("slo_attainment", ".2%"),
        "failed": ("failed_share", ".2%"),
        "cold": ("cold_share", ".2%"),
        "p50 s": ("latency_p50_s", ".3g"),
        "p99 s": ("latency_p99_s", ".3g"),
        "$/1000 requests": ("total_usd_per_1000_requests", ".3g"),
    }
    means = {heading: (result["metrics"][name]["mean"], form) for heading, (name, form) in shown.items()}
    return {heading: "" if mean is None else format(mean, form) for heading, (mean, form) in means.items()}


SCENARIOS = Kind(
    point=Scenario,
    file=ScenarioFile,
    located=beside,
    check=_check_scenario,
    names=_all_but_the_seed,
    run=_run_scenario,
    rows=_rows_of_scenario,
    shown=_shown_of_scenario,
)
