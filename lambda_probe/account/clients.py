"""boto3 clients as probes need them: no silent retries, since every attempt is measured, and billed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from moe.errors import InputError

LONGEST_CALL_S = 900
CONTROL_PER_S = 14.0  # requests that change or read functions; AWS allows 15
NO_REGION = "AWS: no region: expected region, AWS_DEFAULT_REGION or one in the AWS configuration"
LOGS_PER_S = 4.0  # requests that read logs; AWS allows 5 (10 in some regions)
AT_ONCE = 64  # connections that a client keeps
CLIENT_ERRORS = (ClientError, BotoCoreError, OSError)  # the service refuses or fails, or nobody answers


@dataclass(frozen=True)
class Clients:
    """Clients of one account and region.

    Attributes:
        functions: of Lambda, to invoke: never sends anything again by itself.
        control: of Lambda, for all but invoking: patient, and slow enough for AWS.
        s3: of S3, patient. region: whose they are.
        logs: of CloudWatch, where AWS keeps what functions write; None on the embedded endpoint.
    """

    functions: Any
    control: Any
    s3: Any
    region: str
    logs: Any = None


def local_clients(lambda_url: str, s3_url: str, region: str, variables: Mapping[str, str]) -> Clients:
    """Clients of an embedded endpoint; the user's own AWS profile, files and proxies do not matter to them.

    Args:
        variables: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the endpoint.
    """
    import boto3
    from botocore.session import Session

    no_files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    session = boto3.Session(botocore_session=Session({"profile": (None, None, None, None), **no_files}))
    keys = {name.lower(): variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return _clients(session, region, {"lambda": lambda_url, "s3": s3_url}, keys)


def aws_clients(region: str | None = None, profile: str | None = None) -> Clients:
    """Clients of the user's own account; credentials are found by boto3's own chain.

    Raises InputError where there are none, or no region is set.
    """
    import boto3

    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise InputError(f"AWS: {one_line(error)}") from None
    if session.region_name is None:
        raise InputError(NO_REGION)
    if credentials is None:
        raise InputError("AWS: no credentials: expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
    clients = _clients(session, session.region_name)
    clients.control.meta.events.register("before-send.lambda", Pace(CONTROL_PER_S))
    if clients.logs is not None:
        clients.logs.meta.events.register("before-send.logs", Pace(LOGS_PER_S))
    return clients


def configured_region(region: str | None = None) -> str:
    """The region that is given, else that of the AWS configuration. Raises InputError where there is none."""
    import boto3

    found = region or boto3.Session().region_name
    if found is None:
        raise InputError(NO_REGION)
    return str(found)


class Pace:
    """Lets a caller through so many times a second, evenly; called before each request that is sent.

    Args:
        now, sleep: a clock, s.
    """

    def __init__(
        self,
        per_s: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_s, self._now, self._sleep = 1 / per_s, now, sleep
        self._lock, self._next_s = Lock(), 0.0

    def __call__(self, **_: Any) -> None:
        """Wait for the next turn."""
        with self._lock:
            now = self._now()
            turn = max(now, self._next_s)
            self._next_s = turn + self._gap_s
        if turn > now:
            self._sleep(turn - now)


def one_line(error: Exception) -> str:
    """What went wrong on the way to a service, or in it, in one line; a throttle with its reason."""
    text = " ".join(str(error).split())
    answer = answer_of(error)
    if not answer:
        return f"{type(error).__name__}: {text}"
    return f"{text} ({answer['Reason']})" if answer.get("Reason") else text


def answer_of(error: Exception) -> dict[str, Any]:
    """What the service answered; empty where nobody did (a closed connection has None there)."""
    answer = getattr(error, "response", None)
    return answer if isinstance(answer, dict) else {}


def code_of(error: Exception) -> str:
    """The service's name of an error; empty where nobody answered."""
    code: str = answer_of(error).get("Error", {}).get("Code", "")
    return code


def status_of(error: Exception) -> int:
    """The HTTP status of an error; 500 where nobody answered."""
    status: int = answer_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return status


def made_nothing(error: Exception) -> bool:
    """Whether a request to create something was refused when it was first sent.

    Otherwise it may be there: an earlier answer was lost, nobody answered, or the conflict is with itself.
    """
    again = answer_of(error).get("ResponseMetadata", {}).get("RetryAttempts", 0)
    return 400 <= status_of(error) < 500 and status_of(error) not in (409, 429) and not again


def _clients(
    session: Any, region: str, urls: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
) -> Clients:
    """A call is waited for longer than it can take, and never sent again by botocore. Without `urls`: AWS."""
    from botocore.config import Config

    shared = {"max_pool_connections": AT_ONCE, "tcp_keepalive": True, **({"proxies": {}} if urls else {})}
    once = Config(retries={"total_max_attempts": 1}, read_timeout=LONGEST_CALL_S + 60, **shared)
    patient = Config(retries={"total_max_attempts": 5, "mode": "standard"}, **shared)

    def client(service: str, config: Config) -> Any:
        url = (urls or {}).get(service)
        return session.client(service, region_name=region, endpoint_url=url, config=config, **(keys or {}))

    control = client("lambda", patient)
    on_aws = "amazonaws.com" in control.meta.endpoint_url  # not where AWS_ENDPOINT_URL_LAMBDA says otherwise
    logs = client("logs", patient) if on_aws else None
    return Clients(client("lambda", once), control, client("s3", patient), region, logs)
