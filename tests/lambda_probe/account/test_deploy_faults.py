"""Deployments on a platform that fails: nothing that was created stays behind, and the message says what to do.

What stays behind costs its owner money, and the next campaign its limits.
"""

import random
from itertools import count

import pytest

from lambda_probe.account.cleanup import Leftover, cleanup, leftovers
from lambda_probe.account.clients import Clients
from lambda_probe.account.deploy import REMOVALS, UPLOAD_LIMIT, Deployable, Deployment, zip_of
from lambda_probe.local import LocalEndpoint, LocalSettings
from moe.errors import InputError, PlatformError
from tests.lambda_probe.faulty import (
    Fault,
    Faults,
    down,
    interrupted,
    interrupted_late,
    lost,
    refusal,
    s3_error,
)

HANDLER = b"def handler(event, context):\n    return event\n"
CODE = zip_of({"probe.py": HANDLER})
BROKEN = refusal(500, "ServiceException")
BUSY = s3_error(503, "SlowDown")
_ids = count()


@pytest.fixture
def deployment(clients: Clients) -> Deployment:
    return Deployment(clients, f"d{next(_ids)}", poll_s=0.005, sleep=lambda _: None)


def left(clients: Clients, deployment: Deployment) -> list[str]:
    """What the platform has of a campaign."""
    found = leftovers(clients)
    names = [*(each.name for each in found.tagged), *found.untagged]
    return [name for name in names if name.startswith(f"smoe-{deployment.campaign}")]


def function(name: str = "f", code: bytes = CODE) -> Deployable:
    return Deployable(name, code, 128)


@pytest.mark.parametrize("fault", [interrupted, interrupted_late])
@pytest.mark.parametrize("operation", ["CreateFunction", "GetFunctionConfiguration"])
def test_ctrl_c_while_a_function_is_made_leaves_nothing(
    clients: Clients, deployment: Deployment, operation: str, fault: Fault
) -> None:
    Faults(clients.control).add(operation, fault)
    with pytest.raises(KeyboardInterrupt), deployment:
        deployment.create(function())
    assert not left(clients, deployment)


@pytest.mark.parametrize("fault", [interrupted, interrupted_late])
@pytest.mark.parametrize("operation", ["CreateBucket", "PutBucketTagging", "PutObject"])
def test_ctrl_c_while_the_bucket_is_made_leaves_nothing(
    clients: Clients, deployment: Deployment, operation: str, fault: Fault
) -> None:
    Faults(clients.s3).add(operation, fault)
    with pytest.raises(KeyboardInterrupt), deployment:
        clients.s3.put_object(Bucket=deployment.bucket, Key="get/3", Body=b"123")
    assert not left(clients, deployment)


def test_a_function_that_turns_up_after_its_deletion_is_deleted_again(
    clients: Clients, deployment: Deployment
) -> None:
    """Interrupted while the request was under way: the platform knew it only after the first DeleteFunction."""
    faults = Faults(clients.control)
    faults.add("CreateFunction", interrupted_late)
    faults.add("DeleteFunction", refusal(404, "ResourceNotFoundException"))
    with pytest.raises(KeyboardInterrupt), deployment:
        deployment.create(function())
    assert faults.sent.count("DeleteFunction") == 2
    assert not left(clients, deployment)


def test_an_answer_lost_after_the_function_was_made_is_no_failure(
    clients: Clients, deployment: Deployment
) -> None:
    """boto3 asks again, and is told that the function exists: it is ours, and made anew."""
    Faults(clients.control).add("CreateFunction", lost)
    with deployment:
        name = deployment.create(function())
        assert left(clients, deployment) == [name]
        assert clients.functions.invoke(FunctionName=name)["StatusCode"] == 200
    assert not left(clients, deployment)


