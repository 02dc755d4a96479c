"""AWS as a backend: what exactly is sent, and that nothing is without consent.

Through botocore's Stubber, and against the embedded endpoint in AWS's place; no account is touched.
"""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.httpsession import URLLib3Session
from botocore.stub import Stubber

import lambda_probe
from lambda_probe.account.cleanup import Leftover, cleanup, leftovers
from lambda_probe.account.clients import LONGEST_CALL_S, Pace, aws_clients
from lambda_probe.account.deploy import Deployable, Deployment, zip_of
from lambda_probe.campaign.aws_backend import consent_text, open_aws
from lambda_probe.campaign.backend import BackendPrices, ProbeFunction, ProbePackage
from lambda_probe.campaign.boto_backend import BotoBackend, facts_of
from lambda_probe.campaign.costs import Estimate
from lambda_probe.campaign.works import GetObjects, Nothing
from lambda_probe.local import LocalEndpoint
from moe.errors import InputError
from tests.lambda_probe.faulty import Faults, answer

ROLE = "arn:aws:iam::123456789012:role/smoe-probe"
PACKAGE = ProbePackage("small")


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of nobody, and no configuration of this machine's user."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every request that boto3 sends from this process; none to AWS gets out."""
    sent: list[str] = []
    send = URLLib3Session.send

    def watched(self: Any, request: Any) -> Any:
        sent.append(request.url)
        assert "amazonaws.com" not in request.url, f"sent to AWS: {request.url}"
        return send(self, request)

    monkeypatch.setattr(URLLib3Session, "send", watched)
    return sent


def opened(**options: Any) -> BotoBackend:
    return open_aws("id", BackendPrices(), **({"role": ROLE, "consented": True, "region": "eu-west-1"} | options))


@pytest.mark.usefixtures("_keys")
def test_nothing_is_sent_without_consent_role_region_and_credentials(
    hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, says in (
        ({"consented": False}, "--yes"),
        ({"role": None}, "its ARN as role"),
        ({"role": "smoe-probe"}, "arn:aws:iam::123456789012:role"),
        ({"region": None}, "no region"),
        ({"profile": "no-such-profile"}, "no-such-profile"),
    ):
        with pytest.raises(InputError, match=says):
            opened(**options)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(InputError, match="no credentials"):
        opened()
    assert hosts == []


@pytest.mark.usefixtures("_keys")
def test_calls_are_waited_for_and_never_repeated_by_boto3() -> None:
    """A call that boto3 sends again after 60 s is billed twice, and measured once."""
    clients = aws_clients("us-east-1")
    config = clients.functions.meta.config
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout > LONGEST_CALL_S == 900
    for patient in (clients.control, clients.s3):
        assert patient.meta.config.retries["total_max_attempts"] == 5


@pytest.mark.usefixtures("_keys")
def test_the_requests_of_a_deployment_are_exactly_these() -> None:
    """Prefix and tag on all, the role that was given, one zip, a text log."""
    clients = aws_clients("eu-west-1")
    control, s3, logs = Stubber(clients.control), Stubber(clients.s3), Stubber(clients.logs)
    code = zip_of({"probe.py": b""})
    name = "smoe-id-f"
    s3.add_response(
        "create_bucket",
        {},
        {"Bucket": "smoe-id", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}},
    )
    tags = {"TagSet": [{"Key": "smoe-campaign", "Value": "id"}]}
    s3.add_response("put_bucket_tagging", {}, {"Bucket": "smoe-id", "Tagging": tags})
    request = {
        "FunctionName": name,
        "Runtime": "python3.13",
        "Role": ROLE,
        "Handler": "probe.handler",
        "Code": {"ZipFile": code},
        "MemorySize": 512,
        "Timeout": 33,
        "Architectures": ["arm64"],
        "EphemeralStorage": {"Size": 512},
        "Environment": {"Variables": {"A": "b"}},
        "LoggingConfig": {"LogFormat": "Text"},
        "Tags": {"smoe-campaign": "id"},
    }
    ready = {"State": "Active", "LastUpdateStatus": "Successful"}
    pending = {"State": "Pending"}
    control.add_response("create_function", pending, request)
    control.add_response("get_function_configuration", pending, {"FunctionName": name})
    control.add_response("get_function_configuration", ready, {"FunctionName": name})
    once = {"FunctionName": name, "MaximumRetryAttempts": 0}
    control.add_response("put_function_event_invoke_config", {}, once)
    control.add_response("update_function_configuration", {}, {"FunctionName": name, "MemorySize": 1024})
    control.add_response("get_function_configuration", ready, {"FunctionName": name})
    control.add_response("delete_function", {}, {"FunctionName": name})
    s3.add_response("list_multipart_uploads", {}, {"Bucket": "smoe-id"})
    s3.add_response("list_objects_v2", {"Contents": [{"Key": "get/1"}]}, {"Bucket": "smoe-id"})
    objects = {"Objects": [{"Key": "get/1"}], "Quiet": True}
    s3.add_response("delete_objects", {}, {"Bucket": "smoe-id", "Delete": objects})
    s3.add_response("delete_bucket", {}, {"Bucket": "smoe-id"})
    logs.add_response("delete_log_group", {}, {"logGroupName": f"/aws/lambda/{name}"})
    with control, s3, logs:
        with Deployment(clients, "id", ROLE, sleep=lambda _: None) as deployment:
            assert deployment.bucket == "smoe-id"
            deployment.create(
                Deployable("f", code, 512, "probe.handler", "python3.13", "arm64", 33, 512, {"A": "b"}, 0)
            )
            deployment.change(name, MemorySize=1024)
        for stub in (control, s3, logs):
            stub.assert_no_pending_responses()


IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/smoe-probe:1"


@pytest.mark.usefixtures("_keys")
def test_a_function_of_an_image_is_made_without_code_runtime_and_handler() -> None:
    """AWS refuses them beside ImageUri; the handler finds bucket and imports in its environment, as in a zip."""
    clients = aws_clients("eu-west-1")
    control, logs = Stubber(clients.control), Stubber(clients.logs)
    name, package = "smoe-id-f", ProbePackage("python3.12-arm64-image-numpy", "image", imports=("numpy",))
    package = replace(package, architecture="arm64", image_uri=IMAGE)
    request = {
        "FunctionName": name,
        "PackageType": "Image",
        "Code": {"ImageUri": IMAGE},
        "Role": ROLE,
        "MemorySize": 512,
        "Timeout": 120,
        "Architectures": ["arm64"],
        "EphemeralStorage": {"Size": 512},
        "Environment": {"Variables": {"SMOE_BUCKET": "smoe-id", "SMOE_IMPORTS": "numpy"}},
        "LoggingConfig": {"LogFormat": "Text"},
        "Tags": {"smoe-campaign": "id"},
    }
    control.add_response("create_function", {"State": "Pending"}, request)
    control.add_response("get_function_configuration", {"State": "Active"}, {"FunctionName": name})
    control.add_response("delete_function", {}, {"FunctionName": name})
    logs.add_response("delete_log_group", {}, {"logGroupName": f"/aws/lambda/{name}"})
    facts = facts_of("aws", "eu-west-1")
    with control, logs:
        backend = BotoBackend(clients, facts, BackendPrices(), "id", ROLE, sleep=lambda _: None)
        backend.create(ProbeFunction("f", 512, package))
        backend.close()
        elsewhere = replace(package, image_uri=IMAGE.replace("eu-west-1", "us-east-1"))
        with pytest.raises(InputError, match=r"image .*us-east-1.*expected one in the functions' region"):
            backend.create(ProbeFunction("g", 512, elsewhere))
        for stub in (control, logs):
            stub.assert_no_pending_responses()


