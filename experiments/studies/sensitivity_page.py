"""The study of sensitivity as files and a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.studies.headline import FACTORS, OUTPUTS
from experiments.studies.sensitivity import CLAIMS, Sensitivity
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
    lines = [
        f"# Under which conditions is serverless MoE cheaper? {found.model} on {found.profile}",
        "",
        "![Swings and Sobol indices](tornado.png)",
        "",
        "| ratio | nominal | the paper's claim | at the nominal point | holds at | below 1 at |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for output, title in OUTPUTS.items():
        claim, value = CLAIMS[output], found.nominal[output]
        at_least = output == "tokens_per_s"
        holds = value >= claim if at_least else value <= claim
        lines.append(
            f"| {title} | {_number(value)} | {'at least' if at_least else 'at most'} {claim:.4f} | "
            f"{'holds' if holds else 'does not hold'} | {found.holds[output]:.0%} of the points | "
            f"{found.cheaper[output]:.0%} |"
        )
    lines += [
        "",
        f"Both claims over LambdaML hold together at {found.holds['cost and throughput']:.0%} "
        f"of {found.samples:,} points.",
        "",
        "## Break-even points",
        "",
        "One factor at a time, the others nominal.",
        "",
        "| ratio | factor | nominal | range | ratio over the range | claim passed at | 1 passed at |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    factors = {factor.name: factor for factor in FACTORS}
    for swing in sorted(found.swings, key=lambda s: (list(OUTPUTS).index(s.output), -abs(np.log(s.high / s.low)))):
        if swing.claim_at is None and swing.cheaper_at is None and abs(np.log(swing.high / swing.low)) < 0.05:
            continue
        factor = factors[swing.factor]
        lines.append(
            f"| {OUTPUTS[swing.output]} | {factor.name}, {factor.unit} | {_number(factor.nominal)} | "
            f"{_number(factor.low)} to {_number(factor.high)} | {_number(swing.low)} to {_number(swing.high)} | "
            f"{_number(swing.claim_at)} | {_number(swing.cheaper_at)} |"
        )
    lines += ["", "## Sobol indices", "", "| ratio | factor | first | total |", "| --- | --- | --- | --- |"]
    for index in sorted(found.indices, key=lambda x: (list(OUTPUTS).index(x.output), -x.total)):
        if index.total >= 0.01:
            lines.append(
                f"| {OUTPUTS[index.output]} | {index.factor} | {index.first:.2f} ± {index.first_half:.2f} | "
                f"{index.total:.2f} ± {index.total_half:.2f} |"
            )
    lines += ["", "## Ranges", "", "| factor | unit | range | nominal | why |", "| --- | --- | --- | --- | --- |"]
    for f in FACTORS:
        lines.append(
            f"| {f.name} | {f.unit} | {_number(f.low)} to {_number(f.high)} | {_number(f.nominal)} | {f.why} |"
        )
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
