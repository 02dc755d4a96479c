"""The platform that live validation serves on: the embedded endpoint, or the user's AWS account."""

from __future__ import annotations

import shutil
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


@contextmanager
def live_model(
    backend: str, settings: LiveSettings, model: ExportedModel, profile: PlatformProfile, role: str | None
) -> Iterator[LiveModel]:
    """A model on a platform (`local`, `aws`), its parameters uploaded; everything is removed at the end.

    Raises InputError for an unknown backend, and for AWS without a role.
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
    elif backend == "aws":
        from lambda_probe.clients import aws_clients
        from lambda_probe.logs import cloudwatch

        if role is None:
            raise InputError("--role: expected the ARN of a role that functions run as (logs, the bucket, invoke)")
        clients = aws_clients()
        with Deployment(clients, campaign, role) as deployment:
            yield deployment, CloudWatchLogs(cloudwatch(clients.region)), True
    else:
        raise InputError(f"--backend: expected 'local' or 'aws', got '{backend}'")
