"""`smoe local-lambda`: if these fail, a user's boto3 program does not reach it, or it leaves something behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "experiments", "local-lambda"]
PROGRAM = (
    "import boto3; boto3.client('s3').create_bucket(Bucket='data'); print(boto3.client('lambda').list_functions())"
)
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="AWS's runtime client is for Linux")


@contextmanager
def started(*options: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    command, variables = [*COMMAND, *options], {**os.environ, **environment}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=-1, stderr=-1, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_its_variables_are_all_that_a_boto3_program_needs(sent: signal.Signals, tmp_path: Path) -> None:
    with started(TMPDIR=str(tmp_path)) as running:
        lines = [running.stdout.readline() for _ in range(5)]
        variables = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
        assert {"AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL_S3"} < set(variables)
        user = {"PATH": os.environ["PATH"], **variables}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=user, capture_output=True, text=True, check=False
        )
        assert "'Functions': []" in done.stdout, done.stderr
        running.send_signal(sent)
        _, said = running.communicate(timeout=20)
        assert running.returncode == 0
    assert "stopped; functions, buckets and processes are gone" in said
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object() -> None:
    with started("--json") as running:
        running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=20)
    assert json.loads(out)["AWS_ENDPOINT_URL_S3"].startswith("http://127.0.0.1:")


def test_a_setting_that_cannot_be_is_bad_input() -> None:
    done = subprocess.run([*COMMAND, "--keep-alive", "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "keep_alive_s=0.0: expected a number above 0" in done.stderr
