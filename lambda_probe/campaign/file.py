"""What a campaign measures: the file format `probe-campaign/1` (docs/calibration.md)."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from lambda_probe.campaign.backend import ProbePackage
from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, read_model

BackendName: TypeAlias = Literal["local", "aws", "simulated"]
CAMPAIGNS = Path(__file__).parent
MANAGED_RUNTIME = "python3.12"
MB = 2**20
_IMAGE = re.compile(
    r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/[a-z0-9][a-z0-9._/-]*(?::[\w.-]+|@sha256:[0-9a-f]{64})"
)

PackageKey: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,11}$")]
Memory: TypeAlias = Annotated[int, Field(ge=128, le=10_240)]
Size: TypeAlias = Annotated[int, Field(ge=1, le=5 * 2**30)]
Payload: TypeAlias = Annotated[int, Field(ge=0, le=32 * 2**20)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=100_000)]
Duration: TypeAlias = Annotated[float, Field(gt=0, le=800)]


class Package(FileModel):
    """How functions are packaged; without `runtime`, it is the one of `default_runtime`.

    With `image`, which holds the handler already (docs/aws.md), else as a zip.
    """

    image: str | None = None
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    runtime: str | None = Field(None, pattern=r"^python3\.\d+$")
    imports: tuple[str, ...] = ()
    padding_mb: float = Field(0.0, ge=0, le=240)

    @field_validator("image")
    @classmethod
    def _in_a_registry(cls, value: str | None) -> str | None:
        if value is not None and not _IMAGE.fullmatch(value):
            raise ValueError(
                f"expected ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG (or @sha256:...), got {shortened(value)}"
            )
        return value

    @model_validator(mode="after")
    def _nothing_is_added_to_an_image(self) -> Package:
        if self.image and self.padding_mb:
            raise ValueError("padding_mb: expected none beside image: it is as large as it was built")
        return self

    def probe_package(self, runtime: str) -> ProbePackage:
        """As a backend takes it. Its name tells packages apart whose start differs by more than their size."""
        used = self.runtime or runtime
        kind: Literal["zip", "image"] = "image" if self.image else "zip"
        name = "-".join((used, self.architecture, kind, *self.imports))
        padding = round(self.padding_mb * MB)
        return ProbePackage(name, kind, used, self.architecture, self.imports, padding, self.image or "")


class _Probe(FileModel):
    """What all probes have: functions of each package at each memory size, `samples` calls of each work."""

    memory_mb: tuple[Memory, ...] = Field(min_length=1)
    packages: tuple[str, ...] = Field(("plain",), min_length=1)
    samples: Count = 1
    backends: tuple[BackendName, ...] = Field(("local", "aws", "simulated"), min_length=1)


class Cold(_Probe):
    """First calls of new instances."""

    probe: Literal["cold"]


class Warm(_Probe):
    """Calls of a handler that does nothing, on one instance that is there."""

    probe: Literal["warm"]


class _Timed(_Probe):
    """CPU work that takes about `seconds`, `repeats` times in a call; how much that is, is found out first."""

    seconds: Duration = 1.0
    repeats: Count = 1


class Multiply(_Timed):
    """fp32 FLOP/s by threads; more threads than a function has vCPUs begun are left out."""

    probe: Literal["multiply"]
    threads: tuple[Count, ...] = Field((1,), min_length=1)


class Expert(_Timed):
    """Seconds per token of an expert's MLP, by number of tokens."""

    probe: Literal["expert"]
    tokens: tuple[Count, ...] = Field(min_length=1)
    hidden: Count = 768
    intermediate: Count = 3072


class Move(_Probe):
    """GET or PUT inside a function; a connection that would move less than 5 MiB beside others is left out."""

    probe: Literal["get", "put"]
    size_bytes: tuple[Size, ...] = Field(min_length=1)
    connections: tuple[Count, ...] = Field((1,), min_length=1)
    repeats: Count = 1


class Send(_Probe):
    """A function invokes another one with raw bytes there (`size_bytes`), then with raw bytes back."""

    probe: Literal["send"]
    size_bytes: tuple[Payload, ...] = Field(min_length=1)
    answer_bytes: tuple[Payload, ...] = ()
    repeats: Count = 1


class PayloadLimit(_Probe):
    """The largest request, and the largest answer, by halving between two sizes in raw bytes."""

    probe: Literal["payload-limit"]
    between_bytes: tuple[Payload, Payload]
    within_bytes: Annotated[int, Field(ge=1)] = 16_384

    @field_validator("between_bytes")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] >= value[1]:
            raise ValueError(f"expected the smaller size first, got {list(value)}")
        return value


class KeepAlive(_Probe):
    """Instances that are idle for each gap, then called again; `samples` rounds of `instances` at once."""

    probe: Literal["keep-alive"]
    idle_s: tuple[Annotated[float, Field(gt=0, le=86_400)], ...] = Field(min_length=1)
    instances: Count = 1
    seconds: Duration = 0.5


class Burst(_Probe):
    """So many calls at once on a new function, again after `rest_s`: `samples` bursts; each call only waits."""

    probe: Literal["burst"]
    at_once: tuple[Count, ...] = Field(min_length=1)
    seconds: Duration = 0.5
    rest_s: float = Field(1.0, ge=0)


Probe: TypeAlias = Cold | Warm | Multiply | Expert | Move | Send | PayloadLimit | KeepAlive | Burst


class LocalPlatform(FileModel):
    """How the embedded endpoint is set up for a campaign; as in LocalSettings."""

    mb_per_core: float = Field(1769.0, gt=0)
    keep_alive_s: float = Field(600.0, gt=0)
    account_concurrency: Count = 16
    init_throttled: bool = False
    s3_latency_s: float = Field(0.0, ge=0)
    s3_bytes_per_s_per_mb: float = Field(0.0, ge=0)
    s3_burst_bytes: float = Field(0.0, ge=0)


class Campaign(FileModel):
    """A campaign: `runs` times all probes in order, each on new functions.

    Runs are independent of each other, samples of one run are not: every split and bootstrap goes by runs.
    """

    schema_: Literal["probe-campaign/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")
    about: str = ""
    runs: Count
    packages: dict[PackageKey, Package] = Field(default_factory=lambda: {"plain": Package()})
    probes: tuple[Annotated[Probe, Field(discriminator="probe")], ...] = Field(min_length=1)
    local: LocalPlatform = LocalPlatform()

    @model_validator(mode="after")
    def _known_packages(self) -> Campaign:
        for number, probe in enumerate(self.probes):
            for name in probe.packages:
                if name not in self.packages:
                    raise ValueError(
                        f"probes.{number}.packages: no package {shortened(name)}{nearest(name, self.packages)}"
                    )
        return self


def load_campaign(name: str) -> Campaign:
    """A packaged campaign by its name, or one's own by its file. Raises InputError."""
    path = CAMPAIGNS / f"{name}.yaml"
    if path.exists():
        return read_model(Campaign, path)
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return read_model(Campaign, name)
    known = sorted(each.stem for each in CAMPAIGNS.glob("*.yaml"))
    raise InputError(f"--campaign {name}: expected a YAML file or one of: {', '.join(known)}{_hint(name, known)}")


def default_runtime(backend: str) -> str:
    """The runtime of packages that name none: what really runs locally, else a managed one of AWS."""
    major, minor, _ = platform.python_version_tuple()
    return f"python{major}.{minor}" if backend == "local" else MANAGED_RUNTIME


def _hint(name: str, known: list[str]) -> str:
    hint = nearest(name, known)
    return hint if "did you mean" in hint else ""
