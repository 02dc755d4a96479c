"""Answers of AWS that are lost while something is created, changed or removed.

What was made by a request that was never answered costs its owner money until somebody finds it.
"""

import logging
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from lambda_probe.account.cleanup import TAG
from lambda_probe.account.clients import Clients
from lambda_probe.account.deploy import Deployable, Deployment, zip_of
from lambda_probe.account.interrupts import deaf, stubborn
from moe.errors import InputError, PlatformError
from tests.lambda_probe.faulty import Fault, Faults, closed, closed_late, hanging, lost, refusal, s3_error

FUNCTION = Deployable("f", zip_of({"probe.py": b"def handler(event, context):\n    return event\n"}), 128)
_ids = count()


@pytest.fixture
def deployment(clients: Clients) -> Deployment:
    return Deployment(clients, f"lost{next(_ids)}", poll_s=0.005, sleep=lambda _: None)


def functions(clients: Clients) -> set[str]:
    return {each["FunctionName"] for each in clients.control.list_functions()["Functions"]}


def buckets(clients: Clients) -> set[str]:
    return {each["Name"] for each in clients.s3.list_buckets()["Buckets"]}


@pytest.mark.parametrize("fault", [closed, closed_late])
def test_a_connection_that_is_closed_once_is_no_failure(
    clients: Clients, deployment: Deployment, fault: Fault
) -> None:
    Faults(clients.control).add("CreateFunction", fault)
    Faults(clients.s3).add("CreateBucket", fault)
    with deployment:
        assert deployment.create(FUNCTION) in functions(clients)
        assert deployment.bucket in buckets(clients)
    assert deployment.full_name("f") not in functions(clients)
    assert deployment.bucket_name not in buckets(clients)


@pytest.mark.parametrize("fault", [closed, closed_late])
@pytest.mark.parametrize("what", ["function", "bucket"])
def test_a_connection_that_is_always_closed_is_told_by_name_and_leaves_nothing(
    clients: Clients, deployment: Deployment, fault: Fault, what: str
) -> None:
    Faults(clients.control).add("CreateFunction", fault, times=5)
    Faults(clients.s3).add("CreateBucket", fault, times=5)
    act: Callable[[], Any] = lambda: deployment.create(FUNCTION)  # noqa: E731
    name = deployment.full_name("f")
    if what == "bucket":
        act, name = lambda: deployment.bucket, deployment.bucket_name
    with pytest.raises(PlatformError, match=f"{name}: cannot be created: ConnectionClosedError"), deployment:
        act()
    assert name not in functions(clients) | buckets(clients)


@pytest.mark.parametrize(
    "operation", ["GetFunctionConfiguration", "UpdateFunctionConfiguration", "DeleteFunction", "PutBucketTagging"]
)
def test_a_closed_connection_elsewhere_is_a_line_and_leaves_nothing(
    clients: Clients, deployment: Deployment, operation: str
) -> None:
    for client in (clients.control, clients.s3):
        Faults(client).add(operation, closed, times=5)

    def act() -> None:
        with deployment:
            name = deployment.create(FUNCTION)
            deployment.change(name, MemorySize=256)
            assert deployment.bucket

    if operation == "DeleteFunction":  # tried again
        act()
    else:
        with pytest.raises(PlatformError, match="ConnectionClosedError") as raised:
            act()
        assert "\n" not in str(raised.value)
    assert deployment.full_name("f") not in functions(clients)
    assert deployment.bucket_name not in buckets(clients)


@pytest.mark.parametrize(
    "refused",
    [
        refusal(403, "ExpiredTokenException", "expired"),
        refusal(400, "InvalidParameterValueException", "no"),
        refusal(409, "ResourceConflictException", "Function already exist"),
    ],
)
def test_what_a_lost_answer_made_is_removed_whatever_is_answered_next(
    clients: Clients, deployment: Deployment, refused: Fault
) -> None:
    """The second answer tells of the second request only; and a new function may not be known at once."""
    faults = Faults(clients.control)
    faults.add("CreateFunction", lost, refused)
    faults.add("GetFunction", refusal(404, "ResourceNotFoundException"))
    with pytest.raises(InputError, match="cannot be created"), deployment:
        deployment.create(FUNCTION)
    assert deployment.full_name("f") not in functions(clients)


