"""A Lambda endpoint that is spoken to through boto3, AWS or the embedded one, as a campaign's backend."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import random
import re
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

from lambda_probe.account.calls import ATTEMPTS, SLEEP, Attempt, call
from lambda_probe.account.clients import CLIENT_ERRORS, Clients, one_line
from lambda_probe.account.deploy import LOCAL_ROLE, POLL_S, Deployable, Deployment, zip_of
from lambda_probe.account.objects import put_zeros
from lambda_probe.campaign.backend import Account, BackendFacts, BackendPrices, ProbeFunction, ProbePackage
from lambda_probe.campaign.works import GetObjects, PutObjects, Send, Work, event_of
from moe.errors import InputError, PlatformError

FIRST_ON_AMAZON_LINUX_2023 = 12  # python3.12; what runs on Amazon Linux 2 has an older C library
OLD_GLIBC, NEW_GLIBC = 26, 34
HANDLER = Path(__file__).parents[1] / "handlers" / "probe.py"


class BotoBackend:
    """Probe functions on AWS or on the embedded endpoint. Implements `lambda_probe.campaign.backend.Backend`.

    Args:
        campaign: its id, in every name and tag. role: ARN that functions run as.
        numpy_wheel: goes into the zip of packages that import numpy; AWS's runtimes have none.
        poll_s: between looks at a function that is not ready. sleep: replaced in tests.
    """

    def __init__(
        self,
        clients: Clients,
        facts: BackendFacts,
        prices: BackendPrices,
        campaign: str,
        role: str = LOCAL_ROLE,
        numpy_wheel: Path | None = None,
        poll_s: float = POLL_S,
        sleep: SLEEP = time.sleep,
    ) -> None:
        self.facts, self.prices = facts, prices
        self._clients, self._wheel, self._sleep = clients, numpy_wheel, sleep
        self._deployment = Deployment(clients, campaign, role, poll_s)
        self._functions: dict[str, ProbeFunction] = {}
        self._codes: dict[ProbePackage, bytes] = {}
        self._objects: set[int] = set()
        self._changes = 0

    def account(self) -> Account:
        """The account's limits. How much memory an account allows AWS tells only by refusing more."""
        try:
            limit = self._clients.control.get_account_settings()["AccountLimit"]
        except CLIENT_ERRORS as error:
            raise PlatformError(f"the account's limits cannot be read: {one_line(error)}") from None
        return Account(concurrency=limit["UnreservedConcurrentExecutions"])

    def create(self, function: ProbeFunction) -> None:
        """Deploy a function and wait until it can be called. Raises InputError where the platform refuses."""
        package = function.package
        if package not in self._codes:
            self._codes[package] = b"" if package.package_type == "image" else self._code(package)
        deployable = Deployable(
            function.name,
            self._codes[package],
            function.memory_mb,
            runtime=package.runtime,
            architecture=package.architecture,
            timeout_s=function.timeout_s,
            environment=self._environment(function),
            image=self._image(package),
        )
        self._deployment.create(deployable)
        self._functions[function.name] = function

    def delete(self, name: str) -> None:
        """Remove a function."""
        self._deployment.delete(self._deployment.full_name(name))
        self._functions.pop(name, None)

    def forget(self, name: str) -> None:
        """Change the function's environment, so that its next call starts a new instance."""
        self._changes += 1
        variables = {**self._environment(self._functions[name]), "SMOE_CHANGE": str(self._changes)}
        self._deployment.change(self._deployment.full_name(name), Environment={"Variables": variables})

    def call(self, name: str, work: Work) -> list[Attempt]:
        """Call a function once; every attempt, the last one being the outcome.

        Where the REPORT line tells of another memory size than asked for, the attempt has failed, and is repeated.
        """
        return self._call(name, self._prepared(work), ATTEMPTS)

    def call_at_once(self, names: Sequence[str], work: Work) -> list[list[Attempt]]:
        """Call functions all at the same time, each in a thread; no attempt is repeated."""
        work, together = self._prepared(work), Barrier(len(names))

        def one(name: str) -> list[Attempt]:
            together.wait()
            return self._call(name, work, attempts=1)

        with ThreadPoolExecutor(len(names)) as pool:
            try:
                return list(pool.map(one, names))
            except BaseException:
                together.abort()  # or those that wait would wait for ever
                raise

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self._sleep(seconds)

    def now_s(self) -> float:
        """The client's clock, s since 1970."""
        return time.time()

    def close(self) -> None:
        """Remove everything that was created."""
        self._deployment.remove()
        self._functions.clear()
        self._objects.clear()

    def _call(self, name: str, work: Work, attempts: int) -> list[Attempt]:
        made: list[Attempt] = []
        while len(made) < attempts:
            full_name, left = self._deployment.full_name(name), attempts - len(made)
            tried = call(self._clients, full_name, event_of(work), left, self._sleep)
            made += [replace(each, function=name, attempt=len(made) + each.attempt) for each in tried]
            wrong = self._wrong_memory(made[-1])
            if not wrong:
                break
            made[-1] = replace(made[-1], status="failed", error=wrong)
            self._sleep(1.0)
        return made

    def _wrong_memory(self, attempt: Attempt) -> str:
        asked = self._functions[attempt.function].memory_mb
        if attempt.report is None or attempt.report.memory_mb == asked:
            return ""
        return f"ran with {attempt.report.memory_mb} MB instead of {asked}: its last change is not in force"

    def _prepared(self, work: Work) -> Work:
        """The work in the platform's names, with all that it needs in the bucket."""
        bucket = self._deployment.bucket if isinstance(work, GetObjects | PutObjects) else ""
        if isinstance(work, GetObjects) and work.size_bytes not in self._objects:
            key = f"get/{work.size_bytes}"
            try:
                put_zeros(self._clients.s3, bucket, key, work.size_bytes)
            except CLIENT_ERRORS as error:
                raise PlatformError(f"{bucket}/{key}: cannot be uploaded: {one_line(error)}") from None
            self._objects.add(work.size_bytes)
        return replace(work, target=self._deployment.full_name(work.target)) if isinstance(work, Send) else work

    def _environment(self, function: ProbeFunction) -> dict[str, str]:
        return {
            "SMOE_BUCKET": self._deployment.bucket_name,
            "SMOE_IMPORTS": ",".join(function.package.imports),
        }

    def _image(self, package: ProbePackage) -> str:
        """The URI of a package's image, empty for a zip. Raises InputError where it cannot be used from here."""
        if package.package_type == "image" and f".ecr.{self._clients.region}." not in package.image_uri:
            raise InputError(
                f"package {package.name}: image {package.image_uri or 'missing'}: expected one in the functions' "
                f"region, {self._clients.region}"
            )
        return package.image_uri

    def _code(self, package: ProbePackage) -> bytes:
        """The zip of a package. Raises InputError when it cannot be made."""
        files = {"probe.py": HANDLER.read_bytes(), "threadpoolctl.py": _source_of("threadpoolctl")}
        if "numpy" in package.imports:
            files |= self._numpy(package)
        if package.padding_bytes:
            files["padding.bin"] = random.Random(0).randbytes(package.padding_bytes)
        return zip_of(files)

    def _numpy(self, package: ProbePackage) -> Mapping[str, bytes]:
        if self._wheel is not None:
            return wheel_files(self._wheel, package)
        if self.facts.name != "aws":
            return {}
        raise InputError(
            f"package {package.name}: AWS's {package.runtime} has no numpy: expected numpy_wheel, a FILE.whl "
            "(docs/aws.md says how to get it)"
        )


