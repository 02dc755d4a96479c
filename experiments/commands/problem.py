"""The command problem: from popularity, sizes and a profile to a deployment problem."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import FILE, json_option, print_json, whole_numbers
from moe.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from moe.spec import MoESpec


@click.command()
@click.argument("named", metavar="[MODEL]", required=False)
@click.option("--model", help="Preset or YAML file of a model's sizes; or the argument.")
@click.option(
    "--popularity",
    "popularity_path",
    type=FILE,
    help="Parquet made by smoe predict, or mixtral-8x7b, olmoe-1b-7b.",
)
@click.option("--trace", "trace_path", type=FILE, help="Instead: routing of any kind that smoe import reads.")
@click.option("--part", help="Of a trace with several corpora, or of mixtral-8x7b: which.")
@click.option("--layers", metavar="0,0,1,...", help="Layer of the trace that stands for each of the model's.")
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Of a batch; default: all tokens of the trace; without popularity and trace: spread evenly over experts.",
)
@click.option("--experts", type=int, help="Experts of a layer; default: those of the popularity.")
@click.option("--top-k", type=int, help="Experts that each token uses; default: the preset's.")
@click.option("--profile", default="aws-us-east-1-2026", show_default=True, help="Platform profile.")
@click.option("--latency-limit", type=float, help="Seconds, head to tail.")
@click.option("--target-throughput", type=float, help="Tokens/s; sets the latency limit.")
@click.option("--objective", type=click.Choice(["gb_s", "usd", "total"]), default="gb_s", show_default=True)
@click.option(
    "--shapes",
    default="expert-functions",
    show_default=True,
    help="How the model may be cut: all, or some of expert-functions, blocks, whole-model, grouped "
    "(docs/planning.md).",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "bf16", "int8", "int4"]),
    help="Precision of the parameters; default: the model's.",
)
@click.option("--out", required=True, type=FILE)
@json_option
def problem(
    named: str | None,
    model: str | None,
    popularity_path: Path | None,
    trace_path: Path | None,
    part: str | None,
    layers: str | None,
    batch_tokens: int | None,
    experts: int | None,
    top_k: int | None,
    profile: str,
    latency_limit: float | None,
    target_throughput: float | None,
    objective: Any,
    shapes: str,
    weights: Any,
    out: Path,
    as_json: bool,
) -> None:
    """Make a deployment problem from popularity, model sizes and a platform profile.

    \b
    Example: ./smoe problem bert-moe --popularity pop.parquet --latency-limit 60 --out problem.json
             ./smoe problem olmoe-1b-7b --trace routed.npy --batch-tokens 10240 --out problem.json
             ./smoe problem olmoe-1b-7b --batch-tokens 10240 --shapes all --weights int8 --out problem.json
             ./smoe problem mixtral-8x7b --popularity mixtral-8x7b --batch-tokens 10240 --out problem.json
    """
    from moe.files import write_json
    from moe.spec import load_spec
    from optimizer.blocks import check_fits, shape_names
    from optimizer.problem import make_problem
    from simulator.profiles.schema import load_profile

    if (named is None) == (model is None):
        raise InputError("--model: expected it, or MODEL as the argument, and not both")
    model = model or named or ""
    sizes = {name: value for name, value in (("experts", experts), ("top_k", top_k)) if value is not None}
    tokens = _popularity(load_spec(model, **sizes), popularity_path, trace_path, part, layers, batch_tokens)
    spec = load_spec(model, **{"experts": tokens.shape[1]} | sizes)
    chosen = shape_names(shapes, "--shapes")
    made = make_problem(
        spec,
        tokens,
        load_profile(profile),
        objective=objective,
        latency_limit_s=_limit_s(latency_limit, target_throughput, float(tokens.sum(axis=1).max()) / spec.top_k),
        shapes=chosen,
        weights=weights,
    )
    for shape in () if "all" in shapes.split(",") else chosen:
        check_fits(made, shape)
    write_json(out, made)
    if as_json:
        print_json(made.model_dump(mode="json", by_alias=True))
    else:
        click.echo(
            f"{out}: {len(made.layers)} layers x {spec.experts} experts, {made.served_tokens:,.0f} tokens a batch"
        )


def _limit_s(latency_limit_s: float | None, tokens_per_s: float | None, batch_tokens: float) -> float | None:
    """The latency limit that was said, or that a throughput sets; None: neither. Raises InputError for both."""
    if tokens_per_s is None:
        return latency_limit_s
    if latency_limit_s is not None:
        raise InputError("--target-throughput: expected at most one of --latency-limit and --target-throughput")
    return batch_tokens / tokens_per_s


def _popularity(
    spec: MoESpec,
    popularity_path: Path | None,
    trace_path: Path | None,
    part: str | None,
    layers: str | None,
    batch_tokens: int | None,
) -> np.ndarray:
    """Tokens of each expert in a batch, (layers, experts): of a file, a real model, a trace, or spread evenly."""
    if trace_path is not None and popularity_path is None:
        return _counted(trace_path, part, spec, layers, batch_tokens)
    if _is_name(popularity_path) and not (trace_path or layers):
        return _of_real_model(str(popularity_path), part, spec, batch_tokens)
    if popularity_path is not None and not (trace_path or part or layers or batch_tokens):
        from optimizer.popularity.popularity_file import load_popularity

        return load_popularity(popularity_path)
    if batch_tokens is None or popularity_path is not None or part or layers:
        raise InputError(
            "--popularity: expected either it, or --trace with --part, --layers, --batch-tokens, or "
            "--batch-tokens alone, spread evenly"
        )
    import numpy as np

    return np.full((spec.moe_layers, spec.experts), batch_tokens * spec.top_k / spec.experts)


def _is_name(popularity: Path | None) -> bool:
    """Whether a real model's name was given, rather than a file."""
    return popularity is not None and popularity.parts == (popularity.stem,) and not popularity.exists()


def _of_real_model(name: str, text: str | None, spec: MoESpec, batch_tokens: int | None) -> np.ndarray:
    """Popularity by the counts of a real model, tokens of a batch, shape (layers, experts)."""
    from moe.errors import named
    from moe.routing.counted import counted_shares

    with named("--popularity"):
        shares = counted_shares(name, text, spec.moe_layers, spec.experts, spec.top_k)
    if batch_tokens is None:
        raise InputError(f"--batch-tokens: expected with --popularity {name}, which has shares alone")
    return shares * spec.top_k * batch_tokens


def _counted(
    path: Path, part: str | None, spec: MoESpec, layers: str | None, batch_tokens: int | None
) -> np.ndarray:
    """Popularity counted in a routing file, tokens of a batch, shape (layers, experts)."""
    from experiments.run.inputs import popularity_of_trace

    order = None if layers is None else whole_numbers("--layers", layers)
    return popularity_of_trace(path, part, spec, order, batch_tokens)
