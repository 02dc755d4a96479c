"""The platform that live validation serves on: the embedded endpoint, or the user's AWS account."""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.live.settings import LiveSettings
from lambda_probe.deploy import LOCAL_ROLE, Deployment
from lambda_probe.live_moe import LiveModel
from lambda_probe.live_rows import LivePrices
from lambda_probe.logs import CloudWatchLogs, LocalLogs, Logs
from moe.errors import InputError
from moe.export import ExportedModel
from simulator.profile import PlatformProfile

OLDEST_PYTHON_ON_AWS = (3, 12)  # earlier runtimes have an older C library than numpy is built for


@contextmanager
def live_model(
    backend: str, settings: LiveSettings, model: ExportedModel, profile: PlatformProfile, role: str | None
) -> Iterator[LiveModel]:
    """A model on a platform (`local`, `aws`), its parameters uploaded; everything is removed at the end.

    Raises InputError for AWS without a role.
    """
    prices = LivePrices(
        gb_s=profile.prices.gb_s.median,
        invocation=profile.prices.invocation.median,
        put=profile.storage_class.put_usd,
        get=profile.storage_class.get_usd,
    )
    with _deployment(backend, settings, role) as (deployment, logs, needs_numpy):
        from lambda_probe.packaging import installed_package

        packages = installed_package("numpy") if needs_numpy else {}
        with LiveModel(deployment, logs, model, prices, settings.poll_s, packages) as live:
            yield live


@contextmanager
def _deployment(backend: str, settings: LiveSettings, role: str | None) -> Iterator[tuple[Deployment, Logs, bool]]:
    campaign = f"live-{uuid.uuid4().hex[:6]}"
    if backend == "local":
        from lambda_probe.clients import local_clients
        from lambda_probe.local import LocalEndpoint, LocalSettings

        folder = Path(tempfile.mkdtemp(prefix="smoe-live-"))
        try:
            local = LocalSettings(mb_per_core=settings.mb_per_core, pending_s=0.0, log_folder=folder)
            with (
                LocalEndpoint(local) as endpoint,
                Deployment(local_clients(endpoint), campaign, LOCAL_ROLE) as deployment,
            ):
                yield deployment, LocalLogs(folder), False
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        from lambda_probe.aws import POLL_S, checked_role
        from lambda_probe.clients import aws_clients

        if sys.version_info < OLDEST_PYTHON_ON_AWS:
            raise InputError(
                "--backend aws: needs Python 3.12 or 3.13: numpy's wheels do not run in AWS's python3.11"
            )
        role, clients = checked_role(role), aws_clients()
        if clients.logs is None:
            raise InputError("--backend aws: AWS_ENDPOINT_URL_LAMBDA is set: logs of that endpoint are not known")
        with Deployment(clients, campaign, role, POLL_S) as deployment:
            yield deployment, CloudWatchLogs(clients.logs), True
