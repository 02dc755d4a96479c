"""The page of the figures: the main claims in one table, then a section for each figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.paper.claims import OWN
from experiments.tools.markdown import table
from moe.files import write_whole

INTRO = """# What the paper claims, and whether it holds

Liu, Wang, Wu, *Optimizing Distributed Deployment of Mixture-of-Experts Model Inference in Serverless
Computing*, INFOCOM 2025, section V, beside this project's numbers. Written by `./smoe figures{option}`, scale
`{scale}`. Constants come from the platform profile; none is tuned to a claim. Brackets are 95% intervals. A
claim with a bound is confirmed if the whole interval keeps it, for every model that it was tried on, and
cannot be judged where the interval contains the bound. Of {judged} claims that can be judged, {confirmed} are
confirmed{open}.

ODS is the paper's planner. LambdaML gives every expert the largest memory of the paper, 3,008 MB. BO is the
paper's tuning of the predictor's table (Alg. 2). The bill is the paper's: the experts' GB-s, without
requests, storage and the other functions.
"""
OWN_CHECKS = """## Checks of our own

Statements that the paper does not make, judged in the same way.
"""
HEAD = ("claim", "paper", "ours", "verdict", "why")


def write_page(
    results: Sequence[dict[str, Any]], scale: str, out: Path, page: Path, missing: Sequence[str] = ()
) -> None:
    """Write `page` from the results of figures, as their JSON files hold them; its links lead to `out`.

    Args:
        missing: figures that `out` does not have; the page names them.
    """
    claims = [claim for result in results for claim in result["claims"]]
    of_paper = [claim for claim in claims if claim["paper"] != OWN]
    judged = [claim["confirmed"] for claim in of_paper if claim["confirmed"] is not None]
    unjudged = sum(bool(claim["unjudged"]) for claim in of_paper)
    text = INTRO.format(
        option="" if scale == "default" else f" --{scale}",
        scale=scale,
        judged=len(judged),
        confirmed=sum(judged),
        open=f"; {unjudged} more cannot be judged here" if unjudged else "",
    )
    main = [_row(claim, "figure " + claim["figure"]) for claim in of_paper if claim["main"]]
    own = [_row(claim, claim["figure"]) for claim in claims if claim["paper"] == OWN and claim["verdict"]]
    folder = Path(os.path.relpath(out, page.parent)).as_posix()
    prefix = "" if folder == "." else f"{folder}/"
    parts = [text]
    if missing:
        parts += [f"Not on this page, since not made here: {', '.join(missing)}.\n"]
    if main:
        parts += [table(HEAD, main, rule="---"), ""]
    parts += [_section(result, prefix) for result in results]
    if own:
        parts += [OWN_CHECKS, table(HEAD, own, rule="---"), ""]
    write_whole(page, "\n".join(parts))


def _row(claim: dict[str, Any], of: str) -> list[str]:
    paper = "" if claim["paper"] == OWN else claim["paper"]
    return [
        f"{claim['claim']} ({of})",
        paper,
        claim["ours"],
        claim["verdict"],
        claim["unjudged"] or claim["reason"],
    ]


def _section(result: dict[str, Any], prefix: str) -> str:
    number = result["figure"]
    heading = f"Figure {number}" if number.isdigit() else number.capitalize()
    lines = [f"## {heading}: {result['title']}", ""]
    if result["error"]:
        return "\n".join([*lines, f"This figure failed: {result['error']}", ""])
    if result["picture"]:
        lines += [f"![{heading}]({prefix}{result['picture']})", ""]
    said = result["paper"].strip().rstrip(".")
    lines += [f"{said[0].upper()}{said[1:]}." if number not in OF_PAPER else f"The paper: {said}.", ""]
    for claim in result["claims"]:
        verdict = f" **{claim['verdict']}**" if claim["verdict"] else ""
        lines.append(f"- {claim['claim']}: {claim['ours']}.{verdict}")
    shown = ("claim", "case", "paper", "ours", "verdict")
    rows = [[*(case[key] for key in shown), case["unjudged"] or case["reason"]] for case in result["cases"]]
    lines += ["", "<details><summary>Each model, and why</summary>", ""]
    lines += [table(("claim", "of", "paper", "ours", "verdict", "why"), rows, rule="---"), "", "</details>", ""]
    recorded = "; ".join(result["recorded_on"])
    return "\n".join([*lines, f"Data: [{result['table']}]({prefix}{result['table']}). {recorded}.", ""])


OF_PAPER = frozenset({"2", "3", "4", "10", "11", "12", "13", "14", "overheads"})
"""Figures and tables that the paper has."""
