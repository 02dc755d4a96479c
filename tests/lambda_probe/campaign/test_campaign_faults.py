"""Whole campaigns on an endpoint that fails: rows stay, what was created goes, and the same campaign then ends.

A user loses what was paid for, or pays for what was forgotten, when these fail.
"""

import json
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lambda_probe.account.cleanup import leftovers
from lambda_probe.account.clients import Clients
from lambda_probe.account.deploy import REMOVALS
from lambda_probe.campaign.backend import BackendPrices
from lambda_probe.campaign.boto_backend import BotoBackend, facts_of
from lambda_probe.campaign.file import Campaign
from lambda_probe.campaign.measurements import read_measurements
from lambda_probe.campaign.run import Outcome, run_campaign
from lambda_probe.local import LocalEndpoint
from moe.errors import PlatformError
from tests.lambda_probe.faulty import (
    Fault,
    Faults,
    answer,
    down,
    interrupted,
    interrupted_late,
    refusal,
    s3_error,
)

pytestmark = pytest.mark.slow  # two seconds each
BOTO_ATTEMPTS = 5  # of a patient client
UNANSWERED = 3 * 6  # calls in a row, each with its attempts
CAMPAIGN = Campaign.model_validate(
    {
        "schema": "probe-campaign/1",
        "name": "small",
        "runs": 1,
        "probes": [
            {"probe": "warm", "memory_mb": [512], "samples": 3},
            {"probe": "cold", "memory_mb": [512], "samples": 2},
            {"probe": "get", "memory_mb": [512], "size_bytes": [1024], "samples": 2},
        ],
    }
)
SAMPLES = {"warm": 3, "get": 2}
_ids = count()


def backend_of(clients: Clients, identity: str) -> BotoBackend:
    """A backend that does not wait between attempts, nor long for a function."""
    facts = facts_of("local", clients.region)
    made = BotoBackend(clients, facts, BackendPrices(), identity, poll_s=0.005, sleep=lambda _: None)
    made._deployment._patience_s, made._deployment._sleep = 0.3, lambda _: None
    return made


def left(clients: Clients, identity: str) -> list[str]:
    """What the platform has of a campaign."""
    return [each.name for each in leftovers(clients).tagged if each.campaign == identity]


def kept_rows(folder: Path) -> int:
    """Rows of calls, as they were written one by one."""
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return sum(len(line.get("rows", [])) for line in lines)


def good(outcome: Outcome) -> dict[str, int]:
    """Rows that went well, by probe; first calls are cold ones."""
    return dict(Counter(row["probe"] for row in outcome.rows if row["status"] == "ok" and row["probe"] != "cold"))


def passed(request: Any) -> None:
    """The endpoint answers."""


PENDING = answer(200, {"State": "Pending"})
FAILED = answer(200, {"State": "Failed", "StateReason": "no capacity"})


