"""A good file of each kind that the project reads, small, and what reads it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import EXAMPLES
from tests.faults.mutations import MUST_REFUSE

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "experiments" / "configs"
TEXT = ("bytes", "lines", "mapping", "mapping", "mapping")
TABLE = ("bytes", "table")

EXPERIMENT = """
schema: experiment/1
name: tiny
about: A law's popularity.
seed: 1
workload:
  spec: minilm-moe
  experts: 4
  popularity: {law: zipf, exponent: 0.8, drift: 0.5}
  profiled_tokens: 512
  batch_tokens: 256
  batches: 2
prediction: {predictor: bayes, variant: printed, counting: hard}
platform: {max_replicas: 4, memory_mb: [512, 1769, 3008]}
target: {throughput_of_lambdaml: 0.8}
simulation: {start: just-in-time}
plans: [ods, lambdaml]
"""
SCENARIO = """
schema: traffic-scenario/1
name: tiny
arrivals: {poisson: {rate_per_s: 5}}
duration_s: 5
slo_s: 0.5
batching: {max_requests: 2, timeout_s: 0.1}
prewarming: {policy: keep-warm, options: {every_s: 60, instances: 2}}
function: {memory_mb: 1769, work: {quantiles_s: {0.5: 0.12, 0.9: 0.2}}}
"""
CAMPAIGN = """
schema: probe-campaign/1
name: tiny
runs: 3
packages: {plain: {}}
probes:
  - {probe: cold, packages: [plain], memory_mb: [512, 1769], samples: 3}
  - {probe: warm, memory_mb: [512, 1769], samples: 20}
