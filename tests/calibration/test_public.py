"""Calibration from public files: if these fail, a profile's constants are not what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.public import calibrate_public
from moe.errors import InputError
from simulator.constant import Constant
from simulator.profile import PlatformProfile, load_profile

SHARED = Path(__file__).parents[3] / "shared" / "data" / "aws"


def zip_init(profile: PlatformProfile) -> Constant:
    return profile.start.packages["python3.12-x86_64-zip"].init_s


def init_file(folder: Path, scale: float = 1.0, rows: int = 2000) -> None:
    rng = np.random.default_rng(2)
    pd.DataFrame(
        {
            "date": [f"2026-07-{1 + k % 20:02d}" for k in range(rows)],
            "runtime": "python3.12",
            "package_type": ["zip", "image"] * (rows // 2),
            "architecture": "x86_64",
            "init_ms": scale * np.exp(rng.normal(np.log(120), 0.2, rows)),
        }
    ).to_csv(folder / "coldstart_maxday_raw_2026.csv", index=False)


def test_a_known_distribution_is_found_again(tmp_path: Path) -> None:
    init_file(tmp_path)
    base = load_profile()
    profile, fits = calibrate_public(tmp_path, base)
    assert [f.quantity.path[2:] for f in fits] == [
        ("python3.12-x86_64-zip", "init_s"),
        ("python3.12-x86_64-image", "init_s"),
    ]
    assert fits[0].samples == 1000
    assert zip_init(profile).median == pytest.approx(0.120, rel=0.03)
    interval = fits[0].median_interval_s
    assert interval is not None
    assert interval[0] < 0.120 < interval[1]
    assert profile.storage == base.storage  # what was not measured stays


def test_twice_as_slow_is_twice_the_median(tmp_path: Path) -> None:
    medians = []
    for scale in (1.0, 2.0):
        init_file(tmp_path, scale)
        medians.append(zip_init(calibrate_public(tmp_path, load_profile())[0]).median)
    assert medians[1] == pytest.approx(2 * medians[0], rel=1e-4)


def test_a_folder_without_the_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the public files"):
        calibrate_public(tmp_path, load_profile())


def test_a_file_without_its_columns_is_said(tmp_path: Path) -> None:
    (tmp_path / "coldstart_maxday_raw_2026.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="a column is missing"):
        calibrate_public(tmp_path, load_profile())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public measurements are not here")
def test_the_packaged_profile_agrees_with_the_public_measurements() -> None:
    _, fits = calibrate_public(SHARED, load_profile())
    assert len(fits) == 10
    for found in fits:
        assert found.constant.median == pytest.approx(found.before.median, rel=0.05), found.quantity.path
