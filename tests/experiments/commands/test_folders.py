"""Where the program may stand: beside files named as its packages, or installed without a checkout."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES

ROOT = Path(__file__).resolve().parents[3]
TINY = str(EXAMPLES / "tiny.problem.json")
OWN = "from optimizer import solve\n\n\ndef best(problem):\n    return solve(problem)\n"


def typed(folder: Path, *arguments: str, code: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Type `smoe` in a folder."""
    command = [sys.executable, "-P", "-m", "experiments", *arguments]
    variables = os.environ | {"PYTHONPATH": str(code), "MPLBACKEND": "agg"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """A folder with files and folders named as packages of this project and as others that it uses."""
    for name in ("simulator", "moe"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("1,2\n")
    (tmp_path / "experiments").mkdir()
    for file in ("experiments/__init__.py", "experiments/__main__.py", "html.py", "flask.py", "boto3.py"):
        (tmp_path / file).write_text("raise SystemExit('the code of the user ran')\n")
    return tmp_path


def test_the_script_runs_python_so_that_the_current_folder_shadows_nothing() -> None:
    assert 'exec "$venv/bin/python" -P -m experiments "$@"' in (ROOT / "smoe").read_text(encoding="utf-8")


def test_what_lies_in_the_current_folder_is_not_run(shadows: Path) -> None:
    for arguments in (("profile", "show", "aws-us-east-1-2026"), ("plan", TINY, "--solver", "ods")):
        done = typed(shadows, *arguments)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="AWS's runtime client is for Linux")
def test_processes_that_are_started_there_run_nothing_of_it_either(shadows: Path) -> None:
    """The S3 server of the embedded endpoint is a process of its own, which imports flask and moto."""
    command = [sys.executable, "-P", "-m", "experiments", "local-lambda"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=shadows, env=variables, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True
    ) as running:
        assert running.stderr is not None
        said = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert "Lambda and S3 run on this machine" in said
    assert running.returncode == 0


def test_a_solver_in_the_current_folder_is_found_behind_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "yaml.py").write_text(OWN)
    done = typed(tmp_path, "plan", TINY, "--solver", "mine:best")
    assert (done.returncode, "mine:best: " in done.stdout) == (0, True), done.stderr
    done = typed(tmp_path, "plan", TINY, "--solver", "yaml:best")
    assert (done.returncode, "yaml is a module of Python or of a package" in done.stderr) == (2, True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of this project puts into site-packages."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    kept = shutil.ignore_patterns(".*", "__pycache__", "results", "tests", "build", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=kept)  # it is built there: nothing is left in the checkout
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", str(source)]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_a_wheel_holds_every_file_that_the_program_reads(installed: Path) -> None:
    packages = ("moe", "simulator", "optimizer", "calibration", "lambda_probe", "experiments", "serverless_moe.py")
    listed = subprocess.run(["git", "ls-files", *packages], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no repository")
    missing = [file for file in listed.stdout.split() if not (installed / file).is_file()]
    assert missing == []


@pytest.mark.slow
def test_an_installed_copy_runs_a_packaged_experiment_from_any_folder(installed: Path, tmp_path: Path) -> None:
    sizes = [f"--set=workload.{key}" for key in ("popularity={}", "profiled_tokens=64", "batch_tokens=64")]
    done = typed(
        tmp_path,
        "run",
        "quickstart",
        *sizes,
        "--set=plans=[lambdaml]",
        "--set=target.late_share=null",
        code=installed,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert '"git_commit": null' in (folder / "provenance.json").read_text()
    done = typed(tmp_path, "test", code=installed)
    assert (done.returncode, "the tests are in the checkout" in done.stderr) == (2, True)


def test_an_unknown_packaged_experiment_names_the_nearest(tmp_path: Path) -> None:
    done = typed(tmp_path, "run", "quickstrat")
    assert done.returncode == 2
    assert done.stderr == (
        "smoe: quickstrat: no such file, and no packaged one of that name; did you mean 'quickstart'?\n"
    )
