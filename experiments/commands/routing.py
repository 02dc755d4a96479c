"""The command record: routing of real text."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, json_option, print_json, seed_option


@click.command()
@click.option("--model", default="minilm", show_default=True, help="minilm, smollm2, a directory or a hub name.")
@click.option("--corpus", default="wikipedia", show_default=True, help="Packaged corpus, text file or hub:NAME.")
@click.option("--tokens", default=10240, show_default=True)
@click.option("--sequence-tokens", default=128, show_default=True)
@click.option("--experts", default=4, show_default=True)
@click.option("--top-k", default=1, show_default=True)
@click.option("--gate", type=click.Choice(["random", "standardised"]), default="random", show_default=True)
@click.option("--expert-copies", type=click.Choice(["copies", "perturbed"]), default="copies", show_default=True)
@click.option("--out", required=True, type=FILE)
@seed_option
@json_option
def record(
    model: str,
    corpus: str,
    tokens: int,
    sequence_tokens: int,
    experts: int,
    top_k: int,
    gate: str,
    expert_copies: str,
    out: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Run text through a transformer whose MLPs became MoE layers, and record the routing.

    \b
    Example: ./smoe record --model minilm --corpus news --tokens 5120 --experts 8 --out trace.parquet
    """
    from experiments.console import progress
    from moe.files import validated
    from moe.record import cached_record
    from moe.settings import RecordingSettings
    from moe.trace import save_trace

    given = {
        "model": model,
        "corpus": corpus,
        "tokens": tokens,
        "sequence_tokens": sequence_tokens,
        "experts": experts,
        "top_k": top_k,
        "gate": gate,
        "gate_seed": seed,
        "seed": seed,
        "expert_copies": expert_copies,
    }
    settings = validated(RecordingSettings, given, "record")
    with progress("recording", "tokens") as update:
        recorded = cached_record(settings, progress=update)
    trace = recorded.trace
    save_trace(trace, out)
    about = {"out": str(out), "tokens": trace.tokens, "layers": trace.layers, "cached": recorded.was_cached}
    if as_json:
        print_json(about | {"origin": trace.origin, "popularity": trace.popularity().tolist()})
    else:
        click.echo(f"{out}: {trace.tokens:,} tokens, {trace.layers} layers, {trace.num_experts} experts")
