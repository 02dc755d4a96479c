"""The decision map as files and a page: who is cheapest where, how sure that is, what to measure next."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cost.decision_map import Cell, Found
from experiments.cost.decision_map_file import DecisionMap
from experiments.cost.drawn import how_measured
from experiments.tools.markdown import table
from moe.files import write_whole

LABELS = {
    "requests_per_month": "requests a month",
    "tokens_in": "tokens in, of a request",
    "flops_per_vcpu": "FLOP/s of a Lambda vCPU, and with it of other vCPUs",
    "utilisation": "share of its paid time in which a machine works, for this or for others",
    "model": "model",
}
SHOWN = 12  # constants, of many


def write_map(asked: DecisionMap, found: Found, folder: Path) -> None:
    """map.csv, worth.csv, map.json and the page map.md, which shows map.png."""
    import pandas as pd

    worth = pd.Series(found.worth, name="share_of_the_bill")
    write_whole(folder / "map.csv", pd.DataFrame([_flat(cell) for cell in found.cells]).to_csv(index=False))
    write_whole(folder / "worth.csv", worth.to_csv(index_label="constant"))
    write_whole(folder / "map.json", json.dumps(asdict(found), indent=1) + "\n")
    write_whole(folder / "map.md", page(asked, found))


def _flat(cell: Cell) -> dict[str, Any]:
    row = asdict(cell)
    shares, usd = row.pop("probability"), row.pop("usd")
    return row | {f"probability_{k}": v for k, v in shares.items()} | {f"usd_{k}": v for k, v in usd.items()}


def title(asked: DecisionMap) -> str:
    """What is mapped, in words."""
    models = asked.x.models or asked.y.models
    return f"{len(models)} models" if models else " in ".join(filter(None, (asked.model, asked.weights)))


def winners(found: Found) -> list[str]:
    """Who is cheapest somewhere, most cells first."""
    won = [cell.winner for cell in found.cells]
    return sorted(set(won), key=lambda name: (-won.count(name), name))


def page(asked: DecisionMap, found: Found) -> str:
    """The map as Markdown: who wins where, how sure, what to measure next."""
    lines = [f"# {asked.name}: where to serve {title(asked)}", "", asked.about, "", "![Decision map](map.png)", ""]
    rows = []
    for name in winners(found):
        won = [cell for cell in found.cells if cell.winner == name]
        sure = sum(cell.low > 0.5 for cell in won)
        rows.append((name, len(won), sure, f"{np.mean([c.draws for c in won]):.0f}"))
    head = ("cheapest", "cells", "surely (95%)", "draws of the constants on average")
    lines += [table(head, rows), "", "## What to measure next", ""]
    first = next(iter(found.worth))
    if found.worth[first] > 0:
        lines += [
            f"`{first}`, by {how_measured(first, found.machines)}. Knowing it exactly would save "
            f"{found.worth[first]:.2%} of the bill on average over the map, knowing everything "
            f"{found.everything:.2%}.",
            "",
            table(
                ("constant", "saves, of the bill"),
                [(f"`{name}`", f"{worth:.2%}") for name, worth in [*found.worth.items()][:SHOWN] if worth > 0],
            ),
        ]
    else:
        lines.append("Nothing: no constant's uncertainty changes a decision on this map.")
    return "\n".join(lines) + "\n"
