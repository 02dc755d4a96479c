"""What figure 2 says of the paper's statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.claims import Claim, bounded
from experiments.paper.cluster import SHARES
from experiments.paper.figures.fig02.ways import BY_TOKEN, LAMBDA, PAPER_TOKENS_PER_S
from experiments.tools.style import rounded
from simulator.serving.cluster import PERIODS

if TYPE_CHECKING:
    import pandas as pd

READING_TOKENS_PER_S = 3.3
FAR = 0.5
"""Times the cluster's bill up to which Lambda's is called far cheaper; the paper has no number."""


def claims(data: pd.DataFrame) -> list[Claim]:
    """Lambda far cheaper, for each period of charging; faster than reading; the 22.9 tokens/s."""
    found = []
    for (model, text), group in data.groupby(["model", "text"], sort=False):
        where = f"({model}, {text})"
        serving = group[group["row"] == "serving"].set_index("name")
        ours = serving.loc[LAMBDA]
        for period in PERIODS:
            cpu = serving[serving["period"] == period].iloc[0]
            ratio = ours["billed_usd"] / cpu["billed_usd"]
            shares = "; ".join(f"{x}: {ours['billed_usd'] / cpu[f'usd_{x}']:.3g} times" for x in SHARES)
            found.append(
                Claim("2", f"Lambda is far cheaper than the CPU cluster, charged by the {period} {where}",
                      f"yes (here: at most {FAR:g} times)", f"{ratio:.3g} times its bill",
                      bool(ours["billed_usd_high"] <= FAR * cpu["billed_usd_low"]),
                      f"{cpu['charged']}; charged another share than that of the time: {shares}",
                      float(ratio))
            )  # fmt: skip
        speed = tuple(float(ours[name]) for name in ("tokens_per_s", "tokens_per_s_low", "tokens_per_s_high"))
        found.append(
            bounded("2", f"Lambda is faster than a person reads {where}", READING_TOKENS_PER_S,
                    (speed[0], speed[1], speed[2]), at_least=True, share=False,
                    reason=f"whole batches; token by token {serving.loc[BY_TOKEN]['tokens_per_s']:.3g} tokens/s")
        )  # fmt: skip
        constants = group[group["row"] == "constant"]
        found.append(
            Claim("2", f"22.9 tokens/s {where}", f"{PAPER_TOKENS_PER_S} tokens/s", f"{speed[0]:.3g} tokens/s",
                  None, _gap(constants, serving.loc[BY_TOKEN]["tokens_per_s"]), *speed)
        )  # fmt: skip
    return found


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
