"""Who may use the endpoint: if these fail, a web page or another program runs code here, or changes an answer."""

import http.client
import json
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambda_probe.local import LocalEndpoint, loopback
from lambda_probe.local.loopback import LoopbackServer, Response
from lambda_probe.local.settings import HOST
from lambda_probe.local.walls import new_keys
from moe.errors import InputError

PAGE = {"Origin": "http://page.example", "Content-Type": "text/plain"}
SERVICES = ["lambda", "s3"]
FORGER = """
import http.client, json, os

def handler(event, context):
    if event.get("forge"):
        api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        said = []
        for path in event["forge"]:
            api.request("POST", "/2018-06-01/runtime/" + path, b'"forged"')
            answer = api.getresponse()
            said.append([answer.status, json.loads(answer.read())["errorType"]])
        return said
    import time
    time.sleep(event.get("seconds", 0))
    return [os.environ["AWS_LAMBDA_RUNTIME_API"], context.aws_request_id]
"""


def asked(url, method="GET", path="/", body=b"", **headers):
    """Status and text of a request that is sent as it is."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)) as link:
        link.request(method, path, body, headers)
        answer = link.getresponse()
        return answer.status, answer.read().decode()


def raw(port, text):
    """The status line of an answer to these bytes; empty when there is none."""
    with socket.create_connection((HOST, port), timeout=20) as link:
        link.sendall(text)
        return link.makefile("rb").readline().decode().strip()


def client_of(endpoint, service, access_key, secret_key):
    return boto3.client(
        service,
        endpoint_url=endpoint.lambda_url if service == "lambda" else endpoint.s3_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def listed(client):
    return client.list_functions() if client.meta.service_model.service_name == "lambda" else client.list_buckets()


def code_of(act):
    with pytest.raises(ClientError) as caught:
        act()
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    return answer.get("Error", {}).get("Code", "")


@pytest.fixture(scope="module")
def bucket(endpoint):
    s3 = endpoint.clients().s3
    s3.create_bucket(Bucket="code-of-mine")
    s3.put_object(Bucket="code-of-mine", Key="f.zip", Body=b"mine")
    return s3


@pytest.fixture(scope="module")
def forger(deploy, make_zip):
    return deploy("app.handler", code=make_zip(app=FORGER), Timeout=20, MemorySize=1769)


def test_each_endpoint_has_keys_of_its_own_and_hands_them_out(endpoint):
    given = endpoint.environment()
    assert (given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]) == (
        endpoint.keys.access_key,
        endpoint.keys.secret_key,
    )
    others = [new_keys() for _ in range(100)]
    assert len({each.secret_key for each in (endpoint.keys, *others)}) == 101
    assert min(len(each.secret_key) for each in others) >= 40


@pytest.mark.parametrize("given", ["local", ":secret", "a b:c", "id:"])
def test_keys_that_a_program_brings_are_a_pair(monkeypatch, given):
    monkeypatch.setenv("SMOE_LOCAL_KEYS", "mine:too:long")
    assert (new_keys().access_key, new_keys().secret_key) == ("mine", "too:long")
    monkeypatch.setenv("SMOE_LOCAL_KEYS", given)
    with pytest.raises(InputError, match="SMOE_LOCAL_KEYS: expected ID:SECRET"):
        new_keys()


@pytest.mark.parametrize("service", SERVICES)
def test_another_key_or_another_secret_opens_nothing(endpoint, service):
    mine = endpoint.keys
    key = code_of(lambda: listed(client_of(endpoint, service, "local", mine.secret_key)))
    secret = code_of(lambda: listed(client_of(endpoint, service, mine.access_key, "local")))
    assert key == {"lambda": "UnrecognizedClientException", "s3": "InvalidAccessKeyId"}[service]
    assert secret == {"lambda": "InvalidSignatureException", "s3": "SignatureDoesNotMatch"}[service]


def test_a_body_that_was_changed_on_its_way_is_refused(endpoint):
    client = client_of(endpoint, "lambda", endpoint.keys.access_key, endpoint.keys.secret_key)

    def change(request, **_):
        request.body = b'{"FunctionName": "other"}'

    client.meta.events.register("before-send.lambda", change)
    assert code_of(lambda: client.tag_resource(Resource="x", Tags={})) == "InvalidSignatureException"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "header", [{"Host": "page.example"}, {"Origin": "http://page.example"}, {"Origin": "null"}]
)
def test_a_page_is_refused_even_where_it_could_sign(endpoint, service, header):
    """DNS rebinding leads a page's own name to this machine: `Host` tells."""
    client = client_of(endpoint, service, endpoint.keys.access_key, endpoint.keys.secret_key)

    def add(request, **_):
        for name, value in header.items():
            request.headers[name] = value

    client.meta.events.register(f"before-sign.{service}", add)
    assert code_of(lambda: listed(client)) in ("AccessDeniedException", "AccessDenied")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "127.0.0.1.page.example:{port}", "[::1]:{port}", ""])
