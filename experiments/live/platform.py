"""The platform that live validation serves on: the embedded endpoint, or the user's AWS account."""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.live.settings import LiveSettings
from lambda_probe.account.deploy import LOCAL_ROLE, Deployment
from lambda_probe.account.logs import CloudWatchLogs, LocalLogs, Logs
from lambda_probe.campaign.backend import ProbePackage
from lambda_probe.campaign.file import MANAGED_RUNTIME
from lambda_probe.live.functions import RUNTIME
from lambda_probe.live.model import LiveModel
from lambda_probe.live.rows import LivePrices
from moe.errors import InputError
from moe.pretrained.export import ExportedModel
from simulator.profiles.schema import PlatformProfile

OLDEST_PYTHON_ON_AWS, NEWEST_PYTHON_ON_AWS = (3, 12), (3, 13)  # whose C library is new enough for numpy's wheels


@dataclass(frozen=True)
class LivePlatform:
    """Where a model is served.

    Attributes:
        backend: local or aws. campaign: id, in every name and tag.
        role, region, numpy_wheel: of aws, as in `campaign.aws_backend.open_aws`; without a wheel the functions get
            the numpy and the Python of this process.
    """

    backend: Literal["local", "aws"] = "local"
    role: str | None = None
    region: str | None = None
    numpy_wheel: Path | None = None
    campaign: str = field(default_factory=lambda: f"live-{uuid.uuid4().hex[:6]}")

    @property
    def runtime(self) -> str:
        """Of the functions."""
        return RUNTIME if self.numpy_wheel is None else MANAGED_RUNTIME

    def packages(self) -> dict[str, bytes]:
        """Files of the functions' zip beside the handlers. Raises InputError where they would not run."""
        if self.backend == "local":
            return {}
        if self.numpy_wheel is not None:
            from lambda_probe.campaign.boto_backend import wheel_files

            return wheel_files(self.numpy_wheel, ProbePackage("of the model"))
        if not OLDEST_PYTHON_ON_AWS <= sys.version_info[:2] <= NEWEST_PYTHON_ON_AWS:
            raise InputError(
                f"--backend aws: the numpy of {RUNTIME} does not run there: expected --set numpy_wheel=FILE.whl "
                "(docs/aws.md says how to get it), or Python 3.12 or 3.13"
            )
        from lambda_probe.account.packaging import installed_package

        return installed_package("numpy")

    def check(self) -> None:
        """Raises InputError where the options cannot be used; nothing is sent."""
        if self.backend == "aws":
            from lambda_probe.campaign.aws_backend import checked_role

            checked_role(self.role)
            self.packages()


@contextmanager
def live_model(
    platform: LivePlatform, settings: LiveSettings, model: ExportedModel, profile: PlatformProfile
) -> Iterator[LiveModel]:
    """A model on a platform, its parameters uploaded; everything is removed at the end.

    Raises InputError for AWS without a role, credentials or a numpy that runs there.
    """
    prices = LivePrices(
        gb_s=profile.prices.gb_s.median,
        invocation=profile.prices.invocation.median,
        put=profile.storage_class.put_usd,
        get=profile.storage_class.get_usd,
    )
    packages = platform.packages()
    with (
        _deployment(platform, settings) as (deployment, logs),
        LiveModel(deployment, logs, model, prices, settings.poll_s, packages, platform.runtime) as live,
    ):
        yield live


@contextmanager
def _deployment(platform: LivePlatform, settings: LiveSettings) -> Iterator[tuple[Deployment, Logs]]:
    if platform.backend == "local":
        from lambda_probe.local import LocalEndpoint, LocalSettings

        folder = Path(tempfile.mkdtemp(prefix="smoe-live-"))
        try:
            local = LocalSettings(mb_per_core=settings.mb_per_core, pending_s=0.0, log_folder=folder)
            with (
                LocalEndpoint(local) as endpoint,
                Deployment(endpoint.clients(), platform.campaign, LOCAL_ROLE) as deployment,
            ):
                yield deployment, LocalLogs(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        from lambda_probe.account import clients
        from lambda_probe.campaign import aws_backend as aws

        role, account = aws.checked_role(platform.role), clients.aws_clients(platform.region)
        if account.logs is None:
            raise InputError("--backend aws: AWS_ENDPOINT_URL_LAMBDA is set: logs of that endpoint are not known")
        with Deployment(account, platform.campaign, role, aws.POLL_S) as deployment:
            yield deployment, CloudWatchLogs(account.logs)
