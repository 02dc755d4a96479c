"""Whose a campaign's folder is: if these fail, two campaigns mix their rows, or a thesis is overwritten."""

import os
from pathlib import Path

import pytest

from lambda_probe.campaign.folder import open_folder
from lambda_probe.campaign.run import run_campaign
from moe.errors import InputError
from tests.lambda_probe.campaign.fake_platform import FakePlatform
from tests.lambda_probe.campaign.test_campaign import WARM, campaign, only


def test_two_campaigns_do_not_share_a_folder_and_a_stale_lock_is_none(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("999999\n")  # of a process that died
    with (
        open_folder(tmp_path, campaign(), {}),
        pytest.raises(InputError, match=f"process {os.getpid()} is writing into it"),
    ):
        run_campaign(campaign(), FakePlatform(), tmp_path)
    assert run_campaign(only(WARM), FakePlatform(), tmp_path / "other").complete


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "another"}, "holds campaign 'small', not 'another'"),
        ({"runs": 9}, "runs: changed since the campaign began"),
        ({"probes": [{**WARM, "samples": 4}]}, "probes: changed since the campaign began"),
    ],
)
def test_a_folder_is_of_one_campaign(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    run_campaign(only(WARM, runs=1), FakePlatform(), tmp_path / "out")
    platform = FakePlatform()
    with pytest.raises(InputError, match=said):
        run_campaign(campaign(**{"runs": 1, "probes": [WARM], **changes}), platform, tmp_path / "out")
    assert platform.operations == 0


def test_a_folder_is_of_one_platform(tmp_path: Path) -> None:
    run_campaign(only(WARM), FakePlatform(), tmp_path, identity={"profile": "a"})
    with pytest.raises(InputError, match="profile: it was begun with 'a', and is now 'b'"):
        run_campaign(only(WARM), FakePlatform(), tmp_path, identity={"profile": "b"})


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"it has 'thesis\.tex'"):
        run_campaign(campaign(), FakePlatform(), tmp_path)
