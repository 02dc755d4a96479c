"""What `smoe plan` takes besides the problem: grouping, popularity of other times, options of one solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from experiments.commands.options import FILE
from moe.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from optimizer.grouped import Grouping
    from simulator.plan import DeploymentProblem

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--gap", type=float, help="exact: share of the cost to come within; default 0: the optimum."),
    click.option("--inner", help="ods: what solves it with one method: exact (default), scip, gurobi."),
    click.option("--backend", help="miqcp: scip (default), gurobi."),
    click.option("--time-limit", "time_limit_s", type=float, help="Seconds; miqcp: 180; ods, each method: 60."),
    click.option("--warm-start", help="miqcp: ods."),
    click.option("--group", type=int, metavar="B", help="Put B experts of a layer into each function."),
    click.option("--group-by", default="index", show_default=True, help="index, popularity or load."),
    click.option("--samples", "samples_path", type=FILE, help="robust: popularity samples (smoe samples)."),
    click.option("--risk", help="robust: mean (default) or quantile of the samples' bills."),
    click.option("--quantile", type=float, help="robust: which; default 0.9."),
    click.option(
        "--limit-share", type=float, help="robust: samples that must keep the limit; default: their mean."
    ),
    click.option(
        "--history", "history_path", type=FILE, help="reactive: popularity, or samples, of the last period."
    ),
    click.option("--memory-mb", type=int, help="replicas-only: memory of all experts."),
    click.option("--replicas-per-expert", type=float, help="replicas-only: budget, on average."),
)


def planning_options(command: Command) -> Command:
    """Give a command all of these options."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Planning:
    """The problem to solve, and the solver's options.

    Attributes:
        problem: grouped, if asked for.
        grouping: which experts are in which group; None without.
        options: for `optimizer.solve`.
    """

    problem: DeploymentProblem
    grouping: Grouping | None
    options: dict[str, Any]

    @staticmethod
    def of(problem: DeploymentProblem, given: dict[str, Any]) -> Planning:
        """What the command line asks for. Raises InputError."""
        from optimizer.grouped import group_experts
        from optimizer.popularity.popularity_file import load_samples

        options = {name: value for name, value in given.items() if name in _SOLVER_OPTIONS and value is not None}
        if given["samples_path"] is not None:
            options["samples"] = load_samples(given["samples_path"])
        if given["history_path"] is not None:
            options["history"] = _history(given["history_path"])
        if given["group"] is None:
            return Planning(problem, None, options)
        grouping = group_experts(problem, given["group"], given["group_by"])
        for name in ("samples", "history"):
            if name in options:
                options[name] = grouping.of_tokens(options[name])
        return Planning(grouping.of_problem(problem), grouping, options)

    def write_groups(self, plan_path: Path) -> None:
        """Write, beside the plan of a grouped problem, that problem and who is in which group."""
        from moe.files import write_json

        if self.grouping is not None:
            write_json(plan_path.with_suffix(".problem.json"), self.problem)
            write_json(plan_path.with_suffix(".groups.json"), self.grouping)


_SOLVER_OPTIONS = (
    *("gap", "inner", "backend", "time_limit_s", "warm_start"),
    *("risk", "quantile", "limit_share", "memory_mb", "replicas_per_expert"),
)


def _history(path: Path) -> np.ndarray:
    """Popularity of one batch (smoe predict) or of several (samples file)."""
    from optimizer.popularity.popularity_file import load_popularity, load_samples

    try:
        return load_samples(path)
    except InputError as error:
        if "missing sample" not in str(error):
            raise
    return load_popularity(path)
