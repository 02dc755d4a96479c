"""Fig. 4: cost and time of direct and storage, Bert, few and many tokens, under the payload limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.claims import Claim, each_case, of_case
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.method_rows import METHOD_STYLE, MethodCell, method_rows
from experiments.paper.plans import MILLION
from experiments.paper.routing import cell_fields
from experiments.paper.settings import FigureSettings
from experiments.tools import style
from experiments.tools.style import rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FEW, MANY = 256, 2560
MEGABYTE = 2**20


class Settings(FigureSettings):
    """Fig. 4: the tokens of a batch, of which the paper has two."""

    sizes: tuple[int, ...] = (FEW, MANY, 10240)


def cells(settings: Settings) -> list[MethodCell]:
    """One for each number of tokens."""
    return [
        MethodCell(**fields | {"batch_tokens": size}, methods=("direct", "storage"))
        for fields in cell_fields(settings)
        for size in settings.sizes
    ]


def table(rows: Rows) -> pd.DataFrame:
    """The rows, as they are."""
    import pandas as pd

    return pd.DataFrame(rows)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Direct wins at 256 tokens, and cannot be at 2560."""
    return [
        claim for case, group in each_case(data) for claim in of_case(case, _of_model(group), main=("direct",))
    ]


def _of_model(group: pd.DataFrame) -> list[Claim]:
    by = {(row.tokens, row.method): row for row in group.itertuples()}
    direct, storage, many = by[FEW, "direct"], by[FEW, "storage"], by[MANY, "direct"]
    cheaper, faster = direct.billed_usd / storage.billed_usd, direct.latency_s / storage.latency_s
    largest, limit = many.largest_payload_bytes / MEGABYTE, many.payload_limit_bytes / MEGABYTE
    speed = f"{abs(1 - faster):.0%} {'faster' if faster < 1 else 'slower'}"
    fits = int(many.tokens * limit / largest)
    return [
        Claim("4", f"direct wins at {FEW} tokens", "yes",
              f"{1 - cheaper:.0%} cheaper than storage, {speed}",
              bool(direct.feasible and cheaper < 1 and faster < 1),
              "no storage delay is billed; but with direct the next functions load their weights after the "
              f"experts are done, {direct.next_load_s:.1f} s in all (Eq. 11), with storage meanwhile", cheaper),
        Claim("4", f"direct is infeasible at {MANY:,} tokens", "yes",
              f"largest payload {largest:.1f} MiB, limit {limit:g} MiB", not bool(many.feasible),
              f"the hottest expert gets {many.hottest_share:.0%} of a layer's tokens, {many.bytes_per_token:,.0f} "
              f"bytes each as they are sent; direct fits up to about {fits:,} tokens on one replica",
              largest / limit),
    ]  # fmt: skip


def draw(data: pd.DataFrame) -> Figure:
    """Cost and time over tokens, side by side; infeasible bars are hatched."""
    first = data.iloc[0]
    shown = data[(data["model"] == first["model"]) & (data["text"] == first["text"])]
    sizes = sorted(shown["tokens"].unique())
    figure = style.new_figure(7.2, 2.7)
    left, right = figure.subplots(1, 2)
    shown = shown.assign(batch_thousandths=shown["billed_usd"] * shown["tokens"] / MILLION * 1000)
    for axes, column, label in (
        (left, "batch_thousandths", "experts' compute of a batch,\n0.001 USD"),
        (right, "latency_s", "time of a batch, s"),
    ):
        for k, method in enumerate(("direct", "storage")):
            rows = shown[shown["method"] == method].set_index("tokens").loc[sizes]
            at = np.arange(len(sizes)) + (k - 0.5) * 0.38
            bars = axes.bar(at, rows[column], 0.36, color=METHOD_STYLE[method][0], label=method)
            axes.bar_label(bars, [rounded(x) for x in rows[column]], fontsize=8)
            for bar, feasible in zip(bars, rows["feasible"], strict=True):
                if not feasible:
                    bar.set(facecolor="white", edgecolor=METHOD_STYLE[method][0], hatch="////")
        axes.set_xticks(np.arange(len(sizes)), [f"{size:,}" for size in sizes])
        axes.set_xlabel("tokens of a batch")
        axes.set_ylabel(label)
    right.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"{first['model']}, 3008 MB, no replicas; hatched: payload over the limit", x=0.01, ha="left", fontsize=10
    )
    return figure


FIGURE = PaperFigure("4", Settings, cells, method_rows, table, claims, draw)
