"""What the regret table says: checks and numbers of our own; the paper has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.figures.paper.claims import OWN, Claim, counted

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9


def claims(data: pd.DataFrame) -> list[Claim]:
    """No plan beats the one for the real popularity in time; what predictors cost; when to profile again."""
    known = data.dropna(subset="least_in_time")
    found = [
        counted("regret", "in time, no plan is cheaper than that for the real popularity", OWN,
                list(known["least_in_time"] >= -ROUNDING), "rows", "its plan is the certified optimum")
    ]  # fmt: skip
    for model, own in data.groupby("model", sort=False):
        drift, skew = own[own["over"] == "drift"], own[own["over"] == "skew"]
        found += [_at(model, drift[drift["x"] == 0.0], "the profiled text")]
        found += [
            _at(model, x, f"{text} alone") for text, x in drift[drift["x"] == 1.0].groupby("text", sort=False)
        ]
        found += [_at(model, x, f"Zipf's law with {at:g}") for at, x in skew.groupby("x")]
    return found


def _at(model: object, rows: pd.DataFrame, what: str) -> Claim:
    """Regret of every predictor and by how much it misses the limit, the one that misses it least first."""
    order = rows.sort_values(["beyond", "regret"], kind="stable")
    said = [f"{x.predictor} {x.regret:+.1%}, {x.beyond:+.1%} beyond the limit" for x in order.itertuples()]
    first = order.iloc[0] if len(order) else None
    value = float(first["regret"]) if first is not None and np.isfinite(first["regret"]) else None
    return Claim("regret", f"regret on {what} ({model})", OWN, said[0] if said else "", None,
                 "; ".join(said[1:]), value)  # fmt: skip
