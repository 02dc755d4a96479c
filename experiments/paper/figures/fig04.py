"""Fig. 4: cost and time of direct and storage, Bert, few and many tokens, under the payload limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.claims import Claim
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.method_rows import METHOD_STYLE, MethodCell, method_rows
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
    found = []
    for (model, text), group in data.groupby(["model", "text"], sort=False):
        by = {(row.tokens, row.method): row for row in group.itertuples()}
        where = f"{model}, {text}"
        direct, storage = by[FEW, "direct"], by[FEW, "storage"]
        whys = {
            "cheaper": "no storage delay is billed",
            "faster": f"with direct the next functions load their weights after the experts are done, "
            f"{direct.next_load_s:.1f} s in all (Eq. 11); with storage while they work (Eq. 9)",
        }
        for what, column, unit in (("cheaper", "billed_usd", "USD/M"), ("faster", "latency_s", "s")):
            a, b = getattr(direct, column), getattr(storage, column)
            found.append(
                Claim("4", f"direct is {what} than storage at {FEW} tokens ({where})", "yes",
                      f"{a:.3g} against {b:.3g} {unit}", bool(direct.feasible and a < b), whys[what], a / b)
            )  # fmt: skip
        many = by[MANY, "direct"]
        largest = many.largest_payload_bytes / MEGABYTE
        limit = many.payload_limit_bytes / MEGABYTE
        fits_until = int(many.tokens * limit / largest)
        found.append(
            Claim("4", f"direct is infeasible at {MANY:,} tokens ({where})", "yes",
                  f"largest payload {largest:.1f} MiB, limit {limit:g} MiB", not bool(many.feasible),
                  f"the hottest expert gets {many.hottest_share:.0%} of a layer's tokens, "
                  f"{many.bytes_per_token:,.0f} bytes each as they are sent; direct fits up to about "
                  f"{fits_until:,} tokens on one replica", largest / limit)
        )  # fmt: skip
    return found


def draw(data: pd.DataFrame) -> Figure:
    """Cost and time over tokens, side by side; infeasible bars are hatched."""
    first = data.iloc[0]
    shown = data[(data["model"] == first["model"]) & (data["text"] == first["text"])]
    sizes = sorted(shown["tokens"].unique())
    figure = style.new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    shown = shown.assign(ms_per_token=shown["latency_s"] / shown["tokens"] * 1000)
    for axes, column, label in (
        (left, "billed_usd", "billed cost,\nUSD per million tokens"),
        (right, "ms_per_token", "time of a batch,\nms a token"),
    ):
        for k, method in enumerate(("direct", "storage")):
            rows = shown[shown["method"] == method].set_index("tokens").loc[sizes]
            at = np.arange(len(sizes)) + (k - 0.5) * 0.38
            bars = axes.bar(at, rows[column], 0.36, color=METHOD_STYLE[method][0], label=method)
            axes.bar_label(bars, [rounded(x) for x in rows[column]], fontsize=7.5)
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
