"""The page of the figures: each with the paper's claim, our number, the verdict and the reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.paper.claims import OWN
from experiments.tools.markdown import table
from moe.files import write_whole

INTRO = """# The paper's figures, and what ours show

Written by `./smoe figures{option}`; scale `{scale}`. Source of the claims: Liu, Wang, Wu, *Optimizing Distributed
Deployment of Mixture-of-Experts Model Inference in Serverless Computing*, INFOCOM 2025, section V. Nothing is
tuned to a claim: constants come from the platform profile. Numbers in brackets are 95% intervals over test
batches, over seeds of the gates or over runs; a claim with a bound is confirmed if the whole interval keeps it.

{confirmed} of {judged} claims are confirmed{own}. Lines without a verdict are numbers that stand beside the
paper's.
"""


def write_page(results: Sequence[dict[str, Any]], scale: str, out: Path, page: Path) -> None:
    """Write `page` from the results of figures, as their JSON files hold them; its links lead to `out`."""
    judged = [claim for result in results for claim in result["claims"] if claim["confirmed"] is not None]
    own = [claim["confirmed"] for claim in judged if claim["paper"] == OWN]
    of_paper = [claim["confirmed"] for claim in judged if claim["paper"] != OWN]
    text = INTRO.format(
        option="" if scale == "default" else f" --{scale}",
        scale=scale,
        judged=len(of_paper),
        confirmed=sum(of_paper),
        own=f"; of {len(own)} checks of our own {sum(own)} hold" if own else "",
    )
    folder = Path(os.path.relpath(out, page.parent)).as_posix()
    prefix = "" if folder == "." else f"{folder}/"
    parts = [text, *(_section(result, prefix) for result in results)]
    write_whole(page, "\n".join(parts))


def _section(result: dict[str, Any], prefix: str) -> str:
    number = result["figure"]
    heading = f"Figure {number}" if number.isdigit() else number.capitalize()
    lines = [f"## {heading}: {result['title']}", "", f"The paper: {result['paper']}", ""]
    if result["error"]:
        return "\n".join([*lines, f"This figure failed: {result['error']}", ""])
    if result["picture"]:
        lines += [f"![{heading}]({prefix}{result['picture']})", ""]
    rows = [[claim[key] for key in ("claim", "paper", "ours", "verdict", "reason")] for claim in result["claims"]]
    lines.append(table(("claim", "paper", "ours", "verdict", "why"), rows, rule="---"))
    recorded = "; ".join(result["recorded_on"])
    return "\n".join([*lines, "", f"Data: [{result['table']}]({prefix}{result['table']}). {recorded}.", ""])
