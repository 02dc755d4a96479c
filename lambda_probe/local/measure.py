"""How the embedded endpoint behaves on this machine: the figures of docs/local-lambda.md.

Run as `python -m lambda_probe.local.measure`; takes about a minute.
"""

from __future__ import annotations

import base64
import io
import json
import statistics
import time
import zipfile
from collections.abc import Callable
from typing import Any

from lambda_probe.account.report import Report, parse_report
from lambda_probe.local import LocalEndpoint, LocalSettings

REPEATS = 15
BUSY_S = 2.0
_APP = """
import time
{imports}

def handler(event, context):
    used, began = time.process_time(), time.perf_counter()
    while time.perf_counter() - began < event.get("busy_s", 0.0):
        pass
    share = (time.process_time() - used) / max(time.perf_counter() - began, 1e-9)
    return {{"share": share, "pad": "x" * event.get("answer", 0)}}
"""


class _Bench:
    """An endpoint, its clients, and calls with their wall time."""

    def __init__(self, endpoint: LocalEndpoint) -> None:
        import boto3
        from botocore.config import Config

        def client(service: str, url: str) -> Any:
            config = Config(retries={"total_max_attempts": 1}, read_timeout=120)
            keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
            return boto3.client(service, endpoint_url=url, region_name="us-east-1", config=config, **keys)

        self.functions, self.s3 = client("lambda", endpoint.lambda_url), client("s3", endpoint.s3_url)

    def deploy(self, name: str, imports: str, memory_mb: int) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("app.py", _APP.format(imports=imports))
        self.functions.create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/any",
            Handler="app.handler",
            Code={"ZipFile": out.getvalue()},
            MemorySize=memory_mb,
            Timeout=30,
        )

    def call(self, name: str, event: dict[str, Any]) -> tuple[float, Report, dict[str, Any]]:
        payload = json.dumps(event)
        began = time.perf_counter()
        got = self.functions.invoke(FunctionName=name, LogType="Tail", Payload=payload)
        body = got["Payload"].read()
        wall_s = time.perf_counter() - began
        return wall_s, parse_report(base64.b64decode(got["LogResult"]).decode()), json.loads(body)


def _median_ms(act: Callable[[], Any]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def _starts(bench: _Bench) -> None:
    for imports, memory_mb in (("", 1769), ("import numpy", 1769), ("import numpy", 128), ("import boto3", 1769)):
        cold, warm, init = [], [], []
        for number in range(REPEATS):
            name = f"{imports[7:] or 'empty'}-{memory_mb}-{number}"
            bench.deploy(name, imports, memory_mb)
            wall_s, report, _ = bench.call(name, {})
            cold.append(wall_s * 1000)
            init.append(report.init_ms or 0.0)
            warm += [bench.call(name, {})[0] * 1000 for _ in range(3)]
            bench.functions.delete_function(FunctionName=name)
        print(
            f"{imports or 'no import':<14} {memory_mb:>5} MB: cold {statistics.median(cold):6.1f} ms, "
            f"of it INIT {statistics.median(init):6.1f}; warm {statistics.median(warm):5.1f} ms"
        )


def _payloads(bench: _Bench) -> None:
    bench.deploy("payload", "", 1769)
    bench.call("payload", {})
    size = 5_000_000
    up = _median_ms(lambda: bench.call("payload", {"pad": "x" * size}))
    down = _median_ms(lambda: bench.call("payload", {"answer": size}))
    print(f"payload of 5 MB: request {size / up / 1000:.0f} MB/s, response {size / down / 1000:.0f} MB/s")


def _shares(bench: _Bench) -> None:
    for memory_mb in (128, 256, 442, 885, 1769):
        bench.deploy(f"busy-{memory_mb}", "", memory_mb)
        shares = [bench.call(f"busy-{memory_mb}", {"busy_s": BUSY_S})[2]["share"] for _ in range(3)]
        low, middle, high = sorted(shares)
        print(
            f"{memory_mb:>5} MB: asked {memory_mb / 1769:.4f} of a core, got {middle:.4f} ({low:.4f}-{high:.4f})"
        )


def _storage(bench: _Bench) -> None:
    bench.s3.create_bucket(Bucket="bench")
    large = b"x" * 32_000_000
    put = _median_ms(lambda: bench.s3.put_object(Bucket="bench", Key="small", Body=b"x" * 1024))
    get = _median_ms(lambda: bench.s3.get_object(Bucket="bench", Key="small")["Body"].read())
    up = _median_ms(lambda: bench.s3.put_object(Bucket="bench", Key="large", Body=large))
    down = _median_ms(lambda: bench.s3.get_object(Bucket="bench", Key="large")["Body"].read())
    print(f"S3, 1 KB: put {put:.1f} ms, get {get:.1f} ms")
    print(f"S3, 32 MB: put {len(large) / up / 1000:.0f} MB/s, get {len(large) / down / 1000:.0f} MB/s")


def main() -> None:
    """Print the figures."""
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as endpoint:
        bench = _Bench(endpoint)
        for part in (_starts, _payloads, _storage, _shares):
            part(bench)


if __name__ == "__main__":
    main()
