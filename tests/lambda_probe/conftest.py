"""An embedded endpoint for all tests of a file, and clients that meet faults without waiting."""

import functools
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import botocore.session
import pytest

from lambda_probe.account.clients import Clients
from lambda_probe.local import LocalEndpoint, LocalSettings


@pytest.fixture(autouse=True, scope="session")
def _one_loader() -> Iterator[None]:
    """All clients read botocore's descriptions of AWS once, as those of one session do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="module")
def endpoint() -> Iterator[LocalEndpoint]:
    """Its functions are ready at once, so that each change is looked at exactly once, however busy the machine."""
    if not sys.platform.startswith("linux"):
        pytest.skip("AWS's runtime client is for Linux")
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as running:
        yield running


@pytest.fixture
def clients(endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """New ones for each test, whose own retries do not wait."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    return endpoint.clients()
