"""Contenders of servers and of bought tokens: sized by the closed form, and the best played."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from experiments.cost.offer import Offer, Parts, added, mix
from experiments.cost.question import Question
from simulator.profiles.contenders import Contender, Servers, Tokens
from simulator.servers.machine import Machine, machines
from simulator.servers.promise import Times
from simulator.servers.queue import Served, play
from simulator.servers.sizing import Sized, fewest, size
from simulator.servers.spot import SPARES, missed, started_usd
from simulator.servers.work import Work
from simulator.traffic.requests import HOURS_PER_MONTH

PLAYED = 3000  # requests
MOST_PLAYED = 32  # machines: more are alike
WARM_UP = 0.1
TRIES = 8  # of more machines, where fewer miss the promise when they are played
SECONDS_PER_HOUR = 3600.0


def of_servers(question: Question, contender: Contender) -> Offer:
    """The cheapest machines that keep the promise, or why none do."""
    runs = contender.runs
    assert isinstance(runs, Servers)
    runs = question.servers(contender.name, runs)
    rented = machines(runs, Work(question.spec), question.instances(contender.name, runs))
    if not rented:
        large = _too_small(question, runs)
        return Offer(contender.name, "", runs.batching, contender.price_list_date, why_not=large)
    best: Offer | None = None
    nearest: Sized | None = None
    taken_back: Offer | None = None
    for machine in rented:
        usd = machine.usd_per_hour * HOURS_PER_MONTH
        if best is not None and best.usd is not None:
            if usd >= best.usd:
                break
            if usd * fewest(machine, question.load(1.0)) >= best.usd:
                continue
        sized = _sized(question, machine, math.inf if best is None or best.usd is None else best.usd)
        if sized is None:
            continue
        if any(each.why_not for each in sized):
            nearest = next(each for each in sized if each.why_not)
            continue
        offer = _offer(question, contender, runs, sized)
        if not offer.serves:
            taken_back = offer
        elif best is None or (offer.usd or math.inf) < (best.usd or math.inf):
            best = offer
    if found := best or taken_back:
        return found
    assert nearest is not None
    name = nearest.machine.name
    why_not = nearest.why_not
    return Offer(contender.name, name, runs.batching, contender.price_list_date, why_not=why_not, machine=name)


def _too_small(question: Question, runs: Servers) -> str:
    """What the largest machine lacks, in words."""
    none = Work(question.spec.model_copy(update={"moe_layers": 1, "experts": 1, "top_k": 1}))
    rooms = [each.room_bytes + none.parameter_bytes for each in machines(runs, none, question.instances("", runs))]
    needed, largest = Work(question.spec).parameter_bytes / 1e9, max(rooms, default=0.0) / 1e9
    share = f"{runs.memory_share.median:.0%} of its memory"
    return f"does not fit: {needed:,.1f} GB > {largest:,.1f} GB ({share})"


def _sized(question: Question, machine: Machine, most_usd: float) -> list[Sized] | None:
    """Machines for each level of a day; None: they cost more than is paid elsewhere."""
    found = []
    for factor, _ in sorted(question.traffic.levels, reverse=True):
        sized = size(machine, question.load(factor), question.promise)
        found.append(sized)
        if sized.why_not or sized.count * machine.usd_per_hour * HOURS_PER_MONTH >= 4 * most_usd:
            return found if sized.why_not else None
    return found


def _offer(question: Question, contender: Contender, runs: Servers, sized: list[Sized]) -> Offer:
    """The month's bill of machines for each level, the busiest first."""
    machine, levels = sized[0].machine, sorted(question.traffic.levels, reverse=True)
    counts = [each.count if runs.count == "scaled" else sized[0].count for each in sized]
    parts = []
    for (_, share), count, each in zip(levels, counts, sized, strict=True):
        assert each.expected is not None
        busy = min(1.0, each.expected.busy * each.count / count)
        parts.append(rent(machine, count, _spares(runs), share, busy))
    parts.append(_besides(question, runs, machine, counts))
    total = added(parts)
    expected = sized[0].expected
    assert expected is not None
    return Offer(
        contender.name,
        _words(runs, max(counts), machine),
        runs.batching,
        contender.price_list_date,
        why_not=_taken_back(question, runs, machine, max(counts), expected.times),
        parts=total,
        times=expected.times,
        machine=machine.name,
        count=max(counts),
        spares=_spares(runs),
        at_once=sized[0].at_once,
        peak=max(counts) * sized[0].at_once,
        closed_form_usd=total.total_usd,
    )


def rent(machine: Machine, count: int, spares: int, share: float, busy: float) -> Parts:
    """Machines for a share of a month, in which those that are no spares are busy for a share."""
    usd = machine.usd_per_hour * HOURS_PER_MONTH * share
    return Parts(compute_usd=usd * count * busy, idle_usd=usd * (count * (1 - busy) + spares))


