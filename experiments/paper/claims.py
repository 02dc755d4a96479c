"""What the paper says, what we found, and whether that confirms it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from simulator.serving.cluster import PERIODS

if TYPE_CHECKING:
    import pandas as pd

CLUSTER_GB = 512
"""Memory of the paper's CPU cluster; one way to charge it is by its GB-s, as Lambda is."""
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
        case: the model (and the text) that it was tried on.
        main: one of those that the page begins with.
        unjudged: why it cannot be judged, where it cannot: few tokens, a rival without a plan, too little room.
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
    case: str = field(default="", kw_only=True)
    main: bool = field(default=False, kw_only=True)
    unjudged: str = field(default="", kw_only=True)

    @property
    def verdict(self) -> str:
        """`confirmed`, `not confirmed`, `cannot be judged`, or nothing."""
        if self.unjudged:
            return "cannot be judged"
        return {True: "confirmed", False: "not confirmed", None: ""}[self.confirmed]

    def left_open(self, why: str) -> Claim:
        """The same claim, which cannot be judged."""
        return replace(self, confirmed=None, unjudged=why)


def each_case(data: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every model and text of a table: its name, without the text where there is one, and its rows."""
    texts = data["text"].nunique()
    for (model, text), group in data.groupby(["model", "text"], sort=False):
        yield (f"{model}, {text}" if texts > 1 else str(model)), group


def of_case(case: str, claims: Sequence[Claim], main: Sequence[str] = ()) -> list[Claim]:
    """The claims, tried on that case; those that begin with one of `main` stand in the page's first table."""
    return [replace(claim, case=case, main=claim.main or claim.claim.startswith(tuple(main))) for claim in claims]


def charged_ways(plain: pd.DataFrame, ours: pd.Series) -> dict[str, float]:
    """What the MoE layers cost on the cluster for each way to charge it, USD per million tokens.

    Args:
        plain: the cluster's rows without BetterTransformer, by period. ours: a row of Lambda.

    The fourth way is the cluster's memory for the seconds of the MoE layers, at Lambda's price of a GB-s.
    """
    second = plain.loc["second"]
    moe_s = second["latency_s"] * second["billed_usd"] / second["usd_whole"]
    usd_per_gb_s = ours["billed_usd"] / ours["billed_gb_s"]
    ways = {f"by the {period}": float(plain.loc[period, "billed_usd"]) for period in PERIODS}
    return ways | {"by its memory": float(CLUSTER_GB * moe_s * usd_per_gb_s)}


def joined(claims: Sequence[Claim]) -> list[Claim]:
    """One row a claim, whatever it was tried on: confirmed where every case that can be judged confirms it."""
    found: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        found.setdefault((claim.figure, claim.claim), []).append(claim)
    return [_joined(cases) for cases in found.values()]


def _joined(cases: list[Claim]) -> Claim:
    if len(cases) == 1:
        return cases[0]
    judged = [claim for claim in cases if claim.confirmed is not None]
    telling = next((claim for claim in judged if not claim.confirmed), (judged or cases)[0])
    ours = {claim.ours for claim in cases}
    return replace(
        telling,
        ours=ours.pop() if len(ours) == 1 else "; ".join(f"{claim.case}: {claim.ours}" for claim in cases),
        confirmed=all(claim.confirmed for claim in judged) if judged else None,
        unjudged="" if judged else telling.unjudged,
        reason=telling.reason if telling.confirmed is not False else f"{telling.case}: {telling.reason}",
        case="; ".join(claim.case for claim in cases),
        value=None,
        low=None,
        high=None,
    )


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
        reason: of the verdict.

    Where the interval contains the bound, it cannot be judged.
    """
    value, low, high = found
    confirmed = low >= bound if at_least else high <= bound
    refuted = high < bound if at_least else low > bound

    def shown(x: float) -> str:
        if not share:
            return f"{x:.3g}"
        return f"{x:.3%}" if 0.999 <= x < 1 else f"{x:.1%}"

    ours = shown(value) + (f" ({shown(low)} to {shown(high)})" if high > low else "")
    paper = f"{'at least' if at_least else 'at most'} {f'{bound:.2%}' if share else f'{bound:g}'}"
    judged = Claim(figure, claim, paper, ours, bool(confirmed), reason, *map(_finite, found))
    return judged if confirmed or refuted else judged.left_open("the interval contains the bound")


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
