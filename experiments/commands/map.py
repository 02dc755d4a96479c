"""The command map: which contender is cheapest where, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import ConfigFile, json_option, print_json


@click.command("map")
@click.argument("config", metavar="CONFIG.yaml|NAME", type=ConfigFile())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the file.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: results/runs/NAME.")
@click.option("--fresh", is_flag=True, help="Recompute what is already there.")
@json_option
def decision_map(
    config: Path, settings: tuple[str, ...], workers: int, out: Path | None, fresh: bool, as_json: bool
) -> None:
    """Draw the decision map: who is cheapest where, with the probability, and which constant to measure next.

    A map that was stopped resumes from the cells that it has.

    \b
    Example: ./smoe map experiments/configs/map.yaml
             ./smoe map experiments/configs/map.yaml --set model=olmoe-1b-7b --set weights=int8 --set y.high=2048
    """
    from dataclasses import asdict

    from experiments.cost.decision_map import make_map
    from experiments.cost.decision_map_file import DecisionMap
    from experiments.cost.decision_map_page import page, write_map
    from experiments.cost.decision_map_picture import draw_map
    from experiments.tools.console import progress
    from experiments.tools.kept import Store
    from experiments.tools.provenance import write_provenance
    from moe.files import read_settings, validated
    from moe.held import filled, held
    from simulator.profiles.schema import DEFAULT_PROFILE, price_list_date

    asked = validated(DecisionMap, read_settings(config, settings), config)
    folder = out or Path("results") / "runs" / asked.name
    with held(folder, "map.json", "cells/map-*"):
        with progress("mapping", "cells") as update:
            found = make_map(asked, Store(folder / "cells", fresh, workers), update)
        with filled(folder) as partial:
            write_map(asked, found, partial)
            draw_map(asked, found, partial / "map")
            write_provenance(
                partial,
                seed=asked.seed,
                price_list_date=price_list_date(DEFAULT_PROFILE),
                asked=asked.model_dump(mode="json", by_alias=True),
            )
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(page(asked, found))
        click.echo(f"{folder}: map.png, map.md, map.csv, worth.csv, map.json")
