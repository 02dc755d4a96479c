"""Commands about popularity as samples: samples, robust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import FILE, json_option, plugins_option, print_json, seed_option

if TYPE_CHECKING:
    from optimizer.popularity import Predictor
    from optimizer.robust import RobustSolution
    from simulator.plan import DeploymentPlan


@click.command()
@click.option("--profiled", "profiled_path", required=True, type=FILE, help="Trace to learn from.")
@click.option("--serve", "served_path", required=True, type=FILE, help="Trace whose popularity is predicted.")
@click.option("--predictor", default="bayes", show_default=True)
@click.option("--variant", default="printed", show_default=True, help="Of bayes: printed, mixture, backoff.")
@click.option("--counting", default="expected", show_default=True, help="hard or expected.")
@click.option("--count", default=50, show_default=True, help="Samples.")
@click.option("--resample-served", is_flag=True, help="Draw the served sequences too: for batches to come.")
@click.option(
    "--held-out", is_flag=True, help="Batches instead, with the errors on parts of the profile that are left out."
)
@click.option("--out", required=True, type=FILE)
@plugins_option
@seed_option
@json_option
def samples(
    profiled_path: Path,
    served_path: Path,
    predictor: str,
    variant: str,
    counting: str,
    count: int,
    resample_served: bool,
    held_out: bool,
    out: Path,
    plugins: tuple[Path, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Predict the popularity many times, each time from other draws of the profiled sequences (bootstrap).

    \b
    Example: ./smoe samples --profiled a.parquet --serve b.parquet --count 50 --out samples.parquet
             ./smoe samples --profiled a.parquet --serve b.parquet --count 39 --held-out --out batches.parquet
    """
    from experiments.run.inputs import make_predictor
    from experiments.run.schema import Prediction
    from moe.files import validated
    from moe.plugins import look_in
    from moe.trace import load_trace
    from optimizer.popularity.popularity_file import save_samples
    from optimizer.robust import bootstrap, held_out_batches

    look_in(Path.cwd(), *plugins)
    profiled, served = load_trace(profiled_path), load_trace(served_path)
    options = validated(Prediction, {"predictor": predictor, "variant": variant, "counting": counting}, "samples")

    def make() -> Predictor:
        return make_predictor(predictor, options)

    if held_out:
        predicted = make().fit(profiled).predict(served.token_id, served)
        found = held_out_batches(make, profiled, predicted, served.tokens, count, seed)
    else:
        found = bootstrap(make, profiled, served, count, seed, resample_served)
    save_samples(found, out)
    spread = float(found.std(axis=0).mean() / found.mean())
    if as_json:
        print_json({"out": str(out), "samples": count, "spread": spread, "mean": found.mean(axis=0).tolist()})
    else:
        click.echo(f"{out}: {count} samples; the load of an expert varies by {spread:.1%} of the mean load")


@click.command()
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.option("--samples", "samples_path", required=True, type=FILE, help="Popularity samples (smoe samples).")
@click.option("--risk", default="mean", show_default=True, help="mean or quantile of the samples' bills.")
@click.option("--quantile", default=0.9, show_default=True)
@click.option("--limit-share", type=float, help="Samples that must keep the limit; default: their mean must.")
@click.option("--overflow", default="foreseen", show_default=True, help="foreseen, or retry: first a call fails.")
@click.option("--beta", type=click.Choice(["per-layer", "global"]), default="per-layer", show_default=True)
@click.option("--out", type=FILE, help="Write the plan there.")
@json_option
def robust(
    problem_path: Path,
    samples_path: Path,
    risk: Any,
    quantile: float,
    limit_share: float | None,
    overflow: Any,
    beta: Any,
    out: Path | None,
    as_json: bool,
) -> None:
    """Plan for uncertain popularity, and say what that is worth: bound, plan for the mean, perfect information.

    \b
    Example: ./smoe robust problem.json --samples samples.parquet --limit-share 0.95 --out plan.json
    """
    from moe.files import write_json
    from optimizer.popularity.popularity_file import load_samples
    from optimizer.robust import Criterion, plan_robustly
    from optimizer.solvers import timed
    from simulator.plan import OBJECTIVE_UNIT, read_problem

    problem = read_problem(problem_path)
    criterion = Criterion(risk, quantile, limit_share, overflow)
    samples = load_samples(samples_path)
    solved, found = timed(problem, "robust", lambda each: plan_robustly(each, samples, criterion, beta))
    if out is not None:
        write_json(out, solved)
    if as_json:
        print_json(as_data(solved, found))
        return
    unit = OBJECTIVE_UNIT[problem.objective]
    what = "mean bill" if risk == "mean" else f"bill that {quantile:.0%} of the samples do not exceed"
    click.echo(f"{found.samples} samples, {what}: {found.cost:.6g} {unit}, latency {found.latency_s:.6g} s")
    click.echo(f"over the limit: {found.over_limit:.0%} of the samples")
    if found.cost_bound is not None and found.perfect_information_at_most is not None:
        click.echo(
            f"no plan is below {found.cost_bound:.6g} {unit}: knowing the popularity would save "
            f"{found.perfect_information_at_most / found.cost:.2%} at most"
        )
    click.echo(
        f"the plan for the mean popularity: {found.mean_plan_cost:.6g} {unit}, {found.mean_plan_latency_s:.6g} s"
    )


def as_data(plan: DeploymentPlan, found: RobustSolution) -> dict[str, Any]:
    """A robust plan and its numbers as JSON; null where there is no number."""
    import math

    numbers = {name: getattr(found, NUMBERS[name]) for name in NUMBERS}
    finite = {name: x if x is not None and math.isfinite(x) else None for name, x in numbers.items()}
    return finite | {"samples": found.samples, "plan": plan.model_dump(mode="json", by_alias=True)}


NUMBERS = {
    "cost": "cost",
    "latency_s": "latency_s",
    "over_limit": "over_limit",
    "lower_bound": "cost_bound",
    "mean_plan_cost": "mean_plan_cost",
    "mean_plan_latency_s": "mean_plan_latency_s",
    "stochastic_gain": "stochastic_gain",
    "perfect_information_at_most": "perfect_information_at_most",
}
"""By their names in JSON, the solution's attributes."""
