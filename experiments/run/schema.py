"""The experiment file, `experiment/1`: what its YAML may say (`./smoe schema` prints it for editors)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from moe.errors import InputError
from moe.files import FileModel, read_settings, source_of, validated
from moe.pretrained.settings import GateKind
from moe.routing.synthetic import SyntheticPopularity
from moe.spec import load_spec
from optimizer.margin import LATE_SHARE
from simulator.plan import MaxReplicas, MemoryMB, Objective
from simulator.profiles.schema import DEFAULT_PROFILE
from simulator.serving.layer import Serving, Start


class Workload(FileModel):
    """The model, the text, and whose routing stands for it."""

    spec: str = Field("bert-moe", description="model whose sizes are priced: a preset, or a YAML file")
    experts: int = Field(4, ge=2, description="experts of an MoE layer; unsaid: those of spec")
    top_k: int = Field(1, ge=1, description="experts that a token uses; unsaid: those of spec")
    record: str = Field(
        "minilm",
        description="whose routing is recorded: minilm, smollm2, a directory, a hub name, or ENCODER+DECODER",
    )
    corpus: str = Field("wikipedia", description="text: a packaged corpus, a text file, or hub:NAME")
    bootstrap: bool = Field(
        False, description="where the text is too short, served batches are drawn from its sequences, labelled so"
    )
    trace: str | None = Field(
        None, description="routing from a file instead (docs/workloads.md); record, corpus, gate are not used"
    )
    trace_part: str | None = Field(None, description="of a file of counts: the corpus, such as olmoe/c4")
    trace_drop_padding: bool = Field(
        False, description="leave out tokens of the file whose choices are all -1, or all 0 with top-k above 1"
    )
    popularity: SyntheticPopularity | None = Field(
        None, description="routing made up by a law instead; record, corpus, gate are not used"
    )
    gate: GateKind = Field(
        "trained",
        description="trained: linear gates that find the neurons that carry an MLP's output; random; "
        "standardised; own: those of a real MoE model",
    )
    expert_copies: Literal["copies", "perturbed"] = Field("copies", description="experts: copies of the dense MLP")
    layers_of_recording: tuple[int, ...] | None = Field(
        None, description="recorded layer that stands for each MoE layer of spec; null: one to one"
    )
    sequence_tokens: int = Field(128, ge=8, description="tokens of a text sequence")
    profiled_tokens: int = Field(20480, ge=1, description="tokens that the profile table is learnt from")
    batch_tokens: int = Field(10240, ge=1, description="tokens of a served batch")
    batches: int = Field(1, ge=1, description="served batches")
    generate: int = Field(
        0, ge=0, description="tokens that each sequence of a batch generates, one after the other"
    )

    @property
    def tokens(self) -> int:
        """Profiled and served tokens."""
        return self.profiled_tokens + self.batches * self.batch_tokens

    @property
    def batch_sequences(self) -> int:
        """Sequences of a batch, at least one."""
        return max(1, round(self.batch_tokens / self.sequence_tokens))

    @property
    def is_recorded(self) -> bool:
        """Whether text is routed through a model, rather than routing read or made up."""
        return self.trace is None and self.popularity is None

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_spec(cls, data: Any) -> Any:
        """Experts and top-k that are not said are those of the spec."""
        spec = data.get("spec", cls.model_fields["spec"].default) if isinstance(data, dict) else None
        if not isinstance(spec, str) or {"experts", "top_k"} <= set(data):
            return data
        try:
            sizes = load_spec(spec)
        except InputError:  # said where the spec is needed
            return data
        return {"experts": sizes.experts, "top_k": sizes.top_k} | data

    @model_validator(mode="after")
    def _possible(self) -> Workload:
        if self.trace is not None and self.popularity is not None:
            raise ValueError("expected at most one of trace, popularity, got both")
        if self.trace_part is not None and self.trace is None:
            raise ValueError(f"trace_part: expected only with trace, got {self.trace_part}")
        if self.trace_drop_padding and self.trace is None:
            raise ValueError("trace_drop_padding: expected only with trace")
        if self.top_k > self.experts:
            raise ValueError(f"top_k: expected at most experts = {self.experts}, got {self.top_k}")
        return self


class Prediction(FileModel):
    """How expert popularity is predicted."""

    predictor: str = Field(
        "bayes", description="predictor whose popularity the plans are made for, or module:Class"
    )
    variant: Literal["printed", "mixture", "backoff"] = Field(
        "printed", description="of bayes: Eq. 2 or a variant"
    )
    counting: Literal["hard", "expected"] = Field("expected", description="count argmaxes, or the posteriors")


class PlatformChoice(FileModel):
    """The platform, and what a deployment may choose from."""

    profile: str = Field(
        DEFAULT_PROFILE,
        description="platform profile or contender (docs/cost.md): a packaged one, a YAML file, an EC2 instance; "
        "`platform: NAME` is short for it",
    )
    memory_mb: tuple[MemoryMB, ...] | None = Field(None, min_length=1, description="sizes; null: the paper's")
    max_replicas: MaxReplicas = 8
    non_moe_memory_mb: MemoryMB = Field(3008, description="memory of gate and non-MoE functions")
    lambdaml_memory_mb: MemoryMB = Field(3008, description="LambdaML takes the largest size up to this")

    @model_validator(mode="before")
    @classmethod
    def _name(cls, data: Any) -> Any:
        """`platform: fargate`."""
        return {"profile": data} if isinstance(data, str) else data


class Target(FileModel):
    """What the deployment has to reach: at most one of the three, and how often it may be missed."""

    latency_limit_s: float | None = Field(None, gt=0, description="of a batch, head to tail")
    tokens_per_s: float | None = Field(None, gt=0, description="least throughput")
    throughput_of_lambdaml: float | None = Field(
        None, gt=0, description="least throughput, as a share of LambdaML's"
    )
    late_share: float | None = Field(
        LATE_SHARE,
        ge=0.005,
        lt=1,
        description="share of the batches that may be late: plans are made for less than the limit; null: the "
        "limit itself, as in the paper",
    )
    objective: Objective = Field(
        "gb_s", description="gb_s: the paper's bill; usd: the experts' full bill; total: the whole bill"
    )

    @model_validator(mode="after")
    def _one(self) -> Target:
        given = [
            k
            for k in ("latency_limit_s", "tokens_per_s", "throughput_of_lambdaml")
            if getattr(self, k) is not None
        ]
        if len(given) > 1:
            raise ValueError(
                f"expected at most one of latency_limit_s, tokens_per_s, throughput_of_lambdaml, got {given}"
            )
        return self


class Simulation(Serving):
    """How the plans are played."""

    start: Start = Field("just-in-time", description="when experts are started")


class Experiment(FileModel):
    """One experiment: from text to a bill."""

    schema_: Literal["experiment/1"] = Field("experiment/1", alias="schema")
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    about: str = ""
    seed: int = Field(0, ge=0)
    workload: Workload = Workload()
    prediction: Prediction = Prediction()
    platform: PlatformChoice = PlatformChoice()
    target: Target = Target()
    plans: tuple[str, ...] = Field(
        ("ods", "exact", "best-uniform", "lambdaml"),
        min_length=1,
        description="solvers that are compared: as of `smoe plan --solver`, or your own function, module:function",
    )
    simulation: Simulation = Simulation()


def load_experiment(path: str | Path, settings: Sequence[str] = ()) -> Experiment:
    """An experiment's YAML with `key.key=value` settings applied.

    Raises:
        InputError: a missing file, an unknown key (nearest named), a value that is impossible.
    """
    return validated(Experiment, read_settings(path, settings), source_of(path, settings))
