"""Campaign files and plans: if these fail, a campaign measures something else than its file says."""

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_probe.campaign.backend import Account, BackendPrices, ProbeFunction, ProbePackage
from lambda_probe.campaign.costs import estimate, row_usd
from lambda_probe.campaign.file import CAMPAIGNS, Campaign, Package, default_runtime, load_campaign
from lambda_probe.campaign.samples import next_size
from lambda_probe.campaign.steps import LEAST_PART_BYTES, Plan, Step, plan_of
from lambda_probe.campaign.summary import size_text, summaries
from lambda_probe.campaign.works import GetObjects, PutObjects, Send
from moe.errors import InputError
from moe.files import validated

NAMES = sorted(path.stem for path in CAMPAIGNS.glob("*.yaml"))
LARGE = Account(concurrency=1000)
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/smoe-probe-1:v1"


def planned(name: str, backend: str = "aws", account: Account = LARGE) -> Plan:
    return plan_of(load_campaign(name), backend, account, "python3.12")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["local", "aws", "simulated"])
def test_packaged_campaigns_can_be_planned_everywhere(name: str, backend: str) -> None:
    plan = planned(name, backend)
    assert len({step.key for step in plan.steps}) == len(plan.steps)
    assert {step.run for step in plan.steps} == set(range(load_campaign(name).runs))
    functions: dict[str, ProbeFunction] = {}
    for step in plan.steps:  # a name is one function: one memory size, one timeout
        assert functions.setdefault(step.function.name, step.function) == step.function
        assert len(f"smoe-{name}-12345678-{step.function.name}-target") <= 64


def test_the_standard_campaign_has_a_thousand_samples_of_what_has_a_tail() -> None:
    steps = planned("standard").steps

    def count(probe: str, size: int = 0) -> int:
        found = [step for step in steps if step.probe == probe and getattr(step.work, "size_bytes", size) == size]
        return sum(step.samples * getattr(step.work, "repeats", 1) for step in found)

    plain = [step for step in steps if step.probe == "cold" and step.function.package.name.endswith("-zip")]
    assert sum(step.samples for step in plain if not step.function.package.padding_bytes) >= 1000
    assert count("warm") >= 1000
    assert count("get", 1024) >= 1000
    assert count("put", 1024) >= 1000


def test_on_aws_nothing_bursts_unasked_and_only_standard_idles() -> None:
    for name in NAMES:
        probes = {step.probe for step in planned(name).steps}
        assert "burst" not in probes
        assert ("keep-alive" in probes) == (name == "standard")
    for name in ("quick", "standard"):
        assert {"keep-alive", "burst"} <= {step.probe for step in planned(name, "local").steps}


def test_idle_times_pass_together_and_the_estimate_says_so() -> None:
    """If this fails, a dry run promises minutes and the campaign takes hours, or bills what only waits."""
    steps = [step for step in planned("standard").steps if step.probe == "keep-alive"]
    found = estimate(steps, BackendPrices())
    gaps = {step.idle_s for step in steps if step.run == 0}
    assert {450.0, 600.0, 900.0} <= gaps
    assert len({step.function.name for step in steps}) == len(steps)  # each gap has instances of its own
    assert found.idle_s == 5 * max(gaps)
    assert found.idle_s < found.wall_s < 1.1 * found.idle_s
    assert found.gb_s < 1e-3 * found.idle_s * len(gaps) * 20 * 128 / 1024


def test_parts_are_as_large_as_s3_wants_them() -> None:
    for step in planned("standard").steps:
        if isinstance(step.work, GetObjects | PutObjects) and step.work.connections > 1:
            assert step.work.size_bytes / step.work.connections >= LEAST_PART_BYTES


def test_a_machine_is_not_asked_for_more_cores_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
    plan = planned("standard", "local", Account(16))
    assert max(step.function.memory_mb for step in plan.steps) == 3538
    assert any("10240 MB: 5.8 cores, and this machine has 2" in reason for reason in plan.left_out)