"""
SETTINGS = """seed=3
workload.batch_tokens=128
plans=[ods, exact]
platform.memory_mb=[512, 1769]
target.throughput_of_lambdaml=0.5
"""
SWEEP = "sweep:\n  grid: {slo_s: [0.5, 1]}\n  seeds: 2\n"


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        write: writes a good one into a folder, and returns its path.
        read: reads it, as a command does: a reader (which may raise InputError), or the words of a command.
        hows: ways to damage it.
        refuses: damage that may not be passed over.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    hows: tuple[str, ...]
    refuses: frozenset[str] = MUST_REFUSE


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _copy(source: Path, *beside: Path) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for file in beside:
            shutil.copyfile(file, folder / file.name)
        return Path(shutil.copyfile(source, folder / source.name))

    return write


def _experiment(path: Path) -> None:
    from experiments.run.inputs import load_inputs
    from experiments.run.schema import load_experiment

    load_inputs(load_experiment(path))


def _scenario(path: Path) -> None:
    from simulator.traffic.open_loop import read_inputs
    from simulator.traffic.scenario import load_scenario

    read_inputs(load_scenario(path))


def _settings(path: Path) -> None:
    from experiments.run.inputs import load_inputs
    from experiments.run.schema import load_experiment

    _text("experiment.yaml", EXPERIMENT)(path.parent)
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    load_inputs(load_experiment(path.parent / "experiment.yaml", [line for line in lines if line]))


def _sweep(path: Path) -> None:
    from experiments.sweep.kinds import SCENARIOS
    from experiments.sweep.points import load_sweep

    load_sweep(path, (), SCENARIOS)


def _map(path: Path) -> None:
    from experiments.cost.decision_map_file import DecisionMap
    from moe.files import read_settings, validated

    validated(DecisionMap, read_settings(path, ()), path)


def _plan(path: Path) -> None:
    from optimizer import evaluate
    from simulator.plan import read_plan, read_problem

    problem = read_problem(EXAMPLES / "tiny.problem.json")
    evaluate(problem, read_plan(path, problem))


def _spec(path: Path) -> None:
    from moe.spec import load_spec

    load_spec(str(path))


def _corpus(path: Path) -> None:
    from moe.text.corpora import load_corpus

    load_corpus(str(path))


def _arrivals(folder: Path) -> Path:
    path = folder / "arrivals.csv"
    path.write_text("time_s,tokens\n" + "".join(f"{x / 8:.3f},{x}\n" for x in range(60)))
    return path


def _arrivals_read(path: Path) -> None:
    text = SCENARIO.replace("{poisson: {rate_per_s: 5}}", "{trace: {file: arrivals.csv}}").replace(
        "duration_s: 5\n", ""
    )
    (path.parent / "scenario.yaml").write_text(text)
    _scenario(path.parent / "scenario.yaml")


def _trace(tokens: int = 200, seed: int = 0) -> Any:
    from tests.optimizer.popularity.test_scored import random_trace

    return random_trace(seed, tokens=tokens, vocabulary=20)


def _routing(name: str) -> Callable[[Path], Path]:
    """Routing of another system: 40 tokens, 2 layers, top-2 of 4 experts (of a CSV the first alone)."""
    rng = np.random.default_rng(0)
    chosen = np.stack([[rng.permutation(4)[:2] for _ in range(2)] for _ in range(40)])

    def write(folder: Path) -> Path:
        path = folder / name
        rows = [(t, layer, *pair) for t, layers in enumerate(chosen.tolist()) for layer, pair in enumerate(layers)]
        match path.suffix:
            case ".npy":
                np.save(path, chosen)
            case ".npz":
                np.savez(path, routed_experts=chosen)
            case ".csv":
                path.write_text("layer,expert\n" + "".join(f"{layer},{first}\n" for _, layer, first, _ in rows))
            case ".jsonl":
                lines = [
                    {"layer_idx": layer, "token_idx": t, "selected_ids": pair, "gate_weights": [0.75, 0.25]}
                    for t, layer, *pair in rows
                ]
                path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


def _import(path: Path) -> list[str]:
    return ["import", str(path), "--out", str(path.parent / "out.parquet"), "--json"]


def _trace_file(folder: Path) -> Path:
    from moe.trace import save_trace

    save_trace(_trace(), folder / "trace.parquet")
    return folder / "trace.parquet"


def _trace_read(path: Path) -> None:
    from moe.trace import load_trace

    load_trace(path).popularity()


def _table_file(folder: Path) -> Path:
    from optimizer.popularity import ProfileTable, save_table

    save_table(ProfileTable.from_trace(_trace()), folder / "table.parquet")
    return folder / "table.parquet"


def _table_read(path: Path) -> None:
    from optimizer.popularity.table_file import load_table

    load_table(path)


def _popularity(folder: Path) -> Path:
    from optimizer.popularity.popularity_file import save_popularity

    save_popularity(np.full((6, 4), 64.0), folder / "popularity.parquet")
    return folder / "popularity.parquet"


def _samples(folder: Path) -> Path:
    from optimizer.popularity.popularity_file import save_samples

    save_samples(np.full((5, 2, 3), 10.0), folder / "samples.parquet")
    return folder / "samples.parquet"


def _samples_read(path: Path) -> None:
    from optimizer.popularity.popularity_file import load_samples

    load_samples(path)


def tuning_files(folder: Path) -> None:
    """A problem, a profiled trace and one to serve."""
    from moe.files import write_json
    from moe.trace import save_trace
    from tests.optimizer.bo.bo_cases import binding_limit_s, small_problem

    write_json(folder / "problem.json", small_problem(binding_limit_s()))
    save_trace(_trace(400, 1), folder / "profiled.parquet")
    save_trace(_trace(3100, 5), folder / "serve.parquet")


TUNE = ("tune", "problem.json", "--profiled", "profiled.parquet", "--serve", "serve.parquet", "--set", "pairs=40")
PROBE = ("probe", "--backend", "simulated", "--campaign", "tiny.yaml")


@functools.cache
def _made(words: tuple[str, ...]) -> tempfile.TemporaryDirectory[str]:
    """A folder in which a command was typed, once for all tests; gone when Python ends."""
    made = tempfile.TemporaryDirectory()
    folder = Path(made.name)
    (folder / "scenario.yaml").write_text(SCENARIO)
    (folder / "tiny.yaml").write_text(CAMPAIGN)
    if words[0] == "tune":
        tuning_files(folder)
    command = [sys.executable, "-P", "-m", "experiments", *words, "--out", "out"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    subprocess.run(command, cwd=folder, env=variables, check=True, capture_output=True)
    return made


def _of_a_run(file: str, *words: str) -> Callable[[Path], Path]:
    """A file in the folder of a run that has ended."""

    def write(folder: Path) -> Path:
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.copytree(_made(words).name, folder, dirs_exist_ok=True)
        return folder / "out" / file

    return write


KINDS: dict[str, Kind] = {
    "experiment": Kind(_text("experiment.yaml", EXPERIMENT), _experiment, TEXT),
    "scenario": Kind(_text("scenario.yaml", SCENARIO), _scenario, TEXT),
    "application": Kind(_copy(CONFIGS / "traffic" / "workflow.yaml"), _scenario, TEXT),
    "scenario of a model": Kind(
        _copy(CONFIGS / "traffic" / "moe.yaml", *(CONFIGS / "traffic").glob("*.json")), _scenario, TEXT
    ),
    "sweep": Kind(_text("sweep.yaml", SCENARIO + SWEEP), _sweep, TEXT),
    "map": Kind(_copy(CONFIGS / "map.yaml"), _map, TEXT),
    "campaign": Kind(
        _copy(ROOT / "lambda_probe" / "campaign" / "quick.yaml"),
        lambda path: ["probe", "--backend", "simulated", "--dry-run", "--campaign", str(path), "--json"],
        TEXT,
    ),
    "profile": Kind(
        _copy(ROOT / "simulator" / "profiles" / "aws-us-east-1-2026.yaml"),
        lambda path: ["profile", "show", str(path)],
        TEXT,
    ),
    "spec": Kind(_copy(ROOT / "moe" / "presets" / "bert-moe.yaml"), _spec, TEXT),
    "problem": Kind(
        _copy(EXAMPLES / "tiny.problem.json"),
        lambda path: ["plan", str(path), "--solver", "ods", "--json"],
        TEXT,
    ),
    "plan": Kind(_copy(EXAMPLES / "tiny.plan.json"), _plan, TEXT),
    "plan that is played": Kind(
        _copy(EXAMPLES / "tiny.plan.json"),
        lambda path: ["simulate", str(EXAMPLES / "tiny.problem.json"), str(path), "--json"],
        ("mapping",),
    ),
    "text": Kind(_text("text.txt", "A fox and a hound.\n\n" * 40), _corpus, ("bytes", "lines")),
    "arrivals": Kind(_arrivals, _arrivals_read, ("bytes", "lines", "lines")),
    "routing .npy": Kind(_routing("routing.npy"), _import, ("bytes",)),
    "routing .npz": Kind(_routing("routing.npz"), _import, ("bytes",)),
    "routing .csv": Kind(_routing("routing.csv"), _import, ("bytes", "lines", "lines")),
    "routing .jsonl": Kind(_routing("routing.jsonl"), _import, ("bytes", "lines")),
    "trace": Kind(_trace_file, _trace_read, TABLE),
    "profile table": Kind(_table_file, _table_read, TABLE),
    "popularity": Kind(
        _popularity,
        lambda path: [
            "problem",
            "--model",
            "minilm-moe",
            "--popularity",
            str(path),
            "--out",
            "out.json",
            "--json",
        ],
        TABLE,
    ),
    "samples": Kind(_samples, _samples_read, TABLE),
    "settings": Kind(_text("settings.txt", SETTINGS), _settings, ("bytes", "lines")),
    "result of a run": Kind(
        _of_a_run("result.json", "traffic", "scenario.yaml"),
        lambda path: ["report", str(path.parent)],
        ("bytes", "mapping", "mapping"),
        frozenset({"key twice"}),  # what the page does not read is left alone
    ),
    "rows of a campaign": Kind(
        _of_a_run("rows.jsonl", *PROBE), lambda path: [*PROBE, "--out", str(path.parent)], ("bytes", "lines")
    ),
    "measurements": Kind(
        _of_a_run("measurements.parquet", *PROBE),
        lambda path: ["calibrate", str(path.parent), "--out", "calibrated.yaml"],
        TABLE,
    ),
    "history": Kind(
        _of_a_run("history.parquet", *TUNE, "--trials", "2"),
        lambda path: [*TUNE, "--trials", "2", "--resume", "--out", str(path.parent)],
        TABLE,
    ),
}
