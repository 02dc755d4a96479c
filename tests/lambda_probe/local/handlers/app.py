"""Handlers that the tests upload: each does one thing that a function can do."""

import importlib
import os
import threading
import time

CALLS = 0


def echo(event, context):
    global CALLS
    CALLS += 1
    print("echo:", event.get("say", ""))
    return {"event": event, "calls": CALLS, "pid": os.getpid(), "left_ms": context.get_remaining_time_in_millis()}


def sleep(event, context):
    time.sleep(event["seconds"])
    return {"pid": os.getpid()}


def fail(event, context):
    raise KeyError("no such expert")


def leave(event, context):
    os._exit(event["code"])


def fill(event, context):
    return {"bytes": len(b"x" * (event["mb"] * 2**20))}


def answer(event, context):
    return "x" * event["bytes"]


def busy(event, context):
    used, began, waited = time.process_time(), time.perf_counter(), _waited_s()
    while time.perf_counter() - began < event["seconds"]:
        pass
    wall_s = time.perf_counter() - began
    return {"share": (time.process_time() - used) / wall_s, "waited": (_waited_s() - waited) / wall_s}


def _waited_s():
    """Seconds that this thread could have run, and others did."""
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def count_in_the_background(event, context):
    global CALLS
    if CALLS == 0:
        threading.Thread(target=_count, daemon=True).start()
    time.sleep(0.2)
    return CALLS


def _count():
    global CALLS
    while True:
        CALLS += 1
        time.sleep(0.01)


def imports(event, context):
    found = {}
    for name in event["names"]:
        try:
            found[name] = importlib.import_module(name).__file__
        except ImportError:
            found[name] = None
    return found


def environment(event, context):
    return dict(os.environ)


def copy_object(event, context):
    import boto3

    s3 = boto3.client("s3")
    body = s3.get_object(Bucket=event["bucket"], Key=event["key"])["Body"].read()
    s3.put_object(Bucket=event["bucket"], Key="copy", Body=body[::-1])
    return len(body)
