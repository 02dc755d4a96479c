"""A profile while it is made from measurements: every quantity fitted in turn, the rest marked as not measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calibration.billing import Rule
from calibration.fitting import Fitted, Quantity
from moe.errors import InputError
from moe.files import FileModel
from simulator.constant import Constant
from simulator.profile import PlatformProfile, VisibleCores


@dataclass(frozen=True)
class Calibration:
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


def check_values(file: object, quantity: Quantity) -> None:
    """Raises InputError where a value is no number, or not above 0 (of points: below 0)."""
    for run in quantity.runs:
        if not np.isfinite(run).all() or run.min() < 0 or (run.ndim == 1 and run.min() == 0):
            raise InputError(f"{file}: {'.'.join(quantity.path)}: expected positive numbers, got {run.min():g}")


def marked(inside: Any) -> Any:
    """A profile in which every constant is marked as not measured."""
    if isinstance(inside, Constant | VisibleCores):
        return inside.model_copy(update={"kept": "not measured"})
    if isinstance(inside, dict):
        return {key: marked(value) for key, value in inside.items()}
    if isinstance(inside, FileModel):
        return inside.model_copy(update={name: marked(value) for name, value in inside})
    return inside