def test_a_killed_campaign_s_things_are_taken_over_by_the_same_one_only(
    clients: Clients, deployment: Deployment
) -> None:
    """A resumed campaign finds its own function and bucket; another's of the same name is refused and stays."""
    killed = Deployment(clients, deployment.campaign, poll_s=0.005)
    killed.create(function("f", zip_of({"probe.py": b"x" * 10})))
    assert killed.bucket
    with deployment:
        name = deployment.create(function())
        assert deployment.bucket == killed.bucket
        assert clients.functions.invoke(FunctionName=name).get("FunctionError") is None
    assert not left(clients, deployment)
    arn = killed.create(function())
    clients.control.tag_resource(
        Resource=f"arn:aws:lambda:us-east-1:000000000000:function:{arn}", Tags={"smoe-campaign": "another"}
    )
    with deployment, pytest.raises(InputError, match="already exist"):
        deployment.create(function())
    assert left(clients, deployment) == [name]
    killed.remove()


def test_what_a_killed_campaign_left_is_found_by_prefix_and_tag_and_removed(
    clients: Clients, deployment: Deployment
) -> None:
    """`--cleanup`; what has not both is not touched."""
    name = deployment.create(function())
    clients.s3.create_multipart_upload(Bucket=deployment.bucket, Key="put/unfinished")
    clients.s3.put_object(Bucket=deployment.bucket, Key="put/done", Body=b"1")
    more = {"Runtime": "python3.12", "Role": "r", "Handler": "probe.handler", "Code": {"ZipFile": CODE}}
    clients.control.create_function(FunctionName="smoe-untagged", **more)
    clients.control.create_function(FunctionName="mine", Tags={"smoe-campaign": "x"}, **more)
    clients.s3.create_bucket(Bucket="smoe-untagged")
    found = leftovers(clients)
    ours = {
        Leftover("function", name, deployment.campaign),
        Leftover("bucket", deployment.bucket, deployment.campaign),
    }
    assert set(found.tagged) == ours
    assert found.untagged == ("smoe-untagged",)
    assert cleanup(clients, found) == []
    assert leftovers(clients).tagged == ()
    assert {each["FunctionName"] for each in clients.control.list_functions()["Functions"]} == {
        "smoe-untagged",
        "mine",
    }
    for other in ("smoe-untagged", "mine"):
        clients.control.delete_function(FunctionName=other)
    clients.s3.delete_bucket(Bucket="smoe-untagged")


def test_cleanup_goes_on_past_what_it_cannot_remove(clients: Clients, deployment: Deployment) -> None:
    deployment.create(function("a"))
    deployment.create(function("b"))
    found = leftovers(clients)
    Faults(clients.control).add("DeleteFunction", refusal(403, "AccessDeniedException", "not authorized"))
    (failed,) = cleanup(clients, found)
    assert "-a: " in failed
    assert "not authorized" in failed
    assert left(clients, deployment) == [deployment.full_name("a")]
    deployment.remove()


@pytest.mark.parametrize("times", [1, 12])
def test_a_deletion_that_fails_is_tried_again(clients: Clients, deployment: Deployment, times: int) -> None:
    """Once, or longer than boto3 itself is patient (5 attempts)."""
    deployment.create(function("a"))
    deployment.create(function("b"))
    Faults(clients.control).add("DeleteFunction", BROKEN, times=times)
    deployment.remove()
    assert not left(clients, deployment)


def test_a_deletion_in_the_middle_that_fails_is_left_to_the_end(clients: Clients, deployment: Deployment) -> None:
    """The campaign goes on."""
    name = deployment.create(function())
    Faults(clients.control).add("DeleteFunction", BROKEN, times=5)
    deployment.delete(name)
    assert left(clients, deployment) == [name]
    deployment.remove()
    assert not left(clients, deployment)


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(clients: Clients, deployment: Deployment) -> None:
    name = deployment.create(function())
    assert deployment.bucket
    Faults(clients.control).add("DeleteFunction", BROKEN, times=5 * REMOVALS)
    with pytest.raises(PlatformError, match=f"left behind: {name} .*--cleanup"):
        deployment.remove()
    assert left(clients, deployment) == [name]
    deployment.remove()
    assert not left(clients, deployment)


