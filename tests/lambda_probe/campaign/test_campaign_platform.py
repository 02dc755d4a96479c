"""Campaigns on a platform that misbehaves: if these fail, odd answers become wrong constants, or cost for ever."""

from dataclasses import replace
from pathlib import Path

import pytest

from lambda_probe.account.calls import Attempt
from lambda_probe.campaign.run import run_campaign
from tests.lambda_probe.campaign.fake_platform import FakePlatform
from tests.lambda_probe.campaign.test_campaign import WARM, only


@pytest.mark.parametrize("status", ["handler-error", "out-of-memory", "timeout"])
def test_a_handler_that_always_fails_costs_a_few_calls_only(status: str, tmp_path: Path) -> None:
    def fail(number: int, attempt: Attempt) -> Attempt:
        return replace(attempt, status=status, answer=None, error="signal: killed")

    platform = FakePlatform(change=fail)
    outcome = run_campaign(only({**WARM, "samples": 500}, runs=1), platform, tmp_path / "out")
    assert platform.calls <= 5
    assert "signal: killed" in outcome.short[0]
    assert [row["status"] for row in outcome.rows] == [status] * platform.calls
    assert outcome.spent_usd > 0, "failed calls are billed, and count for the budget"
    assert platform.functions == {}


def test_clocks_that_disagree_change_no_duration(tmp_path: Path) -> None:
    def skewed(number: int, attempt: Attempt) -> Attempt:
        return replace(attempt, sent_s=attempt.sent_s - 3600 * number)  # set back an hour before each call

    right = run_campaign(only(WARM), FakePlatform(), tmp_path / "right").rows
    wrong = run_campaign(only(WARM), FakePlatform(change=skewed), tmp_path / "wrong").rows
    for name in ("client_s", "duration_s", "init_s", "billed_s", "billed_gb_s", "seconds"):
        assert [str(row[name]) for row in wrong] == [str(row[name]) for row in right]
    for row in wrong:
        assert row["ended_s"] - row["started_s"] == pytest.approx(row["duration_s"], abs=1e-6)