def test_a_refusal_of_the_first_request_is_looked_into_no_further(
    clients: Clients, deployment: Deployment
) -> None:
    """Whoever may not create may not look either: the reason is told, not that something cannot be removed."""
    faults = Faults(clients.control)
    denied = refusal(403, "AccessDeniedException", "lambda:CreateFunction")
    for operation in ("CreateFunction", "GetFunction", "DeleteFunction"):
        faults.add(operation, denied, times=20)
    with pytest.raises(InputError, match="lambda:CreateFunction"), deployment:
        deployment.create(FUNCTION)
    assert faults.sent == ["CreateFunction"]


def test_a_function_of_somebody_else_that_a_lost_answer_may_hide_stays(
    clients: Clients, deployment: Deployment
) -> None:
    """Nobody answered: the function of that name is looked at before it is removed."""
    name = deployment.full_name("f")
    clients.control.create_function(
        FunctionName=name, Role="r", **FUNCTION.request({"ZipFile": FUNCTION.code}), Tags={TAG: "another"}
    )
    Faults(clients.control).add("CreateFunction", closed, times=5)
    with pytest.raises(PlatformError), deployment:
        deployment.create(FUNCTION)
    assert name in functions(clients)
    clients.control.delete_function(FunctionName=name)


def test_a_change_whose_answer_is_lost_is_made_again_when_it_is_through(
    clients: Clients, deployment: Deployment
) -> None:
    """boto3 sends it again, and is told that an update (its own) is in progress."""
    faults = Faults(clients.control)
    busy = refusal(409, "ResourceConflictException", "An update is in progress for resource: arn")
    with deployment:
        name = deployment.create(FUNCTION)
        faults.add("UpdateFunctionConfiguration", lost, busy)
        deployment.change(name, MemorySize=256)
        assert clients.control.get_function_configuration(FunctionName=name)["MemorySize"] == 256


@pytest.mark.parametrize(
    ("operation", "faults"),
    [
        ("CreateBucket", [lost, s3_error(409, "OperationAborted")]),
        ("CreateBucket", [lost, s3_error(403, "AccessDenied")]),
        ("PutBucketTagging", [s3_error(403, "AccessDenied")]),
    ],
)
def test_a_bucket_that_was_made_before_something_was_refused_is_removed(
    clients: Clients, deployment: Deployment, operation: str, faults: list[Fault]
) -> None:
    Faults(clients.s3).add(operation, *faults)
    with pytest.raises(InputError, match="cannot be created"), deployment:
        deployment.bucket  # noqa: B018
    assert deployment.bucket_name not in buckets(clients)


@pytest.mark.parametrize("tag", ["", "another"])
def test_a_bucket_that_the_account_has_already_is_neither_taken_nor_emptied(
    clients: Clients, deployment: Deployment, tag: str
) -> None:
    bucket, s3 = deployment.bucket_name, clients.s3
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="thesis", Body=b"x")
    if tag:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": TAG, "Value": tag}]})
    with pytest.raises(InputError, match=f"bucket {bucket}: is in the account already"), deployment:
        deployment.bucket  # noqa: B018
    assert s3.get_object(Bucket=bucket, Key="thesis")["Body"].read() == b"x"
    s3.delete_object(Bucket=bucket, Key="thesis")
    s3.delete_bucket(Bucket=bucket)


def test_ctrl_c_while_a_deletion_hangs_says_what_it_waits_for(
    clients: Clients, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice it says so and goes on: what was made is removed."""
    name = deployment.create(FUNCTION)
    Faults(clients.control).add("DeleteFunction", hanging(2))
    with caplog.at_level(logging.WARNING):
        deployment.remove()
    assert [record.getMessage() for record in caplog.records] == [
        f"removing function {name}: waiting for it; {more} more Ctrl-C end this" for more in (2, 1)
    ]
    assert name not in functions(clients)


def test_the_third_ctrl_c_while_a_deletion_hangs_ends_it_and_names_what_is_left(
    clients: Clients, deployment: Deployment
) -> None:
    name, bucket = deployment.create(FUNCTION), deployment.bucket
    Faults(clients.control).add("DeleteFunction", hanging(3))
    with pytest.raises(PlatformError, match=f"left behind: {name}, {bucket} .interrupted.*--cleanup"), deaf():
        deployment.remove()  # as a campaign ends: nothing else hears signals any more
    deployment.remove()
    assert not {name, bucket} & (functions(clients) | buckets(clients))


def test_signals_are_heard_as_before_once_nothing_is_removed_any_more() -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    with stubborn(lambda: "removing"):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
