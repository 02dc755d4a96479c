"""Settings of `smoe plan` and `smoe simulate`; the problem that a plan is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from moe.errors import InputError, shortened
from moe.files import FileModel
from optimizer.exact.solve import Beta
from optimizer.grouped.grouping import GroupBy, Grouping
from simulator.plan import DeploymentProblem

if TYPE_CHECKING:
    import numpy as np

    from simulator.profiles.schema import PlatformProfile


class SolverSettings(FileModel):
    """Options of one solver or the other; null: the solver's own default."""

    gap: float | None = Field(None, description="exact: share of the cost to come within; 0: the optimum")
    inner: str | None = Field(None, description="ods: what solves it with one method: exact, scip, gurobi")
    backend: str | None = Field(None, description="miqcp: scip, gurobi")
    time_limit_s: float | None = Field(None, description="miqcp: seconds, 180; ods: for each method, 60")
    warm_start: str | None = Field(None, description="miqcp: ods")
    risk: str | None = Field(None, description="robust: mean or quantile of the samples' bills")
    quantile: float | None = Field(None, description="robust: which; 0.9")
    limit_share: float | None = Field(
        None, description="robust: samples that must keep the limit; else their mean"
    )
    memory_mb: int | None = Field(None, description="replicas-only: memory of all experts")
    lanes: int | None = Field(None, description="whole-model: copies of it; null: as many as cost least")
    layers: int | None = Field(None, description="blocks: of each function; null: the cheapest number")
    replicas_per_expert: float | None = Field(None, description="replicas-only: budget, on average")


class PlanSettings(SolverSettings):
    """The settings of `smoe plan`."""

    beta: Beta = Field("per-layer", description="whether pipelined layers have minibatches of their own size")
    group: int | None = Field(None, description="experts of a layer that share a function")
    group_by: GroupBy = Field("index", description="which ones")
    samples: Path | None = Field(None, description="robust, --late-share: popularity samples (smoe samples)")
    history: Path | None = Field(None, description="reactive: popularity, or samples, of the last period")
    draws: int = Field(0, ge=0, description="again on so many draws of --profile: how sure the plan is")
    trace: Path | None = Field(None, description="ods: write its rounds and Theorem 1's ratio there (JSON)")
    tolerance: float = Field(0.0, description="with --front: thins the curve, by this share of the cost")
    figure: Path | None = Field(None, description="with --front: draw it there (.png, and .svg beside it)")


class PlaySettings(FileModel):
    """The settings of `smoe simulate` besides `Serving`: what is played, and what is written."""

    cold: bool = Field(False, description="start with no warm instance")
    decode_steps: int = Field(0, ge=0, description="tokens that each sequence generates after the batch")
    sequences: int = Field(1, ge=1, description="that generate them")
    draws: int = Field(0, ge=0, description="again on so many draws of --profile: how sure the result is")
    records: Path | None = Field(None, description="write the record table (parquet) there")


@dataclass(frozen=True)
class Asked:
    """What `plan` is asked for beside the problem, and how the answer is told.

    Attributes:
        source: the problem's file. chosen: what `--set` says; the others are options of the same name.
    """

    source: Path
    solver: str
    chosen: PlanSettings
    late_share: float | None
    front: bool
    profile: str | None
    out: Path | None
    seed: int
    as_json: bool

    @property
    def platform(self) -> PlatformProfile | None:
        """Of which the problem was made; None: nobody said so. Raises InputError."""
        from simulator.profiles.schema import load_profile

        return load_profile(self.profile) if self.profile else None


@dataclass(frozen=True)
class Planning:
    """The problem to solve, and the solver's options.

    Attributes:
        problem: grouped, if asked for.
        grouping: which experts are in which group; None without.
        options: for `optimizer.solve`.
        samples: popularity samples on which a margin is found, shape (samples, layers, experts); None without.
    """

    problem: DeploymentProblem
    grouping: Grouping | None
    options: dict[str, Any]
    samples: np.ndarray | None = None

    @staticmethod
    def of(problem: DeploymentProblem, settings: PlanSettings, margin: bool = False) -> Planning:
        """What the command line asks for. Raises InputError.

        Args:
            margin: whether the samples are for the limit's margin, and so not only for the solver.
        """
        from optimizer.grouped import group_experts
        from optimizer.popularity.popularity_file import load_samples

        options: dict[str, Any] = settings.model_dump(include=set(SolverSettings.model_fields), exclude_none=True)
        if settings.samples is not None:
            options["samples"] = load_samples(settings.samples)
        if settings.history is not None:
            options["history"] = _history(settings.history)
        grouping = None
        if settings.group is not None:
            grouping = group_experts(problem, settings.group, settings.group_by)
            problem = grouping.of_problem(problem)
            for name in ("samples", "history"):
                if name in options:
                    options[name] = grouping.of_tokens(options[name])
        return Planning(problem, grouping, options, options.get("samples") if margin else None)

    def write_groups(self, plan_path: Path) -> None:
        """Write, beside the plan of a grouped problem, that problem and who is in which group."""
        from moe.files import write_json

        if self.grouping is not None:
            write_json(plan_path.with_suffix(".problem.json"), self.problem)
            write_json(plan_path.with_suffix(".groups.json"), self.grouping)


def changed(problem: DeploymentProblem, latency_limit: str | None, objective: str | None) -> DeploymentProblem:
    """The problem with what the command line says instead. Raises InputError."""
    changes: dict[str, Any] = {}
    if latency_limit is not None:
        changes["latency_limit_s"] = _limit(latency_limit)
    if objective is not None:
        changes["objective"] = objective
    return type(problem).model_validate(problem.model_copy(update=changes))


def _limit(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InputError(f"--latency-limit: expected seconds > 0, or none, got {shortened(text)}")
    return value


def _history(path: Path) -> np.ndarray:
    """Popularity of one batch (smoe predict) or of several (samples file)."""
    from optimizer.popularity.popularity_file import load_popularity, load_samples

    try:
        return load_samples(path)
    except InputError as error:
        if "missing sample" not in str(error):
            raise
    return load_popularity(path)
