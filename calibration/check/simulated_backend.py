"""The simulator as a platform that can be probed: works played as a function's phases, on one Lambda service."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import simpy

from calibration.check.simulated_call import Played, attempt_of, program_of
from lambda_probe.account.calls import ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S, Attempt
from lambda_probe.campaign.backend import Account, BackendFacts, BackendPrices, ProbeFunction
from lambda_probe.campaign.works import Work
from moe.errors import InputError, nearest
from simulator.cloud.invocation import Latch
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import platform_of_profile
from simulator.draws import Retries
from simulator.profiles.schema import PlatformProfile
from simulator.records import Record


class SimulatedBackend:
    """The `Backend` protocol on a profile: one Lambda service that lives as long as the campaign.

    Nobody is asked for a real second: `rest` lets simulated time pass. What a profile has no constant for takes no
    time: first-call work inside a handler, and the way of an answer to a client.

    Args:
        profile: the platform. seed: of all that is random.
    """

    def __init__(self, profile: PlatformProfile, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        platform = platform_of_profile(profile, None, rng)
        once = Retries(1, 0.0, 0.0, rng)  # attempts are this backend's own
        self._profile = profile
        self._env = simpy.Environment()
        self._service = LambdaService(self._env, platform.changed(retries=once), keep=lambda _: None)
        self._requests = (f"simulated-{number}" for number in itertools.count(1))
        self.facts = BackendFacts("simulated", profile.name, {"profile": profile.name, "simpy": simpy.__version__})
        prices = profile.prices
        self.prices = BackendPrices(
            prices.gb_s.median, prices.invocation.median, prices.s3_get.median, prices.s3_put.median
        )

    def account(self) -> Account:
        """The profile's."""
        packages = tuple(self._profile.start.packages)
        return Account(int(self._profile.concurrency.account.median), packages=packages)

    def create(self, function: ProbeFunction) -> None:
        """Deploy a function. Raises InputError: the profile has no such package."""
        packages = self._profile.start.packages
        if function.package.name not in packages:
            raise InputError(
                f"profile '{self._profile.name}': start.packages: no package '{function.package.name}'"
                f"{nearest(function.package.name, packages)}"
            )
        self._service.deploy(
            function.name,
            function.memory_mb,
            package=function.package.name,
            package_bytes=function.package.padding_bytes,
            timeout_s=function.timeout_s,
        )

    def delete(self, name: str) -> None:
        """Remove a function."""
        del self._service.functions[name]

    def forget(self, name: str) -> None:
        """Drop the function's idle instances."""
        self._service.functions[name].idle.clear()

    def call(self, name: str, work: Work) -> list[Attempt]:
        """Call a function once, as often as `account.calls.call` would where it is throttled or fails."""
        made: list[Attempt] = []
        for number in range(1, ATTEMPTS + 1):
            made.append(self._seen(self._play([name], work)[0], work, number))
            if made[-1].status not in ("throttled", "failed"):
                break
            if number < ATTEMPTS:
                self.rest(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (number - 1)))
        return made

    def call_at_once(self, names: Sequence[str], work: Work) -> list[list[Attempt]]:
        """Call functions all at the same time."""
        return [[self._seen(played, work, 1)] for played in self._play(names, work)]

    def rest(self, seconds: float) -> None:
        """Let simulated time pass."""
        if seconds > 0:
            self._env.run(until=self._env.now + seconds)

    def now_s(self) -> float:
        """Simulated time, s from the start."""
        return float(self._env.now)

    def close(self) -> None:
        """Nothing stays behind."""
        self._service.functions.clear()

    # -- one call -----------------------------------------------------------------------------------------

    def _play(self, names: Sequence[str], work: Work) -> list[Played]:
        """Calls sent now, when all of them have ended."""
        env, latch, all_played = self._env, Latch(self._env, len(names)), []
        for name in names:
            if name not in self._service.functions:
                raise InputError(f"function: no function '{name}' is deployed")
            memory_mb = self._service.functions[name].memory_mb
            played = Played(env.now, Record(0, 0, "function", name, memory_mb))
            program = program_of(work, played, self._service, self._profile)
            all_played.append(played)
            self._service.invoke(played.row, program, lambda _: latch.count_down(), repeatable=False)
        if names:
            env.run(until=latch.ended)
        return all_played

    def _seen(self, played: Played, work: Work, number: int) -> Attempt:
        return attempt_of(played, work, number, self._requests, self._service, self._profile)
