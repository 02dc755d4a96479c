"""Probe functions on the embedded endpoint: each work is done, timed and answered as the contract says."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest

from lambda_probe.account.calls import Attempt
from lambda_probe.account.cleanup import leftovers, remove_bucket
from lambda_probe.account.deploy import zip_of
from lambda_probe.account.objects import SEED_BYTES, put_zeros
from lambda_probe.campaign.backend import BackendPrices, ProbeFunction, ProbePackage
from lambda_probe.campaign.boto_backend import BotoBackend, facts_of, wheel_files
from lambda_probe.campaign.works import (
    Answer,
    ExpertPass,
    GetObjects,
    Multiply,
    Nothing,
    PutObjects,
    Send,
    Wait,
    Work,
    answer_of,
)
from lambda_probe.local import LocalEndpoint, LocalSettings
from moe.errors import InputError
from tests.lambda_probe.faulty import Faults

SMALL = ProbePackage("small")
NUMPY = ProbePackage("numpy", imports=("numpy",))
MB = 2**20


@pytest.fixture(scope="module")
def endpoint() -> Iterator[LocalEndpoint]:
    if not sys.platform.startswith("linux"):
        pytest.skip("AWS's runtime client is for Linux")
    with LocalEndpoint(LocalSettings(pending_s=0.02, account_concurrency=7)) as running:
        yield running


def backend_on(endpoint: LocalEndpoint, campaign: str) -> BotoBackend:
    clients = endpoint.clients()
    return BotoBackend(clients, facts_of("local", clients.region), BackendPrices(), campaign, poll_s=0.02)


@pytest.fixture(scope="module")
def backend(endpoint: LocalEndpoint) -> Iterator[BotoBackend]:
    made = backend_on(endpoint, "works")
    made.create(ProbeFunction("plain", 1024, SMALL))
    made.create(ProbeFunction("other", 512, SMALL))
    made.create(ProbeFunction("numpy", 1769, NUMPY))
    yield made
    made.close()


def names_left(endpoint: LocalEndpoint, campaign: str) -> list[str]:
    return [each.name for each in leftovers(endpoint.clients()).tagged if each.campaign == campaign]


def answered(attempts: list[Attempt]) -> Answer:
    """The answer of a call that went well at once."""
    assert [each.status for each in attempts] == ["ok"], attempts
    return answer_of(attempts[0].answer)


@pytest.mark.parametrize(
    ("function", "work", "repeats"),
    [
        ("plain", Nothing(), 1),
        ("plain", Wait(0.05), 1),
        ("plain", GetObjects(3 * MB, connections=1, repeats=3), 3),
        ("plain", GetObjects(3 * MB, connections=4, repeats=2), 2),
        ("plain", GetObjects(40 * MB, connections=2), 1),
        ("plain", PutObjects(MB, repeats=2), 2),
        ("plain", PutObjects(11 * MB, connections=2, repeats=2), 2),
        ("plain", Send("other", 300_000, 200_000, repeats=2), 2),
        ("numpy", Multiply(1e8, threads=1, repeats=2), 2),
        ("numpy", Multiply(1e8, threads=2, repeats=2), 2),
        ("numpy", ExpertPass(tokens=3, hidden=64, intermediate=128, passes=2, repeats=2), 2),
    ],
)
def test_each_work_is_timed_once_per_repeat(backend: BotoBackend, function: str, work: Work, repeats: int) -> None:
    """A campaign reads `seconds`: one number for each repeat, all of them inside the billed time."""
    made = backend.call(function, work)
    answer = answered(made)
    assert len(answer.seconds) == repeats
    assert all(x > 0 for x in answer.seconds)
    assert made[0].report is not None
    passes = work.passes if isinstance(work, ExpertPass) else 1
    assert sum(answer.seconds) * passes <= made[0].report.duration_ms / 1000 <= made[0].client_s
    assert made[0].function == function


@pytest.mark.parametrize("more", [0, 1, 7])
def test_a_large_object_has_all_its_bytes_and_is_not_uploaded_in_full(
    endpoint: LocalEndpoint, backend: BotoBackend, more: int
) -> None:
    """Half a gigabyte over a user's own line would take minutes; S3 copies it together."""
    s3 = endpoint.clients().s3
    s3.create_bucket(Bucket="large")
    faults = Faults(s3)
    size = 2 * SEED_BYTES + more
    put_zeros(s3, "large", "k", size)
    assert s3.head_object(Bucket="large", Key="k")["ContentLength"] == size
    assert s3.list_objects_v2(Bucket="large")["KeyCount"] == 1
    assert faults.sent.count("UploadPartCopy") == 2
    assert faults.sent.count("UploadPart") == (more > 0)
    remove_bucket(endpoint.clients(), "large")


def test_a_wait_and_what_the_target_says_are_in_seconds(backend: BotoBackend) -> None:
    (waited,) = backend.call("plain", Wait(0.2))
    assert 0.2 <= answered([waited]).seconds[0] <= waited.client_s
    sent = answered(backend.call("plain", Send("other", 300_000)))
    assert sent.payload_bytes == pytest.approx(300_000 * 4 / 3, rel=0.01)
    assert 0 < sent.target_s[0] < sent.seconds[0]


