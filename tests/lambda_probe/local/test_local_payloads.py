"""What calls are given: if these fail, a function runs here on what AWS refuses, or misses what it gets there."""

import base64
import json

import pytest

from tests.lambda_probe.local.conftest import refused, zipped

NO_JSON = {
    "NaN": b'{"x": NaN}',
    "infinity": b"[-Infinity]",
    "UTF-16": '{"x": 1}'.encode("utf-16"),
    "UTF-32": '{"x": 1}'.encode("utf-32-le"),
    "a mark": b'\xef\xbb\xbf{"x": 1}',
    "Latin-1": '{"x": "\xeb"}'.encode("latin-1"),
    "too deep": b"[" * 1000 + b"]" * 1000,
    "far too deep": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "two values": b"{} {}",
    "blank": b"  ",
    "single quotes": b"{'x': 1}",
    "a long number": b"9" * 5000,
}


@pytest.fixture(scope="module")
def counting(deploy):
    """A function that says how often its instance was called, and with what."""
    source = "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return [n, event]\n"
    return deploy("app.handler", code=zipped(app=source))


@pytest.mark.parametrize("kind", NO_JSON)
@pytest.mark.parametrize("how", ["RequestResponse", "Event", "DryRun"])
def test_a_payload_that_is_no_json_is_refused_and_not_run(counting, client, kind, how):
    before = counting().body[0]
    call = {"FunctionName": counting.name, "InvocationType": how, "Payload": NO_JSON[kind]}
    told = refused(lambda: client.invoke(**call), "InvalidRequestContentException")
    assert told.startswith("Could not parse request body into json: ")
    assert counting().body[0] == before + 1


@pytest.mark.parametrize(
    "payload",
    [b'{"x": 1, "x": 2}', b"[" * 500 + b"]" * 500, b'"' + b"[" * 2000 + b'\\""', b"null", b"1e3", '"漢"'.encode()],
)
def test_a_payload_that_is_json_is_run(counting, client, payload):
    answer = json.loads(client.invoke(FunctionName=counting.name, Payload=payload)["Payload"].read())
    assert answer[1] == json.loads(payload)


def test_a_client_context_is_handed_on_whatever_its_letters(deploy, client):
    source = "def handler(event, context): return context.client_context and context.client_context.custom\n"
    name = deploy("app.handler", code=zipped(app=source)).name
    custom = {"name": "Zo\u00eb \u6f22 \U0001f600", "lines": "a\r\nX-Forged: 1"}
    for text in (
        json.dumps({"custom": custom}),
        json.dumps({"custom": custom}, ensure_ascii=False, indent=1).replace("\n", "\r\n"),
    ):
        context = base64.b64encode(text.encode()).decode()
        assert json.load(client.invoke(FunctionName=name, ClientContext=context)["Payload"]) == custom
    for wrong in ("string", "c3RyaW5n", "W10=", "bnVsbA==", "e30=!", base64.b64encode(b'{"x": NaN}').decode()):
        call = {"FunctionName": name, "ClientContext": wrong}
        for how in ("RequestResponse", "Event"):
            refuse = lambda call=call, how=how: client.invoke(InvocationType=how, **call)  # noqa: E731
            assert "Base64-encoded JSON" in refused(refuse, "InvalidRequestContentException")
    long = base64.b64encode(json.dumps({"custom": {"x": "x" * 2700}}).encode()).decode()
    refused(lambda: client.invoke(FunctionName=name, ClientContext=long), "InvalidRequestContentException")
    assert json.load(client.invoke(FunctionName=name)["Payload"]) is None


def test_kinds_of_calls_that_there_are_not_are_refused(counting, client):
    for asked in ({"InvocationType": "Later"}, {"LogType": "All"}, {"TenantId": "x"}):
        refused(
            lambda asked=asked: client.invoke(FunctionName=counting.name, **asked),
            "InvalidParameterValueException",
        )