def test_packages_are_named_after_what_runs() -> None:
    found = Package(imports=("numpy",), padding_mb=2).probe_package("python3.11")
    assert found == ProbePackage(
        "python3.11-x86_64-zip-numpy", "zip", "python3.11", "x86_64", ("numpy",), 2 * 2**20
    )
    assert default_runtime("local") == f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert default_runtime("aws") == "python3.12"


def test_where_a_platform_lacks_a_package_the_plain_one_computes_and_cold_starts_are_left_out() -> None:
    plan = planned("quick", "simulated", replace(LARGE, packages=("python3.12-x86_64-zip",)))
    assert {step.function.package.imports for step in plan.steps} == {()}
    assert {"multiply", "expert"} <= {step.probe for step in plan.steps}
    assert plan.left_out == ("package python3.12-x86_64-zip-numpy: the platform has none of that name",)
    with pytest.raises(InputError, match="nothing to measure"):
        planned("quick", "simulated", replace(LARGE, packages=("java21-x86_64-zip",)))


@pytest.mark.parametrize(
    ("backend", "known", "measured"),
    [
        ("aws", None, 1),
        ("local", None, 0),
        ("simulated", ("python3.12-x86_64-image-numpy",), 1),
        ("simulated", ("python3.12-x86_64-zip",), 0),
    ],
)
def test_an_image_is_measured_where_the_platform_has_it_and_else_left_out_and_said(
    backend: str, known: tuple[str, ...] | None, measured: int
) -> None:
    wanted = {
        "schema": "probe-campaign/1",
        "name": "mine",
        "runs": 1,
        "packages": {"plain": {}, "image": {"image": IMAGE, "imports": ["numpy"]}},
        "probes": [{"probe": "cold", "memory_mb": [128], "packages": ["plain", "image"]}],
    }
    names = None if known is None else (*known, "python3.12-x86_64-zip")
    account = replace(LARGE, packages=names)
    plan = plan_of(validated(Campaign, wanted, "mine.yaml"), backend, account, "python3.12")
    images = [each for each in plan.steps if each.function.package.package_type == "image"]
    assert len(images) == measured
    assert len(plan.steps) == 1 + measured
    assert all(each.function.package.image_uri == IMAGE for each in images)
    assert any("python3.12-x86_64-image-numpy" in reason for reason in plan.left_out) == (not measured)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"probes": [{"probe": "wram", "memory_mb": [128]}]}, "probes.0.probe: got 'wram'; did you mean 'warm'?"),
        ({"probes": [{"memory_mb": [128]}]}, "probes.0.probe: required, but missing"),
        (
            {"probes": [{"probe": "get", "memory_mb": [128], "size_bytes": [1], "connection": [2]}]},
            "'connections'",
        ),
        ({"probes": [{"probe": "warm", "memory_mb": [64]}]}, "greater than or equal to 128, got 64"),
        ({"probes": [{"probe": "warm"}]}, "probes.0.memory_mb: required, but missing"),
        (
            {"probes": [{"probe": "warm", "memory_mb": [128], "packages": ["plan"]}]},
            "no package 'plan'; did you mean 'plain'?",
        ),
        ({"probes": [{"probe": "payload-limit", "memory_mb": [128], "between_bytes": [9, 1]}]}, "smaller size"),
        ({"packages": {"plain": {"runtime": "java21"}}}, "packages.plain.runtime"),
        (
            {"packages": {"plain": {"image": "smoe-probe:1"}}},
            "packages.plain.image: expected ACCOUNT.dkr.ecr.REGION",
        ),
        ({"packages": {"plain": {"image": IMAGE.replace("1:", "1.")}}}, "packages.plain.image"),
        ({"packages": {"plain": {"image": IMAGE, "padding_mb": 1}}}, "packages.plain: padding_mb"),
        ({"name": "A campaign"}, "name"),
        ({"runs": 0}, "runs"),
    ],
)
def test_a_wrong_campaign_file_is_told_in_one_line(changes: dict[str, object], said: str) -> None:
    right = {
        "schema": "probe-campaign/1",
        "name": "mine",
        "runs": 1,
        "probes": [{"probe": "warm", "memory_mb": [128]}],
    }
    with pytest.raises(InputError) as raised:
        validated(Campaign, {**right, **changes}, "mine.yaml")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_campaign_is_told_the_known_ones() -> None:
    with pytest.raises(InputError, match="did you mean 'quick'"):
        load_campaign("qick")
    with pytest.raises(InputError, match="no such file"):
        load_campaign("mine.yaml")


