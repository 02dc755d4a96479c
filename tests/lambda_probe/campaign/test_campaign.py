"""The campaign runner: if these fail, a campaign loses what it measured, costs more than agreed, or never ends."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lambda_probe.account.calls import Attempt
from lambda_probe.campaign.backend import Account
from lambda_probe.campaign.costs import estimate, row_usd
from lambda_probe.campaign.file import Campaign
from lambda_probe.campaign.folder import CampaignFolder
from lambda_probe.campaign.measurements import read_measurements
from lambda_probe.campaign.run import Outcome, run_campaign
from lambda_probe.campaign.steps import plan_of
from moe.errors import InputError, PlatformError
from tests.lambda_probe.campaign.fake_platform import FLOPS, INIT_S, KEEP_ALIVE_S, LIMIT_BYTES, FakePlatform

SMALL = {
    "schema": "probe-campaign/1",
    "name": "small",
    "runs": 2,
    "probes": [
        {"probe": "cold", "memory_mb": [512], "samples": 3},
        {"probe": "warm", "memory_mb": [512, 1769], "samples": 3},
        {"probe": "multiply", "memory_mb": [1769], "threads": [1, 4], "seconds": 1},
        {"probe": "expert", "memory_mb": [1769], "tokens": [1, 8], "seconds": 1},
        {"probe": "get", "memory_mb": [1769], "size_bytes": [1024], "samples": 2, "repeats": 3},
        {"probe": "send", "memory_mb": [1769], "size_bytes": [1024], "answer_bytes": [2048], "samples": 2},
        {
            "probe": "payload-limit",
            "memory_mb": [1769],
            "between_bytes": [4000000, 5000000],
            "within_bytes": 100000,
        },
        {"probe": "keep-alive", "memory_mb": [128], "idle_s": [50, 150], "instances": 2},
        {"probe": "burst", "memory_mb": [128], "at_once": [4], "samples": 2},
    ],
}


def campaign(**changes: object) -> Campaign:
    return Campaign.model_validate({**SMALL, **changes})


def only(*probes: dict[str, object], **changes: object) -> Campaign:
    return campaign(probes=list(probes), **changes)


WARM = {"probe": "warm", "memory_mb": [512], "samples": 5}


def samples(outcome: Outcome) -> Counter[tuple[int, str, str]]:
    """Rows by run, probe and function, first calls and looks at how long work takes aside.

    What comes before a gap is a first call: a gap that was broken off begins again.
    """
    kept = [row for row in outcome.rows if row["probe"] not in ("sizing", "cold")]
    kept = [row for row in kept if row["probe"] != "keep-alive" or not math.isnan(row.get("idle_s", math.nan))]
    return Counter((row["run"], row["probe"], row["function"]) for row in kept)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_campaign(campaign(), FakePlatform(), tmp_path_factory.mktemp("whole") / "out")


# -- what is measured ------------------------------------------------------------------------------------


def test_every_probe_gives_its_samples_and_the_table_says_what_the_platform_does(whole: Outcome) -> None:
    rows = whole.rows
    assert whole.complete
    assert whole.short == whole.troubles == ()

    def seconds(probe: str) -> list[float]:
        return [each for row in rows if row["probe"] == probe for each in row["seconds"]]

    assert all(row["init_s"] == INIT_S and row["cold"] for row in rows if row["probe"] == "cold")
    assert [row["cold"] for row in rows if row["probe"] == "warm"] == [False] * 12
    assert seconds("get") == pytest.approx([0.02 + 1024 / 80e6] * 12)
    assert seconds("send") == pytest.approx([0.01 + size / 40e6 for size in (1024, 1024, 2048, 2048)] * 2)
    assert len([row for row in rows if row["probe"] == "burst"]) == 2 * 2 * 4
    for row in rows:
        if row["probe"] == "keep-alive" and not math.isnan(row.get("idle_s", math.nan)):
            assert row["cold"] == (row["idle_s"] > KEEP_ALIVE_S)


def test_cpu_work_lasts_long_enough_to_beat_the_cpu_period_and_is_the_same_in_each_run(whole: Outcome) -> None:
    for probe in ("multiply", "expert"):
        rows = [row for row in whole.rows if row["probe"] == probe]
        works = {(row["run"], row["work"]) for row in rows}
        assert len(works) == 2 * len({work for _, work in works})
        for row in rows:
            assert row["seconds"][0] * json.loads(row["work"]).get("passes", 1) >= 0.8
    rates = [
        json.loads(row["work"])["flop"] / row["seconds"][0] for row in whole.rows if row["probe"] == "multiply"
    ]
    assert rates == pytest.approx([FLOPS] * 2)  # 4 threads are left out: it has 1 vCPU


def test_the_payload_limit_is_bracketed(whole: Outcome) -> None:
    for way in ("size_bytes", "answer_bytes"):
        tried = [
            (json.loads(row["work"])[way], row["status"] == "ok")
            for row in whole.rows
            if row["probe"] == "payload-limit" and json.loads(row["work"])[way]
        ]
        fits = max(size for size, fitted in tried if fitted)
        fails = min(size for size, fitted in tried if not fitted)
        assert fits <= LIMIT_BYTES < fails <= fits + 100_000


def test_every_run_has_new_functions(whole: Outcome) -> None:
    runs = {row["function"]: row["run"] for row in whole.rows}
    assert all(runs[row["function"]] == row["run"] for row in whole.rows)


def test_a_platform_that_never_starts_anew_is_not_asked_for_ever(tmp_path: Path) -> None:
    platform = FakePlatform(never_cold=True)
    wanted = only({"probe": "cold", "memory_mb": [512], "samples": 2}, runs=1)
    outcome = run_campaign(wanted, platform, tmp_path / "out")
    assert platform.calls <= 6
    assert "0 of 2 samples" in outcome.short[0]
    assert "an instance was there already" in outcome.short[0]


def test_what_the_account_does_not_allow_is_left_out_and_said(tmp_path: Path) -> None:
    platform = FakePlatform(limits=Account(concurrency=4, most_memory_mb=3008))
    bursts = {"probe": "burst", "memory_mb": [128, 10240], "at_once": [2, 100]}
    outcome = run_campaign(only(bursts, runs=1), platform, tmp_path / "out")
    assert Counter(row["at_once"] for row in outcome.rows) == {2: 2, 4: 4}
    assert "10240 MB: the account allows 3008 MB at most" in outcome.left_out
    assert "100 calls at once: the account allows 4, so that many" in outcome.left_out


def test_a_function_that_is_refused_is_said_and_the_rest_is_measured(tmp_path: Path) -> None:
    platform = FakePlatform(refuses=lambda function: function.memory_mb > 3008)
    outcome = run_campaign(only({**WARM, "memory_mb": [512, 10240]}), platform, tmp_path / "out")
    assert {row["memory_mb"] for row in outcome.rows} == {512}
    assert any("10240: refused" in reason for reason in outcome.short)


def test_a_platform_that_refuses_everything_stops_the_campaign(tmp_path: Path) -> None:
    platform = FakePlatform(refuses=lambda function: True)
    with pytest.raises(InputError, match="refused"):
        run_campaign(campaign(), platform, tmp_path / "out")
    assert platform.operations == 3


# -- it goes on where it stopped --------------------------------------------------------------------------


ERRORS = (KeyboardInterrupt(), PlatformError("gone"), RuntimeError("a crash"))


def test_it_can_stop_at_any_moment_and_goes_on(whole: Outcome, tmp_path: Path) -> None:
    counted = FakePlatform()
    run_campaign(campaign(), counted, tmp_path / "counted")
    for moment in range(1, counted.operations + 1, 5):
        folder, error = tmp_path / str(moment), ERRORS[moment % 3]

        def stop(number: int, moment: int = moment, error: BaseException = error) -> None:
            if number == moment:
                raise error

        first = FakePlatform(before=stop)
        with pytest.raises(type(error)):
            run_campaign(campaign(), first, folder)
        assert first.functions == {}
        assert first.closed
        kept = list(read_measurements(folder / "measurements.parquet")[0]["sent_s"])
        outcome = run_campaign(campaign(), FakePlatform(), folder)
        assert [row["sent_s"] for row in outcome.rows][: len(kept)] == kept
        assert samples(outcome) == samples(whole)


def test_ctrl_c_while_everything_is_removed_changes_nothing(tmp_path: Path) -> None:
    class Impatient(FakePlatform):
        def close(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            super().close()

    platform = Impatient()
    assert run_campaign(only(WARM), platform, tmp_path / "out").complete
    assert platform.closed


def test_a_finished_campaign_is_not_measured_again(tmp_path: Path) -> None:
    first = run_campaign(campaign(), FakePlatform(), tmp_path / "out")
    platform = FakePlatform()
    second = run_campaign(campaign(), platform, tmp_path / "out")
    assert platform.operations == 0
    assert len(second.rows) == len(first.rows)
    assert second.complete


KILLED = """
import sys, time
from pathlib import Path
from lambda_probe.campaign.run import run_campaign
from tests.lambda_probe.campaign.fake_platform import FakePlatform
from tests.lambda_probe.campaign.test_campaign import campaign
rows = Path(sys.argv[1]) / "rows.jsonl"

