"""Results are keyed by the code that their numbers come from.

Too much of it, and a word in a page makes half an hour of figures compute anew; too little, and old numbers stand.
"""

import ast
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from experiments.paper.figure import PaperFigure
from experiments.paper.job import FIGURES
from experiments.run.folder import COMPUTED_BY
from experiments.tools import code_key
from simulator.traffic.scenario import Scenario

Changed = Callable[[str, str], bytes]
SCENARIO = {
    "name": "t",
    "arrivals": {"poisson": {"rate_per_s": 5}},
    "requests": 5,
    "slo_s": 2,
    "function": {"memory_mb": 1769, "work": {"constant_s": 0.1}},
}
MAIN, FIGURE = "experiments.run.main_job", "experiments.paper.figures.rivals.figure"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, to be changed."""
    root = tmp_path_factory.mktemp("code")
    for package in code_key.PROJECT:
        shutil.copytree(code_key.ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def changed(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Changed:
    """The code hash of a module once a text has been added to the end of a file."""
    monkeypatch.setattr(code_key, "ROOT", copied)

    def hashed(file: str, text: str, module: str = MAIN, shown: bool = False) -> bytes:
        before = (copied / file).read_text()
        (copied / file).write_text(before + text)
        found = code_key.code_hash(module, shown)
        (copied / file).write_text(before)
        return found

    return hashed


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("experiments/report/page.py", "x = 1\n"),
        ("experiments/commands/run.py", "x = 1\n"),
        ("experiments/run/report.py", "x = 1\n"),
        ("experiments/run/methods_picture.py", "x = 1\n"),
        ("experiments/paper/page.py", "x = 1\n"),
        ("experiments/tools/console.py", "x = 1\n"),
        ("experiments/paper/figures/rivals/picture.py", "x = 1\n"),
        ("experiments/paper/figures/fig12/figure.py", "x = 1\n"),  # another figure's
        ("calibration/fitting/laws.py", "x = 1\n"),
        ("optimizer/cost_model.py", "\n\n# a comment\n"),
        ("optimizer/cost_model.py", '\n"""A word on the constant above,\n\nin lines."""\n'),
    ],
)
def test_what_changes_no_number_computes_nothing_anew(changed: Changed, file: str, text: str) -> None:
    for module in (MAIN, FIGURE):
        assert changed(file, text, module) == code_key.code_hash(module)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("optimizer/cost_model.py", "x = 1\n"),
        ("optimizer/cost_model.py", 'x = """\n# no comment\n"""\n'),
        ("simulator/cloud/lambda_service.py", "x = 1\n"),
        ("moe/trace.py", "x = 1\n"),
        ("simulator/profiles/aws-us-east-1-2026.yaml", "# of another size\n"),
    ],
)
def test_what_numbers_rest_on_computes_them_anew(changed: Changed, file: str, text: str) -> None:
    for module in (MAIN, FIGURE):
        assert changed(file, text, module) != code_key.code_hash(module)


def test_a_figure_is_judged_and_drawn_anew_where_its_picture_or_claims_change(changed: Changed) -> None:
    """From cells that are kept."""
    for file in ("picture", "claims"):
        new = changed(f"experiments/paper/figures/rivals/{file}.py", "x = 1\n", FIGURE, shown=True)
        assert new != code_key.code_hash(FIGURE, shown=True)


def test_the_modules_that_compute_runs_are_there() -> None:
    for module in COMPUTED_BY.values():
        assert "simulator.cloud.lambda_service" in code_key.modules_of(module)


def test_an_own_solver_s_code_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import BaseModel

    class Asked(BaseModel):
        solver: str

    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own_solver_of_mine.py"
    own.write_text("def solve(problem): ...\n")
    first = code_key.result_key(Asked(solver="own_solver_of_mine:solve"), MAIN)
    own.write_text("def solve(problem): return 1\n")
    assert code_key.result_key(Asked(solver="own_solver_of_mine:solve"), MAIN) != first


def _shown_names(module: str) -> Iterator[tuple[str, str]]:
    """What a module imports by name from modules that only show results."""
    file = code_key._file(module)
    assert file is not None
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and code_key.shows(node.module):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("figure", FIGURES.values(), ids=list(FIGURES))
def test_no_number_of_a_figure_is_taken_from_a_module_that_is_not_in_its_key(figure: PaperFigure) -> None:
    """A constant that stands in claims.py or picture.py could change, and cells of before it would be kept."""
    for module in code_key.modules_of(figure.compute.__module__):
        for shown, name in _shown_names(module):
            assert callable(getattr(import_module(shown), name)), f"{module}: {name} of {shown}"


@pytest.mark.parametrize("figure", FIGURES.values(), ids=list(FIGURES))
def test_a_figure_is_keyed_by_all_of_its_own_code(figure: PaperFigure) -> None:
    """Fig. 4, 11 and 14 take their rows from a module that knows nothing of their tables, claims and pictures."""
    own = {x.__module__ for x in (figure.compute, figure.table, figure.claims, figure.draw) if x is not None}
    assert own <= code_key.modules_of(figure.module, shown=True)


@pytest.mark.parametrize("text", ["x" * 256, "a/" * 3000, "a\0b", "x" * 300 + ":main"])
def test_a_text_that_can_be_no_file_s_name_has_a_key(text: str) -> None:
    """A paragraph in `about` is no file; it changes the key as any other word does."""
    asked = Scenario.model_validate({**SCENARIO, "schema": "traffic-scenario/1", "about": text})
    assert code_key.result_key(asked, MAIN) != code_key.result_key(asked.model_copy(update={"about": ""}), MAIN)
