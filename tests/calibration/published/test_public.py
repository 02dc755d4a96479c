"""Calibration from public files: if these fail, a profile's constants are not what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.published.files import calibrate_public, public_rows
from calibration.tables import Period
from moe.errors import InputError
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import constant_at

SHARED = Path(__file__).parents[4] / "shared" / "data"
BASE = load_profile()


def zip_init(profile: PlatformProfile) -> Constant:
    return profile.start.packages["python3.12-x86_64-zip"].init_s


def init_file(folder: Path, scale: float = 1.0, rows: int = 2000, months: tuple[int, ...] = (7,)) -> None:
    rng = np.random.default_rng(2)
    pd.DataFrame(
        {
            "date": [f"2026-{months[k % len(months)]:02d}-{1 + k % 20:02d}" for k in range(rows)],
            "runtime": "python3.12",
            "package_type": np.repeat(["zip", "image"], rows // 2),
            "architecture": "x86_64",
            "init_ms": scale * np.exp(rng.normal(np.log(120), 0.2, rows)),
        }
    ).to_csv(folder / "coldstart_maxday_raw_2026.csv", index=False)


def network_file(folder: Path, burst: float, bucket: float, sustained: float) -> None:
    """Exact intervals of a token bucket: two runs each way, MB/s."""
    at_ms = np.arange(0, 10_000, 20)
    edges = np.append(at_ms, 10_000) / 1e3
    moved = np.minimum(burst * edges, bucket + sustained * edges)
    pd.concat(
        pd.DataFrame(
            {
                "source_file": "long.json",
                "run_date": "2024-03-30",
                "repetition": repetition,
                "direction": direction,
                "report_interval_ms": 20,
                "t_start_ms": at_ms,
                "throughput_MBps_reported": np.diff(moved) / 0.02,
            }
        )
        for repetition in (0, 1)
        for direction in ("upload", "download")
    ).to_csv(folder / "skyrise_lambda_network_intervals.csv", index=False)


def test_a_known_distribution_is_found_again(tmp_path: Path) -> None:
    init_file(tmp_path)
    made = calibrate_public(tmp_path, BASE)
    assert [f.quantity.path[2:] for f in made.fits] == [
        ("python3.12-x86_64-zip", "init_s"),
        ("python3.12-x86_64-image", "init_s"),
    ]
    assert made.fits[0].fit.samples == 750  # of 1,000: the test's are not used
    assert zip_init(made.profile).median == pytest.approx(0.120, rel=0.03)
    interval = made.fits[0].fit.interval
    assert interval is not None
    assert interval[0] < 0.120 < interval[1]


def test_what_was_not_measured_stays_and_says_so(tmp_path: Path) -> None:
    init_file(tmp_path)
    profile = calibrate_public(tmp_path, BASE).profile
    assert profile.storage.get_latency_s.value == BASE.storage.get_latency_s.value
    assert profile.storage.get_latency_s.kept == profile.compute.visible_cores.kept == "not measured"
    assert zip_init(profile).kept is None
    assert profile.prices.billing_step_s == BASE.prices.billing_step_s


def test_twice_as_slow_is_twice_the_median(tmp_path: Path) -> None:
    medians = []
    for scale in (1.0, 2.0):
        init_file(tmp_path, scale)
        medians.append(zip_init(calibrate_public(tmp_path, BASE).profile).median)
    assert medians[1] == pytest.approx(2 * medians[0], rel=1e-3)


def test_a_token_bucket_is_found_again(tmp_path: Path) -> None:
    network_file(tmp_path, 900.0, 250.0, 70.0)
    network = calibrate_public(tmp_path, BASE).profile.network
    assert network.burst_bytes_per_s.median == pytest.approx(900e6, rel=1e-6)
    assert network.burst_bytes.median == pytest.approx(250e6, rel=1e-6)
    assert network.sustained_bytes_per_s.median == pytest.approx(70e6, rel=1e-6)
    assert network.function_bytes_per_s_per_mb.kept == "not measured"


def test_a_shuffled_file_gives_the_same_profile(tmp_path: Path) -> None:
    init_file(tmp_path)
    network_file(tmp_path, 900.0, 250.0, 70.0)
    first = calibrate_public(tmp_path, BASE).profile
    for path in tmp_path.glob("*.csv"):
        pd.read_csv(path, dtype=str).sample(frac=1, random_state=3).to_csv(path, index=False)
    assert calibrate_public(tmp_path, BASE).profile == first


def test_months_can_be_fitted_and_others_left_to_test(tmp_path: Path) -> None:
    init_file(tmp_path, months=(3, 4))
    everything, march, april = (
        calibrate_public(tmp_path, BASE, period=period).fits[0]
        for period in (Period(), Period(until="2026-03"), Period(since="2026-04"))
    )
    assert march.fitted.date == "2026-03"
    assert march.samples + april.samples == everything.samples == 1000
    with pytest.raises(InputError, match="nothing was measured from 2027 to now"):
        calibrate_public(tmp_path, BASE, period=Period(since="2027"))


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("April", None, "--since: expected a year, month or day"),
        ("2026-04", "2026-03", "--until: expected nothing"),
    ],
)
def test_a_wrong_period_is_said(since: str, until: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Period(since, until)


def test_a_package_that_the_base_lacks_is_named(tmp_path: Path) -> None:
    init_file(tmp_path)
    packages = {name: p for name, p in BASE.start.packages.items() if name != "python3.12-x86_64-image"}
    base = BASE.model_copy(update={"start": BASE.start.model_copy(update={"packages": packages})})
    made = calibrate_public(tmp_path, base)
    assert made.not_in_base == ["python3.12-x86_64-image"]
    assert len(made.fits) == 1


def test_a_folder_without_the_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the public files"):
        calibrate_public(tmp_path, BASE)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", ""])
@pytest.mark.parametrize(
    "name",
    [
        "coldstart_maxday_raw_2026.csv",
        "sebs_container_eviction_2020.csv",
        "stellar_aws_scalars_2021.csv",
        "skyrise_lambda_network_intervals.csv",
        "lambda_memory_scaling_cebert_2025.csv",
        "lambda_vcpu_tiers.csv",
        "ec2_ondemand_prices_us-east-1_2026-07.csv",
    ],
)
def test_a_file_without_its_columns_is_said(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="a column or row is missing" if text else "not a CSV file") as caught:
        calibrate_public(tmp_path, BASE)
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan")])
def test_a_measurement_that_cannot_be_is_said(tmp_path: Path, value: float) -> None:
    init_file(tmp_path)
    path = tmp_path / "coldstart_maxday_raw_2026.csv"
    table = pd.read_csv(path)
    table.loc[3, "init_ms"] = value
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"python3\.12-x86_64-zip\.init_s: expected positive numbers"):
        calibrate_public(tmp_path, BASE)


shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the public measurements are not here")


@shared
@pytest.mark.slow
def test_shuffled_public_files_give_the_same_profile(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for path in [*(SHARED / "aws").glob("*.csv"), *(SHARED / "platforms").glob("*.csv")]:
        head, *lines = path.read_text().splitlines()
        (tmp_path / path.name).write_text("\n".join([head, *rng.permutation(lines)]) + "\n")
    assert calibrate_public(tmp_path, BASE).profile == calibrate_public(SHARED, BASE).profile


@shared
def test_every_public_file_is_fitted_and_the_packaged_profile_agrees() -> None:
    made = calibrate_public(SHARED, BASE)
    assert len(made.fits) == 34
    assert made.profile.compute.visible_cores.up_to_mb == BASE.compute.visible_cores.up_to_mb
    assert 360 < constant_at(made.profile, ("start", "keep_alive_halving_s")).median <= 380
    far = {"network.burst_bytes_per_s": 0.25, "network.function_bytes_per_s_per_mb": 0.11}
    for found in made.fits:
        name = ".".join(found.quantity.path)
        if found.before is not None:
            assert found.fitted.median == pytest.approx(found.before.median, rel=far.get(name, 0.08)), name
        if found.fit.held_out_error is not None:
            assert found.fit.held_out_error < 0.12, name


def rates_file(folder: Path, **products: float) -> None:
    """Rows of fp64 products on Lambda, GFLOP/s a vCPU by their source, and one of ResNet-50 in 2020."""
    rows = [("fp64", "GEMM", "large GEMM", "2022-06-10", source, rate) for source, rate in products.items()]
    rows.append(("fp32", "ResNet-50", "batch 1 conv", "2020", "SeBS", 16.0))
    columns = ["precision", "model", "regime", "date", "source", "gflops_per_vcpu"]
    table = pd.DataFrame(rows, columns=columns).assign(
        platform="AWS Lambda", architecture="x86_64", framework="BLAS", memory_mb=1024.0, vcpu=0.58
    )
    table.assign(tokens_per_call="", seconds=np.nan).to_csv(folder / "compute_rates.csv", index=False)


def test_an_experts_rate_is_derived_from_products_and_not_from_images_of_2020(tmp_path: Path) -> None:
    """Twice the fp64 rate, 0.78 of that: an old image would make arithmetic three times as dear."""
    rates_file(tmp_path, lithops=33.8, linpack=25.5)
    (found,) = calibrate_public(tmp_path, BASE).fits
    assert found.quantity.path == ("compute", "flops_per_vcpu")
    assert found.constant.median == pytest.approx(2 * 0.78 * (33.8e9 + 25.5e9) / 2, rel=1e-5)
    assert found.fit.interval is not None
    low, high = found.fit.interval
    assert 0.999 * 2 * 0.62 * 25.5e9 < low < 33e9, "what one row and the least conversion say"
    assert 56e9 < high < 1.001 * 2 * 0.85 * 33.8e9
    assert found.constant.date == "2022-06"
    assert (found.constant.confidence, found.constant.kept) == ("medium", None)


@shared
def test_absolute_rates_are_within_what_their_sources_leave_open() -> None:
    """A ratio between sizes hides that all are three times too slow: each source is held against by itself."""
    rows = public_rows(SHARED / "platforms", BASE)
    assert {row.unit for row in rows} == {"GFLOP/s", "s"}
    held = {row.quantity: row for row in rows}
    products = [row for row in rows if row.quantity.startswith("fp64 product")]
    assert len(products) == 7
    assert all(abs(row.error) < 0.3 for row in products)
    bert = [row for row in rows if row.quantity.startswith("BERT-")]
    assert len(bert) == 7
    assert all(abs(row.error) < 0.15 for row in bert), "from 8 to 512 tokens: small batches pay for their weights"
    assert abs(held["GEMM 2048^3, EPYC 7742 (Zen 2), per core"].error) < 0.1
    images = [row for row in rows if row.quantity.startswith("ResNet-50")]
    assert len(images) == 4
    assert all(row.data == "of its time" and row.error > 0.5 for row in images), "guests without AVX2: held out"
