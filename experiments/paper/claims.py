"""What the paper says, what we found, and whether that confirms it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

OWN = "(a check of our own)"
"""In the place of the paper's statement, where it makes none."""


@dataclass(frozen=True)
class Claim:
    """One statement of the paper beside our number.

    Attributes:
        figure: its number.
        claim: what is said.
        paper: the paper's number, or its words.
        ours: our number, for a person.
        value, low, high: our number and its 95% interval; None where it is none.
        confirmed: whether ours confirms it; None where there is nothing to confirm (a number beside a number).
        reason: why, as far as we found.
    """

    figure: str
    claim: str
    paper: str
    ours: str
    confirmed: bool | None
    reason: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """`confirmed`, `not confirmed`, or nothing."""
        return {True: "confirmed", False: "not confirmed", None: ""}[self.confirmed]


def bounded(
    figure: str,
    claim: str,
    bound: float,
    found: tuple[float, float, float],
    *,
    at_least: bool,
    reason: str = "",
    share: bool = True,
) -> Claim:
    """A number of the paper that ours must reach (`at_least`), or must not exceed, with its whole interval.

    Args:
        found: mean, low, high. share: print as percentages.
        reason: of the verdict; that the interval contains the bound is added.
    """
    value, low, high = found
    confirmed = low >= bound if at_least else high <= bound
    mean_holds = value >= bound if at_least else value <= bound
    if mean_holds and not confirmed:
        reason = f"the mean does, but the interval reaches beyond; {reason}".removesuffix("; ")

    def shown(x: float) -> str:
        if not share:
            return f"{x:.3g}"
        return f"{x:.3%}" if 0.999 <= x < 1 else f"{x:.1%}"

    ours = shown(value) + (f" ({shown(low)} to {shown(high)})" if high > low else "")
    paper = f"{'at least' if at_least else 'at most'} {f'{bound:.2%}' if share else f'{bound:g}'}"
    return Claim(figure, claim, paper, ours, bool(confirmed), reason, *map(_finite, found))


def counted(figure: str, claim: str, paper: str, held: Sequence[bool], of: str, reason: str = "") -> Claim:
    """A claim about every one of several cases: confirmed if it holds in all; nothing to judge without a case."""
    holds, cases = sum(map(bool, held)), len(held)
    if not cases:
        return Claim(figure, claim, paper, f"no {of}", None, reason)
    return Claim(figure, claim, paper, f"{holds} of {cases} {of}", holds == cases, reason, holds / cases)


def _finite(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def as_rows(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """Rows of the claims table: those of `Claim`, and the verdict."""
    return [asdict(claim) | {"verdict": claim.verdict} for claim in claims]
