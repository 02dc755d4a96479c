"""The command presets: public MoE models on Lambda, from OLMoE to DeepSeek-V3."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import json_option, print_json, seed_option


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
    import time
    from dataclasses import asdict

    from rich import box
    from rich.table import Table

    from experiments.studies.presets import HEADER, SHOWN, cells, study_presets, write_presets
    from experiments.studies.presets_picture import draw_presets
    from experiments.studies.shapes import study_shapes, write_shapes
    from experiments.studies.shapes_picture import draw_shapes
    from experiments.tools import console
    from experiments.tools.provenance import write_provenance
    from moe.held import filled, held
    from moe.spec import preset_names
    from simulator.profiles.schema import load_profile

    platform = load_profile(profile)
    began = time.perf_counter()
    with held(out, "presets.csv"):
        with console.progress("planning", "models") as update:
            rows = study_presets(
                models or preset_names(),
                platform,
                batch_tokens,
                skew,
                seed,
                lambda done, total: update(done, total, done / (time.perf_counter() - began)),
            )
        with console.progress("cutting", "models and precisions") as update:
            shapes = study_shapes(
                models or preset_names(),
                platform,
                batch_tokens,
                skew,
                seed,
                update=lambda done, total: update(done, total, done / (time.perf_counter() - began)),
            )
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
        print_json([{k: None if v != v else v for k, v in asdict(row).items()} for row in rows])
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for k, name in enumerate(HEADER[:SHOWN]):
        table.add_column(name, justify="left" if k == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row)[:SHOWN])
    console.out.print(table)
    console.out.print(
        f"{out}: presets.md, presets.csv, presets.png; by shape and precision shapes.md, shapes.csv, shapes.png",
        soft_wrap=True,
    )
