"""The command presets: public MoE models on Lambda, from OLMoE to DeepSeek-V3."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import json_option, print_json, seed_option

if TYPE_CHECKING:
    from experiments.studies.presets import PresetRow
    from experiments.studies.shapes import ShapeRow


@click.command()
@click.argument("models", nargs=-1)
@click.option("--profile", default="aws-us-east-1-2026", show_default=True, help="Platform profile.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=10240, show_default=True)
@click.option("--skew", type=click.FloatRange(min=0), default=0.5, show_default=True, help="Zipf exponent.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("results/runs/presets"))
@seed_option
@json_option
def presets(
    models: tuple[str, ...], profile: str, batch_tokens: int, skew: float, out: Path, seed: int, as_json: bool
) -> None:
    """What public MoE models cost on Lambda in all, and how fast they are. MODELS: presets; all without any.

    \b
    Example: ./smoe presets
             ./smoe presets olmoe-1b-7b deepseek-v3 --batch-tokens 2560
    """
    from dataclasses import asdict

    from experiments.studies.presets import study_presets, write_presets
    from experiments.studies.presets_picture import draw_presets
    from experiments.studies.shapes import study_shapes, write_shapes
    from experiments.studies.shapes_picture import draw_shapes
    from experiments.tools import console
    from experiments.tools.provenance import write_provenance
    from moe.held import filled, held
    from moe.spec import preset_names
    from simulator.profiles.schema import load_profile

    platform = load_profile(profile)
    asked = models or preset_names(), platform, batch_tokens, skew, seed
    with held(out, "presets.csv"):
        with console.progress("planning", "models") as update:
            rows = study_presets(*asked, _with_rate(update))
        with console.progress("cutting", "models and precisions") as update:
            shapes = study_shapes(*asked, update=_with_rate(update))
        prices_of = platform.prices.price_list_date
        title = (
            f"Batches of {batch_tokens:,} tokens on {platform.name}, popularity by Zipf's law with {skew:g}, "
            f"USD per million tokens at prices of {prices_of}"
        )
        with filled(out) as partial:
            write_presets(rows, title, partial)
            draw_presets(rows, title, partial / "presets")
            write_shapes(shapes, title, partial)
            draw_shapes(shapes, f"Batches of {batch_tokens:,} tokens, prices of {prices_of}", partial / "shapes")
            write_provenance(
                partial, seed=seed, models=list(models), profile=profile, batch_tokens=batch_tokens, skew=skew
            )
    if as_json:
        by_model = {row.model: [_known(asdict(x)) for x in shapes if x.model == row.model] for row in rows}
        print_json([_known(asdict(row)) | {"shapes": by_model[row.model]} for row in rows])
        return
    _show(rows, title)
    _show_shapes(shapes)
    console.out.print(
        f"{out}: presets.md, presets.csv, presets.png; by shape and precision shapes.md, shapes.csv, shapes.png",
        soft_wrap=True,
    )


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """The row for JSON, which has no NaN."""
    return {name: None if value != value else value for name, value in row.items()}


def _with_rate(update: Callable[[int, int, float], None]) -> Callable[[int, int], None]:
    """A progress that is told how many are done, and finds how many a second since now."""
    began = time.perf_counter()
    return lambda done, total: update(done, total, done / (time.perf_counter() - began))


def _show(rows: Sequence[PresetRow], title: str) -> None:
    from experiments.studies.presets import HEADER, SHOWN, cells

    _print(title, HEADER[:SHOWN], [cells(row)[:SHOWN] for row in rows])


def _show_shapes(rows: Sequence[ShapeRow]) -> None:
    """What each model costs by precision and shape; a dash where a shape does not fit."""
    from experiments.studies.shapes import SHOWN_HEADER, shown_cells

    _print(
        "By shape and precision (closed form)",
        SHOWN_HEADER,
        list(map(shown_cells, rows)),
    )


def _print(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits a terminal: names on the left, numbers on the right."""
    from rich import box
    from rich.table import Table

    from experiments.tools import console

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in header:
        words = name in ("model", "weights", "cheapest")
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.out.print(table)
