"""The verdicts of Fig. 13: whether Alg. 2 is best, what its rivals come to, and how much of the gap is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.paper.claims import OWN as OURS
from experiments.paper.claims import Claim, counted, of_case
from experiments.paper.figures.fig13.samplers import CASE, OWN, PAPERS, case_title
from moe.statistics import estimate
from optimizer.bo import Alg2

if TYPE_CHECKING:
    import pandas as pd


def claims(data: pd.DataFrame) -> list[Claim]:
    """Multi epsilon best in cost, paired over runs with each of its rivals; the oracle and ours; gaps closed."""
    found = []
    for key, group in data.groupby(CASE, sort=False):
        case = case_title(dict(zip(CASE, key, strict=True))).strip("()")
        by = group[group["change"] == ""].set_index("sampler")
        if "multi-epsilon" in by.index:
            found += of_case(case, _of_case(by), main=("multi epsilon gives",))
        found += of_case(case, [_gaps(group)])
    return found


def _of_case(by: pd.DataFrame) -> list[Claim]:
    own = by.loc["multi-epsilon"]
    rivals = [name for name in PAPERS if name in by.index and name != "multi-epsilon"]
    apart = {name: _apart(own["cost_ratios"], by.loc[name, "cost_ratios"]) for name in rivals}
    said = ", ".join(f"{name} {m:+.2%} ({a:+.2%} to {b:+.2%})" for name, (m, a, b) in apart.items())
    late = "" if own["binds"] == "memory" else f"; late: {own['late_before']:.0%} before, {own['late']:.0%} after"
    best = counted("13", "multi epsilon gives the least bill", "best",
                   [b < 0 for _, _, b in apart.values()], "rivals cost more by more than chance",
                   f"its bill less theirs, of the untuned bill: {said}{late}")  # fmt: skip
    lower = Claim("13", "multi epsilon's bill over that without tuning", "below 1",
                  _shown(own, "cost_ratio"), bool(own["cost_ratio_high"] < 1),
                  f"prediction error {_shown(own, 'error_ratio')} times, latency {own['latency_ratio']:.3f} times",
                  *(float(own[f"cost_ratio{end}"]) for end in ("", "_low", "_high")))  # fmt: skip
    room = 1 - own["oracle_ratio"]
    widths = [(own["cost_ratio_high"] - own["cost_ratio_low"]) / 2, *((b - a) / 2 for _, a, b in apart.values())]
    found = [_room(own, max(widths))]
    found += [x if room > max(widths) else _not_judged(x, room, max(widths)) for x in (best, lower)]
    for name in OWN:
        if name in by.index:
            row = by.loc[name]
            found.append(
                Claim("13", f"this project's '{name}', bill over that without tuning", "",
                      _shown(row, "cost_ratio"), None,
                      f"error {row['error_ratio']:.2f} times; late batches: {row['late']:.0%}",
                      *(float(row[f"cost_ratio{end}"]) for end in ("", "_low", "_high")))
            )  # fmt: skip
    return found


def _room(own: pd.Series, width: float) -> Claim:
    """What tuning could save at most: the plan for the real counts against the untuned one."""
    ratio, low, high = (float(own[f"oracle_ratio{end}"]) for end in ("", "_low", "_high"))
    taus = Alg2()
    return Claim(
        "13", "room: the plan for the real counts, below the bill without tuning", OURS,
        f"{1 - ratio:.2%} ({1 - high:.2%} to {1 - low:.2%})", None,
        f"the intervals of what is compared reach {width:.2%} to each side; Theorem 2's tau: "
        f"{taus.tau_as_printed():.1f} trials as printed, {taus.tau_corrected():.1f} corrected",
        1 - ratio, 1 - high, 1 - low,
    )  # fmt: skip


def _not_judged(claim: Claim, room: float, width: float) -> Claim:
    """The claim without a verdict: no sampler could differ by more than chance does."""
    return claim.left_open(f"the room of {room:.2%} is below the intervals, {width:.2%}")


def _gaps(group: pd.DataFrame) -> Claim:
    """How much of the gap to the oracle each sampler closes, and multi epsilon with other constants."""
    shown = {
        row.change or row.sampler: f"{row.gap_closed:.0%} ({row.gap_closed_low:.0%} to {row.gap_closed_high:.0%})"
        for row in group.itertuples()
        if np.isfinite(row.gap_closed)
    }
    alike = group[group["change"] == ""]["gap_closed"]
    best = group.loc[alike.idxmax()] if alike.notna().any() else None
    return Claim(
        "13", "share of the score's gap to the plan for the real counts that tuning closes", "",
        f"at most {best['gap_closed']:.0%}, '{best['sampler']}'" if best is not None else "there is no gap", None,
        "; ".join(f"{name} {share}" for name, share in shown.items()),
        None if best is None else float(best["gap_closed"]),
    )  # fmt: skip


def _shown(row: Any, name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def _apart(ours: str, theirs: str) -> tuple[float, float, float]:
    """Mean difference of two rows of ratios, run by run, and its interval."""
    a, b = (np.array(x.split(), float) for x in (ours, theirs))
    found = estimate(a - b)
    return found.mean, found.low, found.high
