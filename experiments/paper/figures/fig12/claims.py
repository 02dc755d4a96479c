"""What figure 12 says of the paper's statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.paper.claims import Claim, counted

if TYPE_CHECKING:
    import pandas as pd

SAME = 1e-6


def claims(data: pd.DataFrame) -> list[Claim]:
    """ODS best; MIQCP fails at high targets."""
    found = []
    for (model, text), group in data.groupby(["model", "text"], sort=False):
        where = f"({model}, {text})"
        by = {(row.slack, row.solver): row for row in group.itertuples()}
        limits = sorted(group["slack"].unique())
        for rival in ("MIQCP", "random", "best uniform", "best uniform, popularity known"):
            won = [_no_dearer(by[limit, "ODS"], by[limit, rival]) for limit in limits]
            over = [_over(by[limit, rival], by[limit, "ODS"]) for limit in limits]
            costs = ", ".join("none" if x is None else f"{x - 1:+.1%}" for x in over)
            reason = f"{rival} over ODS, from the highest target down: {costs}"
            if not any(over):
                reason = f"{rival} has at no target a plan that keeps it"
            found.append(
                counted("12", f"ODS is no dearer than {rival} {where}", "at every target", won, "targets", reason)
            )  # fmt: skip
        missed = [limit for limit in limits if not _usable(by[limit, "MIQCP"])]
        high = [limit for limit in limits[: max(1, len(limits) // 3)] if limit in missed]
        found.append(
            Claim("12", f"MIQCP finds no plan at high targets {where}", "yes",
                  f"no plan at {len(missed)} of {len(limits)} targets", bool(high),
                  _why_none(missed, limits))
        )  # fmt: skip
        gap = [_over(by[limit, "ODS"], by[limit, "optimum"]) or 1.0 for limit in limits]
        found.append(
            Claim("12", f"ODS over the certified optimum {where}", "", f"at most {max(gap) - 1:.2%}", None,
                  value=max(gap) - 1)
        )  # fmt: skip
    return found


def _why_none(missed: list[float], limits: list[float]) -> str:
    """Where MIQCP has no plan that keeps the limit."""
    if not missed:
        return "SCIP finds a plan at each"
    if len(missed) == len(limits):
        return "SCIP, whose presolving is off since it is wrong here, finds none at low targets either"
    return f"none at {', '.join(f'{x:g}' for x in missed)} times the least latency"


def _usable(row: Any) -> bool:
    return bool(row.found) and row.feasible_share > 0


def _no_dearer(ods: Any, rival: Any) -> bool:
    """Whether ODS has a plan that keeps the limit, and the rival none that costs less."""
    if not _usable(ods):
        return False
    return not _usable(rival) or bool(ods.planned_usd <= rival.planned_usd * (1 + SAME))


def _over(row: Any, other: Any) -> float | None:
    """Cost over another's; None where there is no plan that keeps the limit."""
    return float(row.planned_usd / other.planned_usd) if _usable(row) and _usable(other) else None
