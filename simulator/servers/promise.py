"""What is promised of a request, in the field's words: `ttft`, `tpot` and `latency`, at a percentile."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from moe.errors import InputError, nearest, shortened

NAMES = {"ttft": "ttft_s", "tpot": "tpot_s", "latency": "latency_s"}
_UNITS = {"s": 1.0, "ms": 1e-3, "": 1.0}
_AMOUNT = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ms|s|)", re.ASCII)
PERCENTILE = 95.0
MISSED = "SLO missed"
USUAL = {True: "ttft=2s,tpot=0.1s@p95", False: "latency=1s@p95"}
"""What is taken where nothing is promised, by whether a model writes. Of one that writes the limits of MLPerf
Inference's server scenario of Llama-3.1-8B (5.1; there at p99): ten tokens a second, faster than people read.
Of an encoder a second: Nielsen, Usability Engineering, 1993, what keeps a person's thought in flow."""


@dataclass(frozen=True)
class Promise:
    """An SLO: at most so many seconds at a percentile; None: not promised.

    Attributes:
        ttft_s: time to the first token. tpot_s: time per output token after it. latency_s: of the whole request.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None
    percentile: float = PERCENTILE

    def worst(self, times: Times) -> float:
        """The largest of what is measured over what is promised; 0 where nothing is."""
        pairs = ((self.ttft_s, times.ttft_s), (self.tpot_s, times.tpot_s), (self.latency_s, times.latency_s))
        shares = [float(np.percentile(found, self.percentile)) / most for most, found in pairs if most is not None]
        return max(shares, default=0.0)

    def broken(self, times: Times) -> str | None:
        """What misses the promise by most, in words; None: nothing does."""
        rows = [
            (float(np.percentile(found, self.percentile)), most, name)
            for name, most, found in (
                ("time to first token", self.ttft_s, times.ttft_s),
                ("time per output token", self.tpot_s, times.tpot_s),
                ("latency", self.latency_s, times.latency_s),
            )
            if most is not None
        ]
        late = [row for row in rows if row[0] > row[1]]
        if not late:
            return None
        found, most, name = max(late, key=lambda row: row[0] / row[1])
        return f"{MISSED}: {name} {found:.3g} s > {most:g} s at p{self.percentile:g}"


@dataclass(frozen=True)
class Times:
    """What requests took, s, each of shape (requests,): `tpot_s` of those with more than one token out, else 0."""

    ttft_s: np.ndarray
    tpot_s: np.ndarray
    latency_s: np.ndarray


def usual_promise(generates: bool) -> Promise:
    """What an engineer would expect of a service that promises nothing, of a model that writes or does not."""
    return read_promise(USUAL[generates])


def read_promise(text: str) -> Promise:
    """`ttft=2s,tpot=0.1s@p95`, `latency=1s@p99` or `1s@p99`. Raises InputError, with the nearest word."""
    terms, at, percentile = text.replace(" ", "").partition("@")
    if at and not re.fullmatch(r"p(\d{1,2}(\.\d+)?)", percentile):
        raise InputError(
            f"--slo {shortened(text)}: expected a percentile such as @p95, got {shortened('@' + percentile)}"
        )
    found: dict[str, float] = {}
    for term in terms.split(","):
        name, equals, amount = term.rpartition("=")
        name = name if equals else "latency"
        if name not in NAMES:
            raise InputError(f"--slo {shortened(text)}: no {shortened(name)}{nearest(name, NAMES)}")
        read = _AMOUNT.fullmatch(amount)
        if read is None or float(read[1]) <= 0:
            raise InputError(
                f"--slo {shortened(text)}: expected a time such as 0.5s or 200ms, got {shortened(amount)}"
            )
        if NAMES[name] in found:
            raise InputError(f"--slo {shortened(text)}: expected each once, got {name} twice")
        found[NAMES[name]] = float(read[1]) * _UNITS[read[2]]
    return Promise(**found, percentile=float(percentile[1:]) if at else PERCENTILE)
