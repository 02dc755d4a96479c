"""What a contender offers for a month of traffic: its bill by parts, its times, or why it cannot serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simulator.servers.promise import Times

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Parts:
    """A month's bill, USD: every dollar of it is in one part.

    Attributes:
        compute_usd: time in which requests are served. requests_usd: their number (of bought tokens, the tokens).
        storage_usd: S3. init_usd: starts of instances, and their first load of the weights.
        idle_usd: what is paid while nothing is served.
    """

    compute_usd: float = 0.0
    requests_usd: float = 0.0
    storage_usd: float = 0.0
    init_usd: float = 0.0
    idle_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        """All of it."""
        return sum(asdict(self).values())

    def times(self, factor: float) -> Parts:
        """A share, or a multiple, of it."""
        return Parts(*(factor * each for each in asdict(self).values()))


def added(parts: Sequence[Parts]) -> Parts:
    """The sum of bills."""
    return Parts(*(sum(each) for each in zip(*(asdict(part).values() for part in parts), strict=True)))


@dataclass(frozen=True)
class Offer:
    """A contender at a number of requests a month.

    Attributes:
        contender: its name. words: what is deployed, for people. why_not: what it fails by; None: it serves.
        parts: its bill; None where it does not serve. times: of requests; None: nothing is known of them.
        cold_share: of requests that started an instance. functions, memory_mb, lanes, peak: of Lambda, as package
            and whether its instances are provisioned; works_s: of a sample of requests, without start.
        machine, count, at_once: of servers; spares: machines besides, of capacity that may be taken back.
        shape: how the model is cut.
        batching: its rule. price_list_date: of its prices.
        played: whether parts and times were played; closed_form_usd: the closed form's bill.
        interval: 95% interval of the bill. differs: what of the played numbers is over 10% from the closed form's.
    """

    contender: str
    words: str
    batching: str
    price_list_date: str
    shape: str = "whole-model"
    why_not: str | None = None
    parts: Parts | None = None
    times: Times | None = None
    cold_share: float = 0.0
    functions: int = 0
    memory_mb: int | None = None
    lanes: int = 1
    package: str | None = None
    provisioned: bool = False
    works_s: np.ndarray | None = None
    peak: int = 0
    machine: str | None = None
    count: int | None = None
    spares: int = 0
    at_once: int = 1
    played: bool = False
    closed_form_usd: float | None = None
    interval: tuple[float, float] | None = None
    differs: str | None = None

    @property
    def usd(self) -> float | None:
        """The month's bill, USD."""
        return None if self.parts is None else self.parts.total_usd

    @property
    def serves(self) -> bool:
        """Whether it keeps the promise."""
        return self.why_not is None

    def at(self, percentile: float) -> float | None:
        """Latency at a percentile, s."""
        return None if self.times is None else float(np.percentile(self.times.latency_s, percentile))

    def as_data(self, tokens_per_month: float) -> dict[str, Any]:
        """As JSON has it (docs/cost.md): one that does not serve has no bill, but its closed form's."""
        times, usd = self.times, self.usd if self.serves else None
        spread = None if times is None else {name: _quantiles(getattr(times, name)) for name in vars(times)}
        generated = spread is not None and times is not None and bool(times.tpot_s.any())
        ttft, tpot = (spread["ttft_s"], spread["tpot_s"]) if spread and generated else (None, None)
        latency = spread["latency_s"] if spread else None
        return {
            "name": self.contender,
            "shape": self.shape,
            "deployment": self.words,
            "fits": self.serves,
            "why_not": self.why_not,
            "monthly_usd": usd,
            "monthly_usd_interval": None if usd is None else list(self.interval or (usd, usd)),
            "parts": None if usd is None or self.parts is None else asdict(self.parts),
            "usd_per_million_tokens": None if usd is None else usd / tokens_per_month * 1e6,
            "latency_s": latency,
            "ttft_s": ttft,
            "tpot_s": tpot,
            "meets_slo": self.serves if times is not None else None,
            "cold_share": self.cold_share,
            "functions": self.functions,
            "memory_mb": self.memory_mb,
            "lanes": self.lanes,
            "peak_concurrency": self.peak,
            "instance": self.machine,
            "instances": None if self.count is None else self.count + self.spares,
            "spares": self.spares,
            "batching": self.batching,
            "played": self.played,
            "closed_form_monthly_usd": self.closed_form_usd,
            "differs": self.differs,
            "price_list_date": self.price_list_date,
            "metrics": {
                "vllm:e2e_request_latency_seconds": latency,
                "vllm:time_to_first_token_seconds": ttft,
                "vllm:time_per_output_token_seconds": tpot,
            },
        }


def _quantiles(times_s: np.ndarray) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(times_s, p)) for p in PERCENTILES}


def mix(times: Sequence[Times], shares: Sequence[float]) -> Times:
    """Times of the levels of a day, each as often as it has requests."""
    if len(times) == 1:
        return times[0]
    cut = [
        [each[: round(len(each) * share / max(shares))] for each in vars(level).values()]
        for level, share in zip(times, shares, strict=True)
    ]
    return Times(*(np.concatenate(each) for each in zip(*cut, strict=True)))


def cheapest(offers: Sequence[Offer]) -> Offer | None:
    """The one with the least bill of those that serve."""
    serving = [offer for offer in offers if offer.serves and offer.usd is not None]
    return min(serving, key=lambda offer: offer.usd or 0.0, default=None)


def ordered(offers: Sequence[Offer]) -> list[Offer]:
    """Cheapest first; those that do not serve last."""
    return sorted(offers, key=lambda offer: (not offer.serves, offer.usd if offer.usd is not None else np.inf))
