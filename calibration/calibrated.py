"""A profile while it is made from measurements: every quantity fitted in turn, the rest marked as not measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from calibration.fitting.bootstrap import Fitted, Quantity
from calibration.measured.billing import Rule
from moe.errors import InputError
from moe.shown import Shown
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import Keys, with_constant

NOT_MEASURED: dict[Keys, str] = {
    ("start", "image_bytes_per_s"): "no campaign starts images of more than one size",
    ("compute", "sync_bytes_per_s"): "no probe writes to /tmp",
    ("network", "process_bytes_per_s"): "it cannot be told from what a function gets at most (burst_bytes_per_s)",
    ("storage", "get_drift"): "a campaign is a few hours long, and five medians tell no distribution",
    ("storage", "put_drift"): "the same",
    ("storage", "slow_gets"): "they are later by no more than downloads of their size differ anyway",
    (
        "storage",
        "slow_puts",
    ): "a campaign has 360 uploads over one or two connections, seven slow ones to be expected",
}
"""What of a profile no campaign tells, and why: it is kept from the base, whatever was measured."""


@dataclass(frozen=True, repr=False)
class Calibration(Shown):
    """A profile made from measurements.

    Attributes:
        profile: the base with what was measured. fits: by quantity.
        not_in_base: measured packages that neither the base profile has nor enough was measured of to add them.
        rules: of billing. left_out: measurements that were not used, by reason.
    """

    profile: PlatformProfile
    fits: list[Fitted]
    not_in_base: list[str]
    rules: list[Rule] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def _facts(self) -> dict[str, Any]:
        kept = sum(found.constant.kept is not None for found in self.fits)
        return {"profile": self.profile.name, "fitted": len(self.fits) - kept, "kept": kept}

    def upon(self, first: Calibration) -> Calibration:
        """This one, made with the other's profile as its base, together with what stands of the other."""
        mine = {found.quantity.path for found in self.fits}
        gone = ("start", "keep_alive_halving_s") if self.profile.start.keep_alive_halving_s is None else None
        rest = [found for found in first.fits if found.quantity.path not in {*mine, gone}]
        profile = self.profile
        for found in rest:
            profile = with_constant(profile, found.quantity.path, found.constant)
        if profile.compute.visible_cores.kept == "not measured":
            cores = first.profile.compute.visible_cores
            profile = with_constant(profile, ("compute", "visible_cores"), cores)
        missing = [name for name in first.not_in_base if name not in profile.start.packages]
        return replace(self, profile=profile, fits=[*rest, *self.fits], not_in_base=[*missing, *self.not_in_base])


def renamed(made: Calibration, name: str, about: str) -> Calibration:
    """The calibration with another name and description of its profile."""
    return replace(made, profile=made.profile.model_copy(update={"name": name, "about": about}))


def check_values(file: object, quantity: Quantity) -> None:
    """Raises InputError where a value is no number, or not above 0 (of points: below 0)."""
    for run in quantity.runs:
        if not np.isfinite(run).all() or run.min() < 0 or (run.ndim == 1 and run.min() == 0):
            raise InputError(f"{file}: {'.'.join(quantity.path)}: expected positive numbers, got {run.min():g}")


def marked(profile: PlatformProfile) -> PlatformProfile:
    """The profile with every constant marked as not measured."""
    mark = {"kept": "not measured"}
    cores = profile.compute.visible_cores.model_copy(update=mark)
    constants = profile.mapped(lambda constant: constant.model_copy(update=mark))
    return with_constant(constants, ("compute", "visible_cores"), cores)
