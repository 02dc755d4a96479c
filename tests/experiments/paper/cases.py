"""Tiny settings of the paper's figures, on synthetic routing: nothing is recorded."""

from typing import Any

import pandas as pd

from experiments.paper.claims import Claim
from experiments.paper.figure import PaperFigure
from experiments.paper.settings import FigureSettings, ModelChoice, TextChoice
from moe.pretrained.settings import RecordingSettings
from moe.trace import RoutingTrace
from optimizer.popularity.synthetic import synthetic_trace

MODEL = ModelChoice(title="Small", spec="minilm-moe", record="minilm", layers_of_recording=(0, 1, 2, 3, 4, 5))
TEXT = TextChoice(title="noise", corpus="wikipedia", stands_for="Enwik8", tokens=4096)
OTHER = TextChoice(title="other noise", corpus="news", stands_for="CCnews", tokens=4096)


def synthetic(settings: RecordingSettings) -> RoutingTrace:
    """What stands for a recording: its shape is right, its tokens are noise."""
    return synthetic_trace(
        settings.gate_seed,
        settings.tokens,
        layers=6,
        experts=settings.experts,
        top_k=settings.top_k,
        vocabulary=11_000,
    )


def tiny(kind: type[FigureSettings], **more: Any) -> Any:
    """Settings of a figure that take a second."""
    given: dict[str, Any] = {"models": (MODEL,), "texts": (TEXT,), "batch_tokens": 512, "batches": 3}
    return kind(**given | more)


def made(figure: PaperFigure, **more: Any) -> tuple[pd.DataFrame, dict[str, Claim]]:
    """The plain data of a figure, and its claims by what they say."""
    settings = tiny(figure.settings, **more)
    rows = [row for cell in figure.cells(settings) for row in figure.compute(cell)]
    data = figure.table(rows)
    return data, {claim.claim: claim for claim in figure.claims(data)}
