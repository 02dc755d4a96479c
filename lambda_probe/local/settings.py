"""What the embedded endpoint can be told, and the limits of AWS that it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe.errors import InputError

HOST = "127.0.0.1"
ACCOUNT = "000000000000"
MEMORY_MB = (128, 10_240)
TIMEOUT_S = (1, 900)
EPHEMERAL_MB = (512, 10_240)
REQUEST_BYTES = 6 * 2**20  # of a synchronous call
EVENT_BYTES = 2**20  # of an asynchronous one
RESPONSE_BYTES = 6_291_556
LOG_TAIL_BYTES = 4096
ENVIRONMENT_BYTES = 4096
CLIENT_CONTEXT_BYTES = 3583  # in base64
DEEPEST_JSON = 900  # AWS: 1,000; the runtime's own parser gives up a little earlier
TAGS = 50
LISTED_AT_ONCE = 50  # functions, at most
UNZIPPED_BYTES = 262_144_000
ZIPPED_BYTES = 50 * 2**20


@dataclass(frozen=True)
class LocalSettings:
    """How the endpoint behaves where accounts and years of AWS differ.

    Args:
        mb_per_core: memory that buys one core (AWS: 1769).
        keep_alive_s: an instance that is idle for so long is removed.
        account_concurrency: instances that may be busy at once, of all functions together.
        init_throttled: INIT gets the memory's CPU share only (AWS: runs at about full speed).
        init_timeout_s: a longer INIT is stopped, and run again as part of the first call.
        pending_s: a new or changed function is Pending (InProgress) for so long.
        region: named in ARNs and handed to functions.
        s3_latency_s: each S3 request of a function waits so long.
        s3_bytes_per_s_per_mb: bandwidth to S3, each way, that an MB of memory buys an instance; 0: no limit.
        s3_burst_bytes: that an instance moves each way before this limit.
        event_retry_waits_s: after so long a failed asynchronous call is run again (AWS: twice).
        log_folder: each function's log is kept there in a file of its own.
    """

    mb_per_core: float = 1769.0
    keep_alive_s: float = 600.0
    account_concurrency: int = 50
    init_throttled: bool = False
    init_timeout_s: float = 10.0
    pending_s: float = 0.2
    region: str = "us-east-1"
    s3_latency_s: float = 0.0
    s3_bytes_per_s_per_mb: float = 0.0
    s3_burst_bytes: float = 0.0
    event_retry_waits_s: tuple[float, ...] = (60.0, 120.0)
    log_folder: Path | None = None

    def __post_init__(self) -> None:
        for name in ("mb_per_core", "keep_alive_s", "account_concurrency", "init_timeout_s"):
            value = getattr(self, name)
            if not value > 0:
                raise InputError(f"local endpoint: {name}={value}: expected a number above 0")
        for name in ("s3_latency_s", "s3_bytes_per_s_per_mb", "s3_burst_bytes"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(f"local endpoint: {name}={value}: expected 0 or a number above it")

    def vcpu(self, memory_mb: int) -> float:
        """Cores that a function of this memory gets."""
        return memory_mb / self.mb_per_core
