"""What figure 12 says of the paper's statements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.paper.claims import OWN, Claim, counted, each_case, of_case

if TYPE_CHECKING:
    import pandas as pd

SAME = 1e-6


def claims(data: pd.DataFrame) -> list[Claim]:
    """ODS best; MIQCP fails at high targets."""
    return [
        claim
        for case, group in each_case(data)
        for claim in of_case(case, _of_model(group), main=("ODS is the cheapest", "MIQCP finds"))
    ]


def _of_model(group: pd.DataFrame) -> list[Claim]:
    by = {(row.slack, row.solver): row for row in group.itertuples()}
    limits = sorted(group["slack"].unique())
    missed = [limit for limit in limits if not _usable(by[limit, "MIQCP"])]
    found = [
        _cheaper(by, limits, "MIQCP", "ODS is the cheapest: against MIQCP", "at every target"),
        _cheaper(by, limits, "random", "ODS is the cheapest: against random plans", "at every target"),
        _cheaper(by, limits, "best uniform", "ODS is the cheapest: against the best uniform plan", OWN),
        _cheaper(by, limits, "best uniform, popularity known",
                 "ODS is the cheapest: against the best uniform plan for the predicted popularity", OWN),
    ]  # fmt: skip
    high = [limit for limit in limits[: max(1, len(limits) // 3)] if limit in missed]
    none = f"no plan at {len(missed)} of {len(limits)} targets"
    fails = Claim("12", "MIQCP finds no plan at high targets", "yes", none, bool(high), _why_none(missed, limits))
    found.append(fails.left_open("it finds none at low targets either") if len(missed) == len(limits) else fails)
    gap = max(_over(by[limit, "ODS"], by[limit, "optimum"]) or 1.0 for limit in limits) - 1
    found.append(Claim("12", "ODS over the certified optimum", "", f"at most {gap:.2%}", None, value=gap))
    return found


def _cheaper(by: dict[Any, Any], limits: list[float], rival: str, claim: str, paper: str) -> Claim:
    """Whether ODS costs at most as much as a rival at every target that it can keep."""
    won = [_at_most(by[limit, "ODS"], by[limit, rival]) for limit in limits]
    over = [_over(by[limit, rival], by[limit, "ODS"]) for limit in limits]
    costs = ", ".join("none" if x is None else f"{x - 1:+.1%}" for x in over)
    found = counted("12", claim, paper, won, "targets", f"{rival} over ODS, from the highest target down: {costs}")
    if any(over):
        return found
    return replace(found, ours="it has no plan", reason="").left_open(f"{rival} has no plan at any target")


def _why_none(missed: list[float], limits: list[float]) -> str:
    """Where MIQCP has no plan that keeps the limit."""
    if not missed:
        return "SCIP finds a plan at each"
    if len(missed) == len(limits):
        return "SCIP, whose presolving is off since it is wrong here, finds none at low targets either"
    return f"none at {', '.join(f'{x:g}' for x in missed)} times the least latency"


def _usable(row: Any) -> bool:
    return bool(row.found) and row.feasible_share > 0


def _at_most(ods: Any, rival: Any) -> bool:
    """Whether ODS has a plan that keeps the limit, and the rival none that costs less."""
    if not _usable(ods):
        return False
    return not _usable(rival) or bool(ods.planned_usd <= rival.planned_usd * (1 + SAME))


def _over(row: Any, other: Any) -> float | None:
    """Cost over another's; None where there is no plan that keeps the limit."""
    return float(row.planned_usd / other.planned_usd) if _usable(row) and _usable(other) else None
