"""What the regret table says: checks and numbers of our own; the paper has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.claims import OWN, Claim, of_case

if TYPE_CHECKING:
    import pandas as pd


def claims(data: pd.DataFrame) -> list[Claim]:
    """What predictors cost where they were profiled, elsewhere and under skew; when to profile again."""
    found = []
    for model, own in data.groupby("model", sort=False):
        of_model: list[Claim] = []
        drift, skew = own[own["over"] == "drift"], own[own["over"] == "skew"]
        home, others = drift[drift["x"] == 0.0], drift[drift["x"] > 0.0]
        of_model.append(_at(home, "the profiled text"))
        for text, rows in others.groupby("text", sort=False):
            of_model += [_at(rows[rows["x"] == 1.0], f"{text} alone"), _again(home, rows, str(text))]
        of_model += [_at(x, f"Zipf's law with {at:g}") for at, x in skew.groupby("x")]
        found += of_case(str(model), of_model)
    return found


def _again(home: pd.DataFrame, rows: pd.DataFrame, text: str) -> Claim:
    """Of each predictor, the least share of another text from which on it misses the limit by surely more."""
    said = []
    for name, group in rows.sort_values("x").groupby("predictor", sort=False):
        before = home[home["predictor"] == name]["beyond_high"].iloc[0]
        worse = group[group["beyond_low"] > before]["x"]
        said.append(f"{name}: {f'from {worse.min():.0%}' if len(worse) else 'at no share'}")
    return Claim("regret", f"share of {text} above which limits are missed by more", OWN,
                 said[0], None, "; ".join(said[1:]))  # fmt: skip


def _at(rows: pd.DataFrame, what: str) -> Claim:
    """Regret of every predictor and by how much it misses the limit, the one that misses it least first."""
    order = rows.sort_values(["beyond", "regret"], kind="stable")
    said = [f"{x.predictor} {x.regret:+.1%}, {x.beyond:+.1%} beyond the limit" for x in order.itertuples()]
    first = order.iloc[0] if len(order) else None
    value = float(first["regret"]) if first is not None and np.isfinite(first["regret"]) else None
    return Claim("regret", f"regret on {what}", OWN, said[0] if said else "", None,
                 "; ".join(said[1:]), value)  # fmt: skip
