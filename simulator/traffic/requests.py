"""Requests of a month: when they arrive, with how many tokens in and out, at any number a month.

A shape of traffic is kept whatever the number: gaps between arrivals are stretched, so that a burst has as many
requests as before. A day may have a busy and a quiet half (`peak_to_mean`): it is played by its levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, read_model
from simulator.draws import Draws
from simulator.traffic.arrivals import MMPP, Poisson, limited

HOURS_PER_MONTH = 730.0
MONTH_S = 3600 * HOURS_PER_MONTH
LEVELS = 4  # of a day that goes up and down
TokenLaw: TypeAlias = float | Mapping[float, float]


@dataclass(frozen=True)
class Requests:
    """Requests in the order of their arrival.

    Attributes:
        at_s: s from 0. tokens_in, tokens_out: whole numbers; all of shape (requests,).
    """

    at_s: np.ndarray
    tokens_in: np.ndarray
    tokens_out: np.ndarray

    def __len__(self) -> int:
        return len(self.at_s)


class Bursts(FileModel):
    """Two states with their rates, over the mean, and mean sojourns, in mean gaps (as `MMPP`)."""

    rates: tuple[float, float]
    sojourns: tuple[float, float]


class Shape(FileModel):
    """A kind of traffic that others measured: quantiles of tokens, and how bursty it is."""

    schema_: Literal["traffic-shape/1"] = Field(alias="schema")
    name: str
    about: str
    source: str
    date: str
    requests_per_month: float = Field(gt=0)
    bursts: Bursts
    tokens_in: dict[float, float]
    tokens_out: dict[float, float]


def shape_names() -> list[str]:
    """Names of the packaged shapes."""
    files = (resources.files("simulator") / "traffic" / "shapes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def read_shape(name: str) -> Shape:
    """A packaged shape. Raises InputError, with the nearest name."""
    if name not in shape_names():
        raise InputError(f"traffic: no shape {shortened(name)}{nearest(name, shape_names())}")
    return read_model(Shape, str(resources.files("simulator") / "traffic" / "shapes" / f"{name}.yaml"))


@dataclass(frozen=True)
class Traffic:
    """Requests at any number a month.

    Attributes:
        arrivals: what says when they arrive: `poisson`, a shape, a file.
        per_month: how many. tokens_in, tokens_out: of each, the same or by quantiles; of a trace its own.
        bursts: None: Poisson. trace: requests as they were recorded. peak_to_mean: rate of the busiest hour of a
            day over the mean. most_tokens: what is beyond it is cut off tokens in, and out.
        unwritten: whether tokens out were left out.
    """

    arrivals: str
    per_month: float
    tokens_in: TokenLaw = 0.0
    tokens_out: TokenLaw = 0.0
    bursts: Bursts | None = None
    trace: Requests | None = None
    peak_to_mean: float = 1.0
    most_tokens: int | None = None
    unwritten: bool = False

    @property
    def rate(self) -> float:
        """Mean arrivals/s."""
        return self.per_month / MONTH_S

    @property
    def levels(self) -> list[tuple[float, float]]:
        """Rates over the mean, and the share of the time that each lasts: a sine's, in steps."""
        if self.peak_to_mean == 1:
            return [(1.0, 1.0)]
        phases = math.pi * ((np.arange(LEVELS) + 0.5) / LEVELS - 0.5)
        factors = 1 + (self.peak_to_mean - 1) * np.sin(phases) / math.sin(phases[-1])
        return [(float(factor), 1 / LEVELS) for factor in factors]

    def at(self, per_month: float) -> Traffic:
        """The same with another number of requests a month, as bursty."""
        return replace(self, per_month=per_month)

    def without_output(self) -> Traffic:
        """The same requests to a model that writes no tokens."""
        trace = self.trace
        if trace is not None:
            trace = Requests(trace.at_s, trace.tokens_in, np.zeros_like(trace.tokens_out))
        return replace(self, tokens_out=0.0, trace=trace, unwritten=True)

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens in and out of some requests, shape (count,) each: the same ones every time."""
        rng = np.random.default_rng(0)
        if self.trace is not None:
            at = np.linspace(0, len(self.trace) - 1, min(count, len(self.trace))).astype(int)
            return self._cut(self.trace.tokens_in[at], self.trace.tokens_out[at])
        return self._cut(_drawn(self.tokens_in, count, rng), _drawn(self.tokens_out, count, rng))

    def window(self, requests: int, rate: float, rng: np.random.Generator) -> Requests:
        """So many requests at a mean rate (1/s); of a trace, a part of it that begins anywhere, or all of it."""
        if self.trace is not None:
            taken = min(requests, len(self.trace))
            first = int(rng.integers(0, len(self.trace) - taken + 1))
            part = slice(first, first + taken)
            gap = self.trace.at_s[-1] / max(1, len(self.trace) - 1)
            at = (self.trace.at_s[part] - self.trace.at_s[first]) / (gap * rate)
            return Requests(at, *self._cut(self.trace.tokens_in[part], self.trace.tokens_out[part]))
        arriving, sizing = rng.spawn(2)
        process = Poisson(rate_per_s=1.0)
        if self.bursts is not None:
            process = MMPP(rates_per_s=self.bursts.rates, mean_sojourns_s=self.bursts.sojourns)  # type: ignore[assignment]
        at = np.concatenate(list(limited(process.blocks(arriving), None, requests))) / rate
        tokens = _drawn(self.tokens_in, requests, sizing), _drawn(self.tokens_out, requests, sizing)
        return Requests(at, *self._cut(*tokens))

    def beyond(self) -> float:
        """Share of the requests that are cut."""
        if self.most_tokens is None:
            return 0.0
        whole = replace(self, most_tokens=None)
        tokens_in, tokens_out = whole.sample(20_000)
        return float(np.mean(tokens_in + tokens_out > self.most_tokens))

    def _cut(self, tokens_in: np.ndarray, tokens_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.most_tokens is None:
            return tokens_in, tokens_out
        kept_in = np.minimum(tokens_in, self.most_tokens - (tokens_out > 0))
        return kept_in, np.minimum(tokens_out, self.most_tokens - kept_in)


def _drawn(law: TokenLaw, count: int, rng: np.random.Generator) -> np.ndarray:
    if isinstance(law, Mapping):
        return np.maximum(1, np.round(Draws(dict(law), rng).many(count))).astype(int)
    return np.full(count, round(law))


def traffic_of_shape(name: str, per_month: float | None = None) -> Traffic:
    """A packaged shape at its own number of requests a month, or another. Raises InputError."""
    shape = read_shape(name)
    return Traffic(name, per_month or shape.requests_per_month, shape.tokens_in, shape.tokens_out, shape.bursts)


def traffic_of_trace(name: str, trace: Requests, per_month: float | None = None) -> Traffic:
    """A recorded trace at its own rate all month, or another number of requests a month. Raises InputError."""
    if len(trace) < 2 or trace.at_s[-1] <= 0:
        raise InputError(f"{name}: expected two requests at different times at least, got {len(trace)}")
    own = (len(trace) - 1) / float(trace.at_s[-1]) * MONTH_S
    return Traffic(name, per_month or own, trace=trace)
