"""What a figure is made of, as its YAML says: models, texts, batches; one block for each scale."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import Field

from moe.errors import InputError, nearest
from moe.files import FileModel, read_model, validated
from moe.pretrained.settings import GateKind
from simulator.profiles.schema import PAPER_PROFILE

Scale: TypeAlias = Literal["quick", "default", "paper-scale"]
SCALES: tuple[Scale, ...] = get_args(Scale)


class ModelChoice(FileModel):
    """A model whose sizes are priced, and the model whose routing stands for it; `gate`: else the figure's."""

    title: str
    spec: str
    record: str
    layers_of_recording: tuple[int, ...]
    gate: GateKind | None = None
    better_transformer: Literal["attention", "encoder"] = "attention"


class TextChoice(FileModel):
    """A text, what it stands for in the paper, and how many of its tokens are recorded."""

    title: str
    corpus: str
    stands_for: str
    tokens: int = Field(ge=256)


class Variant(FileModel):
    """Experts of a layer, and how many of them a token uses."""

    experts: int = Field(4, ge=2)
    top_k: int = Field(1, ge=1)

    @property
    def title(self) -> str:
        """`4 experts, top-1`."""
        return f"{self.experts} experts, top-{self.top_k}"


class FigureSettings(FileModel):
    """What every figure takes.

    Attributes:
        models, texts: every model is recorded on every text.
        experts, top_k: of an MoE layer.
        gate: kind of the gates, where the model does not say its own: trained, or random linear ones, the extreme.
        gates: how many seeds of the gates; the first is `seed`.
        profiled_share: share of a recording that is profiled; the rest is held out.
        batch_tokens, batches: of the test batches, all of held-out tokens.
        sequence_tokens: of a text sequence.
        profile: platform profile.
    """

    models: tuple[ModelChoice, ...] = Field(min_length=1)
    texts: tuple[TextChoice, ...] = Field(min_length=1)
    experts: int = Field(4, ge=2)
    top_k: int = Field(1, ge=1)
    gate: GateKind = "trained"
    gates: int = Field(1, ge=1)
    profiled_share: float = Field(0.5, gt=0, lt=1)
    batch_tokens: int = Field(10240, ge=128)
    batches: int = Field(10, ge=2)
    sequence_tokens: int = Field(128, ge=8)
    profile: str = PAPER_PROFILE
    seed: int = Field(0, ge=0)

    def kinds_of_gates(self, model: ModelChoice) -> tuple[GateKind, ...]:
        """Of all cells of a model."""
        return (model.gate or self.gate,)


class FigureFile(FileModel):
    """A figure's YAML: what all scales have in common, and what each changes."""

    schema_: Literal["figure/1"] = Field("figure/1", alias="schema")
    figure: str
    title: str
    paper: str
    settings: dict[str, Any]
    quick: dict[str, Any] = Field({})
    default: dict[str, Any] = Field({})
    paper_scale: dict[str, Any] = Field({}, alias="paper-scale")

    def block(self, scale: Scale) -> dict[str, Any]:
        """The settings of a scale."""
        return self.settings | getattr(self, scale.replace("-", "_"))


class TextOfScale(FileModel):
    """A text in workloads.yaml: its tokens by scale."""

    corpus: str
    stands_for: str
    tokens: dict[Scale, int]


class Workloads(FileModel):
    """workloads.yaml: the models and texts that the figures name."""

    schema_: Literal["figure-workloads/1"] = Field("figure-workloads/1", alias="schema")
    models: dict[str, dict[str, Any]]
    texts: dict[str, TextOfScale]


def config_path(name: str) -> Path:
    """A packaged file of experiments/configs/paper/."""
    return Path(str(resources.files("experiments") / "configs" / "paper" / name))


Settings = TypeVar("Settings", bound=FigureSettings)


def resolved(
    kind: type[Settings], file: FigureFile, path: Path, scale: Scale, seed: int, workloads: Path | None = None
) -> Settings:
    """A figure's settings at a scale: names of models and texts become what they stand for.

    Raises InputError for an unknown key, model or text (nearest named) and an impossible value.
    """
    where = workloads or config_path("workloads.yaml")
    known = read_model(Workloads, where)
    source = f"{path} ({scale})"
    data = file.block(scale) | {"seed": seed}
    data["models"] = [
        {"title": name} | known.models[_known(name, known.models, f"{source}: models", where)]
        for name in data.get("models", [])
    ]
    texts = []
    for name in data.get("texts", []):
        text = known.texts[_known(name, known.texts, f"{source}: texts", where)]
        tokens = text.tokens.get(scale)
        if tokens is None:
            raise InputError(f"{where}: texts.{name}.tokens: no number for scale '{scale}'")
        texts.append({"title": name, "corpus": text.corpus, "stands_for": text.stands_for, "tokens": tokens})
    return validated(kind, data | {"texts": texts}, source)


def _known(name: Any, known: dict[str, Any], key: str, where: Path) -> str:
    if str(name) not in known:
        raise InputError(f"{key}: no '{name}' in {where.name}{nearest(str(name), known)}")
    return str(name)
