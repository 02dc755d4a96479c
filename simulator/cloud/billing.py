"""What AWS charges for a call: rules by date, prices, and the free tier.

Source: AWS Lambda pricing; docs/formats.md (the three bills).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simulator.plan import ProblemPlatform
from simulator.profiles.groups import Architecture, PriceConstants
from simulator.profiles.schema import PlatformProfile
from simulator.records import Record

FREE_TMP_MB = 512
ROUNDING = 1e-9


@dataclass(frozen=True)
class Prices:
    """What is charged, USD, and how durations are rounded.

    Attributes:
        invocation, put, get: of a request.
        billing_step_s: durations are rounded up to it; 0: not at all.
        warm_start_is_billed: whether the front end's overhead is (the paper's closed form bills it).
        event_first_bytes, event_step_bytes: an asynchronous event is one request up to the first, and one more for
            each of the second that it begins beyond.
        provisioned_step_s: instances are kept initialised for so long at least, and for multiples of it.
        provisioned_init_is_billed: whether their INIT is, as duration.
        tmp_gb_s: of /tmp beyond its first 512 MB.
        free_gb_s, free_invocations: that are not charged, the first ones.
    """

    invocation: float
    put: float
    get: float
    billing_step_s: float = 0.0
    warm_start_is_billed: bool = False
    event_first_bytes: float = math.inf
    event_step_bytes: float = math.inf
    provisioned_step_s: float = 300.0
    provisioned_init_is_billed: bool = False
    tmp_gb_s: float = 0.0
    free_gb_s: float = 0.0
    free_invocations: float = 0.0

    @classmethod
    def of(cls, profile: PlatformProfile) -> Prices:
        """What a profile charges on the day that it names."""
        prices, storage = profile.prices, profile.storage_class
        return cls(
            invocation=prices.invocation.median,
            put=storage.put_usd,
            get=storage.get_usd,
            billing_step_s=prices.billing_step_s.on(prices.date),
            tmp_gb_s=prices.tmp_gb_s.median,
            free_gb_s=prices.free_gb_s.median,
            free_invocations=prices.free_invocations.median,
            event_first_bytes=prices.event_first_bytes.median,
            event_step_bytes=prices.event_step_bytes.median,
            provisioned_step_s=prices.provisioned_step_s.median,
            provisioned_init_is_billed=bool(prices.provisioned_init_is_billed.on(prices.date)),
        )

    @classmethod
    def ideal(cls, constants: ProblemPlatform) -> Prices:
        """What the closed form charges."""
        return cls(
            invocation=constants.price_per_invocation,
            put=constants.price_per_put,
            get=constants.price_per_get,
            warm_start_is_billed=True,
        )

    def event_requests(self, size: float) -> int:
        """Requests that an asynchronous event of `size` bytes, encoded, counts for."""
        beyond = size - self.event_first_bytes
        return 1 if beyond <= 0 else 1 + math.ceil(beyond / self.event_step_bytes)

    def billed_s(self, duration_s: float) -> float:
        """A duration rounded up to the billing step, s."""
        if self.billing_step_s == 0:
            return duration_s
        return math.ceil(duration_s / self.billing_step_s - ROUNDING) * self.billing_step_s


@dataclass(frozen=True)
class Rates:
    """Prices of a GB-s on one architecture, USD.

    Attributes:
        tiers: from how many GB-s on a GB-s costs what; rising from 0.
        provisioned: of an instance that is kept initialised. provisioned_duration: of its calls and INIT.
    """

    tiers: tuple[tuple[float, float], ...]
    provisioned: float = 0.0
    provisioned_duration: float = 0.0

    @classmethod
    def of(cls, prices: PriceConstants, architecture: Architecture) -> Rates:
        """A profile's."""
        return cls(
            prices.tiers_of(architecture),
            prices.of("provisioned_gb_s", architecture),
            prices.of("provisioned_duration_gb_s", architecture),
        )

    def usd(self, used_gb_s: float, gb_s: float) -> float:
        """Price of so many GB-s after those that were used before."""
        if len(self.tiers) == 1 or used_gb_s + gb_s <= self.tiers[1][0]:
            return gb_s * self.tiers[0][1]
        ends = [*(above for above, _ in self.tiers[1:]), math.inf]
        parts = zip(self.tiers, ends, strict=True)
        within = (
            max(0.0, min(used_gb_s + gb_s, end) - max(used_gb_s, above)) * usd for (above, usd), end in parts
        )
        return sum(within)


