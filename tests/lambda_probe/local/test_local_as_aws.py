"""What AWS refuses is refused here in its words: if these fail, a program works here and fails on AWS, or reverse.

What this endpoint does not model is refused as well: nobody measures a setting that was dropped without a word.
"""

import base64
import io
import json
import zipfile

import pytest
from botocore.exceptions import ClientError

from lambda_probe.local import LocalEndpoint, LocalSettings
from tests.lambda_probe.local.conftest import Clock, refused, zipped

ROLE = "arn:aws:iam::000000000000:role/any"
OLD = zipped(app="def handler(event, context): return 'old'\n")
NEW = zipped(app="def handler(event, context): return 'new'\n")


@pytest.fixture(scope="module")
def name(deploy):
    """A function that most tests only look at."""
    return deploy("app.handler", code=OLD).name


def ready(client, name):
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})


@pytest.mark.parametrize("version", ["99", "prod"])
def test_there_is_no_version_but_the_latest(client, name, version):
    arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    acts = (client.invoke, client.get_function, client.get_function_configuration, client.delete_function)
    for act in (*acts, client.put_function_event_invoke_config):
        for asked in (
            {"FunctionName": name, "Qualifier": version},
            {"FunctionName": f"{name}:{version}"},
            {"FunctionName": f"{arn}:{version}"},
        ):
            message = refused(lambda act=act, asked=asked: act(**asked), "ResourceNotFoundException", 404)
            assert message == f"Function not found: {arn}:{version}"
    change = {"FunctionName": f"{name}:{version}"}
    for act in (
        lambda: client.update_function_code(ZipFile=NEW, **change),
        lambda: client.update_function_configuration(MemorySize=256, **change),
        lambda: client.put_function_concurrency(ReservedConcurrentExecutions=1, **change),
    ):
        refused(act, "ResourceNotFoundException", 404)
    assert client.invoke(FunctionName=name)["Payload"].read() == b'"old"'


def test_the_latest_version_may_be_named(client, name):
    arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    for asked in (
        {"FunctionName": name, "Qualifier": "$LATEST"},
        {"FunctionName": f"{name}:$LATEST"},
        {"FunctionName": f"{arn}:$LATEST", "Qualifier": "$LATEST"},
        {"FunctionName": f"000000000000:function:{name}"},
    ):
        assert client.invoke(**asked)["Payload"].read() == b'"old"'
        assert client.get_function(**asked)["Configuration"]["FunctionArn"] == arn
    two = {"FunctionName": f"{name}:$LATEST", "Qualifier": "1"}
    assert "does not match" in refused(lambda: client.invoke(**two), "InvalidParameterValueException")
    latest = {"FunctionName": name, "Qualifier": "$LATEST"}
    told = refused(lambda: client.delete_function(**latest), "InvalidParameterValueException")
    assert told == "$LATEST version cannot be deleted without deleting the function."
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    refused(lambda: client.invoke(FunctionName=elsewhere), "ResourceNotFoundException", 404)
    client.get_function(FunctionName=name)


def test_a_dry_run_changes_nothing(deploy, client, endpoint):
    name = deploy("app.handler", code=OLD).name
    before, folders = client.get_function_configuration(FunctionName=name), set(endpoint.folder.iterdir())
    told = client.update_function_code(FunctionName=name, ZipFile=NEW, DryRun=True)
    assert told["CodeSha256"] != before["CodeSha256"]
    after = client.get_function_configuration(FunctionName=name)
    assert {**after, "ResponseMetadata": {}} == {**before, "ResponseMetadata": {}}
    assert client.invoke(FunctionName=name)["Payload"].read() == b'"old"'
    assert set(endpoint.folder.iterdir()) == folders
    assert client.invoke(FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204
    refused(
        lambda: client.update_function_code(FunctionName=name, ZipFile=b"no zip", DryRun=True),
        "InvalidParameterValueException",
    )


def test_a_change_of_an_older_revision_is_refused(deploy, client, endpoint):
    name = deploy("app.handler", code=OLD).name
    first = client.get_function_configuration(FunctionName=name)["RevisionId"]
    second = client.update_function_configuration(FunctionName=name, MemorySize=256, RevisionId=first)[
        "RevisionId"
    ]
    ready(client, name)
    folders = set(endpoint.folder.iterdir())
    for act in (
        lambda: client.update_function_configuration(FunctionName=name, MemorySize=512, RevisionId=first),
        lambda: client.update_function_code(FunctionName=name, ZipFile=NEW, RevisionId=first),
        lambda: client.update_function_code(FunctionName=name, ZipFile=NEW, RevisionId=first, DryRun=True),
    ):
        assert "does not match the latest" in refused(act, "PreconditionFailedException", 412)
    assert set(endpoint.folder.iterdir()) == folders
    now = client.get_function_configuration(FunctionName=name)
    assert (now["MemorySize"], now["RevisionId"]) == (256, second)
    client.update_function_code(FunctionName=name, ZipFile=NEW, RevisionId=second)


def test_a_change_during_a_change_is_refused_in_the_words_that_deploy_tools_look_for(other, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("lambda_probe.local.functions.time", clock)
    with LocalEndpoint(LocalSettings(pending_s=3600)) as endpoint:
        client = other[1](endpoint)
        create(client, "f")
        clock.ahead_s = 3601.0
        arn = client.update_function_configuration(FunctionName="f", MemorySize=1024)["FunctionArn"]
        told = refused(
            lambda: client.update_function_code(FunctionName="f", ZipFile=NEW), "ResourceConflictException", 409
        )
        cannot = "The operation cannot be performed at this time."
        assert told == f"{cannot} An update is in progress for resource: {arn}"


def create(client, name="refused", **settings):
    given = {"Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": OLD}}
    return client.create_function(FunctionName=name, **{**given, **settings})


NOT_MODELLED = {
    "Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:x:1"],
    "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    "SnapStart": {"ApplyOn": "PublishedVersions"},
    "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"},
    "KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/x",
    "FileSystemConfigs": [
        {"Arn": "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0",
         "LocalMountPath": "/mnt/x"}
    ],
    "TracingConfig": {"Mode": "Active"},
    "ImageConfig": {"Command": ["app.handler"]},
}  # fmt: skip


