"""The platform of the tests of traffic."""

from typing import Any

import numpy as np

from simulator.cloud.platform import Platform, ideal_platform
from simulator.draws import Draws
from tests.conftest import reference

UNUSED = np.random.default_rng(0)


def at_once(**changes: Any) -> Platform:
    """A platform whose calls start at once and take exactly their work, with changes."""
    return ideal_platform(reference("tiny")[0]).changed(start={"warm": Draws(0.0, UNUSED)}).changed(**changes)
