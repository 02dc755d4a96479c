"""The contract of plans with stages: `deployment-plan/2` (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from moe.errors import InputError, shortened
from moe.files import FileModel, read_mapping, validated
from moe.shown import Shown
from simulator.plan import (
    DeploymentPlan,
    DeploymentProblem,
    LayerPlan,
    MemoryMB,
    ProblemExpert,
    ProblemLayer,
    Reload,
    Violation,
    check_plan_fits,
    read_plan,
)
from simulator.stages import Blocks, Handover

Groups: TypeAlias = tuple[tuple[int, ...], ...]


class BlocksStage(FileModel):
    """Consecutive whole blocks in one function, of which `lanes` copies run side by side.

    `handover`: how its hidden states get to the next stage, or its results to the client.
    """

    first_layer: int = Field(ge=0)
    last_layer: int = Field(ge=0)
    shape: Literal["blocks"] = "blocks"
    memory_mb: MemoryMB
    lanes: int = Field(ge=1)
    handover: Handover


class ExpertStage(FileModel):
    """One layer of the paper: its gate's function, and a function for each expert, or for each group of them.

    `groups`: experts by index that share a function, each expert in one; `layer.experts` has a deployment for each
    group. None: each expert has its own.
    """

    first_layer: int = Field(ge=0)
    last_layer: int = Field(ge=0)
    shape: Literal["expert-functions"] = "expert-functions"
    groups: Groups | None = None
    layer: LayerPlan


Stage: TypeAlias = Annotated[BlocksStage | ExpertStage, Field(discriminator="shape")]
Runs: TypeAlias = list[BlocksStage | tuple[ExpertStage, ...]]


class StagedPlan(Shown, FileModel):
    """A model cut into stages, and what the solver that made it says of it; bills as of a `DeploymentPlan`.

    `non_moe_memory_mb`, `reload`: of stages of expert functions. `functions`: that are deployed.
    `peak_concurrency`: executions at once, of one batch; `fits_account`: whether an account allows them.
    """

    schema_: Literal["deployment-plan/2"] = Field("deployment-plan/2", alias="schema")
    solver: str
    objective: Literal["total"] = "total"
    stages: tuple[Stage, ...] = Field(min_length=1)
    non_moe_memory_mb: MemoryMB | None = None
    reload: Reload | None = None
    billed_gb_s: float | None = None
    full_cost_usd: float | None = None
    total_cost_usd: float | None = None
    latency_s: float | None = None
    functions: int | None = None
    peak_concurrency: int | None = None
    fits_account: bool | None = None
    feasible: bool | None = None
    violations: tuple[Violation, ...] = ()
    lower_bound: float | None = None
    gap: float | None = None
    solve_s: float | None = None

    @model_validator(mode="after")
    def _each_layer_once(self) -> StagedPlan:
        begins = 0
        for k, stage in enumerate(self.stages):
            if stage.first_layer != begins:
                what = "gap" if stage.first_layer > begins else "overlap"
                raise ValueError(
                    f"stages.{k}.first_layer: expected {begins}, got {stage.first_layer}: each layer is in one "
                    f"stage, in order ({what})"
                )
            if stage.last_layer < begins:
                raise ValueError(f"stages.{k}.last_layer: expected at least {begins}, got {stage.last_layer}")
            if isinstance(stage, ExpertStage) and stage.last_layer > begins:
                one = "the one layer of expert-functions"
                raise ValueError(f"stages.{k}.last_layer: expected {begins}, {one}, got {stage.last_layer}")
            begins = stage.last_layer + 1
        return self

    def _facts(self) -> dict[str, Any]:
        names = ("total_cost_usd", "latency_s", "functions", "peak_concurrency", "gap", "feasible")
        return {"solver": self.solver, "stages": self.shape_in_words} | {n: getattr(self, n) for n in names}

    @property
    def objective_value(self) -> float:
        """The whole bill, USD. Raises ValueError for a plan that was not evaluated."""
        if self.total_cost_usd is None:
            raise ValueError(f"plan of '{self.solver}': expected one with its bill, got none")
        return self.total_cost_usd

    @property
    def shape_in_words(self) -> str:
        """Such as `1 function of 10,240 MB, 8 lanes`: of each stage of blocks, and run of experts' layers."""
        parts = []
        for run in runs_of(self):
            if isinstance(run, BlocksStage):
                lanes = f", {run.lanes} lanes" if run.lanes > 1 else ""
                parts.append(f"1 function of {run.memory_mb:,} MB{lanes}")
            else:
                functions = sum(len(stage.layer.experts) for stage in run)
                grouped = " of grouped experts" if any(stage.groups for stage in run) else ""
                parts.append(f"{functions} {'' if grouped else 'expert '}functions{grouped}")
        return " + ".join(parts)


AnyPlan: TypeAlias = DeploymentPlan | StagedPlan


