"""Commands about the installation itself: test, doctor, clean, schema."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from experiments.commands.options import print_json
from moe.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FAULT_TESTS = ("tests/faults", "tests/lambda_probe/local")
IDLE_WORKERS = 1  # beyond the cores: tests of the embedded endpoint and of killed commands mostly wait


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.option("--faults", is_flag=True, help="Damaged files, kills and attacks: all of them (docs/simulator.md).")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="With --faults: which of them.")
@click.option("--all", "also_slow", is_flag=True, help="Also the tests that take long.")
@click.option("--coverage", is_flag=True, help="Say which lines of the packages no test ran.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(faults: bool, seed: int, also_slow: bool, coverage: bool, arguments: tuple[str, ...]) -> int:
    """Run the tests, on a few cores at once; arguments go to pytest. Example: ./smoe test -k exact -n 0

    Those that take long (whole campaigns, live models, the tutorial) run with --all. Example: ./smoe test --all
    With --faults, all damaged files, kills and attacks of a --seed. Example: ./smoe test --faults --seed 3
    """
    import os
    import subprocess

    from joblib import cpu_count

    from experiments.tools.workers import ONE_THREAD

    if not (ROOT / "tests").is_dir():
        raise InputError("test: the tests are in the checkout, not in what is installed: expected ./smoe there")

    spread = ["-n", str(cpu_count() + IDLE_WORKERS), "--dist", "worksteal"]
    chosen = [*FAULT_TESTS, "-m", "faults"] if faults else [] if also_slow else ["-m", "not slow"]
    traced = ["-m", "slipcover"] if coverage else []
    asked = [sys.executable, *traced, "-m", "pytest", *spread, *chosen, *arguments]
    variables = os.environ | ONE_THREAD | ({"SMOE_FAULTS_SEED": str(seed)} if faults else {})
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else hundreds of processes compile the same sources
    code = subprocess.run(asked, cwd=ROOT, env=variables, check=False).returncode
    if not (faults or also_slow):
        click.echo("tests that take long were left out: ./smoe test --all")
    return code


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(as_json: bool) -> int:
    """Say what is installed and works here. Example: ./smoe doctor"""
    from experiments.tools.doctor import checks

    found = checks()
    if as_json:
        print_json({check.name: {"ok": check.ok, "what": check.what} for check in found})
    else:
        for check in found:
            click.echo(f"{'ok ' if check.ok else 'NO '} {check.name:<22} {check.what}")
    return 0 if all(check.ok for check in found) else 1


@click.command()
@click.option("--runs", is_flag=True, help="Also remove results/runs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(runs: bool, yes: bool) -> None:
    """Remove the caches (recorded routing, converted models), and say where they were; nothing else beside them.

    \b
    Example: ./smoe clean --yes
    """
    from moe.cache import cache_dir, cached

    _remove(cache_dir(), cached(), yes)
    if runs:
        folder = Path.cwd() / "results" / "runs"
        _remove(folder, [each for each in sorted(folder.glob("*")) if _is_run(each)], yes)


MADE_BY_RUNS = ("provenance.json", "history.parquet", "validation.json", "unfinished.parquet", "cells", ".lock")


def _is_run(path: Path) -> bool:
    return not path.is_symlink() and any((path / name).exists() for name in MADE_BY_RUNS)


def _remove(folder: Path, ours: list[Path], yes: bool) -> None:
    """Remove what is ours in a folder, and the folders that are empty then."""
    import shutil

    if not ours:
        click.echo(f"{folder}: nothing to remove")
        return
    files = [file for each in ours for file in (each, *each.rglob("*")) if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if not (yes or click.confirm(f"{folder}: remove {size / 1e6:,.0f} MB?")):
        return
    for each in ours:
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()
    for each in sorted({*(each.parent for each in ours), folder}, reverse=True):  # those inside first
        if not any(each.iterdir()):
            each.rmdir()
    click.echo(f"{folder}: removed {size / 1e6:,.0f} MB")
    if folder.exists():
        left = ", ".join(sorted(each.name for each in folder.iterdir()))
        click.echo(f"{folder}: kept what was not made by smoe: {left}")


@click.command()
@click.argument(
    "what",
    type=click.Choice(["experiment", "cost", "traffic", "profile", "problem", "plan"]),
    default="experiment",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it there instead of stdout.")
def schema(what: str, out: Path | None) -> None:
    """Print the JSON Schema of a kind of file that people write, for editors.

    \b
    Example: ./smoe schema traffic --out traffic.schema.json, and as the first line of the YAML
             # yaml-language-server: $schema=traffic.schema.json
    """
    import json

    from experiments.sweep.kinds import CostFile, ExperimentFile, ScenarioFile
    from moe.files import FileModel, write_whole
    from simulator.plan import DeploymentPlan, DeploymentProblem
    from simulator.profiles.schema import PlatformProfile

    models: dict[str, type[FileModel]] = {
        "experiment": ExperimentFile,
        "cost": CostFile,
        "traffic": ScenarioFile,
        "profile": PlatformProfile,
        "problem": DeploymentProblem,
        "plan": DeploymentPlan,
    }
    text = json.dumps(models[what].model_json_schema(by_alias=True), indent=1)
    if out is None:
        click.echo(text)
    else:
        write_whole(out, text + "\n")