@pytest.mark.parametrize(
    ("client", "operation", "before", "fault", "times", "error", "says"),
    [
        ("functions", "Invoke", 2, down, UNANSWERED, PlatformError, "3 calls in a row .*the same command resumes"),
        (
            "functions",
            "Invoke",
            2,
            refusal(429, "TooManyRequestsException"),
            UNANSWERED,
            PlatformError,
            "throttled",
        ),
        (
            "functions",
            "Invoke",
            2,
            refusal(500, "ServiceException"),
            UNANSWERED,
            PlatformError,
            "ServiceException",
        ),
        ("functions", "Invoke", 3, interrupted, 1, KeyboardInterrupt, None),
        ("functions", "Invoke", 3, interrupted_late, 1, KeyboardInterrupt, None),
        (
            "control",
            "UpdateFunctionConfiguration",
            0,
            refusal(502, "BadGateway"),
            BOTO_ATTEMPTS,
            PlatformError,
            "again",
        ),
        ("control", "UpdateFunctionConfiguration", 0, interrupted_late, 1, KeyboardInterrupt, None),
        (
            "control",
            "GetFunctionConfiguration",
            1,
            PENDING,
            10**6,
            PlatformError,
            "still Pending .*try again later",
        ),
        ("control", "GetFunctionConfiguration", 1, FAILED, 1, PlatformError, "ready: no capacity"),
        ("control", "CreateFunction", 1, down, BOTO_ATTEMPTS, PlatformError, "check the connection"),
        ("control", "DeleteFunction", 0, interrupted, 1, KeyboardInterrupt, None),
        ("s3", "PutObject", 0, s3_error(503, "SlowDown"), BOTO_ATTEMPTS, PlatformError, "get/1024: .*SlowDown"),
        ("s3", "CreateBucket", 0, interrupted_late, 1, KeyboardInterrupt, None),
    ],
)
def test_rows_stay_what_was_created_goes_and_the_campaign_goes_on(
    endpoint: LocalEndpoint,
    clients: Clients,
    tmp_path: Path,
    client: str,
    operation: str,
    before: int,
    fault: Fault,
    times: int,
    error: type[BaseException],
    says: str | None,
) -> None:
    identity, out = f"c{next(_ids)}", tmp_path / "out"
    Faults(getattr(clients, client)).add(operation, *[passed] * before, *[fault] * times)
    with pytest.raises(error, match=says):
        run_campaign(CAMPAIGN, backend_of(clients, identity), out)
    assert left(clients, identity) == []
    table, about = read_measurements(out / "measurements.parquet")
    assert not about["complete"]
    assert len(table) == kept_rows(out)
    fresh = backend_of(endpoint.clients(), identity)
    outcome = run_campaign(CAMPAIGN, fresh, out)
    assert outcome.complete
    assert outcome.short == ()
    assert good(outcome) == SAMPLES
    assert [row["sent_s"] for row in outcome.rows][: len(table)] == list(table["sent_s"])
    assert left(clients, identity) == []


def test_where_even_removing_fails_it_is_named_and_the_next_session_removes_it(
    endpoint: LocalEndpoint, clients: Clients, tmp_path: Path
) -> None:
    """The line is cut for minutes: the platform keeps what was made, and the rows are here."""
    identity, out = f"c{next(_ids)}", tmp_path / "out"
    Faults(clients.functions).add("Invoke", *[passed] * 2, *[down] * UNANSWERED)
    Faults(clients.control).add("DeleteFunction", down, times=BOTO_ATTEMPTS * REMOVALS)
    with pytest.raises(PlatformError, match=rf"left behind: smoe-{identity}-.*--cleanup"):
        run_campaign(CAMPAIGN, backend_of(clients, identity), out)
    assert len(left(clients, identity)) == 1
    assert len(read_measurements(out / "measurements.parquet")[0]) == kept_rows(out) >= 2
    outcome = run_campaign(CAMPAIGN, backend_of(endpoint.clients(), identity), out)
    assert good(outcome) == SAMPLES
    assert left(clients, identity) == []


def test_a_function_that_crashes_at_its_init_is_given_up_and_said_and_the_others_are_measured(
    clients: Clients, tmp_path: Path
) -> None:
    wanted = Campaign.model_validate(
        {
            "schema": "probe-campaign/1",
            "name": "crash",
            "runs": 1,
            "packages": {"plain": {}, "broken": {"imports": ["no_such_module"]}},
            "probes": [{"probe": "warm", "memory_mb": [512], "packages": ["broken", "plain"], "samples": 2}],
        }
    )
    outcome = run_campaign(wanted, backend_of(clients, "crash"), tmp_path / "out")
    assert outcome.complete
    assert good(outcome) == {"warm": 2}
    (short,) = outcome.short
    assert "its function did not start; the last: handler-error" in short
    assert "no_such_module" in short
    crashed = [row for row in outcome.rows if row["status"] == "handler-error"]
    assert len(crashed) == 3
    assert all("INIT_REPORT" in row["log"] for row in crashed)
    assert left(clients, "crash") == []
