"""What is served for live validation, and how often."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from moe.errors import InputError
from moe.files import FileModel
from moe.pretrained.settings import GateSettings
from simulator.profiles.schema import PlatformProfile

LOCAL_MB_PER_CORE = 4096.0
SAME_MB = 0.05  # a measured memory of a vCPU is that of the setting if it is so near, relative
SPARE_CORES = 0.3  # of this machine, for S3, the endpoint and whoever else


class ValidateSettings(FileModel):
    """The settings of `smoe validate`."""

    plan: Path | None = Field(None, description="one plan for the exported model, instead of the usual ones")
    repeats: int | None = Field(None, ge=1, description="batches of each plan and load; none: 3, --quick: 2")
    mb_per_core: float | None = Field(
        None, gt=0, description="local: memory that buys one core; none: that of --profile, else 4096"
    )
    role: str | None = Field(None, description="aws: ARN of the role that functions run as")
    region: str | None = Field(None, description="aws: instead of the configured one")
    numpy_wheel: Path | None = Field(None, description="aws: numpy for the functions; none: that of this Python")
    budget_usd: float = Field(1.0, ge=0, description="aws: stop once so much was billed")


@dataclass(frozen=True)
class LiveSettings:
    """One live validation.

    Attributes:
        model: a BERT-like encoder that `moe.pretrained.models` knows. layers: of it, the first ones.
        gates: of its MoE layers.
        noise: of the experts, relative to each weight tensor: a token that goes astray shows.
        sequence_tokens, corpus: of the text that is served.
        loads: sequences of a batch, each a load.
        repeats: batches of each plan and load that count; one more goes before and does not.
        memory_mb: sizes that plans choose from. non_moe_memory_mb: of gate and non-MoE functions.
        blocks_memory_mb: of stages of whole blocks.
        mb_per_core: of the embedded endpoint: memory that buys one core; more than on AWS, so that a layer's
            functions together fit this machine's cores.
        tolerance: of the output against the undistributed model, absolute.
        poll_s: between a function's looks at what is not there yet.
        quick: fewer plans and calibrating batches.
    """

    model: str = "minilm"
    layers: int = 2
    gates: GateSettings = field(default_factory=GateSettings)
    noise: float = 0.5
    sequence_tokens: int = 128
    corpus: str = "wikipedia"
    loads: tuple[int, ...] = (32, 64)
    repeats: int = 3
    memory_mb: tuple[int, ...] = (128, 192, 256, 384, 512, 768, 1024)
    non_moe_memory_mb: int = 2048
    blocks_memory_mb: tuple[int, ...] = (1024, 2048)
    mb_per_core: float = LOCAL_MB_PER_CORE
    tolerance: float = 1e-4
    poll_s: float = 0.05
    quick: bool = False

    def __post_init__(self) -> None:
        if self.mb_per_core <= 0:
            raise InputError(f"mb_per_core: expected a number above 0, got {self.mb_per_core:g}")

    def made_quick(self) -> LiveSettings:
        """The same with one load and two repeats."""
        return replace(self, loads=self.loads[-1:], repeats=2, quick=True)

    @property
    def cores(self) -> float:
        """Cores of this machine that functions may ask for together."""
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return count - SPARE_CORES


def settings_for(profile: PlatformProfile | None, backend: str, mb_per_core: float | None) -> LiveSettings:
    """Settings with which a profile's constants hold: locally a core is as much memory as in the profile.

    Args:
        profile: measured before; None: it will be measured with these settings. mb_per_core: what the user wants.

    Raises InputError where the two contradict each other.
    """
    if profile is None or backend != "local":
        return LiveSettings(mb_per_core=LOCAL_MB_PER_CORE if mb_per_core is None else mb_per_core)
    measured_mb = profile.compute.mb_per_vcpu.median
    if mb_per_core is not None and abs(mb_per_core / measured_mb - 1) > SAME_MB:
        raise InputError(
            f"mb_per_core={mb_per_core:g}: expected about {measured_mb:g}, compute.mb_per_vcpu of profile"
            f" '{profile.name}': leave it out, or calibrate from a campaign with that mb_per_core"
        )
    return LiveSettings(mb_per_core=measured_mb if mb_per_core is None else mb_per_core)
