"""Running the command line inside the tests."""

import sys
from collections.abc import Callable, Iterator

import pytest

from experiments import cli
from moe.plugins import PLACES

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def smoe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line; returns exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["smoe", *arguments])
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as it sets itself; gone when the test ends
        monkeypatch.setenv(PLACES, "")  # as a command sets them
        monkeypatch.setattr(sys, "path", [*sys.path])  # where plug-ins are looked for, too
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be started or spoken to."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a platform was touched")

    monkeypatch.setattr("boto3.Session.client", refuse)
    monkeypatch.setattr("lambda_probe.local.LocalEndpoint.__init__", refuse)


@pytest.fixture(scope="module")
def no_recording() -> Iterator[None]:
    """Synthetic routing in the paper's figures instead of a recording, for all tests of a module."""
    from experiments.paper import routing
    from tests.experiments.paper.cases import synthetic

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "recorded", synthetic)
        yield
