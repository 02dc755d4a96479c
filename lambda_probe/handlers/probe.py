"""The handler of probe functions: does the work that an event asks for (lambda_probe.campaign.works) and times it.

Standard library only, boto3 and numpy where a work needs them; runs on AWS and on the embedded endpoint alike.
Times are monotonic. What happens once per instance or call (imports, clients, weights) is not in `seconds`; the
opening of a connection is, in the first repeat after a pause. Nothing is retried here: a repeat that failed ends
the work, and what was timed before it is answered, with the reason.
"""

import base64
import importlib
import itertools
import json
import math
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

for _name in filter(None, os.environ.get("SMOE_IMPORTS", "").split(",")):
    importlib.import_module(_name)

INSTANCE = uuid.uuid4().hex[:12]
CHUNK_BYTES = 2**20
PART_BYTES = 5 * 2**20  # the least that S3 takes as a part of an upload, but for the last one
CONNECTIONS = 64
COPIES_BYTES = 160 * 2**20  # of an expert's weights: several times a level-3 cache
SIDE = 512  # of the matrices of `multiply`
MB_PER_VCPU = 1769

_calls = 0
_import_s = 0.0
_clients: dict[str, Any] = {}
_weights: dict[tuple[int, int], Any] = {}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do one work; returns the fields of lambda_probe.campaign.works.Answer."""
    global _calls, _import_s
    began = time.perf_counter()
    _calls, _import_s = _calls + 1, 0.0
    answer = _WORKS[event["do"]](event)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    answer |= {"first": _calls == 1, "import_s": _import_s, "cores": cores, "instance": INSTANCE}
    if event["do"] == "nothing":
        answer["seconds"] = [time.perf_counter() - began]
    return answer


def _nothing(event: dict[str, Any]) -> dict[str, Any]:
    """Also what `send` calls: takes bytes and answers with as many as are asked for."""
    base64.b64decode(event.get("data", ""))
    size = event.get("answer_bytes", 0)
    return {"data": base64.b64encode(bytes(size)).decode()} if size else {}


def _multiply(event: dict[str, Any]) -> dict[str, Any]:
    """Each thread multiplies by its own matrix, BLAS with one thread each: together `flop` FLOPs."""
    numpy, threads = _load("numpy"), event["threads"]
    side = numpy.random.default_rng(0).random((SIDE, SIDE), dtype=numpy.float32)
    rows = max(1, round(event["flop"] / threads / (2 * SIDE**2)))
    blocks = [SIDE] * (rows // SIDE) + [rows % SIDE] * (rows % SIDE > 0)
    outs = [numpy.empty_like(side) for _ in range(threads)]

    def products(out: Any) -> None:
        for block in blocks:
            numpy.matmul(side[:block], side, out=out[:block])

    with _blas_threads(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(products, outs))  # starts the threads, touches the memory
        return _repeated(event["repeats"], lambda: list(pool.map(products, outs)))


def _expert(event: dict[str, Any]) -> dict[str, Any]:
    """The MLP of an expert; BLAS threads for each begun vCPU, as the function that serves one.

    Each pass reads another copy of the weights, so that they come from memory and not from a cache.
    """
    numpy = _load("numpy")
    hidden, intermediate = event["hidden"], event["intermediate"]
    if (hidden, intermediate) not in _weights:
        random = numpy.random.default_rng(0)
        shapes = (hidden, intermediate), (intermediate, hidden)
        first = [random.random(shape, dtype=numpy.float32) / hidden for shape in shapes]
        copies = max(1, _spare_bytes() // sum(matrix.nbytes for matrix in first))
        _weights[hidden, intermediate] = [[matrix.copy() for matrix in first] for _ in range(copies)]
    experts = itertools.cycle(_weights[hidden, intermediate])
    tokens = numpy.random.default_rng(1).random((event["tokens"], hidden), dtype=numpy.float32)

    def passes() -> None:
        for up, down in itertools.islice(experts, event["passes"]):
            _gelu(numpy, tokens @ up) @ down

    with _blas_threads(_begun_vcpus()):
        answer = _repeated(event["repeats"], passes)
    answer["seconds"] = [seconds / event["passes"] for seconds in answer["seconds"]]
    return answer


def _spare_bytes() -> int:
    """Bytes that copies of an expert may take: more than a cache holds, but at most a quarter of the memory."""
    return min(COPIES_BYTES, _memory_mb() * 2**20 // 4)


def _memory_mb() -> int:
    return int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MB_PER_VCPU))


def _begun_vcpus() -> int:
    """vCPUs that the function has begun: as the embedded endpoint says, else by AWS's memory of one."""
    if "OMP_NUM_THREADS" in os.environ:
        return int(os.environ["OMP_NUM_THREADS"])
    return max(1, math.ceil(_memory_mb() / MB_PER_VCPU))


