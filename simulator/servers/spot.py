"""Spare capacity that AWS takes back: what one machine more, and a notice of two minutes, do for the promise.

A machine is taken back at a rate of its own, with a notice; its successor is asked for at once. Requests under way
are served to their end if that takes no longer than the notice. Where the successor starts within the notice too,
nothing is lost; else one machine is away meanwhile, for which there is a spare; two at once are missed.
"""

from __future__ import annotations

import math

import numpy as np

from simulator.profiles.contenders import Spot
from simulator.servers.machine import Machine
from simulator.servers.promise import Promise, Times

SPARES = 1
MONTH_S = 730 * 3600.0


def started_usd(spot: Spot, machine: Machine, count: float, minimum_s: float) -> float:
    """USD a month for successors while those that they replace are still paid for, of so many machines."""
    paid_s = max(machine.start_s, minimum_s)
    return count * spot.interruptions_per_month.median * paid_s * machine.usd_per_hour / 3600


def missed(spot: Spot, machine: Machine, count: int, times: Times, promise: Promise) -> str | None:
    """What interruptions do to a promise, in words; None: it is kept.

    Args:
        count: machines, the spare among them. times: of requests where nothing is taken back.
    """
    notice_s, p = spot.notice_s.median, promise.percentile
    longest_s = float(np.percentile(times.latency_s, p))
    if longest_s > notice_s:
        return f"a request takes {longest_s:,.0f} s at p{p:g} > {notice_s:,.0f} s of notice"
    away_s = max(0.0, machine.start_s - notice_s)
    away = count * spot.interruptions_per_month.median * away_s / MONTH_S
    share = -math.expm1(-away) - away * math.exp(-away)  # of the time, two or more (Poisson)
    if share > 1 - p / 100:
        return f"more than the spare is taken back for {share:.1%} of the time > {1 - p / 100:.1%}"
    return None
