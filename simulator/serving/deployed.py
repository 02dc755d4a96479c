"""Functions of a plan on a Lambda service, before anything is served."""

from __future__ import annotations

from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.network import LinkRates
from simulator.plan import DeploymentPlan, DeploymentProblem, non_moe_memory_mb
from simulator.serving.lane import Lane
from simulator.serving.layer import Serving, expert_function, non_moe_function
from simulator.serving.rehearsal import PARAMETERS
from simulator.serving.replicas import check_can_be_played
from simulator.serving.stages import FRONT
from simulator.stage_rules import block_bandwidths, plan_of_run, run_problem
from simulator.staged_plan import AnyPlan, BlocksStage, StagedPlan, blocks_of, runs_of


def deploy_plan(
    service: LambdaService,
    problem: DeploymentProblem,
    plan: AnyPlan,
    serving: Serving,
    warm: bool,
    provisioned: bool = False,
    loaded: bool = False,
) -> None:
    """Deploy every function of a plan: planned instances initialised if `warm`, kept so if `provisioned`, with
    their parameters, where they keep them, if `loaded`.

    Raises InputError: more replicas than can be played.
    """
    if isinstance(plan, DeploymentPlan):
        keeps = loaded and serving.reload == "when-cold"
        _deploy_layers(service, problem, plan, 0, warm, provisioned, keeps)
        return
    for run in runs_of(plan):
        if isinstance(run, BlocksStage):
            keeps = loaded and blocks_of(problem).reload == "when-cold"
            _deploy_blocks(service, problem, run, serving, warm, provisioned, keeps)
        else:
            keeps = loaded and serving.reload == "when-cold"
            first = run[0].first_layer
            _deploy_layers(service, run_problem(problem, run), plan_of_run(run), first, warm, provisioned, keeps)
    if _has_front_function(problem, plan):
        service.deploy(FRONT, blocks_of(problem).memory_mb[0], warm=int(warm), provisioned=int(provisioned))


def _has_front_function(problem: DeploymentProblem, plan: StagedPlan) -> bool:
    has_blocks = any(isinstance(stage, BlocksStage) for stage in plan.stages)
    return has_blocks and blocks_of(problem).front == "function"


def _deploy_layers(
    service: LambdaService,
    problem: DeploymentProblem,
    plan: DeploymentPlan,
    first_layer: int,
    warm: bool,
    provisioned: bool,
    loaded: bool,
) -> None:
    """Experts' functions and gates of a problem whose first layer is number `first_layer` of the model."""

    def deploy(name: str, memory_mb: int, instances: int) -> None:
        done = (PARAMETERS,) if loaded else ()
        service.deploy(name, memory_mb, warm=instances * warm, provisioned=instances * provisioned, done=done)

    for e, layer in enumerate(plan.layers):
        check_can_be_played(e, layer.replicas)
        for i, expert in enumerate(layer.experts):
            deploy(expert_function(first_layer + e, i), expert.memory_mb, expert.replicas)
    for e in range(len(plan.layers) + 1):
        deploy(non_moe_function(first_layer + e), non_moe_memory_mb(problem, e), 1)


def _deploy_blocks(
    service: LambdaService,
    problem: DeploymentProblem,
    stage: BlocksStage,
    serving: Serving,
    warm: bool,
    provisioned: bool,
    loaded: bool,
) -> None:
    """A stage's function; an image has its parameters in it. On the ideal platform it has the problem's B_s."""
    platform, lane = service.platform, Lane.of(problem, stage, "storage")
    is_image, link = platform.start.package_named(serving.blocks_package).is_image, None
    if platform.is_ideal:
        link = LinkRates(float(block_bandwidths(problem)[blocks_of(problem).memory_mb.index(stage.memory_mb)]))
    service.deploy(
        lane.function,
        stage.memory_mb,
        package=serving.blocks_package,
        package_bytes=lane.parameter_bytes if is_image else 0.0,
        warm=stage.lanes * warm,
        provisioned=stage.lanes * provisioned,
        done=(PARAMETERS,) if loaded else (),
        link=link,
    )