@given(
    low=st.integers(0, 10**6),
    width=st.integers(1, 10**7),
    limit=st.integers(0, 2 * 10**7),
    within=st.integers(1, 10**5),
)
def test_halving_ends_and_brackets_the_limit(low: int, width: int, limit: int, within: int) -> None:
    function = ProbeFunction("f", 128, ProbePackage("plain"))
    step = Step(
        "k", 0, "payload-limit", function, Send("t", 1), 1, "limit", between=(low, low + width), within=within
    )
    tried: dict[int, bool] = {}
    while (size := next_size(step, tried)) is not None:
        assert size not in tried
        tried[size] = size <= limit
    fits = [size for size, fitted in tried.items() if fitted]
    fails = [size for size, fitted in tried.items() if not fitted]
    assert len(tried) <= step.calls
    if low <= limit < low + width:
        assert max(fits) <= limit < min(fails) <= max(fits) + within


def test_the_estimate_is_the_arithmetic_of_the_price_list() -> None:
    wanted = validated(
        Campaign,
        {
            "schema": "probe-campaign/1",
            "name": "one",
            "runs": 1,
            "probes": [{"probe": "get", "memory_mb": [2048], "size_bytes": [1024], "samples": 10, "repeats": 5}],
        },
        "one",
    )
    found = estimate(plan_of(wanted, "aws", LARGE, "python3.12").steps, BackendPrices(1.0, 0.01, 0.001, 5.0))
    call_s = 5 * (0.03 + 1024 / 40e6)
    assert found.gb_s == pytest.approx(2 * (10 * call_s + 0.3))
    assert found.invocations == 11
    assert found.usd == pytest.approx(found.gb_s + 0.11 + 0.05)
    assert found.most_usd > found.usd


def test_a_called_function_is_paid_for_though_the_table_has_no_row_of_it() -> None:
    row = {"compute_cost_usd": 1.0, "request_cost_usd": 0.5, "memory_mb": 2048, "status": "ok", "duration_s": 0.1}
    prices = BackendPrices(gb_s=10.0, invocation=0.25)
    assert row_usd(row, prices) == 1.5
    assert row_usd({**row, "target_s": [0.0101, 0.1]}, prices) == pytest.approx(1.5 + 2 * 10 * 0.111 + 0.5)


def test_sizes_read_as_a_person_writes_them() -> None:
    assert [size_text(size) for size in (5, 1024, 16 * 2**20, 3 * 2**29)] == ["5 B", "1 KB", "16 MB", "1.5 GB"]


def test_a_summary_counts_failures_and_leaves_them_out() -> None:
    row = {"probe": "warm", "memory_mb": 128, "work": "{}", "seconds": [], "status": "ok", "run": 0}
    rows = [{**row, "client_s": each} for each in (1.0, 2.0, 3.0)]
    rows.append({**row, "client_s": 99.0, "status": "timeout"})
    (line,) = summaries(rows)
    assert line.as_json() == {
        "probe": "warm",
        "what": "call",
        "memory_mb": 128,
        "unit": "s",
        "samples": 3,
        "median": 2.0,
        "p99": 2.98,
        "failures": 1,
    }
