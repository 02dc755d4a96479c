"""Fig. 11: cost and throughput of the three methods over the number of tokens, 3008 MB, no replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.paper.axes import plain_log
from experiments.paper.claims import Claim, counted, each_case, of_case
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.method_rows import METHOD_STYLE, MethodCell, method_rows
from experiments.paper.routing import cell_fields
from experiments.paper.settings import FigureSettings
from experiments.tools import style
from simulator.plan import COMMUNICATIONS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FEW = 256


class Settings(FigureSettings):
    """Fig. 11: the tokens of a batch."""

    sizes: tuple[int, ...] = (256, 1024, 2560, 5120, 10240, 20480)


def cells(settings: Settings) -> list[MethodCell]:
    """One for each model, text and number of tokens."""
    return [
        MethodCell(**fields | {"batch_tokens": size}, methods=COMMUNICATIONS)
        for fields in cell_fields(settings)
        for size in settings.sizes
    ]


def table(rows: Rows) -> pd.DataFrame:
    """The rows, in the order of tokens."""
    import pandas as pd

    return pd.DataFrame(rows).sort_values(["model", "text", "tokens", "method"], ignore_index=True)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Who wins where, and whether throughput rises."""
    return [
        claim
        for case, group in each_case(data)
        for claim in of_case(case, _of_model(group), main=("with the most tokens",))
    ]


def _of_model(group: pd.DataFrame) -> list[Claim]:
    best = _best(group)
    sizes = sorted(best)
    direct = group[group["method"] == "direct"].sort_values("tokens")
    possible = direct[direct["feasible"]]["tokens"]
    until = f"direct fits every batch up to {possible.max():,} tokens" if len(possible) else "direct fits nowhere"
    largest = direct.iloc[-1]
    over = largest["largest_payload_bytes"] / largest["payload_limit_bytes"]
    rising = [
        rows.sort_values("tokens")["tokens_per_s"].is_monotonic_increasing
        for _, rows in group[group["feasible"]].groupby("method")
    ]
    return [
        Claim("11", f"direct is the cheapest at {FEW} tokens", "yes", best.get(FEW, "not computed"),
              best.get(FEW) == "direct", f"no storage delay is billed; {until}"),
        Claim("11", "with the most tokens pipelined or storage is the cheapest", "yes",
              f"{best[sizes[-1]]} at {sizes[-1]:,}", best[sizes[-1]] != "direct",
              "the cheapest that fits, " + "; ".join(f"{size:,}: {best[size]}" for size in sizes)),
        Claim("11", "direct becomes infeasible", "yes", until, not bool(largest["feasible"]),
              f"at {largest['tokens']:,} tokens the hottest expert's payload is {over:.2f} times the limit"),
        counted("11", "throughput rises with the number of tokens", "yes", rising, "methods",
                "loading parameters and starts take the same time whatever the tokens"),
    ]  # fmt: skip


def _best(group: pd.DataFrame) -> dict[int, str]:
    """The cheapest feasible method at each number of tokens."""
    possible = group[group["feasible"]]
    rows = possible.loc[possible.groupby("tokens")["billed_usd"].idxmin()]
    return {int(row.tokens): str(row.method) for row in rows.itertuples()}


def draw(data: pd.DataFrame) -> Figure:
    """Cost and throughput over tokens, a row for each model; hollow: the payload is over the limit."""
    groups = list(data.groupby(["model", "text"], sort=False))
    figure = style.new_figure(7.2, 2.3 * len(groups) + 0.5)
    every = figure.subplots(len(groups), 2, squeeze=False, sharex=True)
    for axes, ((model, text), group) in zip(every, groups, strict=True):
        for one, column, label in (
            (axes[0], "billed_usd", "experts' compute,\nUSD per million tokens"),
            (axes[1], "tokens_per_s", "throughput,\ntokens/s"),
        ):
            for method, (colour, marker) in METHOD_STYLE.items():
                rows = group[group["method"] == method]
                error = [rows[column] - rows[f"{column}_low"], rows[f"{column}_high"] - rows[column]]
                one.errorbar(
                    rows["tokens"], rows[column], error, color=colour, linewidth=1.3, capsize=2, label=method
                )
                for row in rows.itertuples():
                    face = colour if row.feasible else "white"
                    one.plot(
                        row.tokens, getattr(row, column), marker, color=colour, markerfacecolor=face, markersize=5
                    )
            one.set_xscale("log", base=2)
            one.set_yscale("log")
            plain_log(one.yaxis)
            one.set_ylabel(label)
            one.grid(alpha=0.25)
            sizes = sorted(group["tokens"].unique())
            one.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
            one.minorticks_off()
        axes[0].set_title(f"{model}, {text}", loc="left", fontsize=9)
    for one in every[-1]:
        one.set_xlabel("tokens of a batch")
    every[0][0].legend(frameon=False, fontsize=8)
    every[0][1].set_title("hollow: a payload is over the limit", loc="left", fontsize=8)
    return figure


FIGURE = PaperFigure("11", Settings, cells, method_rows, table, claims, draw)
