"""Fig. 2: the CPU cluster against Lambda at 3008 MB, GPT2; and what the paper's 22.9 tokens/s hang on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.axes import plain_log
from experiments.paper.break_even import LEVERS, crossing, lambdaml_tokens_per_s
from experiments.paper.claims import Claim, bounded
from experiments.paper.cluster import SHARES, cluster_rows
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.plans import play, played_columns, problem_of
from experiments.paper.routing import Cell, cell_fields, routing_of
from experiments.paper.settings import FigureSettings
from experiments.tools import style
from experiments.tools.style import rounded
from optimizer.solvers import solve
from simulator.serving.cluster import PERIODS
from simulator.serving.layer import AS_PAPER
from simulator.serving.simulate import Decode, simulate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER_TOKENS_PER_S, READING_TOKENS_PER_S = 22.9, 3.3
FAR = 0.5
"""Times the cluster's bill up to which Lambda's is called far cheaper; the paper has no number."""

LAMBDA, BY_TOKEN = "Lambda, 3008 MB", "Lambda, 3008 MB, token by token"


class Settings(FigureSettings):
    """Fig. 2: `decode_steps`: tokens that each sequence generates one by one, in the row that does so."""

    decode_steps: int = Field(4, ge=1)
    factor: float = Field(64.0, gt=1)


class ServeCell(Cell):
    """One model."""

    decode_steps: int
    factor: float


def cells(settings: Settings) -> list[ServeCell]:
    """One for each model and text."""
    own = {"decode_steps": settings.decode_steps, "factor": settings.factor}
    return [ServeCell(**fields, **own) for fields in cell_fields(settings)]


def compute(cell: ServeCell) -> Rows:
    """Rows `serving`: ways to serve the model; rows `constant`: what each must be for the paper's throughput."""
    routing = routing_of(cell)
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    popularity = routing.popularity(cell.batch_tokens)
    problem = problem_of(cell, popularity)
    plan = solve(problem, "lambdaml")
    run = play(cell, problem, plan, batches)
    found = [
        cell.about
        | {"row": "serving", "name": LAMBDA, "method": plan.layers[0].communication}
        | played_columns(run, batches)
    ]
    decode = Decode(cell.decode_steps, cell.batch_tokens // cell.sequence_tokens)
    stepped = simulate(
        problem, plan, cell.platform, routing=batches.real[:1], serving=AS_PAPER, decode=decode, seed=cell.seed
    )
    step_s = float(stepped.decode_s.mean())
    found.append(cell.about | {"row": "serving", "name": BY_TOKEN, "tokens_per_s": decode.sequences / step_s})
    found += [
        cell.about | {"row": "serving"} | row
        for row in cluster_rows(cell, batches)
        if not row["better_transformer"]
    ]
    return found + [cell.about | {"row": "constant"} | row for row in _constants(cell, popularity)]


def _constants(cell: ServeCell, popularity: np.ndarray) -> list[dict[str, Any]]:
    """For each constant alone: what it must be for a throughput of 22.9 tokens/s; none where it never is."""
    profile, spec, found = cell.platform, cell.spec, []
    for lever in LEVERS:
        factor = crossing(
            lambda x, lever=lever: lambdaml_tokens_per_s(spec, popularity, lever.multiplied(profile, x)),  # type: ignore[misc]
            PAPER_TOKENS_PER_S,
            1 / cell.factor,
            cell.factor,
        )
        now = lever.median(profile)
        found.append(
            {"name": lever.title, "unit": lever.unit, "value": now, "factor": factor}
            | {"needed": None if factor is None else now * factor}
        )
    return found


def table(rows: Rows) -> pd.DataFrame:
    """The rows, as they are."""
    import pandas as pd

    return pd.DataFrame(rows)


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


def draw(data: pd.DataFrame) -> Figure:
    """Bill and throughput of each way to serve, a pair of panels for each model."""
    serving = data[data["row"] == "serving"]
    models = list(serving.groupby(["model", "text"], sort=False))
    figure = style.new_figure(7.4, 1.75 * len(models) + 0.7)
    every = figure.subplots(len(models), 2, squeeze=False, sharey="row", sharex="col")
    for (left, right), ((model, text), rows) in zip(every, models, strict=True):
        for place, (_, row) in enumerate(rows.iterrows()):
            colour = style.GREY if row["period"] == row["period"] else style.BLUE
            if row["billed_usd"] == row["billed_usd"]:
                left.barh(place, row["billed_usd"], color=colour, height=0.62)
                left.annotate(
                    f" {rounded(row['billed_usd'])}", (row["billed_usd"], place), va="center", fontsize=7.5
                )
            if row["period"] in ("second", None) or row["period"] != row["period"]:
                right.barh(place, row["tokens_per_s"], color=colour, height=0.62)
                right.annotate(
                    f" {rounded(row['tokens_per_s'])}",
                    (row["tokens_per_s"], place),
                    va="center",
                    fontsize=7.5,
                )
        left.set_yticks(range(len(rows)), rows["name"], fontsize=8)
        left.set_ylim(len(rows) - 0.5, -0.6)
        left.set_title(f"{model}, {text}", loc="left", fontsize=9)
        right.axvline(PAPER_TOKENS_PER_S, color=style.RED, linewidth=1.2, linestyle="--", label="paper: 22.9")
        right.axvline(READING_TOKENS_PER_S, color=style.GREEN, linewidth=1.2, linestyle=":", label="reading: 3.3")
    for axes in (every[0][0], every[0][1]):
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** 0.2)
        plain_log(axes.xaxis)
        axes.tick_params(axis="x", labelsize=7.5)
    every[-1][0].set_xlabel("billed cost of the MoE layers,\nUSD per million tokens")
    every[-1][1].set_xlabel("throughput, tokens/s")
    every[0][1].legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


FIGURE = PaperFigure("2", Settings, cells, compute, table, claims, draw)