def _gelu(numpy: Any, x: Any) -> Any:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), with one array beside x."""
    inner = x * x
    inner *= 0.044715
    inner += 1
    inner *= x
    inner *= math.sqrt(2 / math.pi)
    numpy.tanh(inner, out=inner)
    inner += 1
    inner *= x
    inner *= 0.5
    return inner


def _get(event: dict[str, Any]) -> dict[str, Any]:
    """The object `get/SIZE` of the campaign's bucket, which is there before the call; a range per connection."""
    s3, size, connections = _client("s3"), event["size_bytes"], event["connections"]
    where = {"Bucket": os.environ["SMOE_BUCKET"], "Key": f"get/{size}"}

    def download(piece: tuple[int, int]) -> None:
        ranged = {} if connections == 1 else {"Range": f"bytes={piece[0]}-{piece[1] - 1}"}
        for _ in s3.get_object(**where, **ranged)["Body"].iter_chunks(CHUNK_BYTES):
            pass

    pieces = _pieces(size, connections)
    with ThreadPoolExecutor(connections) as pool:
        return _repeated(event["repeats"], lambda: list(pool.map(download, pieces)))


def _put(event: dict[str, Any]) -> dict[str, Any]:
    """An object of this instance's own; over several connections a multipart upload, a part each."""
    s3, size, connections = _client("s3"), event["size_bytes"], event["connections"]
    where = {"Bucket": os.environ["SMOE_BUCKET"], "Key": f"put/{INSTANCE}"}
    if connections > 1 and size < connections * PART_BYTES:
        raise ValueError(f"{size} bytes over {connections} connections: S3 wants {PART_BYTES} bytes for each part")
    bodies = [bytes(end - start) for start, end in _pieces(size, connections)]
    if connections == 1:
        return _repeated(event["repeats"], lambda: s3.put_object(**where, Body=bodies[0]))

    def upload(pool: ThreadPoolExecutor) -> None:
        upload_id = s3.create_multipart_upload(**where)["UploadId"]

        def part(number: int) -> dict[str, Any]:
            got = s3.upload_part(**where, UploadId=upload_id, PartNumber=number, Body=bodies[number - 1])
            return {"PartNumber": number, "ETag": got["ETag"]}

        try:
            parts = list(pool.map(part, range(1, connections + 1)))
            s3.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})
        except Exception:
            s3.abort_multipart_upload(**where, UploadId=upload_id)
            raise

    with ThreadPoolExecutor(connections) as pool:
        return _repeated(event["repeats"], lambda: upload(pool))


def _send(event: dict[str, Any]) -> dict[str, Any]:
    """Encoded once, sent `repeats` times; the encoding is not timed, what boto3 does with a payload is."""
    functions = _client("lambda")
    data = base64.b64encode(bytes(event["size_bytes"])).decode()
    payload = json.dumps({"do": "nothing", "data": data, "answer_bytes": event["answer_bytes"]}).encode()
    bodies: list[bytes] = []

    def send() -> None:
        got = functions.invoke(FunctionName=event["target"], Payload=payload)
        body = got["Payload"].read()
        if "FunctionError" in got:
            raise RuntimeError(f"{event['target']}: {body[:500].decode(errors='replace')}")
        bodies.append(body)

    answer = _repeated(event["repeats"], send)
    answer["target_s"] = [json.loads(body)["seconds"][0] for body in bodies]
    return answer | {"payload_bytes": len(payload)}


def _wait(event: dict[str, Any]) -> dict[str, Any]:
    return _repeated(1, lambda: time.sleep(event["seconds"]))


def _repeated(repeats: int, act: Callable[[], Any]) -> dict[str, Any]:
    """Time it so many times. A failure is raised at first; later it ends the work and is told."""
    seconds: list[float] = []
    cpu_s: list[float] = []
    for _ in range(repeats):
        began, cpu_before_s = time.perf_counter(), time.process_time()
        try:
            act()
        except Exception as error:
            if not seconds:
                raise
            return {"seconds": seconds, "cpu_s": cpu_s, "stopped": f"{type(error).__name__}: {error}"}
        seconds.append(time.perf_counter() - began)
        cpu_s.append(time.process_time() - cpu_before_s)
    return {"seconds": seconds, "cpu_s": cpu_s}


def _pieces(size: int, count: int) -> list[tuple[int, int]]:
    """(start, end) of so many even pieces of `size` bytes."""
    edges = [size * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def _load(name: str) -> Any:
    """Import a module; what the first time takes counts as first-call work, not as measured time."""
    global _import_s
    began = time.perf_counter()
    module = importlib.import_module(name)
    _import_s += time.perf_counter() - began
    return module


def _client(service: str) -> Any:
    """A boto3 client without retries: each would be a hidden part of what is timed."""
    global _import_s
    boto3, config = _load("boto3"), _load("botocore.config").Config
    if service not in _clients:
        began = time.perf_counter()
        once = config(retries={"total_max_attempts": 1}, read_timeout=960, max_pool_connections=CONNECTIONS)
        _clients[service] = boto3.client(service, config=once)
        _import_s += time.perf_counter() - began
    return _clients[service]


def _blas_threads(count: int) -> Any:
    """BLAS with so many threads, whatever it started with. Raises RuntimeError where it does not take them."""
    control = _load("threadpoolctl")
    limit = control.threadpool_limits(count, user_api="blas")
    found = [each["num_threads"] for each in control.threadpool_info() if each["user_api"] == "blas"]
    if found != [count] * max(1, len(found)):
        raise RuntimeError(f"numpy's BLAS runs {found} threads: expected {count}")
    return limit


_WORKS = {
    "nothing": _nothing,
    "multiply": _multiply,
    "expert": _expert,
    "get": _get,
    "put": _put,
    "send": _send,
    "wait": _wait,
}
