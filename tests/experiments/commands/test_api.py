"""The door for Python: if these fail, a researcher's first lines end in an error, or take seconds to import."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import serverless_moe as smoe
from tests.experiments.conftest import Run

ROOT = Path(__file__).resolve().parents[3]
CAMPAIGN = """
schema: probe-campaign/1
name: tiny
runs: 2
probes:
  - {probe: warm, memory_mb: [512], samples: 5}
"""


@pytest.fixture
def campaign(smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own folder to be in, with a measured campaign."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CAMPAIGN)
    assert smoe("probe", "--backend", "simulated", "--campaign", "tiny.yaml", "--out", "campaign")[0] == 0


def held(text: str, name: str) -> int:
    """Run the examples of a text; returns how many there are."""
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    said: list[str] = []
    failures = doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed
    assert failures == 0, "".join(said)
    return len(test.examples)


@pytest.mark.usefixtures("campaign")
@pytest.mark.parametrize("page", ["docs/api.md", "README.md"])
def test_every_example_of_a_page_says_what_python_says(page: str) -> None:
    assert held((ROOT / page).read_text(encoding="utf-8").replace("```", ""), page) >= 5


@pytest.mark.usefixtures("campaign")
@pytest.mark.parametrize("name", [name for name in smoe.__all__ if name not in ("InputError", "Infeasible")])
def test_every_name_of_the_door_has_an_example_that_holds(name: str) -> None:
    assert held(getattr(smoe, name).__doc__, name) >= 2


def test_the_page_uses_every_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in smoe.__all__ if not re.search(rf"\b{name}\b", page)] == []


def test_importing_the_door_imports_nothing_heavy() -> None:
    script = "import sys, serverless_moe; print({'torch', 'pandas', 'scipy', 'simpy', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_the_door_lists_its_names_and_says_the_nearest() -> None:
    assert dir(smoe) == sorted(smoe.__all__) == sorted(smoe._FROM)
    with pytest.raises(AttributeError, match="no 'plam'; did you mean 'plan'"):
        smoe.plam  # noqa: B018


def test_what_is_large_shows_itself_in_one_line_and_as_a_table() -> None:
    """Else a notebook prints every record of a run."""
    spec, profile = smoe.load_spec("bert-moe"), smoe.load_profile()
    problem = smoe.make_problem(spec, [[5120, 2560, 1536, 1024]] * 12, profile)
    plan = smoe.plan(problem, "lambdaml")
    for value in (profile, problem, plan, smoe.evaluate(problem, plan), smoe.simulate(problem, plan, profile)):
        assert len(str(value)) < 250
        assert repr(value).startswith(type(value).__name__ + "(")
        table = value._repr_html_()
        assert table.startswith("<table>")
        assert len(table) < 1000
    assert "<b>" not in problem.model_copy(update={"name": "<b>"})._repr_html_()
