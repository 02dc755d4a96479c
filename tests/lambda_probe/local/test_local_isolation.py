"""The embedded endpoint's walls: if these fail, others reach it, code escapes, or processes are left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambda_probe.local import LocalEndpoint, LocalSettings
from moe.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK, LISTENS = "0100007F", "0A"


def alive(pids):
    found = []
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(pid)
    return found


def gone(pids, within_s=5.0):
    deadline = time.monotonic() + within_s
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pids)


def listening(pid):
    """Addresses on which a process listens, as the kernel tells."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    rows = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        rows += [line.split() for line in path.read_text().splitlines()[1:]] if path.exists() else []
    return [row[1] for row in rows if row[3] == LISTENS and row[9] in inodes]


def test_only_loopback_is_listened_on(endpoint, deploy):
    deploy("app.echo")()
    addresses = [address for pid in (os.getpid(), *endpoint.pids()) for address in listening(pid)]
    assert len(addresses) >= 3  # Lambda, S3 and the instance's Runtime API
    assert {address.split(":")[0] for address in addresses} == {LOOPBACK}


def test_a_function_imports_its_zip_and_installed_packages_but_nothing_of_the_caller(deploy):
    names = ["experiments", "lambda_probe", "moe", "conftest", "numpy", "boto3", "app"]
    found = deploy("app.imports", MemorySize=1769, Timeout=30)(names=names).body
    assert [name for name in names if found[name] is None] == ["experiments", "lambda_probe", "moe", "conftest"]
    assert Path(found["app"]).parent.name == "task"


def test_a_function_sees_its_own_variables_and_none_of_the_caller(deploy, endpoint, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "1")
    given = {"Variables": {"MODEL": "bert"}}
    seen = deploy("app.environment", MemorySize=3_000, Environment=given)().body
    assert seen["MODEL"] == "bert"
    assert seen["AWS_ENDPOINT_URL_S3"] == endpoint.s3_url
    assert seen["OMP_NUM_THREADS"] == "2"  # 3000 MB are 1.7 vCPU
    assert "SECRET_OF_THE_CALLER" not in seen


def test_stopping_leaves_no_process_and_no_file(other):
    deploy_to, _ = other
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as endpoint:
        deploy_to(endpoint, "app.echo")()
        pids, folder = endpoint.pids(), endpoint.folder
        assert len(alive(pids)) == 2
    assert gone(pids)
    assert not folder.exists()
    endpoint.stop()  # again: nothing happens


def test_an_exception_stops_it_too():
    with pytest.raises(KeyboardInterrupt), LocalEndpoint() as endpoint:  # noqa: PT012
        pids = endpoint.pids()
        raise KeyboardInterrupt
    assert gone(pids)


def test_children_die_with_a_parent_that_is_killed(make_zip):
    script = (
        "import sys, boto3; from lambda_probe.local import LocalEndpoint, LocalSettings\n"
        "endpoint = LocalEndpoint(LocalSettings(pending_s=0.0))\n"
        "client = boto3.client('lambda', endpoint_url=endpoint.lambda_url, region_name='us-east-1',\n"
        "    aws_access_key_id=endpoint.keys.access_key, aws_secret_access_key=endpoint.keys.secret_key)\n"
        "client.create_function(FunctionName='f', Runtime='python3.12', Role='arn:aws:iam::000000000000:role/r',\n"
        "    Handler='app.handler', Code={'ZipFile': sys.stdin.buffer.read()})\n"
        "client.invoke(FunctionName='f')\n"
        "print(*endpoint.pids(), endpoint.folder, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    code = make_zip(app="def handler(event, context): pass\n")
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as parent:
        parent.stdin.write(code)
        parent.stdin.close()
        *pids, folder = parent.stdout.readline().split()
        assert len(alive(map(int, pids))) == 2
        parent.send_signal(signal.SIGKILL)
    assert gone(list(map(int, pids)))
    shutil.rmtree(folder.decode())


def test_two_endpoints_side_by_side_share_nothing(endpoint, other):
    deploy_to, connect = other
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as second:
        connect(second, "s3").create_bucket(Bucket="of-the-second")
        mine = deploy_to(second, "app.echo")
        assert mine(say="hello").error is None
        assert "of-the-second" not in {each["Name"] for each in connect(endpoint, "s3").list_buckets()["Buckets"]}
        assert mine.name not in {each["FunctionName"] for each in connect(endpoint).list_functions()["Functions"]}
        assert len({endpoint.lambda_url, endpoint.s3_url, second.lambda_url, second.s3_url}) == 4


def test_a_setting_that_cannot_be_is_said():
    with pytest.raises(InputError, match="mb_per_core=0: expected a number above 0"):
        LocalSettings(mb_per_core=0)
