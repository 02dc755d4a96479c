"""`smoe probe`: if these fail, a user measures what was not asked for, pays unasked, or leaves things behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambda_probe.campaign.measurements import read_measurements
from tests.experiments.conftest import Run

ROOT = Path(__file__).resolve().parents[3]
ROLE = "arn:aws:iam::123456789012:role/smoe-probe"
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="AWS's runtime client is for Linux")
TINY = """
schema: probe-campaign/1
name: tiny
runs: 2
probes:
  - {probe: cold, memory_mb: [256], samples: 2}
  - {probe: warm, memory_mb: [256, 512], samples: 5}
  - {probe: get, memory_mb: [512], size_bytes: [1024], samples: 2, repeats: 2}
  - {probe: send, memory_mb: [512], size_bytes: [1024], samples: 2, repeats: 2}
"""
ROWS = 2 * (2 + 2 * (1 + 5) + (1 + 2) + (2 + 2))


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.mark.usefixtures("no_platform")
@pytest.mark.parametrize("backend", ["local", "aws", "simulated"])
def test_a_dry_run_says_what_it_would_cost_and_does_nothing(smoe: Run, backend: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = smoe("probe", "--backend", backend, "--out", str(out), "--dry-run", "--json")
    plan = json.loads(said)
    assert code == 0
    assert not out.exists()
    assert plan["invocations"] > 100
    assert plan["gb_s"] < plan["most_gb_s"]
    assert (plan["usd"] == 0) == (backend == "local")
    code, said, _ = smoe("probe", "--backend", backend, "--dry-run")
    assert "multiply" in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.usefixtures("no_platform")
def test_aws_is_not_touched_without_consent(smoe: Run, tmp_path: Path) -> None:
    code, out, err = smoe(
        "probe", "--backend", "aws", "--role", ROLE, "--region", "eu-west-1", "--out", str(tmp_path / "out")
    )
    assert (code, out) == (2, "")
    assert "costs at most $" in err
    assert "expected your consent: --yes" in err
    assert not (tmp_path / "out").exists()


def test_a_simulated_platform_is_measured_and_the_same_seed_gives_the_same_table(
    smoe: Run, tiny: str, tmp_path: Path
) -> None:
    tables = []
    for name in ("a", "b"):
        options = ("--backend", "simulated", "--campaign", tiny, "--seed", "3", "--out", str(tmp_path / name))
        code, out, _ = smoe("probe", *options, "--json")
        result = json.loads(out)
        assert (code, result["complete"], result["rows"]) == (0, True, ROWS)
        table, about = read_measurements(tmp_path / name / "measurements.parquet")
        assert about["complete"]
        assert about["seed"] == 3
        tables.append(table)
    assert tables[0].astype(str).equals(tables[1].astype(str))
    warm = next(line for line in result["probes"] if line["probe"] == "warm")
    assert 0.01 < warm["median"] < 0.03  # of the packaged profile: 18 ms
    code, out, _ = smoe("probe", *options)
    assert max(map(len, out.splitlines())) <= 100


def test_a_simulated_campaign_that_goes_on_does_not_draw_the_same_numbers_again(
    smoe: Run, tiny: str, tmp_path: Path
) -> None:
    options = ("--backend", "simulated", "--campaign", tiny, "--out", str(tmp_path / "out"), "--budget-usd")
    code, _, err = smoe("probe", *options, "0.000005")
    assert code == 1
    assert "the budget of 5e-06 USD is used up" in err
    assert smoe("probe", *options, "1")[0] == 0
    table, _ = read_measurements(tmp_path / "out" / "measurements.parquet")
    warm = table[table.probe == "warm"]
    assert warm.client_s.nunique() == len(warm)
    assert table.requested_s.is_monotonic_increasing
    code, _, err = smoe("probe", *options, "1", "--seed", "9")
    assert code == 2
    assert "seed: it was begun with 0, and is now 9" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--backend", "azure"), "'azure' is not one of"),
        (("--backend", "local", "--campaign", "standrad"), "did you mean 'standard'?"),
        (("--backend", "simulated", "--profile", "aws-us-east"), "did you mean 'aws-us-east-1-2026'?"),
        (("--backend", "local", "--budget-usd", "-1"), "budget-usd"),
        ((), "--backend"),
    ],
)
def test_bad_options_are_one_line(smoe: Run, options: tuple[str, ...], said: str) -> None:
    code, out, err = smoe("probe", *options)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("backend", ["local", "simulated"])
def test_platforms_that_end_with_their_process_have_nothing_to_clean_up(smoe: Run, backend: str) -> None:
    assert smoe("probe", "--backend", backend, "--cleanup") == (
        0,
        f"nothing of any campaign is on {backend}\n",
        "",
    )


def started(*options: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "experiments", "probe", *options]
    variables = {**os.environ, **environment}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=-1, stderr=-1, text=True)


def wait_for_rows(folder: Path, count: int, running: "subprocess.Popen[str]") -> None:
    rows = folder / "rows.jsonl"
    while not rows.exists() or rows.read_bytes().count(b"\n") < count:
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_local_campaign_that_is_stopped_leaves_nothing_but_its_rows_and_goes_on(
    sent: signal.Signals, tiny: str, tmp_path: Path
) -> None:
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    options = ("--backend", "local", "--campaign", tiny, "--out", str(out), "--json")
    with started(*options, TMPDIR=str(temporary)) as running:
        wait_for_rows(out, 12, running)
        running.send_signal(sent)
        said, err = running.communicate(timeout=60)
    assert said == ""
    if sent != signal.SIGKILL:
        assert running.returncode == 1
        assert "interrupted; what was finished is kept" in err
        assert list(temporary.iterdir()) == []
        assert len(read_measurements(out / "measurements.parquet")[0]) >= 8
    with started(*options) as running:
        said, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    table, about = read_measurements(out / "measurements.parquet")
    assert len(about["sessions"]) == 2
    assert (table.status == "ok").all()
    counts = table[table.probe != "cold"].groupby("probe").size().to_dict()
    assert counts == {"warm": 20, "get": 4, "send": 4}
    assert (table.reported_memory_mb == table.memory_mb).all()
    assert ((table.billed_s - table.duration_s - table.init_s.fillna(0)).between(-1e-9, 0.0011)).all()


@linux_only
@pytest.mark.slow
def test_what_a_killed_campaign_left_on_aws_is_cleaned_up(tiny: str, tmp_path: Path) -> None:
    """The embedded endpoint stands in for AWS; no account is touched."""
    from lambda_probe.account.cleanup import leftovers
    from lambda_probe.local import LocalEndpoint

    with LocalEndpoint() as endpoint:
        variables, clients = endpoint.environment(), endpoint.clients()
        options = ("--backend", "aws", "--campaign", tiny, "--role", ROLE, "--out", str(tmp_path / "out"), "--yes")
        with started(*options, **variables) as running:
            wait_for_rows(tmp_path / "out", 20, running)  # after the first GET: there is a bucket
            running.kill()
            running.communicate()
        assert leftovers(clients).tagged
        with started("--backend", "aws", "--cleanup", "--dry-run", **variables) as running:
            assert "0 removed" in running.communicate()[0]
        with started("--backend", "aws", "--cleanup", **variables) as running:
            assert "expected your consent" in running.communicate()[1]
            assert running.returncode == 2
        left = leftovers(clients).tagged
        assert left
        clients.s3.create_bucket(Bucket="smoe-of-somebody-else")
        with started("--backend", "aws", "--cleanup", "--yes", "--json", **variables) as running:
            result = json.loads(running.communicate()[0])
            assert running.returncode == 0
        assert [each["name"] for each in result["found"]] == [each.name for each in left]
        assert leftovers(clients).tagged == ()
        assert leftovers(clients).untagged == ("smoe-of-somebody-else",)


@linux_only
@pytest.mark.slow
def test_a_killed_campaign_on_aws_goes_on_and_removes_what_it_had_left(tiny: str, tmp_path: Path) -> None:
    """The embedded endpoint stands in for AWS; no account is touched."""
    from lambda_probe.account.cleanup import leftovers
    from lambda_probe.account.deploy import Deployable, Deployment, zip_of
    from lambda_probe.local import LocalEndpoint

    with LocalEndpoint() as endpoint:
        variables, clients, out = endpoint.environment(), endpoint.clients(), tmp_path / "out"
        options = ("--backend", "aws", "--campaign", tiny, "--role", ROLE, "--out", str(out), "--yes")
        with started(*options, **variables) as running:
            wait_for_rows(out, 20, running)
            running.kill()
            running.communicate()
        identity = json.loads((out / "provenance.json").read_text())["campaign_id"]
        forgotten = Deployable("forgotten", zip_of({"probe.py": b"handler = None"}), 128)
        Deployment(clients, identity).create(forgotten)  # of a step that has ended
        with started(*options, **variables) as running:
            _, err = running.communicate(timeout=120)
            assert running.returncode == 0, err
        assert leftovers(clients).tagged == ()
    assert len(read_measurements(out / "measurements.parquet")[0].query("probe != 'cold'")) == 28
