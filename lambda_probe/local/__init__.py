"""The embedded Lambda and S3 endpoint: on loopback, driven by unmodified boto3 (docs/aws.md)."""

from lambda_probe.local.endpoint import LocalEndpoint
from lambda_probe.local.settings import LocalSettings

__all__ = ["LocalEndpoint", "LocalSettings"]
