"""How many machines keep a promise: the closed form of servers behind one queue.

A machine that encodes is one of M/G/c (Erlang C, Allen and Cunneen) until passes of one request are too slow; then
it takes batches, of a size as random as arrivals, and a request waits at most a pass. One that generates has as
many sequences as arrive while one is there (Little): a token of B others and itself takes t(1 + B), longer by the
share u of time that prompts take, so that B = rate x tokens out x t(1 + B) / (1 - u). Prompts wait as in M/G/1
(Pollaczek and Khinchine).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from simulator.servers.machine import Machine
from simulator.servers.promise import Promise, Times

MOST_MACHINES = 100_000
MOST_LOADED = 0.9
"""Machines have at most so much of the load under which they fall behind."""
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Load:
    """Requests that arrive at random.

    Attributes:
        rate: requests/s. tokens_in, tokens_out: of a sample of them, shape (requests,).
    """

    rate: float
    tokens_in: np.ndarray
    tokens_out: np.ndarray


@dataclass(frozen=True)
class Expected:
    """What the closed form says of machines: times of the sample, share of the time that they are busy."""

    times: Times
    busy: float


@dataclass(frozen=True)
class Sized:
    """Machines that keep the promise, or why none do.

    Attributes:
        machine, count: how many of which; at_once: requests that each has at most.
        expected: what they do. why_not: in words; None: they keep it.
    """

    machine: Machine
    count: int
    at_once: int
    expected: Expected | None
    why_not: str | None = None


def size(machine: Machine, load: Load, promise: Promise) -> Sized:
    """The fewest machines that keep a promise."""
    longest = float(np.max(load.tokens_in + load.tokens_out))
    at_once = machine.at_once(float(np.mean(load.tokens_in + load.tokens_out)))
    if at_once < 1 or machine.at_once(longest) < 1:
        return Sized(
            machine,
            0,
            0,
            None,
            f"{longest:,.0f} tokens do not fit into {_gb(machine.room_bytes)} beside the weights",
        )
    if not machine.work.spec.generates:
        at_once = _batch(machine, load, promise)
    alone = expect(machine, MOST_MACHINES, load, at_once)
    if alone is not None and (why_not := promise.broken(alone.times)) is not None:
        return Sized(machine, 0, at_once, None, why_not)

    more = replace(load, rate=load.rate / MOST_LOADED)

    def keeps(count: int) -> bool:
        found = expect(machine, count, load, at_once)
        within = found is not None and promise.worst(found.times) <= 1
        return within and expect(machine, count, more, at_once) is not None

    high = fewest(machine, load)
    low = high - 1
    while not keeps(high):
        low, high = high, 2 * high
        if high > MOST_MACHINES:
            return Sized(machine, 0, at_once, None, f"more than {MOST_MACHINES:,} machines")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return Sized(machine, high, at_once, expect(machine, high, load, at_once))


def fewest(machine: Machine, load: Load) -> int:
    """Fewer machines than that fall behind, whatever is promised: a bound that takes no search."""
    batch = 1 if machine.work.spec.generates else machine.most_sequences
    pass_s = float(machine.pass_s(float(np.mean(load.tokens_in)), batch)) / batch
    return max(1, math.floor(load.rate / MOST_LOADED * pass_s))


def _gb(amount: float) -> str:
    return f"{amount / 1e9:.3g} GB"


def _batch(machine: Machine, load: Load, promise: Promise) -> int:
    """Requests of a pass: who just missed one is in time if it takes half the promise; 32 without one."""
    most = promise.latency_s or promise.ttft_s
    if most is None:
        return 32
    tokens = float(np.mean(load.tokens_in))
    sizes = 2 ** np.arange(int(math.log2(machine.most_sequences)) + 1)
    within = sizes[np.asarray(machine.pass_s(tokens, sizes)) <= most / 2]
    return int(within[-1]) if len(within) else 1


def expect(machine: Machine, count: int, load: Load, at_once: int) -> Expected | None:
    """What so many machines do by the closed form; None: they fall behind."""
    return (_generating if machine.work.spec.generates else _encoding)(machine, count, load, at_once)


def _quantiles(count: int) -> np.ndarray:
    """Evenly spread numbers in (0, 1), in an order that goes with nothing."""
    return (0.5 + GOLDEN * np.arange(count)) % 1.0


def _normal(count: int) -> np.ndarray:
    """Quantiles of the normal distribution, in an order that goes with nothing."""
    from scipy.special import ndtri

    return np.asarray(ndtri((0.5 + math.sqrt(2) * np.arange(count)) % 1.0 * (1 - 1 / count) + 0.5 / count))


def _encoding(machine: Machine, count: int, load: Load, at_once: int) -> Expected | None:
    alone = np.asarray(machine.pass_s(load.tokens_in))
    mean, rate = float(alone.mean()), load.rate / count
    tokens = float(load.tokens_in.mean())
    batch, before = 1.0, 0.0
    while abs(batch - before) > 1e-3 * batch:
        before, batch = batch, min(max(1.0, rate * float(machine.pass_s(tokens, batch))), float(at_once))
    if rate * float(machine.pass_s(tokens, batch)) > batch:
        return None
    u, z = _quantiles(len(alone)), _normal(len(alone))
    pass_s = np.asarray(machine.pass_s(tokens, np.clip(batch + z * math.sqrt(batch), 1.0, at_once)))
    waited = u * pass_s  # for the end of the pass that is under way
    busy, waits = load.rate * mean, 1.0
    if busy < count:
        waits = erlang_c(count, busy)
        queue_s = waits / (count / mean - load.rate) * (1 + float(alone.var()) / mean**2) / 2
        queued = np.log(np.maximum(waits / (1 - u), 1.0)) * queue_s / max(waits, 1e-300)
        waited = np.minimum(queued, waited) if at_once > 1 else queued
    together = np.where(u > 1 - waits, pass_s if at_once > 1 else alone, alone)
    times = waited + np.maximum(alone, together)
    return Expected(Times(times, np.zeros_like(times), times), min(1.0, rate * float(pass_s.mean()) / batch))


def _generating(machine: Machine, count: int, load: Load, at_once: int) -> Expected | None:
    rate = load.rate / count
    prompts = np.asarray(machine.pass_s(load.tokens_in))
    busy = rate * float(prompts.mean())
    if busy >= 1:
        return None
    steps = float(np.maximum(load.tokens_out - 1, 0).mean())
    context = float(np.average(load.tokens_in + load.tokens_out / 2, weights=np.maximum(load.tokens_out, 1)))
    sequences = 0.0
    for _ in range(100):
        token_s = float(machine.token_s(1 + sequences, context)) / (1 - busy)
        found = rate * steps * token_s
        if abs(found - sequences) <= 1e-6 * found:
            break
        sequences = found
        if sequences > 10 * at_once:
            return None
    if sequences + 2 * math.sqrt(sequences) > at_once:
        return None
    u = _quantiles(len(prompts))
    wait_s = rate * float((prompts**2).mean()) / (2 * (1 - busy))
    waited = np.maximum(0.0, np.log(busy / (1 - u))) * wait_s / busy if busy > 0 else 0.0
    ttft = waited + min(1.0, sequences) * token_s + prompts
    more = np.maximum(load.tokens_out - 1, 0)
    tpot = np.where(more > 0, token_s, 0.0)
    return Expected(Times(ttft, tpot, ttft + more * tpot), min(1.0, busy + (1 - busy) * min(1.0, sequences)))


def erlang_c(servers: int, load: float) -> float:
    """Share of requests that wait for one of so many servers."""
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def erlang_b(servers: int, load: float) -> float:
    """Share of requests that find all of so many servers busy: the last of Poisson's terms over their sum."""
    from scipy.special import gammaincc

    if load <= 0:
        return 0.0
    last = math.exp(servers * math.log(load) - load - math.lgamma(servers + 1))
    return float(last / max(gammaincc(servers + 1, load), last))
