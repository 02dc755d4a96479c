"""One live validation from text to table: export, calibrate, then serve and simulate every plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from calibration.measured.live_model import (
    BlockFit,
    CalibratingRow,
    ModelFit,
    PlatformFit,
    fit_blocks,
    fit_model,
    fit_platform,
    profile_of,
)
from experiments.live.plans import asked_cores, calibrating_plans, calibrating_stages, plans_for, staged_plans
from experiments.live.problem import Load, guessed_problem, measured_problem, token_sizes, with_blocks
from experiments.live.settings import LiveSettings
from lambda_probe.handlers.exchange import pack
from lambda_probe.live.model import LiveBatch, LiveModel
from lambda_probe.live.rows import LiveRow
from moe.errors import PlatformError
from moe.pretrained.export import ExportedModel
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.serving.layer import EAGER
from simulator.serving.simulate import SimulatedRun, simulate
from simulator.staged_plan import AnyPlan, StagedPlan

Say = Callable[[str], None]
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class ServedLive:
    """A plan that was served under one load.

    Attributes:
        name: of the plan. load: tokens of a batch. batches: those that count.
        busy_cores: of the machine, before.
    """

    name: str
    plan: AnyPlan
    load: int
    batches: tuple[LiveBatch, ...]
    busy_cores: float


@dataclass(frozen=True)
class Served:
    """The same, simulated.

    Attributes:
        live: what was served. problem, simulated: as many batches, played.
        worst: the largest difference of an output from the undistributed model's.
        right_routing: whether every expert got the tokens that the undistributed model's gates send it.
        cores: that the experts of a layer ask for at once. mb_per_vcpu: memory that buys a vCPU.
    """

    live: ServedLive
    problem: DeploymentProblem
    simulated: SimulatedRun
    worst: float
    right_routing: bool
    cores: float
    mb_per_vcpu: float


@dataclass
class Session:
    """A model on a platform, with what is known of both.

    Attributes:
        live: the model. loads: by tokens of a batch.
        base: the profile that calibration starts from. measure: whether the platform's constants are measured,
            or the base's. loopback: functions share this machine, and its cores.
        budget_usd: of what is billed, at the profile's prices.
        keep: called with this after each batch.
        kept: rows of every batch that was served, with its plan's name and tokens.
    """

    live: LiveModel
    settings: LiveSettings
    loads: dict[int, Load]
    base: PlatformProfile
    measure: bool
    loopback: bool
    say: Say
    seed: int = 0
    budget_usd: float = math.inf
    keep: Callable[[Session], None] = lambda session: None
    kept: list[tuple[str, int, tuple[LiveRow, ...]]] = field(default_factory=list)
    platform: PlatformFit | None = None
    model: ModelFit | None = None
    blocks: tuple[BlockFit, ...] = ()
    profile: PlatformProfile = field(init=False)
    _rows: list[list[CalibratingRow]] = field(default_factory=list)
    _block_rows: list[LiveRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.profile = self.base

    # -- calibration --------------------------------------------------------------------------------------

    def calibrate(self) -> None:
        """Serve plans that are not validated, and fit; again at the end, to both. Raises PlatformError."""
        first, found = self.guess(), []
        for number, plan in enumerate(calibrating_plans(first, self.settings.quick)):
            self.say(f"calibrating: plan {number + 1}, {plan.layers[0].communication}")
            self.deploy(first, plan, foresee=False)
            self._batch(max(self.loads))
            for tokens in self.loads:
                found += calibrating_rows(self.live.model, plan, tokens, self._batch(tokens))
        for staged in calibrating_stages(len(self.live.model.experts), self.settings.blocks_memory_mb):
            self.say("calibrating: stages of one block")
            self.deploy(first, staged)
            self._batch(max(self.loads))  # loads the parameters
            for tokens in self.loads:
                self._block_rows += self._batch(tokens).rows
        self._rows.append(found)
        self._fit(self.calibrating_rows())

    def _fit(self, rows: list[CalibratingRow]) -> None:
        mb_per_vcpu, encoding = self.settings.mb_per_core, self.base.payload.encoding_factor.median
        if self.measure:
            self.platform = fit_platform(rows, mb_per_vcpu, encoding)
            self.profile = profile_of(self.base, self.platform, "live", mb_per_vcpu, self.loopback)
        sizes, before = token_sizes(self.live.model), self.model
        self.model = fit_model(rows, self.settings.memory_mb, mb_per_vcpu, float(sum(sizes)))
        if before is not None:  # by these live gates have foreseen overflow, and plans chosen sizes
            needs = ("runtime_bytes", "bytes_per_token", "non_moe_bytes")
            self.model = replace(self.model, **{name: getattr(before, name) for name in needs})

        exponent = self.model.share_exponent
        self.blocks = fit_blocks(self._block_rows, self.settings.blocks_memory_mb, mb_per_vcpu, exponent)

    @property
    def block_rows(self) -> tuple[LiveRow, ...]:
        """All rows of stages that constants were fitted to."""
        return tuple(self._block_rows)

    def calibrating_rows(self) -> list[CalibratingRow]:
        """All rows of expert functions that constants were fitted to."""
        return [row for rows in self._rows for row in rows]

    @property
    def drift(self) -> float:
        """CPU time of the same compute after all plans over that before, less one; NaN without both."""
        if len(self._rows) < 2:
            return float("nan")
        before, after = (sum(x.row.compute_cpu_s for x in rows) for rows in self._rows[:2])
        return after / before - 1

    def deploy(self, problem: DeploymentProblem, plan: AnyPlan, foresee: bool = True) -> None:
        """Deploy a plan and start its instances, which is billed. Raises PlatformError at the budget."""
        self._check_budget()
        self.live.deploy(problem, plan, foresee)

    def serve_batch(self, tokens: np.ndarray, plan: str) -> LiveBatch:
        """Serve a batch of token IDs (S, n) with the plan that is deployed. Raises PlatformError at the budget."""
        self._check_budget()
        found = self.live.serve(tokens)
        self.kept.append((plan, tokens.size, found.rows))
        self.keep(self)
        return found

    @property
    def spent_usd(self) -> float:
        """What was billed so far: batches, and the starting of instances."""
        rows = [row.record for _, _, batch in self.kept for row in batch]
        return self.live.started_usd + sum(row.compute_cost_usd + row.request_cost_usd for row in rows)

    def _check_budget(self) -> None:
        if self.spent_usd >= self.budget_usd:
            raise PlatformError(
                f"the budget of {self.budget_usd:g} USD is used up ({self.spent_usd:.4f} USD were billed): "
                "expected a larger budget_usd; it begins anew"
            )

    def _batch(self, tokens: int) -> LiveBatch:
        found = self.serve_batch(self.loads[tokens].tokens, "calibration")
        if found.failed:
            raise PlatformError(f"live calibration: a batch failed: {found.failed}")
        return found

    # -- problems -----------------------------------------------------------------------------------------

    def guess(self) -> DeploymentProblem:
        """The problem of the largest load before anything is measured."""
        return self._made(max(self.loads))

    def problem(self, tokens: int) -> DeploymentProblem:
        """The deployment problem of a load, with the measured costs of the model."""
        assert self.model is not None
        made = measured_problem(self._made(tokens), self.model, tokens)
        return with_blocks(made, self.live.model, self.blocks, self.settings)

    def _made(self, tokens: int) -> DeploymentProblem:
        """A problem with the model's real sizes, and times by the profile's FLOP/s."""
        return guessed_problem(self.live.model, self.loads[tokens].routing, self.profile, self.settings)

    # -- validation ---------------------------------------------------------------------------------------

    def plans(self, given: DeploymentPlan | None) -> dict[str, AnyPlan]:
        """The plans to serve, made for the largest load; or the user's."""
        if given is not None:
            return {given.solver: given}
        staged = staged_plans(len(self.live.model.experts), self.settings.blocks_memory_mb)
        return {**plans_for(self.problem(max(self.loads)), self.settings.quick), **staged}

    def serve(self, plans: dict[str, AnyPlan]) -> list[ServedLive]:
        """Serve every plan under every load."""
        found = []
        for name, plan in plans.items():
            busy = busy_cores()
            self.deploy(self.problem(max(self.loads)), plan)
            self.serve_batch(self.loads[max(self.loads)].tokens, name)  # one that does not count
            for tokens, load in self.loads.items():
                self.say(f"serving plan {name}, {tokens} tokens a batch")
                batches = tuple(self.serve_batch(load.tokens, name) for _ in range(self.settings.repeats))
                found.append(ServedLive(name, plan, tokens, batches, busy))
        return found

    def simulate(self, live: ServedLive) -> Served:
        """Play what was served, with all that was measured."""
        load, problem = self.loads[live.load], self.problem(live.load)
        outputs = [x.output for x in live.batches if x.output is not None]
        simulated = simulate(
            problem,
            live.plan,
            self.profile,
            routing=[load.routing] * len(live.batches),
            serving=EAGER,
            poll_s=self.settings.poll_s,
            seed=self.seed,
        )
        return Served(
            live=live,
            problem=problem,
            simulated=simulated,
            worst=max((float(np.abs(x - load.output).max()) for x in outputs), default=float("nan")),
            right_routing=isinstance(live.plan, StagedPlan)  # what its lanes route, their output shows
            or all(_routed_right(x, load.routing) for x in live.batches if x.output is not None),
            cores=asked_cores(problem, live.plan, self.settings.mb_per_core) if self.loopback else 0.0,
            mb_per_vcpu=self.settings.mb_per_core,
        )