def test_the_name_that_is_asked_for_is_this_machine_s_with_the_port(endpoint, host):
    for url in (endpoint.lambda_url, endpoint.s3_url):
        port = urlsplit(url).port
        lines = f"GET / HTTP/1.1\r\nHost: {host.format(port=port)}\r\n\r\n".encode()
        assert " 403 " in raw(port, lines) + " "
        assert " 403 " in raw(port, b"GET / HTTP/1.0\r\n\r\n") + " "


@pytest.mark.parametrize("headers", [PAGE, {"Content-Type": "text/plain"}])
def test_a_page_can_neither_create_nor_run_a_function(endpoint, forger, headers):
    body = json.dumps({"FunctionName": "of-a-page", "Runtime": "python3.12", "Handler": "a.b"}).encode()
    assert asked(endpoint.lambda_url, "POST", "/2015-03-31/functions", body, **headers)[0] == 403
    path = f"/2015-03-31/functions/{forger.name}/invocations"
    assert asked(endpoint.lambda_url, "POST", path, b"{}", **headers)[0] == 403
    assert "of-a-page" not in str(forger.client.list_functions())


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("PUT", "/code-of-mine/f.zip", "text/plain"),
        ("DELETE", "/code-of-mine/f.zip", "text/plain"),
        ("POST", "/code-of-mine", "multipart/form-data; boundary=x"),
        ("POST", "/", "application/x-www-form-urlencoded"),
        ("POST", "/moto-api/reset", "text/plain"),
        ("GET", "/moto-api/data.json", "text/plain"),
        ("GET", "/code-of-mine/f.zip", "text/plain"),
    ],
)
def test_a_page_can_neither_replace_nor_empty_nor_read_what_is_in_s3(endpoint, bucket, method, path, kind):
    form = b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nf.zip\r\n--x\r\n'
    form += b'Content-Disposition: form-data; name="file"\r\n\r\nother\r\n--x--\r\n'
    status, text = asked(endpoint.s3_url, method, path, form, **{"Content-Type": kind})
    assert (status, "<Code>AccessDenied</Code>" in text) == (403, True)
    assert bucket.get_object(Bucket="code-of-mine", Key="f.zip")["Body"].read() == b"mine"


@pytest.mark.parametrize("path", ["/moto-api/reset", "/%6Doto-api/reset"])
def test_what_the_server_of_s3_can_do_beside_s3_is_off_with_a_signature_too(endpoint, bucket, path):
    client = client_of(endpoint, "s3", endpoint.keys.access_key, endpoint.keys.secret_key)

    def elsewhere(request, **_):
        request.url = endpoint.s3_url + path

    client.meta.events.register("before-sign.s3", elsewhere)
    assert code_of(client.list_buckets) == "AccessDenied"
    iam = client_of(endpoint, "iam", endpoint.keys.access_key, endpoint.keys.secret_key)
    assert code_of(iam.list_users) == ""  # an answer of S3, which IAM does not read
    assert bucket.get_object(Bucket="code-of-mine", Key="f.zip")["Body"].read() == b"mine"


@pytest.mark.parametrize("version", ["s3v4", None])
def test_presigned_addresses_open_what_they_were_made_for_and_end(endpoint, bucket, version):
    keys = endpoint.keys
    client = boto3.client(
        "s3",
        endpoint_url=endpoint.s3_url,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        config=Config(signature_version=version) if version else None,
    )

    def presigned(act, seconds=60, **what):
        url = client.generate_presigned_url(act, Params={"Bucket": "code-of-mine", **what}, ExpiresIn=seconds)
        return url.removeprefix(endpoint.s3_url)

    name = "with a space/ä+~=&.zip"
    assert asked(endpoint.s3_url, "PUT", presigned("put_object", Key=name), b"two")[0] == 200
    assert asked(endpoint.s3_url, path=presigned("get_object", Key=name)) == (200, "two")
    good = presigned("get_object", Key="f.zip", ResponseContentType="text/plain")
    assert asked(endpoint.s3_url, path=good) == (200, "mine")
    for bad in (
        good.replace("f.zip", "g.zip"),
        good + "&versionId=1",
        presigned("get_object", Key="f.zip", seconds=-1),
        good.replace("Expires=", "Expires=9"),
        good.replace("Signature=", "Signature=%C3%A4"),
    ):
        assert asked(endpoint.s3_url, path=bad)[0] == 403
    assert asked(endpoint.s3_url, "DELETE", good)[0] == 403


def test_nobody_but_the_instance_takes_its_calls_or_answers_them(forger):
    (address, _) = forger().body
    url = f"http://{address}"
    api = "/2018-06-01/runtime/"
    for method, path in (("GET", "invocation/next"), ("POST", "init/error"), ("POST", "invocation/x/response")):
        assert asked(url, method, api + path, b'"forged"')[0] == 403
        assert asked(url, method, api + path, b'"forged"', **PAGE)[0] == 403
    assert forger().body[0] == address  # the same instance, with an answer of its own