@pytest.mark.parametrize("setting", [*NOT_MODELLED, "Publish"])
def test_a_setting_that_is_not_modelled_is_refused_by_name(client, name, setting):
    settings = {setting: NOT_MODELLED.get(setting, True)}
    told = refused(lambda: create(client, **settings), "InvalidParameterValueException")
    assert setting[:2].lower() + setting[2:] in told or setting[:1].lower() + setting[1:] in told
    change = client.update_function_configuration
    if setting == "Publish":
        change = lambda **more: client.update_function_code(ZipFile=NEW, **more)  # noqa: E731
    refused(lambda: change(FunctionName=name, **settings), "InvalidParameterValueException")
    assert "refused" not in {each["FunctionName"] for each in client.list_functions()["Functions"]}


def test_settings_that_say_what_is_so_anyhow_are_taken_and_answered(client):
    settings = {"TracingConfig": {"Mode": "PassThrough"}, "LoggingConfig": {"LogFormat": "Text"}}
    none = {
        "Layers": [],
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
        "KMSKeyArn": "",
        "Publish": False,
    }
    answer = create(client, "defaults", SnapStart={"ApplyOn": "None"}, **settings, **none)
    assert answer["TracingConfig"] == settings["TracingConfig"]
    assert answer["LoggingConfig"]["LogFormat"] == "Text"
    assert answer["SnapStart"]["ApplyOn"] == "None"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"Timeout": 0}, "timeout"),
        ({"Timeout": 901}, "timeout"),
        ({"Timeout": True}, "timeout"),
        ({"Timeout": "3"}, "timeout"),
        ({"MemorySize": 127}, "memorySize"),
        ({"MemorySize": 10_241}, "memorySize"),
        ({"EphemeralStorage": {"Size": 511}}, "ephemeralStorage.size"),
        ({"EphemeralStorage": {"Size": 10_241}}, "ephemeralStorage.size"),
        ({"EphemeralStorage": {}}, "ephemeralStorage.size"),
        ({"Description": "x" * 257}, "description"),
        ({"Handler": "a b"}, "handler"),
        ({"Handler": "x" * 129}, "handler"),
        ({"Handler": "app.\0"}, "handler"),
        ({"Handler": ["app.handler"]}, "handler"),
        ({"Runtime": "python3.99"}, "runtime"),
        ({"Architectures": ["sparc"]}, "architectures"),
        ({"Architectures": ["arm64", "x86_64"]}, "architectures"),
        ({"PackageType": "Tar"}, "packageType"),
        ({"Environment": {"Variables": {"1A": "x"}}}, "1A"),
        ({"Environment": {"Variables": {"AA": 1}}}, "environment.variables.AA"),
        ({"Environment": {"Variables": {"AA": "a\0b"}}}, "environment.variables.AA"),
        ({"Environment": {"Variables": {"AA": "\ud800"}}}, "environment.variables.AA"),
        ({"Tags": {"": "x"}}, "tags"),
        ({"Tags": {"aws:mine": "x"}}, "aws:"),
        ({"Tags": {f"k{number}": "" for number in range(51)}}, "tag limit"),
        ({"Code": {}}, "source for function code"),
        ({"Code": {"S3Bucket": "bucket"}}, "ZipFile"),
        ({"Memory": 128}, "memory"),
        ({"Environment": {"Variable": {}}}, "environment.variable"),
    ],
)
def test_a_value_that_aws_refuses_is_refused_by_name(client, settings, says):
    told = _sent(client, settings)
    assert says in told
    assert "refused" not in {each["FunctionName"] for each in client.list_functions()["Functions"]}


def _sent(client, settings):
    """What CreateFunction says to a body that botocore itself might not send."""
    code = {"ZipFile": base64.b64encode(OLD).decode()}
    if "Code" in settings:
        settings = {**settings, "Code": {**code, **settings["Code"]} if settings["Code"] else {}}
    body = {
        "FunctionName": "refused",
        "Runtime": "python3.12",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": code,
    }

    def put(request, **_):
        request.data = json.dumps(body | settings).encode()

    client.meta.events.register("before-sign.lambda.CreateFunction", put)
    try:
        with pytest.raises(ClientError) as caught:
            create(client)
    finally:
        client.meta.events.unregister("before-sign.lambda.CreateFunction", put)
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["Error"]["Code"] in ("InvalidParameterValueException", "SerializationException")
    return answer["Error"]["Message"]


