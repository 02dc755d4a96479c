"""The command predict: expert popularity, its error and its regret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import FILE, json_option, plugins_option, print_json
from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.prediction.judge import Judged, Profile, Served


@click.command()
@click.option("--profiled", "profiled_paths", required=True, multiple=True, type=FILE,
              help="Trace or profile table to learn from; may be given several times.")  # fmt: skip
@click.option("--serve", "served_path", type=FILE, help="Trace whose popularity is predicted.")
@click.option("--predictor", default="bayes", show_default=True, help="A name, or module:Class of your own.")
@click.option("--compare", is_flag=True, help="All predictors in one table, --predictor module:Class among them.")
@click.option("--variant", help="Of bayes: printed (default), mixture, backoff.")
@click.option("--counting", help="Of bayes, lina, position: expected (default), hard.")
@click.option("--strength", type=float, help="Of bayes, backoff: tokens that what is less particular counts for.")
@click.option("--neighbours", type=int, help="Of similar-prompts: prompts that one is predicted from.")
@click.option("--batch-tokens", type=int, help="Of lstm: tokens of a step.")
@click.option("--seed", type=click.IntRange(min=0), help="Of lstm.")
@click.option("--problem", "problem_path", type=FILE, help="Deployment problem to find the regret with.")
@click.option("--save-table", "table_path", type=FILE, help="Write the merged profile table there.")
@click.option("--out", type=FILE, help="Write the popularity there, for smoe problem.")
@plugins_option
@json_option
def predict(
    profiled_paths: tuple[Path, ...],
    served_path: Path | None,
    predictor: str,
    compare: bool,
    problem_path: Path | None,
    table_path: Path | None,
    out: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Predict the expert popularity of one trace from others, and say how far off it is, and what that costs.

    \b
    Example: ./smoe predict --profiled a.parquet --serve b.parquet --predictor lina --out pop.parquet
             ./smoe predict --profiled a.parquet --serve b.parquet --compare --problem problem.json
             ./smoe predict --profiled a.parquet --profiled b.parquet --save-table table.parquet
    """
    from experiments.prediction.judge import DEFAULT_COUNTING, Profile, fit_all
    from moe.plugins import look_in
    from optimizer.popularity import PREDICTORS, options_of, save_table
    from optimizer.popularity.popularity_file import save_popularity

    look_in(Path.cwd(), *plugins)
    if served_path is None and table_path is None:
        raise InputError("--serve: expected a trace to predict, or --save-table")
    if compare and out is not None:
        raise InputError("--out: expected one prediction to write, got --compare")
    given = {name: value for name, value in options.items() if value is not None}
    profile = Profile.load(profiled_paths)
    answer: dict[str, Any] = {}
    if table_path is not None:
        save_table(profile.table, table_path)
        answer["table"] = _table_facts(profile, table_path)
    if served_path is not None:
        served = _served(profile, profiled_paths, served_path, problem_path)
        answer |= _trace_facts(profile, served)
    if served_path is None:
        rows: list[Judged] = []
    elif compare:
        own = [predictor] if predictor not in PREDICTORS else []
        rows = [fitted.judge(served) for fitted in fit_all(profile, given, own)]
        answer["predictors"] = [row.as_json() for row in rows]
    else:
        if "counting" in options_of(predictor):
            given.setdefault("counting", DEFAULT_COUNTING)
        rows = [profile.fit(predictor, given).judge(served)]
        answer |= rows[0].as_json()
        if out is not None:
            save_popularity(rows[0].popularity, out, served.trace.popularity())
    if as_json:
        print_json(answer)
    else:
        _show(answer, rows, out)


def _served(
    profile: Profile, profiled_paths: tuple[Path, ...], served_path: Path, problem_path: Path | None
) -> Served:
    """The served trace, checked against the profile, and the problem of its batches."""
    from experiments.prediction.judge import Served
    from moe.trace import load_trace
    from simulator.plan import read_problem

    trace, table = load_trace(served_path), profile.table
    learnt, here = (table.layers, table.experts, table.top_k), (trace.layers, trace.num_experts, trace.top_k)
    if learnt != here:
        raise InputError(
            f"{served_path}: expected {learnt} layers, experts and top-k as in {profiled_paths[0]}, got {here}"
        )
    if problem_path is None:
        return Served(trace)
    problem = read_problem(problem_path)
    try:
        return Served.of(trace, problem)
    except InputError as error:
        raise InputError(f"{problem_path}: {error}") from None


def _table_facts(profile: Profile, path: Path) -> dict[str, Any]:
    table = profile.table
    tokens = float(table.count.sum()) / (table.layers * table.top_k)
    return {"out": str(path), "entries": len(table), "tokens": tokens, "layers": table.layers}


def _trace_facts(profile: Profile, served: Served) -> dict[str, Any]:
    """Skew of the served popularity, and what the profile knows of the served token IDs."""
    import numpy as np

    from optimizer.popularity import skew

    samples = profile.table.samples(0, served.trace.token_id)
    return {
        "served_tokens": served.trace.tokens,
        "skew": skew(served.trace.popularity()).tolist(),
        "unseen_token_share": float(np.mean(samples == 0)),
        "median_samples_of_a_token": float(np.median(samples)),
    }


def _show(answer: dict[str, Any], rows: list[Judged], out: Path | None) -> None:
    if "table" in answer:
        about = answer["table"]
        click.echo(f"{about['out']}: {about['entries']:,} entries of {about['tokens']:,.0f} tokens")
    if not rows:
        return
    from rich.table import Table

    from experiments.tools.console import out as console

    with_regret = rows[0].regret is not None
    more = ("cost", "regret", "latency s", "") if with_regret else ()
    table = Table("predictor", "tokens off", "of mean load", *more, pad_edge=False)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row.name, f"{row.error.tokens:,.1f}", f"{row.error.share:.1%}", *_regret_cells(row))
    console.print(table)
    click.echo(
        f"{answer['served_tokens']:,} tokens; the hottest expert of a layer has "
        f"{sum(answer['skew']) / len(answer['skew']):.2f} times the mean\n"
        f"{answer['unseen_token_share']:.1%} of the tokens have an ID that was not profiled; the median token's "
        f"was profiled {answer['median_samples_of_a_token']:,.0f} times"
    )
    if out is not None:
        click.echo(f"{out}: the predicted popularity")


def _regret_cells(row: Judged) -> list[str]:
    if row.regret is None:
        return []
    made = row.regret.made
    if made is None:
        return ["-", "-", "-", row.regret.failure or ""]
    notes = ["late"] * made.late + [f"{made.overflowed} overflows"] * (made.overflowed > 0)
    return [f"{made.cost:.6g}", f"{row.regret.share:+.2%}", f"{made.latency_s:.2f}", ", ".join(notes)]