def wheel_files(wheel: Path, package: ProbePackage) -> dict[str, bytes]:
    """The files of a wheel that runs in a package's runtime and architecture; else raises InputError."""
    minor = int(package.runtime.rsplit(".", 1)[-1])
    machine = {"x86_64": "x86_64", "arm64": "aarch64"}[package.architecture]
    glibc = NEW_GLIBC if minor >= FIRST_ON_AMAZON_LINUX_2023 else OLD_GLIBC
    built_for = [int(found) for found in re.findall(rf"manylinux_2_(\d+)_{machine}", wheel.name)]
    built_for += [OLD_GLIBC] if f"manylinux2014_{machine}" in wheel.name else []
    if f"-cp3{minor}-" not in wheel.name or wheel.suffix != ".whl" or min(built_for, default=99) > glibc:
        raise InputError(
            f"numpy_wheel {wheel}: expected a wheel for cp3{minor} and manylinux_2_{glibc}_{machine} or older, "
            f"for package {package.name}"
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {each.filename: archive.read(each) for each in archive.infolist() if not each.is_dir()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"numpy_wheel {wheel}: cannot be read: {error}") from None


def facts_of(name: str, region: str) -> BackendFacts:
    """What is noted with every measurement of `local` or `aws`."""
    versions = {each: importlib.metadata.version(each) for each in ("boto3", "botocore")}
    return BackendFacts(name, region, {"python": platform.python_version(), **versions})


def _source_of(module: str) -> bytes:
    """The text of a module of one file."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise InputError(f"package {module} is not installed: probes need it to set BLAS threads")
    return Path(found.origin).read_bytes()