@pytest.mark.parametrize("name", ["a" * 65, "f:1", "f.g", "arn:aws:lambda:us-east-1:000000000000:function:f:1"])
def test_a_name_that_aws_does_not_give_is_refused(client, name):
    assert "functionName" in refused(lambda: create(client, name), "InvalidParameterValueException")


def test_a_function_may_be_created_by_its_arn(client):
    arn = "arn:aws:lambda:us-east-1:000000000000:function:by-arn"
    assert create(client, arn)["FunctionName"] == "by-arn"


def test_the_environment_has_4_kb_and_names_of_its_own(client):
    most = {"AA": "x" * (4096 - len('{"AA":""}'))}
    assert create(client, "full", Environment={"Variables": most})["Environment"]["Variables"] == most
    for size in (len(most["AA"]) + 1, 200_000):
        told = refused(
            lambda size=size: create(client, Environment={"Variables": {"AA": "x" * size}}),
            "InvalidParameterValueException",
        )
        assert "environment variables you have provided exceeded the 4KB limit" in told
    letters = {"AA": "\u6f22" * 1400}  # of three bytes each
    refused(lambda: create(client, Environment={"Variables": letters}), "InvalidParameterValueException")
    for name in ("AWS_REGION", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"):
        refuse = lambda name=name: create(client, Environment={"Variables": {name: "x"}})  # noqa: E731
        assert "reserved keys" in refused(refuse, "InvalidParameterValueException")


def test_variables_of_the_user_go_before_those_of_the_endpoint(deploy):
    code = zipped(
        app="import os\ndef handler(event, context): return [os.environ[x] for x in ('HOME', 'TMPDIR')]\n"
    )
    mine = {"HOME": "/var/empty", "TMPDIR": "/var/tmp"}
    assert deploy("app.handler", code=code, Environment={"Variables": mine})().body == ["/var/empty", "/var/tmp"]


def test_a_file_keeps_the_mode_that_the_zip_says(deploy):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, mode, text in (
            ("app.py", 0o100644, TOOL),
            ("bin/tool", 0o100755, "#!/bin/sh\necho ran\n"),
            ("bin/plain", 0o100640, ""),
            ("bin/set", 0o104755, ""),
            ("none", 0, ""),
        ):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, text)
    modes, said = deploy("app.handler", code=out.getvalue())().body
    assert modes[:3] == ["0o755", "0o640", "0o755"]
    assert int(modes[3], 8) & 0o444
    assert said == "ran\n"


TOOL = """
import os, stat, subprocess
def handler(event, context):
    files = ("bin/tool", "bin/plain", "bin/set", "none")
    modes = [oct(stat.S_IMODE(os.stat(file).st_mode)) for file in files]
    return [modes, subprocess.run(["./bin/tool"], capture_output=True, text=True).stdout]
"""


def test_what_asynchronous_calls_are_told_is_done_or_refused(name, client):
    for asked in (
        {"MaximumRetryAttempts": 3},
        {"MaximumEventAgeInSeconds": 60},
        {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:q"}}},
    ):
        refused(
            lambda asked=asked: client.put_function_event_invoke_config(FunctionName=name, **asked),
            "InvalidParameterValueException",
        )
    client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=21_600, DestinationConfig={}
    )


def test_functions_are_listed_in_pages(other):
    with LocalEndpoint() as endpoint:
        client = other[1](endpoint)
        names = [f"f{number:02}" for number in range(53)]
        for name in names:
            create(client, name)
        assert len(client.list_functions()["Functions"]) == 50
        for size in (1, 20, 53, 10_000):
            pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": size})
            assert [each["FunctionName"] for page in pages for each in page["Functions"]] == names
        refused(lambda: client.list_functions(MaxItems=10_001), "InvalidParameterValueException")


def test_tags_beyond_50_and_aws_s_own_are_refused(deploy, client):
    arn = client.get_function(FunctionName=deploy("app.handler", code=OLD).name)["Configuration"]["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={f"k{number}": "" for number in range(50)})
    for tags in ({"one": "more"}, {"aws:x": ""}):
        refused(lambda tags=tags: client.tag_resource(Resource=arn, Tags=tags), "InvalidParameterValueException")
    assert len(client.list_tags(Resource=arn)["Tags"]) == 50


def test_code_that_is_refused_leaves_no_folder(client, endpoint):
    broken = bytearray(zipped(app="x" * 1000, other="y"))
    broken[40:60] = bytes(20)
    before = set(endpoint.folder.iterdir())
    for code in ({"ZipFile": bytes(broken)}, {"S3Bucket": "no-such-bucket", "S3Key": "x"}):
        refused(lambda code=code: create(client, Code=code), "InvalidParameterValueException")
    assert set(endpoint.folder.iterdir()) == before
