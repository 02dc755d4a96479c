"""Fig. 3: one token ID goes to several experts (Bert's 2nd MoE layer)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from experiments.paper.claims import Claim, counted
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.routing import Cell, cell_fields, recorded
from experiments.paper.settings import FigureSettings
from experiments.tools import style
from moe.statistics import estimate
from moe.trace import RoutingTrace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER_TOKEN_ID = 10424


class Settings(FigureSettings):
    """Fig. 3: `layer` of the recorded model (from 0), IDs shown besides the paper's, how often one must occur."""

    layer: int = Field(1, ge=0)
    others: int = Field(3, ge=1)
    least_occurrences: int = Field(20, ge=2)


class TokenCell(Cell):
    """The tokens of every ID in one layer."""

    layer: int
    others: int
    least_occurrences: int


def cells(settings: Settings) -> list[TokenCell]:
    """One for each model, text and seed of the gates."""
    own = {name: getattr(settings, name) for name in ("layer", "others", "least_occurrences")}
    return [TokenCell(**fields, **own) for fields in cell_fields(settings)]


def compute(cell: TokenCell) -> Rows:
    """A row for each shown token ID and expert, and for each number of experts how many IDs go to so many.

    `share_of_ids` is that of all frequent IDs that go to several experts.
    """
    counts = tokens_of_ids(recorded(cell.recording), cell.layer)
    total = counts.sum(axis=1)
    often = total >= cell.least_occurrences
    reached = (counts[often] > 0).sum(axis=1)
    several = float((reached > 1).mean()) if often.any() else float("nan")
    order = [i for i in np.argsort(-total, kind="stable") if i != PAPER_TOKEN_ID]
    about = cell.about | {"layer": cell.layer, "gate": cell.gate, "gate_seed": cell.gate_seed}
    about |= {"ids": int(often.sum()), "share_of_ids": several, "least_occurrences": cell.least_occurrences}
    of_ids = [
        {
            "row": "tokens",
            "token_id": int(i),
            "is_papers": i == PAPER_TOKEN_ID,
            "expert": e,
            "tokens": int(counts[i, e]),
        }
        for i in [PAPER_TOKEN_ID, *order[: cell.others]]
        for e in range(counts.shape[1])
    ]
    histogram = [
        {"row": "histogram", "experts_of_id": n, "ids_with": int((reached == n).sum())}
        for n in range(1, counts.shape[1] + 1)
    ]
    return [about | row for row in of_ids + histogram]


def tokens_of_ids(trace: RoutingTrace, layer: int) -> np.ndarray:
    """Tokens of each ID routed to each expert of a layer, shape (largest ID + 1 or the paper's, experts)."""
    size = max(int(trace.token_id.max()), PAPER_TOKEN_ID) + 1
    counts = np.zeros((size, trace.num_experts), np.int64)
    for k in range(trace.top_k):
        np.add.at(counts, (trace.token_id, trace.experts[:, layer, k]), 1)
    return counts


def table(rows: Rows) -> pd.DataFrame:
    """The rows, as they are."""
    import pandas as pd

    return pd.DataFrame(rows)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Whether the paper's ID, and how many of all, go to several experts."""
    of_ids = data[data["row"] == "tokens"]
    cases = of_ids.groupby(["model", "text", "gate_seed", "token_id"], sort=False)
    reached = cases["tokens"].agg(experts=lambda x: int((x > 0).sum()), tokens="sum").reset_index()
    own = reached[(reached["token_id"] == PAPER_TOKEN_ID) & (reached["tokens"] > 1)]
    share = estimate(data.groupby(["model", "text", "gate_seed"], sort=False)["share_of_ids"].first().to_numpy())
    often = int(data["least_occurrences"].iloc[0])
    seen = "it occurs less than twice in this text, which is not the paper's"
    if len(own):
        seen = f"it occurs {int(own['tokens'].iloc[0])} times in this text, which is not the paper's"
    return [
        counted("3", f"token ID {PAPER_TOKEN_ID} goes to several experts", "yes", list(own["experts"] > 1),
                "gates and texts in which it occurs twice or more", seen),
        Claim("3", "a token ID goes to several experts", "yes",
              f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%} over gates) of those that occur "
              f"{often} times or more", bool(share.low > 0), "the expert depends on the hidden state, in which "
              "position and context are", share.mean, share.low, share.high, main=True),
    ]  # fmt: skip


def draw(data: pd.DataFrame) -> Figure:
    """Tokens by expert for each shown ID, and how many IDs go to so many experts."""
    first = data.iloc[0]
    same = (data["model"] == first["model"]) & (data["text"] == first["text"])
    shown = data[same & (data["gate_seed"] == first["gate_seed"])]
    groups = list(shown[shown["row"] == "tokens"].groupby("token_id", sort=False))
    figure = style.new_figure(7.2, 2.2)
    *of_ids, last = figure.subplots(1, len(groups) + 1)
    for axes, (token_id, group) in zip(of_ids, groups, strict=True):
        colour = style.BLUE if token_id == PAPER_TOKEN_ID else style.GREY
        axes.bar(group["expert"], group["tokens"], color=colour)
        if not group["tokens"].any():
            axes.set_ylim(0, 1)
            axes.text(0.5, 0.5, "not in this text", transform=axes.transAxes, ha="center", fontsize=8)
        axes.set_title(
            f"ID {token_id:.0f}" + ("\n(the paper's)" if token_id == PAPER_TOKEN_ID else ""), fontsize=8
        )
        axes.set_xlabel("expert")
        axes.set_xticks(group["expert"])
        axes.yaxis.get_major_locator().set_params(integer=True)
    histogram = shown[shown["row"] == "histogram"]
    last.bar(histogram["experts_of_id"], histogram["ids_with"], color=style.GREEN)
    last.set_title(f"IDs seen {first['least_occurrences']:.0f}\ntimes or more", fontsize=8)
    last.set_xlabel("experts of an ID")
    last.set_xticks(histogram["experts_of_id"])
    last.set_ylabel("token IDs")
    figure.axes[0].set_ylabel("tokens")
    figure.suptitle(
        f"{first['model']}, MoE layer {first['layer'] + 1}, {first['text']}", x=0.01, ha="left", fontsize=10
    )
    return figure


FIGURE = PaperFigure("3", Settings, cells, compute, table, claims, draw)