def hang(number):
    while rows.exists() and rows.read_bytes().count(b"\\n") >= 20:
        time.sleep(1)

run_campaign(campaign(), FakePlatform(before=hang), rows.parent)
"""


def test_a_killed_campaign_loses_nothing(whole: Outcome, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=here) as running:
        while not rows.exists() or rows.read_bytes().count(b"\n") < 20:
            time.sleep(0.01)
            assert running.poll() is None
        with pytest.raises(InputError, match=f"process {running.pid} is writing"):
            run_campaign(campaign(), FakePlatform(), tmp_path)
        running.send_signal(signal.SIGKILL)
        running.wait()
    measured = rows.read_bytes().count(b"\n")
    with rows.open("ab") as file:
        file.write(b'{"step": "1/0-cold", "rows": [{"bat')  # as if the disk had held back the rest
    outcome = run_campaign(campaign(), FakePlatform(), tmp_path)
    assert samples(outcome) == samples(whole)
    assert rows.read_text().count("\n") > measured
    assert all(json.loads(line) for line in rows.read_text().splitlines())


def test_a_damaged_call_is_refused_with_its_line(whole: Outcome, tmp_path: Path) -> None:
    """A digit that a disk changed would be a constant of a platform that was paid for."""
    run_campaign(campaign(), FakePlatform(), tmp_path)
    rows = tmp_path / "rows.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    number = next(k for k, line in enumerate(lines) if '"seconds": [0.' in line)
    lines[number] = lines[number].replace('"seconds": [0.', '"seconds": [1.', 1)
    rows.write_text("".join(lines))
    with pytest.raises(InputError, match=rf"rows\.jsonl: line {number + 1}: damaged"):
        run_campaign(campaign(), FakePlatform(), tmp_path)
    unsummed = [{name: x for name, x in json.loads(line).items() if name != "sha256"} for line in lines]
    rows.write_text("".join(json.dumps(line) + "\n" for line in unsummed))
    assert run_campaign(campaign(), FakePlatform(), tmp_path).complete, "one that began without checksums goes on"


def test_a_full_disk_is_told_and_nothing_is_lost(
    whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lines = CampaignFolder.__init__, [0]

    class Disk:
        """A file on a disk that is full after 20 lines; of the next one it holds a part."""

        def __init__(self, file: object) -> None:
            self._file = file

        def write(self, data: bytes) -> None:
            lines[0] += 1
            if lines[0] > 20:
                self._file.write(data[:100])
                self._file.flush()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._file.write(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    def full(self: CampaignFolder, *arguments: object) -> None:
        real(self, *arguments)
        self._file = Disk(self._file)

    platform = FakePlatform()
    with monkeypatch.context() as patch:
        patch.setattr(CampaignFolder, "__init__", full)
        with pytest.raises(PlatformError, match=r"rows\.jsonl: cannot be written: No space left .* resumes"):
            run_campaign(campaign(), platform, tmp_path / "out")
    assert platform.functions == {}
    assert platform.closed
    assert samples(run_campaign(campaign(), FakePlatform(), tmp_path / "out")) == samples(whole)


@pytest.mark.parametrize("what", ["write_measurements", "write_whole"])
def test_a_disk_that_is_full_for_the_table_is_told_and_the_rows_are_kept(
    what: str, whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    platform, out = FakePlatform(), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(f"lambda_probe.campaign.folder.{what}", full)
        with pytest.raises(PlatformError, match=r"out.*: cannot be written: No space left .* resumes"):
            run_campaign(campaign(), platform, out)
    assert platform.functions == {}
    assert platform.closed
    again = FakePlatform()
    assert samples(run_campaign(campaign(), again, out)) == samples(whole)
    assert (again.operations == 0) == (what == "write_measurements"), "what is in rows.jsonl is not measured again"


# -- money ------------------------------------------------------------------------------------------------


def test_it_stops_at_its_budget_and_goes_on_with_a_larger_one(whole: Outcome, tmp_path: Path) -> None:
    budget_usd = whole.spent_usd / 2
    stopped = run_campaign(campaign(), FakePlatform(), tmp_path / "out", budget_usd=budget_usd)
    assert not stopped.complete
    assert "budget" in stopped.stopped
    dearest_usd = max(row_usd(row, FakePlatform().prices) for row in whole.rows)
    assert budget_usd <= stopped.spent_usd <= budget_usd + 4 * dearest_usd  # a burst is one step of four
    platform = FakePlatform()
    assert run_campaign(campaign(), platform, tmp_path / "out", budget_usd=budget_usd).stopped
    assert platform.calls == 0
    assert samples(run_campaign(campaign(), FakePlatform(), tmp_path / "out")) == samples(whole)


def test_what_it_costs_is_between_what_is_expected_and_the_most_that_is_said(whole: Outcome) -> None:
    platform = FakePlatform()
    found = estimate(plan_of(campaign(), "simulated", platform.account(), "python3.12").steps, platform.prices)
    invocations = len(whole.rows) + sum(len(row["target_s"]) for row in whole.rows)
    assert found.invocations == pytest.approx(invocations, rel=0.15)  # looks at work, requests that were too large
    assert 0.3 < whole.spent_usd / found.usd < 3
    assert whole.spent_usd < found.most_usd


def test_a_call_without_a_report_counts_with_the_whole_wait(tmp_path: Path) -> None:
    def cut(number: int, attempt: Attempt) -> Attempt:
        return replace(attempt, report=None, log="REPORT RequestId: 1\tDura")

    outcome = run_campaign(only(WARM), FakePlatform(change=cut), tmp_path / "out")
    waited_gb_s = sum(row["client_s"] * 0.5 for row in outcome.rows)
    assert outcome.spent_usd == pytest.approx(waited_gb_s * 1e-5 + len(outcome.rows) * 1e-7)


# -- a platform that misbehaves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "log", ["", "REPORT RequestId: 1\tDuration: 3.2", "REPORT requestId=1 duration=3.2ms billed=4ms", "{}"]
)
def test_a_report_that_cannot_be_read_leaves_its_row_with_the_log(log: str, tmp_path: Path) -> None:
    def cut(number: int, attempt: Attempt) -> Attempt:
        return replace(attempt, report=None, log=log)

    outcome = run_campaign(only(WARM), FakePlatform(change=cut), tmp_path / "out")
    assert samples(outcome) == {(run, "warm", f"r{run}-0-warm-plain-512"): 5 for run in range(2)}
    assert {row["log"] for row in outcome.rows} == {log}
    assert all(math.isnan(row["duration_s"]) for row in outcome.rows)
    assert any("no REPORT line that can be read" in trouble for trouble in outcome.troubles)
    table, _ = read_measurements(tmp_path / "out" / "measurements.parquet")
    assert table["duration_s"].isna().all()


def test_another_memory_size_than_asked_for_is_no_sample(tmp_path: Path) -> None:
    def wrong(number: int, attempt: Attempt) -> Attempt:
        assert attempt.report is not None
        odd = number % 3 == 0
        return replace(attempt, report=replace(attempt.report, memory_mb=1024 if odd else 512))

    outcome = run_campaign(only(WARM, runs=1), FakePlatform(change=wrong), tmp_path / "out")
    good = [row for row in outcome.rows if row["status"] == "ok" and row["probe"] == "warm"]
    bad = [row for row in outcome.rows if row["status"] != "ok"]
    assert len(good) == 5
    assert {row["reported_memory_mb"] for row in good} == {512}
    assert {row["error"] for row in bad} == {"REPORT says 1024 MB, asked for 512"}
    assert any("REPORT says 1024 MB" in trouble for trouble in outcome.troubles)


@pytest.mark.parametrize("status", ["throttled", "failed"])
def test_a_storm_or_a_platform_that_is_gone_ends_soon_and_is_survived(
    status: str, whole: Outcome, tmp_path: Path
) -> None:
    def storm(number: int, attempt: Attempt) -> Attempt:
        if number <= 30:
            return attempt
        return replace(attempt, status=status, report=None, answer=None, log="", error="nobody is there")

    platform = FakePlatform(change=storm)
    with pytest.raises(PlatformError, match=r"3 calls in a row .*nobody is there.* the same command resumes"):
        run_campaign(campaign(), platform, tmp_path / "out")
    assert platform.operations < 30 + 10
    assert platform.functions == {}
    outcome = run_campaign(campaign(), FakePlatform(), tmp_path / "out")
    good = [row for row in outcome.rows if row["status"] == "ok" or row["probe"] == "payload-limit"]
    assert samples(replace(outcome, rows=good)) == samples(whole)
