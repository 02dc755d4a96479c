"""boto3 clients as probes need them: no silent retries, since every attempt is measured, and billed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe.errors import InputError

if TYPE_CHECKING:
    from lambda_probe.local import LocalEndpoint

LONGEST_CALL_S = 900
AT_ONCE = 64  # connections that a client keeps


@dataclass(frozen=True)
class Clients:
    """Clients of one account and region.

    Attributes:
        functions, s3: boto3 clients of Lambda and S3. region: whose they are.
    """

    functions: Any
    s3: Any
    region: str


def local_clients(endpoint: LocalEndpoint) -> Clients:
    """Clients of the embedded endpoint."""
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    urls = {"lambda": endpoint.lambda_url, "s3": endpoint.s3_url}
    return _clients(endpoint.settings.region, urls, keys)


def aws_clients(region: str | None = None, profile: str | None = None) -> Clients:
    """Clients of the user's own account; credentials are found by boto3's own chain.

    Raises InputError where no region is set.
    """
    import boto3

    session = boto3.Session(profile_name=profile, region_name=region)
    if session.region_name is None:
        raise InputError("AWS: no region: expected --region, AWS_DEFAULT_REGION or one in the AWS configuration")
    return _clients(session.region_name, {}, {}, session)


def _clients(region: str, urls: dict[str, str], keys: dict[str, str], session: Any = None) -> Clients:
    """A call is waited for longer than it can take, and never sent again by botocore."""
    import boto3
    from botocore.config import Config

    made = session or boto3.Session()
    once = Config(
        retries={"total_max_attempts": 1}, read_timeout=LONGEST_CALL_S + 60, max_pool_connections=AT_ONCE
    )
    patient = Config(retries={"total_max_attempts": 5, "mode": "standard"}, max_pool_connections=AT_ONCE)

    def client(service: str, config: Config) -> Any:
        return made.client(service, region_name=region, endpoint_url=urls.get(service), config=config, **keys)

    return Clients(client("lambda", once), client("s3", patient), region)
