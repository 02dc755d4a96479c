"""Who is compared in Fig. 13, and on what."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

PAPERS = ("random", "single-epsilon", "tpe", "multi-epsilon")
OWN = ("few", "recount")
"""This project's, which tune a few numbers instead of pairs."""
CASE = ["model", "text", "drift", "experts", "top_k", "binds", "objective", "counting"]

Binds: TypeAlias = Literal["latency", "memory"]
"""What makes a wrong prediction cost anything: the latency limit, or memory without a limit."""


def case_title(case: dict[str, Any]) -> str:
    """`(Bert, encyclopedia, no limit, memory binds, objective bill)`; drift and counting if not the paper's."""
    text = f"{case['drift']:.0%} {case['text']}" if case["drift"] else case["text"]
    objective = f"objective {case['objective']}{', as in the paper' if case['objective'] == 'bill' else ''}"
    counting = "" if case["counting"] == "hard" else f", {case['counting']} counting"
    binds = "no limit, memory binds, " if case["binds"] == "memory" else ""
    return f"({case['model']}, {text}, {binds}{objective}{counting})"
