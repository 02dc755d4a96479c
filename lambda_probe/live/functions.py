"""The functions of a live model: made or changed, started, their logs read."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import lambda_probe
from lambda_probe.account.calls import Attempt, call
from lambda_probe.account.deploy import Deployable, Deployment, zip_of
from lambda_probe.account.logs import Logs
from lambda_probe.campaign.costs import NEVER_RAN
from lambda_probe.handlers.exchange import Account, at_once
from lambda_probe.live.rows import LiveCall, LivePrices, calls_in
from moe.errors import PlatformError

LOG_PATIENCE_S = 60.0
LOG_MARGIN_S = 900.0  # AWS refuses a client whose clock is further off
WARM_UP_AT_ONCE = 4  # functions
WARM_UP_S = 0.4
TIMEOUT_S = 300
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


class LiveFunctions:
    """Functions that all have the code of the handlers, by their names without the deployment's prefix.

    Args:
        deployment: what creates functions, and removes them. logs: of the functions. prices: of starting them.
        packages: files that the zip needs beside the handlers. runtime: that they were built for.

    Attributes:
        started_usd: what starting instances was billed.
    """

    def __init__(
        self,
        deployment: Deployment,
        logs: Logs,
        prices: LivePrices,
        packages: Mapping[str, bytes] | None,
        runtime: str,
    ) -> None:
        self._deployment, self._logs, self._prices = deployment, logs, prices
        self._code = zip_of({**handler_files(), **(packages or {})})
        self._runtime, self._memory_mb = runtime, dict[str, int]()
        self.started_usd = 0.0

    def full_name(self, name: str) -> str:
        """On the platform."""
        return self._deployment.full_name(name)

    def short_name(self, function: str) -> str:
        """Without the deployment's prefix."""
        return function.removeprefix(self._deployment.full_name(""))

    def remove_logs(self) -> None:
        """Of every function."""
        for name in self._memory_mb:
            self._logs.remove(self._deployment.full_name(name))

    def ensure(self, name: str, memory_mb: int) -> None:
        """A function is there and has this memory. Raises InputError where the platform refuses it."""
        if name not in self._memory_mb:
            self._memory_mb[name] = memory_mb
            handler = f"{lambda_probe.__name__}.handlers.live.handler"
            self._deployment.create(
                Deployable(
                    name, self._code, memory_mb, handler, self._runtime, timeout_s=TIMEOUT_S, event_retries=0
                )
            )
        elif self._memory_mb[name] != memory_mb:
            self._deployment.change(self._deployment.full_name(name), MemorySize=memory_mb)
            self._memory_mb[name] = memory_mb

    def warm_up(self, instances: dict[str, int]) -> None:
        """Start so many instances of each function. Raises PlatformError where one does not start."""

        def start(name: str, count: int) -> list[list[Attempt]]:
            event = {"role": "warm-up", "bucket": self._deployment.bucket, "seconds": WARM_UP_S * count}
            full = self._deployment.full_name(name)
            return at_once([partial(call, self._deployment.clients, full, event)] * count)

        with ThreadPoolExecutor(WARM_UP_AT_ONCE) as pool:
            made = dict(zip(instances, pool.map(start, instances, instances.values()), strict=True))
        self.started_usd += sum(self._usd(name, x) for name, tried in made.items() for xs in tried for x in xs)
        for name, tried in made.items():
            for last in [attempts[-1] for attempts in tried]:
                if last.status != "ok":
                    raise PlatformError(f"{name}: does not start: {last.status} {last.error}")

    def _usd(self, name: str, attempt: Attempt) -> float:
        """What an attempt was billed; without a REPORT line that can be read, for the client's whole wait."""
        if attempt.report is not None:
            return attempt.report.billed_gb_s * self._prices.gb_s + self._prices.invocation
        waited_s = 0.0 if attempt.status in NEVER_RAN else attempt.client_s
        return waited_s * self._memory_mb[name] / 1024 * self._prices.gb_s + self._prices.invocation

    # -- logs ---------------------------------------------------------------------------------------------

    def found(self, batch: str, began_s: float) -> tuple[list[LiveCall], list[Account]]:
        """The calls of a batch that logs tell of so far: ended ones, and those without a REPORT line yet."""
        ended: list[LiveCall] = []
        running: list[Account] = []
        for name in self._memory_mb:
            log = self._logs.read(self._deployment.full_name(name), began_s - LOG_MARGIN_S)
            found = calls_in(log, batch)
            ended += found[0]
            running += found[1]
        return ended, running

    def calls(self, batch: str, began_s: float, by_client: int = 1) -> tuple[list[LiveCall], int]:
        """All calls of a batch, once every one that was made has a REPORT line; how many have none in the end.

        Args:
            by_client: calls that the client made.
        """
        until = time.time() + LOG_PATIENCE_S
        while True:
            ended, running = self.found(batch, began_s)
            made = by_client + sum(x.account.calls for x in ended)
            if (not running and len(ended) >= made) or time.time() > until:
                return sorted(ended, key=lambda x: x.account.began_s), max(made - len(ended), len(running))
            time.sleep(0.2)

    def wrong_memory(self, calls: Sequence[LiveCall]) -> str:
        """Which call ran with another memory size than asked for: its last change was not in force."""
        for each in calls:
            name, found_mb = self.short_name(each.account.function), each.report.memory_mb
            if found_mb != self._memory_mb[name]:
                return f"{name} ran with {found_mb} MB instead of {self._memory_mb[name]}"
        return ""


def handler_files() -> dict[str, bytes]:
    """The handlers, as files of a zip."""
    folder = Path(lambda_probe.__file__).parent
    files = [folder / "__init__.py", *(folder / "handlers").glob("*.py")]
    return {str(file.relative_to(folder.parent)): file.read_bytes() for file in files}
