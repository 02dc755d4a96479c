"""The embedded endpoint as a whole: started, used through boto3, stopped without a trace."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType

from lambda_probe.account.clients import Clients, local_clients
from lambda_probe.local import limits
from lambda_probe.local.calls import Calls
from lambda_probe.local.errors import invalid
from lambda_probe.local.functions import Function, Functions
from lambda_probe.local.instances import Instances
from lambda_probe.local.invocation import Invoker
from lambda_probe.local.lambda_api import LambdaApi
from lambda_probe.local.loopback import LoopbackServer
from lambda_probe.local.mounts import View, outside_tmp, packages
from lambda_probe.local.processes import Nursery
from lambda_probe.local.s3_network import S3Network
from lambda_probe.local.sandbox import Sandbox
from lambda_probe.local.settings import HOST, UNZIPPED_BYTES, LocalSettings
from lambda_probe.local.walls import new_keys
from moe.errors import InputError

_LOG = logging.getLogger(__name__)
_PARENT = Path(__file__).resolve().parents[2]


class LocalEndpoint:
    """Lambda and S3 on free loopback ports, for `with LocalEndpoint() as endpoint:`.

    Buckets, functions and instances belong to it and are gone when it stops; two run side by side.

    Attributes:
        lambda_url, s3_url: for boto3's `endpoint_url`, or the variables of `environment()`.
        keys: with which requests must be signed; new ones for each endpoint.
        own_views: whether each instance has a /tmp of its own, and reads its code only.

    Raises InputError where AWS's runtime client is not installed.
    """

    def __init__(self, settings: LocalSettings | None = None) -> None:
        if importlib.util.find_spec("awslambdaric") is None:
            raise InputError("local Lambda: package awslambdaric is not installed (it has wheels for Linux only)")
        self.settings = settings or LocalSettings()
        self.keys = new_keys()
        self._stop_lock, self._stopped = Lock(), False
        self._logs = Lock()
        if not limits.SUPPORTED:
            _LOG.warning("local Lambda: no limits of CPU and memory on %s: durations are too short", sys.platform)
        self.folder = Path(tempfile.mkdtemp(prefix="smoe-lambda-", dir=outside_tmp()))
        self._nursery = Nursery()
        atexit.register(self.stop)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        settings = self.settings
        relayed = ["relayed"] if self._has_network() else []
        self._s3 = self._nursery.spawn(
            [sys.executable, "-P", "-m", "lambda_probe.local.s3_server", *relayed],
            self.folder,
            {**os.environ, **self.keys.variables(), "PYTHONPATH": str(_PARENT)},
        )
        self.own_views = self._views_work()
        self._functions = Functions(settings)
        self._instances = Instances(self._functions, settings, self._new_sandbox)
        invoker = Invoker(self._instances, settings, self._keep_log)
        self._calls = Calls(self._functions, invoker, settings)
        api = LambdaApi(
            self._functions, self._instances, self._calls, settings, self.folder, self._fetch, self.keys
        )
        self._server = LoopbackServer(api.answer)
        self.lambda_url = f"http://{HOST}:{self._server.port}"
        self._s3_port = _port(self._s3)
        self.s3_url = f"http://{HOST}:{self._s3_port}"

    def environment(self) -> dict[str, str]:
        """Variables with which any boto3 program uses this endpoint."""
        return {
            "AWS_ENDPOINT_URL_LAMBDA": self.lambda_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            **self.keys.variables(),
            "AWS_DEFAULT_REGION": self.settings.region,
        }

    def clients(self) -> Clients:
        """New boto3 clients of this endpoint."""
        return local_clients(self.lambda_url, self.s3_url, self.settings.region, self.keys.variables())

    def pids(self) -> list[int]:
        """Processes of this endpoint: its S3 server and its instances."""
        return [self._s3.pid, *self._instances.pids()]

    def stop(self) -> None:
        """End every process and remove every file. Again, it does nothing."""
        with self._stop_lock:
            if self._stopped:
                return
            self._stopped = True
        atexit.unregister(self.stop)
        if hasattr(self, "_server"):
            self._calls.close()
            self._server.close()
            self._instances.close()
        if hasattr(self, "_s3"):
            with suppress(ProcessLookupError):
                os.killpg(self._s3.pid, signal.SIGKILL)
            self._s3.wait()
            if self._s3.stdout is not None:
                self._s3.stdout.close()
        self._nursery.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> LocalEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _new_sandbox(self, function: Function) -> Sandbox:
        environment, settings, network = self._function_environment(function), self.settings, None
        if self._has_network():
            bytes_per_s = settings.s3_bytes_per_s_per_mb * function.memory_mb
            network = S3Network(self._s3_port, settings.s3_latency_s, bytes_per_s, settings.s3_burst_bytes)
            environment["AWS_ENDPOINT_URL_S3"] = network.url
        return Sandbox(function, environment, settings, self._nursery, self.own_views, network)

    def _views_work(self) -> bool:
        """Whether an instance can have its own view of the files; where it cannot, that is said once."""
        folders = [Path(tempfile.mkdtemp(prefix=name, dir=self.folder)) for name in ("tmp-", "task-")]
        command = [sys.executable, "-S", "-P", "-c", "import awslambdaric"]
        try:
            tried = self._nursery.spawn(
                command, self.folder, {"PYTHONPATH": os.pathsep.join(packages())}, view=View(*folders)
            )
        except (OSError, subprocess.SubprocessError):
            works = False
        else:
            tried.communicate()
            works = tried.returncode == 0
        if not works:
            _LOG.warning("local Lambda: no mount namespaces here: functions share /tmp, and can write their code")
        return works

    def _has_network(self) -> bool:
        """Whether functions reach S3 through a relay."""
        return bool(self.settings.s3_latency_s or self.settings.s3_bytes_per_s_per_mb)

    def _function_environment(self, function: Function) -> dict[str, str]:
        """As on AWS, the user's variables among them; no variable of this process but PATH."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            **self.environment(),
            "AWS_REGION": self.settings.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            **function.environment,
        }

    def _fetch(self, bucket: str, key: str) -> bytes:
        from botocore.exceptions import ClientError

        try:
            found = self.clients().s3.get_object(Bucket=bucket, Key=key)
            if found["ContentLength"] > UNZIPPED_BYTES:
                raise invalid(f"Zipped size must be smaller than {UNZIPPED_BYTES} bytes")
            zipped: bytes = found["Body"].read()
        except ClientError as error:
            raise invalid(f"Error occurred while GetObject: {error}") from None
        return zipped

    def _keep_log(self, name: str, log: bytes) -> None:
        if self.settings.log_folder is not None:
            with self._logs:
                self.settings.log_folder.mkdir(parents=True, exist_ok=True)
                with (self.settings.log_folder / f"{name}.log").open("ab") as file:
                    file.write(log)


def _port(server: subprocess.Popen[bytes]) -> int:
    """The port that the S3 server prints first; what it says instead, as an error."""
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line.strip().isdigit():
        server.kill()
        raise RuntimeError(f"the S3 server did not start: {(line + server.stdout.read()).decode()}")
    return int(line)
