"""What figure 2 says of the paper's statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.claims import Claim, bounded, charged_ways, each_case, of_case
from experiments.paper.cluster import SHARES
from experiments.paper.figures.fig02.ways import BY_TOKEN, LAMBDA, PAPER_TOKENS_PER_S
from experiments.tools.style import rounded

if TYPE_CHECKING:
    import pandas as pd

READING_TOKENS_PER_S = 3.3
FAR = 0.5
"""Times the cluster's bill up to which Lambda's is called far cheaper; the paper has no number."""


def claims(data: pd.DataFrame) -> list[Claim]:
    """Lambda far cheaper, however the cluster is charged; faster than reading; the 22.9 tokens/s."""
    return [
        claim
        for case, group in each_case(data)
        for claim in of_case(case, _of_model(group), main=("Lambda is far cheaper",))
    ]


def _of_model(group: pd.DataFrame) -> list[Claim]:
    serving = group[group["row"] == "serving"].set_index("name")
    ours = serving.loc[LAMBDA]
    plain = serving[serving["better_transformer"].eq(False)].set_index("period")
    ratios = {way: ours["billed_usd"] / usd for way, usd in charged_ways(plain, ours).items()}
    worst = max(ratios.values())
    shares = "; ".join(f"{x}: {ours['billed_usd'] / plain.loc['second', f'usd_{x}']:.3g} times" for x in SHARES)
    speed = [float(ours[name]) for name in ("tokens_per_s", "tokens_per_s_low", "tokens_per_s_high")]
    by_token = serving.loc[BY_TOKEN]["tokens_per_s"]
    return [
        Claim("2", "Lambda is far cheaper than the CPU cluster", f"yes (here: at most {FAR:g} times)",
              ", ".join(f"{ratio:.3g} times {way}" for way, ratio in ratios.items()), bool(worst <= FAR),
              "it depends on how the cluster is charged, which the paper does not say; by the second the MoE "
              f"layers pay their share of the time, with other shares {shares}", float(worst)),
        bounded("2", "Lambda is faster than a person reads", READING_TOKENS_PER_S, (speed[0], speed[1], speed[2]),
                at_least=True, share=False, reason=f"whole batches; token by token {by_token:.3g} tokens/s"),
        Claim("2", "22.9 tokens/s", f"{PAPER_TOKENS_PER_S} tokens/s", f"{speed[0]:.3g} tokens/s", None,
              _gap(group[group["row"] == "constant"], by_token), *speed),
    ]  # fmt: skip


def _gap(constants: pd.DataFrame, by_token: float) -> str:
    """What explains the gap: the constant that needs the smallest change."""
    reach = constants[constants["factor"].notna()]
    said = [
        f"{row.name_} {rounded(row.needed)} {row.unit} instead of {rounded(row.value)}"
        for row in reach.assign(far=np.abs(np.log(reach["factor"].astype(float))))
        .sort_values("far")
        .rename(columns={"name": "name_"})
        .itertuples()
    ]
    alone = f"one constant alone that gives the paper's number: {'; or '.join(said)}" if said else (
        "no constant alone gives the paper's number"
    )  # fmt: skip
    return f"{alone}; generated token by token ours is {by_token:.3g} tokens/s"
