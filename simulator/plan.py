"""The contract between optimizer and simulator: deployment problem and deployment plan (docs/formats.md).

Source: Liu, Wang, Wu, INFOCOM 2025, section III-C/D. The constraints 12c, 12e and 12f stand here, because
the simulator needs them at run time (overflow); the costs, Eq. 3-11, stand in `optimizer.cost_model`.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from moe.errors import InputError
from moe.files import FileModel, read_model
from moe.shown import Shown
from simulator.stages import Blocks, check_sizes, seconds_of

MB = 2**20

Communication: TypeAlias = Literal["pipelined", "storage", "direct"]
COMMUNICATIONS: tuple[Communication, ...] = ("pipelined", "storage", "direct")
Objective: TypeAlias = Literal["gb_s", "usd", "total"]
Reload: TypeAlias = Literal["every-invocation", "when-cold"]
ProblemSchema: TypeAlias = Literal["deployment-problem/1", "deployment-problem/2"]
ViolationKind: TypeAlias = Literal["memory", "payload", "replicas", "minibatch", "latency"]
Violation: TypeAlias = tuple[int | None, int | None, ViolationKind]

OBJECTIVE_UNIT: dict[Objective, str] = {"gb_s": "GB-s", "usd": "USD", "total": "USD"}

MOST_REPLICAS = 10_000
"""Of an expert: that a problem may allow, and that a simulation plays; the closed form judges any number."""
TOKEN_SUM_SHARE = 0.01
"""By how much a layer's tokens may be off top_k x batch_tokens in a file, where they are rounded."""


def _not_tiny(value: float) -> float:
    if value < 1e-30:
        raise ValueError(f"expected at least 1e-30, got {value}")
    return value


Positive: TypeAlias = Annotated[float, Field(gt=0, le=1e30), AfterValidator(_not_tiny)]  # quotients stay finite
NonNegative: TypeAlias = Annotated[float, Field(ge=0, le=1e30)]
MemoryMB: TypeAlias = Annotated[int, Field(ge=128, le=10240)]
MaxReplicas: TypeAlias = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]


class ProblemPlatform(FileModel):
    """The platform's constants as the closed form sees them.

    `gate_bandwidth_bytes_per_s`: null: the largest size's. `reload`: null: `every-invocation`, in `total` as pays.
    `direct_hands_on`: whether with `direct` the gate's function collects the results and hands them on, as Lambda
    needs it (docs/formats.md); False: they reach the next function by themselves, in no time (the paper).
    """

    memory_mb: tuple[MemoryMB, ...] = Field(min_length=1)
    max_replicas: MaxReplicas
    storage_bandwidth_bytes_per_s: Positive | tuple[Positive, ...]
    direct_bandwidth_bytes_per_s: Positive
    storage_delay_s: NonNegative
    warm_start_s: NonNegative
    payload_limit_bytes: Positive
    price_per_gb_s: NonNegative
    price_per_invocation: NonNegative = 0.0
    price_per_put: NonNegative = 0.0
    price_per_get: NonNegative = 0.0
    payload_encoding_factor: Annotated[float, Field(ge=1)] = 1.0
    gate_bandwidth_bytes_per_s: Positive | None = None
    reload: Reload | None = None
    direct_hands_on: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "ProblemPlatform":
        bandwidth = self.storage_bandwidth_bytes_per_s
        each = bandwidth if isinstance(bandwidth, tuple) else None
        check_sizes(self.memory_mb, {"storage_bandwidth_bytes_per_s": each})
        return self

    @property
    def storage_bandwidths(self) -> np.ndarray:
        """B_s of a function of each memory size, bytes/s, shape (sizes,)."""
        return np.broadcast_to(np.asarray(self.storage_bandwidth_bytes_per_s, float), (len(self.memory_mb),))

    @property
    def gate_bandwidth(self) -> float:
        """B_s of gate and non-MoE functions, bytes/s."""
        return self.gate_bandwidth_bytes_per_s or float(self.storage_bandwidths[-1])

    def loaded_bytes(self, load_s: float) -> float:
        """What a non-MoE function downloads that starts and loads for so long; 0: it only starts."""
        seconds = load_s - self.warm_start_s - self.storage_delay_s
        return seconds * self.gate_bandwidth if seconds > 1e-12 else 0.0


