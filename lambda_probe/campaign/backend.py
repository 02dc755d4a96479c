"""What a campaign needs of a platform: AWS, the embedded endpoint and the simulator all offer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lambda_probe.account.calls import Attempt
from lambda_probe.campaign.works import Work


@dataclass(frozen=True)
class ProbePackage:
    """How a probe's function is packaged; `name` is the package's in a platform profile.

    Attributes:
        imports: modules that the handler imports at INIT (`numpy`), beyond the standard library and boto3.
        padding_bytes: incompressible bytes in the zip beyond what the handler needs: makes it large.
        image_uri: of an image, in the account's registry.
    """

    name: str
    package_type: Literal["zip", "image"] = "zip"
    runtime: str = "python3.12"
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    imports: tuple[str, ...] = ()
    padding_bytes: int = 0
    image_uri: str = ""


@dataclass(frozen=True)
class ProbeFunction:
    """A function that a campaign deploys."""

    name: str
    memory_mb: int
    package: ProbePackage
    timeout_s: int = 120


@dataclass(frozen=True)
class Account:
    """Limits of an account: calls at once, memory of a function (MB) at most, names of packages (None: any)."""

    concurrency: int
    most_memory_mb: int = 10_240
    packages: tuple[str, ...] | None = None


@dataclass(frozen=True)
class BackendPrices:
    """What a backend charges, USD: for a GB-s, an invocation, a GET and a PUT. All 0: it is free."""

    gb_s: float = 0.0
    invocation: float = 0.0
    get: float = 0.0
    put: float = 0.0


@dataclass(frozen=True)
class BackendFacts:
    """What is noted with every measurement: name (local, aws, simulated), region, versions of what was used."""

    name: str
    region: str
    versions: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """A platform that can be probed. The caller names functions; objects for S3 work are the backend's affair.

    Everything that a backend creates it removes in `close`, which may be called again.
    """

    facts: BackendFacts
    prices: BackendPrices

    def account(self) -> Account:
        """The account's limits."""

    def create(self, function: ProbeFunction) -> None:
        """Deploy a function and wait until it can be called. Raises InputError where the platform refuses."""

    def delete(self, name: str) -> None:
        """Remove a function."""

    def forget(self, name: str) -> None:
        """Change the function's configuration, so that its next call starts a new instance."""

    def call(self, name: str, work: Work) -> list[Attempt]:
        """Call a function once; every attempt, the last one being the outcome. Its `answer` is a JSON object."""

    def call_at_once(self, names: Sequence[str], work: Work) -> list[list[Attempt]]:
        """Call functions (a name may come many times) all at the same time; no attempt is repeated."""

    def rest(self, seconds: float) -> None:
        """Let time pass."""

    def now_s(self) -> float:
        """The backend's clock, s since 1970 (simulated: since the start)."""

    def close(self) -> None:
        """Remove everything that was created."""
