"""The decision map as files and a page: who is cheapest where, how sure that is, what to measure next."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.decision_map import CHOICES, Cell, Found
from experiments.studies.decision_map_file import DecisionMap
from experiments.tools.markdown import table
from moe.files import write_whole

LABELS = {
    "batch_tokens": "tokens of a batch",
    "batches_per_hour": "batches an hour",
    "flops_per_vcpu": "FLOP/s of a Lambda vCPU, and with it of the cluster's cores",
    "s3_bandwidth": "bandwidth of a function to S3, times the profile's",
    "cluster_utilisation": "share of its paid time that the cluster serves",
    "skew": "skew of expert popularity (Zipf exponent)",
}
TITLES = {"lambda": "Lambda", "provisioned": "provisioned concurrency", "cluster": "CPU cluster"}


def write_map(asked: DecisionMap, found: Found, folder: Path) -> None:
    """map.csv, worth.csv, map.json and the page map.md, which shows map.png."""
    import pandas as pd

    worth = pd.Series(found.worth, name="usd_per_million_tokens")
    write_whole(folder / "map.csv", pd.DataFrame([_flat(cell) for cell in found.cells]).to_csv(index=False))
    write_whole(folder / "worth.csv", worth.to_csv(index_label="constant"))
    write_whole(folder / "map.json", json.dumps(asdict(found), indent=1) + "\n")
    write_whole(folder / "map.md", page(asked, found))


def _flat(cell: Cell) -> dict[str, Any]:
    row = asdict(cell)
    shares, usd = row.pop("probability"), row.pop("usd")
    return row | {f"probability_{k}": v for k, v in shares.items()} | {f"usd_{k}": v for k, v in usd.items()}


def page(asked: DecisionMap, found: Found) -> str:
    """The map as Markdown: who wins where, how sure, what to measure next."""
    cells = found.cells
    lines = [f"# {asked.name}: where to serve {asked.spec}", "", asked.about, "", "![Decision map](map.png)", ""]
    rows = []
    for name in CHOICES:
        won = [cell for cell in cells if cell.winner == name]
        if won:
            sure = sum(cell.low > 0.5 for cell in won)
            rows.append((TITLES[name], len(won), sure, f"{np.mean([c.draws for c in won]):.0f}"))
    head = ("cheapest", "cells", "with 95% probability", "draws of the platform on average")
    lines += [table(head, rows), "", "## What to measure next", ""]
    first = next(iter(found.worth))
    if found.worth[first] > 0:
        lines.append(
            f"Knowing `{first}` exactly would save ${found.worth[first]:.3g} per million tokens on average over "
            f"the map, knowing everything ${found.everything:.3g}."
        )
    else:
        lines.append("Nothing: no constant's uncertainty changes a decision on this map.")
    known = [
        (f"`{name}`", f"{worth:.3g}", "calibrated" if name in found.measured else "by its source")
        for name, worth in found.worth.items()
    ]
    lines += ["", table(("constant", "saves, USD per million tokens", "its uncertainty"), known)]
    return "\n".join(lines) + "\n"