@pytest.mark.usefixtures("_keys")
def test_cleanup_finds_and_removes_logs_too() -> None:
    """AWS makes a log for each function by itself, and keeps it when the function is gone."""
    clients = aws_clients("us-east-1")
    control, s3, logs = Stubber(clients.control), Stubber(clients.s3), Stubber(clients.logs)
    control.add_response("list_functions", {"Functions": []})
    s3.add_response("list_buckets", {"Buckets": [{"Name": "mine"}]})
    group = "/aws/lambda/smoe-id-f"
    logs.add_response(
        "describe_log_groups",
        {"logGroups": [{"logGroupName": group}]},
        {"logGroupNamePrefix": "/aws/lambda/smoe-"},
    )
    logs.add_client_error("delete_log_group", "ResourceNotFoundException", http_status_code=400)
    with control, s3, logs:
        found = leftovers(clients)
        assert found.tagged == (Leftover("log", group, ""),)
        assert cleanup(clients, found) == []


@pytest.mark.usefixtures("_keys")
def test_the_control_plane_is_asked_at_aws_s_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 requests a second of an account are allowed; calls of functions do not count."""
    turns: list[int] = []
    monkeypatch.setattr(Pace, "__call__", lambda self, **_: turns.append(1))
    clients = aws_clients("us-east-1")
    for client, operation, act in (
        (clients.control, "ListFunctions", clients.control.list_functions),
        (clients.functions, "Invoke", lambda: clients.functions.invoke(FunctionName="f")),
    ):
        Faults(client).add(operation, answer(200, {}), times=3)
        for _ in range(3):
            act()
    assert len(turns) == 3


def test_a_pace_spreads_what_comes_at_once() -> None:
    clock, waited = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock[0] += seconds

    pace = Pace(10.0, now=lambda: clock[0], sleep=sleep)
    for _ in range(4):
        pace()
    assert clock[0] == pytest.approx(100.3)
    clock[0] += 5
    pace()
    assert len(waited) == 3


def test_aws_is_the_same_code_with_an_endpoint_in_its_place(
    endpoint: LocalEndpoint, hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in endpoint.environment().items():
        monkeypatch.setenv(name, value)
    backend = open_aws("id", BackendPrices(gb_s=1.0), ROLE, consented=True)
    assert backend.facts.name == "aws"
    assert backend.account().concurrency == 50
    backend.create(ProbeFunction("f", 512, PACKAGE))
    assert backend.call("f", GetObjects(1000))[-1].status == "ok"
    backend.close()
    assert endpoint.clients().control.list_functions()["Functions"] == []
    assert {url.split("/")[2].split(":")[0] for url in hosts} == {"127.0.0.1"}


def test_the_local_backend_never_asks_aws(endpoint: LocalEndpoint, hosts: list[str]) -> None:
    """Whatever the user's own environment says of AWS."""
    clients = endpoint.clients()
    backend = BotoBackend(clients, facts_of("local", clients.region), BackendPrices(), "id", poll_s=0.02)
    backend.create(ProbeFunction("f", 512, PACKAGE))
    backend.call("f", Nothing())
    backend.call("f", GetObjects(1000))
    backend.forget("f")
    backend.close()
    assert len(hosts) > 8
    assert {url.split("/")[2].split(":")[0] for url in hosts} == {"127.0.0.1"}


def test_only_one_place_makes_clients_of_aws() -> None:
    """Elsewhere an endpoint is named; code inside functions gets it from its environment."""
    for path in sorted(Path(lambda_probe.__file__).parent.rglob("*.py")):
        if path.parent.name == "handlers" or path.name == "clients.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
                assert "endpoint_url" in {each.arg for each in node.keywords}, f"{path}:{node.lineno}"


def test_the_owner_of_an_account_reads_what_will_be_done() -> None:
    found = Estimate(12, 1_100, 61.5, 0.0011, 60.0, 3_400, 123.4, 9.0, 0.0021)
    text = consent_text("id", "us-east-1", found, 0.5)
    for part in ("us-east-1", "12 functions smoe-id-*", "bucket smoe-id", "1,100 times", "61.5 GB-s", "$0.0011"):
        assert part in text
    for part in ("3,400 times", "123.4 GB-s", "at most $0.5021", "stops at $0.5000", "--cleanup"):
        assert part in text
    assert "at most $9.0000" in consent_text("id", "us-east-1", found, 50.0)
