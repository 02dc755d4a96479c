"""Starts of calls and instances: packages, warm and cold starts, keep-alive, and how many may run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from moe.errors import InputError, nearest, shortened
from simulator.cloud.billing import Rates
from simulator.cloud.streams import UNUSED, Streams, fixed
from simulator.draws import Choices, Draws, Halvings, Lifetimes
from simulator.plan import ProblemPlatform
from simulator.profiles.closed_form import mean_speed, processors
from simulator.profiles.groups import Architecture
from simulator.profiles.schema import PlatformProfile

SAME = Choices(np.ones(1), np.ones(1), UNUSED)


@dataclass(frozen=True)
class Package:
    """How a function is packaged: what an instance of it goes through before its first call, and its price.

    Attributes:
        provisioning: placement, sandbox and fetch of a small package, s.
        init: duration of INIT, s; it does not depend on memory.
        init_is_billed: whether it is part of the billed duration.
        rates: prices of a GB-s on its architecture.
        fetch_bytes_per_s: of the code beyond a small package, before INIT.
        read_bytes_per_s: of what is read only when it is first used, in INIT; inf: all is there by then.
        slowness: an instance's compute time over that of the closed form's, by the processor that it gets.
    """

    provisioning: Draws
    init: Draws | Lifetimes
    init_is_billed: bool
    rates: Rates
    fetch_bytes_per_s: float = math.inf
    read_bytes_per_s: float = math.inf
    slowness: Choices = SAME

    @classmethod
    def of(cls, name: str, profile: PlatformProfile, streams: Streams) -> Package:
        """A profile's package of that name."""
        package, prices = profile.start.packages[name], profile.prices
        rule = prices.init_is_billed if package.package_type == "zip" else prices.image_init_is_billed
        lazily = profile.start.image_bytes_per_s if package.package_type == "image" else None
        return cls(
            provisioning=streams.draws(f"{name}.provisioning", package.provisioning_s),
            init=streams.draws(f"{name}.init", package.init_s),
            init_is_billed=bool(rule.on(prices.date)),
            rates=Rates.of(prices, package.architecture),
            fetch_bytes_per_s=profile.start.fetch_bytes_per_s.median if lazily is None else math.inf,
            read_bytes_per_s=math.inf if lazily is None else lazily.median,
            slowness=_slowness(profile, package.architecture, streams),
        )

    @classmethod
    def ideal(cls, constants: ProblemPlatform) -> Package:
        """The ideal platform's."""
        return cls(fixed(0.0), fixed(0.0), True, Rates(((0.0, constants.price_per_gb_s),)))

    @property
    def is_image(self) -> bool:
        """Whether what it has beyond a small package is read only when it is first used."""
        return self.read_bytes_per_s < math.inf

    def still(self) -> Package:
        """The same whose instances all get a processor of the mean speed."""
        return replace(self, slowness=Choices(np.array([self.slowness.mean]), np.ones(1), UNUSED))

    def provisioning_s(self, package_bytes: float = 0.0) -> float:
        """The next draw, with the fetch of so many bytes beyond a small package, s."""
        return self.provisioning.next() + package_bytes / self.fetch_bytes_per_s

    def init_s(self, limit_s: float, package_bytes: float = 0.0) -> float:
        """The next draw of INIT, with what is read in it of so many bytes beyond a small package, s.

        One over the limit is broken off there, and done again as part of the first call; what was read by then
        need not be read again.
        """
        own_s, read_s = self.init.next(), package_bytes / self.read_bytes_per_s
        if own_s + read_s <= limit_s:
            return own_s + read_s
        return limit_s + own_s + max(0.0, read_s - max(0.0, limit_s - own_s))


def _slowness(profile: PlatformProfile, architecture: Architecture, streams: Streams) -> Choices:
    """Times over those of the closed form, which knows the default architecture's mean."""
    shares, speeds = processors(profile, architecture)
    return Choices(mean_speed(profile, profile.architecture) / speeds, shares, streams["processors"])


@dataclass(frozen=True)
class Starts:
    """Starts of calls and instances, and how long instances stay.

    Attributes:
        warm: from a call's admission to its handler, s; a payload's overhead stands in its place.
        package: that of functions which name none. packages: all, by name.
        init_limit_s: a longer INIT is broken off there, and done again as part of the first call.
        keep_alive: how long an instance stays idle, s. instance_age_s: an older one is gone after its call.
    """

    warm: Draws
    package: Package
    keep_alive: Draws | Halvings
    packages: Mapping[str, Package] = field(default_factory=dict)
    init_limit_s: float = math.inf
    instance_age_s: float = math.inf

    @classmethod
    def of(cls, profile: PlatformProfile, streams: Streams) -> Starts:
        """A profile's."""
        start, halving = profile.start, profile.start.keep_alive_halving_s
        packages = {name: Package.of(name, profile, streams) for name in start.packages}
        return cls(
            warm=streams.draws("warm", start.warm_s),
            package=packages[start.package],
            packages=packages,
            init_limit_s=start.init_limit_s.median,
            keep_alive=(
                streams.draws("keep_alive", start.keep_alive_s)
                if halving is None
                else Halvings(halving.median, streams["keep_alive"])
            ),
            instance_age_s=start.instance_age_s.median,
        )

    @classmethod
    def ideal(cls, constants: ProblemPlatform) -> Starts:
        """The ideal platform's: T_str, and an instance stays."""
        return cls(fixed(constants.warm_start_s), Package.ideal(constants), fixed(math.inf))

    def still(self) -> Starts:
        """The same with warm starts at their median, and instances that all get a processor of the mean speed."""
        still = {name: package.still() for name, package in self.packages.items()}
        return replace(self, warm=fixed(self.warm.median), package=self.package.still(), packages=still)

    def package_named(self, name: str | None) -> Package:
        """A package; None: the default. Raises InputError: there is none of that name."""
        if name is None:
            return self.package
        if name not in self.packages:
            raise InputError(
                f"package: the platform has no package {shortened(name)}{nearest(name, self.packages)}"
            )
        return self.packages[name]


@dataclass(frozen=True)
class Concurrency:
    """How many calls may run at once and how long, and the token bucket of instances that a function may start."""

    account: float = math.inf
    scaling_burst: float = math.inf
    scaling_per_s: float = 0.0
    timeout_s: float = math.inf

    @classmethod
    def of(cls, profile: PlatformProfile) -> Concurrency:
        """A profile's."""
        limits = profile.concurrency
        return cls(
            account=limits.account.median,
            scaling_burst=limits.scaling_burst.median,
            scaling_per_s=limits.scaling_per_s.median,
            timeout_s=limits.timeout_s.median,
        )
