"""Commands about routing: record, predict."""

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


@click.command()
@click.option("--profiled", "profiled_path", required=True, type=FILE, help="Trace to learn from.")
@click.option("--serve", "served_path", required=True, type=FILE, help="Trace whose popularity is predicted.")
@click.option("--predictor", default="bayes", show_default=True)
@click.option("--variant", default="printed", show_default=True, help="Of bayes: printed, mixture, backoff.")
@click.option("--counting", type=click.Choice(["hard", "expected"]), default="expected", show_default=True)
@click.option("--out", required=True, type=FILE)
@json_option
def predict(
    profiled_path: Path,
    served_path: Path,
    predictor: str,
    variant: str,
    counting: str,
    out: Path,
    as_json: bool,
) -> None:
    """Predict the expert popularity of one trace from another, and say how far off it is.

    \b
    Example: ./smoe predict --profiled a.parquet --serve b.parquet --predictor lina --out pop.parquet
    """
    from experiments.inputs import make_predictor
    from experiments.popularity_file import save_popularity
    from experiments.schema import Prediction
    from moe.files import validated
    from moe.trace import load_trace
    from optimizer.popularity import prediction_error

    profiled, served = load_trace(profiled_path), load_trace(served_path)
    options = validated(Prediction, {"predictor": predictor, "variant": variant, "counting": counting}, "predict")
    fitted = make_predictor(predictor, options).fit(profiled)
    tokens, real = fitted.predict(served.token_id, served), served.popularity()
    error = prediction_error(tokens, real)
    save_popularity(tokens, out, real)
    if as_json:
        print_json(
            {"mean_error_tokens": error.tokens, "mean_error_share": error.share, "popularity": tokens.tolist()}
        )
    else:
        click.echo(
            f"{out}: {predictor} is {error.tokens:,.1f} tokens off per expert, {error.share:.1%} of its mean load"
        )
