"""Commands about routing: record that of real text, import what other systems recorded, the corpora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import (
    FILE,
    WithSettings,
    json_option,
    print_json,
    read_settings,
    seed_option,
    set_option,
)

if TYPE_CHECKING:
    from moe.files import FileModel


def _models() -> Sequence[type[FileModel]]:
    from moe.pretrained.settings import RecordingSettings

    return (RecordingSettings,)


@click.command(cls=WithSettings, models=_models)
@click.option(
    "--model",
    default="minilm",
    show_default=True,
    help="minilm, smollm2, a directory, a hub name, or A+B of them.",
)
@click.option("--corpus", default="wikipedia", show_default=True, help="Packaged corpus, text file or hub:NAME.")
@click.option("--tokens", default=10240, show_default=True)
@click.option("--experts", default=4, show_default=True)
@click.option("--top-k", default=1, show_default=True)
@click.option(
    "--gate",
    type=click.Choice(["random", "standardised", "trained", "own"]),
    default="random",
    show_default=True,
    help="Of a real MoE model: own.",
)
@set_option
@click.option("--out", required=True, type=FILE)
@seed_option
@json_option
def record(settings: tuple[str, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Run text through a transformer whose MLPs became MoE layers, and record the routing.

    \b
    Example: ./smoe record --model minilm --corpus news --tokens 5120 --experts 8 --out trace.parquet
             ./smoe record --model minilm+smollm2 --corpus fiction --out trace.parquet
             ./smoe record --set expert_copies=perturbed --set noise=0.5 --out trace.parquet
    """
    from experiments.tools.console import progress
    from moe.routing.record import cached_record
    from moe.trace import save_trace

    (chosen,) = read_settings(settings, gate_seed=options["seed"], **options)
    with progress("recording", "tokens") as update:
        recorded = cached_record(chosen, progress=update)
    trace = recorded.trace
    save_trace(trace, out)
    about = {"out": str(out), "tokens": trace.tokens, "layers": trace.layers, "cached": recorded.was_cached}
    if as_json:
        print_json(about | {"origin": trace.origin, "popularity": trace.popularity().tolist()})
    else:
        click.echo(f"{out}: {trace.tokens:,} tokens, {trace.layers} layers, {trace.num_experts} experts")


@click.command("import")
@click.argument("path", metavar="FILE", type=FILE)
@click.option(
    "--experts", type=click.IntRange(min=1), help="Of a layer; default: the file's, or largest index + 1."
)
@click.option("--part", help="Of a file of counts: the corpus, such as olmoe/c4.")
@click.option(
    "--drop-padding", is_flag=True, help="Leave out tokens whose choices are all -1, or all 0 with top-k above 1."
)
@click.option("--out", required=True, type=FILE)
@json_option
def import_(
    path: Path, experts: int | None, part: str | None, drop_padding: bool, out: Path, as_json: bool
) -> None:
    """Turn routing that another system recorded into a routing trace, for predict, tune and samples.

    FILE: .npy or .npz (vLLM: tokens x layers x k), .csv (layer,expert or token,layer,expert), .jsonl
    (layer_idx, token_idx, selected_ids, gate_weights), or the counts of allenai/OLMoE; docs/workloads.md.

    \b
    Example: ./smoe import routed_experts.npy --experts 64 --out trace.parquet
    """
    from moe.routing.foreign import import_trace
    from moe.trace import save_trace

    trace = import_trace(path, experts, part, drop_padding)
    save_trace(trace, out)
    about = {"out": str(out), "tokens": trace.tokens, "layers": trace.layers, "experts": trace.num_experts}
    if as_json:
        print_json(
            about | {"top_k": trace.top_k, "origin": trace.origin, "popularity": trace.popularity().tolist()}
        )
    else:
        size = f"{trace.tokens:,} tokens, {trace.layers} layers"
        padding = trace.origin.get("dropped_tokens") if drop_padding else None
        left_out = f"; {padding:,} tokens of padding left out" if padding else ""
        click.echo(f"{out}: {size}, {trace.num_experts} experts, top-{trace.top_k}{left_out}")


@click.command()
@click.option("--model", default="minilm", show_default=True, help="Whose tokens, and whose routing.")
@click.option(
    "--tokens", type=click.IntRange(min=1), default=10240, show_default=True, help="Of each text, at most."
)
@click.option("--experts", type=click.IntRange(min=2), default=4, show_default=True)
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--measure", is_flag=True, help="How far apart they are: records each of them.")
@click.option("--with", "others", multiple=True, metavar="CORPUS", help="A text file or hub:NAME beside them.")
@seed_option
@json_option
def corpora(
    model: str,
    tokens: int,
    experts: int,
    top_k: int,
    measure: bool,
    others: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """List the texts that packages carry, and measure how they differ in tokens and in routing.

    \b
    Example: ./smoe corpora
             ./smoe corpora --measure --model minilm --tokens 10240
    """
    from experiments.studies.corpora import listed, measured, show
    from experiments.tools.console import progress

    names, found = listed(others), None
    if measure:
        with progress("recording a text", "tokens") as update:
            here = [row["name"] for row in names if "missing" not in row]
            found = measured(here, model, tokens, experts, top_k, seed, update)
    if as_json:
        print_json({"corpora": names} | ({"measured": found.as_json()} if found else {}))
    else:
        show(names, found)