class ProblemExpert(FileModel):
    """One expert: its load and its sizes."""

    tokens: NonNegative
    parameter_bytes: NonNegative
    intermediate_bytes: NonNegative
    intermediate_bytes_per_token: NonNegative = 0.0


class ProblemLayer(FileModel):
    """One MoE layer and the non-MoE layer before it."""

    token_in_bytes: NonNegative
    token_out_bytes: NonNegative
    seconds_per_token: tuple[NonNegative, ...]
    seconds_per_call: tuple[NonNegative, ...] | None = None
    non_moe_s: NonNegative
    next_load_s: NonNegative
    non_moe_memory_mb: MemoryMB | None = None
    experts: tuple[ProblemExpert, ...] = Field(min_length=1)

    @property
    def tokens(self) -> np.ndarray:
        """d[e, .]: tokens of each expert, shape (experts,)."""
        return np.array([expert.tokens for expert in self.experts], float)


class NonMoESize(FileModel):
    """A memory size that gate and non-MoE functions may all have: its B_s, and the times of a problem with it."""

    memory_mb: MemoryMB
    storage_bandwidth_bytes_per_s: Positive
    head_s: NonNegative
    tail_s: NonNegative
    non_moe_s: tuple[NonNegative, ...]
    next_load_s: tuple[NonNegative, ...]