def test_ctrl_c_while_things_are_removed_names_what_is_left(clients: Clients, deployment: Deployment) -> None:
    name = deployment.create(function())
    Faults(clients.control).add("DeleteFunction", interrupted)
    with pytest.raises(PlatformError, match=f"left behind: {name} .interrupted.*--cleanup"):
        deployment.remove()
    deployment.remove()


def test_a_function_that_stays_pending_is_waited_for_so_long_and_removed() -> None:
    with LocalEndpoint(LocalSettings(pending_s=3600)) as endpoint:
        clients = endpoint.clients()
        deployment = Deployment(clients, "stuck", poll_s=0.01, patience_s=0.1)
        with pytest.raises(PlatformError, match="still Pending after 0 s: try again later"), deployment:
            deployment.create(function())
        assert leftovers(clients).tagged == ()


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (refusal(400, "InvalidParameterValueException", "at most 3008"), InputError, "at most 3008"),
        (refusal(403, "AccessDeniedException", "lambda:CreateFunction"), InputError, "lambda:CreateFunction"),
        (refusal(429, "TooManyRequestsException"), PlatformError, "try again"),
        (BROKEN, PlatformError, "ServiceException"),
        (down, PlatformError, "EndpointConnectionError"),
    ],
)
def test_a_function_that_cannot_be_made_says_why_in_a_line(
    clients: Clients, deployment: Deployment, fault: Fault, error: type[Exception], says: str
) -> None:
    """What the platform refuses is bad input; what it does not manage, after five attempts, is its failure."""
    Faults(clients.control).add("CreateFunction", fault, times=5)
    with pytest.raises(error, match=says) as raised, deployment:
        deployment.create(function())
    assert "\n" not in str(raised.value)
    assert deployment.full_name("f") in str(raised.value)
    assert not left(clients, deployment)


def test_an_endpoint_that_is_gone_is_a_line_that_says_so(deployment: Deployment) -> None:
    with LocalEndpoint() as endpoint:
        clients = endpoint.clients()
        gone = Deployment(clients, "gone", sleep=lambda _: None)
        assert gone.bucket
    for act in (
        lambda: gone.create(function()),
        lambda: gone.change("f"),
        gone.remove,
        lambda: leftovers(clients),
    ):
        with pytest.raises(PlatformError, match=r"Connection|Could not connect"):
            act()


def test_s3_that_is_busy_is_waited_for(clients: Clients, deployment: Deployment) -> None:
    """A large zip goes through the bucket, once for all functions that have it."""
    padding = random.Random(0).randbytes(UPLOAD_LIMIT)
    large, other = (zip_of({"probe.py": HANDLER, "padding": padding + more}) for more in (b"1", b"2"))
    faults = Faults(clients.s3)
    faults.add("CreateBucket", BUSY, times=2)
    faults.add("PutObject", BUSY, times=2)
    with deployment:
        name = deployment.create(function("a", large))
        deployment.create(function("b", large))
        assert faults.sent.count("PutObject") == 3
        assert clients.functions.invoke(FunctionName=name).get("FunctionError") is None
        faults.add("PutObject", BUSY, times=5)
        with pytest.raises(PlatformError, match=r"cannot be uploaded.*SlowDown"):
            deployment.create(function("c", other))
    assert not left(clients, deployment)


def test_a_bucket_of_somebody_else_is_not_touched(clients: Clients, deployment: Deployment) -> None:
    """Bucket names belong to all accounts of the world."""
    faults = Faults(clients.s3)
    faults.add("CreateBucket", s3_error(409, "BucketAlreadyExists"))
    with pytest.raises(InputError, match="cannot be created"), deployment:
        deployment.bucket  # noqa: B018
    assert faults.sent == ["CreateBucket"]


@pytest.mark.parametrize("campaign", ["", "My_Campaign", "ends-", "a" * 41])
def test_an_id_that_cannot_name_a_bucket_is_refused_before_anything_is_made(
    clients: Clients, campaign: str
) -> None:
    with pytest.raises(InputError, match="campaign id"):
        Deployment(clients, campaign)
