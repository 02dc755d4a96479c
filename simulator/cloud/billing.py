"""What AWS charges for a call: rules by date, prices, and the free tier.

Source: AWS Lambda pricing; docs/formats.md (the three bills).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.plan import ProblemPlatform
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
        provisioned_gb_s: of an instance that is kept initialised, by the started `provisioned_step_s`;
            provisioned_duration_gb_s: of a call on it.
        tmp_gb_s: of /tmp beyond its first 512 MB.
        free_gb_s, free_invocations: that are not charged, the first ones.
    """

    invocation: float
    put: float
    get: float
    billing_step_s: float = 0.0
    warm_start_is_billed: bool = False
    provisioned_gb_s: float = 0.0
    provisioned_duration_gb_s: float = 0.0
    provisioned_step_s: float = 300.0
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
            provisioned_gb_s=prices.provisioned_gb_s.median,
            provisioned_duration_gb_s=prices.provisioned_duration_gb_s.median,
            provisioned_step_s=prices.provisioned_step_s.median,
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

    def billed_s(self, duration_s: float) -> float:
        """A duration rounded up to the billing step, s."""
        if self.billing_step_s == 0:
            return duration_s
        return math.ceil(duration_s / self.billing_step_s - ROUNDING) * self.billing_step_s


class Meter:
    """Charges the rows of one simulation; the free tier goes to the first ones.

    Args:
        prices: what things cost.
    """

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self._free_gb_s, self._free_invocations = prices.free_gb_s, prices.free_invocations

    def charge(self, row: Record, duration_s: float, tmp_mb: int, gb_s_usd: float) -> None:
        """Fill in what a call that ran for `duration_s` costs, at `gb_s_usd` a GB-s, and its S3 requests."""
        prices = self.prices
        row.billed_s = prices.billed_s(duration_s)
        row.billed_gb_s = gb_s = row.billed_s * row.memory_mb / 1024
        requests_usd = prices.invocation
        if self._free_gb_s > 0:
            free = min(gb_s, self._free_gb_s)
            self._free_gb_s -= free
            gb_s -= free
        if self._free_invocations > 0:
            self._free_invocations -= 1
            requests_usd = 0.0
        row.compute_cost_usd = gb_s * gb_s_usd
        if tmp_mb > FREE_TMP_MB:
            row.tmp_cost_usd = row.billed_s * (tmp_mb - FREE_TMP_MB) / 1024 * prices.tmp_gb_s
        if row.puts or row.gets:
            requests_usd += row.puts * prices.put + row.gets * prices.get
            row.exchange_cost_usd += row.exchange_puts * prices.put + row.exchange_gets * prices.get
        row.request_cost_usd += requests_usd

    def charge_provisioned(self, row: Record, instances: int) -> None:
        """Fill in what instances cost that were kept initialised from the row's start to its end."""
        prices, step_s = self.prices, self.prices.provisioned_step_s
        row.billed_s = math.ceil((row.ended_s - row.started_s) / step_s - ROUNDING) * step_s
        row.billed_gb_s = row.billed_s * instances * row.memory_mb / 1024
        row.compute_cost_usd = row.billed_gb_s * prices.provisioned_gb_s
