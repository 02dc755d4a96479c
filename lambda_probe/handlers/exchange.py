"""What a function of a live model does with the world: objects in S3, calls of functions, and an account of it.

Each call writes two lines of JSON to its log, one when it begins and one when it ends: they become a row of the
record table. Waiting for an object is polling: GET requests, each `poll_s` after the last answer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

MARK = "smoe-live "  # begins a line that is an account
CONNECTIONS = 8
PATIENCE_S = 120.0
LOOK_FOR_FAILURE_EVERY = 20  # polls
Result = TypeVar("Result")
_KEPT: dict[str, dict[str, np.ndarray]] = {}  # parameters that this instance has loaded, by their key


class World(Protocol):
    """S3 and Lambda as a function sees them; tests have one in memory."""

    def get(self, key: str) -> bytes:
        """An object. Raises KeyError where there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""

    def has(self, key: str) -> bool:
        """Whether there is one."""

    def start(self, function: str, event: dict[str, Any]) -> None:
        """Invoke a function asynchronously."""

    def ask(self, function: str, event: dict[str, Any]) -> Any:
        """Invoke a function and wait for its answer. Raises Stopped where it fails; Refused if not taken."""


class Stopped(RuntimeError):
    """Another call of the batch failed or was refused, or what was waited for did not come."""


class Refused(Stopped):
    """The platform took no call: it has no REPORT line, and nobody waits for one."""


@dataclass
class Account:
    """One call of a function, as its own log tells it; times s since 1970; `compute_cpu_s` is CPU time."""

    batch: str
    layer: int
    role: str
    function: str
    caller: str
    sent_s: float
    request_id: str = ""
    instance: str = ""
    expert: int = -1
    replica: int = 0
    tokens: int = 0
    began_s: float = field(default_factory=time.time)
    ended_s: float = 0.0
    calls: int = 0
    gets: int = 0
    puts: int = 0
    exchange_gets: int = 0
    exchange_puts: int = 0
    polls: int = 0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    phases: dict[str, list[float]] = field(default_factory=dict)
    compute_cpu_s: float = 0.0
    error: str = ""

    def note(self, phase: str, start_s: float, end_s: float) -> None:
        """A phase; one that comes again extends the first."""
        self.phases[phase] = [self.phases.get(phase, [start_s])[0], end_s]

    def tell(self) -> None:
        """Write it to the log."""
        sys.stdout.write(f"{MARK}{json.dumps(asdict(self))}\n")  # one write, so that lines of threads stay whole
        sys.stdout.flush()


class Exchange:
    """What one call does, and its account. Methods may be used by several threads of the call.

    Args:
        world: S3 and Lambda. account: of the call. poll_s: between looks at what is not there yet.
    """

    def __init__(self, world: World, account: Account, poll_s: float) -> None:
        self._world, self.account, self._poll_s = world, account, poll_s
        self._lock = Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase of the record table."""
        start, cpu_s = time.time(), time.process_time()
        try:
            yield
        finally:
            self.account.note(name, start, time.time())
            if name == "compute":
                self.account.compute_cpu_s += time.process_time() - cpu_s

    def get(self, key: str, exchange: bool = True) -> bytes:
        """Download an object that is there. Raises KeyError where it is not."""
        with self._lock:
            self.account.gets += 1
        data = self._world.get(key)
        with self._lock:
            self.account.exchange_gets += exchange
            self.account.bytes_in += len(data)
        return data

    def take(self, key: str, waiting: str = "", taking: str = "") -> bytes:
        """Download an object, polling until it is there; phases: of the wait, of the download. Raises Stopped."""
        began, missed = time.time(), 0
        while True:
            asked = time.time()
            try:
                data = self.get(key)
            except KeyError:
                missed += 1
                self._look_for_failure(key, missed, asked - began)
                time.sleep(self._poll_s)
                continue
            if waiting and missed:
                self.account.note(waiting, began, asked)
            if taking:
                self.account.note(taking, asked, time.time())
            return data

    def _look_for_failure(self, key: str, missed: int, waited_s: float) -> None:
        """Raise Stopped where what is waited for will not come."""
        with self._lock:
            self.account.polls += 1
        if waited_s > PATIENCE_S:
            raise Stopped(f"{key} did not come")
        if missed % LOOK_FOR_FAILURE_EVERY == 0:
            with self._lock:
                self.account.gets += 1
                self.account.polls += 1
            if self._world.has(failed_key(self.account.batch)):
                raise Stopped("another call of the batch failed")

    def put(self, key: str, data: bytes, exchange: bool = True) -> None:
        """Upload an object."""
        self._world.put(key, data)
        with self._lock:
            self.account.puts += 1
            self.account.exchange_puts += exchange
            self.account.bytes_out += len(data)

    def start(self, function: str, event: dict[str, Any]) -> None:
        """Invoke a function asynchronously."""
        self.account.calls += 1
        self._world.start(function, self._signed(function, event))

    def ask(self, function: str, event: dict[str, Any], data: bytes) -> bytes:
        """Invoke a function with bytes and wait for the bytes that it answers. Raises Stopped."""
        with self._lock:
            self.account.calls += 1
            self.account.bytes_out += len(data)
        asked = self._signed(function, event) | {"data": text_of(data)}
        try:
            answer = bytes_of(self._world.ask(function, asked)["data"])
        except Refused:
            with self._lock:
                self.account.calls -= 1
            raise
        with self._lock:
            self.account.bytes_in += len(answer)
        return answer

    def _signed(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        return event | {"function": function, "caller": self.account.function, "sent_s": time.time()}


def parameters(exchange: Exchange, key: str, keep: bool) -> dict[str, np.ndarray]:
    """A function's parameters: downloaded, or with `keep` those that an earlier call of this instance has left."""
    found = _KEPT.get(key) if keep else None
    if found is None:
        with exchange.phase("parameter_download"):
            found = unpack(exchange.get(key, exchange=False))
        if keep:
            _KEPT[key] = found
    return found


