"""A campaign again, on the simulated platform: the same works, in the same order, with the same pauses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from calibration.check.simulated_backend import SimulatedBackend
from lambda_probe.campaign.backend import ProbeFunction, ProbePackage
from lambda_probe.campaign.measurements import Measured, row_of
from lambda_probe.campaign.works import KINDS, Send, Work
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT_S = 900


def replayed(table: pd.DataFrame, profile: PlatformProfile, seed: int = 0) -> pd.DataFrame:
    """The measurement table that a campaign would have brought on the platform of a profile.

    A call that was tried several times is made once. A package that the profile lacks is its main one.

    Args:
        table: of one campaign. profile: the platform.
    """
    import pandas as pd

    replay = _Replay(SimulatedBackend(profile, seed), profile)
    first = table[table.attempt == 1].sort_values("sent_s", kind="stable")
    began_s = float(first.sent_s.iloc[0])
    return pd.DataFrame([row for calls in _together(first) for row in replay.play(calls, began_s)])


def _together(table: pd.DataFrame) -> Iterator[list[dict[str, Any]]]:
    """Rows that were sent at once, one after the other."""
    rows = table.to_dict("records")
    while rows:
        same = [k for k, row in enumerate(rows[: rows[0]["at_once"]]) if row["function"] == rows[0]["function"]]
        yield rows[: len(same)]
        rows = rows[len(same) :]


class _Replay:
    """One campaign on one backend."""

    def __init__(self, backend: SimulatedBackend, profile: PlatformProfile) -> None:
        self._backend, self._profile = backend, profile
        self._functions: dict[str, ProbeFunction] = {}

    def play(self, calls: list[dict[str, Any]], began_s: float) -> list[dict[str, Any]]:
        """Make these calls at once; their rows."""
        row, backend = calls[0], self._backend
        given = json.loads(row["work"])
        work: Work = KINDS[given.pop("do")](**given)
        function = self._function(row, row["function"])
        if isinstance(work, Send):
            self._function(row, work.target)
        backend.rest(float(row["sent_s"]) - began_s - backend.now_s())
        if row["probe"] == "cold":
            backend.forget(function.name)
        attempts = [made[0] for made in backend.call_at_once([function.name] * len(calls), work)]
        return [
            row_of(
                Measured(row["run"], row["probe"], function, work, attempt, row["idle_s"], row["at_once"]),
                backend.facts,
                backend.prices,
                0.0,
            )
            for attempt in attempts
        ]

    def _function(self, row: dict[str, Any], name: str) -> ProbeFunction:
        if name not in self._functions:
            start = self._profile.start
            used = row["package"] if row["package"] in start.packages else start.package
            padding, kind = int(row["padding_bytes"]), start.packages[used].package_type
            deployed = ProbeFunction(
                name, int(row["memory_mb"]), ProbePackage(used, kind, padding_bytes=padding), TIMEOUT_S
            )
            self._backend.create(deployed)
            measured = replace(deployed.package, name=row["package"], package_type=row["package_type"])
            self._functions[name] = replace(deployed, package=measured)
        return self._functions[name]
