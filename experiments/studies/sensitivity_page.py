"""The study of sensitivity as files and a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.studies.headline import FACTORS, OUTPUTS
from experiments.studies.sensitivity import CLAIMS, Sensitivity
from experiments.tools.markdown import number, table
from moe.files import write_whole


def write_study(found: Sensitivity, folder: Path) -> None:
    """sensitivity.json, swings.csv, sobol.csv and the page sensitivity.md, which shows tornado.png."""
    import pandas as pd

    write_whole(folder / "sensitivity.json", json.dumps(asdict(found), indent=1) + "\n")
    write_whole(folder / "swings.csv", pd.DataFrame([asdict(x) for x in found.swings]).to_csv(index=False))
    write_whole(folder / "sobol.csv", pd.DataFrame([asdict(x) for x in found.indices]).to_csv(index=False))
    write_whole(folder / "sensitivity.md", page(found))


def page(found: Sensitivity) -> str:
    """The study as Markdown: the ratios, break-even points, indices, and how often the claims hold."""
    together = f"{found.holds['cost and throughput']:.0%} of {found.samples:,} points"
    parts = [
        f"# Under which conditions is serverless MoE cheaper? {found.model} on {found.profile}",
        "![Swings and Sobol indices](tornado.png)",
        _ratios(found),
        f"Both claims over LambdaML hold together at {together}.",
        "## Break-even points",
        "One factor at a time, the others nominal.",
        _break_even(found),
        "## Sobol indices",
        _sobol(found),
        "## Ranges",
        _ranges(),
    ]
    return "\n\n".join(parts) + "\n"


def _ratios(found: Sensitivity) -> str:
    rows = []
    for output, title in OUTPUTS.items():
        claim, value = CLAIMS[output], found.nominal[output]
        at_least = output == "tokens_per_s"
        holds = value >= claim if at_least else value <= claim
        rows.append(
            (
                title,
                number(value),
                f"{'at least' if at_least else 'at most'} {claim:.4f}",
                "holds" if holds else "does not hold",
                f"{found.holds[output]:.0%} of the points",
                f"{found.cheaper[output]:.0%}",
            )
        )
    return table(("ratio", "nominal", "the paper's claim", "at the nominal point", "holds at", "below 1 at"), rows)


def _break_even(found: Sensitivity) -> str:
    factors = {factor.name: factor for factor in FACTORS}
    rows = []
    for swing in sorted(found.swings, key=lambda s: (list(OUTPUTS).index(s.output), -abs(np.log(s.high / s.low)))):
        if swing.claim_at is None and swing.cheaper_at is None and abs(np.log(swing.high / swing.low)) < 0.05:
            continue
        factor = factors[swing.factor]
        rows.append(
            (
                OUTPUTS[swing.output],
                f"{factor.name}, {factor.unit}",
                number(factor.nominal),
                f"{number(factor.low)} to {number(factor.high)}",
                f"{number(swing.low)} to {number(swing.high)}",
                number(swing.claim_at),
                number(swing.cheaper_at),
            )
        )
    head = ("ratio", "factor", "nominal", "range", "ratio over the range", "claim passed at", "1 passed at")
    return table(head, rows)


def _sobol(found: Sensitivity) -> str:
    rows = [
        (
            OUTPUTS[index.output],
            index.factor,
            f"{index.first:.2f} ± {index.first_half:.2f}",
            f"{index.total:.2f} ± {index.total_half:.2f}",
        )
        for index in sorted(found.indices, key=lambda x: (list(OUTPUTS).index(x.output), -x.total))
        if index.total >= 0.01
    ]
    return table(("ratio", "factor", "first", "total"), rows)


def _ranges() -> str:
    rows = [(f.name, f.unit, f"{number(f.low)} to {number(f.high)}", number(f.nominal), f.why) for f in FACTORS]
    return table(("factor", "unit", "range", "nominal", "why"), rows)
