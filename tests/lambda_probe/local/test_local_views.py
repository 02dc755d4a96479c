"""What an instance sees and leaves: if these fail, functions find each other's files, or processes stay behind."""

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lambda_probe.local import LocalEndpoint, LocalSettings
from lambda_probe.local.mounts import View

WRITER = """
import os, tempfile

def handler(event, context):
    before = sorted(os.listdir("/tmp"))
    open("/tmp/model.bin", "w").close()
    try:
        open("here", "w")
    except OSError as error:
        return [before, tempfile.gettempdir(), str(error)]
    return [before, tempfile.gettempdir(), ""]
"""
STARTER = """
import subprocess

def handler(event, context):
    environment = {} if event["bare"] else None
    twice = ["sh", "-c", "sleep 300 & echo $!"] if event["twice"] else ["sh", "-c", "echo $$; exec sleep 300"]
    child = subprocess.Popen(twice, start_new_session=True, env=environment, stdout=subprocess.PIPE, text=True)
    return int(child.stdout.readline())
"""


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def own(endpoint):
    if not endpoint.own_views:
        pytest.skip("no mount namespaces here")


PATHS = (Path(__file__).parents[3], Path(sys.prefix), Path(sys.base_prefix))
SHOWN = {path.parts[2] for path in PATHS if path.is_relative_to("/tmp")}
"""Folders in /tmp that instances see all the same: this checkout's, and the interpreter's."""


@pytest.mark.usefixtures("own")
def test_each_instance_has_an_empty_tmp_and_keeps_it_while_it_is_warm(deploy, make_zip):
    one, two = (deploy("app.handler", code=make_zip(app=WRITER), MemorySize=1769) for _ in range(2))
    found = [set(call().body[0]) - SHOWN for call in (one, one, two)]
    assert found == [set(), {"model.bin"}, set()]
    assert one().body[1] == "/tmp"
    assert not Path("/tmp/model.bin").exists()


@pytest.mark.usefixtures("own")
def test_a_function_cannot_write_its_own_code(deploy, make_zip):
    assert "Read-only file system" in deploy("app.handler", code=make_zip(app=WRITER))().body[2]


@pytest.mark.usefixtures("own")
def test_code_and_packages_under_tmp_stay_visible(other, make_zip, monkeypatch):
    monkeypatch.setattr("lambda_probe.local.endpoint.outside_tmp", lambda: "/tmp")
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as endpoint:
        assert endpoint.folder.parent == Path("/tmp")
        first = other[0](endpoint, "app.handler", code=make_zip(app=WRITER))().body
    assert (set(first[0]) - SHOWN, "Read-only" in first[2]) == ({endpoint.folder.name}, True)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.usefixtures("own")
def test_sessions_that_a_function_started_end_with_its_instance(other, make_zip, twice, bare):
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as endpoint:
        start = other[0](endpoint, "app.handler", code=make_zip(app=STARTER))
        changed, stopped = start(twice=twice, bare=bare).body, None
        assert lives(changed)
        start.client.update_function_configuration(FunctionName=start.name, Timeout=20)
        deadline = time.monotonic() + 20
        while lives(changed):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stopped = start(twice=twice, bare=bare).body
        assert lives(stopped)
    assert not lives(stopped)
    assert not endpoint.folder.exists()


def test_where_there_are_no_mount_namespaces_that_is_said_once(other, make_zip, monkeypatch, caplog, tmp_path):
    def refuse(view):
        raise PermissionError("unshare: not permitted")

    monkeypatch.setattr(View, "enter", refuse)
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as endpoint:
        start = other[0](endpoint, "app.handler", code=make_zip(app=STARTER))
        left = start(twice=True, bare=False).body
        there = other[0](endpoint, "app.environment")().body["TMPDIR"]
        assert Path(there).parent.parent == endpoint.folder
    assert not lives(left)
    assert caplog.text.count("no mount namespaces here: functions share /tmp, and can write their code") == 1


def test_the_endpoint_s_own_files_go_where_the_user_wants_temporary_files(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with LocalEndpoint() as endpoint:
        assert endpoint.folder.parent == tmp_path
    assert os.listdir(tmp_path) == []
