"""What the predictors' table says: checks of our own, and numbers. The paper's are those of Fig. 10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.paper.claims import OWN, Claim, counted, of_case

if TYPE_CHECKING:
    import pandas as pd


def claims(data: pd.DataFrame) -> list[Claim]:
    """Who is least off on each model; whether expected counting is better; what bayes adds to lina."""
    cases = data[data["row"] == "case"]
    found = [
        claim
        for (model, on), group in cases.groupby(["model", "on"], sort=False)
        for claim in of_case(str(model), [_least(group, str(on))])
    ]
    found.append(_counting(cases))
    return found + [_against_lina(group, str(on)) for on, group in cases.groupby("on", sort=False)]


def _least(rows: pd.DataFrame, on: str) -> Claim:
    means = rows.groupby("predictor", sort=False)["share"].mean().sort_values(kind="stable")
    said = [f"{name} {share:.1%}" for name, share in means.items()]
    return Claim("predictors", f"least off ({on})", "", said[0], None, "; ".join(said[1:]), float(means.iloc[0]))


def _counting(cases: pd.DataFrame) -> Claim:
    """A token counted by its whole posterior, against one counted for its likeliest experts as the paper does."""
    by = cases.pivot_table(index=["model", "on", "experts", "top_k"], columns="predictor", values="share")
    names = [x.removesuffix(", hard") for x in by.columns if x.endswith(", hard")]
    held = [bool(x) for name in names for x in by[f"{name}, expected"] < by[f"{name}, hard"]]
    said = "; ".join(f"{x} {by[f'{x}, expected'].mean():.1%}, hard {by[f'{x}, hard'].mean():.1%}" for x in names)
    return counted("predictors", "expected counting is less off than hard counting", OWN, held, "cases", said)


def _against_lina(rows: pd.DataFrame, on: str) -> Claim:
    """What bayes adds is the attention ID; position is summed out."""
    bayes = rows[rows["predictor"].str.startswith("bayes, ")]
    said = [
        f"{name} {100 * group['less_lina'].mean():+.2f} points, better in {group['better_than_lina'].mean():.0%}"
        for name, group in bayes.groupby("predictor", sort=False)
    ]
    ours = said[0] if said else "no bayes"
    return Claim(
        "predictors", f"bayes's error less lina's, counted alike ({on})", "", ours, None, "; ".join(said[1:])
    )
