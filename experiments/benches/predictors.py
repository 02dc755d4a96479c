"""The command bench predictors: how fast they are, beside the paper's numbers, or how good."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from experiments.commands.options import print_json
from experiments.prediction.judge import variations
from moe.files import write_whole
from optimizer.popularity import PREDICTORS, predictor
from optimizer.popularity.synthetic import synthetic_trace

BATCH_TOKENS, LAYERS, EXPERTS = 10_240, 12, 4
PROFILED_BATCHES, SERVED_BATCHES = 100, 10
PAPER_PROFILE_S, PAPER_PREDICT_S = 28.89, 20.31
"""Of the paper's method, on its machine."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one predictor: on the clock, and of the processor (the smaller one where the machine is busy)."""

    predictor: str
    profile_s: float
    profile_process_s: float
    predict_s: float
    predict_process_s: float


def predictor_speed(
    profiled_batches: int = PROFILED_BATCHES,
    served_batches: int = SERVED_BATCHES,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Speed]:
    """Profile and predict batches of a synthetic trace: 12 layers x 4 experts, top-1, Zipf's token IDs."""
    profiled = synthetic_trace(1, profiled_batches * batch_tokens, layers=LAYERS, experts=EXPERTS)
    served = synthetic_trace(2, served_batches * batch_tokens, layers=LAYERS, experts=EXPERTS)
    predictor("lstm").fit(synthetic_trace(3, 4096))  # imports torch, which is not to be timed
    rows = []
    for name in PREDICTORS:
        for options in variations(name, {}):
            made = predictor(name, **options)
            clock = [(time.perf_counter(), time.process_time())]
            made.fit(profiled)
            clock.append((time.perf_counter(), time.process_time()))
            made.predict(served.token_id, served)
            clock.append((time.perf_counter(), time.process_time()))
            (a, p), (b, q), (c, r) = clock
            rows.append(Speed(", ".join([name, *options.values()]), b - a, q - p, c - b, r - q))
    return rows


def speed_lines(rows: list[Speed]) -> list[str]:
    """The table as text."""
    lines = [
        f"{PROFILED_BATCHES} batches of {BATCH_TOKENS:,} tokens x {LAYERS} layers profiled, {SERVED_BATCHES} "
        "predicted: seconds on the clock (of the processor)",
        f"  {'paper (its machine)':<26} {PAPER_PROFILE_S:8.2f}          {PAPER_PREDICT_S:8.3f}",
    ]
    for row in rows:
        lines.append(
            f"  {row.predictor:<26} {row.profile_s:8.2f} ({row.profile_process_s:5.2f})  "
            f"{row.predict_s:8.3f} ({row.predict_process_s:6.3f})"
        )
    return lines


def run(accuracy: bool, routing: Path | None, out: Path | None, as_json: bool) -> None:
    """Measure, and print: speed, or (`accuracy`) the page docs/popularity.md, or the rows behind it."""
    if not accuracy:
        rows = predictor_speed()
        if as_json:
            paper = {"profile_s": PAPER_PROFILE_S, "predict_s": PAPER_PREDICT_S}
            print_json({"paper": paper, "predictors": [asdict(row) for row in rows]})
        else:
            click.echo("\n".join(speed_lines(rows)))
        return
    from experiments.prediction.study import Study, measured
    from experiments.prediction.study_page import page
    from experiments.tools.console import progress

    with progress("predicting", "cases") as update:
        found = measured(Study(), update)
    if as_json:
        print_json({"rows": found.astype(object).where(found.notna(), None).to_dict("records")})
        return
    text = page(found, routing)
    if out is None:
        click.echo(text)
    else:
        write_whole(out, text)