def calibrating_rows(
    model: ExportedModel, plan: DeploymentPlan, tokens: int, batch: LiveBatch
) -> list[CalibratingRow]:
    """The rows of a batch of so many tokens, with what a fit needs to know of their plan."""
    found = []
    for row in batch.rows:
        e = row.record.layer
        arrays = model.experts[e][row.record.expert] if row.record.role == "expert" else model.non_moe[e]
        method = plan.layers[min(e, len(plan.layers) - 1)].communication
        found.append(CalibratingRow(method, tokens, len(pack(arrays)), row))
    return found


def busy_cores(seconds: float = 1.0) -> float:
    """Cores of this machine that are busy, on average over some seconds from now; NaN where it does not tell.

    Live durations are too long where others take its cores.
    """
    if not STAT.is_file():
        return float("nan")
    before, began = _busy_ticks(), time.monotonic()
    time.sleep(seconds)
    return (_busy_ticks() - before) / 100 / (time.monotonic() - began)


def _busy_ticks() -> int:
    """Hundredths of core-seconds that were not idle, since the start of the system."""
    user, nice, system, _idle, _iowait, *rest = map(int, STAT.read_text().splitlines()[0].split()[1:])
    return user + nice + system + sum(rest[:3])


def _routed_right(batch: LiveBatch, routing: np.ndarray) -> bool:
    found = np.zeros_like(routing)
    for row in batch.rows:
        if row.record.role == "expert":
            found[row.record.layer, row.record.expert] += int(row.record.tokens)
    return bool((found == routing).all())
