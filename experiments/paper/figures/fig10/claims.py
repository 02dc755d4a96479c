"""What figure 10 says of the paper's statements."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.claims import OWN, Claim, counted
from experiments.paper.figures.fig10.counting import COUNTING

if TYPE_CHECKING:
    import pandas as pd


def claims(data: pd.DataFrame) -> list[Claim]:
    """Bayes better in all; top-2 better than top-1; error falls with more experts."""
    found = []
    for counting in COUNTING:
        own = data[data["counting"] == counting]
        cases = own.pivot_table(index=["model", "text", "experts", "top_k"], columns="predictor", values="tokens")
        ratio = float((cases["bayes"] / cases["lina"]).mean())
        hard = counting == "hard"  # as the paper counts
        claim = counted("10", f"bayes is less off than lina{'' if hard else ', expected counting'}",
                        "in all" if hard else OWN, list(cases["bayes"] < cases["lina"]), "cases",
                        f"on average bayes' error is {ratio:.3f} times lina's")  # fmt: skip
        found.append(replace(claim, main=hard))
    hard = data[(data["counting"] == "hard") & (data["predictor"] == "bayes")]
    by = hard.set_index(["model", "text", "experts", "top_k"])
    places = hard[["model", "text"]].drop_duplicates().itertuples(index=False)
    top, more = [], []
    for model, text in places:
        for experts in sorted(hard["experts"].unique()):
            one, two = ((model, text, experts, k) for k in (1, 2))
            if one in by.index and two in by.index:
                top.append(
                    (by.loc[one, "tokens"], by.loc[two, "tokens"], by.loc[one, "share"], by.loc[two, "share"])
                )
        mine = [e for e in sorted(hard["experts"].unique()) if (model, text, e, 1) in by.index]
        for few, many in itertools.pairwise(mine):
            a, b = by.loc[(model, text, few, 1)], by.loc[(model, text, many, 1)]
            more.append((a["tokens"], b["tokens"], a["share"], b["share"]))
    found += [
        _compared("top-2 is predicted better than top-1", top, "models and texts"),
        _compared("the error in tokens falls with more experts", more, "steps to more experts"),
    ]
    return found


def _compared(claim: str, pairs: list[tuple[float, float, float, float]], of: str) -> Claim:
    """Whether the second of each pair of errors is the smaller one; in tokens, with the shares beside it."""
    shares = int(np.sum([d < c for _, _, c, d in pairs]))
    reason = (
        f"as a share of an expert's mean load the error falls in {shares} of {len(pairs)}: more experts share the "
        "same tokens, two choices double them"
    )
    return counted("10", claim, "yes", [b < a for a, b, _, _ in pairs], of, reason)