def read_any_plan(path: str | Path, problem: DeploymentProblem) -> AnyPlan:
    """The plan in a JSON or YAML file, `/1` or `/2`, checked to be one for `problem`. Raises InputError."""
    data = read_mapping(path)
    schema = data.get("schema")
    if schema != "deployment-plan/2":
        if "stages" in data:
            raise InputError(f"{path}: stages: expected with schema deployment-plan/2, got {shortened(schema)}")
        return read_plan(path, problem)
    plan = validated(StagedPlan, data, path)
    try:
        check_staged_plan_fits(problem, plan)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return plan


def blocks_of(problem: DeploymentProblem) -> Blocks:
    """What stages of whole blocks may be. Raises InputError: the problem does not say."""
    if problem.blocks is None:
        raise InputError(
            f"{problem.name}: expected a problem with `blocks` (deployment-problem/2), got one without"
        )
    return problem.blocks


def check_staged_plan_fits(problem: DeploymentProblem, plan: StagedPlan) -> None:
    """Raise InputError unless the plan has the problem's layers and experts, listed sizes, and lanes to fill."""
    last = len(problem.layers) - 1
    if plan.stages[-1].last_layer != last:
        got = plan.stages[-1].last_layer
        raise InputError(f"stages: expected layers 0 to {last}, as in the problem, got 0 to {got}")
    for k, stage in enumerate(plan.stages):
        if isinstance(stage, ExpertStage):
            layer = _grouped_as_stated(problem.layers[stage.first_layer], stage, k)
            one = problem.model_copy(update={"layers": (layer,)})
            try:
                check_plan_fits(one, DeploymentPlan(solver=plan.solver, layers=(stage.layer,)))
            except InputError as error:
                raise InputError(f"stages.{k}.layer.{str(error).removeprefix('layers.0.')}") from None
            continue
        blocks = blocks_of(problem)
        most = min(blocks.max_lanes, blocks.sequences)
        if stage.memory_mb not in blocks.memory_mb:
            raise InputError(
                f"stages.{k}.memory_mb: expected one of blocks.memory_mb {list(blocks.memory_mb)}, "
                f"got {stage.memory_mb}"
            )
        if stage.lanes > most:
            raise InputError(
                f"stages.{k}.lanes: expected at most {most} (max_lanes {blocks.max_lanes}, {blocks.sequences} "
                f"sequences of which a lane has one at least), got {stage.lanes}"
            )


def grouped_layer(layer: ProblemLayer, groups: Sequence[Sequence[int]]) -> ProblemLayer:
    """The layer whose experts are these groups of its experts (docs/formats.md)."""
    members = [[layer.experts[i] for i in group] for group in groups]
    largest = max(map(len, members))
    calls = layer.seconds_per_call
    return layer.model_copy(
        update={
            "experts": tuple(map(_group, members)),
            "seconds_per_call": None if calls is None else tuple(largest * seconds for seconds in calls),
        }
    )


def layer_of(problem: DeploymentProblem, stage: ExpertStage) -> ProblemLayer:
    """The problem's layer, with the stage's groups for experts."""
    layer = problem.layers[stage.first_layer]
    return layer if stage.groups is None else grouped_layer(layer, stage.groups)


def _group(members: list[ProblemExpert]) -> ProblemExpert:
    return ProblemExpert(
        tokens=sum(x.tokens for x in members),
        parameter_bytes=sum(x.parameter_bytes for x in members),
        intermediate_bytes=max(x.intermediate_bytes for x in members),
        intermediate_bytes_per_token=max(x.intermediate_bytes_per_token for x in members),
    )


def _grouped_as_stated(layer: ProblemLayer, stage: ExpertStage, k: int) -> ProblemLayer:
    """The layer of stage number k. Raises InputError where not each expert is in one group."""
    if stage.groups is None:
        return layer
    if sorted(i for group in stage.groups for i in group) != list(range(len(layer.experts))):
        raise InputError(
            f"stages.{k}.groups: expected each of the experts 0..{len(layer.experts) - 1} in one group, got "
            f"{[list(group) for group in stage.groups]}"
        )
    return grouped_layer(layer, stage.groups)


def whole_model(plan: AnyPlan) -> BlocksStage | None:
    """The one stage of a plan that has the whole model in one function; None: it is another plan."""
    stages = plan.stages if isinstance(plan, StagedPlan) else ()
    return stages[0] if len(stages) == 1 and isinstance(stages[0], BlocksStage) else None


def runs_of(plan: StagedPlan) -> Runs:
    """The plan's stages of blocks, and between them its runs of layers of expert functions, in order."""
    runs: Runs = []
    for stage in plan.stages:
        if isinstance(stage, BlocksStage):
            runs.append(stage)
        elif runs and isinstance(runs[-1], tuple):
            runs[-1] = (*runs[-1], stage)
        else:
            runs.append((stage,))
    return runs
