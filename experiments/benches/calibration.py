"""How far calibration can be believed: hidden platforms, measured by a campaign, beside what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from calibration.campaigns import calibrate_campaigns
from calibration.check.hidden import Recovered, hidden_platform, measured, recovered
from experiments.tools.kept import Store, Update, unseen
from lambda_probe.campaign.file import load_campaign
from moe.files import FileModel
from simulator.profiles.schema import PAPER_PROFILE, load_profile

ALL = "all"


@dataclass(frozen=True)
class Believed:
    """What is said of one constant of many hidden platforms, beside the truth.

    Attributes:
        name: of the constant. measured: campaigns that told it. intervals, hold: those with an interval, and those
            whose interval holds the truth. error, worst: relative, the median and the largest. ks: the largest
            distance of distribution functions, None of a number. kept: campaigns after which the base's value
            stands. brackets: campaigns that told no more than a bracket.
    """

    name: str
    measured: int
    intervals: int
    hold: int
    error: float
    worst: float
    ks: float | None
    kept: int
    brackets: int

    @property
    def coverage(self) -> float | None:
        """Share of the intervals that hold the truth."""
        return self.hold / self.intervals if self.intervals else None


class Hidden(FileModel):
    """A hidden platform by number, what measures it, and with which seed."""

    platform: int
    seed: int
    campaign: str


def study(platforms: int, seeds: int, campaign: str, store: Store, update: Update = unseen) -> list[Recovered]:
    """What the campaign finds of so many hidden platforms, each with so many seeds.

    Args:
        store: keeps what each campaign found. update: told (campaigns that are there, all, done per second).
    """
    cells = [Hidden(platform=k, seed=seed, campaign=campaign) for seed in range(seeds) for k in range(platforms)]
    found = store.values("campaign", one_campaign, cells, update)
    return [_recovered(row) for rows in found for row in rows]


def one_campaign(cell: Hidden) -> list[dict[str, Any]]:
    """What one campaign finds, each constant as `Recovered`'s fields."""
    base = load_profile(PAPER_PROFILE)
    true = hidden_platform(base, cell.platform)
    with TemporaryDirectory() as folder:
        seed = 1000 * cell.platform + cell.seed
        there = measured(load_campaign(cell.campaign), true, seed, Path(folder) / "measured")
        fits = calibrate_campaigns([there], base).fits
    return [asdict(row) for row in recovered(fits, true, cell.platform, cell.seed)]


def _recovered(row: dict[str, Any]) -> Recovered:
    interval = row["interval"]
    return Recovered(**row | {"interval": None if interval is None else tuple(interval)})


def believed(rows: Sequence[Recovered]) -> list[Believed]:
    """By constant, in the order of a calibration; the last one is all together."""
    names = list(dict.fromkeys(row.name for row in rows))
    return [_of(name, [row for row in rows if name in (row.name, ALL)]) for name in [*names, ALL]]


def _of(name: str, rows: Sequence[Recovered]) -> Believed:
    holds = [row.holds for row in rows if row.holds is not None]
    errors = [row.error for row in rows]
    return Believed(
        name,
        measured=len(rows),
        intervals=len(holds),
        hold=sum(holds),
        error=float(np.median(errors)),
        worst=max(errors),
        ks=max((row.ks for row in rows if row.ks is not None), default=None),
        kept=sum(row.kept is not None for row in rows),
        brackets=sum(row.bracket for row in rows),
    )
