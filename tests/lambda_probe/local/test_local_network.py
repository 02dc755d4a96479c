"""What can be asked for of the local endpoint: S3's latency, a function's bandwidth, AWS's repeated events."""

import json
import socket
import time
from threading import Thread
from types import SimpleNamespace

import pytest

from lambda_probe.local import LocalEndpoint, LocalSettings, s3_network
from lambda_probe.local.s3_network import S3Network, TokenBucket
from moe.errors import InputError

MB = 2**20
S3_CODE = """
import boto3, time
s3 = boto3.client("s3")

def handler(event, context):
    began = time.perf_counter()
    if event["put"]:
        s3.put_object(Bucket="bucket", Key="k", Body=bytes(event["put"]))
    else:
        s3.get_object(Bucket="bucket", Key="k")["Body"].read()
    return time.perf_counter() - began
"""
FAILING = """
import boto3
s3 = boto3.client("s3")

def handler(event, context):
    s3.put_object(Bucket="bucket", Key=context.aws_request_id)
    raise ValueError("no")
"""


def test_a_token_bucket_lets_a_burst_through_and_then_keeps_its_rate() -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    bucket = TokenBucket(100.0, 250.0, now=lambda: clock[0], sleep=sleep)
    for _ in range(5):
        bucket.take(50)
    assert clock[0] == 0.0
    for _ in range(4):
        bucket.take(50)
    assert clock[0] == pytest.approx(2.0)
    clock[0] += 1.0
    bucket.take(100)
    assert clock[0] == pytest.approx(3.0)
    clock[0] += 1000.0
    bucket.take(250)
    assert clock[0] == pytest.approx(1003.0)
    bucket.take(100)
    assert clock[0] == pytest.approx(1004.0)


def test_a_request_waits_once_and_an_interim_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PUT asks whether it may send its body: that is one request, not two."""
    waits: list[float] = []
    monkeypatch.setattr(s3_network, "time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic))
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        end, _ = server.accept()
        with end:
            for _ in range(2):
                assert end.recv(100) == b"head"
                end.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                assert end.recv(100) == b"body"
                end.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    Thread(target=serve, daemon=True).start()
    network = S3Network(server.getsockname()[1], 0.02, 0.0, 0.0)
    with socket.create_connection(("127.0.0.1", int(network.url.rsplit(":", 1)[1]))) as client:
        for text, waited in ((b"head", 1), (b"body", 1), (b"head", 2), (b"body", 2)):
            client.sendall(text)
            assert client.recv(100).startswith(b"HTTP/1.1")
            assert waits == [0.02] * waited
    network.close()
    server.close()


def test_a_function_s_requests_to_s3_take_the_latency_and_bandwidth_asked_for(other, make_zip) -> None:
    """Bandwidth follows the memory: 512 MB of it buy 4 MB/s here."""
    deploy_to, connect = other
    settings = LocalSettings(pending_s=0.02, s3_latency_s=0.05, s3_bytes_per_s_per_mb=4 * MB / 512)
    with LocalEndpoint(settings) as endpoint:
        connect(endpoint, "s3").create_bucket(Bucket="bucket")
        function = deploy_to(endpoint, "app.handler", MemorySize=512, code=make_zip(app=S3_CODE))
        for event, least_s in (({"put": 1}, 0.05), ({"put": 0}, 0.05), ({"put": 2 * MB}, 0.5), ({"put": 0}, 0.5)):
            assert function(**event).body >= least_s, event


def test_a_failed_event_is_run_again_as_often_as_its_function_says(other, make_zip) -> None:
    deploy_to, connect = other
    with LocalEndpoint(LocalSettings(pending_s=0.02, event_retry_waits_s=(0.05, 0.05))) as endpoint:
        s3 = connect(endpoint, "s3")
        s3.create_bucket(Bucket="bucket")
        for retries, runs in ((None, 3), (0, 1)):
            function = deploy_to(endpoint, "app.handler", code=make_zip(app=FAILING), MemorySize=1769)
            if retries is not None:
                function.client.put_function_event_invoke_config(
                    FunctionName=function.name, MaximumRetryAttempts=retries
                )
            function.client.invoke(FunctionName=function.name, InvocationType="Event", Payload=json.dumps({}))
            deadline, found = time.monotonic() + 10, 0
            while found < runs and time.monotonic() < deadline:
                time.sleep(0.05)
                found = s3.list_objects_v2(Bucket="bucket").get("KeyCount", 0)
            time.sleep(0.3)  # one too many would show by now
            assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == runs
            for item in s3.list_objects_v2(Bucket="bucket")["Contents"]:
                s3.delete_object(Bucket="bucket", Key=item["Key"])


def test_settings_below_zero_are_refused() -> None:
    with pytest.raises(InputError, match="s3_latency_s=-1"):
        LocalSettings(s3_latency_s=-1)
