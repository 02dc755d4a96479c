"""Code that data may call: if these fail, a file that somebody sent runs what it likes on the reader's machine."""

import sys
from pathlib import Path

import pytest

from moe.errors import InputError
from moe.plugins import PLACES, load_object, look_in, module_file

OWN = """
import os
from os import abort, path
from subprocess import Popen
from pathlib import Path

READ = Path(__file__).with_name("read").touch()

class Policy:
    def arrived(self, service, function): ...

def made(problem): ...

handy = made.__call__
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where own code is, and the current one, where it is not."""
    there = tmp_path / "there"
    for folder in (there, there / "package", tmp_path / "here"):
        folder.mkdir()
    for file in ("own_code_a.py", "package/own_code_b.py"):
        (there / file).write_text(OWN)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setenv(PLACES, "")
    look_in(there)
    return there


@pytest.mark.parametrize(
    "name",
    [
        *("subprocess:Popen", "os:abort", "os:system", "builtins:exec", "numpy:save", "yaml:load"),
        *("moe.plugins:load_object", "simulator.cloud.prewarming:KeepWarm", "antigravity:x"),
    ],
)
def test_nothing_of_python_or_of_a_package_is_called_or_even_imported(places: Path, name: str) -> None:
    """Some modules of the standard library do things when they are imported: antigravity opens a browser."""
    known = set(sys.modules)
    for methods in ((), ("fit", "predict"), ("arrived",)):
        with pytest.raises(InputError, match=r"no module [\w.]+ of your own in"):
            load_object(name, "solver", methods)
    assert set(sys.modules) == known


def test_what_a_place_asks_for_is_found_there_and_nowhere_else(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_object("own_code_a:made", "solver").__name__ == "made"
    assert load_object("package.own_code_b:made", "solver").__module__ == "package.own_code_b"
    assert load_object("own_code_a:Policy", "prewarming", ("arrived",)).__name__ == "Policy"
    assert module_file("own_code_a:made") == places / "own_code_a.py"
    assert module_file("os:abort") is None
    look_in()
    with pytest.raises(InputError, match="no module own_code_a of your own"):
        load_object("own_code_a:made", "solver")


@pytest.mark.parametrize("attribute", ["abort", "Popen", "path", "os", "READ", "handy", "nothing", "Policy"])
def test_what_an_own_module_brings_from_elsewhere_is_not_called(places: Path, attribute: str) -> None:
    with pytest.raises(InputError, match=r"expected a function that it defines"):
        load_object(f"own_code_a:{attribute}", "solver")
    if attribute != "Policy":
        with pytest.raises(InputError, match=r"expected a class with arrived"):
            load_object(f"own_code_a:{attribute}", "prewarming", ("arrived",), functions=False)


def test_a_file_that_is_named_brings_itself_alone(places: Path) -> None:
    look_in(places / "own_code_a.py")
    assert load_object("own_code_a:made", "solver").__name__ == "made"
    with pytest.raises(InputError, match=r"no module package\.own_code_b of your own"):
        load_object("package.own_code_b:made", "solver")


@pytest.mark.parametrize("taken", ["json", "yaml", "numpy", "sys"])
def test_an_own_file_takes_the_place_of_nothing(places: Path, taken: str) -> None:
    """Half the program would go on with the user's file instead of the library."""
    (places / f"{taken}.py").write_text(OWN)
    with pytest.raises(InputError, match=f"{taken} is a module of Python or of a package"):
        load_object(f"{taken}:made", "solver")
    assert not (places / "read").exists()


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "1 / 0", "def made(:", "import no_such_thing"])
def test_an_own_file_that_fails_is_told_in_one_line(places: Path, text: str) -> None:
    (places / "own_code_c.py").write_text(text)
    with pytest.raises(InputError, match=r"^solver: 'own_code_c:made': cannot import own_code_c: \w+"):
        load_object("own_code_c:made", "solver")
