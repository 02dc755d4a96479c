"""Functions of the embedded endpoint: if these fail, a deployment that works here fails on AWS, or reverse."""

import io
import random
import stat
import zipfile
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError

from lambda_probe.local import LocalEndpoint, LocalSettings
from lambda_probe.local.code import unpack
from lambda_probe.local.errors import ApiError
from tests.lambda_probe.local.conftest import Clock

ROLE = "arn:aws:iam::000000000000:role/any"


def create(client, name, code, **settings):
    given = {"Runtime": "python3.12", "Role": ROLE, "Handler": "app.echo", "Code": {"ZipFile": code}} | settings
    return client.create_function(FunctionName=name, **given)


def test_a_function_is_pending_then_active_then_gone(make_zip, other, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("lambda_probe.local.functions.time", clock)
    with LocalEndpoint(LocalSettings(pending_s=3600)) as slow:
        client = other[1](slow)
        code = make_zip(app="def echo(event, context): return 1\n")
        assert create(client, "one", code)["State"] == "Pending"
        for act in (
            lambda: client.invoke(FunctionName="one"),
            lambda: client.update_function_configuration(FunctionName="one", Timeout=5),
            lambda: create(client, "one", code),
        ):
            with pytest.raises(client.exceptions.ResourceConflictException):
                act()
        clock.ahead_s = 3601.0
        assert client.get_function(FunctionName="one")["Configuration"]["State"] == "Active"
        assert client.invoke(FunctionName="one")["Payload"].read() == b"1"
        changed = client.update_function_configuration(FunctionName="one", Timeout=5, MemorySize=300)
        assert changed["LastUpdateStatus"] == "InProgress"
        clock.ahead_s = 2 * 3601.0
        got = client.get_function_configuration(FunctionName="one")
        assert (got["Timeout"], got["MemorySize"], got["LastUpdateStatus"]) == (5, 300, "Successful")
        client.delete_function(FunctionName="one")
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.invoke(FunctionName="one")
        assert client.list_functions()["Functions"] == []


def test_new_code_runs_on_new_instances(deploy, client, make_zip):
    function = deploy("app.handler", code=make_zip(app="def handler(event, context): return 'old'\n"))
    assert function().body == "old"
    new = make_zip(app="def handler(event, context): return 'new'\n")
    client.update_function_code(FunctionName=function.name, ZipFile=new)
    client.get_waiter("function_updated_v2").wait(FunctionName=function.name, WaiterConfig={"Delay": 0.05})
    assert function().body == "new"


def test_memory_in_the_report_is_the_memory_after_an_update(deploy, client):
    function = deploy("app.echo", MemorySize=128)
    assert function().report.memory_mb == 128
    client.update_function_configuration(FunctionName=function.name, MemorySize=1769)
    assert function().report.memory_mb == 1769


def test_tags_and_arns(deploy, client):
    name = deploy("app.echo", Tags={"campaign": "one"}).name
    arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"owner": "me"})
    assert client.list_tags(Resource=arn)["Tags"] == {"campaign": "one", "owner": "me"}
    client.untag_resource(Resource=arn, TagKeys=["owner"])
    assert client.get_function(FunctionName=arn)["Tags"] == {"campaign": "one"}


@pytest.mark.parametrize(
    "settings",
    [
        {"MemorySize": 10_241},
        {"Timeout": 901},
        {"Runtime": "nodejs22.x"},
        {"Environment": {"Variables": {"PYTHONPATH": "/anywhere"}}},
        {"Code": {"ZipFile": b"no zip"}},
        {"Code": {"S3Bucket": "no-such-bucket", "S3Key": "code.zip"}},
    ],
)
def test_what_aws_or_this_endpoint_cannot_run_is_refused(client, make_zip, settings):
    with pytest.raises(client.exceptions.InvalidParameterValueException):
        create(client, "refused", make_zip(app=""), **settings)


@pytest.mark.parametrize("name", ["../outside.py", "/tmp/outside.py", "a/../../outside.py", "..\\outside.py"])
def test_a_zip_cannot_write_outside_its_folder(client, endpoint, name):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.py", "")
        archive.writestr(name, "outside")
    before = set(endpoint.folder.iterdir())
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="outside the function's folder"):
        create(client, "traversal", out.getvalue())
    assert set(endpoint.folder.iterdir()) == before


def test_a_zip_with_a_link_is_refused(client):
    out, link = io.BytesIO(), zipfile.ZipInfo("link.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="symbolic link"):
        create(client, "link", out.getvalue())


def of_entries(*entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries:
            archive.writestr(name, text)
    return out.getvalue()


@pytest.mark.parametrize(
    "entries",
    [
        [("app.py", ""), ("app.py/part.py", "")],
        [("app.py/part.py", ""), ("app.py", "")],
        [("a" * 300 + ".py", "")],
    ],
)
def test_a_zip_whose_files_cannot_be_is_refused(client, endpoint, entries):
    """A file that is a folder as well."""
    before = set(endpoint.folder.iterdir())
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Could not unzip"):
        create(client, "cannot-be", of_entries(*entries))
    assert set(endpoint.folder.iterdir()) == before


def test_a_zip_that_is_large_when_unpacked_is_refused_before_that(client, endpoint, monkeypatch):
    monkeypatch.setattr("lambda_probe.local.code.UNZIPPED_BYTES", 10_000)
    before = set(endpoint.folder.iterdir())
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Unzipped size must be smaller"):
        create(client, "bomb", of_entries(*[(f"{number}.py", "0" * 2_001) for number in range(5)]))
    assert set(endpoint.folder.iterdir()) == before


def test_a_damaged_zip_is_refused_or_read_and_nothing_else(tmp_path):
    good, dice = of_entries(("app.py", "x = 1\n" * 50), ("b/ä.py", "y" * 30)), random.Random(1)
    for _ in range(500):
        damaged = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with suppress(ApiError):
            unpack(bytes(damaged), tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_code_can_come_from_s3(client, endpoint, other, make_zip):
    s3 = other[1](endpoint, "s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="app.zip", Body=make_zip(app="def echo(event, context): return 's3'\n"))
    create(client, "from-s3", b"", Code={"S3Bucket": "code", "S3Key": "app.zip"})
    client.get_waiter("function_active_v2").wait(FunctionName="from-s3", WaiterConfig={"Delay": 0.05})
    assert client.invoke(FunctionName="from-s3")["Payload"].read() == b'"s3"'


def test_what_is_not_modelled_says_so(client):
    with pytest.raises(ClientError, match="not in this endpoint"):
        client.list_layers()