def test_an_answer_counts_for_the_call_under_way_only(forger):
    earlier = forger().body[1]
    calls = [
        f"invocation/{earlier}/response",
        f"invocation/{earlier}/error",
        "invocation/x/response",
        "init/error",
    ]
    said = forger(forge=calls).body
    assert said == [[400, "InvalidRequestID"]] * 3 + [[403, "InvalidStateTransition"]]
    later = [forger().body[1] for _ in range(3)]
    assert len({earlier, *later}) == 4


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: -1",
        "Content-Length: +2",
        "Content-Length: 1_0",
        "Content-Length: 0x2",
        "Content-Length: two",
        "Content-Length:",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 2",
    ],
)
def test_a_length_that_is_no_number_is_refused(endpoint, headers, capfd):
    for url in (endpoint.lambda_url, endpoint.s3_url):
        port = urlsplit(url).port
        text = f"POST /functions HTTP/1.1\r\nHost: {HOST}:{port}\r\n{headers}\r\n\r\n{{}}"
        assert raw(port, text.encode()).startswith("HTTP/1.1 400 ")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999\r\n\r\n", "413"),
        ("GET //[ HTTP/1.1\r\nHost: {host}\r\n\r\n", "403"),
        ("GET http://[x/ HTTP/1.1\r\nHost: {host}\r\n\r\n", "403"),
        ("GET /%ff%00?%ff=%zz&X-Amz-Signature=1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: \xff\r\n\r\n", "403"),
        ("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: AWS4-HMAC-SHA256 Credential,,=\r\n\r\n", "403"),
        ("BREW / HTTP/1.1\r\nHost: {host}\r\n\r\n", "501"),
        ("GET / HTTP/9.9\r\n\r\n", "HTML"),
        ("\x16\x03\x01\x02\r\n\r\n", "HTML"),
    ],
)
def test_what_is_no_request_gets_an_answer_and_no_traceback(endpoint, lines, status, capfd):
    port = urlsplit(endpoint.lambda_url).port
    assert status in raw(port, lines.format(host=f"{HOST}:{port}").encode("latin-1"))
    assert capfd.readouterr().err == ""


@pytest.fixture
def small(monkeypatch):
    """A server that notes the bodies it answers, and waits a moment only."""
    monkeypatch.setattr(loopback, "LONGEST_PAUSE_S", 0.3)
    bodies = []
    server = LoopbackServer(lambda request: bodies.append(request.body) or Response(200))
    yield server, bodies
    server.close()


def test_a_request_that_is_cut_in_the_middle_is_not_carried_out(small, capfd):
    server, bodies = small
    head = f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Length: 10\r\n\r\n".encode()
    with socket.create_connection((HOST, server.port)) as link:
        link.sendall(head + b"12345")
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100) == b""
    assert raw(server.port, head + b"1234567890") == "HTTP/1.1 200 OK"
    assert bodies == [b"1234567890"]
    assert capfd.readouterr().err == ""


def test_a_client_that_stops_within_its_request_keeps_nobody_waiting(small, capfd):
    server, bodies = small
    head = f"POST / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Length: 4\r\n\r\n".encode()
    with socket.create_connection((HOST, server.port)) as slow:
        slow.settimeout(20)
        slow.sendall(head + b"1")
        assert raw(server.port, head + b"1234") == "HTTP/1.1 200 OK"
        assert slow.recv(100) == b""  # let go of
    with socket.create_connection((HOST, server.port)) as idle:
        idle.settimeout(20)
        time.sleep(0.5)  # between requests a client may wait as long as it likes
        idle.sendall(head + b"1234")
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
    assert bodies == [b"1234", b"1234"]
    assert capfd.readouterr().err == ""


def test_a_fault_of_the_endpoint_s_own_is_one_line(caplog, capfd):
    server = LoopbackServer(lambda request: 1 / 0)
    try:
        assert raw(server.port, f"GET / HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n".encode()) == ""
    finally:
        server.close()
    assert "a request failed: ZeroDivisionError" in caplog.text
    assert "Traceback" not in caplog.text + capfd.readouterr().err


def test_functions_reach_s3_through_relays_and_pages_do_not(other):
    from lambda_probe.local import LocalSettings

    with LocalEndpoint(LocalSettings(pending_s=0.0, s3_latency_s=0.001)) as endpoint:
        s3 = endpoint.clients().s3
        s3.create_bucket(Bucket="relayed")
        s3.put_object(Bucket="relayed", Key="in", Body=b"abc")
        copy = other[0](endpoint, "app.copy_object", Timeout=30, MemorySize=1769)
        assert copy(bucket="relayed", key="in").body == 3
        assert asked(endpoint.s3_url, path="/relayed/in", Host="page.example:80")[0] == 403
