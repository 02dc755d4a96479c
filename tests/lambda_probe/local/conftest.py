"""One endpoint for all tests of a file, boto3 clients for it, and a way to deploy handlers/app.py."""

import base64
import io
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambda_probe.account.report import Report, parse_report
from lambda_probe.local import LocalEndpoint

APP = Path(__file__).parent / "handlers" / "app.py"


def zipped(**files: str) -> bytes:
    """A zip of modules, by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return out.getvalue()


def connect(endpoint: LocalEndpoint, service: str = "lambda") -> Any:
    """An ordinary boto3 client that does not retry."""
    return boto3.client(
        service,
        endpoint_url=endpoint.lambda_url if service == "lambda" else endpoint.s3_url,
        region_name="us-east-1",
        aws_access_key_id=endpoint.keys.access_key,
        aws_secret_access_key=endpoint.keys.secret_key,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60, max_pool_connections=20),
    )


@dataclass(frozen=True)
class Answer:
    """What a call came back with."""

    body: Any
    error: str | None
    log: str

    @property
    def report(self) -> Report:
        return parse_report(self.log)


@dataclass(frozen=True)
class Deployed:
    """A function that is active."""

    name: str
    client: Any

    def __call__(self, **event: Any) -> Answer:
        got = self.client.invoke(FunctionName=self.name, LogType="Tail", Payload=json.dumps(event))
        log = base64.b64decode(got["LogResult"]).decode()
        return Answer(json.load(got["Payload"]), got.get("FunctionError"), log)


_names = count()


def deploy_to(endpoint: LocalEndpoint, handler: str, **settings: Any) -> Deployed:
    """Create a function of handlers/app.py (or of `code`, a zip) and wait until it is active."""
    client, name = connect(endpoint), f"f{next(_names)}"
    code = settings.pop("code", None) or zipped(app=APP.read_text())
    client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role="arn:aws:iam::000000000000:role/any",
        Handler=handler,
        Code={"ZipFile": code},
        **settings,
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    return Deployed(name, client)


@pytest.fixture(autouse=True, scope="session")
def _on_linux() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("AWS's runtime client and the limits of CPU and memory are for Linux")


@pytest.fixture(scope="module")
def client(endpoint: LocalEndpoint) -> Any:
    return connect(endpoint)


@pytest.fixture(scope="module")
def deploy(endpoint: LocalEndpoint) -> Callable[..., Deployed]:
    return lambda handler, **settings: deploy_to(endpoint, handler, **settings)


@contextmanager
def under_way(endpoint: LocalEndpoint, function: Deployed, seconds: float) -> Iterator[Future[Answer]]:
    """A call that has its place, and an instance, and lasts so long."""
    before, deadline = len(endpoint.pids()), time.monotonic() + 30
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(function, seconds=seconds)
        while len(endpoint.pids()) == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield call


def refused(act: Callable[[], Any], code: str, status: int = 400) -> str:
    """The message of a request that is refused with this code."""
    with pytest.raises(ClientError) as caught:
        act()
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert len(answer["Error"]["Message"]) < 500
    message: str = answer["Error"]["Message"]
    return message


class Clock(SimpleNamespace):
    """In place of a module's `time`: the real one, `ahead_s` further."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead_s


@pytest.fixture(scope="session")
def make_zip() -> Callable[..., bytes]:
    return zipped


@pytest.fixture(scope="session")
def other() -> tuple[Callable[..., Deployed], Callable[..., Any]]:
    """To deploy to, and to connect to, an endpoint of the test's own."""
    return deploy_to, connect


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The walls are among what `smoe test --faults` runs."""
    walls = {f"test_local_{name}.py" for name in ("walls", "isolation", "as_aws", "payloads")}
    for item in items:
        if item.path.name in walls:
            item.add_marker(pytest.mark.faults)
