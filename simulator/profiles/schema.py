"""The platform profile: every constant of a serverless platform, with unit, source, date and confidence.

File: YAML, `platform-profile/1`; the packaged ones are in `simulator/profiles/`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, overlaid, read_mapping, validated
from moe.shown import Shown
from simulator.profiles.constant import (
    Constant,
)
from simulator.profiles.groups import (
    Architecture,
    AsynchronousConstants,
    ClusterConstants,
    ComputeConstants,
    ConcurrencyConstants,
    FailureConstants,
    NetworkConstants,
    PayloadConstants,
    PriceConstants,
    RetryConstants,
    SlowConstants,
    StartConstants,
    StorageConstants,
)
from simulator.profiles.walk import Keys, leaves, mapped

DEFAULT_PROFILE = "aws-us-east-1-2026"
PAPER_PROFILE = "paper"  # the same as far as the paper's model goes
GB = 2**30  # as S3 charges bytes


@dataclass(frozen=True)
class StorageClass:
    """One storage class of S3: latencies, limits of all prefixes together (requests/s), prices (USD).

    `beyond`: of each kind of request, what changes its latency: its drift, and slow ones.
    """

    get_latency_s: Constant
    put_latency_s: Constant
    get_limit_per_s: float
    put_limit_per_s: float
    get_usd: float
    put_usd: float
    get_usd_per_byte: float = 0.0
    put_usd_per_byte: float = 0.0
    beyond: Mapping[str, tuple[Constant | None, SlowConstants | None]] = field(
        default_factory=lambda: {"get": (None, None), "put": (None, None)}
    )


class PlatformProfile(Shown, FileModel):
    """Every constant of a serverless platform."""

    schema_: Literal["platform-profile/1"] = Field("platform-profile/1", alias="schema")
    name: str
    about: str
    start: StartConstants
    concurrency: ConcurrencyConstants
    retries: RetryConstants
    asynchronous: AsynchronousConstants
    failures: FailureConstants
    compute: ComputeConstants
    network: NetworkConstants
    storage: StorageConstants
    payload: PayloadConstants
    prices: PriceConstants
    cluster: ClusterConstants

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "mb_per_vcpu": self.compute.mb_per_vcpu.median,
            "storage_class": self.storage.storage_class,
        }

    def constants(self) -> dict[Keys, Constant]:
        """Every constant by its path of keys, such as `("storage", "get_latency_s")`."""
        return {path: leaf for path, leaf in leaves(self) if isinstance(leaf, Constant)}

    def mapped(self, change: Callable[[Constant], Constant]) -> "PlatformProfile":
        """The profile with every constant changed."""
        found: PlatformProfile = mapped(self, change)
        return found

    @property
    def gb_s_usd(self) -> float:
        """What the next GB-s of a function costs, USD: on its package's architecture, in the month's tier."""
        return self.prices.tiers_of(self.architecture)[0][1]

    @property
    def architecture(self) -> Architecture:
        """Of the package that functions have unless they say otherwise."""
        return self.start.packages[self.start.package].architecture

    @property
    def storage_class(self) -> StorageClass:
        """Latencies, limits and prices of the storage class that is used."""
        chosen, prices = self.storage, self.prices
        if chosen.storage_class == "express":
            x = chosen.express
            per_byte = x.get_per_gb.median / GB, x.put_per_gb.median / GB
            limits = x.get_limit_per_s.median, x.put_limit_per_s.median  # of a bucket
            return StorageClass(x.get_latency_s, x.put_latency_s, *limits, x.get.median, x.put.median, *per_byte)
        prefixes = chosen.prefixes.median
        limits = chosen.get_limit_per_s.median * prefixes, chosen.put_limit_per_s.median * prefixes
        usd = prices.s3_get.median, prices.s3_put.median
        beyond = {
            "get": (chosen.get_drift, chosen.slow_gets),
            "put": (chosen.put_drift, chosen.slow_puts),
        }
        return StorageClass(chosen.get_latency_s, chosen.put_latency_s, *limits, *usd, beyond=beyond)


def profile_names() -> list[str]:
    """Names of the packaged profiles."""
    return packaged(contenders=False)


@functools.cache
def packaged(contenders: bool) -> list[str]:
    """Names of the packaged files that are contenders (`simulator.profiles.contenders`), or platforms."""
    files = [file for file in (resources.files("simulator") / "profiles").iterdir() if file.name.endswith(".yaml")]
    kinds = {file.name.removesuffix(".yaml"): "schema: contender/" in file.read_text()[:200] for file in files}
    return sorted(name for name, contends in kinds.items() if contends is contenders)


def load_profile(name_or_path: str | Path = DEFAULT_PROFILE) -> PlatformProfile:
    """A packaged profile by name, or a YAML file, whose `base:` may name the one it changes. Raises InputError.

    >>> import serverless_moe as smoe
    >>> smoe.load_profile("aws-us-east-1-2026")
    PlatformProfile(name=aws-us-east-1-2026, mb_per_vcpu=1769, storage_class=standard)
    """
    if Path(name_or_path).suffix not in (".yaml", ".yml"):
        return validated(PlatformProfile, _packaged(str(name_or_path), "profile"), name_or_path)
    return validated(PlatformProfile, _based(read_mapping(name_or_path), name_or_path), name_or_path)


def _based(data: dict[str, Any], name: str | Path) -> dict[str, Any]:
    """A profile's mapping upon that of the packaged one that its `base` names, if any. Raises InputError."""
    if "base" not in data:
        return data
    return overlaid(_packaged(str(data.pop("base")), f"{name}: base"), data)


def price_list_date(profile: str | Path) -> str:
    """The day of the prices of a profile, by name or file, ISO: what every result says. Raises InputError."""
    return load_profile(profile).prices.price_list_date.isoformat()


def _packaged(name: str, what: str) -> dict[str, Any]:
    """The file of a packaged profile. Raises InputError, which begins with `what`."""
    if name not in profile_names():
        raise InputError(f"{what}: no profile {shortened(name)}{nearest(name, profile_names())}")
    return _based(read_mapping(str(resources.files("simulator") / "profiles" / f"{name}.yaml")), name)
