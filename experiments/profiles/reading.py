"""Platform profiles read: every constant by its name, two profiles side by side, one against measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from calibration.check.campaigns import campaign_rows
from calibration.check.checks import Measured
from calibration.published.files import files_in, public_rows
from calibration.tables import Period, sorted_sha256
from moe.files import write_whole
from moe.loading import dump_yaml
from simulator.profiles.constant import Constant, Dated, Quantiles, Samples, Sourced, VisibleCores
from simulator.profiles.contenders import Contender
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import leaves

Verdict: TypeAlias = Literal["within", "outside", "spread unknown"]


def leaves_of(profile: PlatformProfile | Contender) -> dict[str, Any]:
    """Everything in a profile or contender by its dotted name: constants, and settings."""
    return {".".join(map(str, path)): leaf for path, leaf in leaves(profile)}


def constants_of(profile: PlatformProfile | Contender) -> dict[str, Sourced]:
    """Every constant and rule of a profile by its dotted name."""
    return {name: leaf for name, leaf in leaves_of(profile).items() if isinstance(leaf, Sourced)}


def value_text(leaf: Any) -> str:
    """A constant's value, or a setting, in a few words."""
    if isinstance(leaf, Dated):
        return "; ".join(f"{value:g} since {day}" for day, value in sorted(leaf.since.items()))
    if isinstance(leaf, VisibleCores):
        return ", ".join(f"{cores} to {most} MB" for most, cores in leaf.up_to_mb.items())
    value = leaf.value if isinstance(leaf, Constant) else leaf
    if isinstance(value, Quantiles):
        return ", ".join(f"p{100 * p:g} {x:.4g}" for p, x in value.quantiles.items())
    if isinstance(value, Samples):
        return f"{len(value.samples)} samples, median {leaf.median:.4g}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def write_profile(profile: PlatformProfile, path: Path) -> None:
    """Write a profile as YAML."""
    data = profile.model_dump(mode="json", by_alias=True, exclude_none=True)
    write_whole(path, dump_yaml(data, allow_unicode=True, width=110))


@dataclass(frozen=True)
class Change:
    """What differs between two profiles.

    Attributes:
        name, unit: of the constant or setting. before, after: its values, in words; None where there is none.
        ratio: after over before, of medians; None where they are not numbers.
    """

    name: str
    unit: str
    before: str | None
    after: str | None
    ratio: float | None


def changes(before: PlatformProfile | Contender, after: PlatformProfile | Contender) -> list[Change]:
    """What another profile says otherwise: values and settings, not who measured them."""
    old, new = leaves_of(before), leaves_of(after)
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        a, b = old.get(name), new.get(name)
        if name in ("name", "about", "schema_") or _said(a) == _said(b):
            continue
        ratio = b.median / a.median if isinstance(a, Constant) and isinstance(b, Constant) and a.median else None
        unit = next((leaf.unit for leaf in (a, b) if isinstance(leaf, Constant | Dated)), "")
        was, now = (None if leaf is None else value_text(leaf) for leaf in (a, b))
        found.append(Change(name, unit, was, now, ratio))
    return found


def _said(leaf: Any) -> Any:
    """What a leaf says, without its source."""
    return next((getattr(leaf, key) for key in ("value", "since", "up_to_mb") if hasattr(leaf, key)), leaf)


@dataclass(frozen=True)
class Judged:
    """A measured quantity beside its prediction, and whether that is within the measurement's spread."""

    measured: Measured
    verdict: Verdict

    @property
    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        row = self.measured
        return {
            "quantity": row.quantity,
            "unit": row.unit,
            "predicted": float(row.simulated),
            "measured": float(row.measured),
            "error": float(row.error),
            "spread": None if row.spread is None else float(row.spread),
            "spread_of": row.spread_of,
            "verdict": self.verdict,
            "source": row.source,
        }


def check_campaigns(
    profile: PlatformProfile, folders: Sequence[Path], seed: int = 0
) -> tuple[list[Judged], tuple[str, ...], list[str]]:
    """A profile held against campaigns: by quantity, packages that it lacks, campaigns that it was fitted to.

    Raises InputError.
    """
    held = campaign_rows(folders, profile, seed)
    rows = [Judged(row, _verdict(row)) for row in held.rows]
    return rows, held.skipped, [str(folder) for folder in folders] if held.fitted_to else []


def check_profile(profile: PlatformProfile, folder: Path, period: Period) -> list[Judged]:
    """A profile held against what a folder of public files measured in a period. Raises InputError."""
    return [Judged(row, _verdict(row)) for row in public_rows(folder, profile, period)]


def _verdict(row: Measured) -> Verdict:
    if row.spread is None:
        return "spread unknown"
    return "within" if abs(row.error) <= row.spread else "outside"


def fitted_to(profile: PlatformProfile, folder: Path, period: Period) -> list[str]:
    """Files of a folder, with rows in a period, to which constants of the profile were fitted."""
    import pandas as pd

    fits = {leaf.fit.sha256 for leaf in constants_of(profile).values() if not isinstance(leaf, Dated) and leaf.fit}
    there = dict.fromkeys(path for path, _, _ in files_in(folder, lambda file: file.check))
    known = [path for path in there if sorted_sha256(path) in fits]
    return [path.name for path in known if len(period.rows(pd.read_csv(path), path.name))]