class DeploymentProblem(Shown, FileModel):
    """One optimisation: popularity, sizes, platform constants and latency limit; `/2` has `blocks` as well."""

    schema_: ProblemSchema = Field("deployment-problem/1", alias="schema")
    name: str
    objective: Objective = "gb_s"
    platform: ProblemPlatform
    layers: tuple[ProblemLayer, ...] = Field(min_length=1)
    head_s: NonNegative
    tail_s: NonNegative
    latency_limit_s: Positive | None = None
    batch_tokens: Positive | None = None
    top_k: int = Field(1, ge=1)
    non_moe: tuple[NonMoESize, ...] = ()
    blocks: Blocks | None = Field(None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _consistent(self) -> "DeploymentProblem":
        if (self.blocks is not None) != (self.schema_ == "deployment-problem/2"):
            raise ValueError(f"blocks: expected with deployment-problem/2 and only there, got {self.schema_}")
        if self.blocks is not None and len(self.blocks.layers) != len(self.layers):
            raise ValueError(f"blocks.layers: expected {len(self.layers)}, got {len(self.blocks.layers)}")
        for k, size in enumerate(self.non_moe):
            if not len(size.non_moe_s) == len(size.next_load_s) == len(self.layers):
                raise ValueError(f"non_moe.{k}: non_moe_s, next_load_s: expected a value for each layer")
        check_sizes(self.platform.memory_mb, seconds_of(self.layers))
        return self

    @property
    def served_tokens(self) -> float:
        """Tokens of one batch: `batch_tokens`, or the tokens of the first layer that has any / top_k."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return max(float(layer.tokens.sum()) for layer in self.layers) / self.top_k

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "layers": len(self.layers),
            "experts": len(self.layers[0].experts),
            "batch_tokens": self.served_tokens,
            "objective": self.objective,
            "latency_limit_s": self.latency_limit_s,
        }

    def with_blocks(self, blocks: Blocks | None) -> "DeploymentProblem":
        """The same problem, whose plans may also have stages of whole blocks; None: they may not."""
        schema = "deployment-problem/1" if blocks is None else "deployment-problem/2"
        return self.model_copy(update={"blocks": blocks, "schema_": schema})

    def with_limit(self, latency_limit_s: float | None) -> "DeploymentProblem":
        """The same problem under another latency limit."""
        return self.model_copy(update={"latency_limit_s": latency_limit_s})


class ExpertPlan(FileModel):
    """Memory and replicas of one expert; more replicas than a problem allows are a violation."""

    memory_mb: MemoryMB
    replicas: int = Field(ge=1, le=10**12)


class LayerPlan(FileModel):
    """Communication method, minibatch size (`pipelined` only) and the experts of one layer."""

    communication: Communication
    minibatch_tokens: int | None = Field(None, ge=1)
    experts: tuple[ExpertPlan, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _minibatch(self) -> "LayerPlan":
        if (self.communication == "pipelined") != (self.minibatch_tokens is not None):
            raise ValueError(
                "minibatch_tokens: expected a number exactly where communication is 'pipelined', "
                f"got {self.minibatch_tokens} with '{self.communication}'"
            )
        return self

    @property
    def memory_mb(self) -> np.ndarray:
        """Memory of each expert, shape (experts,) int."""
        return np.array([expert.memory_mb for expert in self.experts])

    @property
    def replicas(self) -> np.ndarray:
        """Replicas of each expert, shape (experts,) int."""
        return np.array([expert.replicas for expert in self.experts])


class DeploymentPlan(Shown, FileModel):
    """What to deploy, and what the solver that made it says of it."""

    schema_: Literal["deployment-plan/1"] = Field("deployment-plan/1", alias="schema")
    solver: str
    objective: Objective = "gb_s"
    layers: tuple[LayerPlan, ...] = Field(min_length=1)
    non_moe_memory_mb: MemoryMB | None = None
    reload: Reload | None = None
    billed_gb_s: float | None = None
    billed_cost_usd: float | None = None
    full_cost_usd: float | None = None
    total_cost_usd: float | None = None
    latency_s: float | None = None
    feasible: bool | None = None
    violations: tuple[Violation, ...] = ()
    lower_bound: float | None = None
    gap: float | None = None
    solve_s: float | None = None

    def _facts(self) -> dict[str, Any]:
        methods = Counter(layer.communication for layer in self.layers)
        return {
            "solver": self.solver,
            "layers": " + ".join(f"{count} {method}" for method, count in methods.items()),
            "billed_gb_s": self.billed_gb_s,
            "full_cost_usd": self.full_cost_usd,
            "total_cost_usd": self.total_cost_usd,
            "latency_s": self.latency_s,
            "gap": self.gap,
            "feasible": self.feasible,
        }

    @property
    def objective_value(self) -> float:
        """The bill that its objective counts. Raises ValueError for a plan that was not evaluated."""
        value: float | None = objective_value(self, self.objective)
        if value is None:
            raise ValueError(f"plan of '{self.solver}': expected one with its bills, got none")
        return value


def objective_value(found: object, objective: Objective) -> Any:
    """Of whatever has bills the one that the objective counts. Raises InputError where it has none such."""
    bill = {"gb_s": "billed_gb_s", "usd": "full_cost_usd", "total": "total_cost_usd"}[objective]
    if not hasattr(found, bill):
        raise InputError(f"objective {objective}: expected gb_s or usd, the experts' bills; these are known here")
    return getattr(found, bill)


def read_problem(path: str | Path) -> DeploymentProblem:
    """The deployment problem in a JSON or YAML file; a layer's tokens are top_k x batch_tokens. Raises InputError.

    >>> import pathlib, serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> problem = smoe.make_problem(spec, tokens, smoe.load_profile())
    >>> _ = pathlib.Path("problem.json").write_text(problem.model_dump_json(by_alias=True))
    >>> smoe.read_problem("problem.json") == problem
    True
    """
    problem = read_model(DeploymentProblem, path)
    if problem.batch_tokens is not None:
        expected = problem.top_k * problem.batch_tokens
        for e, layer in enumerate(problem.layers):
            got = float(layer.tokens.sum())
            if abs(got - expected) > TOKEN_SUM_SHARE * expected:
                raise InputError(
                    f"{path}: layers.{e}.experts: expected tokens of top_k x batch_tokens = {expected:g} in sum, "
                    f"got {got:g}"
                )
    return problem


def read_plan(path: str | Path, problem: DeploymentProblem) -> DeploymentPlan:
    """The deployment plan in a JSON or YAML file, checked to be one for `problem`. Raises InputError.

    >>> import pathlib, serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> problem = smoe.make_problem(spec, tokens, smoe.load_profile())
    >>> plan = smoe.plan(problem, "lambdaml")
    >>> _ = pathlib.Path("plan.json").write_text(plan.model_dump_json(by_alias=True))
    >>> smoe.read_plan("plan.json", problem).layers == plan.layers
    True
    """
    plan = read_model(DeploymentPlan, path)
    try:
        check_plan_fits(problem, plan)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return plan


def check_plan_fits(problem: DeploymentProblem, plan: DeploymentPlan) -> None:
    """Raise InputError unless the plan has the problem's layers and experts, and listed memory sizes."""
    if len(plan.layers) != len(problem.layers):
        raise InputError(f"layers: expected {len(problem.layers)}, as in the problem, got {len(plan.layers)}")
    for e, (layer, chosen) in enumerate(zip(problem.layers, plan.layers, strict=True)):
        if len(chosen.experts) != len(layer.experts):
            raise InputError(f"layers.{e}.experts: expected {len(layer.experts)}, got {len(chosen.experts)}")
        for i, expert in enumerate(chosen.experts):
            if expert.memory_mb not in problem.platform.memory_mb:
                raise InputError(
                    f"layers.{e}.experts.{i}.memory_mb: expected one of the problem's sizes "
                    f"{list(problem.platform.memory_mb)}, got {expert.memory_mb}"
                )


def non_moe_memory_mb(problem: DeploymentProblem, e: int) -> int:
    """Memory of non-MoE function e: its layer's, or the largest listed size; the tail has the last layer's."""
    memory = problem.layers[min(e, len(problem.layers) - 1)].non_moe_memory_mb
    return memory or problem.platform.memory_mb[-1]


def memory_indices(problem: DeploymentProblem, layer: LayerPlan) -> np.ndarray:
    """j of each expert: the index of its memory in the problem's list, shape (experts,)."""
    return np.searchsorted(problem.platform.memory_mb, layer.memory_mb)


def memory_terms(layer: ProblemLayer) -> tuple[np.ndarray, np.ndarray]:
    """P + M_itrm, and D_in + D_o + m, of each expert: Eq. 12c's memory without tokens, and per token, bytes."""
    fixed = np.array([x.parameter_bytes + x.intermediate_bytes for x in layer.experts])
    per_token = np.array([x.intermediate_bytes_per_token for x in layer.experts])
    return fixed, layer.token_in_bytes + layer.token_out_bytes + per_token


def needed_memory_bytes(layer: ProblemLayer, replica_tokens: np.ndarray) -> np.ndarray:
    """Left side of Eq. 12c for each expert: P + M_itrm + r (D_in + D_o + m).

    Args:
        layer: the MoE layer.
        replica_tokens: r, shape (experts, ...); trailing axes are options.
    """
    r = np.asarray(replica_tokens, float)
    fixed, per_token = (term.reshape(-1, *(1,) * (r.ndim - 1)) for term in memory_terms(layer))
    return fixed + r * per_token


def payload_bytes(layer: ProblemLayer, platform: ProblemPlatform, replica_tokens: np.ndarray) -> np.ndarray:
    """Left side of Eq. 12f: the larger payload of a replica, encoded, bytes; shape of `replica_tokens`."""
    larger = max(layer.token_in_bytes, layer.token_out_bytes)
    return np.asarray(replica_tokens, float) * larger * platform.payload_encoding_factor


def handed_on_as_payload(platform: ProblemPlatform, size_bytes: float) -> bool:
    """Whether the results of a `direct` layer, raw bytes, fit one payload from its gate to the next function."""
    return size_bytes * platform.payload_encoding_factor <= platform.payload_limit_bytes


def constraint_violations(problem: DeploymentProblem, plan: DeploymentPlan) -> list[Violation]:
    """Constraints 12c, 12e, 12f and the replica limit that the plan breaks (latency is another's to judge)."""
    check_plan_fits(problem, plan)
    found: list[Violation] = []
    for e, (layer, chosen) in enumerate(zip(problem.layers, plan.layers, strict=True)):
        r = layer.tokens / chosen.replicas
        too_small = needed_memory_bytes(layer, r) > chosen.memory_mb * MB
        too_large = payload_bytes(layer, problem.platform, r) > problem.platform.payload_limit_bytes
        too_large &= chosen.communication == "direct"
        too_many = chosen.replicas > problem.platform.max_replicas
        broken: dict[ViolationKind, np.ndarray]
        broken = {"memory": too_small, "payload": too_large, "replicas": too_many}
        for i in np.flatnonzero(too_small | too_large | too_many).tolist():
            found += [(e, i, name) for name, where in broken.items() if where[i]]
        if chosen.minibatch_tokens is not None and chosen.minibatch_tokens > max(1, math.ceil(r.max())):
            found.append((e, None, "minibatch"))
    return found