def _spares(runs: Servers) -> int:
    """Machines besides those that the traffic needs."""
    return 0 if runs.rent.spot is None else SPARES


def _words(runs: Servers, count: int, machine: Machine) -> str:
    """How many of which, for people."""
    return f"{count:,}{' + 1 spare' if _spares(runs) else ''} x {machine.name}"


def _taken_back(question: Question, runs: Servers, machine: Machine, count: int, times: Times) -> str | None:
    """What AWS's taking machines back does to the promise; None: nothing, or it does not."""
    if runs.rent.spot is None:
        return None
    return missed(runs.rent.spot, machine, count + SPARES, times, question.promise)


def _besides(question: Question, runs: Servers, machine: Machine, counts: list[int]) -> Parts:
    """Requests where they are charged, and starts of machines that come and go with the day, or are taken back."""
    request = 0.0 if runs.rent.request is None else runs.rent.request.median
    days = HOURS_PER_MONTH / 24
    started = (max(counts) - min(counts)) * days if runs.count == "scaled" else 0
    start_s = max(machine.start_s, runs.rent.minimum_s.median)
    usd = started * start_s * machine.usd_per_hour / SECONDS_PER_HOUR
    if runs.rent.spot is not None:
        there = float(np.mean(counts)) + SPARES
        usd += started_usd(runs.rent.spot, machine, there, runs.rent.minimum_s.median)
    return Parts(requests_usd=question.traffic.per_month * request, init_usd=usd)


def played(question: Question, contender: Contender, offer: Offer) -> Offer:
    """The offer as its machines serve the traffic, with more of them where the promise is missed."""
    runs = contender.runs
    assert isinstance(runs, Servers)
    runs = question.servers(contender.name, runs)
    rented = machines(runs, Work(question.spec), question.instances(contender.name, runs))
    machine = next(each for each in rented if each.name == offer.machine)
    assert offer.count is not None
    count, why_not = offer.count, None
    for _ in range(TRIES):
        levels = [
            _play(question, machine, count, offer.at_once, factor, runs.count) for factor, _ in _levels(question)
        ]
        times = mix([level[0] for level in levels], [factor * share for factor, share in _levels(question)])
        why_not = question.promise.broken(times)
        if why_not is None:
            break
        count += max(1, count // 8)
    else:
        return replace(offer, why_not=f"{why_not}, when played", times=times, played=True)
    parts = []
    for (_, share), (_, busy, there) in zip(_levels(question), levels, strict=True):
        parts.append(rent(machine, there, _spares(runs), share, busy))
    counts = [there for _, _, there in levels]
    total = added([*parts, _besides(question, runs, machine, counts)])
    return replace(
        offer,
        parts=total,
        times=times,
        count=max(counts),
        words=_words(runs, max(counts), machine),
        why_not=_taken_back(question, runs, machine, max(counts), times),
        played=True,
    )


def _levels(question: Question) -> list[tuple[float, float]]:
    return sorted(question.traffic.levels, reverse=True)


def _play(
    question: Question, machine: Machine, count: int, at_once: int, factor: float, kind: str
) -> tuple[Times, float, int]:
    """Times, busy share and machines of one level; of many machines some are played, with their share of it."""
    peak = max(factor for factor, _ in question.traffic.levels)
    there = max(1, math.ceil(count * factor / peak)) if kind == "scaled" else count
    shown = min(there, MOST_PLAYED)
    rng = np.random.default_rng([question.seed, round(1000 * factor)])
    window = question.traffic.window(PLAYED, question.traffic.rate * factor * shown / there, rng)
    served = play(machine, shown, window.at_s, window.tokens_in, window.tokens_out, at_once)
    rate = question.traffic.rate * factor / there  # a part of a trace has one of its own
    return _settled(served), min(1.0, served.busy_s / len(window) * rate), there


def _settled(served: Served) -> Times:
    """Times without those of the first requests."""
    first = int(WARM_UP * len(served.times.latency_s))
    return Times(*(each[first:] for each in vars(served.times).values()))


def of_tokens(question: Question, contender: Contender) -> Offer:
    """Bought tokens: the price alone."""
    runs = contender.runs
    assert isinstance(runs, Tokens)
    prices = question.token_prices(runs)
    if prices is None:
        why_not = f"no price for {question.spec.name}"
        return Offer(contender.name, "", runs.batching, contender.price_list_date, why_not=why_not)
    tokens_in, tokens_out = question.traffic.sample(500)
    usd = (float(tokens_in.mean()) * prices[0] + float(tokens_out.mean()) * prices[1]) / 1e6
    parts = Parts(requests_usd=usd * question.traffic.per_month)
    words = f"{prices[0]:g} / {prices[1]:g} USD per million in / out"
    return Offer(
        contender.name,
        words,
        runs.batching,
        contender.price_list_date,
        shape="bought",
        parts=parts,
        closed_form_usd=parts.total_usd,
    )