class Meter:
    """Charges the rows of one simulation; the free tier goes to the first ones, and tiers rise with what is used.

    Args:
        prices: what things cost.
    """

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self._free_gb_s, self._free_invocations = prices.free_gb_s, prices.free_invocations
        self._used_gb_s: dict[tuple[tuple[float, float], ...], float] = {}  # by tiers

    def charge(
        self,
        row: Record,
        duration_s: float,
        tmp_mb: int,
        rates: Rates,
        requests: int = 1,
        provisioned: bool = False,
    ) -> None:
        """Fill in what a call that ran for `duration_s` costs, as so many requests, and its S3 requests."""
        prices = self.prices
        row.billed_s = prices.billed_s(duration_s)
        row.billed_gb_s = gb_s = row.billed_s * row.memory_mb / 1024
        if self._free_gb_s > 0:
            free = min(gb_s, self._free_gb_s)
            self._free_gb_s -= free
            gb_s -= free
        if self._free_invocations > 0:
            free_requests = min(requests, self._free_invocations)
            self._free_invocations -= free_requests
            requests -= int(free_requests)
        requests_usd = requests * prices.invocation
        if provisioned:
            row.compute_cost_usd = gb_s * rates.provisioned_duration
        else:
            used = self._used_gb_s.get(rates.tiers, 0.0)
            self._used_gb_s[rates.tiers] = used + gb_s
            row.compute_cost_usd = rates.usd(used, gb_s)
        if tmp_mb > FREE_TMP_MB:
            row.tmp_cost_usd = row.billed_s * (tmp_mb - FREE_TMP_MB) / 1024 * prices.tmp_gb_s
        if row.puts or row.gets:
            requests_usd += row.puts * prices.put + row.gets * prices.get
            row.exchange_cost_usd += row.exchange_puts * prices.put + row.exchange_gets * prices.get
        row.request_cost_usd += requests_usd

    def billed_many_s(self, duration_s: np.ndarray) -> np.ndarray:
        """`Prices.billed_s` of each of some durations, s, shape (calls,)."""
        step_s = self.prices.billing_step_s
        return duration_s if step_s == 0 else np.ceil(duration_s / step_s - ROUNDING) * step_s

    def tmp_usd(self, billed_s: np.ndarray, tmp_mb: int) -> np.ndarray:
        """Price of /tmp while calls ran, shape (calls,)."""
        return billed_s * max(0, tmp_mb - FREE_TMP_MB) / 1024 * self.prices.tmp_gb_s

    def usd(self, gb_s: np.ndarray, rates: Rates) -> np.ndarray:
        """Price of the GB-s of calls one after the other, shape (calls,), without a free tier."""
        used = np.cumsum(np.concatenate([[self._used_gb_s.get(rates.tiers, 0.0)], gb_s]))
        self._used_gb_s[rates.tiers] = float(used[-1])
        if len(rates.tiers) == 1 or used[-1] <= rates.tiers[1][0]:
            return gb_s * rates.tiers[0][1]
        return np.array([rates.usd(*each) for each in zip(used[:-1].tolist(), gb_s.tolist(), strict=True)])

    def charge_provisioned(self, row: Record, instances: int, rates: Rates, init_s: float) -> None:
        """Fill in what instances cost that were kept from the row's start to its end, and their INIT."""
        prices, step_s = self.prices, self.prices.provisioned_step_s
        row.billed_s = math.ceil((row.ended_s - row.started_s) / step_s - ROUNDING) * step_s
        row.billed_gb_s = row.billed_s * instances * row.memory_mb / 1024
        row.compute_cost_usd = row.billed_gb_s * rates.provisioned
        if prices.provisioned_init_is_billed:
            row.compute_cost_usd += prices.billed_s(init_s) * row.memory_mb / 1024 * rates.provisioned_duration
