"""What all tests share: the reference problems, and a cache folder of their own."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from moe.plugins import PLACES
from simulator.plan import DeploymentPlan, DeploymentProblem, read_plan, read_problem

EXAMPLES = Path(__file__).parent / "reference" / "examples"
NAMES = ("tiny", "bert-4", "bert-8", "bert2bert-4", "zero-and-uneven", "whole-bill", "measured-platform")

settings.register_profile("smoe", deadline=None, derandomize=True)
settings.load_profile("smoe")


def reference(name: str) -> tuple[DeploymentProblem, DeploymentPlan, dict[str, Any]]:
    """A reference problem, a plan for it, and what an independent program found for both."""
    problem = read_problem(EXAMPLES / f"{name}.problem.json")
    plan = read_plan(EXAMPLES / f"{name}.plan.json", problem)
    return problem, plan, json.loads((EXAMPLES / "expected.json").read_text())[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every worker begins with its share of the slow tests: at the end, one would run the last of them alone."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    modules = [list(of) for _, of in itertools.groupby(slow, key=lambda item: item.path)]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ordered: list[pytest.Item] = []
    for k in range(workers):  # xdist deals them out in such runs
        mine = [item for module in modules[k::workers] for item in module]
        size = (len(items) - len(ordered)) // (workers - k)
        ordered += mine + quick[: max(0, size - len(mine))]
        del quick[: max(0, size - len(mine))]
    items[:] = ordered + quick


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that an earlier test ran in this process has not said where modules of one's own are."""
    monkeypatch.delenv(PLACES, raising=False)
