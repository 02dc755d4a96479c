"""The IAM policies of docs/ allow all that the code asks of AWS, and no more than names with its prefix.

A user who attaches them loses a campaign half-way to an AccessDenied, or trusts the code with too much.
"""

import ast
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import Session

import lambda_probe
from lambda_probe.account.cleanup import cleanup, leftovers
from lambda_probe.campaign.backend import BackendPrices, ProbeFunction, ProbePackage
from lambda_probe.campaign.boto_backend import BotoBackend, facts_of
from lambda_probe.campaign.works import GetObjects, Nothing
from lambda_probe.handlers import probe
from lambda_probe.local import LocalEndpoint, LocalSettings

DOCS = Path(__file__).parents[3] / "docs"
SOURCE = Path(lambda_probe.__file__).parent
SERVICES = {"lambda": "lambda", "s3": "s3", "logs": "logs"}
# Source: the service authorization reference of AWS; other operations need the action of their own name.
ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:UploadPartCopy": "s3:PutObject",  # and GetObject of what is copied
    "s3:CompleteMultipartUpload": "s3:PutObject",
}


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DOCS / name).read_text())["Statement"]
    return found


def allowed(name: str) -> set[str]:
    lists = [each["Action"] for each in statements(name)]
    return {action for each in lists for action in ([each] if isinstance(each, str) else each)}


def actions(operations: Iterable[str]) -> set[str]:
    """What a caller must be allowed for operations such as `s3:ListBuckets`."""
    return {ACTIONS.get(each, each) for each in operations}


def written_in(paths: Iterable[Path]) -> set[str]:
    """Operations that code calls, found by the names of boto3's methods and paginators."""
    session, methods, pages = Session(), {}, set()
    for service in SERVICES:
        names = session.get_service_model(service).operation_names
        methods |= {xform_name(name): f"{service}:{name}" for name in names}
        pages |= {xform_name(name) for name in session.get_paginator_model(service)._paginator_config}
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in methods:
                found.add(methods[node.attr])
            elif isinstance(node, ast.Constant) and node.value in pages:
                found.add(methods[node.value])
    return found


def test_the_policy_covers_every_operation_that_is_written_anywhere() -> None:
    outside = [path for path in SOURCE.rglob("*.py") if path.parent.name not in ("local", "handlers")]
    asked = actions(written_in(outside))
    assert {"lambda:CreateFunction", "s3:DeleteObject", "logs:DeleteLogGroup"} <= asked
    assert asked <= allowed("aws-policy.json")
    inside = actions(written_in((SOURCE / "handlers").glob("*.py")))
    assert {"lambda:InvokeFunction", "s3:GetObject", "s3:PutObject"} <= inside
    assert inside <= allowed("aws-role-policy.json")


def test_the_policy_allows_nothing_that_nobody_asks_for() -> None:
    """Least privilege. CreateFunction with tags needs TagResource; PassRole has no operation."""
    asked = actions(written_in(SOURCE.rglob("*.py")))
    without = {"lambda:TagResource", "iam:PassRole", "logs:FilterLogEvents", "s3:ListBucket"}
    assert allowed("aws-policy.json") <= asked | without


@pytest.mark.parametrize("name", ["aws-policy.json", "aws-role-policy.json"])
def test_only_names_with_the_prefix_can_be_touched(name: str) -> None:
    harmless = {
        "lambda:GetAccountSettings",
        "lambda:ListFunctions",
        "s3:ListAllMyBuckets",
        "logs:DescribeLogGroups",
    }
    for statement in statements(name):
        given = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in given if "*" in action]
        if not set(given) <= harmless:
            assert "smoe-" in statement["Resource"], statement
    assert len((DOCS / name).read_text()) < 6144, "IAM takes no more in a managed policy"


def test_the_policy_covers_what_a_campaign_really_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment, calls, all that a function does, and the cleaning up, watched request by request."""
    if not sys.platform.startswith("linux"):
        pytest.skip("AWS's runtime client is for Linux")
    sent: dict[str, set[str]] = {"outside": set(), "inside": set()}

    def watch(client: Any, side: str) -> None:
        service = client.meta.service_model.service_name

        def note(event_name: str, **_: Any) -> None:
            sent[side].add(f"{service}:{event_name.rsplit('.', 1)[-1]}")

        client.meta.events.register_first(f"before-send.{service}", note)

    with LocalEndpoint(LocalSettings(pending_s=0.02)) as endpoint:
        clients = endpoint.clients()
        for client in (clients.functions, clients.control, clients.s3):
            watch(client, "outside")
        backend = BotoBackend(clients, facts_of("local", "us-east-1"), BackendPrices(), "id", poll_s=0.02)
        backend.account()
        backend.create(ProbeFunction("f", 1769, ProbePackage("large", padding_bytes=5 * 2**20)))
        backend.create(ProbeFunction("g", 128, ProbePackage("small")))
        backend.forget("f")
        assert backend.call("f", Nothing())[-1].status == "ok"
        assert backend.call("f", GetObjects(1000))[-1].status == "ok"
        backend.delete("g")
        for name, value in {**endpoint.environment(), "SMOE_BUCKET": "smoe-id"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(probe, "_clients", {})
        for service in ("s3", "lambda"):
            watch(probe._client(service), "inside")
        size = {"size_bytes": 1000, "connections": 1, "repeats": 1}
        for event in (
            {"do": "get", **size},
            {"do": "put", **size},
            {"do": "put", "size_bytes": 11 * 2**20, "connections": 2, "repeats": 1},
            {"do": "send", "target": "smoe-id-f", "size_bytes": 10, "answer_bytes": 10, "repeats": 1},
        ):
            assert len(probe.handler(event, None)["seconds"]) == 1
        clients.s3.create_multipart_upload(Bucket="smoe-id", Key="put/unfinished")
        cleanup(clients, leftovers(clients))
        backend.close()
    assert len(sent["outside"]) > 14
    assert actions(sent["outside"]) <= allowed("aws-policy.json")
    assert len(sent["inside"]) == 6
    assert actions(sent["inside"]) <= allowed("aws-role-policy.json")