def at_once(do: Sequence[Callable[[], Result]]) -> list[Result]:
    """Do things on threads of their own, all at once; their results in order. Raises what one of them raised."""
    with ThreadPoolExecutor(max(1, len(do))) as pool:
        return [each.result() for each in [pool.submit(x) for x in do]]


def in_order(do: Sequence[Callable[[], Result]]) -> list[Result]:
    """Begin things one after the other, a few of them under way at any time."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return [each.result() for each in [pool.submit(x) for x in do]]


def failed_key(batch: str) -> str:
    """Of an object that is there when a call of the batch has failed for good."""
    return f"{batch}/failed"


def object_key(way: str, batch: str, layer: int, expert: int, replica: int, minibatch: int) -> str:
    """Of a replica's input or output (`way`: in | out)."""
    return f"{batch}/{layer}/{way}/{expert}-{replica}-{minibatch}"


def text_of(data: bytes) -> str:
    """Bytes as a payload carries them: base64, 4/3 as long."""
    import base64

    return base64.b64encode(data).decode("ascii")


def bytes_of(text: str) -> bytes:
    """The other way round."""
    import base64

    return base64.b64decode(text)


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """fp32 arrays as one object: bytes of the header (8 digits), names and shapes as JSON, the numbers."""
    head = json.dumps({name: list(x.shape) for name, x in arrays.items()}).encode()
    head += b" " * (-(len(head) + 8) % 64)
    return b"%8d" % len(head) + head + b"".join(x.tobytes() for x in arrays.values())


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an object; nothing is copied."""
    import numpy as np

    at, found = 8 + int(data[:8]), {}
    for name, shape in json.loads(data[8:at]).items():
        count = int(np.prod(shape))
        found[name] = np.frombuffer(data, np.float32, count, at).reshape(shape)
        at += 4 * count
    return found


class Boto:
    """S3 and Lambda through boto3, inside a function. Args: bucket: the campaign's."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._s3, self._functions = clients()

    def get(self, key: str) -> bytes:
        """See World."""
        from botocore.exceptions import ClientError

        try:
            data: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if _is_missing(error):
                raise KeyError(key) from error
            raise
        return data

    def put(self, key: str, data: bytes) -> None:
        """See World."""
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)

    def has(self, key: str) -> bool:
        """See World."""
        from botocore.exceptions import ClientError

        try:
            self._s3.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _is_missing(error):
                return False
            raise
        return True

    def start(self, function: str, event: dict[str, Any]) -> None:
        """See World."""
        self._functions.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event))

    def ask(self, function: str, event: dict[str, Any]) -> Any:
        """See World."""
        from botocore.exceptions import ClientError

        try:
            got = self._functions.invoke(FunctionName=function, Payload=json.dumps(event))
        except ClientError as error:
            raise Refused(f"{function}: {error.response['Error']['Code']}") from error
        answer = json.loads(got["Payload"].read())
        if "FunctionError" in got:
            raise Stopped(f"{function}: {answer.get('errorType')}: {answer.get('errorMessage')}")
        return answer


def _is_missing(error: Any) -> bool:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status == 404


@cache
def clients() -> tuple[Any, Any]:
    """Clients that an instance keeps; a call is never sent twice by botocore."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1},
        read_timeout=900,
        max_pool_connections=4 * CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", config=config), boto3.client("lambda", config=config)