def test_an_instance_is_new_after_forget_and_reused_otherwise(backend: BotoBackend) -> None:
    """Cold starts are forced by `forget`: without it the campaign would measure warm calls as cold."""
    backend.call("plain", Nothing())
    again = answered(backend.call("plain", Nothing()))
    backend.forget("plain")
    made = backend.call("plain", Nothing())
    cold = answered(made)
    assert (again.first, cold.first) == (False, True)
    assert again.instance != cold.instance
    assert made[0].report is not None
    assert made[0].report.init_ms is not None


def test_first_call_work_is_told_apart_from_what_is_timed(backend: BotoBackend) -> None:
    backend.forget("plain")
    first = answered(backend.call("plain", GetObjects(1000)))
    later = [answered(backend.call("plain", GetObjects(1000))).import_s for _ in range(3)]
    assert first.import_s > 10 * min(later)


def test_calls_at_once_have_an_instance_each_and_the_account_s_limit(backend: BotoBackend) -> None:
    """Seven may run at once here: of ten calls three are throttled, and none is repeated."""
    made = backend.call_at_once(["plain"] * 10, Wait(1.5))
    assert all(len(each) == 1 for each in made)
    assert sorted(each[0].status for each in made) == ["ok"] * 7 + ["throttled"] * 3
    assert len({answered(each).instance for each in made if each[0].status == "ok"}) == 7
    assert backend.account().concurrency == 7


def test_a_burst_of_more_threads_than_there_may_be_ends(
    backend: BotoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones wait for the last, which never comes."""
    start, started = Thread.start, list[Thread]()

    def limited(thread: Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", limited)
    with pytest.raises(RuntimeError, match="new thread"):
        backend.call_at_once(["plain"] * 5, Nothing())


def test_nothing_stays_behind(endpoint: LocalEndpoint) -> None:
    backend = backend_on(endpoint, "gone")
    backend.create(ProbeFunction("a", 128, SMALL))
    backend.create(ProbeFunction("b", 128, SMALL))
    backend.call("a", PutObjects(1000))
    backend.call("a", GetObjects(1000))
    backend.delete("b")
    assert names_left(endpoint, "gone") == ["smoe-gone-a", "smoe-gone"]
    for _ in range(2):
        backend.close()
    assert not names_left(endpoint, "gone")


def test_packages_hold_what_was_asked_for(endpoint: LocalEndpoint) -> None:
    """Padding makes the code as large as said; numpy on AWS without a wheel is refused."""
    backend = backend_on(endpoint, "packages")
    backend.create(ProbeFunction("large", 128, replace(SMALL, name="large", padding_bytes=6 * MB)))
    size = endpoint.clients().functions.get_function(FunctionName="smoe-packages-large")
    assert 6 * MB < size["Configuration"]["CodeSize"] < 6.2 * MB
    backend.close()
    on_aws = BotoBackend(endpoint.clients(), facts_of("aws", "us-east-1"), BackendPrices(), "aws")
    with pytest.raises(InputError, match="numpy_wheel"):
        on_aws.create(ProbeFunction("numpy", 128, NUMPY))


LINUX_27 = "manylinux_2_27_x86_64.manylinux_2_28_x86_64"
OLD_LINUX = "manylinux_2_17_x86_64.manylinux2014_x86_64"


@pytest.mark.parametrize(
    ("wheel", "runtime", "architecture", "fits"),
    [
        (f"cp312-cp312-{LINUX_27}", "python3.12", "x86_64", True),
        (f"cp311-cp311-{OLD_LINUX}", "python3.11", "x86_64", True),
        (f"cp311-cp311-{LINUX_27}", "python3.11", "x86_64", False),
        (f"cp311-cp311-{LINUX_27}", "python3.12", "x86_64", False),
        (f"cp312-cp312-{LINUX_27}", "python3.12", "arm64", False),
        ("cp312-cp312-manylinux_2_28_aarch64", "python3.12", "arm64", True),
        ("cp312-cp312-macosx_14_0_x86_64", "python3.12", "x86_64", False),
        ("cp312-cp312-musllinux_1_2_x86_64", "python3.12", "x86_64", False),
    ],
)
def test_a_wheel_that_would_not_start_on_aws_is_refused_here(
    tmp_path: Path, wheel: str, runtime: str, architecture: Literal["x86_64", "arm64"], fits: bool
) -> None:
    """Python, processor, and the C library of AWS's runtimes: 2.26 up to python3.11, 2.34 from 3.12 on."""
    path = tmp_path / f"numpy-2.4.0-{wheel}.whl"
    path.write_bytes(zip_of({"numpy/__init__.py": b"1"}))
    package = replace(NUMPY, runtime=runtime, architecture=architecture)
    if fits:
        assert wheel_files(path, package) == {"numpy/__init__.py": b"1"}
    else:
        with pytest.raises(InputError, match=r"expected a wheel for cp3\d+ and manylinux"):
            wheel_files(path, package)


def test_a_wheel_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"numpy-2.4.0-cp312-cp312-{LINUX_27}.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"numpy-2.4.0.*cannot be read"):
        wheel_files(path, NUMPY)
